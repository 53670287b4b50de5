/* Every weight type that a file may hold, as a model: a tiny random one in that type and its twin
 * in fp32, made of the de-quantised values. Served, only 8-bit activations stand between the two;
 * in training nothing does; and no instruction set leaves a trace. */
#include <math.h>

#include "engine/engine.h"
#include "formats/dequant.h"
#include "formats/gguf_builder.h"
#include "formats/model_files.h"
#include "formats/safetensors.h"
#include "kernels/half.h"
#include "kernels/kernels.h"
#include "test.h"

enum { D = 256, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 64, VOCAB = 64, TOKENS = 24 };
enum { TENSORS = 12, MATRICES = 9, VIEWS_MAX = TENSORS + 2 * MATRICES };

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_act\":\"silu\",\"hidden_size\":256,"
    "\"intermediate_size\":256,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
    "\"num_key_value_heads\":2,\"head_dim\":64,\"vocab_size\":64,\"max_position_embeddings\":64,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":false%s}";

static const struct {
    const char *name, *gguf_name;
    uint64_t rows; /* 1: a norm */
    size_t head;   /* rows stand in GGUF's order */
} parts[TENSORS] = {
    {"model.embed_tokens", "token_embd", VOCAB, 0},
    {"lm_head", "output", VOCAB, 0},
    {"model.layers.0.self_attn.q_proj", "blk.0.attn_q", HEADS *HEAD_DIM, HEAD_DIM},
    {"model.layers.0.self_attn.k_proj", "blk.0.attn_k", KV_HEADS *HEAD_DIM, HEAD_DIM},
    {"model.layers.0.self_attn.v_proj", "blk.0.attn_v", KV_HEADS *HEAD_DIM, 0},
    {"model.layers.0.self_attn.o_proj", "blk.0.attn_output", D, 0},
    {"model.layers.0.mlp.gate_proj", "blk.0.ffn_gate", D, 0},
    {"model.layers.0.mlp.up_proj", "blk.0.ffn_up", D, 0},
    {"model.layers.0.mlp.down_proj", "blk.0.ffn_down", D, 0},
    {"model.norm", "output_norm", 1, 0},
    {"model.layers.0.input_layernorm", "blk.0.attn_norm", 1, 0},
    {"model.layers.0.post_attention_layernorm", "blk.0.ffn_norm", 1, 0},
};

/* How values come to about 0.05 and a mean of zero: two scales and where in a block they lie. */
struct type_case {
    const char *name;
    enum tensor_type type;
    uint32_t file_type; /* GGUF's number */
    float d, m;
    size_t d_at, m_at;
    enum tensor_type scale_type; /* MLX only, */
    uint32_t group;              /* 0 for GGUF */
};

static const struct type_case cases[] = {
    {"Q4_0", TENSOR_Q4_0, 2, 0.012f, 0, 0, 0, TENSOR_F16, 0},
    {"Q4_1", TENSOR_Q4_1, 3, 0.012f, -0.09f, 0, 2, TENSOR_F16, 0},
    {"Q5_0", TENSOR_Q5_0, 6, 0.006f, 0, 0, 0, TENSOR_F16, 0},
    {"Q5_1", TENSOR_Q5_1, 7, 0.006f, -0.093f, 0, 2, TENSOR_F16, 0},
    {"Q8_0", TENSOR_Q8_0, 8, 0.00075f, 0, 0, 0, TENSOR_F16, 0},
    {"Q4_K", TENSOR_Q4_K, 12, 0.00038f, 0.0029f, 0, 2, TENSOR_F16, 0},
    {"Q5_K", TENSOR_Q5_K, 13, 0.00019f, 0.0029f, 0, 2, TENSOR_F16, 0},
    {"Q6_K", TENSOR_Q6_K, 14, 0.000062f, 0, 208, 208, TENSOR_F16, 0},
    {"MLX 4 bits by 32, fp16", TENSOR_MLX4, 0, 0.012f, -0.09f, 0, 0, TENSOR_F16, 32},
    {"MLX 4 bits by 64, bf16", TENSOR_MLX4, 0, 0.012f, -0.09f, 0, 0, TENSOR_BF16, 64},
    {"MLX 4 bits by 128, fp32", TENSOR_MLX4, 0, 0.012f, -0.09f, 0, 0, TENSOR_F32, 128},
    {"MLX 8 bits by 32, bf16", TENSOR_MLX8, 0, 0.00075f, -0.0956f, 0, 0, TENSOR_BF16, 32},
    {"MLX 8 bits by 64, fp16", TENSOR_MLX8, 0, 0.00075f, -0.0956f, 0, 0, TENSOR_F16, 64},
    {"MLX 8 bits by 128, fp32", TENSOR_MLX8, 0, 0.00075f, -0.0956f, 0, 0, TENSOR_F32, 128},
};

