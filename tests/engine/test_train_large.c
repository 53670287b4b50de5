/* What the tiny fixtures are too small for: chains longer than one unpacked panel (576), rows
 * longer than one block of keys (528), rows with pads, several slices of logits, 16-bit weights,
 * and adapters on single projections. A random model is written to a folder of its own. */
#include <math.h>

#include "engine/engine.h"
#include "formats/dequant.h"
#include "formats/safetensors.h"
#include "kernels/kernels.h"
#include "kernels/train_kernels.h"
#include "test.h"

enum { D = 328, HEADS = 5, KV_HEADS = 1, HEAD_DIM = 32, FFN = 608, VOCAB = 290, LAYERS = 2 };
enum { LONG_ROW = 601, SHORT_ROW = 130, TOKENS = LONG_ROW + SHORT_ROW, VIEWS_MAX = 32 };

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\","
    "\"hidden_size\":328,\"intermediate_size\":608,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":5,\"num_key_value_heads\":1,\"head_dim\":32,\"vocab_size\":290,"
    "\"max_position_embeddings\":1024,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,"
    "\"tie_word_embeddings\":false,\"eos_token_id\":2}";

static uint32_t random_state;

static float random_value(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) * 0x1p-23f - 1.0f;
}

struct maker {
    struct tensor_view views[VIEWS_MAX];
    char names[VIEWS_MAX][96];
    void *data[VIEWS_MAX];
    size_t n;
};

static void add(struct maker *maker, const char *name, enum tensor_type type, uint64_t rows,
                uint64_t cols)
{
    const size_t i = maker->n++, n = (size_t)(rows * cols);
    const bool norm = rows == 1;
    const float size = norm ? 0.3f : 1.5f / sqrtf((float)cols);
    snprintf(maker->names[i], sizeof maker->names[i], "%s", name);
    struct tensor_view *view = &maker->views[i];
    *view = (struct tensor_view){.name = maker->names[i],
                                 .type = type,
                                 .n_dims = norm ? 1 : 2,
                                 .dims = {norm ? cols : rows, cols},
                                 .bytes = n * (type == TENSOR_F32 ? 4 : 2)};
    maker->data[i] = calloc(n, 4);
    view->data = maker->data[i];
    for (size_t j = 0; j < n; j++) {
        const float value = (norm ? 1.0f : 0.0f) + size * random_value();
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if (type == TENSOR_F32) {
            ((float *)maker->data[i])[j] = value;
        } else { /* bf16 by cutting; as fp16 a small normal number whatever the mantissa is */
            const uint16_t half = (uint16_t)((bits >> 31) << 15 | 0x2800 | (bits >> 13 & 0x3ff));
            ((uint16_t *)maker->data[i])[j] = type == TENSOR_BF16 ? (uint16_t)(bits >> 16) : half;
        }
    }
}

static void write_model(const char *folder)
{
    struct maker maker = {.n = 0};
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX + 32], name[96];
    random_state = 1;
    add(&maker, "model.embed_tokens.weight", TENSOR_F32, VOCAB, D);
    add(&maker, "lm_head.weight", TENSOR_BF16, VOCAB, D);
    add(&maker, "model.norm.weight", TENSOR_F32, 1, D);
    const struct {
        const char *part;
        enum tensor_type type;
        int rows, cols;
    } parts[] = {{"input_layernorm", TENSOR_F32, 1, D},
                 {"post_attention_layernorm", TENSOR_F32, 1, D},
                 {"self_attn.q_proj", TENSOR_F32, HEADS * HEAD_DIM, D},
                 {"self_attn.k_proj", TENSOR_F16, KV_HEADS * HEAD_DIM, D},
                 {"self_attn.v_proj", TENSOR_BF16, KV_HEADS * HEAD_DIM, D},
                 {"self_attn.o_proj", TENSOR_F16, D, HEADS * HEAD_DIM},
                 {"mlp.gate_proj", TENSOR_F16, FFN, D},
                 {"mlp.up_proj", TENSOR_BF16, FFN, D},
                 {"mlp.down_proj", TENSOR_F32, D, FFN}};
    for (int layer = 0; layer < LAYERS; layer++) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, parts[i].part);
            add(&maker, name, parts[i].type, (uint64_t)parts[i].rows, (uint64_t)parts[i].cols);
        }
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_ok(safetensors_write(path, maker.views, maker.n, NULL, 0, &err), &err);
    for (size_t i = 0; i < maker.n; i++) {
        free(maker.data[i]);
    }
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(config, 1, sizeof config - 1, file), sizeof config - 1);
    assert_int_equal(fclose(file), 0);
}

