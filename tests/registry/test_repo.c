/* Models on a model hub: names, lists, choices, and fetching from a scripted server on loopback. */
#include "test.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "registry/repo_fetch.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

#define SHA "0123456789012345678901234567890123456789"
#define D64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_names_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *id, *revision, *file; /* id NULL: refused */
    } rows[] = {
        {"org/name", "org/name", "", ""},
        {"name", "name", "", ""},
        {"org/name@v1.0", "org/name", "v1.0", ""},
        {"org/name@refs/pr/1:Q8_0", "org/name", "refs/pr/1", "Q8_0"},
        {"hf.co/org/name:Q4_K_M", "org/name", "", "Q4_K_M"},
        {"https://huggingface.co/org/name:latest", "org/name", "", ""},
        {"org/name:sub/model.gguf", "org/name", "", "sub/model.gguf"},
        {"", NULL, NULL, NULL},
        {"a/b/c", NULL, NULL, NULL},
        {"../name", NULL, NULL, NULL},
        {"org/..", NULL, NULL, NULL},
        {"org/na me", NULL, NULL, NULL},
        {"org/name?x=1", NULL, NULL, NULL},
        {"org/name@a..b", NULL, NULL, NULL},
        {"org/name@a b", NULL, NULL, NULL},
        {"org/name:../x", NULL, NULL, NULL},
        {"org/name:/x", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct repo_name name;
        int rc = repo_name_parse(rows[i].text, &name, &err);
        if (!rows[i].id) {
            assert_err(rc, &err, ERR_UNPROCESSABLE);
            continue;
        }
        assert_ok(rc, &err);
        assert_string_equal(name.id, rows[i].id);
        assert_string_equal(name.revision, rows[i].revision);
        assert_string_equal(name.file, rows[i].file);
    }
    assert_true(repo_is_commit(SHA));
    assert_false(repo_is_commit("main"));
}

#define LIST(files) "{\"sha\":\"" SHA "\",\"siblings\":[" files "]}"
#define SMALL(name) "{\"rfilename\":\"" name "\",\"size\":2,\"blobId\":\"" SHA "\"}"
#define LARGE(name)                                                                                \
    "{\"rfilename\":\"" name "\",\"size\":9,\"lfs\":{\"sha256\":\"" D64 "\",\"size\":9}}"

#define INDEXED                                                                                    \
    SMALL("model.safetensors.index.json")                                                          \
    "," LARGE("model-00001-of-00002.safetensors") "," LARGE(                                       \
        "model-00002-of-00002.safetensors") "," LARGE("consolidated.safetensors")

static int read_list(const char *text, struct arena *arena, struct repo *repo, struct err *err)
{
    const struct repo_name name = {.id = "org/name"};
    return repo_read(text, strlen(text), &name, arena, repo, err);
}

static void test_lists_that_cannot_be_trusted_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "[]",
        "{}",
        "{\"sha\":\"" SHA "\"}",
        "{\"sha\":\"../../etc\",\"siblings\":[]}",
        "{\"sha\":\"" SHA "\",\"siblings\":{}}",
        LIST("{}"),
        LIST("{\"rfilename\":1}"),
        LIST(SMALL("")),
        LIST(SMALL("/etc/passwd")),
        LIST(SMALL("..")),
        LIST(SMALL("a/../../b")),
        LIST(SMALL("a//b")),
        LIST(SMALL("a/")),
        LIST(SMALL("a\\\\b")),
        LIST(SMALL("a\\nb")),
        LIST(SMALL("a\\u0000b")),
        LIST("{\"rfilename\":\"a\",\"size\":-1}"),
        LIST("{\"rfilename\":\"a\",\"size\":9223372036854775807}"),
        LIST("{\"rfilename\":\"a\",\"size\":1,\"lfs\":{\"sha256\":\"xyz\"}}"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct arena arena;
        struct repo repo;
        arena_init(&arena, 0);
        assert_err(read_list(rows[i], &arena, &repo, &err), &err, ERR_CORRUPT);
        arena_release(&arena);
    }
}