/* One tensor as the file has it, and its fp32 values in Hugging Face's order. */
struct made {
    struct tensor_view view;
    uint8_t bytes[D * D * 2];
    uint8_t scales[D * D / 16 * 4], biases[D * D / 16 * 4];
    float values[D * D];
};

static uint32_t random_state;

static float random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) * 0x1p-23f - 1.0f;
}

static void put_scale(enum tensor_type type, uint8_t *at, float value)
{
    const uint16_t half = half_from_float(value);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t bfloat = (uint16_t)(bits >> 16);
    if (type == TENSOR_F32) {
        memcpy(at, &value, sizeof value);
    } else {
        memcpy(at, type == TENSOR_F16 ? &half : &bfloat, sizeof half);
    }
}

static void make_norm(struct made *made)
{
    made->view = (struct tensor_view){.type = TENSOR_F32, .n_dims = 1, .dims = {D}};
    for (size_t i = 0; i < D; i++) {
        made->values[i] = 1.0f + 0.3f * random_value();
    }
    memcpy(made->bytes, made->values, D * sizeof(float));
    made->view.data = made->bytes;
    made->view.bytes = D * sizeof(float);
}

static void make_matrix(struct made *made, const struct type_case *c, uint64_t rows, size_t head)
{
    const uint64_t bytes = rows * tensor_type_row_bytes(c->type, D);
    const uint32_t block = tensor_type_block_bytes(c->type);
    made->view = (struct tensor_view){.type = c->type,
                                      .n_dims = 2,
                                      .dims = {rows, D},
                                      .data = made->bytes,
                                      .bytes = bytes,
                                      .scales = made->scales,
                                      .biases = made->biases,
                                      .scale_type = c->scale_type,
                                      .group = c->group};
    for (uint64_t i = 0; i < bytes; i++) {
        made->bytes[i] = (uint8_t)(128.0f * (random_value() + 1.0f));
    }
    for (uint64_t b = 0; c->group == 0 && b < bytes / block; b++) {
        const float size = 1.0f + 0.2f * random_value();
        put_scale(TENSOR_F16, made->bytes + b * block + c->d_at, size * c->d);
        if (c->m != 0) {
            put_scale(TENSOR_F16, made->bytes + b * block + c->m_at, size * c->m);
        }
    }
    for (uint64_t g = 0; c->group > 0 && g < rows * D / c->group; g++) {
        const float size = 1.0f + 0.2f * random_value();
        const size_t at = g * tensor_type_block_bytes(c->scale_type);
        put_scale(c->scale_type, made->scales + at, size * c->d);
        put_scale(c->scale_type, made->biases + at, size * c->m);
    }
    for (uint64_t r = 0; r < rows; r++) {
        const bool permuted = head > 0 && c->group == 0;
        const uint64_t from = permuted ? model_rope_gguf_row((uint32_t)r, (uint32_t)head) : r;
        tensor_dequant_row(&made->view, from, made->values + r * D);
    }
}