struct large {
    struct engine_model *model;
    struct engine_adapter *adapter;
    struct engine_trainer *trainer;
    struct engine_row rows[2];
    int32_t tokens[TOKENS];
    uint8_t targets[TOKENS];
};

static void large_open(struct large *l, const char *folder, const char *isa, int threads,
                       const struct engine_lora *lora)
{
    struct err err = {0};
    const struct engine_options options = {.threads = threads, .isa = isa};
    const struct engine_train_plan plan = {.tokens_max = TOKENS, .seed = 3};
    assert_ok(engine_model_open(&l->model, folder, &options, &err), &err);
    assert_ok(engine_adapter_new(&l->adapter, l->model, lora, 1, &err), &err);
    assert_ok(engine_trainer_new(&l->trainer, l->model, l->adapter, &plan, &err), &err);
    random_state = 9;
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(l->adapter, &n);
    for (int i = 0; i < n; i++) {
        for (size_t j = 0; j < (size_t)tensors[i].rows * (size_t)tensors[i].cols; j++) {
            tensors[i].data[j] = 0.15f * random_value();
        }
    }
    for (int i = 0; i < TOKENS; i++) {
        l->tokens[i] = (int32_t)((random_value() + 1.0f) * 0.4999f * VOCAB);
        l->targets[i] = i != 0 && i != LONG_ROW && i % 3 != 0;
    }
    l->rows[0] =
        (struct engine_row){.tokens = l->tokens, .targets = l->targets, .n_tokens = LONG_ROW};
    l->rows[1] = (struct engine_row){.tokens = l->tokens + LONG_ROW,
                                     .targets = l->targets + LONG_ROW,
                                     .n_tokens = SHORT_ROW,
                                     .row_in_step = 1};
}

static void large_close(struct large *l)
{
    engine_trainer_free(l->trainer);
    engine_adapter_free(l->adapter);
    engine_model_free(l->model);
}

static float loss_of(struct large *l, int rows_each)
{
    struct err err = {0};
    struct engine_loss loss = {0};
    engine_trainer_zero(l->trainer);
    for (int i = 0; i < 2; i += rows_each) {
        assert_ok(engine_train_step(l->trainer, l->rows + i, rows_each, 0, 1e-3f, &loss, &err),
                  &err);
    }
    return engine_loss_sum(&loss);
}

static size_t values_of(struct large *l)
{
    int n = 0;
    size_t values = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(l->adapter, &n);
    for (int i = 0; i < n; i++) {
        values += (size_t)tensors[i].rows * (size_t)tensors[i].cols;
    }
    return values;
}

static void test_bits(void **state)
{
    const struct engine_lora lora = {.rank = 20, .scale = 0.5f, .targets = 0x7f};
    struct large l;
    large_open(&l, *state, "ref", 1, &lora);
    const float want = loss_of(&l, 1);
    const size_t bytes = values_of(&l) * sizeof(float);
    float *gradients = malloc(bytes); /* the gradients of all factors are one block */
    memcpy(gradients, engine_trainer_gradients(l.trainer)[0], bytes);
    large_close(&l);
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        print_message("%s\n", *isa);
        large_open(&l, *state, *isa, 2, &lora);
        const float got = loss_of(&l, 2);
        assert_memory_equal(&got, &want, sizeof got);
        assert_memory_equal(engine_trainer_gradients(l.trainer)[0], gradients, bytes);
        large_close(&l);
    }
    free(gradients);
}

/* The loss alone, which is the step's bit for bit. */
static float loss_alone(struct large *l)
{
    struct err err = {0};
    struct engine_loss loss = {0};
    assert_ok(engine_eval_loss(l->trainer, l->rows, 2, &loss, &err), &err);
    return engine_loss_sum(&loss);
}

