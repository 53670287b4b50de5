#include "api/support.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "registry/registry.h"

/* --- pages --- */

void page_read(struct page *page, const struct http_request *request, struct http_issues *issues)
{
    page->number = http_query_int(request, "page", 1, PAGE_NUMBER_MAX, 1, issues);
    page->size =
        http_query_int(request, "page_size", 1, REGISTRY_PAGE_MAX, PAGE_SIZE_DEFAULT, issues);
    page->offset = (page->number - 1) * page->size;
}

/* `<path?…>; rel="…"` with the request's other parameters kept as they were. */
static void put_link(struct buf *out, const struct http_request *request, const struct page *page,
                     int64_t number, const char *rel)
{
    static const char hex[] = "0123456789ABCDEF";
    buf_printf(out, "%s<%s?", out->len > 0 ? ", " : "", request->path);
    for (size_t i = 0; i < request->n_query; i++) {
        const struct http_pair *pair = &request->query[i];
        if (strcmp(pair->name, "page") == 0 || strcmp(pair->name, "page_size") == 0) {
            continue;
        }
        for (int part = 0; part < 2; part++) {
            for (const char *at = part == 0 ? pair->name : pair->value; *at != '\0'; at++) {
                const unsigned char c = (unsigned char)*at;
                if (c < 128 && (isalnum(c) || strchr("-._~", c) != NULL)) {
                    buf_putc(out, (char)c);
                } else {
                    buf_putc(out, '%');
                    buf_putc(out, hex[c >> 4]);
                    buf_putc(out, hex[c & 15]);
                }
            }
            buf_putc(out, part == 0 ? '=' : '&');
        }
    }
    buf_printf(out, "page=%" PRId64 "&page_size=%" PRId64 ">; rel=\"%s\"", number, page->size, rel);
}

int page_headers(const struct page *page, int64_t total, const struct http_request *request,
                 struct http_response *response, struct err *err)
{
    enum { LINK_BYTES_MAX = 4 * HTTP_URL_BYTES_MAX * 3 };
    const int64_t last = total > 0 ? (total + page->size - 1) / page->size : 1;
    struct buf link;
    char count[24];
    snprintf(count, sizeof count, "%" PRId64, total);
    int rc = http_response_header(response, "X-Total-Count", count, err);
    if (rc != 0) {
        return rc;
    }
    buf_init(&link, LINK_BYTES_MAX);
    put_link(&link, request, page, 1, "first");
    if (page->number > 1) {
        put_link(&link, request, page, page->number <= last ? page->number - 1 : last, "prev");
    }
    if (page->number < last) {
        put_link(&link, request, page, page->number + 1, "next");
    }
    put_link(&link, request, page, last, "last");
    rc = buf_check(&link, "the links", err);
    if (rc == 0) {
        rc = http_response_header(response, "Link", link.data, err);
    }
    buf_release(&link);
    return rc;
}

/* --- bodies --- */

int body_read(struct http_request *request, const struct api_body *body, struct http_issues *issues,
              const json_t **out, struct err *err)
{
    const int rc = http_request_json(request, out, err);
    if (rc == 0) {
        http_validate(*out, body->fields, body->n, body->open, issues);
    }
    return rc;
}

const char *body_string(const json_t *body, const char *name)
{
    return json_string_value(json_object_get(body, name));
}

bool body_is_null(const json_t *body, const char *name)
{
    return json_is_null(json_object_get(body, name));
}

int body_json(const json_t *body, const char *name, struct arena *arena, const char **out,
              struct err *err)
{
    const json_t *value = json_object_get(body, name);
    *out = NULL;
    if (value == NULL || json_is_null(value)) {
        return 0;
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    *out = text != NULL ? arena_strdup(arena, text) : NULL;
    mem_free(text);
    return *out != NULL ? 0 : mem_err(err, 0);
}

const char *lower_id(struct arena *arena, const char *id)
{
    char *copy = id != NULL ? arena_strdup(arena, id) : NULL;
    for (char *at = copy; at != NULL && *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    return copy;
}

const char *path_id(const struct http_request *request, const char *name,
                    struct http_issues *issues)
{
    const char *id = http_path_uuid(request, name, issues);
    const char *lower = lower_id(request->arena, id);
    return lower != NULL ? lower : id;
}

const char *take_id(struct http_request *request, struct http_response *response, int *rc,
                    struct err *err)
{
    struct http_issues issues;
    http_issues_init(&issues);
    const char *id = path_id(request, "id", &issues);
    if (issues.count > 0) {
        *rc = http_issues_reply(&issues, request, response, err);
        return NULL;
    }
    http_issues_release(&issues);
    *rc = 0;
    return id;
}

int reply_created(struct http_response *response, const char *prefix, const char *id,
                  struct err *err)
{
    const char *where = arena_printf(response->arena, "%s%s", prefix, id);
    int rc = where != NULL ? http_response_header(response, "Location", where, err)
                           : mem_err(err, strlen(prefix));
    return rc == 0 ? http_reply_json(response, 201, err) : rc;
}
