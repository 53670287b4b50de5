/* Canonical names, and the list of tensors that a family needs.
 *
 * A fused projection of the file (q, k and v in one; gate and up in one) is listed as its parts,
 * each a view of some of its rows, so nothing above knows of it.
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

/* In GGUF a block's names say where a norm stands; Hugging Face's differ between families. */
static const struct rename layer_names[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_qkv", "self_attn.qkv_proj"},  {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"attn_output", "self_attn.o_proj"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
static const struct rename before_names[] = {{"ffn_norm", "post_attention_layernorm"}};
static const struct rename after_names[] = {
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
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

static const char *renamed_in_layer(const struct architecture *family, const char *stem,
                                    size_t length)
{
    if (family->fused && length == strlen("ffn_up") && memcmp(stem, "ffn_up", length) == 0)
        return "mlp.gate_up_proj";
    const char *to = renamed(layer_names, sizeof layer_names / sizeof *layer_names, stem, length);
    if (to)
        return to;
    return family->norm_place == NORM_BEFORE
               ? renamed(before_names, sizeof before_names / sizeof *before_names, stem, length)
               : renamed(after_names, sizeof after_names / sizeof *after_names, stem, length);
}

/* The canonical form of a GGUF name into out; false when it has none. */
static bool canonical_name(const struct architecture *family, const char *name,
                           char out[MODEL_TENSOR_NAME_BYTES])
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
        const char *to = renamed_in_layer(family, stem, length);
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

static const char *named_back(const struct rename *rows, size_t n, const char *stem, size_t length)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(rows[i].to) == length && memcmp(rows[i].to, stem, length) == 0)
            return rows[i].from;
    }
    return NULL;
}

#define NAMED_BACK(rows) named_back(rows, sizeof(rows) / sizeof *(rows), stem, length)

bool model_gguf_name(const struct architecture *family, const char *name,
                     char out[MODEL_TENSOR_NAME_BYTES])
{
    static const char prefix[] = "model.layers.";
    const char *stem = name, *dot = strrchr(name, '.'), *from;
    const bool in_layer = strncmp(name, prefix, sizeof prefix - 1) == 0;
    const char *number = name + sizeof prefix - 1;
    const char *after = in_layer ? strchr(number, '.') : NULL;
    if (!dot || (in_layer && (!after || after >= dot)))
        return false;
    if (in_layer)
        stem = after + 1;
    const size_t length = (size_t)(dot - stem);
    if (!in_layer)
        from = NAMED_BACK(global_names);
    else if (family->fused && length == strlen("mlp.gate_up_proj") &&
             memcmp(stem, "mlp.gate_up_proj", length) == 0)
        from = "ffn_up";
    else if (!(from = NAMED_BACK(layer_names)))
        from =
            family->norm_place == NORM_BEFORE ? NAMED_BACK(before_names) : NAMED_BACK(after_names);
    int n = !from      ? -1
            : in_layer ? snprintf(out, MODEL_TENSOR_NAME_BYTES, "blk.%.*s.%s%s",
                                  (int)(after - number), number, from, dot)
                       : snprintf(out, MODEL_TENSOR_NAME_BYTES, "%s%s", from, dot);
    return n > 0 && n < MODEL_TENSOR_NAME_BYTES;
}

/* Where a larger model keeps the text model's tensors, in files of two generations. */
static const struct rename around_names[] = {
    {"language_model.model.", "model."},
    {"model.language_model.", "model."},
    {"language_model.lm_head.", "lm_head."},
};

/* The name without that prefix into out; false when it has none. */
static bool inner_name(const char *name, char out[MODEL_TENSOR_NAME_BYTES])
{
    for (size_t i = 0; i < sizeof around_names / sizeof *around_names; i++) {
        const size_t n = strlen(around_names[i].from);
        if (strncmp(name, around_names[i].from, n) == 0) {
            int length =
                snprintf(out, MODEL_TENSOR_NAME_BYTES, "%s%s", around_names[i].to, name + n);
            return length > 0 && length < MODEL_TENSOR_NAME_BYTES;
        }
    }
    return false;
}

static int add_view(struct model_files *files, const struct tensor_view *view, struct err *err)
{
    const int32_t i = (int32_t)files->n_tensors;
    files->tensors[i] = *view;
    if (name_index_add(&files->index, view->name, i) != i)
        return err_set(err, ERR_CORRUPT, "duplicate name: two tensors stand for '%s'", view->name);
    files->n_tensors++;
    return 0;
}

/* --- fused projections --- */

enum { PARTS_MAX = 3 };

struct fused {
    const char *name;             /* the part of the tensor's name before its last dot */
    const char *parts[PARTS_MAX]; /* what its rows are, in their order */
};