static void write_gguf(const char *path, const struct made *made, const struct type_case *c)
{
    struct err err = {0};
    struct buf out;
    uint64_t offset = 0;
    buf_init(&out, GGUF_BUILDER_BYTES_MAX);
    put_header(&out, 3, TENSORS, 8);
    put_kv_string(&out, "general.architecture", "llama");
    put_kv_u32(&out, "llama.attention.head_count", HEADS);
    put_kv_u32(&out, "llama.attention.head_count_kv", KV_HEADS);
    put_kv_f32(&out, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_kv_u32(&out, "llama.block_count", 1);
    put_kv_u32(&out, "llama.context_length", 64);
    put_kv_u32(&out, "llama.embedding_length", D);
    put_kv_u32(&out, "llama.feed_forward_length", D);
    for (size_t i = 0; i < TENSORS; i++) {
        char name[64];
        const bool norm = parts[i].rows == 1;
        const uint64_t dims[2] = {D, parts[i].rows};
        snprintf(name, sizeof name, "%s.weight", parts[i].gguf_name);
        put_tensor(&out, name, norm ? 1 : 2, dims, norm ? FILE_F32 : c->file_type, offset);
        offset += (made[i].view.bytes + 31) / 32 * 32;
    }
    for (size_t i = 0; i < TENSORS; i++) {
        put_padding(&out, 32);
        buf_append(&out, made[i].view.data, made[i].view.bytes);
    }
    put_padding(&out, 32);
    assert_ok(fs_write_file(path, out.data, out.len, &err), &err);
    buf_release(&out);
}

/* One more view of `views`, named "<part>.<what>". */
static void add_view(struct tensor_view *views, char (*names)[96], size_t *n, const char *part,
                     const char *what, struct tensor_view view)
{
    snprintf(names[*n], sizeof names[*n], "%s.%s", part, what);
    view.name = names[*n];
    views[(*n)++] = view;
}

/* What test_affine_shapes_that_do_not_fit_are_named asks for of up_proj. */
static uint64_t wrong_words;
static enum tensor_type wrong_biases = TENSOR_TYPE_COUNT;

static void write_folder(const char *folder, const struct made *made, bool twin, const char *more)
{
    struct err err = {0};
    static struct tensor_view views[VIEWS_MAX];
    static char names[VIEWS_MAX][96];
    char path[FS_PATH_BYTES_MAX], text[1024];
    size_t n = 0;
    for (size_t i = 0; i < TENSORS; i++) {
        struct tensor_view view = made[i].view;
        const uint64_t elements = tensor_view_elements(&view);
        if (twin) {
            view.type = TENSOR_F32;
            view.data = (const uint8_t *)made[i].values;
            view.bytes = elements * sizeof(float);
        } else if (parts[i].rows > 1) {
            struct tensor_view scales = view;
            scales.type = view.scale_type;
            scales.dims[1] = D / view.group;
            scales.bytes = elements / view.group * tensor_type_block_bytes(view.scale_type);
            scales.data = made[i].scales;
            const bool wrong =
                wrong_biases != TENSOR_TYPE_COUNT && strstr(parts[i].name, "up_proj") != NULL;
            if (wrong && wrong_biases == TENSOR_I16) {
                scales.type = TENSOR_I16;
            }
            add_view(views, names, &n, parts[i].name, "scales", scales);
            scales.data = made[i].biases;
            if (wrong) {
                scales.type = wrong_biases;
            }
            add_view(views, names, &n, parts[i].name, "biases", scales);
            view.type = TENSOR_U32;
            view.dims[1] = view.bytes / parts[i].rows / 4;
            if (wrong && wrong_words > 0) {
                view.dims[1] = wrong_words;
                view.bytes = parts[i].rows * wrong_words * 4;
            }
        }
        add_view(views, names, &n, parts[i].name, "weight", view);
    }
    assert_ok(fs_join(path, folder, "model.safetensors", &err), &err);
    assert_ok(safetensors_write(path, views, n, NULL, 0, &err), &err);
    assert_ok(fs_join(path, folder, "config.json", &err), &err);
    snprintf(text, sizeof text, config, more);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
}

static void write_quantised(const char *folder, const struct made *made, const struct type_case *c)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], more[96];
    if (c->group == 0) {
        assert_ok(fs_join(path, folder, "model.gguf", &err), &err);
        write_gguf(path, made, c);
        return;
    }
    snprintf(more, sizeof more, ",\"quantization\":{\"group_size\":%u,\"bits\":%d}", c->group,
             c->type == TENSOR_MLX8 ? 8 : 4);
    write_folder(folder, made, false, more);
}

