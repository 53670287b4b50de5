/* Exports, held to the very bytes that PEFT and mlx-lm have loaded: scripts/golden/train_run.py
 * made this program export, compared logits, and kept the checksums in export.json.
 *
 * usage: train_test_export              the tests
 *        train_test_export export DIR   trains the golden run and writes DIR/version, DIR/mlx and
 *                                       DIR/peft, for that script */
#include "engine/adapter_files.h"
#include "formats/manifest.h"
#include "formats/safetensors.h"
#include "train/adapter_import.h"
#include "train/export_fused.h"
#include "train/run_fixture.h"

struct exported {
    struct run_fixture run;
    char mlx[FS_PATH_BYTES_MAX], peft[FS_PATH_BYTES_MAX];
};

/* The golden run and both exports, in a new folder. */
static void exported_new(struct exported *e)
{
    struct err err = {0};
    fixture_new(&e->run, FIXTURE_CONFIG(FIXTURE_GOLDEN));
    e->run.spec.init_adapter_path = FIXTURE_INIT;
    fixture_run(&e->run);
    assert_ok(fs_join(e->mlx, e->run.dir, "mlx", &err), &err);
    assert_ok(fs_join(e->peft, e->run.dir, "peft", &err), &err);
    assert_ok(train_export(e->run.output, NULL, "mlx", e->mlx, &err), &err);
    assert_ok(train_export(e->run.output, NULL, "peft", e->peft, &err), &err);
}

static void assert_recorded(const json_t *record, const char *key, const char *dir,
                            const char *file)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    const char *want = json_string_value(json_object_get(record, key));
    assert_non_null(want);
    assert_ok(fs_join(path, dir, file, &err), &err);
    assert_ok(sha256_file_hex(path, sha256, &err), &err);
    if (strcmp(sha256, want) != 0) {
        fail_msg("%s is not what PEFT and mlx-lm were shown; run scripts/golden/train_run.py", key);
    }
}

static void test_bytes_are_those_that_were_loaded(void **state)
{
    struct exported e;
    (void)state;
    json_t *record = fixture_json("export.json");
    exported_new(&e);
    assert_recorded(record, "adapter.safetensors", e.run.output, "adapter.safetensors");
    assert_recorded(record, "mlx/adapters.safetensors", e.mlx, "adapters.safetensors");
    assert_recorded(record, "mlx/adapter_config.json", e.mlx, "adapter_config.json");
    assert_recorded(record, "peft/adapter_model.safetensors", e.peft, "adapter_model.safetensors");
    assert_recorded(record, "peft/adapter_config.json", e.peft, "adapter_config.json");
    json_decref(record);
    fixture_free(&e.run);
}

/* The loss that PEFT gives one row with the exported adapter is the trainer's own. */
static void test_loss_of_a_row_is_peft_s(void **state)
{
    struct exported e;
    struct err err = {0};
    struct engine_model *model = NULL;
    struct engine_adapter *adapter = NULL;
    struct engine_trainer *trainer = NULL;
    struct engine_loss loss = {.n_targets = 0};
    int32_t tokens[96];
    uint8_t targets[96];
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    json_t *record = fixture_json("export.json"), *golden = fixture_json("golden.json");
    const size_t at = (size_t)json_integer_value(json_object_get(record, "row"));
    const json_t *row = json_array_get(json_object_get(golden, "rows"), at);
    const int n = (int)json_array_size(json_object_get(row, "tokens"));
    for (int i = 0; i < n; i++) {
        tokens[i] =
            (int32_t)json_integer_value(json_array_get(json_object_get(row, "tokens"), (size_t)i));
        targets[i] =
            (uint8_t)json_integer_value(json_array_get(json_object_get(row, "targets"), (size_t)i));
    }
    exported_new(&e);
    const struct engine_options options = {.threads = 1, .isa = "best"};
    const struct engine_train_plan plan = {.tokens_max = 96};
    const struct engine_row rows = {.tokens = tokens, .targets = targets, .n_tokens = n};
    assert_ok(fs_join(path, e.run.output, "adapter.safetensors", &err), &err);
    assert_ok(engine_model_open(&model, FIXTURE_BASE, &options, &err), &err);
    assert_ok(engine_adapter_load(&adapter, model, path, 2.0f, &err), &err);
    assert_ok(engine_trainer_new(&trainer, model, adapter, &plan, &err), &err);
    assert_ok(engine_eval_loss(trainer, &rows, 1, &loss, &err), &err);
    const double want = json_real_value(json_object_get(record, "peft_row_loss"));
    assert_true(fabs((double)engine_loss_sum(&loss) - want) < 2e-5 * want);
    engine_trainer_free(trainer);
    engine_adapter_free(adapter);
    engine_model_free(model);
    json_decref(record);
    json_decref(golden);
    fixture_free(&e.run);
}

