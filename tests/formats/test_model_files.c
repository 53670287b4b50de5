/* Weights as they came: both containers of one model agree, every description that is wrong is
 * named, and what a model lacks is listed. */
#include "test.h"

#include <jansson.h>

#include "formats/gguf_builder.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"

static const char FOLDER[] = "tests/fixtures/formats/tiny-llama";
static const char GGUF_FILE[] = "tests/fixtures/formats/tiny-llama.gguf";

static void check_tiny(const struct model_files *files)
{
    const struct model_config *config = model_files_config(files);
    assert_string_equal(config->arch, "llama");
    assert_int_equal(config->n_layers, 2);
    assert_int_equal(config->n_heads, 4);
    assert_int_equal(config->n_kv_heads, 2);
    assert_int_equal(config->head_dim, 8);
    assert_int_equal(config->hidden, 32);
    assert_int_equal(config->ffn, 64);
    assert_int_equal(config->vocab, 48);
    assert_int_equal(config->context_length, 256);
    assert_true(config->rope_theta == 50000.0);
    assert_true((float)config->rms_eps == 1e-5f);
    assert_int_equal(config->rope_scaling.type, ROPE_SCALING_NONE);
    assert_true(config->tied_embeddings);
    assert_false(config->attention_bias);
    assert_false(config->mlp_bias);
    assert_int_equal(config->bos_id, 1);
    assert_int_equal(config->n_eos, 2);
    assert_int_equal(config->eos_ids[0], 2);
    assert_int_equal(config->eos_ids[1], 5);
    assert_string_equal(model_files_quantisation(files), "F16");
    assert_int_equal(model_files_parameters(files), 48 * 32 + 2 * (3072 + 6144 + 64) + 32);
    assert_int_equal(model_files_tensor_count(files), 20);
    assert_string_equal(model_files_chat_template(files),
                        "{% for m in messages %}{{ m['content'] }}{% endfor %}");
}

static void test_opens_a_folder(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *files = NULL;
    assert_ok(model_files_open(FOLDER, &files, &err), &err);
    check_tiny(files);
    assert_int_equal(model_files_container(files), MODEL_SAFETENSORS);
    assert_false(model_files_rope_permuted(files));
    assert_null(model_files_gguf(files));
    assert_null(model_files_tokenizer_path(files));
    assert_string_equal(
        json_string_value(json_object_get(model_files_tokenizer_config(files), "bos_token")),
        "<s>");
    assert_int_equal(model_files_weight_bytes(files), 2 * model_files_parameters(files));
    model_files_free(files);
    /* the weight file itself means its folder */
    assert_ok(model_files_open("tests/fixtures/formats/tiny-llama/model.safetensors", &files, &err),
              &err);
    check_tiny(files);
    model_files_free(files);
}

static void test_opens_gguf(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *files = NULL;
    assert_ok(model_files_open(GGUF_FILE, &files, &err), &err);
    check_tiny(files);
    assert_int_equal(model_files_container(files), MODEL_GGUF);
    assert_true(model_files_rope_permuted(files));
    assert_non_null(model_files_gguf(files));
    assert_null(model_files_tokenizer_path(files));
    assert_null(model_files_tokenizer_config(files));
    assert_int_equal(model_files_file_bytes(files), gguf_file_bytes(model_files_gguf(files)));
    model_files_free(files);
}

