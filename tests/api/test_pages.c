/* Health, metrics, config, docs, and the life of a hub. */
#include "api/routes.h"
#include "api/server.h"

static void health_names_what_is_down(void **state)
{
    struct hub_fixture *hub = *state;
    static const char *const paths[][2] = {{"/health", "healthy"},
                                           {"/health/live", "alive"},
                                           {"/health/ready", "ready"},
                                           {"/health/detailed", "healthy"}};

    for (size_t i = 0; i < 4; i++) {
        json_t *answer = call(hub, "GET", paths[i][0], NULL, 200);
        assert_string_equal(member(answer, "status"), paths[i][1]);
        json_decref(answer);
    }
    char gone[FS_PATH_BYTES_MAX + 8];
    snprintf(gone, sizeof gone, "%s.away", hub->dir);
    assert_int_equal(rename(hub->dir, gone), 0);
    call_refused(hub, "GET", "/health", NULL, 503,
                 "storage: the storage folder cannot be used: No such file or directory");
    call_quiet(hub, "GET", "/health/ready", NULL, 503);
    call_quiet(hub, "GET", "/health/live", NULL, 200);
    json_t *answer = call(hub, "GET", "/health/detailed", NULL, 503);
    assert_string_equal(member(answer, "status"), "unhealthy");
    json_decref(answer);
    assert_int_equal(rename(gone, hub->dir), 0);
    call_quiet(hub, "GET", "/health", NULL, 200);
}

static void every_route_is_documented(void **state)
{
    struct hub_fixture *hub = *state;
    json_t *doc = call(hub, "GET", "/openapi.json", NULL, 200);
    const json_t *paths = json_object_get(doc, "paths");
    const json_t *schemas = json_object_get(json_object_get(doc, "components"), "schemas");
    size_t n;
    size_t n_client;
    const struct http_route *routes = api_routes(&n);
    const struct http_route *client_routes = api_client_routes(&n_client);
    size_t operations = 0;
    const char *name;
    json_t *path;

    assert_string_equal(member(doc, "openapi"), "3.1.0");
    assert_non_null(json_object_get(paths, "/base-models/{id}"));
    assert_non_null(json_object_get(paths, "/openapi.json"));
    assert_non_null(json_object_get(schemas, "Model"));
    json_object_foreach((json_t *)(uintptr_t)paths, name, path)
    {
        operations += json_object_size(path);
    }
    assert_int_equal(operations, n + n_client);
    char *text = json_dumps(doc, JSON_COMPACT);
    for (const char *at = strstr(text, "#/components/schemas/"); at != NULL;
         at = strstr(at + 1, "#/components/schemas/")) { /* no reference leads nowhere */
        char ref[64];
        at += strlen("#/components/schemas/");
        snprintf(ref, sizeof ref, "%.*s", (int)strcspn(at, "\""), at);
        assert_non_null(json_object_get(schemas, ref));
    }
    mem_free(text);
    json_decref(doc);

    struct answer page;
    assert_int_equal(call_raw(hub, "GET", "/docs", "", NULL, &page), 200);
    for (size_t i = 0; i < n; i++)
        assert_non_null(strstr(page.body, routes[i].pattern));
    for (size_t i = 0; i < n_client; i++)
        assert_non_null(strstr(page.body, client_routes[i].pattern));
    assert_null(strstr(page.body, "<script"));
    assert_null(strstr(page.body, "http://"));
    answer_free(&page);
}

static void the_root_knows_a_browser(void **state)
{
    struct hub_fixture *hub = *state;
    struct answer answer;
    char value[256];

    assert_int_equal(call_raw(hub, "GET", "/", "Accept: */*\r\n", NULL, &answer), 200);
    assert_string_equal(answer.body, "Ollama is running");
    answer_free(&answer);
    assert_int_equal(call_raw(hub, "GET", "/", "Accept: text/html,*/*\r\n", NULL, &answer), 302);
    assert_true(head_value(answer.head, "Location", value));
    assert_string_equal(value, "/docs");
    answer_free(&answer);
}

static void metrics_and_config_are_told(void **state)
{
    struct hub_fixture *hub = *state;
    struct answer answer;

    call_quiet(hub, "GET", "/models", NULL, 200);
    assert_int_equal(call_raw(hub, "GET", "/metrics", "", NULL, &answer), 200);
    assert_non_null(strstr(answer.body, "http_requests_total{method=\"GET\",route=\"/models\""));
    assert_non_null(strstr(answer.body, "\nmodel_cache_size 0\n"));
    assert_non_null(strstr(answer.body, "\nmemory_budget_bytes 536870912\n"));
    assert_non_null(strstr(answer.body, "\ntraining_jobs_in_progress 0\n"));
    assert_non_null(strstr(answer.body, "database_query_duration_seconds_count"));
    answer_free(&answer);
    json_t *config = call(hub, "GET", "/config", NULL, 200);
    size_t i;
    json_t *row;
    bool found = false;
    json_array_foreach(config, i, row)
    {
        assert_members(row, "name value source default allowed help");
        found = found || (strcmp(member(row, "name"), "LOG_LEVEL") == 0 &&
                          strcmp(member(row, "source"), "flag") == 0);
    }
    assert_true(found);
    json_decref(config);
}

