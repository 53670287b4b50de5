/* Kept pages that went through a file give the bits that they gave before; a file that is not what
 * it should be is refused whole. */
#include "base/fs.h"
#include "infer/prefix_file.h"
#include "test.h"

enum { VOCAB = 128, PAGE = ENGINE_KV_PAGE_TOKENS, LENGTH = 60 };

static char folder[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX + 32];
static struct engine_model *model;
static uint64_t page_bytes;

static int make_folder(void **state)
{
    (void)state;
    struct err err = {0};
    const struct engine_options options = {
        .threads = 1, .isa = "best", .kv_bytes_max = (size_t)16 << 20};
    snprintf(path, sizeof path, "%s/base.prefixes", test_dir_make(folder));
    assert_ok(engine_model_open(&model, "tests/fixtures/engine/serve/q4_1.gguf", &options, &err),
              &err);
    page_bytes = engine_model_info(model)->kv_page_bytes;
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    engine_model_free(model);
    test_dir_remove(folder);
    return 0;
}

static void make_tokens(int32_t *tokens, int variant)
{
    for (int i = 0; i < LENGTH; i++) {
        tokens[i] = (i < 2 * PAGE ? i * 29 : i * 31 + variant) % VOCAB;
    }
}

static struct engine_session *new_session(void)
{
    struct err err = {0};
    struct engine_session *s = NULL;
    assert_ok(engine_session_new(&s, model, &err), &err);
    return s;
}

static void eval(struct engine_session *s, const int32_t *tokens, int n, float *logits)
{
    struct err err = {0};
    struct engine_piece piece = {.session = s, .tokens = tokens, .n_tokens = n, .logits = logits};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
}

static void keep(struct prefix_cache *c, const char *key, int variant, int n)
{
    int32_t tokens[LENGTH];
    struct engine_session *s = new_session();
    make_tokens(tokens, variant);
    eval(s, tokens, n, NULL);
    prefix_cache_keep(c, key, tokens, s, true);
    engine_session_free(s);
}

static int find(struct prefix_cache *c, const char *key, int variant)
{
    int32_t tokens[LENGTH];
    struct engine_session *s = new_session();
    make_tokens(tokens, variant);
    const int n = prefix_cache_extend(c, key, tokens, LENGTH, s);
    engine_session_free(s);
    return n;
}

static void fill(struct prefix_cache *c, uint64_t pages)
{
    prefix_cache_init(c, model, pages * page_bytes);
    keep(c, "", 1, 40);
    keep(c, "", 2, 50);
    keep(c, "an adapter", 1, 35);
}

static void test_what_comes_back_has_the_same_bits(void **state)
{
    (void)state;
    static float want[VOCAB], got[VOCAB];
    struct err err = {0};
    struct prefix_cache c;
    struct prefix_cache again;
    int32_t tokens[LENGTH];
    fill(&c, 100);
    const uint64_t bytes = prefix_cache_bytes(&c);
    assert_ok(prefix_file_save(&c, path, "0123", 100 * page_bytes, &err), &err);
    prefix_cache_release(&c);
    assert_int_equal(engine_pages_used(model), 0);

    prefix_cache_init(&again, model, 100 * page_bytes);
    assert_ok(prefix_file_load(&again, path, "0123", &err), &err);
    assert_int_equal(prefix_cache_bytes(&again), bytes);
    assert_int_equal(engine_pages_used(model) * page_bytes, bytes);
    assert_int_equal(find(&again, "an adapter", 1), 35);
    assert_int_equal(find(&again, "another", 1), 0);
    for (int variant = 1; variant <= 2; variant++) {
        struct engine_session *warm = new_session();
        struct engine_session *cold = new_session();
        make_tokens(tokens, variant);
        const int n = prefix_cache_extend(&again, "", tokens, LENGTH, warm);
        assert_int_equal(n, variant == 1 ? 40 : 50);
        eval(warm, tokens + n, LENGTH - n, got);
        eval(cold, tokens, LENGTH, want);
        assert_memory_equal(got, want, sizeof want);
        engine_session_free(warm);
        engine_session_free(cold);
    }
    prefix_cache_release(&again);
}