/* Every matrix of the GGUF file equals the folder's once q and k rows are put back. */
static void test_containers_agree(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *folder = NULL, *gguf = NULL;
    assert_ok(model_files_open(FOLDER, &folder, &err), &err);
    assert_ok(model_files_open(GGUF_FILE, &gguf, &err), &err);
    unsigned permuted = 0;
    for (size_t i = 0; i < model_files_tensor_count(folder); i++) {
        const struct tensor_view *a = model_files_tensor_at(folder, i);
        const struct tensor_view *b = model_files_tensor(gguf, a->name);
        assert_non_null(b);
        assert_int_equal(b->n_dims, a->n_dims);
        assert_memory_equal(b->dims, a->dims, a->n_dims * sizeof *a->dims);
        if (a->n_dims == 1)
            continue; /* norms are F32 there */
        uint64_t row_bytes = tensor_type_row_bytes(a->type, a->dims[1]);
        bool turned = strstr(a->name, "q_proj") || strstr(a->name, "k_proj");
        for (uint32_t row = 0; row < a->dims[0]; row++) {
            uint32_t from = turned ? model_rope_gguf_row(row, 8) : row;
            permuted += from != row;
            assert_memory_equal(b->data + from * row_bytes, a->data + row * row_bytes, row_bytes);
        }
    }
    assert_true(permuted > 0);
    model_files_free(folder);
    model_files_free(gguf);
}

static void test_lookups(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *files = NULL;
    assert_ok(model_files_open(GGUF_FILE, &files, &err), &err);
    assert_ptr_equal(model_files_layer_tensor(files, 1, "mlp.gate_proj.weight"),
                     model_files_tensor(files, "model.layers.1.mlp.gate_proj.weight"));
    assert_non_null(model_files_layer_tensor(files, 1, "mlp.gate_proj.weight"));
    assert_null(model_files_layer_tensor(files, 2, "mlp.gate_proj.weight"));
    assert_null(model_files_tensor(files, "blk.0.attn_q.weight"));
    assert_null(model_files_tensor(files, "lm_head.weight"));
    model_files_free(files);
}

static void test_rope_rows(void **state)
{
    (void)state;
    static const uint32_t OF_8[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    for (uint32_t row = 0; row < 16; row++)
        assert_int_equal(model_rope_gguf_row(row, 8), OF_8[row]);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    const char *const paths[] = {FOLDER, GGUF_FILE};
    size_t used = mem_used();
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t nth = 1;; nth++) {
            struct err err = {0};
            struct model_files *files = NULL;
            fault_arm(FAULT_MALLOC, nth, false);
            int rc = model_files_open(paths[i], &files, &err);
            bool fired = fault_fired();
            fault_disarm();
            model_files_free(files);
            assert_int_equal(mem_used(), used);
            if (!fired) {
                assert_int_equal(rc, 0);
                break;
            }
            assert_int_equal(rc, -ERR_NOMEM);
        }
    }
}

/* --- a folder with one thing changed --- */

static void put_text(const char *dir, const char *name, const char *text)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(path, dir, name, &err), &err);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
}

static void copy_file(const char *dir, const char *name)
{
    struct err err = {0};
    char from[FS_PATH_BYTES_MAX], to[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(from, FOLDER, name, &err), &err);
    assert_ok(fs_join(to, dir, name, &err), &err);
    assert_ok(fs_copy_file(from, to, &err), &err);
}

/* config.json of the fixture with `patch` merged into it; a null member takes one out. */
static void put_config(const char *dir, const char *patch)
{
    json_error_t why;
    json_t *root = json_load_file("tests/fixtures/formats/tiny-llama/config.json", 0, &why);
    json_t *changes = json_loads(patch, 0, &why);
    assert_non_null(root);
    assert_non_null(changes);
    assert_int_equal(json_object_update(root, changes), 0);
    char text[4096];
    size_t n = json_dumpb(root, text, sizeof text - 1, 0);
    assert_in_range(n, 1, sizeof text - 1);
    text[n] = '\0';
    put_text(dir, "config.json", text);
    json_decref(root);
    json_decref(changes);
}