/* up_proj alone with other words in a row (0: none) and another type of biases. */
static void write_wrong(const char *folder, struct made *made, uint64_t words,
                        enum tensor_type biases)
{
    wrong_words = words;
    wrong_biases = biases;
    write_folder(folder, made, false, ",\"quantization\":{\"group_size\":32,\"bits\":4}");
    wrong_biases = TENSOR_TYPE_COUNT;
}

/* --- what a model says --- */
struct said {
    float logits[TOKENS * VOCAB];
    float loss;
    float gradients[16384];
};

static void train(struct engine_model *model, const int32_t *tokens, struct said *said)
{
    struct err err = {0};
    struct engine_adapter *adapter = NULL;
    struct engine_trainer *trainer = NULL;
    struct engine_loss loss = {0};
    uint8_t targets[TOKENS];
    const struct engine_lora lora = {.rank = 2, .scale = 1.0f, .targets = 0x7f};
    const struct engine_train_plan plan = {.tokens_max = TOKENS, .seed = 3};
    assert_ok(engine_adapter_new(&adapter, model, &lora, 1, &err), &err);
    assert_ok(engine_trainer_new(&trainer, model, adapter, &plan, &err), &err);
    int n = 0;
    size_t values = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(adapter, &n);
    for (int i = 0; i < n; i++) {
        const size_t size = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        for (size_t j = 0; j < size; j++) {
            tensors[i].data[j] = 0.05f * random_value();
        }
        values += size;
    }
    memset(targets, 1, sizeof targets);
    targets[0] = 0;
    const struct engine_row row = {.tokens = tokens, .targets = targets, .n_tokens = TOKENS};
    engine_trainer_zero(trainer);
    assert_ok(engine_train_step(trainer, &row, 1, 0, 1.0f / (TOKENS - 1), &loss, &err), &err);
    said->loss = engine_loss_sum(&loss);
    assert_true(values <= sizeof said->gradients / sizeof(float));
    memcpy(said->gradients, engine_trainer_gradients(trainer)[0], values * sizeof(float));
    engine_trainer_free(trainer);
    engine_adapter_free(adapter);
}

static void ask(const char *folder, const char *isa, struct said *said)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    struct engine_session *session = NULL;
    const struct engine_options options = {.threads = 2, .isa = isa};
    int32_t tokens[TOKENS];
    memset(said, 0, sizeof *said);
    assert_ok(engine_model_open(&model, folder, &options, &err), &err);
    assert_ok(engine_session_new(&session, model, &err), &err);
    random_state = 77;
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = (int32_t)((random_value() + 1.0f) * 0.499f * VOCAB);
    }
    struct engine_piece piece = {.session = session,
                                 .tokens = tokens,
                                 .n_tokens = TOKENS,
                                 .logits = said->logits,
                                 .all_logits = true};
    assert_ok(engine_eval(model, &piece, 1, &err), &err);
    train(model, tokens, said);
    engine_session_free(session);
    engine_model_free(model);
}

