/* What handlers share: pages, bodies that are checked, and texts for the registry.
 *
 * Everything that is handed out lives in the request's arena.
 */
#ifndef API_SUPPORT_H
#define API_SUPPORT_H

#include "api/hub.h"
#include "http/request.h"
#include "http/validate.h"

enum { PAGE_SIZE_DEFAULT = 20, PAGE_NUMBER_MAX = 1000000000 };

/* --- pages --- */
struct page {
    int64_t number, size, offset;
};
void page_read(struct page *page, const struct http_request *request, struct http_issues *issues);
/* X-Total-Count and Link (RFC 8288: first, prev, next, last), for answers that are bare arrays. */
int page_headers(const struct page *page, int64_t total, const struct http_request *request,
                 struct http_response *response, struct err *err) MUST_CHECK;

/* --- bodies --- */
/* A table of fields, as validation and the OpenAPI document read it. */
struct api_body {
    const struct http_field *fields;
    size_t n;
    bool open; /* other members pass */
};
/* The request's JSON, its faults added to issues. */
int body_read(struct http_request *request, const struct api_body *body, struct http_issues *issues,
              const json_t **out, struct err *err) MUST_CHECK;
/* Members of a checked body: NULL when absent or null. */
const char *body_string(const json_t *body, const char *name);
bool body_is_null(const json_t *body, const char *name); /* there, and null */
/* The member as compact JSON text; *out NULL when absent or null. */
int body_json(const json_t *body, const char *name, struct arena *arena, const char **out,
              struct err *err) MUST_CHECK;

/* The path parameter, a UUID in lower case; NULL with an issue. */
const char *path_id(const struct http_request *request, const char *name,
                    struct http_issues *issues);
/* The {id} of the path where nothing else is to be checked; NULL when the answer was given already,
 * and the handler returns *rc. */
const char *take_id(struct http_request *request, struct http_response *response, int *rc,
                    struct err *err);
/* A UUID in lower case; NULL stays NULL. NULL for lack of memory, too. */
const char *lower_id(struct arena *arena, const char *id);

/* Answers with a Location header beside. */
int reply_created(struct http_response *response, const char *prefix, const char *id,
                  struct err *err) MUST_CHECK;

#endif
