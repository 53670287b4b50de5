/* Opening a base: files checked, numbers noted, vectors widened, matrices packed, ropes and page
 * pool made. Everything that is allocated here lives as long as the model. */
#include "engine/native/model.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/tokenizer_cache.h"

enum { CONTEXT_DEFAULT_MAX = 8192 };

static const char *const target_parts[ENGINE_TARGET_COUNT] = {
    "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
    "self_attn.o_proj.weight", "mlp.gate_proj.weight",    "mlp.up_proj.weight",
    "mlp.down_proj.weight"};

/* What the native engine cannot do although the files are sound. */
static int check_served(const struct model_config *c, struct err *err)
{
    if (c->head_dim % KERNEL_LANES != 0 || c->head_dim > KERNEL_HEAD_DIM_MAX) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a head of %u dimensions; multiples of %d up to %d are served", c->head_dim,
                       KERNEL_LANES, KERNEL_HEAD_DIM_MAX);
    }
    return 0;
}

/* How long sessions may be when nobody says: LongRoPE's short factors are what short prompts want.
 */
static int default_context(const struct model_config *c)
{
    const uint32_t most = c->rope_scaling.type == ROPE_SCALING_LONG
                              ? c->rope_scaling.original_context
                              : CONTEXT_DEFAULT_MAX;
    const uint32_t bounded = most < CONTEXT_DEFAULT_MAX ? most : CONTEXT_DEFAULT_MAX;
    return (int)(c->context_length < bounded ? c->context_length : bounded);
}

static void describe(struct engine_info *info, const struct model_files *files, int context_length)
{
    const struct model_config *c = model_files_config(files);
    snprintf(info->engine, sizeof info->engine, "native");
    snprintf(info->architecture, sizeof info->architecture, "%.31s", c->arch);
    snprintf(info->quantization, sizeof info->quantization, "%.15s",
             model_files_quantisation(files));
    info->n_layers = (int)c->n_layers;
    info->n_heads = (int)c->n_heads;
    info->n_kv_heads = (int)c->n_kv_heads;
    info->head_dim = (int)c->head_dim;
    info->d_model = (int)c->hidden;
    info->d_ffn = (int)c->ffn;
    info->vocab_size = (int)c->vocab;
    info->context_trained = (int)c->context_length;
    info->context_length = context_length > 0 ? context_length : default_context(c);
    info->qk_norm = c->family->qk_norm != QK_NORM_NONE;
    info->post_norm = c->family->norm_place != NORM_BEFORE;
    info->n_eos = 0;
    for (unsigned i = 0; i < c->n_eos && i < ENGINE_EOS_MAX; i++) {
        info->eos[info->n_eos++] = (int)c->eos_ids[i];
    }
    info->n_parameters = model_files_parameters(files);
    info->kv_page_bytes = (uint64_t)c->n_layers * c->n_kv_heads * c->head_dim * 2 *
                          ENGINE_KV_PAGE_TOKENS * sizeof(uint16_t);
}