/* Mean over positions of KL(P_want ‖ Q_got), in nats. */
static double divergence(const float *want, const float *got)
{
    double sum = 0.0;
    for (int t = 0; t < TOKENS; t++) {
        double zp = 0.0, zq = 0.0, kl = 0.0;
        for (int i = t * VOCAB; i < (t + 1) * VOCAB; i++) {
            zp += exp((double)want[i]);
            zq += exp((double)got[i]);
        }
        for (int i = t * VOCAB; i < (t + 1) * VOCAB; i++) {
            const double p = exp((double)want[i]) / zp;
            kl += p * ((double)want[i] - log(zp) - (double)got[i] + log(zq));
        }
        sum += kl;
    }
    return sum / TOKENS;
}

static void check_case(const struct type_case *c, struct made *made, const char *base)
{
    static struct said want, best, other;
    struct err err = {0};
    char folder[FS_PATH_BYTES_MAX], twin[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(folder, base, "quantised", &err), &err);
    assert_ok(fs_join(twin, base, "twin", &err), &err);
    assert_ok(fs_mkdirs(folder, &err), &err);
    assert_ok(fs_mkdirs(twin, &err), &err);
    random_state = 1;
    for (size_t i = 0; i < TENSORS; i++) {
        if (parts[i].rows == 1) {
            make_norm(&made[i]);
        } else {
            make_matrix(&made[i], c, parts[i].rows, parts[i].head);
        }
    }
    write_quantised(folder, made, c);
    write_folder(twin, made, true, "");
    ask(twin, "best", &want);
    ask(folder, "best", &best);
    const double kl = divergence(want.logits, best.logits);
    print_message("%s: KL %.2e nats, loss %.4f\n", c->name, kl, (double)best.loss);
    assert_true(kl < 5e-3); /* as in test_eval.c: a wrong row costs more than 0.1 */
    assert_memory_not_equal(want.logits, best.logits, sizeof want.logits);
    assert_memory_equal(&want.loss, &best.loss, sizeof want.loss);
    assert_memory_equal(want.gradients, best.gradients, sizeof want.gradients);
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        ask(folder, *isa, &other);
        assert_memory_equal(&best, &other, sizeof best);
    }
    assert_ok(fs_remove_tree(folder, &err), &err);
    assert_ok(fs_remove_tree(twin, &err), &err);
}

static void test_every_type_serves_and_trains(void **state)
{
    struct made *made = calloc(TENSORS, sizeof *made);
    assert_non_null(made);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(&cases[i], made, *state);
    }
    free(made);
}

/* Three tensors that are not one matrix: each is refused by name, and nothing else is. */
static void test_affine_shapes_that_do_not_fit_are_named(void **state)
{
    static const struct {
        const char *what;
        uint32_t group;
        uint64_t words; /* of a row of D values; 0: as they should be */
        enum tensor_type biases;
    } rows[] = {{"groups of 16", 16, 0, TENSOR_F16},
                {"groups of 256", 256, 0, TENSOR_F16},
                {"three bits", 32, D * 3 / 32, TENSOR_F16},
                {"another row", 32, D / 8 - 1, TENSOR_F16},
                {"biases of another type", 32, 0, TENSOR_BF16},
                {"integer scales", 32, 0, TENSOR_I16}};
    struct made *made = calloc(TENSORS, sizeof *made);
    assert_non_null(made);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct model_files *files = NULL;
        struct type_case c = cases[8];
        c.group = rows[i].group;
        for (size_t t = 0; t < TENSORS; t++) {
            if (parts[t].rows == 1) {
                make_norm(&made[t]);
            } else {
                make_matrix(&made[t], &c, parts[t].rows, 0);
            }
        }
        write_wrong(*state, made, rows[i].words, rows[i].biases);
        const int rc = model_files_open(*state, &files, &err);
        if (rc != -ERR_UNSUPPORTED || strstr(err.message, "model.layers.0.mlp.up_proj") == NULL) {
            fail_msg("%s: got %d \"%s\"", rows[i].what, rc, err.message);
        }
    }
    free(made);
}

static int make_folder(void **state)
{
    static char folder[FS_PATH_BYTES_MAX];
    *state = test_dir_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    test_dir_remove(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_serves_and_trains),
        cmocka_unit_test(test_affine_shapes_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
