/* The tables of every route: the one place where a path is written. */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "http/router.h"
#include "http/validate.h"

/* Static. */
const struct http_route *api_routes(size_t *n);
const struct http_route *api_client_routes(size_t *n);
/* How the owner of a path says that there is no such route. */
http_error_style api_style_of(const char *path);

/* Query parameters that a row of the hub's own API does not name are faults; other people's clients
 * and probes of health send what they like. */
void api_admit(const struct http_route *route, const struct http_request *request,
               struct http_issues *issues);

#endif