static int find_weights(struct engine_model *m, struct err *err)
{
    const bool permuted = model_files_rope_permuted(m->files);
    for (int i = 0; i < m->info.n_layers; i++) {
        for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
            const bool rope = t == ENGINE_Q_PROJ || t == ENGINE_K_PROJ;
            const int rc =
                weight_init(&m->layers[i].proj[t],
                            model_files_layer_tensor(m->files, (uint32_t)i, target_parts[t]),
                            permuted && rope ? (size_t)m->info.head_dim : 0, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    int rc = weight_init(&m->embedding, model_files_tensor(m->files, "model.embed_tokens.weight"),
                         0, err);
    m->output = &m->embedding;
    if (rc == 0 && !model_files_config(m->files)->tied_embeddings) {
        rc = weight_init(&m->output_own, model_files_tensor(m->files, "lm_head.weight"), 0, err);
        m->output = &m->output_own;
    }
    return rc;
}

/* Numbers of the whole model, and what each layer's queries see. */
static void take_config(struct engine_model *m)
{
    const struct model_config *c = model_files_config(m->files);
    const float scale =
        c->attention_scale > 0 ? (float)c->attention_scale : 1.0f / sqrtf((float)m->info.head_dim);
    m->rms_eps = (float)c->rms_eps;
    m->qk_norm = c->family->qk_norm;
    m->activation = c->activation;
    m->embedding_scale = (float)c->embedding_scale;
    m->residual_scale = (float)c->residual_scale;
    m->logit_scale = (float)c->logit_scale;
    m->logit_cap = (float)c->logit_cap;
    for (int i = 0; i < m->info.n_layers; i++) {
        m->layers[i].attention = (struct attention_rule){
            .head_dim = (size_t)m->info.head_dim,
            .scale = scale,
            .window = c->layers[i] & MODEL_LAYER_SLIDING ? c->sliding_window : 0,
            .soft_cap = (float)c->attention_cap,
        };
    }
}

static void make_page_pool(struct engine_model *m, size_t bytes_max)
{
    const size_t page = m->info.kv_page_bytes;
    page_pool_init(&m->kv, page,
                   bytes_max > 0 ? bytes_max / page : pages_for(m->info.context_length));
}

static int choose_isa(struct engine_model *m, const char *isa, struct err *err)
{
    m->kernels = kernels_get(isa != NULL ? isa : "best");
    if (m->kernels == NULL) {
        return err_set(err, ERR_INVALID,
                       "the instruction set '%s' is not available here; best is '%s'", isa,
                       kernels_available()[0]);
    }
    snprintf(m->info.isa, sizeof m->info.isa, "%s", m->kernels->isa);
    return 0;
}

static int open_parts(struct engine_model *m, const char *path,
                      const struct engine_options *options, struct err *err)
{
    int rc = choose_isa(m, options->isa, err);
    if (rc == 0) {
        rc = model_files_open(path, &m->files, err);
    }
    if (rc == 0) {
        rc = check_served(model_files_config(m->files), err);
    }
    if (rc == 0) {
        rc = pool_new(&m->pool, options->threads, err);
    }
    if (rc != 0) {
        return rc;
    }
    describe(&m->info, m->files, options->context_length);
    m->info.threads = pool_lanes(m->pool);
    m->layers = mem_calloc((size_t)m->info.n_layers, sizeof *m->layers);
    if (m->layers == NULL) {
        return mem_err(err, (size_t)m->info.n_layers * sizeof *m->layers);
    }
    take_config(m);
    rc = find_weights(m, err);
    if (rc == 0) {
        rc = model_load_vectors(m, err);
    }
    if (rc == 0) {
        rc = tokenizer_from_cache(m->files, path, options->cache_dir, &m->tokenizer, err);
    }
    if (rc == 0 && options->train_only) {
        m->info.weight_bytes = model_files_weight_bytes(m->files);
    } else if (rc == 0) {
        rc = packs_make(&m->packs, m, path, options->cache_dir, err);
    }
    if (rc == 0) {
        rc = model_make_ropes(m, err);
    }
    make_page_pool(m, options->kv_bytes_max);
    return rc == 0 && !options->train_only ? workspace_new(&m->workspace, m, err) : rc;
}

int engine_model_open(struct engine_model **out, const char *path,
                      const struct engine_options *options, struct err *err)
{
    struct engine_model *m = mem_calloc(1, sizeof *m);
    if (m == NULL) {
        return mem_err(err, sizeof *m);
    }
    const int rc = open_parts(m, path, options, err);
    if (rc != 0) {
        engine_model_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

void engine_model_free(struct engine_model *m)
{
    if (m == NULL) {
        return;
    }
    workspace_free(m->workspace);
    page_pool_release(&m->kv);
    model_free_ropes(m);
    packs_free(m->packs);
    mem_free(m->vectors);
    mem_free(m->layers);
    tokenizer_free(m->tokenizer);
    pool_free(m->pool);
    model_files_free(m->files);
    mem_free(m);
}

const struct engine_info *engine_model_info(const struct engine_model *model)
{
    return &model->info;
}

const struct tokenizer *engine_model_tokenizer(const struct engine_model *model)
{
    return model->tokenizer;
}

const char *engine_model_template(const struct engine_model *model)
{
    return model_files_chat_template(model->files);
}

const char *engine_model_tool_template(const struct engine_model *model)
{
    return model_files_tool_template(model->files);
}

int engine_estimate_open(const char *path, int threads, struct engine_estimate *estimate,
                         struct err *err)
{
    struct engine_model m = {0};
    int rc = model_files_open(path, &m.files, err);
    if (rc == 0) {
        rc = check_served(model_files_config(m.files), err);
    }
    if (rc == 0) {
        describe(&m.info, m.files, 0);
        m.info.threads = threads > 0 ? threads : cpu_count();
        estimate->weight_bytes = model_files_weight_bytes(m.files);
        estimate->kv_bytes_per_token = m.info.kv_page_bytes / ENGINE_KV_PAGE_TOKENS;
        estimate->workspace_bytes = workspace_bytes(&m);
        estimate->info = m.info;
    }
    model_files_free(m.files);
    return rc;
}