/* A bound of bytes keeps what was used last, and loading keeps the order of use. */
static void test_what_was_used_last_is_kept(void **state)
{
    (void)state;
    struct err err = {0};
    struct prefix_cache c;
    fill(&c, 100);
    assert_int_equal(find(&c, "", 1), 40);
    assert_ok(prefix_file_save(&c, path, "0123", 4 * (page_bytes + 200), &err), &err);
    prefix_cache_release(&c);
    uint64_t size;
    assert_ok(fs_size(path, &size, &err), &err);
    assert_true(size <= 4 * (page_bytes + 200) + 512);
    prefix_cache_init(&c, model, 100 * page_bytes);
    assert_ok(prefix_file_load(&c, path, "0123", &err), &err);
    assert_int_equal(prefix_cache_bytes(&c), 4 * page_bytes);
    assert_int_equal(find(&c, "", 1), 40); /* three blocks, and the first of the next oldest */
    assert_int_equal(find(&c, "an adapter", 1), PAGE);
    prefix_cache_release(&c);

    prefix_cache_init(&c, model, 2 * page_bytes); /* less room than the file has blocks */
    assert_ok(prefix_file_load(&c, path, "0123", &err), &err);
    assert_int_equal(prefix_cache_bytes(&c), 2 * page_bytes);
    assert_int_equal(find(&c, "", 1), 2 * PAGE);
    assert_true(prefix_cache_evict(&c));
    assert_int_equal(find(&c, "", 1), PAGE);
    prefix_cache_release(&c);
    assert_int_equal(engine_pages_used(model), 0);
}

static void test_files_that_are_not_ours_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        const char *base_key;
        double flip; /* the byte at this part of the file */
        int cut;     /* bytes off the end */
    } rows[] = {
        {"another base", "4567", -1, 0},     {"a longer name", "01234", -1, 0},
        {"identity", "0123", 0.0, 0},        {"a page", "0123", 0.5, 0},
        {"the checksum", "0123", 1.0, 0},    {"the last byte gone", "0123", -1, 1},
        {"cut in a page", "0123", -1, 9999}, {"hardly anything", "0123", -1, -100},
        {"nothing", "0123", -1, -1},
    };
    struct err err = {0};
    struct prefix_cache c;
    fill(&c, 100);
    assert_ok(prefix_file_save(&c, path, "0123", 100 * page_bytes, &err), &err);
    prefix_cache_release(&c);
    struct buf good;
    buf_init(&good, (size_t)64 << 20);
    assert_ok(fs_read_file(path, (size_t)64 << 20, &good, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        print_message("%s\n", rows[i].what);
        const double part = rows[i].flip >= 0 ? rows[i].flip : 0.0;
        const size_t at = (size_t)(part * (double)(good.len - 1));
        const size_t n =
            rows[i].cut < 0 ? (size_t)(-rows[i].cut - 1) : good.len - (size_t)rows[i].cut;
        good.data[at] ^= rows[i].flip >= 0 ? 4 : 0;
        assert_ok(fs_write_file(path, good.data, n, &err), &err);
        good.data[at] ^= rows[i].flip >= 0 ? 4 : 0;
        prefix_cache_init(&c, model, 100 * page_bytes);
        assert_err(prefix_file_load(&c, path, rows[i].base_key, &err), &err, ERR_CORRUPT);
        assert_int_equal(prefix_cache_bytes(&c), 0);
        assert_int_equal(engine_pages_used(model), 0);
        keep(&c, "", 1, 40); /* and replaced */
        assert_ok(prefix_file_save(&c, path, rows[i].base_key, 100 * page_bytes, &err), &err);
        prefix_cache_release(&c);
        prefix_cache_init(&c, model, 100 * page_bytes);
        assert_ok(prefix_file_load(&c, path, rows[i].base_key, &err), &err);
        assert_int_equal(find(&c, "", 1), 40);
        prefix_cache_release(&c);
    }
    buf_release(&good);
    assert_ok(fs_remove_file(path, &err), &err);
    prefix_cache_init(&c, model, page_bytes);
    assert_err(prefix_file_load(&c, path, "0123", &err), &err, ERR_NOT_FOUND);
    prefix_cache_release(&c);
}

static int count_entries(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

static void test_a_save_that_was_cut_off_leaves_nothing_for_long(void **state)
{
    (void)state;
    struct err err = {0};
    struct prefix_cache c;
    char remains[FS_PATH_BYTES_MAX + 64];
    int n = 0;
    fill(&c, 100);
    snprintf(remains, sizeof remains, "%s.tmp-1-1", path);
    assert_ok(fs_write_file(remains, "half", 4, &err), &err);
    assert_ok(prefix_file_save(&c, path, "0123", 100 * page_bytes, &err), &err);
    assert_false(fs_exists(remains));
    assert_ok(fs_list_dir(folder, count_entries, &n, &err), &err);
    assert_int_equal(n, 1);
    prefix_cache_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_back_has_the_same_bits),
        cmocka_unit_test(test_what_was_used_last_is_kept),
        cmocka_unit_test(test_files_that_are_not_ours_are_refused),
        cmocka_unit_test(test_a_save_that_was_cut_off_leaves_nothing_for_long),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
