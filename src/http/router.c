/* How it works.
 *
 * Patterns are cut into segments when they are added, and kept sorted by how specific they are
 * (router.h), so the first one that fits the path and the method is the one. A path is cut and
 * decoded once per request. The first segment's text weeds out most routes with one comparison, so
 * a few hundred routes cost about a microsecond.
 */
#include "http/router.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "http/url.h"

enum segment_kind { SEGMENT_TEXT, SEGMENT_ONE, SEGMENT_PAIR, SEGMENT_REST };

struct segment {
    enum segment_kind kind;
    char *text; /* the text, or the parameter's name */
};

struct entry {
    const struct http_route *route;
    void *ctx;
    struct segment segments[HTTP_SEGMENTS_MAX];
    size_t n;
};

struct http_router {
    struct entry *entries[HTTP_ROUTES_MAX]; /* most specific first */
    size_t n;
};

struct path {
    char *segments[HTTP_SEGMENTS_MAX]; /* decoded */
    size_t n;
};

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};

enum { METHODS = sizeof(methods) / sizeof(methods[0]) };

/* --- building --- */

static void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    for (size_t i = 0; i < entry->n; i++)
        mem_free(entry->segments[i].text);
    mem_free(entry);
}

/* "{name}", "{name...}", "{name*}" or text; the braces and marks are cut off. */
static int parse_segment(struct segment *segment, const char *text, size_t n, struct err *err)
{
    segment->kind = SEGMENT_TEXT;
    if (n >= 2 && text[0] == '{' && text[n - 1] == '}') {
        segment->kind = SEGMENT_ONE;
        text++;
        n -= 2;
        if (n > 3 && memcmp(text + n - 3, "...", 3) == 0) {
            segment->kind = SEGMENT_PAIR;
            n -= 3;
        } else if (n > 1 && text[n - 1] == '*') {
            segment->kind = SEGMENT_REST;
            n--;
        }
    }
    if (n == 0 || memchr(text, '{', n) || memchr(text, '}', n))
        return err_set(err, ERR_INVALID, "malformed segment '%.*s'", (int)n, text);
    segment->text = mem_strndup(text, n);
    return segment->text ? 0 : mem_err(err, n);
}

static int parse_pattern(struct entry *entry, const char *pattern, struct err *err)
{
    size_t params = 0;
    int rc;

    if (pattern[0] != '/')
        return err_set(err, ERR_INVALID, "the pattern '%s' does not begin with a slash", pattern);
    for (const char *at = pattern + 1; *at;) {
        size_t n = strcspn(at, "/");
        struct segment *segment = &entry->segments[entry->n];
        if (entry->n == HTTP_SEGMENTS_MAX)
            return err_set(err, ERR_INVALID, "the pattern '%s' is too long", pattern);
        if (entry->n > 0 && segment[-1].kind == SEGMENT_REST)
            return err_set(err, ERR_INVALID, "{name*} must come last in '%s'", pattern);
        rc = parse_segment(segment, at, n, err);
        if (rc != 0)
            return rc;
        entry->n++;
        params += segment->kind != SEGMENT_TEXT;
        at += n + (at[n] == '/');
    }
    if (params > HTTP_PATH_PARAMS_MAX)
        return err_set(err, ERR_INVALID, "too many parameters in '%s'", pattern);
    return 0;
}

/* < 0 when a is to be tried before b; 0 when they fit the same paths for the same method. */
static int compare(const struct entry *a, const struct entry *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        const struct segment *x = &a->segments[i], *y = &b->segments[i];
        int order = x->kind != y->kind        ? (int)x->kind - (int)y->kind
                    : x->kind == SEGMENT_TEXT ? strcmp(x->text, y->text)
                                              : 0;
        if (order != 0)
            return order;
    }
    if (a->n != b->n)
        return a->n > b->n ? -1 : 1;
    return strcmp(a->route->method, b->route->method);
}

static int add_one(struct http_router *router, const struct http_route *route, void *ctx,
                   struct err *err)
{
    struct entry *entry = NULL;
    size_t at = 0;
    int rc;

    if (router->n == HTTP_ROUTES_MAX)
        return err_set(err, ERR_INVALID, "more than %d routes", HTTP_ROUTES_MAX);
    entry = mem_calloc(1, sizeof(*entry));
    if (!entry)
        return mem_err(err, sizeof(*entry));
    entry->route = route;
    entry->ctx = ctx;
    rc = parse_pattern(entry, route->pattern, err);
    while (rc == 0 && at < router->n && compare(router->entries[at], entry) < 0)
        at++;
    if (rc == 0 && at < router->n && compare(router->entries[at], entry) == 0)
        rc = err_set(err, ERR_CONFLICT, "two routes for %s %s", route->method, route->pattern);
    if (rc != 0) {
        entry_free(entry);
        return rc;
    }
    memmove(router->entries + at + 1, router->entries + at,
            (router->n - at) * sizeof(router->entries[0]));
    router->entries[at] = entry;
    router->n++;
    return 0;
}

int http_router_new(struct http_router **router, struct err *err)
{
    *router = mem_calloc(1, sizeof(**router));
    return *router ? 0 : mem_err(err, sizeof(**router));
}

void http_router_free(struct http_router *router)
{
    if (!router)
        return;
    for (size_t i = 0; i < router->n; i++)
        entry_free(router->entries[i]);
    mem_free(router);
}

int http_router_add(struct http_router *router, const struct http_route *routes, size_t n,
                    void *ctx, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++)
        rc = add_one(router, &routes[i], ctx, err);
    return rc;
}