/* The loss with one factor moved by `by` times its gradient. */
static double loss_along(struct large *l, struct engine_tensor *tensor, const float *gradient,
                         double by)
{
    const size_t values = (size_t)tensor->rows * (size_t)tensor->cols;
    float *before = calloc(values, 4);
    memcpy(before, tensor->data, values * 4);
    for (size_t j = 0; j < values; j++) {
        tensor->data[j] = (float)((double)before[j] + by * (double)gradient[j]);
    }
    const double loss = 1e-3 * (double)loss_alone(l);
    memcpy(tensor->data, before, values * 4);
    free(before);
    return loss;
}

/* The slope along a factor's gradient is the gradient's norm; bounds as in test_trainer.c. */
static void check_slopes(struct large *l, const char *what)
{
    int n = 0;
    struct engine_tensor *tensors = engine_adapter_tensors(l->adapter, &n);
    const size_t bytes = values_of(l) * sizeof(float);
    float *gradients = malloc(bytes), *gradient = gradients; /* of all factors, one after another */
    const float step = loss_of(l, 2), alone = loss_alone(l);
    assert_memory_equal(&alone, &step, sizeof step);
    memcpy(gradients, engine_trainer_gradients(l->trainer)[0], bytes);
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)tensors[i].rows * (size_t)tensors[i].cols;
        double norm = 0;
        for (size_t j = 0; j < values; j++) {
            norm += (double)gradient[j] * (double)gradient[j];
        }
        norm = sqrt(norm);
        assert_true(norm > 0);
        const double slope = (loss_along(l, &tensors[i], gradient, 1e-2 / norm) -
                              loss_along(l, &tensors[i], gradient, -1e-2 / norm)) /
                             2e-2;
        if (!(fabs(slope - norm) <= 0.02 * norm + 1e-4)) {
            fail_msg("%s %s: slope %g, gradient's norm %g", what, tensors[i].name, slope, norm);
        }
        gradient += values;
    }
    assert_int_equal((size_t)(gradient - gradients) * sizeof(float), bytes);
    free(gradients);
}

/* A value that is not finite fails its call, and leaves nothing behind in the pads of rows. */
static void test_usable_after_nan(void **state)
{
    const struct engine_lora lora = {.rank = 3, .scale = 1.0f, .targets = 0x7f};
    struct large l;
    struct err err = {0};
    struct engine_loss none = {0};
    large_open(&l, *state, "best", 2, &lora);
    const float want = loss_alone(&l);
    int n = 0;
    float *value = engine_adapter_tensors(l.adapter, &n)[0].data, before = *value;
    *value = NAN;
    assert_int_not_equal(engine_eval_loss(l.trainer, l.rows, 2, &none, &err), 0);
    *value = before;
    const float got = loss_alone(&l);
    assert_memory_equal(&got, &want, sizeof want);
    large_close(&l);
}

/* Each projection alone, on the upper layer: where the backward ends early. */
static void test_single_targets(void **state)
{
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        const struct engine_lora lora = {
            .rank = 3, .scale = 1.0f, .targets = 1u << t, .first_layer = LAYERS - 1};
        struct large l;
        large_open(&l, *state, "best", 2, &lora);
        check_slopes(&l, engine_target_name((enum engine_target)t));
        large_close(&l);
    }
}

static void test_all_targets(void **state)
{
    const struct engine_lora lora = {.rank = 5, .scale = 1.0f, .targets = 0x7f};
    struct large l;
    large_open(&l, *state, "best", 2, &lora);
    check_slopes(&l, "all");
    large_close(&l);
}

