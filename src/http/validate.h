/* Checking a JSON body against a table of fields, and query parameters, with every fault collected
 * into one answer: 422 {"detail":[{"loc":["body","name"],"msg":"…","type":"…"}]}. Messages and
 * types are those that pydantic's users know.
 */
#ifndef HTTP_VALIDATE_H
#define HTTP_VALIDATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/request.h"
#include "http/router.h"

enum { HTTP_ISSUES_MAX = 64, HTTP_LOC_MAX = 12, HTTP_ISSUES_BYTES_MAX = 64 << 10 };

enum http_kind {
    HTTP_STRING, /* min, max: characters */
    HTTP_UUID,
    HTTP_ENUM, /* one of `choices` */
    HTTP_INT,  /* a real without a fraction is one too */
    HTTP_REAL,
    HTTP_BOOL,
    HTTP_OBJECT, /* checked against `fields` where given; min, max: members */
    HTTP_ARRAY,  /* each item against `items` where given; min, max: items */
    HTTP_ANY
};

enum http_field_flags {
    HTTP_REQUIRED = 1 << 0,
    HTTP_NULLABLE = 1 << 1, /* null is as good as absent */
    HTTP_MIN = 1 << 2,      /* `min` holds */
    HTTP_MAX = 1 << 3,      /* `max` holds */
    HTTP_ABOVE = 1 << 4,    /* with HTTP_MIN: the value must be greater than `min` */
    HTTP_OPEN = 1 << 5      /* an object with `fields` may have others too */
};

struct http_field {
    const char *name;
    enum http_kind kind;
    unsigned flags;
    double min, max;
    const char *const *choices;      /* NULL-terminated */
    const struct http_field *fields; /* of an object */
    size_t n_fields;
    const struct http_field *items; /* of an array: one row, its name unused */
};

/* Faults found so far. Owned by one thread. */
struct http_issues {
    struct buf json; /* the entries, comma-separated */
    size_t count;    /* entries kept; at most HTTP_ISSUES_MAX */
    char first[512]; /* "name: Field required", for styles that take one sentence */
    struct {
        const char *name; /* NULL: an index */
        size_t index;
    } loc[HTTP_LOC_MAX];
    size_t depth;
};

void http_issues_init(struct http_issues *issues);
void http_issues_release(struct http_issues *issues);
/* Adds a fault at loc + name (NULL: at loc). */
void http_issue(struct http_issues *issues, const char *where, const char *name, const char *type,
                const char *fmt, ...) PRINTF_LIKE(5, 6);

/* Checks `body` against the table; `open` lets unknown fields pass. */
void http_validate(const json_t *body, const struct http_field *fields, size_t n, bool open,
                   struct http_issues *issues);

/* Query parameters: absent gives `fallback`; a bad one is a fault and gives `fallback`. */
int64_t http_query_int(const struct http_request *request, const char *name, int64_t min,
                       int64_t max, int64_t fallback, struct http_issues *issues);
bool http_query_bool(const struct http_request *request, const char *name, bool fallback,
                     struct http_issues *issues);
const char *http_query_enum(const struct http_request *request, const char *name,
                            const char *const *choices, const char *fallback,
                            struct http_issues *issues);
/* The path or query parameter, when it is a UUID; else NULL, and a fault if it is there. */
const char *http_path_uuid(const struct http_request *request, const char *name,
                           struct http_issues *issues);
const char *http_query_uuid(const struct http_request *request, const char *name,
                            struct http_issues *issues);

/* Answers with the faults, of which there is at least one: on hub routes the whole list as 422, and
 * 0; elsewhere ERR_UNPROCESSABLE with the first. Either way the handler returns the result.
 * Releases `issues`. */
int http_issues_reply(struct http_issues *issues, const struct http_request *request,
                      struct http_response *response, struct err *err) MUST_CHECK;

#endif