static void test_what_a_model_needs_is_chosen(void **state)
{
    (void)state;
    static const struct {
        const char *list, *wanted;
        int n;             /* files; or minus the error */
        const char *first; /* file, or part of the error's message */
    } rows[] = {
        {LIST(SMALL("README.md") "," SMALL("config.json") "," LARGE("model.safetensors") "," SMALL(
             "tokenizer.json") "," LARGE("pytorch_model.bin") "," LARGE("x/model.safetensors")),
         "", 3, "config.json"},
        {LIST(SMALL("config.json") "," INDEXED), "", 4, "config.json"},
        {LIST(SMALL("config.json") "," LARGE("model.safetensors") "," LARGE("m-Q8_0.gguf")), "", 2,
         "config.json"},
        {LIST(SMALL("config.json") "," LARGE("model.safetensors") "," LARGE("m-Q8_0.gguf")), "q8_0",
         1, "m-Q8_0.gguf"},
        {LIST(SMALL("config.json") "," LARGE("only.gguf") "," LARGE("mmproj-F16.gguf")), "", 1,
         "only.gguf"},
        {LIST(LARGE("m-Q8_0.gguf") "," LARGE("m-Q4_K_M.gguf")), "", 1, "m-Q4_K_M.gguf"},
        {LIST(LARGE("m-Q8_0.gguf") "," LARGE("m.Q4_1.gguf")), "Q4_1", 1, "m.Q4_1.gguf"},
        {LIST(SMALL("LICENSE") "," SMALL("a") "," LARGE("m-Q8_0.gguf")), "Q8_0", 1, "m-Q8_0.gguf"},
        {LIST(SMALL("a") "," LARGE("m-Q8_0.gguf")), "a", -ERR_INVALID, "m-Q8_0.gguf"},
        {LIST(LARGE("m-Q8_0.gguf") "," LARGE("m-IQ4_K.gguf")), "Q4_K", -ERR_INVALID,
         "m-IQ4_K.gguf"},
        {LIST(LARGE("a/m-Q8_0.gguf") "," LARGE("b/n-Q8_0.gguf")), "b/n-Q8_0.gguf", 1,
         "b/n-Q8_0.gguf"},
        {LIST(LARGE("a/m-Q8_0.gguf") "," LARGE("b/n-Q8_0.gguf")), "Q8_0", -ERR_INVALID, "several"},
        {LIST(LARGE("m-Q8_0.gguf") "," LARGE("m-Q2_K.gguf")), "", -ERR_INVALID,
         "m-Q8_0.gguf, m-Q2_K.gguf"},
        {LIST(LARGE("m-Q8_0.gguf")), "Q2_K", -ERR_INVALID, "m-Q8_0.gguf"},
        {LIST(SMALL("config.json")), "Q2_K", -ERR_INVALID, "no GGUF"},
        {LIST(LARGE("m-Q8_0-00001-of-00002.gguf") "," LARGE("m-Q8_0-00002-of-00002.gguf")), "",
         -ERR_UNSUPPORTED, "several parts"},
        {LIST(SMALL("config.json") "," LARGE("pytorch_model.bin")), "", -ERR_UNSUPPORTED, "pickle"},
        {LIST(SMALL("adapter_config.json") "," LARGE("adapter_model.safetensors")), "",
         -ERR_UNSUPPORTED, "adapter"},
        {LIST(SMALL("README.md")), "", -ERR_UNSUPPORTED, "holds no model"},
        {LIST("{\"rfilename\":\"m.gguf\",\"blobId\":\"" SHA "\"}"), "", -ERR_CORRUPT, "no size"},
        {LIST("{\"rfilename\":\"m.gguf\",\"size\":3}"), "", -ERR_CORRUPT, "no digest"},
        {LIST(LARGE("m.gguf") "," LARGE("m.gguf")), "m.gguf", -ERR_INVALID, "several"},
        {LIST(SMALL("config.json") "," LARGE("model.safetensors") "," SMALL("config.json")), "",
         -ERR_CORRUPT, "twice"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct arena arena;
        struct repo repo;
        struct repo_pick pick;
        arena_init(&arena, 0);
        assert_ok(read_list(rows[i].list, &arena, &repo, &err), &err);
        int rc = repo_choose(&repo, rows[i].wanted, &arena, &pick, &err);
        if (rows[i].n < 0) {
            assert_int_equal(rc, rows[i].n);
            assert_non_null(strstr(err.message, rows[i].first));
        } else {
            assert_ok(rc, &err);
            assert_int_equal(pick.n_files, rows[i].n);
            assert_string_equal(pick.files[0]->path, rows[i].first);
        }
        arena_release(&arena);
    }
}

/* --- fetching --- */

/* Answers one connection after another with these bytes, then closes each. */
struct script {
    int listener, port;
    const char *const *answers; /* NULL at the end */
    char ranges[8][64];         /* "" when none was asked for */
    int n_asked;
    pthread_t thread;
};

static void answer_one(struct script *script, int fd, const char *answer)
{
    char seen[4096];
    size_t n = 0;
    ssize_t got;
    while (n < sizeof seen - 1 && (got = recv(fd, seen + n, sizeof seen - 1 - n, 0)) > 0) {
        n += (size_t)got;
        seen[n] = '\0';
        if (strstr(seen, "\r\n\r\n"))
            break;
    }
    const char *range = strstr(seen, "Range: ");
    if (range)
        snprintf(script->ranges[script->n_asked], 64, "%.*s", (int)strcspn(range + 7, "\r"),
                 range + 7);
    script->n_asked++;
    (void)!send(fd, answer, strlen(answer), MSG_NOSIGNAL);
    close(fd);
}

static void *serve(void *arg)
{
    struct script *script = arg;
    for (size_t i = 0; script->answers[i]; i++) {
        int fd = accept(script->listener, NULL, NULL);
        if (fd < 0)
            break;
        answer_one(script, fd, script->answers[i]);
    }
    return NULL;
}

struct shop {
    struct script script;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX + 16], part[FS_PATH_BYTES_MAX + 16];
    int64_t there, came;
    struct repo repo;
    struct repo_file file;
    bool stop;
};

