/* Who may talk to this server: Host, Origin and key. Private to http/.
 *
 * A page of another site can make a browser on this machine talk to a loopback server. Its Host is
 * then the page's own name (DNS rebinding) or its Origin is foreign (cross-site post): both are
 * refused. Host may be a loopback name or address, the name that was bound, or a listed one; when
 * the bound address is not loopback, any literal address too, since rebinding needs a name.
 * Read-only after policy_init; any thread.
 */
#ifndef HTTP_POLICY_H
#define HTTP_POLICY_H

#include <stdbool.h>

#include "base/err.h"
#include "http/request.h"

enum { POLICY_NAMES_MAX = 32, POLICY_NAME_BYTES_MAX = 256 };

struct policy {
    char bound[POLICY_NAME_BYTES_MAX];
    bool any_host;
    bool any_address;
    char hosts[POLICY_NAMES_MAX][POLICY_NAME_BYTES_MAX];
    size_t n_hosts;
    char origins[POLICY_NAMES_MAX][POLICY_NAME_BYTES_MAX];
    size_t n_origins;
    char key[512]; /* "" = none */
};

int policy_init(struct policy *policy, const char *host, bool loopback, const char *allowed_hosts,
                const char *allowed_origins, const char *key, struct err *err) MUST_CHECK;
/* ERR_INVALID for none, two or a malformed one, ERR_FORBIDDEN for a foreign one. */
int policy_check_host(const struct policy *policy, const struct http_request *request,
                      struct err *err) MUST_CHECK;
/* ERR_FORBIDDEN for a foreign Origin. */
int policy_check_origin(const struct policy *policy, const struct http_request *request,
                        struct err *err) MUST_CHECK;
/* The request's Origin when it is a listed one, which gets CORS headers; else NULL. */
const char *policy_cors_origin(const struct policy *policy, const struct http_request *request);
/* The key that the request brings (Authorization: Bearer, X-Api-Key), or NULL. */
const char *policy_key(const struct http_request *request);
/* ERR_UNAUTHORIZED unless the request brings the key, where there is one. */
int policy_check_key(const struct policy *policy, const struct http_request *request,
                     struct err *err) MUST_CHECK;

#endif