static void test_wrong_configs_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *patch;
        enum err_code code;
        const char *says;
    } ROWS[] = {
        {"architecture", "{\"model_type\":\"mamba\"}", ERR_UNSUPPORTED,
         "architecture 'mamba' is not supported (llama, "},
        {"no architecture", "{\"model_type\":null}", ERR_CORRUPT, "\"model_type\" is missing"},
        {"architecture's type", "{\"model_type\":5}", ERR_CORRUPT,
         "\"model_type\" is of the wrong"},
        {"missing size", "{\"hidden_size\":null}", ERR_CORRUPT, "\"hidden_size\" is missing"},
        {"size's type", "{\"hidden_size\":\"32\"}", ERR_CORRUPT,
         "\"hidden_size\" is of the wrong type, expected an integer"},
        {"real size", "{\"hidden_size\":32.5}", ERR_CORRUPT,
         "\"hidden_size\" is of the wrong type"},
        {"negative size", "{\"vocab_size\":-1}", ERR_CORRUPT, "\"vocab_size\" is -1"},
        {"size over 2^32", "{\"vocab_size\":4294967296}", ERR_CORRUPT, "out of range"},
        {"zero layers", "{\"num_hidden_layers\":0}", ERR_CORRUPT, "the number of layers is 0"},
        {"too many layers", "{\"num_hidden_layers\":9999}", ERR_CORRUPT, "from 1 to 1024"},
        {"zero heads", "{\"num_attention_heads\":0,\"head_dim\":null}", ERR_CORRUPT,
         "the number of heads is 0"},
        {"odd head", "{\"head_dim\":7}", ERR_CORRUPT, "must be even"},
        {"heads do not share", "{\"num_key_value_heads\":3}", ERR_CORRUPT, "cannot share"},
        {"epsilon", "{\"rms_norm_eps\":0}", ERR_CORRUPT, "epsilon"},
        {"flag's type", "{\"tie_word_embeddings\":1}", ERR_CORRUPT, "expected a bool"},
        {"theta", "{\"rope_parameters\":{\"rope_theta\":-1}}", ERR_CORRUPT, "rope_theta is -1"},
        {"rope's type", "{\"rope_parameters\":[]}", ERR_CORRUPT, "\"rope_parameters\" is of the"},
        {"rope scaling", "{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}}", ERR_UNSUPPORTED,
         "rope scaling 'dynamic'"},
        {"factor", "{\"rope_parameters\":{\"rope_type\":\"linear\"}}", ERR_CORRUPT,
         "the rope scaling factor is 0"},
        {"frequency factors",
         "{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
         "\"high_freq_factor\":1,\"original_max_position_embeddings\":64}}",
         ERR_CORRUPT, "high_freq_factor is 1"},
        {"activation", "{\"hidden_act\":\"gelu\"}", ERR_UNSUPPORTED, "activation 'gelu'"},
        {"quantised", "{\"quantization\":{\"bits\":4}}", ERR_UNSUPPORTED, "\"quantization\""},
        {"quantised by another method",
         "{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":128}}",
         ERR_UNSUPPORTED, "\"quantization_config\""},
        {"quantised, its type", "{\"quantization\":4}", ERR_CORRUPT, "expected an object"},
        {"quantised, its bits", "{\"quantization\":{\"bits\":\"4\",\"group_size\":64}}",
         ERR_CORRUPT, "\"bits\" is of the wrong type"},
        {"three bits", "{\"quantization\":{\"bits\":3,\"group_size\":64}}", ERR_UNSUPPORTED,
         "3 bits in groups of 64"},
        {"groups of 16", "{\"quantization\":{\"bits\":4,\"group_size\":16}}", ERR_UNSUPPORTED,
         "4 bits in groups of 16"},
        {"another mode", "{\"quantization\":{\"bits\":4,\"group_size\":32,\"mode\":\"mxfp4\"}}",
         ERR_UNSUPPORTED, "is mxfp4"},
        {"end token outside", "{\"eos_token_id\":48}", ERR_CORRUPT, "end token 48 is outside"},
        {"end token's type", "{\"eos_token_id\":[\"x\"]}", ERR_CORRUPT, "\"eos_token_id\""},
        {"too many end tokens", "{\"eos_token_id\":[1,3,4,6,7,8,9,10,11,12,13,14,15,16,17,18,19]}",
         ERR_CORRUPT, "more than 16 end tokens"},
        {"begin token outside", "{\"bos_token_id\":48}", ERR_CORRUPT, "begin token 48 is outside"},
        {"missing tensors", "{\"num_hidden_layers\":3}", ERR_CORRUPT,
         "missing tensors: model.layers.2.input_layernorm.weight, "},
        {"many missing tensors", "{\"num_hidden_layers\":4}", ERR_CORRUPT, "and 10 more"},
        {"untied without a head", "{\"tie_word_embeddings\":false}", ERR_CORRUPT,
         "missing tensors: lm_head.weight"},
        {"biases that are not there", "{\"attention_bias\":true}", ERR_CORRUPT,
         "missing tensors: model.layers.0.self_attn.q_proj.bias"},
        {"wrong shape", "{\"intermediate_size\":48}", ERR_CORRUPT,
         "tensors of the wrong shape: model.layers.0.mlp.gate_proj.weight is [64, 32], expected "
         "[48, 32]"},
        {"wrong vocabulary", "{\"vocab_size\":50}", ERR_CORRUPT,
         "model.embed_tokens.weight is [48, 32], expected [50, 32]"},
    };
    char dir[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    copy_file(dir, "model.safetensors");
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct model_files *files = NULL;
        size_t used = mem_used();
        put_config(dir, ROWS[i].patch);
        int rc = model_files_open(dir, &files, &err);
        if (rc != -(int)ROWS[i].code || !strstr(err.message, ROWS[i].says))
            fail_msg("%s: got %d \"%s\"", ROWS[i].kind, rc, err.message);
        assert_int_equal(mem_used(), used);
    }
    test_dir_remove(dir);
}

