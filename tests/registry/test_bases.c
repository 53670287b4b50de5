/* Importing base models: once per content, whole or not at all. */
#include "registry/hub.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

static int import(struct hub *hub, const char *path, const char *id, struct base_row *row,
                  struct err *err)
{
    return registry_import_base(hub->registry, path, id, &hub_facts, NULL, NULL, &hub->arena, row,
                                err);
}

static void test_a_file(void **state)
{
    struct hub *hub = *state;
    struct base_row row, *rows = NULL;
    size_t count = 0;
    int64_t total = 0;
    char path[FS_PATH_BYTES_MAX], hex[SHA256_HEX_BYTES];

    hub_base(hub, "org/tiny", "weights");
    assert_ok(registry_get_base(hub->registry, "org/tiny", &hub->arena, &row, &hub->err),
              &hub->err);
    assert_ok(sha256_hex("weights", 7, hex, &hub->err), &hub->err);
    assert_string_equal(row.sha256, hex);
    assert_int_equal(row.bytes, 7);
    assert_false(row.is_folder);
    assert_string_equal(row.format, "gguf");
    assert_string_equal(row.quantisation, "Q4_1");
    assert_int_equal(row.context_length, 2048);
    assert_ok(registry_base_path(hub->registry, "org/tiny", &hub->arena, &row, path, &hub->err),
              &hub->err);
    assert_string_equal(path, hub_path(hub, arena_printf(&hub->arena, "blobs/sha256/%s", hex)));
    assert_true(fs_exists(path));
    /* the same content under another id is the same blob */
    hub_base(hub, "alias", "weights");
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
    assert_ok(
        registry_list_bases(hub->registry, 10, 0, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 2);
    assert_string_equal(rows[0].id, "alias");
    /* the same id and content again is what is there; other content is a conflict */
    hub_base(hub, "alias", "weights");
    hub_write(hub, "weights.gguf", "other");
    assert_int_equal(import(hub, hub_path(hub, "weights.gguf"), "alias", &row, &hub->err),
                     -ERR_CONFLICT);
    assert_string_equal(hub->err.message, "Base model 'alias' already exists");
    err_clear(&hub->err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
    /* the blob goes with its last id */
    assert_ok(registry_delete_base(hub->registry, "alias", &hub->err), &hub->err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
    assert_ok(registry_delete_base(hub->registry, "org/tiny", &hub->err), &hub->err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
    assert_err(registry_delete_base(hub->registry, "org/tiny", &hub->err), &hub->err,
               ERR_NOT_FOUND);
}

static void test_a_damaged_blob_is_put_right(void **state)
{
    struct hub *hub = *state;
    struct base_row row;
    char path[FS_PATH_BYTES_MAX];
    struct buf bytes;

    hub_base(hub, "tiny", "weights");
    assert_ok(registry_base_path(hub->registry, "tiny", &hub->arena, &row, path, &hub->err),
              &hub->err);
    assert_int_equal(truncate(path, 3), 0);
    hub_base(hub, "tiny", "weights");
    buf_init(&bytes, 64);
    assert_ok(fs_read_file(path, 64, &bytes, &hub->err), &hub->err);
    assert_int_equal(bytes.len, 7);
    assert_memory_equal(bytes.data, "weights", 7);
    buf_release(&bytes);
}

static void make_folder(struct hub *hub)
{
    assert_ok(fs_mkdirs(hub_path(hub, "model/original"), &hub->err), &hub->err);
    hub_write(hub, "model/config.json", "{}");
    hub_write(hub, "model/tokenizer.json", "{ }");
    hub_write(hub, "elsewhere", "tensors");
    (void)!unlink(hub_path(hub, "model/model.safetensors"));
    assert_int_equal(symlink(hub_path(hub, "elsewhere"), hub_path(hub, "model/model.safetensors")),
                     0);
    hub_write(hub, "model/pytorch_model.bin", "pickle");
    hub_write(hub, "model/.hidden.json", "no");
    hub_write(hub, "model/original/deep.json", "no");
}

static void test_a_folder(void **state)
{
    struct hub *hub = *state;
    struct base_row row;
    char path[FS_PATH_BYTES_MAX];

    make_folder(hub);
    assert_ok(import(hub, hub_path(hub, "model"), "tree", &row, &hub->err), &hub->err);
    assert_true(row.is_folder);
    assert_int_equal(row.bytes, 2 + 3 + 7);
    assert_ok(registry_base_path(hub->registry, "tree", &hub->arena, &row, path, &hub->err),
              &hub->err);
    int n = 0;
    assert_ok(fs_list_dir(path, hub_count_one, &n, &hub->err), &hub->err);
    assert_int_equal(n, 3);
    assert_ok(import(hub, hub_path(hub, "model"), "twin", &row, &hub->err), &hub->err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
    assert_ok(registry_delete_base(hub->registry, "tree", &hub->err), &hub->err);
    assert_ok(registry_delete_base(hub->registry, "twin", &hub->err), &hub->err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
}

static void test_bad_imports(void **state)
{
    struct hub *hub = *state;
    struct base_row row;

    assert_err(import(hub, hub_path(hub, "nothing"), "a", &row, &hub->err), &hub->err, ERR_INVALID);
    assert_err(import(hub, "", "a", &row, &hub->err), &hub->err, ERR_UNPROCESSABLE);
    assert_err(import(hub, "/dev/null", "a", &row, &hub->err), &hub->err, ERR_INVALID);
    assert_err(import(hub, hub_path(hub, "cache"), "a", &row, &hub->err), &hub->err, ERR_INVALID);
    hub_write(hub, "w.gguf", "w");
    assert_err(import(hub, hub_path(hub, "w.gguf"), "a/b/c", &row, &hub->err), &hub->err,
               ERR_UNPROCESSABLE);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
}

static bool now(void *ctx)
{
    return ++*(int *)ctx > 0;
}

static void test_cancel(void **state)
{
    struct hub *hub = *state;
    struct base_row row;
    int asked = 0;

    hub_write(hub, "w.gguf", "w");
    assert_err(registry_import_base(hub->registry, hub_path(hub, "w.gguf"), "a", &hub_facts, now,
                                    &asked, &hub->arena, &row, &hub->err),
               &hub->err, ERR_CANCELLED);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
}

static void test_a_base_in_use_stays(void **state)
{
    struct hub *hub = *state;
    struct base_row row;
    char path[FS_PATH_BYTES_MAX];

    hub_fill(hub);
    assert_int_equal(registry_delete_base(hub->registry, "org/tiny", &hub->err), -ERR_CONFLICT);
    assert_string_equal(hub->err.message, "Base model 'org/tiny' is used by model 'shop'");
    err_clear(&hub->err);
    assert_int_equal(
        registry_base_path(hub->registry, "org/none", &hub->arena, &row, path, &hub->err),
        -ERR_CONFLICT);
    assert_string_equal(
        hub->err.message,
        "The weights of 'org/none' are missing; run: mlx-hub import PATH --as org/none, or mlx-hub "
        "pull org/none");
    err_clear(&hub->err);
}

static void test_sweep_removes_leftovers(void **state)
{
    struct hub *hub = *state;

    hub_base(hub, "org/tiny", "weights");
    assert_ok(fs_mkdirs(hub_path(hub, "blobs/sha256/incoming-2147483647-1/x"), &hub->err),
              &hub->err);
    hub_write(hub, "blobs/sha256/incoming-2147483647-2.tmp-1-1", "part");
    hub_write(hub, "cache/sent-00.gguf", "sent, never created from");
    hub_write(hub, "cache/.import-1.writing", "part");
    hub_write(hub, "cache/pull-0123", "the part of a file: the same pull goes on with it");
    assert_ok(fs_mkdirs(hub_path(hub, "cache/adapter-1"), &hub->err), &hub->err);
    assert_ok(storage_sweep(registry_storage(hub->registry), &hub->err), &hub->err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 1);
    assert_int_equal(hub_entries(hub, "cache"), 1);
    assert_true(hub_has(hub, "cache/pull-0123"));
}

/* A worker that runs by itself takes something in while serve starts. */
static void test_sweep_leaves_what_a_living_process_takes_in(void **state)
{
    struct hub *hub = *state;
    const char *theirs = arena_printf(&hub->arena, "blobs/sha256/incoming-%ld-x", (long)getppid());

    hub_write(hub, theirs, "part");
    assert_ok(storage_sweep(registry_storage(hub->registry), &hub->err), &hub->err);
    assert_true(hub_has(hub, theirs));
}

struct deleting {
    struct hub *hub;
    int done[2]; /* a pipe */
};

static void *delete_twin(void *ctx)
{
    struct deleting *d = ctx;
    struct err err = {0};

    assert_ok(registry_delete_base(d->hub->registry, "twin", &err), &err);
    assert_int_equal(write(d->done[1], "d", 1), 1);
    return NULL;
}

/* Whoever holds the lock of blobs/, in whatever process, is between a file and its row. */
static void test_a_delete_waits_for_who_publishes(void **state)
{
    struct hub *hub = *state;
    struct deleting deleting = {.hub = hub};
    struct base_row row;
    pthread_t thread;
    int lock;

    hub_base(hub, "twin", "weights");
    assert_int_equal(pipe(deleting.done), 0);
    assert_ok(fs_lock_dir_wait(hub_path(hub, "blobs"), &lock, &hub->err), &hub->err);
    assert_int_equal(pthread_create(&thread, NULL, delete_twin, &deleting), 0);
    struct pollfd done = {.fd = deleting.done[0], .events = POLLIN};
    assert_int_equal(poll(&done, 1, 100), 0);
    assert_ok(registry_get_base(hub->registry, "twin", &hub->arena, &row, &hub->err), &hub->err);
    fs_unlock_dir(lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(deleting.done[0]);
    close(deleting.done[1]);
    assert_err(registry_get_base(hub->registry, "twin", &hub->arena, &row, &hub->err), &hub->err,
               ERR_NOT_FOUND);
}

/* Before or after, never between: a row has its whole blob, and without a row there is no blob
 * (save one that could not be removed again, which sweep or the next import deals with). */
static void check_one(struct hub *hub, int rc, const char *from)
{
    struct base_row row;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], hex[SHA256_HEX_BYTES];
    int found = registry_get_base(hub->registry, "x", &hub->arena, &row, &err);

    assert_int_equal(found, rc == 0 ? 0 : -ERR_NOT_FOUND);
    err_clear(&err);
    if (rc < 0) {
        assert_ok(storage_sweep(registry_storage(hub->registry), &err), &err);
        assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
        return;
    }
    assert_ok(registry_base_path(hub->registry, "x", &hub->arena, &row, path, &err), &err);
    if (!row.is_folder) {
        assert_ok(sha256_file_hex(path, hex, &err), &err);
        assert_string_equal(hex, row.sha256);
    } else {
        int n = 0;

        assert_ok(fs_list_dir(path, hub_count_one, &n, &err), &err);
        assert_int_equal(n, 3);
    }
    assert_string_equal(row.source, from);
    assert_ok(registry_delete_base(hub->registry, "x", &err), &err);
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
}

static void test_imports_fail_whole(void **state)
{
    struct hub *hub = *state;
    static const enum fault_kind kinds[] = {FAULT_MALLOC, FAULT_OPEN,   FAULT_READ, FAULT_WRITE,
                                            FAULT_FSYNC,  FAULT_RENAME, FAULT_MKDIR};
    const char *sources[] = {hub_path(hub, "weights.gguf"), hub_path(hub, "model")};

    hub_write(hub, "weights.gguf", "weights");
    make_folder(hub);
    for (size_t s = 0; s < 2; s++)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            for (uint64_t n = 1;; n++) {
                struct base_row row;
                struct err err = {0};

                fault_arm(kinds[k], n, false);
                int rc = import(hub, sources[s], "x", &row, &err);
                bool fired = fault_fired();
                fault_disarm();
                check_one(hub, rc, sources[s]);
                if (rc == 0 && !fired)
                    break;
            }
}

enum { ROUNDS = 30 };

static void *import_and_delete(void *ctx)
{
    struct hub *hub = ctx;
    struct arena arena;
    const char *id = NULL;
    static _Atomic int next;
    char name[16];

    snprintf(name, sizeof name, "t%d", next++);
    id = name;
    arena_init(&arena, 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct err err = {0};
        struct base_row row;
        char path[FS_PATH_BYTES_MAX], source[FS_PATH_BYTES_MAX];

        if (fs_join(source, hub->dir, "weights.gguf", &err) < 0 ||
            registry_import_base(hub->registry, source, id, &hub_facts, NULL, NULL, &arena, &row,
                                 &err) < 0 ||
            registry_base_path(hub->registry, id, &arena, &row, path, &err) < 0 ||
            registry_delete_base(hub->registry, id, &err) < 0) {
            fprintf(stderr, "%s\n", err.message);
            arena_release(&arena);
            return hub;
        }
    }
    arena_release(&arena);
    return NULL;
}

/* Imports and deletes of one content side by side: nobody's blob is taken away under a row. */
static void test_sharing_a_blob_side_by_side(void **state)
{
    struct hub *hub = *state;
    pthread_t threads[3];

    hub_write(hub, "weights.gguf", "weights");
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, import_and_delete, hub), 0);
    for (int i = 0; i < 3; i++) {
        void *failed = NULL;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_a_file),
        HUB_TEST(test_a_damaged_blob_is_put_right),
        HUB_TEST(test_a_folder),
        HUB_TEST(test_bad_imports),
        HUB_TEST(test_cancel),
        HUB_TEST(test_a_base_in_use_stays),
        HUB_TEST(test_sweep_removes_leftovers),
        HUB_TEST(test_sweep_leaves_what_a_living_process_takes_in),
        HUB_TEST(test_a_delete_waits_for_who_publishes),
        HUB_TEST(test_imports_fail_whole),
        HUB_TEST(test_sharing_a_blob_side_by_side),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