static void on_bytes(void *ctx, int64_t n, int64_t came)
{
    struct shop *shop = ctx;
    shop->there += n;
    shop->came += came;
}

static int on_wait(void *ctx, struct err *err)
{
    struct shop *shop = ctx;
    return shop->stop ? err_set(err, ERR_CANCELLED, "stopped") : 0;
}

static void shop_open(struct shop *shop)
{
    memset(shop, 0, sizeof *shop);
    test_dir_make(shop->dir);
    snprintf(shop->path, sizeof shop->path, "%s/m.gguf", shop->dir);
    snprintf(shop->part, sizeof shop->part, "%s/m.gguf.part", shop->dir);
    shop->repo = (struct repo){.id = "org/name", .commit = SHA};
    /* of "0123456789" */
    shop->file = (struct repo_file){
        .path = "m.gguf",
        .name = "m.gguf",
        .bytes = 10,
        .sha256 = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"};
}

static void shop_close(struct shop *shop)
{
    test_dir_remove(shop->dir);
}

/* One fetch against these answers. */
static int fetch(struct shop *shop, const char *const *answers, struct err *err)
{
    struct script *script = &shop->script;
    const struct repo_sink sink = {.on_bytes = on_bytes};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct repo_server server = {0};
    struct arena arena;
    char endpoint[64];
    memset(script, 0, sizeof *script);
    script->answers = answers;
    script->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(script->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(script->listener, 8), 0);
    assert_int_equal(getsockname(script->listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(pthread_create(&script->thread, NULL, serve, script), 0);
    arena_init(&arena, 0);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", ntohs(address.sin_port));
    shop->there = shop->came = 0;
    int rc = repo_server_open(&server, endpoint, NULL, &arena, err);
    server.on_wait = on_wait;
    server.ctx = shop;
    if (rc == 0)
        rc = repo_fetch(&server, &shop->repo, &shop->file, shop->path, &sink, err);
    repo_server_close(&server);
    arena_release(&arena);
    shutdown(script->listener, SHUT_RDWR);
    pthread_join(script->thread, NULL);
    close(script->listener);
    return rc;
}

#define ALL_LOST "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123"
#define ALL      ALL_LOST "456789"
#define REST                                                                                       \
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\n"                              \
    "Content-Length: 6\r\n\r\n456789"

static void assert_whole(struct shop *shop)
{
    struct err err = {0};
    struct buf text;
    buf_init(&text, 100);
    assert_ok(fs_read_file(shop->path, 100, &text, &err), &err);
    assert_string_equal(text.data, "0123456789");
    assert_false(fs_exists(shop->part));
    assert_int_equal(shop->there, 10);
    buf_release(&text);
}

static void test_a_lost_connection_is_taken_up(void **state)
{
    (void)state;
    static const char *const ways[][4] = {
        {ALL, NULL},
        {ALL_LOST, REST, NULL},
        {ALL_LOST, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", REST, NULL},
        {ALL_LOST, ALL, NULL}, /* a server that cannot go on sends it all again */
        {ALL_LOST, "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n", ALL, NULL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0123", REST,
         NULL}, /* a lie about the length */
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct err err = {0};
        struct shop shop;
        shop_open(&shop);
        assert_ok(fetch(&shop, ways[i], &err), &err);
        assert_whole(&shop);
        assert_int_equal(shop.came, i == 3 || i == 4 ? 14 : 10);
        assert_string_equal(shop.script.ranges[0], "");
        if (i > 0)
            assert_string_equal(shop.script.ranges[1], "bytes=4-");
        assert_true(repo_file_is(&shop.file, shop.path));
        assert_int_equal(repo_fetched(&shop.file, shop.path), 10);
        /* what is there is not asked for again */
        static const char *const nothing[] = {NULL};
        assert_ok(fetch(&shop, nothing, &err), &err);
        assert_int_equal(shop.came, 0);
        shop_close(&shop);
    }
}

static void test_a_part_of_before_is_taken_up(void **state)
{
    (void)state;
    static const char *const answers[] = {REST, NULL};
    struct err err = {0};
    struct shop shop;
    shop_open(&shop);
    assert_ok(fs_write_file(shop.part, "0123", 4, &err), &err);
    assert_int_equal(repo_fetched(&shop.file, shop.path), 4);
    assert_ok(fetch(&shop, answers, &err), &err);
    assert_whole(&shop);
    assert_int_equal(shop.came, 6);
    shop_close(&shop);
}

static void test_what_is_wrong_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *answers[3];
        int code;
        const char *why;
        bool kept; /* the part */
    } rows[] = {
        {{"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012345678X"}, ERR_CORRUPT, "digest", false},
        {{"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789X"}, ERR_CORRUPT, "longer", true},
        {{ALL_LOST, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-9/10\r\n"
                    "Content-Length: 7\r\n\r\n3456789"},
         ERR_CORRUPT,
         "begins at byte 3",
         true},
        {{ALL_LOST, "HTTP/1.1 206 Partial Content\r\nContent-Length: 6\r\n\r\n456789"},
         ERR_CORRUPT,
         "which bytes",
         true},
        {{"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"}, ERR_NOT_FOUND, "org/name", true},
        {{"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"}, ERR_FORBIDDEN, "HF_TOKEN", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct shop shop;
        shop_open(&shop);
        assert_int_equal(fetch(&shop, rows[i].answers, &err), -rows[i].code);
        assert_non_null(strstr(err.message, rows[i].why));
        assert_false(fs_exists(shop.path));
        assert_int_equal(fs_exists(shop.part), rows[i].kept);
        shop_close(&shop);
    }
}

/* A full disk ends the fetch with the part kept, and so does a cancel. */
static void test_faults_keep_the_part(void **state)
{
    (void)state;
    static const char *const cut[] = {ALL_LOST, NULL};
    static const char *const rest[] = {REST, NULL};
    struct err err = {0}, again = {0};
    struct shop shop;
    shop_open(&shop);
    assert_ok(fs_write_file(shop.part, "0123", 4, &err), &err);
    fault_arm(FAULT_WRITE, 1, true);
    int rc = fetch(&shop, rest, &err);
    fault_disarm();
    assert_err(rc, &err, ERR_NOSPACE);
    assert_int_equal(repo_fetched(&shop.file, shop.path), 4);
    shop.stop = true;
    assert_err(fetch(&shop, cut, &again), &again, ERR_CANCELLED);
    shop.stop = false;
    err_clear(&err);
    assert_ok(fetch(&shop, rest, &err), &err);
    assert_whole(&shop);
    shop_close(&shop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_taken_apart),
        cmocka_unit_test(test_lists_that_cannot_be_trusted_are_refused),
        cmocka_unit_test(test_what_a_model_needs_is_chosen),
        cmocka_unit_test(test_a_lost_connection_is_taken_up),
        cmocka_unit_test(test_a_part_of_before_is_taken_up),
        cmocka_unit_test(test_what_is_wrong_is_refused),
        cmocka_unit_test(test_faults_keep_the_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
