/* How an error looks on the wire, per family of routes.
 *
 * A style writes status and body of `response`, whose body is empty; the builder's sticky error
 * stands for failures. The request's status codes are the hub's (err_http_status) except where a
 * family's own clients expect another, as said below.
 */
#ifndef HTTP_ERROR_STYLE_H
#define HTTP_ERROR_STYLE_H

#include "base/err.h"
#include "http/request.h"

typedef void (*http_error_style)(struct http_response *response, const struct err *err);

/* {"detail": "…"}; 422 is {"detail":[{"loc":["body"],"msg":"…","type":"value_error"}]} */
void http_error_hub(struct http_response *response, const struct err *err);
/* {"error":{"code":400,"message":"…","type":"invalid_request_error"}}; 422 becomes 400 */
void http_error_openai(struct http_response *response, const struct err *err);
/* {"error":"…"}; 422 becomes 400 */
void http_error_ollama(struct http_response *response, const struct err *err);
/* {"error_code":"RESOURCE_DOES_NOT_EXIST","message":"…"}; 422, 415 and conflicts become 400 */
void http_error_mlflow(struct http_response *response, const struct err *err);

/* Empties `response` and writes err in `style` (NULL: the hub's), with Retry-After on 429 and 503
 * and WWW-Authenticate on 401. */
void http_reply_error(struct http_response *response, http_error_style style,
                      const struct err *err);

#endif