static void keys_guard_all_but_health(void **state)
{
    struct hub_fixture *hub = hub_make();
    (void)state;

    snprintf(hub->settings.api_key, sizeof hub->settings.api_key, "open-sesame");
    hub_start(hub, false);
    call_quiet(hub, "GET", "/health", NULL, 200);
    call_quiet(hub, "GET", "/models", NULL, 401);
    call_quiet(hub, "POST", "/models", "{", 401);
    assert_int_equal(
        call_raw(hub, "GET", "/models", "Authorization: Bearer open-sesame\r\n", NULL, NULL), 200);
    struct answer answer;
    assert_int_equal(call_raw(hub, "GET", "/config", "X-Api-Key: open-sesame\r\n", NULL, &answer),
                     200);
    assert_null(strstr(answer.body, "sesame"));
    answer_free(&answer);
    void *hub_state = hub;
    hub_teardown(&hub_state);
}

static void a_second_hub_is_told_who_has_the_storage(void **state)
{
    struct hub_fixture *hub = *state;
    const struct serve_options options = {.quiet = true};
    struct serve *second = NULL;
    struct err err = {0};

    assert_int_equal(serve_start(&second, &hub->settings, &options, &err), -ERR_CONFLICT);
    assert_non_null(strstr(err.message, "mlx-hub serve"));
    err_clear(&err);
    struct settings elsewhere = hub->settings;
    elsewhere.port = hub->port;
    snprintf(elsewhere.storage_base_path, FS_PATH_BYTES_MAX, "%.4000s/b", hub->dir);
    snprintf(elsewhere.database_url, sizeof elsewhere.database_url, "sqlite:///%.900s/b/hub.db",
             hub->dir);
    assert_int_equal(serve_start(&second, &elsewhere, &options, &err), -ERR_CONFLICT);
    char port[8];
    snprintf(port, sizeof port, "%d", hub->port);
    assert_non_null(strstr(err.message, port));
}

static void a_restart_keeps_everything(void **state)
{
    struct hub_fixture *hub = *state;
    char id[64];
    char path[128];

    make(hub, "/models", "{\"name\":\"kept\",\"base_model\":\"b\"}", id);
    serve_stop(hub->serve, 1000);
    hub_start(hub, false);
    snprintf(path, sizeof path, "/models/%s", id);
    call_quiet(hub, "GET", path, NULL, 200);
}

static void starting_survives_a_lack_of_memory(void **state)
{
    struct hub_fixture *hub = hub_make();
    const struct serve_options options = {.quiet = true};
    (void)state;

    for (uint64_t n = 1;; n++) {
        struct err err = {0};
        struct serve *serve = NULL;
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = serve_start(&serve, &hub->settings, &options, &err);
        const bool fired = fault_fired();
        fault_disarm();
        if (rc == 0)
            serve_stop(serve, 0);
        if (!fired)
            break;
    }
    hub_start(hub, false);
    call_quiet(hub, "GET", "/models", NULL, 200);
    void *hub_state = hub;
    hub_teardown(&hub_state);
}

static unsigned flags_of(const struct http_route *routes, size_t n, const char *method,
                         const char *pattern)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(routes[i].method, method) == 0 && strcmp(routes[i].pattern, pattern) == 0)
            return routes[i].flags | 1u << 31;
    return 0;
}

/* A model that loads or makes room, a child that reads files and another server take their time:
 * health is told all the same. */
static void who_waits_waits_apart(void **state)
{
    static const struct {
        const char *method, *pattern;
        bool apart;
    } rows[] = {
        {"POST", "/v1/chat/completions", true},
        {"POST", "/v1/completions", true},
        {"POST", "/v1/embeddings", true},
        {"POST", "/api/embed", true},
        {"POST", "/api/embeddings", true},
        {"POST", "/api/generate", true},
        {"POST", "/api/chat", true},
        {"POST", "/api/pull", true},
        {"POST", "/api/create", true},
        {"POST", "/api/show", true},
        {"POST", "/tokenize", true},
        {"POST", "/inference", true},
        {"POST", "/inference/stream", true},
        {"POST", "/base-models/import", true},
        {"GET", "/base-models/search", true},
        {"POST", "/training/jobs", true},
        {"GET", "/health", false},
        {"GET", "/health/ready", false},
        {"GET", "/metrics", false},
        {"GET", "/models", false},
        {"GET", "/v1/models", false},
        {"GET", "/api/tags", false},
    };
    size_t n, n_client;
    const struct http_route *routes = api_routes(&n);
    const struct http_route *client_routes = api_client_routes(&n_client);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const unsigned flags = flags_of(routes, n, rows[i].method, rows[i].pattern) |
                               flags_of(client_routes, n_client, rows[i].method, rows[i].pattern);
        if (flags == 0 || ((flags & HTTP_SLOW) != 0) != rows[i].apart)
            fail_msg("%s %s", rows[i].method, rows[i].pattern);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(health_names_what_is_down, hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(every_route_is_documented, hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(the_root_knows_a_browser, hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(metrics_and_config_are_told, hub_setup, hub_teardown),
        cmocka_unit_test(keys_guard_all_but_health),
        cmocka_unit_test_setup_teardown(a_second_hub_is_told_who_has_the_storage, hub_setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(a_restart_keeps_everything, hub_setup, hub_teardown),
        cmocka_unit_test(starting_survives_a_lack_of_memory),
        cmocka_unit_test(who_waits_waits_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
