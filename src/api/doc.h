/* What a route says of itself, beside its method, path and handler: the OpenAPI document and /docs
 * are written from the route table alone. */
#ifndef API_DOC_H
#define API_DOC_H

#include "api/support.h"

/* A query parameter. */
struct api_query {
    const char *name, *help;
    enum http_kind kind; /* STRING, UUID, ENUM, INT, BOOL */
    const char *const *choices;
    double min, max; /* of an INT; both 0: unbounded */
    bool required;
};

struct api_doc {
    const char *tag, *summary;
    const struct api_body *body; /* NULL: none */
    const char *body_type;       /* of a body that is not JSON */
    const struct api_query *query;
    size_t n_query;
    int status;
    const char *answer;      /* name of a schema (openapi_schemas.h), or NULL: any object */
    bool list;               /* a bare array of those */
    const char *answer_type; /* not JSON; NULL with status 204 and for JSON */
    const int *errors;       /* statuses beside 401, 422 and 500, 0 at the end */
};

/* Rows of a route table. */
#define DOC(...)                                                                                   \
    &(const struct api_doc)                                                                        \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define ERRORS(...)                                                                                \
    .errors = (const int[])                                                                        \
    {                                                                                              \
        __VA_ARGS__, 0                                                                             \
    }

#endif
