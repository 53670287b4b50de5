/* Norm weights and biases: all in one block, which is walked twice, to count and to fill. */
#include "base/mem.h"
#include "engine/native/model.h"
#include "formats/dequant.h"

struct vectors {
    struct engine_model *model;
    float *base; /* NULL: only count */
    size_t n;
};

/* The tensor `view` widened, each element plus `plus`; NULL for no tensor or while counting. */
static float *take(struct vectors *v, const struct tensor_view *view, float plus)
{
    if (view == NULL) {
        return NULL;
    }
    const size_t n = tensor_view_elements(view);
    float *out = v->base != NULL ? v->base + v->n : NULL;
    v->n += n;
    if (out != NULL) {
        tensor_dequant_row(view, 0, out);
        for (size_t i = 0; plus != 0.0f && i < n; i++) {
            out[i] += plus;
        }
    }
    return out;
}

/* What a family's norms lack in its file. */
static float norm_rest(const struct engine_model *m)
{
    const struct architecture *family = model_files_config(m->files)->family;
    return family->norm_plus_one && model_files_container(m->files) == MODEL_SAFETENSORS ? 1.0f
                                                                                         : 0.0f;
}

static const float *take_norm(struct vectors *v, int layer, const char *part)
{
    return take(v, model_files_layer_tensor(v->model->files, (uint32_t)layer, part),
                norm_rest(v->model));
}

/* A bias, its rows put back where the file permutes them. */
static const float *take_bias(struct vectors *v, int layer, enum engine_target target)
{
    static const char *const parts[ENGINE_TARGET_COUNT] = {
        "self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias",
        "self_attn.o_proj.bias", "mlp.gate_proj.bias",    "mlp.up_proj.bias",
        "mlp.down_proj.bias"};
    const struct model_files *files = v->model->files;
    const struct model_config *c = model_files_config(files);
    const bool in_attention = target == ENGINE_Q_PROJ || target == ENGINE_K_PROJ;
    const bool there = target == ENGINE_O_PROJ     ? c->output_bias
                       : target < ENGINE_GATE_PROJ ? c->attention_bias
                                                   : c->mlp_bias;
    const struct tensor_view *view =
        there ? model_files_layer_tensor(files, (uint32_t)layer, parts[target]) : NULL;
    float *bias = take(v, view, 0.0f);
    const uint32_t head_dim = c->head_dim;
    if (bias != NULL && in_attention && model_files_rope_permuted(files)) {
        float head[KERNEL_HEAD_DIM_MAX];
        for (size_t at = 0; at < tensor_view_elements(view); at += head_dim) {
            for (uint32_t i = 0; i < head_dim; i++) {
                head[i] = bias[at + model_rope_gguf_row(i, head_dim)];
            }
            for (uint32_t i = 0; i < head_dim; i++) {
                bias[at + i] = head[i];
            }
        }
    }
    return bias;
}

static void take_layer(struct vectors *v, int i)
{
    const struct architecture *family = model_files_config(v->model->files)->family;
    struct layer *layer = &v->model->layers[i];
    const char *before_ffn = family->norm_place == NORM_AROUND ? "pre_feedforward_layernorm.weight"
                                                               : "post_attention_layernorm.weight";
    if (family->norm_place != NORM_AFTER) {
        layer->attn_norm = take_norm(v, i, "input_layernorm.weight");
        layer->ffn_norm = take_norm(v, i, before_ffn);
    }
    if (family->norm_place != NORM_BEFORE) {
        layer->attn_post_norm = take_norm(v, i, "post_attention_layernorm.weight");
        layer->ffn_post_norm = take_norm(v, i, "post_feedforward_layernorm.weight");
    }
    if (family->qk_norm != QK_NORM_NONE) {
        layer->q_norm = take_norm(v, i, "self_attn.q_norm.weight");
        layer->k_norm = take_norm(v, i, "self_attn.k_norm.weight");
    }
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        layer->bias[t] = take_bias(v, i, (enum engine_target)t);
    }
}

static void take_all(struct vectors *v)
{
    for (int i = 0; i < v->model->info.n_layers; i++) {
        take_layer(v, i);
    }
    v->model->final_norm =
        take(v, model_files_tensor(v->model->files, "model.norm.weight"), norm_rest(v->model));
}

int model_load_vectors(struct engine_model *m, struct err *err)
{
    struct vectors count = {.model = m};
    take_all(&count);
    m->vectors = mem_alloc_simd(count.n, sizeof(float));
    if (m->vectors == NULL) {
        return mem_err(err, count.n * sizeof(float));
    }
    struct vectors fill = {.model = m, .base = m->vectors};
    take_all(&fill);
    return 0;
}
