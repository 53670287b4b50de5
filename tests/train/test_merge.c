/* Merged weights: what fp32 arithmetic gives by hand, what the engine answers with them, and every
 * kind of base; damaged or strange inputs leave nothing behind. */
#include "train/merge.h"

#include "engine/adapter_files.h"
#include "engine/engine.h"
#include "formats/manifest.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "train/evaluate.h"
#include "train/run_fixture.h"

#define GGUF_BASE "tests/fixtures/engine/serve/q4_1.gguf"

static void make_version_in(struct run_fixture *f, const char *dir, const char *more)
{
    char config[512];
    snprintf(config, sizeof config,
             "{\"lora_rank\":4,\"max_steps\":8,\"batch_size\":4,\"learning_rate\":0.02,"
             "\"max_seq_length\":96,\"lora_targets\":\"all-linear\"%s}",
             more);
    fixture_in(f, dir, config);
    fixture_run(f);
}

static void make_version(struct run_fixture *f, const char *more)
{
    char dir[FS_PATH_BYTES_MAX];
    make_version_in(f, test_dir_make(dir), more);
}

static void aim(const struct run_fixture *f, char dest[FS_PATH_BYTES_MAX], struct merge_spec *spec)
{
    struct err err = {0};
    assert_ok(fs_join(dest, f->dir, "merged", &err), &err);
    *spec = (struct merge_spec){.base_id = "tiny",
                                .base_path = FIXTURE_BASE,
                                .version_dir = f->output,
                                .dest = dest,
                                .type = MERGE_F32,
                                .threads = 1,
                                .isa = "best"};
}

static float value_at(const struct tensor_view *view, size_t i)
{
    float value;
    memcpy(&value, view->data + i * sizeof value, sizeof value);
    return value;
}

/* One element of every matrix with factors, and matrices without, by double arithmetic. */
static void test_by_hand(void **state)
{
    struct run_fixture f;
    struct merge_spec spec;
    struct merge_result result;
    struct safetensors *base, *factors, *merged;
    struct err err = {0};
    char dest[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f, ",\"use_rslora\":true");
    aim(&f, dest, &spec);
    const size_t before = mem_used();
    assert_ok(train_merge(&spec, NULL, &result, &err), &err);
    assert_int_equal(mem_used(), before);
    assert_int_equal(result.tensors, 20);
    assert_int_equal(result.merged, 14);
    assert_true(result.adapter_effect > 0.05);
    assert_true(result.largest_difference < 1e-4);
    assert_ok(safetensors_open(FIXTURE_BASE "/model.safetensors", &base, &err), &err);
    assert_ok(fs_join(path, f.output, MANIFEST_ADAPTER, &err), &err);
    assert_ok(safetensors_open(path, &factors, &err), &err);
    assert_ok(fs_join(path, dest, "model.safetensors", &err), &err);
    assert_ok(safetensors_open(path, &merged, &err), &err);
    const struct tensor_view *w = safetensors_tensor(base, "model.layers.1.mlp.down_proj.weight");
    const struct tensor_view *a =
        safetensors_tensor(factors, "model.layers.1.mlp.down_proj.lora_a");
    const struct tensor_view *b =
        safetensors_tensor(factors, "model.layers.1.mlp.down_proj.lora_b");
    const struct tensor_view *got =
        safetensors_tensor(merged, "model.layers.1.mlp.down_proj.weight");
    const size_t in = (size_t)w->dims[1], out = (size_t)w->dims[0];
    const double scale = 32.0 / sqrt(4.0); /* alpha / sqrt(rank) */
    for (size_t r = 0; r < out; r++) {
        for (size_t c = 0; c < in; c++) {
            double delta = 0;
            for (size_t k = 0; k < 4; k++) {
                delta += (double)value_at(b, k * out + r) * (double)value_at(a, c * 4 + k);
            }
            const double want = (double)value_at(w, r * in + c) + scale * delta;
            assert_true(fabs((double)value_at(got, r * in + c) - want) < 1e-6);
        }
    }
    w = safetensors_tensor(base, "model.norm.weight");
    got = safetensors_tensor(merged, "model.norm.weight");
    assert_memory_equal(w->data, got->data, w->bytes);
    safetensors_free(base);
    safetensors_free(factors);
    safetensors_free(merged);
    fixture_free(&f);
}