static void test_rope_scaling_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *patch;
        struct rope_scaling want;
        double theta;
    } ROWS[] = {
        {"{\"rope_parameters\":null,\"rope_theta\":7,\"rope_scaling\":{\"type\":\"linear\","
         "\"factor\":2.5}}",
         {.type = ROPE_SCALING_LINEAR, .factor = 2.5},
         7},
        {"{\"rope_parameters\":{\"rope_theta\":9,\"rope_type\":\"llama3\",\"factor\":8,"
         "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
         {.type = ROPE_SCALING_LLAMA3,
          .factor = 8,
          .low_freq_factor = 1,
          .high_freq_factor = 4,
          .original_context = 64},
         9},
        {"{\"rope_parameters\":null,\"rope_scaling\":null}", {0}, 10000},
    };
    char dir[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    copy_file(dir, "model.safetensors");
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct model_files *files = NULL;
        put_config(dir, ROWS[i].patch);
        assert_ok(model_files_open(dir, &files, &err), &err);
        const struct model_config *config = model_files_config(files);
        assert_int_equal(config->rope_scaling.type, ROWS[i].want.type);
        assert_true(config->rope_scaling.factor == ROWS[i].want.factor);
        assert_true(config->rope_scaling.low_freq_factor == ROWS[i].want.low_freq_factor);
        assert_true(config->rope_scaling.high_freq_factor == ROWS[i].want.high_freq_factor);
        assert_int_equal(config->rope_scaling.original_context, ROWS[i].want.original_context);
        assert_true(config->rope_theta == ROWS[i].theta);
        model_files_free(files);
    }
    test_dir_remove(dir);
}