static const struct fused fused_projections[] = {
    {"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
    {"gate_up_proj", {"gate_proj", "up_proj", NULL}},
};

/* ".weight" of a name, or what MLX's affine types keep row by row beside it; NULL for another. */
static const char *row_suffix(const char *name)
{
    static const char *const suffixes[] = {".weight", ".scales", ".biases"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof suffixes / sizeof *suffixes; i++) {
        if (strcmp(dot, suffixes[i]) == 0)
            return dot;
    }
    return NULL;
}

/* How long the name is before the fused part, and which one it is; NULL for another tensor. */
static const struct fused *find_fused(const char *name, size_t *stem)
{
    const char *suffix = row_suffix(name);
    const size_t length = suffix ? (size_t)(suffix - name) : 0;
    for (size_t i = 0; i < sizeof fused_projections / sizeof *fused_projections; i++) {
        const size_t n = strlen(fused_projections[i].name);
        if (length > n && name[length - n - 1] == '.' &&
            memcmp(name + length - n, fused_projections[i].name, n) == 0) {
            *stem = length - n;
            return &fused_projections[i];
        }
    }
    return NULL;
}

/* Columns are checked with the parts, as those of any tensor. */
static int split(struct model_files *files, const struct tensor_view *whole,
                 const struct fused *fused, size_t stem, struct err *err)
{
    const struct model_config *c = &files->config;
    const bool qkv = fused == &fused_projections[0];
    const uint64_t kv = (uint64_t)c->n_kv_heads * c->head_dim;
    const uint64_t rows[PARTS_MAX] = {qkv ? (uint64_t)c->n_heads * c->head_dim : c->ffn,
                                      qkv ? kv : c->ffn, qkv ? kv : 0};
    const uint64_t wanted = rows[0] + rows[1] + rows[2];
    if (whole->n_dims != 2 || whole->dims[0] != wanted) {
        char is[TENSOR_SHAPE_TEXT_BYTES];
        tensor_shape_text(whole->dims, whole->n_dims, is);
        return err_set(err, ERR_CORRUPT,
                       "tensors of the wrong shape: %s is %s, expected %" PRIu64 " rows",
                       whole->name, is, wanted);
    }
    const char *suffix = row_suffix(whole->name);
    const uint64_t row_bytes = whole->bytes / whole->dims[0];
    struct tensor_view part = *whole;
    int rc = 0;
    for (int i = 0; rc == 0 && i < PARTS_MAX && fused->parts[i]; i++) {
        char name[MODEL_TENSOR_NAME_BYTES];
        int length = snprintf(name, sizeof name, "%.*s%s%s", (int)stem, whole->name,
                              fused->parts[i], suffix ? suffix : "");
        if (length < 0 || (size_t)length >= sizeof name)
            return err_set(err, ERR_CORRUPT, "the name of %s is too long", whole->name);
        part.name = arena_strdup(&files->arena, name);
        if (!part.name)
            return mem_err(err, strlen(name) + 1);
        part.dims[0] = rows[i];
        part.bytes = rows[i] * row_bytes;
        rc = add_view(files, &part, err);
        part.data += part.bytes;
    }
    return rc;
}

static int collect_one(struct model_files *files, const struct tensor_view *source, struct err *err)
{
    char canonical[MODEL_TENSOR_NAME_BYTES];
    struct tensor_view view = *source;
    size_t stem = 0;
    const struct architecture *family = files->config.family;
    const bool renamed_here = files->container == MODEL_GGUF
                                  ? canonical_name(family, source->name, canonical)
                                  : family->hf_around && inner_name(source->name, canonical);
    if (renamed_here) {
        view.name = arena_strdup(&files->arena, canonical);
        if (!view.name)
            return mem_err(err, strlen(canonical) + 1);
    }
    const struct fused *fused = family->fused ? find_fused(view.name, &stem) : NULL;
    return fused ? split(files, &view, fused, stem, err) : add_view(files, &view, err);
}

int model_tensors_collect(struct model_files *files, struct err *err)
{
    bool is_gguf = files->container == MODEL_GGUF;
    size_t n =
        is_gguf ? gguf_tensor_count(files->gguf) : safetensors_tensor_count(files->safetensors);
    const size_t views = files->config.family->fused ? n * PARTS_MAX : n;
    int rc = name_index_init(&files->index, (uint32_t)views, err);
    if (rc != 0)
        return rc;
    files->tensors = mem_calloc(views + 1, sizeof *files->tensors);
    if (!files->tensors)
        return mem_err(err, (views + 1) * sizeof *files->tensors);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = collect_one(files,
                         is_gguf ? gguf_tensor_at(files->gguf, i)
                                 : safetensors_tensor_at(files->safetensors, i),
                         err);
    return rc;
}

/* --- what is needed --- */

enum extent { NO_DIM, HIDDEN, Q_ROWS, KV_ROWS, HEAD, FFN, VOCAB, HALF_ROPE };
enum when {
    ALWAYS,
    WHEN_UNTIED,
    WHEN_ATTENTION_BIAS,
    WHEN_OUTPUT_BIAS,
    WHEN_MLP_BIAS,
    WHEN_ROPE_FACTORS,
    WHEN_NORM_BEFORE, /* a norm on the way in */
    WHEN_NORM_AROUND, /* a second one on the way in, of the feed-forward */
    WHEN_NORM_AFTER,  /* a norm on the way out */
    WHEN_QK_HEAD,
    WHEN_QK_WHOLE,
};

struct need {
    const char *name;
    enum extent dims[2]; /* outermost first; a vector has one */
    enum when when;
};

static const struct need global_needs[] = {
    {"model.embed_tokens.weight", {VOCAB, HIDDEN}, ALWAYS},
    {"model.norm.weight", {HIDDEN, NO_DIM}, ALWAYS},
    {"lm_head.weight", {VOCAB, HIDDEN}, WHEN_UNTIED},
    {"rope_freqs.weight", {HALF_ROPE, NO_DIM}, WHEN_ROPE_FACTORS},
};

static const struct need layer_needs[] = {
    {"input_layernorm.weight", {HIDDEN, NO_DIM}, WHEN_NORM_BEFORE},
    {"self_attn.q_proj.weight", {Q_ROWS, HIDDEN}, ALWAYS},
    {"self_attn.k_proj.weight", {KV_ROWS, HIDDEN}, ALWAYS},
    {"self_attn.v_proj.weight", {KV_ROWS, HIDDEN}, ALWAYS},
    {"self_attn.o_proj.weight", {HIDDEN, Q_ROWS}, ALWAYS},
    {"self_attn.q_proj.bias", {Q_ROWS, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"self_attn.k_proj.bias", {KV_ROWS, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"self_attn.v_proj.bias", {KV_ROWS, NO_DIM}, WHEN_ATTENTION_BIAS},
    {"self_attn.o_proj.bias", {HIDDEN, NO_DIM}, WHEN_OUTPUT_BIAS},
    {"self_attn.q_norm.weight", {HEAD, NO_DIM}, WHEN_QK_HEAD},
    {"self_attn.k_norm.weight", {HEAD, NO_DIM}, WHEN_QK_HEAD},
    {"self_attn.q_norm.weight", {Q_ROWS, NO_DIM}, WHEN_QK_WHOLE},
    {"self_attn.k_norm.weight", {KV_ROWS, NO_DIM}, WHEN_QK_WHOLE},
    {"post_attention_layernorm.weight", {HIDDEN, NO_DIM}, ALWAYS},
    {"pre_feedforward_layernorm.weight", {HIDDEN, NO_DIM}, WHEN_NORM_AROUND},
    {"post_feedforward_layernorm.weight", {HIDDEN, NO_DIM}, WHEN_NORM_AFTER},
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
    case HEAD:
        return config->head_dim;
    case HALF_ROPE:
        return config->rope_dim / 2;
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
    case WHEN_OUTPUT_BIAS:
        return config->output_bias;
    case WHEN_MLP_BIAS:
        return config->mlp_bias;
    case WHEN_ROPE_FACTORS:
        return config->rope_scaling.type == ROPE_SCALING_FACTORS;
    case WHEN_NORM_BEFORE:
        return config->family->norm_place != NORM_AFTER;
    case WHEN_NORM_AROUND:
        return config->family->norm_place == NORM_AROUND;
    case WHEN_NORM_AFTER:
        return config->family->norm_place != NORM_BEFORE;
    case WHEN_QK_HEAD:
        return config->family->qk_norm == QK_NORM_HEAD;
    case WHEN_QK_WHOLE:
        return config->family->qk_norm == QK_NORM_WHOLE;
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
    int32_t id = name_index_find(&files->index, name);
    struct tensor_view *view = id == NAME_INDEX_NONE ? NULL : &files->tensors[id];
    if (!view) {
        findings_add(&check->missing, "%s", name);
        return;
    }
    if (n_dims == 2 && model_affine_resolve(files, view, dims) == MODEL_AFFINE_WRONG) {
        findings_add(&check->unusable,
                     "%s is U32 with scales, but not 4 or 8 bits in groups of "
                     "32, 64 or 128 of %" PRIu64 " columns",
                     name, dims[1]);
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
    files->weight_bytes += view->bytes + model_affine_scale_bytes(view);
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