/* The merged folder is a model of its own: the same loss on the same rows. */
static void test_answers_like_base_and_adapter(void **state)
{
    struct run_fixture f;
    struct merge_spec spec;
    struct merge_result merge;
    struct evaluate_result with, merged;
    struct manifest m;
    struct err err = {0};
    char dest[FS_PATH_BYTES_MAX], adapter[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f, ",\"num_layers\":1");
    aim(&f, dest, &spec);
    assert_ok(train_merge(&spec, NULL, &merge, &err), &err);
    assert_int_equal(merge.merged, 7);
    assert_ok(manifest_read(&m, f.output, &err), &err);
    assert_ok(fs_join(adapter, f.output, MANIFEST_ADAPTER, &err), &err);
    struct evaluate_spec rows = {.base_id = "tiny",
                                 .base_path = FIXTURE_BASE,
                                 .adapter_path = adapter,
                                 .adapter_scale = (float)m.lora_scale,
                                 .dataset_path = FIXTURE_DATASET,
                                 .max_seq_length = 96,
                                 .mask_prompt = true,
                                 .threads = 1,
                                 .isa = "best"};
    assert_ok(train_evaluate(&rows, NULL, &with, &err), &err);
    rows.base_path = dest;
    rows.adapter_path = NULL;
    assert_ok(train_evaluate(&rows, NULL, &merged, &err), &err);
    assert_int_equal(merged.rows, with.rows);
    assert_true(fabs(merged.loss - with.loss) < 1e-5);
    evaluate_result_release(&with);
    evaluate_result_release(&merged);
    manifest_release(&m);
    fixture_free(&f);
}

/* A quantised GGUF file, whose q and k rows lie in another order: de-quantised, it answers as
 * before. */
static void test_a_gguf_base_without_an_adapter(void **state)
{
    static const enum merge_type types[] = {MERGE_F32, MERGE_BF16};
    char dir[FS_PATH_BYTES_MAX], dest[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct merge_result result;
        struct model_files *files;
        test_dir_make(dir);
        assert_ok(fs_join(dest, dir, "out", &err), &err);
        const struct merge_spec spec = {.base_id = "gguf",
                                        .base_path = GGUF_BASE,
                                        .dest = dest,
                                        .type = types[i],
                                        .threads = 1,
                                        .isa = "best"};
        assert_ok(train_merge(&spec, NULL, &result, &err), &err);
        assert_int_equal(result.merged, 0);
        assert_true(result.adapter_effect == 0.0);
        assert_true(result.largest_difference < (types[i] == MERGE_F32 ? 1e-5 : 0.5));
        assert_ok(model_files_open(dest, &files, &err), &err);
        assert_string_equal(model_files_quantisation(files),
                            types[i] == MERGE_F32 ? "F32" : "BF16");
        model_files_free(files);
        assert_ok(fs_join(path, dest, "config.json", &err), &err);
        assert_true(fs_exists(path));
        test_dir_remove(dir);
    }
}

/* fp16 ends at 65504: what lies beyond is told, not written as infinity. */
static void test_what_f16_cannot_hold(void **state)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    char dir[FS_PATH_BYTES_MAX], base[FS_PATH_BYTES_MAX], dest[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX], from[FS_PATH_BYTES_MAX];
    const float large = 7e4f;
    struct merge_result result;
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(base, dir, "base", &err), &err);
    assert_ok(fs_join(dest, dir, "out", &err), &err);
    assert_ok(fs_mkdirs(base, &err), &err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_ok(fs_join(path, base, names[i], &err), &err);
        assert_ok(fs_join(from, FIXTURE_BASE, names[i], &err), &err);
        assert_ok(fs_copy_file(from, path, &err), &err);
    }
    FILE *file = fopen(path, "r+b"); /* the last value of the weights */
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)sizeof large, SEEK_END), 0);
    assert_int_equal(fwrite(&large, sizeof large, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    struct merge_spec spec = {.base_id = "large",
                              .base_path = base,
                              .dest = dest,
                              .type = MERGE_F16,
                              .threads = 1,
                              .isa = "best"};
    assert_int_equal(train_merge(&spec, NULL, &result, &err), -ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "holds 70000, which f16 cannot"));
    assert_false(fs_exists(dest));
    err_clear(&err);
    spec.type = MERGE_F32;
    assert_ok(train_merge(&spec, NULL, &result, &err), &err);
    test_dir_remove(dir);
}

/* Every family: written so that it answers as before. */
static void test_families(void **state)
{
    static const char *const rows[] = {
        "gemma2", "gemma3", "granite", "llama",   "llama_linear",   "mistral",           "olmo2",
        "phi3",   "qwen2",  "qwen3",   "smollm3", "gemma3/wrapped", "gemma2/gemma2.gguf"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dir[FS_PATH_BYTES_MAX], dest[FS_PATH_BYTES_MAX], base[FS_PATH_BYTES_MAX];
        struct merge_result result;
        struct err err = {0};
        test_dir_make(dir);
        assert_ok(fs_join(dest, dir, "out", &err), &err);
        snprintf(base, sizeof base, "tests/fixtures/engine/families/%s", rows[i]);
        const struct merge_spec spec = {.base_id = rows[i],
                                        .base_path = base,
                                        .dest = dest,
                                        .type = MERGE_F32,
                                        .threads = 1,
                                        .isa = "best"};
        const int rc = train_merge(&spec, NULL, &result, &err);
        if (rc != 0 || result.largest_difference > 1e-5) {
            fail_msg("%s: %d \"%s\", differs by %g", rows[i], rc, err.message,
                     result.largest_difference);
        }
        assert_true(fs_exists(dest));
        test_dir_remove(dir);
    }
}