static void test_templates(void **state)
{
    (void)state;
    static const struct {
        const char *config, *file, *want, *tools;
    } ROWS[] = {
        {"{}", NULL, NULL, NULL},
        {"{\"chat_template\":null}", NULL, NULL, NULL},
        {"{\"chat_template\":\"A\"}", NULL, "A", NULL},
        {"{\"chat_template\":\"A\"}", "B\n", "B\n", NULL},
        {"{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"},"
         "{\"name\":\"default\",\"template\":\"D\"}]}",
         NULL, "D", "T"},
        {"{\"chat_template\":[{\"name\":\"rag\",\"template\":\"R\"},{\"name\":\"default\"}]}", NULL,
         NULL, NULL},
    };
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    copy_file(dir, "model.safetensors");
    copy_file(dir, "config.json");
    struct err err = {0};
    assert_ok(fs_join(path, dir, "chat_template.jinja", &err), &err);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct model_files *files = NULL;
        put_text(dir, "tokenizer_config.json", ROWS[i].config);
        put_text(dir, "tokenizer.json", "{}");
        assert_ok(fs_remove_file(path, &err), &err);
        if (ROWS[i].file)
            put_text(dir, "chat_template.jinja", ROWS[i].file);
        assert_ok(model_files_open(dir, &files, &err), &err);
        assert_non_null(strstr(model_files_tokenizer_path(files), "/tokenizer.json"));
        const char *text = model_files_chat_template(files);
        if (ROWS[i].want)
            assert_string_equal(text, ROWS[i].want);
        else
            assert_null(text);
        text = model_files_tool_template(files);
        if (ROWS[i].tools)
            assert_string_equal(text, ROWS[i].tools);
        else
            assert_null(text);
        model_files_free(files);
    }
    struct model_files *files = NULL;
    put_text(dir, "tokenizer_config.json", "{\"chat_template\":7}");
    assert_ok(fs_remove_file(path, &err), &err);
    assert_err(model_files_open(dir, &files, &err), &err, ERR_CORRUPT);
    put_text(dir, "chat_template.jinja", "\xff");
    assert_err(model_files_open(dir, &files, &err), &err, ERR_CORRUPT);
    test_dir_remove(dir);
}

/* --- the folder itself --- */

static void test_wrong_paths_are_named(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *files = NULL;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "missing", &err), &err);
    assert_err(model_files_open(path, &files, &err), &err, ERR_NOT_FOUND);
    assert_int_equal(model_files_open(dir, &files, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no config.json, and 0 .gguf files"));
    err_clear(&err);
    put_text(dir, "weights.bin", "not weights at all");
    assert_ok(fs_join(path, dir, "weights.bin", &err), &err);
    assert_int_equal(model_files_open(path, &files, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "neither a GGUF nor a safetensors file"));
    err_clear(&err);
    put_text(dir, "config.json", "{\"a\":");
    assert_int_equal(model_files_open(dir, &files, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "config.json: invalid JSON"));
    err_clear(&err);
    put_text(dir, "config.json", "{\"a\":\"\xff\"}");
    assert_int_equal(model_files_open(dir, &files, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "config.json: invalid UTF-8"));
    err_clear(&err);
    copy_file(dir, "config.json");
    assert_int_equal(model_files_open(dir, &files, &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "neither model.safetensors nor"));
    test_dir_remove(dir);
}

static void test_a_folder_with_one_gguf_file(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *files = NULL;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "a.gguf", &err), &err);
    assert_ok(fs_copy_file(GGUF_FILE, path, &err), &err);
    assert_ok(model_files_open(dir, &files, &err), &err);
    check_tiny(files);
    model_files_free(files);
    assert_ok(fs_join(path, dir, "0123abcd", &err), &err); /* a blob: no suffix */
    assert_ok(fs_copy_file(GGUF_FILE, path, &err), &err);
    assert_ok(model_files_open(path, &files, &err), &err);
    model_files_free(files);
    assert_ok(fs_join(path, dir, "b.gguf", &err), &err);
    assert_ok(fs_copy_file(GGUF_FILE, path, &err), &err);
    assert_err(model_files_open(dir, &files, &err), &err, ERR_NOT_FOUND);
    test_dir_remove(dir);
}

