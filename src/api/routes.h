/* The tables of every route: the one place where a path is written. */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "http/router.h"

/* Static. */
const struct http_route *api_routes(size_t *n);
const struct http_route *api_client_routes(size_t *n);

#endif