static int count_one(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

static enum train_stop stop(void *ctx)
{
    (void)ctx;
    return TRAIN_CANCEL;
}

static void test_refusals_leave_nothing(void **state)
{
    struct run_fixture f;
    struct merge_spec spec;
    struct merge_result result;
    struct err err = {0};
    char dest[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    const struct train_hooks hooks = {.poll = stop};
    int before = 0, after = 0;
    (void)state;
    make_version(&f, "");
    assert_ok(fs_list_dir(f.dir, count_one, &before, &err), &err);
    aim(&f, dest, &spec);
    spec.base_path = GGUF_BASE;
    assert_err(train_merge(&spec, NULL, &result, &err), &err, ERR_CORRUPT);
    err_clear(&err);
    aim(&f, dest, &spec);
    spec.base_path = "/nowhere";
    assert_err(train_merge(&spec, NULL, &result, &err), &err, ERR_NOT_FOUND);
    err_clear(&err);
    aim(&f, dest, &spec);
    assert_err(train_merge(&spec, &hooks, &result, &err), &err, ERR_CANCELLED);
    err_clear(&err);
    spec.dest = f.output;
    assert_err(train_merge(&spec, NULL, &result, &err), &err, ERR_CONFLICT);
    err_clear(&err);
    aim(&f, dest, &spec);
    assert_ok(fs_join(path, f.output, MANIFEST_ADAPTER, &err), &err);
    assert_ok(fs_write_file(path, "x", 1, &err), &err);
    assert_err(train_merge(&spec, NULL, &result, &err), &err, ERR_CORRUPT);
    err_clear(&err);
    assert_ok(fs_list_dir(f.dir, count_one, &after, &err), &err);
    assert_int_equal(before, after);
    fixture_free(&f);
}

static void test_every_write_fails_in_turn(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_WRITE, FAULT_RENAME, FAULT_FSYNC, FAULT_MKDIR};
    struct run_fixture f;
    struct merge_spec spec;
    struct merge_result result;
    char dest[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f, "");
    aim(&f, dest, &spec);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (uint64_t n = 1;; n++) {
            struct err err = {0};
            const size_t before = mem_used();
            fault_arm(kinds[k], n, false);
            const int rc = train_merge(&spec, NULL, &result, &err);
            fault_disarm();
            const bool fired = fault_fired();
            assert_int_equal(mem_used(), before);
            assert_true(rc == 0 || fired);
            if (rc == 0) {
                assert_true(fs_exists(dest));
            }
            assert_ok(fs_remove_tree(dest, &err), &err);
            if (!fired) {
                break;
            }
        }
    }
    fixture_free(&f);
}

/* Both types of the same version, for the golden script and for what it recorded. */
static void merge_both(const char *dir)
{
    static const struct {
        const char *name;
        enum merge_type type;
    } kinds[] = {{"f32", MERGE_F32}, {"bf16", MERGE_BF16}};
    struct run_fixture f;
    struct merge_spec spec;
    struct merge_result result;
    struct err err = {0};
    char dest[FS_PATH_BYTES_MAX];
    make_version_in(&f, dir, "");
    for (size_t i = 0; i < 2; i++) {
        aim(&f, dest, &spec);
        assert_ok(fs_join(dest, f.dir, kinds[i].name, &err), &err);
        spec.type = kinds[i].type;
        assert_ok(train_merge(&spec, NULL, &result, &err), &err);
    }
}

/* The bytes that transformers and mlx-lm were seen to load. */
static void test_bytes_that_others_load(void **state)
{
    static const char *const kinds[] = {"f32", "bf16"};
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    struct err err = {0};
    json_t *golden = fixture_json("merge.json");
    (void)state;
    test_dir_make(dir);
    merge_both(dir);
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.*s/%s/model.safetensors", 1024, dir, kinds[i]);
        assert_ok(sha256_file_hex(path, sha256, &err), &err);
        assert_string_equal(sha256, json_string_value(json_object_get(
                                        json_object_get(golden, kinds[i]), "model.safetensors")));
    }
    json_decref(golden);
    test_dir_remove(dir);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "merge") == 0) {
        merge_both(argv[2]);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_answers_like_base_and_adapter),
        cmocka_unit_test(test_a_gguf_base_without_an_adapter),
        cmocka_unit_test(test_what_f16_cannot_hold),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_bytes_that_others_load),
        cmocka_unit_test(test_refusals_leave_nothing),
        cmocka_unit_test(test_every_write_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
