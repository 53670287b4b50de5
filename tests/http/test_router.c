/* Patterns, paths and who wins. */
#include "http/router.h"
#include "test.h"

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
    {.method = "GET", .pattern = "/", .handler = nothing},
    {.method = "GET", .pattern = "/models", .handler = nothing},
    {.method = "POST", .pattern = "/models", .handler = nothing},
    {.method = "GET", .pattern = "/models/{id}", .handler = nothing},
    {.method = "DELETE", .pattern = "/models/{id}", .handler = nothing},
    {.method = "GET", .pattern = "/models/{id}/versions/{version}", .handler = nothing},
    {.method = "GET", .pattern = "/base-models/{id...}", .handler = nothing},
    {.method = "POST", .pattern = "/base-models/{id...}/quantize", .handler = nothing},
    {.method = "GET", .pattern = "/base-models/{id...}/quantize", .handler = nothing},
    {.method = "GET", .pattern = "/base-models/search", .handler = nothing},
    {.method = "GET", .pattern = "/artifacts/{path*}", .handler = nothing},
};

enum { ROUTES = sizeof(routes) / sizeof(routes[0]) };

static struct http_router *make_router(void)
{
    struct http_router *router;
    struct err err = {0};

    assert_ok(http_router_new(&router, &err), &err);
    assert_ok(http_router_add(router, routes, ROUTES, NULL, &err), &err);
    assert_int_equal(http_router_count(router), ROUTES);
    return router;
}

static void paths_find_their_routes(void **state)
{
    static const struct {
        const char *method, *path, *pattern; /* pattern NULL: none */
        const char *name, *value;            /* of the last parameter */
        const char *allow;
    } rows[] = {
        {"GET", "/", "/", NULL, NULL, ""},
        {"GET", "/models", "/models", NULL, NULL, ""},
        {"GET", "/models/", "/models", NULL, NULL, ""},
        {"HEAD", "/models", "/models", NULL, NULL, ""},
        {"GET", "/models/a%20b%c3%a9", "/models/{id}", "id", "a b\xc3\xa9", ""},
        {"GET", "/models/x/versions/1.0", "/models/{id}/versions/{version}", "version", "1.0", ""},
        {"GET", "/base-models/org/name", "/base-models/{id...}", "id", "org/name", ""},
        {"GET", "/base-models/org%2Fname", "/base-models/{id...}", "id", "org/name", ""},
        {"GET", "/base-models/name", "/base-models/{id...}", "id", "name", ""},
        {"GET", "/base-models/search", "/base-models/search", NULL, NULL, ""},
        {"POST", "/base-models/org/name/quantize", "/base-models/{id...}/quantize", "id",
         "org/name", ""},
        {"GET", "/base-models/org/quantize", "/base-models/{id...}/quantize", "id", "org", ""},
        {"GET", "/artifacts/a/b/c.txt", "/artifacts/{path*}", "path", "a/b/c.txt", ""},
        {"GET", "/artifacts/a", "/artifacts/{path*}", "path", "a", ""},
        {"PUT", "/models", NULL, NULL, NULL, "GET, HEAD, POST, OPTIONS"},
        {"OPTIONS", "/models/x", NULL, NULL, NULL, "GET, HEAD, DELETE, OPTIONS"},
        {"DELETE", "/base-models/a/b", NULL, NULL, NULL, "GET, HEAD, OPTIONS"},
        {"GET", "/nothing", NULL, NULL, NULL, ""},
        {"GET", "/models//x", NULL, NULL, NULL, ""},
        {"GET", "//models", NULL, NULL, NULL, ""},
        {"GET", "/models/..", NULL, NULL, NULL, ""},
        {"GET", "/models/%2e%2e", NULL, NULL, NULL, ""},
        {"GET", "/models/a%2Fb", NULL, NULL, NULL, ""},
        {"GET", "/artifacts/a/../b", NULL, NULL, NULL, ""},
        {"GET", "/artifacts/a%2F..%2Fb", NULL, NULL, NULL, ""},
        {"GET", "/artifacts", NULL, NULL, NULL, ""},
        {"GET", "/base-models/a/b/c", NULL, NULL, NULL, ""},
        {"GET", "/base-models/a%2Fb/c", NULL, NULL, NULL, ""},
        {"GET", "models", NULL, NULL, NULL, ""},
        {"GET", "*", NULL, NULL, NULL, ""},
        {"GET", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25", NULL, NULL,
         NULL, ""},
    };
    struct http_router *router = make_router();

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_request request = {.method = rows[i].method, .path = rows[i].path};
        struct http_match match;
        struct arena arena;
        struct err err = {0};

        arena_init(&arena, 0);
        request.arena = &arena;
        print_message("%s %s\n", rows[i].method, rows[i].path);
        assert_ok(http_router_find(router, &request, &match, &err), &err);
        if (!rows[i].pattern) {
            assert_null(match.route);
            assert_string_equal(match.allow, rows[i].allow);
        } else {
            assert_non_null(match.route);
            assert_string_equal(match.route->pattern, rows[i].pattern);
            assert_ptr_equal(http_router_route(router, match.index), match.route);
        }
        if (rows[i].name)
            assert_string_equal(http_path_param(&request, rows[i].name), rows[i].value);
        arena_release(&arena);
    }
    http_router_free(router);
}

