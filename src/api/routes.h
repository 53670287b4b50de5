/* The table of every route. */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "http/router.h"

/* Static. */
const struct http_route *api_routes(size_t *n);

#endif
