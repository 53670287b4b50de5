/* Canonical names, and the list of tensors that the llama architecture needs.
 *
 * The list is data: a row per tensor with its shape in terms of the config and the condition under
 * which it is needed. Checking walks the rows once (those of a layer once per layer) and collects
 * all that is missing and all that has the wrong shape, so that one error names everything, up to
 * NAMES_SHOWN of each.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "formats/model_private.h"

enum { NAMES_SHOWN = 8, LIST_BYTES = 1500 };

/* --- GGUF names → canonical names --- */

struct rename {
    const char *from;
    const char *to;
};

static const struct rename global_names[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
};

static const struct rename layer_names[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

static const char *renamed(const struct rename *rows, size_t n, const char *stem, size_t length)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(rows[i].from) == length && memcmp(rows[i].from, stem, length) == 0)
            return rows[i].to;
    }
    return NULL;
}

/* "blk.12." at the start of name: sets *layer and returns what follows, else NULL. */
static const char *layer_prefix(const char *name, uint32_t *layer)
{
    if (strncmp(name, "blk.", 4) != 0)
        return NULL;
    const char *at = name + 4;
    uint32_t number = 0;
    unsigned digits = 0;
    for (; *at >= '0' && *at <= '9' && digits < 6; at++, digits++)
        number = number * 10 + (uint32_t)(*at - '0');
    if (digits == 0 || *at != '.' || (digits > 1 && name[4] == '0'))
        return NULL;
    *layer = number;
    return at + 1;
}

/* The canonical form of a GGUF name into out; false when it has none. */
static bool canonical_name(const char *name, char out[MODEL_TENSOR_NAME_BYTES])
{
    uint32_t layer;
    const char *stem = layer_prefix(name, &layer);
    bool in_layer = stem != NULL;
    if (!in_layer)
        stem = name;
    const char *dot = strrchr(stem, '.');
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0))
        return false;
    size_t length = (size_t)(dot - stem);
    if (in_layer) {
        const char *to =
            renamed(layer_names, sizeof layer_names / sizeof *layer_names, stem, length);
        if (to)
            (void)snprintf(out, MODEL_TENSOR_NAME_BYTES, "model.layers.%" PRIu32 ".%s%s", layer, to,
                           dot);
        return to != NULL;
    }
    const char *to =
        renamed(global_names, sizeof global_names / sizeof *global_names, stem, length);
    if (to)
        (void)snprintf(out, MODEL_TENSOR_NAME_BYTES, "%s%s", to, dot);
    return to != NULL;
}

static int collect_one(struct model_files *files, const struct tensor_view *source, struct err *err)
{
    char canonical[MODEL_TENSOR_NAME_BYTES];
    size_t i = files->n_tensors;
    struct tensor_view *view = &files->tensors[i];
    *view = *source;
    if (files->container == MODEL_GGUF && canonical_name(source->name, canonical)) {
        view->name = arena_strdup(&files->arena, canonical);
        if (!view->name)
            return mem_err(err, strlen(canonical) + 1);
    }
    if (name_index_add(&files->index, view->name, (int32_t)i) != (int32_t)i)
        return err_set(err, ERR_CORRUPT, "duplicate name: two tensors stand for '%s'", view->name);
    files->n_tensors++;
    return 0;
}

int model_tensors_collect(struct model_files *files, struct err *err)
{
    bool is_gguf = files->container == MODEL_GGUF;
    size_t n =
        is_gguf ? gguf_tensor_count(files->gguf) : safetensors_tensor_count(files->safetensors);
    int rc = name_index_init(&files->index, (uint32_t)n, err);
    if (rc != 0)
        return rc;
    files->tensors = mem_calloc(n + 1, sizeof *files->tensors);
    if (!files->tensors)
        return mem_err(err, (n + 1) * sizeof *files->tensors);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = collect_one(files,
                         is_gguf ? gguf_tensor_at(files->gguf, i)
                                 : safetensors_tensor_at(files->safetensors, i),
                         err);
    return rc;
}

/* --- what is needed --- */