/* A square factor left as it was would load silently and be wrong, so values are compared. */
static void test_peft_factors_are_transposed(void **state)
{
    struct exported e;
    struct err err = {0};
    struct safetensors *ours = NULL, *peft = NULL;
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    exported_new(&e);
    assert_ok(fs_join(path, e.run.output, "adapter.safetensors", &err), &err);
    assert_ok(safetensors_open(path, &ours, &err), &err);
    assert_ok(fs_join(path, e.peft, "adapter_model.safetensors", &err), &err);
    assert_ok(safetensors_open(path, &peft, &err), &err);
    const struct tensor_view *a =
        safetensors_tensor(ours, "model.layers.1.self_attn.k_proj.lora_b");
    const struct tensor_view *b =
        safetensors_tensor(peft, "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight");
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->dims[0], b->dims[1]);
    assert_int_equal(a->dims[1], b->dims[0]);
    for (size_t r = 0; r < a->dims[0]; r++) {
        for (size_t c = 0; c < a->dims[1]; c++) {
            assert_memory_equal(a->data + (r * a->dims[1] + c) * sizeof(float),
                                b->data + (c * a->dims[0] + r) * sizeof(float), sizeof(float));
        }
    }
    safetensors_free(ours);
    safetensors_free(peft);
    fixture_free(&e.run);
}

/* What was exported comes back byte for byte, with the scale that served it. */
static void assert_comes_back(const struct exported *e, const char *dir, const char *factors)
{
    struct err err = {0};
    struct manifest manifest = {0};
    char paths[4][FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    double scale = 0.0;
    assert_ok(fs_join(paths[0], dir, factors, &err), &err);
    assert_ok(fs_join(paths[1], dir, "adapter_config.json", &err), &err);
    assert_ok(fs_join(paths[2], e->run.dir, "again.safetensors", &err), &err);
    const struct adapter_import import = {FIXTURE_BASE, paths[0], paths[1], paths[2]};
    assert_ok(train_adapter_import(&import, &scale, &err), &err);
    assert_ok(manifest_read(&manifest, e->run.output, &err), &err);
    assert_ok(sha256_file_hex(paths[2], sha256, &err), &err);
    assert_string_equal(sha256, manifest.adapter_sha256);
    assert_true((float)scale == (float)manifest.lora_scale);
    manifest_release(&manifest);
}

static void test_exports_come_back(void **state)
{
    struct exported e;
    struct err err = {0};
    (void)state;
    exported_new(&e);
    assert_comes_back(&e, e.mlx, "adapters.safetensors");
    assert_comes_back(&e, e.peft, "adapter_model.safetensors");
    fixture_free(&e.run);
    fixture_new(&e.run, FIXTURE_CONFIG(",\"num_layers\":1,\"use_rslora\":true,"
                                       "\"lora_targets\":[\"q_proj\",\"down_proj\"]"));
    fixture_run(&e.run);
    assert_ok(fs_join(e.peft, e.run.dir, "peft", &err), &err);
    assert_ok(train_export(e.run.output, NULL, "peft", e.peft, &err), &err);
    assert_comes_back(&e, e.peft, "adapter_model.safetensors");
    fixture_free(&e.run);
}

static void test_what_does_not_come_in_is_said(void **state)
{
    static const struct {
        const char *config, *why;
    } rows[] = {
        {"{}", "neither"},
        {"[]", "neither"},
        {"{\"lora_parameters\":{}}", "no scale"},
        {"{\"lora_parameters\":{\"scale\":\"big\"}}", "scale"},
        {"{\"lora_parameters\":{\"scale\":2},\"fine_tune_type\":\"dora\"}", "fine_tune_type"},
        {"{\"peft_type\":\"LORA\",\"r\":0}", "'r'"},
        {"{\"peft_type\":\"LORA\",\"use_dora\":true}", "use_dora"},
        {"{\"peft_type\":\"IA3\"}", "peft_type"},
        /* PEFT's config beside mlx-lm's names, and a rank that is another */
        {"{\"peft_type\":\"LORA\",\"r\":77}", "'r' 77"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"init_lora_weights\":\"pissa_niter_16\"}",
         "'init_lora_weights' that changes the base"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"use_qalora\":true}", "use_qalora"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":1e300}", "holds no scale"},
    };
    struct exported e;
    struct err err = {0};
    char paths[3][FS_PATH_BYTES_MAX];
    double scale = 0.0;
    (void)state;
    exported_new(&e);
    assert_ok(fs_join(paths[0], e.mlx, "adapters.safetensors", &err), &err);
    assert_ok(fs_join(paths[1], e.run.dir, "adapter_config.json", &err), &err);
    assert_ok(fs_join(paths[2], e.run.dir, "again.safetensors", &err), &err);
    const struct adapter_import import = {FIXTURE_BASE, paths[0], paths[1], paths[2]};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_ok(fs_write_file(paths[1], rows[i].config, strlen(rows[i].config), &err), &err);
        assert_true(train_adapter_import(&import, &scale, &err) < 0);
        if (strstr(err.message, rows[i].why) == NULL) {
            fail_msg("%s: %s", rows[i].config, err.message);
        }
        err_clear(&err);
    }
    assert_false(fs_exists(paths[2]));
    fixture_free(&e.run);
}