/* Unpacked weights are, bit for bit, what formats says they are. */
static void test_unpack(void **state)
{
    (void)state;
    static const struct {
        enum train_weight kind;
        enum tensor_type type;
    } kinds[] = {{TRAIN_F32, TENSOR_F32},   {TRAIN_F16, TENSOR_F16},   {TRAIN_BF16, TENSOR_BF16},
                 {TRAIN_Q4_0, TENSOR_Q4_0}, {TRAIN_Q4_1, TENSOR_Q4_1}, {TRAIN_Q5_0, TENSOR_Q5_0},
                 {TRAIN_Q5_1, TENSOR_Q5_1}, {TRAIN_Q8_0, TENSOR_Q8_0}, {TRAIN_Q4_K, TENSOR_Q4_K},
                 {TRAIN_Q5_K, TENSOR_Q5_K}, {TRAIN_Q6_K, TENSOR_Q6_K}};
    enum { COLS = 512, ROWS = 20, FROM = 224, N = 96 };
    static uint8_t bytes[ROWS][COLS * 4];
    static float got[ROWS][N], want[COLS];
    random_state = 5;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i / sizeof bytes[0]][i % sizeof bytes[0]] =
            (uint8_t)(128.0f * (random_value() + 1.0f)) & 0x7b; /* no infinities */
    }
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        const struct train_kernels *kernels = train_kernels_get(*isa);
        assert_non_null(kernels);
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            const uint8_t *rows[ROWS];
            for (size_t i = 0; i < ROWS; i++) {
                rows[i] = bytes[i];
            }
            kernels->unpack[kinds[k].kind](got[0], N, rows, FROM, ROWS, N);
            for (size_t i = 0; i < ROWS; i++) {
                tensor_dequant_blocks(kinds[k].type, bytes[i],
                                      COLS / tensor_type_block_size(kinds[k].type), want);
                assert_memory_equal(got[i], want + FROM, sizeof got[i]);
            }
        }
    }
}

/* The same for affine weights, whose scales lie apart. */
static void test_unpack_affine(void **state)
{
    (void)state;
    enum { COLS = 256, ROWS = 20, FROM = 96, N = 64 };
    static const enum tensor_type scale_types[] = {TENSOR_F16, TENSOR_BF16, TENSOR_F32};
    static const enum train_weight train_types[] = {TRAIN_F16, TRAIN_BF16, TRAIN_F32};
    static uint8_t quants[ROWS * COLS], scales[2][ROWS * COLS / 32 * 4];
    static float got[ROWS][N], want[COLS];
    random_state = 6;
    for (size_t i = 0; i < sizeof quants; i++) {
        quants[i] = (uint8_t)(128.0f * (random_value() + 1.0f));
    }
    for (size_t i = 0; i < sizeof scales; i++) {
        scales[i / sizeof scales[0]][i % sizeof scales[0]] =
            (uint8_t)(128.0f * (random_value() + 1.0f)) & 0x7b;
    }
    for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
        for (unsigned i = 0; i < 6; i++) {
            const struct tensor_view view = {.type = i % 2 ? TENSOR_MLX8 : TENSOR_MLX4,
                                             .n_dims = 2,
                                             .dims = {ROWS, COLS},
                                             .data = quants,
                                             .scales = scales[0],
                                             .biases = scales[1],
                                             .scale_type = scale_types[i / 2],
                                             .group = 32u << i / 2};
            const struct train_affine affine = {
                .quants = quants,
                .scales = scales[0],
                .biases = scales[1],
                .row_bytes = tensor_type_row_bytes(view.type, COLS),
                .scale_row_bytes = COLS / view.group * tensor_type_block_bytes(view.scale_type),
                .bits = i % 2 ? 8 : 4,
                .group = view.group,
                .scale_type = train_types[i / 2]};
            train_kernels_get(*isa)->unpack_affine(got[0], N, &affine, 1, FROM, ROWS - 1, N);
            for (size_t r = 1; r < ROWS; r++) {
                tensor_dequant_row(&view, r, want);
                assert_memory_equal(got[r - 1], want + FROM, sizeof got[0]);
            }
        }
    }
}

static int make_folder(void **state)
{
    static char folder[FS_PATH_BYTES_MAX];
    *state = test_dir_make(folder);
    write_model(folder);
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
        cmocka_unit_test(test_usable_after_nan), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_single_targets),   cmocka_unit_test(test_all_targets),
        cmocka_unit_test(test_unpack),           cmocka_unit_test(test_unpack_affine),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