static void bad_paths_are_errors(void **state)
{
    static const struct {
        const char *path;
        enum err_code code;
    } rows[] = {
        {"/models/%", ERR_INVALID},          {"/models/%4", ERR_INVALID},
        {"/models/%zz", ERR_INVALID},        {"/models/a%00b", ERR_INVALID},
        {"/models/%ff", ERR_UNPROCESSABLE},  {"/models/%c3", ERR_UNPROCESSABLE},
        {"/models/\xff", ERR_UNPROCESSABLE}, {"/models/%ed%a0%80", ERR_UNPROCESSABLE},
    };
    struct http_router *router = make_router();

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_request request = {.method = "GET", .path = rows[i].path};
        struct http_match match;
        struct arena arena;
        struct err err = {0};

        arena_init(&arena, 0);
        request.arena = &arena;
        assert_err(http_router_find(router, &request, &match, &err), &err, rows[i].code);
        arena_release(&arena);
    }
    http_router_free(router);
}

static void bad_patterns_are_refused(void **state)
{
    static const struct {
        const char *pattern;
        enum err_code code;
    } rows[] = {
        {"models", ERR_INVALID},
        {"/a//b", ERR_INVALID},
        {"/a/{}", ERR_INVALID},
        {"/a/{b", ERR_INVALID},
        {"/a/b}", ERR_INVALID},
        {"/{a*}/b", ERR_INVALID},
        {"/models", ERR_CONFLICT},
        {"/models/{other}", ERR_CONFLICT},
        {"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", ERR_INVALID},
    };
    struct http_router *router = make_router();
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_route route = {.method = "GET", .pattern = rows[i].pattern, .handler = nothing};
        assert_err(http_router_add(router, &route, 1, NULL, &err), &err, rows[i].code);
    }
    assert_int_equal(http_router_count(router), ROUTES);
    http_router_free(router);
}

static void survives_lack_of_memory(void **state)
{
    bool fired = true;

    (void)state;
    for (uint64_t n = 1; fired; n++) {
        struct http_request request = {.method = "GET", .path = "/base-models/a%20b/c"};
        struct http_router *router = NULL;
        struct http_match match;
        struct arena arena;
        struct err err = {0};
        int rc;

        arena_init(&arena, 0);
        request.arena = &arena;
        fault_arm(FAULT_MALLOC, n, false);
        rc = http_router_new(&router, &err);
        if (rc == 0)
            rc = http_router_add(router, routes, ROUTES, NULL, &err);
        if (rc == 0)
            rc = http_router_find(router, &request, &match, &err);
        fired = fault_fired();
        fault_disarm();
        assert_int_equal(rc, fired ? -ERR_NOMEM : 0);
        arena_release(&arena);
        http_router_free(router);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_find_their_routes),
        cmocka_unit_test(bad_paths_are_errors),
        cmocka_unit_test(bad_patterns_are_refused),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