static void test_shards(void **state)
{
    (void)state;
    struct err err = {0};
    struct safetensors *whole = NULL;
    struct model_files *files = NULL;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    copy_file(dir, "config.json");
    copy_file(dir, "generation_config.json");
    copy_file(dir, "tokenizer_config.json");
    assert_ok(safetensors_open("tests/fixtures/formats/tiny-llama/model.safetensors", &whole, &err),
              &err);
    size_t n = safetensors_tensor_count(whole), half = n / 2;
    struct buf index;
    buf_init(&index, 1 << 16);
    buf_puts(&index, "{\"weight_map\":{");
    for (size_t i = 0; i < n; i++)
        buf_printf(&index, "%s\"%s\":\"%d.safetensors\"", i ? "," : "",
                   safetensors_tensor_at(whole, i)->name, i < half ? 1 : 2);
    buf_puts(&index, "}}");
    put_text(dir, "model.safetensors.index.json", index.data);
    assert_ok(fs_join(path, dir, "1.safetensors", &err), &err);
    assert_ok(safetensors_write(path, safetensors_tensor_at(whole, 0), half, NULL, 0, &err), &err);
    assert_ok(fs_join(path, dir, "2.safetensors", &err), &err);
    assert_ok(safetensors_write(path, safetensors_tensor_at(whole, half), n - half, NULL, 0, &err),
              &err);
    assert_ok(model_files_open(dir, &files, &err), &err);
    check_tiny(files);
    model_files_free(files);
    safetensors_free(whole);
    buf_release(&index);
    test_dir_remove(dir);
}

/* --- GGUF descriptions --- */

enum gguf_change {
    AS_IT_IS,
    OTHER_ARCH,
    NO_ARCH,
    ARCH_TYPE,
    NO_HEADS,
    HEADS_TYPE,
    NO_EPS,
    EXPERTS,
    DYNAMIC,
    FREQS,
    FREQS_SHAPE,
    PARTIAL_ROPE,
    TEMPLATE_NUL,
    EOS_OUTSIDE,
    TYPE_K,
    NORM_QUANTISED,
    Q_SHAPE,
    NO_NORM,
    BOTH_NAMES,
    WITH_BIAS,
    UNTIED,
};

struct plan {
    struct buf kv, records;
    uint64_t n_kv, n_tensors, offset;
};

static void add_tensor(struct plan *plan, const char *name, uint64_t rows, uint64_t cols,
                       uint32_t type)
{
    uint64_t dims[2] = {cols, rows};
    uint64_t bytes = rows * (type == FILE_Q8_0   ? cols / 32 * 34
                             : type == FILE_Q2_K ? 84
                                                 : cols * 4);
    put_tensor(&plan->records, name, rows == 1 ? 1 : 2, dims, type, plan->offset);
    plan->offset += (bytes + 31) / 32 * 32;
    plan->n_tensors++;
}

static void add_layer(struct plan *plan, enum gguf_change change)
{
    uint32_t q_type = change == TYPE_K ? FILE_Q2_K : FILE_F32;
    add_tensor(plan, "blk.0.attn_norm.weight", 1, 256, FILE_F32);
    add_tensor(plan, "blk.0.attn_q.weight", change == Q_SHAPE ? 128 : 256, 256, q_type);
    add_tensor(plan, "blk.0.attn_k.weight", 128, 256, FILE_F32);
    add_tensor(plan, "blk.0.attn_v.weight", 128, 256, FILE_F32);
    add_tensor(plan, "blk.0.attn_output.weight", 256, 256, FILE_F32);
    add_tensor(plan, "blk.0.ffn_norm.weight", 1, 256,
               change == NORM_QUANTISED ? FILE_Q8_0 : FILE_F32);
    add_tensor(plan, "blk.0.ffn_gate.weight", 32, 256, FILE_F32);
    add_tensor(plan, "blk.0.ffn_up.weight", 32, 256, FILE_F32);
    add_tensor(plan, "blk.0.ffn_down.weight", 256, 32, FILE_F32);
    if (change == WITH_BIAS) {
        add_tensor(plan, "blk.0.attn_q.bias", 1, 256, FILE_F32);
        add_tensor(plan, "blk.0.attn_k.bias", 1, 128, FILE_F32);
        add_tensor(plan, "blk.0.attn_v.bias", 1, 128, FILE_F32);
        add_tensor(plan, "blk.0.attn_output.bias", 1, 256, FILE_F32);
    }
}