enum extent { NO_DIM, HIDDEN, Q_ROWS, KV_ROWS, FFN, VOCAB, HALF_HEAD };
enum when { ALWAYS, WHEN_UNTIED, WHEN_ATTENTION_BIAS, WHEN_MLP_BIAS, WHEN_ROPE_FACTORS };

struct need {
    const char *name;
    enum extent dims[2]; /* outermost first; a vector has one */
    enum when when;
};

static const struct need global_needs[] = {
    {"model.embed_tokens.weight", {VOCAB, HIDDEN}, ALWAYS},
    {"model.norm.weight", {HIDDEN, NO_DIM}, ALWAYS},
    {"lm_head.weight", {VOCAB, HIDDEN}, WHEN_UNTIED},
    {"rope_freqs.weight", {HALF_HEAD, NO_DIM}, WHEN_ROPE_FACTORS},
};

static const struct need layer_needs[] = {
    {"input_layernorm.weight", {HIDDEN, NO_DIM}, ALWAYS},
    {"self_attn.q_proj.weight", {Q_ROWS, HIDDEN}, ALWAYS},
    {"self_attn.k_proj.weight", {KV_ROWS, HIDDEN}, ALWAYS},
    {"self_attn.v_proj.weight", {KV_ROWS, HIDDEN}, ALWAYS},
    {"self_attn.o_proj.weight", {HIDDEN, Q_ROWS}, ALWAYS},
    {"self_attn.q_proj.bias", {Q_ROWS, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"self_attn.k_proj.bias", {KV_ROWS, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"self_attn.v_proj.bias", {KV_ROWS, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"self_attn.o_proj.bias", {HIDDEN, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"post_attention_layernorm.weight", {HIDDEN, NO_DIM}, ALWAYS},
    {"mlp.gate_proj.weight", {FFN, HIDDEN}, ALWAYS},
    {"mlp.up_proj.weight", {FFN, HIDDEN}, ALWAYS},
    {"mlp.down_proj.weight", {HIDDEN, FFN}, ALWAYS},
    {"mlp.gate_proj.bias", {FFN, NO_DIM}, WHEN_MLP_BIAS},
    {"mlp.up_proj.bias", {FFN, NO_DIM}, WHEN_MLP_BIAS},
    {"mlp.down_proj.bias", {HIDDEN, NO_DIM}, WHEN_MLP_BIAS},
};

static uint64_t extent_of(const struct model_config *config, enum extent extent)
{
    switch (extent) {
    case HIDDEN:
        return config->hidden;
    case Q_ROWS:
        return (uint64_t)config->n_heads * config->head_dim;
    case KV_ROWS:
        return (uint64_t)config->n_kv_heads * config->head_dim;
    case FFN:
        return config->ffn;
    case VOCAB:
        return config->vocab;
    case HALF_HEAD:
        return config->head_dim / 2;
    default:
        return 0;
    }
}

static bool is_needed(const struct model_config *config, enum when when)
{
    switch (when) {
    case WHEN_UNTIED:
        return !config->tied_embeddings;
    case WHEN_ATTENTION_BIAS:
        return config->attention_bias;
    case WHEN_MLP_BIAS:
        return config->mlp_bias;
    case WHEN_ROPE_FACTORS:
        return config->rope_scaling.type == ROPE_SCALING_FACTORS;
    default:
        return true;
    }
}

/* --- checking --- */

/* The first NAMES_SHOWN things that are wrong, as text, and how many there are. */
struct findings {
    char text[LIST_BYTES];
    size_t length;
    unsigned count;
};

static PRINTF_LIKE(2, 3) void findings_add(struct findings *findings, const char *fmt, ...)
{
    char line[LIST_BYTES / NAMES_SHOWN];
    va_list args;
    if (findings->count++ >= NAMES_SHOWN)
        return;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    int n = snprintf(findings->text + findings->length, sizeof findings->text - findings->length,
                     "%s%s", findings->length ? ", " : "", line);
    if (n > 0 && (size_t)n < sizeof findings->text - findings->length)
        findings->length += (size_t)n;
}

static int findings_error(const struct findings *findings, enum err_code code, const char *what,
                          struct err *err)
{
    if (findings->count > NAMES_SHOWN)
        return err_set(err, code, "%s: %s and %u more", what, findings->text,
                       findings->count - NAMES_SHOWN);
    return err_set(err, code, "%s: %s", what, findings->text);
}

struct check {
    struct model_files *files;
    struct findings missing, misshapen, unusable;
    uint64_t elements[TENSOR_TYPE_COUNT]; /* of the layers' matrices, by type */
};

static void check_need(struct check *check, const struct need *need, const char *name)
{
    struct model_files *files = check->files;
    unsigned n_dims = need->dims[1] == NO_DIM ? 1 : 2;
    uint64_t dims[2] = {extent_of(&files->config, need->dims[0]),
                        extent_of(&files->config, need->dims[1])};
    const struct tensor_view *view = model_files_tensor(files, name);
    if (!view) {
        findings_add(&check->missing, "%s", name);
        return;
    }
    if (view->n_dims != n_dims || memcmp(view->dims, dims, n_dims * sizeof *dims) != 0) {
        char is[TENSOR_SHAPE_TEXT_BYTES], wanted[TENSOR_SHAPE_TEXT_BYTES];
        tensor_shape_text(view->dims, view->n_dims, is);
        tensor_shape_text(dims, n_dims, wanted);
        findings_add(&check->misshapen, "%s is %s, expected %s", name, is, wanted);
        return;
    }
    bool plain_only = n_dims == 1 && tensor_type_quantised(view->type);
    bool factors = need->when == WHEN_ROPE_FACTORS && view->type != TENSOR_F32;
    if (!tensor_type_usable(view->type) || plain_only || factors)
        findings_add(&check->unusable, "%s is %s", name, tensor_type_name(view->type));
    if (need->when == WHEN_ROPE_FACTORS)
        return;
    files->weight_bytes += view->bytes;
    files->parameters += tensor_view_elements(view);
}

static void check_layer(struct check *check, uint32_t layer)
{
    const struct model_files *files = check->files;
    char name[MODEL_TENSOR_NAME_BYTES];
    for (size_t i = 0; i < sizeof layer_needs / sizeof *layer_needs; i++) {
        const struct need *need = &layer_needs[i];
        if (!is_needed(&files->config, need->when))
            continue;
        (void)snprintf(name, sizeof name, "model.layers.%" PRIu32 ".%s", layer, need->name);
        check_need(check, need, name);
        const struct tensor_view *view = model_files_tensor(files, name);
        if (view && view->n_dims == 2)
            check->elements[view->type] += tensor_view_elements(view);
    }
}

static int check_result(const struct check *check, struct err *err)
{
    if (check->missing.count > 0)
        return findings_error(&check->missing, ERR_CORRUPT, "missing tensors", err);
    if (check->misshapen.count > 0)
        return findings_error(&check->misshapen, ERR_CORRUPT, "tensors of the wrong shape", err);
    if (check->unusable.count > 0) {
        char what[128];
        (void)snprintf(what, sizeof what, "tensors of a type that is not supported (%s are)",
                       tensor_type_usable_list());
        return findings_error(&check->unusable, ERR_UNSUPPORTED, what, err);
    }
    return 0;
}

int model_tensors_check(struct model_files *files, struct err *err)
{
    struct check check = {.files = files};
    for (size_t i = 0; i < sizeof global_needs / sizeof *global_needs; i++) {
        if (is_needed(&files->config, global_needs[i].when))
            check_need(&check, &global_needs[i], global_needs[i].name);
    }
    for (uint32_t layer = 0; layer < files->config.n_layers; layer++)
        check_layer(&check, layer);
    files->quantisation = TENSOR_F32;
    for (unsigned type = 0; type < TENSOR_TYPE_COUNT; type++) {
        if (check.elements[type] > check.elements[files->quantisation])
            files->quantisation = (enum tensor_type)type;
    }
    return check_result(&check, err);
}