size_t http_router_count(const struct http_router *router)
{
    return router->n;
}

const struct http_route *http_router_route(const struct http_router *router, size_t i)
{
    assert(i < router->n);
    return router->entries[i]->route;
}

/* --- matching --- */

/* Cuts and decodes; a path that no pattern can fit gives an n of SIZE_MAX. */
static int split_path(struct path *path, const char *text, struct arena *arena, struct err *err)
{
    path->n = 0;
    for (const char *at = text + (*text == '/'); *at;) {
        size_t n = strcspn(at, "/");
        char **segment = &path->segments[path->n];
        int rc;
        if (n == 0 || path->n == HTTP_SEGMENTS_MAX || *text != '/') {
            path->n = SIZE_MAX;
            return 0;
        }
        rc = http_url_decode(at, n, arena, segment, err);
        if (rc != 0)
            return rc;
        if (strcmp(*segment, ".") == 0 || strcmp(*segment, "..") == 0) {
            path->n = SIZE_MAX;
            return 0;
        }
        path->n++;
        at += n + (at[n] == '/');
    }
    return 0;
}

static size_t count_slashes(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '/';
    return n;
}

/* Can the segments [from, from + n) of the path be one value of a parameter of this kind? An
 * escaped slash is a slash: only {name...} may hold one. */
static bool fits_value(enum segment_kind kind, const struct path *path, size_t from, size_t n)
{
    size_t slashes = 0;

    for (size_t i = from; i < from + n; i++)
        slashes += count_slashes(path->segments[i]);
    return kind == SEGMENT_PAIR ? slashes + n <= 2 : slashes == 0;
}

/* Tries segment i of the pattern at segment j of the path; takes[i] becomes how many it took. */
static bool fits(const struct entry *entry, size_t i, const struct path *path, size_t j,
                 size_t takes[HTTP_SEGMENTS_MAX])
{
    const struct segment *segment = &entry->segments[i];
    size_t most;

    if (i == entry->n)
        return j == path->n;
    if (j == path->n)
        return false;
    if (segment->kind == SEGMENT_TEXT) {
        takes[i] = 1;
        return strcmp(segment->text, path->segments[j]) == 0 &&
               fits(entry, i + 1, path, j + 1, takes);
    }
    most = segment->kind == SEGMENT_ONE ? 1 : segment->kind == SEGMENT_PAIR ? 2 : path->n - j;
    for (size_t n = segment->kind == SEGMENT_REST ? most : 1; n <= most && j + n <= path->n; n++) {
        takes[i] = n;
        if (fits_value(segment->kind, path, j, n) && fits(entry, i + 1, path, j + n, takes))
            return true;
    }
    return false;
}

static char *join(struct arena *arena, const struct path *path, size_t from, size_t n)
{
    size_t bytes = 0;
    char *text, *at;

    for (size_t i = from; i < from + n; i++)
        bytes += strlen(path->segments[i]) + 1;
    text = at = arena_alloc(arena, bytes, 1);
    for (size_t i = from; text && i < from + n; i++) {
        size_t length = strlen(path->segments[i]);
        memcpy(at, path->segments[i], length);
        at += length;
        *at++ = i + 1 < from + n ? '/' : 0;
    }
    return text;
}

static int set_params(struct http_request *request, const struct entry *entry,
                      const struct path *path, const size_t takes[HTTP_SEGMENTS_MAX],
                      struct err *err)
{
    size_t at = 0;

    request->n_path_params = 0;
    for (size_t i = 0; i < entry->n; at += takes[i++]) {
        struct http_pair *pair = &request->path_params[request->n_path_params];
        if (entry->segments[i].kind == SEGMENT_TEXT)
            continue;
        pair->name = entry->segments[i].text;
        pair->value = takes[i] == 1 ? path->segments[at] : join(request->arena, path, at, takes[i]);
        if (!pair->value)
            return mem_err(err, HTTP_URL_BYTES_MAX);
        request->n_path_params++;
    }
    return 0;
}

static bool answers(const struct http_route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(route->method, "GET") == 0);
}

static void list_methods(const bool seen[METHODS], char allow[HTTP_ALLOW_BYTES_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < METHODS; i++)
        if (seen[i]) {
            size_t length = strlen(methods[i]);
            memcpy(allow + n, methods[i], length);
            memcpy(allow + n + length, ", ", 2);
            n += length + 2;
        }
    if (n > 0)
        memcpy(allow + n, "OPTIONS", sizeof("OPTIONS"));
}

int http_router_find(const struct http_router *router, struct http_request *request,
                     struct http_match *match, struct err *err)
{
    struct path path;
    size_t takes[HTTP_SEGMENTS_MAX];
    bool seen[METHODS] = {false};
    int rc;

    *match = (struct http_match){.index = SIZE_MAX};
    rc = split_path(&path, request->path, request->arena, err);
    if (rc != 0 || path.n == SIZE_MAX)
        return rc;
    for (size_t i = 0; i < router->n; i++) {
        const struct entry *entry = router->entries[i];
        if (!fits(entry, 0, &path, 0, takes))
            continue;
        if (answers(entry->route, request->method)) {
            match->route = entry->route;
            match->ctx = entry->ctx;
            match->index = i;
            return set_params(request, entry, &path, takes, err);
        }
        for (size_t m = 0; m < METHODS; m++)
            seen[m] = seen[m] || answers(entry->route, methods[m]);
    }
    list_methods(seen, match->allow);
    return 0;
}