static void add_kv(struct plan *plan, enum gguf_change change)
{
    struct buf *kv = &plan->kv;
    if (change == ARCH_TYPE)
        put_kv_u32(kv, "general.architecture", 1), plan->n_kv++;
    else if (change != NO_ARCH)
        put_kv_string(kv, "general.architecture", change == OTHER_ARCH ? "rwkv7" : "llama"),
            plan->n_kv++;
    if (change == HEADS_TYPE)
        put_kv_f32(kv, "llama.attention.head_count", 4.0f), plan->n_kv++;
    else if (change != NO_HEADS)
        put_kv_u32(kv, "llama.attention.head_count", 4), plan->n_kv++;
    if (change != NO_EPS)
        put_kv_f32(kv, "llama.attention.layer_norm_rms_epsilon", 1e-5f), plan->n_kv++;
    if (change == EXPERTS)
        put_kv_u32(kv, "llama.expert_count", 8), plan->n_kv++;
    if (change == DYNAMIC)
        put_kv_string(kv, "llama.rope.scaling.type", "dynamic"), plan->n_kv++;
    if (change == PARTIAL_ROPE)
        put_kv_u32(kv, "llama.rope.dimension_count", 32), plan->n_kv++;
    if (change == TEMPLATE_NUL) {
        put_key(kv, "tokenizer.chat_template", GGUF_STRING);
        put_string_n(kv, "a\0b", 3), plan->n_kv++;
    }
    if (change == EOS_OUTSIDE)
        put_kv_u32(kv, "tokenizer.ggml.eos_token_id", 40), plan->n_kv++;
    put_kv_u32(kv, "llama.attention.head_count_kv", 2);
    put_kv_u32(kv, "llama.block_count", 1);
    put_kv_u32(kv, "llama.context_length", 64);
    put_kv_u32(kv, "llama.embedding_length", 256);
    put_kv_u32(kv, "llama.feed_forward_length", 32);
    plan->n_kv += 5;
}

static void build_model(struct buf *out, enum gguf_change change)
{
    struct plan plan = {0};
    buf_init(&plan.kv, GGUF_BUILDER_BYTES_MAX);
    buf_init(&plan.records, GGUF_BUILDER_BYTES_MAX);
    add_kv(&plan, change);
    add_tensor(&plan, "token_embd.weight", 40, 256, FILE_F32);
    if (change != NO_NORM)
        add_tensor(&plan, "output_norm.weight", 1, 256, FILE_F32);
    if (change == UNTIED)
        add_tensor(&plan, "output.weight", 40, 256, FILE_Q8_0);
    if (change == FREQS || change == FREQS_SHAPE)
        add_tensor(&plan, "rope_freqs.weight", 1, change == FREQS ? 32 : 16, FILE_F32);
    if (change == BOTH_NAMES)
        add_tensor(&plan, "model.norm.weight", 1, 256, FILE_F32);
    add_layer(&plan, change);
    put_header(out, 3, plan.n_tensors, plan.n_kv);
    buf_append(out, plan.kv.data, plan.kv.len);
    buf_append(out, plan.records.data, plan.records.len);
    put_padding(out, 32);
    put_data(out, plan.offset);
    buf_release(&plan.kv);
    buf_release(&plan.records);
}

static int open_built(const char *path, enum gguf_change change, struct model_files **files,
                      struct err *err)
{
    struct buf file;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    build_model(&file, change);
    assert_ok(fs_write_file(path, file.data, file.len, err), err);
    buf_release(&file);
    return model_files_open(path, files, err);
}

