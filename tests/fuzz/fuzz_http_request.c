/* What a client's bytes reach before any handler: Host, path and parameters, JSON against a table.
 * The input is three lines: Host, path, body.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "http/policy.h"
#include "http/router.h"
#include "http/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int nothing(void *ctx, struct http_request *request, struct http_response *response,
                   struct err *err)
{
    (void)ctx;
    (void)request;
    (void)response;
    (void)err;
    return 0;
}

static const struct http_route routes[] = {
    {.method = "GET", .pattern = "/models/{id}/versions/{version}", .handler = nothing},
    {.method = "GET", .pattern = "/base-models/{id...}/quantize", .handler = nothing},
    {.method = "GET", .pattern = "/base-models/{id...}", .handler = nothing},
    {.method = "GET", .pattern = "/{a...}/{b...}/{c...}/x", .handler = nothing},
    {.method = "GET", .pattern = "/artifacts/{path*}", .handler = nothing},
};

static const char *const choices[] = {"user", "assistant", NULL};
static const struct http_field message_fields[] = {
    {.name = "role", .kind = HTTP_ENUM, .flags = HTTP_REQUIRED, .choices = choices},
    {.name = "content", .kind = HTTP_STRING, .flags = HTTP_MAX, .max = 10},
};
static const struct http_field message = {
    .kind = HTTP_OBJECT, .fields = message_fields, .n_fields = 2};
static const struct http_field fields[] = {
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
    {.name = "n", .kind = HTTP_INT, .flags = HTTP_MIN, .min = 1},
    {.name = "messages", .kind = HTTP_ARRAY, .items = &message},
};

static char *take_line(const char **at, const char *end)
{
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    size_t n = (size_t)((stop ? stop : end) - *at);
    char *line = malloc(n + 1);

    if (!line)
        abort();
    memcpy(line, *at, n);
    line[n] = 0;
    *at = stop ? stop + 1 : end;
    return line;
}

static void try_path(const char *path, struct arena *arena)
{
    struct http_request request = {.method = "GET", .path = path, .arena = arena};
    struct http_router *router = NULL;
    struct http_match match;
    struct err err = {0};

    if (http_router_new(&router, &err) == 0 &&
        http_router_add(router, routes, sizeof(routes) / sizeof(routes[0]), NULL, &err) == 0 &&
        http_router_find(router, &request, &match, &err) == 0 && match.route)
        for (size_t i = 0; i < request.n_path_params; i++)
            if (!utf8_valid(request.path_params[i].value, strlen(request.path_params[i].value)))
                abort();
    http_router_free(router);
}

static void try_host(const char *host)
{
    struct http_pair header = {"Host", host};
    struct http_request request = {.method = "POST", .headers = &header, .n_headers = 1};
    struct policy *policy = malloc(sizeof(*policy));
    struct err err = {0};

    if (!policy)
        abort();
    if (policy_init(policy, "127.0.0.1", true, host, host, NULL, &err) == 0)
        (void)!policy_check_host(policy, &request, &err);
    free(policy);
}

static void try_body(const char *text)
{
    struct http_issues issues;
    struct err err = {0};
    json_t *body = json_parse(text, strlen(text), &err);

    if (!body)
        return;
    http_issues_init(&issues);
    http_validate(body, fields, sizeof(fields) / sizeof(fields[0]), false, &issues);
    if (issues.depth != 0)
        abort();
    http_issues_release(&issues);
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;
    char *host = take_line(&at, end), *path = take_line(&at, end), *body = take_line(&at, end);
    struct arena arena;

    arena_init(&arena, 1 << 20);
    try_host(host);
    try_path(path, &arena);
    try_body(body);
    arena_release(&arena);
    free(host);
    free(path);
    free(body);
    return 0;
}