static void test_upper_layers_and_rank_stabilised(void **state)
{
    struct exported e;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    fixture_new(&e.run, FIXTURE_CONFIG(",\"num_layers\":1,\"use_rslora\":true,"
                                       "\"lora_targets\":[\"q_proj\",\"down_proj\"]"));
    fixture_run(&e.run);
    assert_ok(fs_join(e.peft, e.run.dir, "peft", &err), &err);
    assert_ok(train_export(e.run.output, NULL, "peft", e.peft, &err), &err);
    assert_ok(fs_join(path, e.peft, "adapter_config.json", &err), &err);
    json_t *config = json_parse_file(path, 1 << 16, &err);
    assert_non_null(config);
    const json_t *layers = json_object_get(config, "layers_to_transform");
    assert_int_equal(json_array_size(layers), 1);
    assert_int_equal(json_integer_value(json_array_get(layers, 0)), 1);
    assert_true(json_is_true(json_object_get(config, "use_rslora")));
    assert_int_equal(json_array_size(json_object_get(config, "target_modules")), 2);
    json_decref(config);

    assert_ok(fs_join(path, e.run.output, "adapter_config.json", &err), &err);
    config = json_parse_file(path, 1 << 16, &err);
    assert_non_null(config);
    assert_int_equal(json_integer_value(json_object_get(config, "num_layers")), 1);
    const json_t *lora = json_object_get(config, "lora_parameters");
    assert_true(json_number_value(json_object_get(lora, "scale")) == 4.0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(lora, "keys"), 1)),
                        "mlp.down_proj");
    json_decref(config);
    fixture_free(&e.run);
}

static void test_refusals(void **state)
{
    struct exported e;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], dest[FS_PATH_BYTES_MAX];
    (void)state;
    exported_new(&e);
    assert_ok(fs_join(dest, e.run.dir, "out", &err), &err);
    assert_err(train_export(e.run.output, NULL, "onnx", dest, &err), &err, ERR_INVALID);
    assert_err(train_export(e.run.output, NULL, "peft", e.mlx, &err), &err, ERR_CONFLICT);
    assert_err(train_export(e.run.dir, NULL, "peft", dest, &err), &err, ERR_NOT_FOUND);
    assert_ok(fs_join(path, e.run.output, "adapter.safetensors", &err), &err);
    assert_ok(fs_write_file(path, "other", 5, &err), &err);
    assert_err(train_export(e.run.output, NULL, "peft", dest, &err), &err, ERR_CORRUPT);
    assert_false(fs_exists(dest));
    fixture_free(&e.run);
}

static void test_failed_allocations(void **state)
{
    struct exported e;
    char dest[FS_PATH_BYTES_MAX];
    struct err err = {0};
    (void)state;
    exported_new(&e);
    assert_ok(fs_join(dest, e.run.dir, "out", &err), &err);
    for (uint64_t n = 1;; n++) {
        const size_t before = mem_used();
        err_clear(&err);
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = train_export(e.run.output, NULL, "peft", dest, &err);
        fault_disarm();
        assert_int_equal(mem_used(), before);
        assert_int_equal(rc == 0, fs_exists(dest));
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            break;
        }
        err_clear(&err);
        assert_ok(fs_remove_tree(dest, &err), &err);
    }
    fixture_free(&e.run);
}

static int write_exports(const char *dir)
{
    struct run_fixture f;
    struct err err = {0};
    char to[FS_PATH_BYTES_MAX];
    fixture_in(&f, dir, FIXTURE_CONFIG(FIXTURE_GOLDEN));
    snprintf(f.output, sizeof f.output, "%s/version", dir);
    f.spec.init_adapter_path = FIXTURE_INIT;
    int rc = train_run(&f.spec, NULL, &f.result, &err);
    if (rc == 0) {
        snprintf(to, sizeof to, "%s/mlx", dir);
        rc = train_export(f.output, NULL, "mlx", to, &err);
    }
    if (rc == 0) {
        snprintf(to, sizeof to, "%s/peft", dir);
        rc = train_export(f.output, NULL, "peft", to, &err);
    }
    if (rc != 0) {
        fprintf(stderr, "%s\n", err.message);
    }
    return rc != 0;
}