static void test_wrong_gguf_models_are_named(void **state)
{
    (void)state;
    static const struct {
        enum gguf_change change;
        enum err_code code;
        const char *says;
    } ROWS[] = {
        {OTHER_ARCH, ERR_UNSUPPORTED, "architecture 'rwkv7' is not supported (llama, "},
        {NO_ARCH, ERR_CORRUPT, "missing metadata: 'general.architecture'"},
        {ARCH_TYPE, ERR_CORRUPT, "'general.architecture' is of type u32, expected a string"},
        {NO_HEADS, ERR_CORRUPT, "missing metadata: 'llama.attention.head_count'"},
        {HEADS_TYPE, ERR_CORRUPT, "'llama.attention.head_count' is of type f32"},
        {NO_EPS, ERR_CORRUPT, "missing metadata: 'llama.attention.layer_norm_rms_epsilon'"},
        {EXPERTS, ERR_UNSUPPORTED, "mixtures of experts (8 here)"},
        {DYNAMIC, ERR_UNSUPPORTED, "rope scaling 'dynamic'"},
        {FREQS_SHAPE, ERR_CORRUPT, "rope_freqs.weight is [16], expected [32]"},
        {PARTIAL_ROPE, ERR_UNSUPPORTED, "heads of 64 with rope over 32"},
        {TEMPLATE_NUL, ERR_CORRUPT, "the chat template holds a NUL"},
        {EOS_OUTSIDE, ERR_CORRUPT, "end token 40 is outside the vocabulary (40)"},
        {TYPE_K, ERR_UNSUPPORTED, "model.layers.0.self_attn.q_proj.weight is Q2_K"},
        {NORM_QUANTISED, ERR_UNSUPPORTED, "post_attention_layernorm.weight is Q8_0"},
        {Q_SHAPE, ERR_CORRUPT,
         "tensors of the wrong shape: model.layers.0.self_attn.q_proj.weight is [128, 256], "
         "expected [256, 256]"},
        {NO_NORM, ERR_CORRUPT, "missing tensors: model.norm.weight"},
        {BOTH_NAMES, ERR_CORRUPT, "two tensors stand for 'model.norm.weight'"},
    };
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "m.gguf", &err), &err);
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct model_files *files = NULL;
        size_t used = mem_used();
        err_clear(&err);
        int rc = open_built(path, ROWS[i].change, &files, &err);
        if (rc != -(int)ROWS[i].code || !strstr(err.message, ROWS[i].says))
            fail_msg("row %zu: got %d \"%s\"", i, rc, err.message);
        assert_int_equal(mem_used(), used);
    }
    test_dir_remove(dir);
}

static void test_gguf_variants_open(void **state)
{
    (void)state;
    struct err err = {0};
    struct model_files *files = NULL;
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(fs_join(path, dir, "m.gguf", &err), &err);
    assert_ok(open_built(path, AS_IT_IS, &files, &err), &err);
    assert_int_equal(model_files_config(files)->vocab, 40);
    assert_int_equal(model_files_config(files)->bos_id, MODEL_TOKEN_NONE);
    assert_int_equal(model_files_config(files)->n_eos, 0);
    assert_null(model_files_chat_template(files));
    model_files_free(files);
    assert_ok(open_built(path, FREQS, &files, &err), &err);
    assert_int_equal(model_files_config(files)->rope_scaling.type, ROPE_SCALING_FACTORS);
    assert_non_null(model_files_tensor(files, "rope_freqs.weight"));
    model_files_free(files);
    assert_ok(open_built(path, WITH_BIAS, &files, &err), &err);
    assert_true(model_files_config(files)->attention_bias);
    assert_non_null(model_files_layer_tensor(files, 0, "self_attn.o_proj.bias"));
    model_files_free(files);
    assert_ok(open_built(path, UNTIED, &files, &err), &err);
    assert_false(model_files_config(files)->tied_embeddings);
    assert_int_equal(model_files_tensor(files, "lm_head.weight")->type, TENSOR_Q8_0);
    model_files_free(files);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_a_folder),
        cmocka_unit_test(test_opens_gguf),
        cmocka_unit_test(test_containers_agree),
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_rope_rows),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_wrong_configs_are_named),
        cmocka_unit_test(test_rope_scaling_is_read),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_wrong_paths_are_named),
        cmocka_unit_test(test_a_folder_with_one_gguf_file),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_wrong_gguf_models_are_named),
        cmocka_unit_test(test_gguf_variants_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
