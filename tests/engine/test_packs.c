/* Packed weights kept in the cache folder: a second start maps them, a bad file is made anew, and
 * nothing that is wrong with the folder keeps a model from opening. */
#include "engine/engine.h"
#include "engine/native/packs.h"
#include "test.h"

enum { VOCAB = 128, WEIGHT_BYTES_MIN = 30000 };

static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct place {
    char dir[FS_PATH_BYTES_MAX];
    char blob[FS_PATH_BYTES_MAX];  /* a model under its digest */
    char cache[FS_PATH_BYTES_MAX]; /* not there at first */
    char file[FS_PATH_BYTES_MAX];  /* where its pack belongs */
};

static void place_make(struct place *p)
{
    struct err err = {0};
    char name[96];
    snprintf(name, sizeof name, "%s.pack", digest);
    test_dir_make(p->dir);
    assert_ok(fs_join(p->blob, p->dir, digest, &err), &err);
    assert_ok(fs_join(p->cache, p->dir, "cache", &err), &err);
    assert_ok(fs_join(p->file, p->cache, name, &err), &err);
    assert_ok(fs_copy_file("tests/fixtures/engine/serve/q8_0.gguf", p->blob, &err), &err);
}

/* Opens, evaluates and closes. Returns whether the weights were found packed: then their bytes are
 * not in our memory. */
static bool was_mapped(const char *path, const char *cache, float *logits)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    struct engine_session *session = NULL;
    const struct engine_options options = {.threads = 2, .isa = "best", .cache_dir = cache};
    const struct engine_options plain = {.threads = 2, .isa = "best"};
    const int32_t tokens[] = {1, 2, 3, 4};
    const size_t before = mem_used();
    assert_ok(engine_model_open(&model, path, &plain, &err), &err);
    const size_t packed = mem_used() - before;
    engine_model_free(model);
    assert_ok(engine_model_open(&model, path, &options, &err), &err);
    const size_t used = mem_used() - before;
    const bool mapped = used + WEIGHT_BYTES_MIN < packed;
    assert_true(mapped || used == packed);
    assert_true(engine_model_info(model)->weight_bytes > WEIGHT_BYTES_MIN);
    assert_ok(engine_session_new(&session, model, &err), &err);
    struct engine_piece piece = {
        .session = session, .tokens = tokens, .n_tokens = 4, .logits = logits};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    engine_session_free(session);
    engine_model_free(model);
    assert_int_equal(mem_used(), before);
    return mapped;
}

static void test_a_second_start_maps_what_the_first_packed(void **state)
{
    (void)state;
    struct place p;
    float want[VOCAB], got[VOCAB];
    place_make(&p);
    assert_false(was_mapped(p.blob, NULL, want));
    assert_false(fs_exists(p.cache));
    assert_false(was_mapped(p.blob, p.cache, got));
    assert_memory_equal(want, got, sizeof want);
    assert_true(fs_exists(p.file));
    assert_true(was_mapped(p.blob, p.cache, got));
    assert_memory_equal(want, got, sizeof want);
    test_dir_remove(p.dir);
}

static void test_bad_files_are_made_anew(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        size_t at; /* of the byte that is turned over, */
        long grow; /* or by how much the file is longer; -1: half as long */
    } rows[] = {{"magic", 0, 0},        {"version", 8, 0},        {"size of the body", 16, 0},
                {"layout", 24, 0},      {"checksum", 24 + 64, 0}, {"a byte more", 0, 1},
                {"half a file", 0, -1}, {"an empty file", 0, -2}};
    struct place p;
    struct err err = {0};
    struct buf good;
    float want[VOCAB], got[VOCAB];
    place_make(&p);
    assert_false(was_mapped(p.blob, p.cache, want));
    buf_init(&good, 16 << 20);
    assert_ok(fs_read_file(p.file, 16 << 20, &good, &err), &err);
    assert_true(good.len > PACKS_HEADER_BYTES + WEIGHT_BYTES_MIN);
    uint8_t *bad = test_calloc(good.len + 1, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memcpy(bad, good.data, good.len);
        bad[rows[i].at] ^= rows[i].grow == 0 ? 0xff : 0;
        const size_t size = rows[i].grow == 1    ? good.len + 1
                            : rows[i].grow == -1 ? good.len / 2
                            : rows[i].grow == -2 ? 0
                                                 : good.len;
        assert_ok(fs_write_file(p.file, bad, size, &err), &err);
        if (was_mapped(p.blob, p.cache, got)) {
            fail_msg("%s: a bad file was taken", rows[i].what);
        }
        assert_memory_equal(want, got, sizeof want);
        if (!was_mapped(p.blob, p.cache, got)) {
            fail_msg("%s: the file was not made anew", rows[i].what);
        }
        assert_memory_equal(want, got, sizeof want);
    }
    test_free(bad);
    buf_release(&good);
    test_dir_remove(p.dir);
}

static void test_another_layout_of_the_same_blob_is_not_taken(void **state)
{
    (void)state;
    struct place p;
    struct err err = {0};
    float want[VOCAB], got[VOCAB];
    place_make(&p);
    assert_false(was_mapped(p.blob, p.cache, got));
    assert_ok(fs_remove_file(p.blob, &err), &err);
    assert_ok(fs_copy_file("tests/fixtures/engine/serve/q4_0.gguf", p.blob, &err), &err);
    assert_false(was_mapped(p.blob, NULL, want));
    assert_false(was_mapped(p.blob, p.cache, got));
    assert_memory_equal(want, got, sizeof want);
    test_dir_remove(p.dir);
}

static void test_only_blobs_are_kept(void **state)
{
    (void)state;
    struct place p;
    float logits[VOCAB];
    place_make(&p);
    assert_false(was_mapped("tests/fixtures/engine/serve/q8_0.gguf", p.cache, logits));
    assert_false(fs_exists(p.cache));
    test_dir_remove(p.dir);
}

/* A folder where the file should be, a file where the folder should be, and writes that fail. */
static void test_what_cannot_be_written_is_done_without(void **state)
{
    (void)state;
    struct place p;
    struct err err = {0};
    float want[VOCAB], got[VOCAB];
    place_make(&p);
    assert_false(was_mapped(p.blob, NULL, want));
    assert_ok(fs_write_file(p.cache, "x", 1, &err), &err);
    assert_false(was_mapped(p.blob, p.cache, got));
    assert_ok(fs_remove_file(p.cache, &err), &err);
    assert_ok(fs_mkdirs(p.file, &err), &err);
    assert_false(was_mapped(p.blob, p.cache, got));
    assert_ok(fs_remove_tree(p.file, &err), &err);
    assert_memory_equal(want, got, sizeof want);
    fault_arm(FAULT_WRITE, 1, true);
    assert_false(was_mapped(p.blob, p.cache, got));
    fault_disarm();
    assert_false(fs_exists(p.file));
    assert_memory_equal(want, got, sizeof want);
    test_dir_remove(p.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_second_start_maps_what_the_first_packed),
        cmocka_unit_test(test_bad_files_are_made_anew),
        cmocka_unit_test(test_another_layout_of_the_same_blob_is_not_taken),
        cmocka_unit_test(test_only_blobs_are_kept),
        cmocka_unit_test(test_what_cannot_be_written_is_done_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