/* x·a·b at (row of a, column of b), of whichever factors the list has under this name. */
static double product(const struct tensor_view *views, size_t n, const char *stem, size_t row,
                      size_t col)
{
    const struct tensor_view *a = NULL, *b = NULL;
    char name[128];
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s.lora_a", stem);
        a = strcmp(views[i].name, name) == 0 ? &views[i] : a;
        snprintf(name, sizeof name, "%s.lora_b", stem);
        b = strcmp(views[i].name, name) == 0 ? &views[i] : b;
    }
    assert_non_null(a);
    assert_non_null(b);
    for (size_t k = 0; k < a->dims[1]; k++) {
        float x, y;
        memcpy(&x, a->data + (row * a->dims[1] + k) * sizeof x, sizeof x);
        memcpy(&y, b->data + (k * b->dims[1] + col) * sizeof y, sizeof y);
        sum += (double)x * (double)y;
    }
    return sum;
}

/* Factors of q and v, and of o, over a family that keeps q, k and v in one matrix. */
static void test_parts_of_a_fused_projection_are_joined(void **state)
{
    enum { HIDDEN = 8, HEADS = 4, KV = 2, HEAD = 2, RANK = 2 };
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } shapes[] = {
        {"model.layers.0.self_attn.o_proj.lora_a", HIDDEN, RANK},
        {"model.layers.0.self_attn.o_proj.lora_b", RANK, HIDDEN},
        {"model.layers.0.self_attn.q_proj.lora_a", HIDDEN, RANK},
        {"model.layers.0.self_attn.q_proj.lora_b", RANK, HEADS * HEAD},
        {"model.layers.0.self_attn.v_proj.lora_a", HIDDEN, RANK},
        {"model.layers.0.self_attn.v_proj.lora_b", RANK, KV * HEAD},
    };
    enum { N = sizeof shapes / sizeof shapes[0] };
    struct model_config config = {.family = architecture_of_hf("phi3"),
                                  .n_heads = HEADS,
                                  .n_kv_heads = KV,
                                  .head_dim = HEAD,
                                  .hidden = HIDDEN,
                                  .ffn = 16};
    static float values[N][HIDDEN * HEADS * HEAD];
    struct tensor_view views[N];
    struct safetensors *file;
    struct export_fused fused;
    struct err err = {0};
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    (void)state;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < shapes[i].rows * shapes[i].cols; k++) {
            values[i][k] = (float)((i * 31 + k * 7) % 13) - 6.0f;
        }
        views[i] = (struct tensor_view){.name = shapes[i].name,
                                        .type = TENSOR_F32,
                                        .n_dims = 2,
                                        .dims = {shapes[i].rows, shapes[i].cols},
                                        .data = (const uint8_t *)values[i],
                                        .bytes = shapes[i].rows * shapes[i].cols * sizeof(float)};
    }
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "a.safetensors", &err), &err);
    assert_ok(safetensors_write(path, views, N, NULL, 0, &err), &err);
    assert_ok(safetensors_open(path, &file, &err), &err);
    assert_ok(export_fuse(&fused, file, &config, &err), &err);
    assert_int_equal(fused.n, 4);
    assert_int_equal(fused.qkv_parts, 2);
    assert_int_equal(fused.gate_up_parts, 0);
    for (size_t row = 0; row < HIDDEN; row++) {
        for (size_t col = 0; col < (HEADS + 2 * KV) * HEAD; col++) {
            const size_t q = HEADS * HEAD, k = q + KV * HEAD;
            const double want =
                col < q   ? product(views, N, "model.layers.0.self_attn.q_proj", row, col)
                : col < k ? 0
                          : product(views, N, "model.layers.0.self_attn.v_proj", row, col - k);
            assert_true(product(fused.views, fused.n, "model.layers.0.self_attn.qkv_proj", row,
                                col) == want);
        }
    }
    export_fused_release(&fused);
    config.hidden = 4;
    assert_err(export_fuse(&fused, file, &config, &err), &err, ERR_CORRUPT);
    export_fused_release(&fused);
    safetensors_free(file);
    test_dir_remove(dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_of_a_fused_projection_are_joined),
        cmocka_unit_test(test_bytes_are_those_that_were_loaded),
        cmocka_unit_test(test_loss_of_a_row_is_peft_s),
        cmocka_unit_test(test_peft_factors_are_transposed),
        cmocka_unit_test(test_exports_come_back),
        cmocka_unit_test(test_what_does_not_come_in_is_said),
        cmocka_unit_test(test_upper_layers_and_rank_stabilised),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_failed_allocations),
    };
    if (argc == 3 && strcmp(argv[1], "export") == 0) {
        return write_exports(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
