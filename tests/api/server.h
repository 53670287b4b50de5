/* A hub on a free port with a storage folder of its own, and requests to it: what the tests of api/
 * share. Children are the program that the build made.
 */
#ifndef TESTS_API_SERVER_H
#define TESTS_API_SERVER_H

#include "api/serve.h"
#include "base/json.h"
#include "base/log.h"
#include "http/client.h"
#include "test.h"

enum { REQUEST_BYTES = 1 << 16 };

struct hub_fixture {
    char dir[FS_PATH_BYTES_MAX];
    struct settings settings;
    struct serve *serve;
    int port;
};

static inline void hub_start(struct hub_fixture *hub, bool with_workers)
{
    struct err err = {0};
    const struct serve_options options = {
        .program = getenv("MLX_HUB_BINARY"), .with_workers = with_workers, .quiet = true};

    /* Without a program the children would be this test, each with children of its own. */
    assert_non_null(options.program);
    assert_ok(serve_start(&hub->serve, &hub->settings, &options, &err), &err);
    hub->port = serve_port(hub->serve);
}

static inline struct hub_fixture *hub_make(void)
{
    struct hub_fixture *hub = calloc(1, sizeof *hub);
    static const char *const names[] = {"storage_base_path", "log_level", "mlx_memory_limit_gb",
                                        "mlx_hub_threads"};
    struct err err = {0};

    assert_non_null(hub);
    assert_ok(log_init(getenv("TEST_LOG") ? getenv("TEST_LOG") : "ERROR", false, &err), &err);
    test_dir_make(hub->dir);
    const char *values[] = {hub->dir, "ERROR", "0.5", "1"};
    assert_ok(settings_load(&hub->settings, names, values, 4, &err), &err);
    hub->settings.port = 0;
    return hub;
}

static inline int hub_setup(void **state)
{
    struct hub_fixture *hub = hub_make();

    hub_start(hub, false);
    *state = hub;
    return 0;
}

static inline int hub_teardown(void **state)
{
    struct hub_fixture *hub = *state;

    serve_stop(hub->serve, 1000);
    test_dir_remove(hub->dir);
    free(hub);
    return 0;
}

/* Sends one request; body NULL: none. The answer is the caller's. */
static inline int call_raw(struct hub_fixture *hub, const char *method, const char *path,
                           const char *headers, const char *body, struct answer *answer)
{
    const size_t length = body != NULL ? strlen(body) : 0;
    char *request = malloc(REQUEST_BYTES + length);
    int status;

    assert_non_null(request);
    snprintf(request, REQUEST_BYTES + length,
             "%s %s HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n%s", method, path, headers,
             length, body != NULL ? body : "");
    status = ask(hub->port, request, answer);
    free(request);
    return status;
}

/* The answer's JSON (json_decref), NULL when it has none. */
static inline json_t *call(struct hub_fixture *hub, const char *method, const char *path,
                           const char *body, int status)
{
    struct answer answer;
    struct err err = {0};
    json_t *tree = NULL;
    const int got = call_raw(
        hub, method, path, body != NULL ? "Content-Type: application/json\r\n" : "", body, &answer);

    if (got != status)
        fail_msg("%s %s %s: %d instead of %d: %s", method, path, body != NULL ? body : "", got,
                 status, answer.body != NULL ? answer.body : "");
    if (answer.body_bytes > 0) {
        tree = json_parse(answer.body, answer.body_bytes, &err);
        if (tree == NULL)
            fail_msg("%s %s: no JSON: %s", method, path, answer.body);
    }
    answer_free(&answer);
    return tree;
}

static inline void call_quiet(struct hub_fixture *hub, const char *method, const char *path,
                              const char *body, int status)
{
    json_decref(call(hub, method, path, body, status));
}

/* What a request is answered with: its status, and for errors the exact detail, or for 422 the
 * message and place of the first fault ("body.name: Field required"). */
static inline void call_refused(struct hub_fixture *hub, const char *method, const char *path,
                                const char *body, int status, const char *detail)
{
    json_t *answer = call(hub, method, path, body, status);
    const json_t *got = json_object_get(answer, "detail");
    char text[4096] = "";

    if (json_is_array(got)) {
        const json_t *first = json_array_get(got, 0);
        const json_t *loc = json_object_get(first, "loc");
        size_t n = 0;
        for (size_t i = 0; i < json_array_size(loc); i++) {
            const json_t *part = json_array_get(loc, i);
            n += (size_t)(json_is_string(part) ? snprintf(text + n, sizeof text - n, "%s%s",
                                                          i > 0 ? "." : "", json_string_value(part))
                                               : snprintf(text + n, sizeof text - n, "[%d]",
                                                          (int)json_integer_value(part)));
        }
        snprintf(text + n, sizeof text - n, ": %s",
                 json_string_value(json_object_get(first, "msg")));
    } else if (json_is_string(got)) {
        snprintf(text, sizeof text, "%s", json_string_value(got));
    }
    if (strcmp(text, detail) != 0)
        fail_msg("%s %s %s: \"%s\" instead of \"%s\"", method, path, body != NULL ? body : "", text,
                 detail);
    json_decref(answer);
}

static inline const char *member(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : "";
}

/* Makes something and keeps its id. */
static inline void make(struct hub_fixture *hub, const char *path, const char *body, char id[64])
{
    json_t *answer = call(hub, "POST", path, body, 201);

    snprintf(id, 64, "%s", member(answer, "id"));
    assert_int_equal(strlen(id), 36);
    json_decref(answer);
}

static inline void hub_write(struct hub_fixture *hub, const char *name, const char *text)
{
    char path[FS_PATH_BYTES_MAX + 64];
    struct err err = {0};

    snprintf(path, sizeof path, "%s/%s", hub->dir, name);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
}

static inline int hub_count_one(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

/* Entries of a folder in the storage. */
static inline int hub_entries(struct hub_fixture *hub, const char *name)
{
    char path[FS_PATH_BYTES_MAX + 64];
    struct err err = {0};
    int n = 0;

    snprintf(path, sizeof path, "%s/%s", hub->dir, name);
    assert_ok(fs_list_dir(path, hub_count_one, &n, &err), &err);
    return n;
}

/* Whether an object has exactly these members, space-separated. */
static inline void assert_members(const json_t *object, const char *names)
{
    char all[1024];
    size_t n = 0;
    snprintf(all, sizeof all, "%s", names);
    for (char *at = all; *at != '\0';) {
        char *end = at + strcspn(at, " ");
        const bool last = *end == '\0';
        *end = '\0';
        if (json_object_get(object, at) == NULL)
            fail_msg("no member %s", at);
        n++;
        at = last ? end : end + 1;
    }
    assert_int_equal(json_object_size(object), n);
}

#endif
