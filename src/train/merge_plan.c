/* The base's tensors are walked once. What a family keeps fused (q, k and v; gate and up) is
 * written fused again, whatever the container, so the parts of it are put back into one.
 *
 * Safetensors have no gaps between tensors, and readers want wide elements on their own multiples:
 * what begins with words of four bytes stands before what has two. */
#include <string.h>

#include "train/merge_int.h"

enum { BLOCK = 32, GROUP = 64 };

const struct architecture *merge_gguf_family(const struct model_config *config)
{
    const struct architecture *llama = architecture_of_gguf("llama");
    return config->family->gguf != NULL ? config->family : llama;
}

uint32_t merge_group(uint64_t cols, uint32_t wanted)
{
    if (wanted > 0) {
        return cols % wanted == 0 ? wanted : 0;
    }
    return cols % GROUP == 0 ? GROUP : cols % BLOCK == 0 ? BLOCK : 0;
}

static bool begins_with(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n > m && strcmp(name + n - m, ending) == 0;
}

/* Weights that the architecture has: files may bring others, and scales belong to the matrix beside
 * them. */
static bool is_weight(const struct merge *m, const struct tensor_view *view)
{
    const char *name = view->name;
    if (ends_with(name, ".scales") || ends_with(name, ".biases") || ends_with(name, ".inv_freq")) {
        return false;
    }
    if (begins_with(name, "lm_head.")) {
        return !model_files_config(m->base)->tied_embeddings;
    }
    return begins_with(name, "model.layers.") || begins_with(name, "model.embed_tokens.") ||
           begins_with(name, "model.norm.");
}

/* --- parts ------------------------------------------------------------------------------------ */

static const struct fused {
    const char *parts[MERGE_PARTS_MAX], *whole;
} fused[] = {
    {{".q_proj.weight", ".k_proj.weight", ".v_proj.weight"}, ".qkv_proj.weight"},
    {{".gate_proj.weight", ".up_proj.weight", NULL}, ".gate_up_proj.weight"},
};

static const struct tensor_view *sibling(const struct merge *m, const char *name, size_t stem,
                                         const char *ending)
{
    char other[MERGE_NAME_BYTES];
    (void)snprintf(other, sizeof other, "%.*s%s", (int)stem, name, ending);
    return model_files_tensor(m->base, other);
}

/* The parts and Hugging Face's name of what this view begins; n_parts 0: it is in the middle of
 * another one. */
static int find_parts(struct merge *m, const struct tensor_view *view, struct merge_out *out,
                      struct err *err)
{
    const bool may_fuse = model_files_config(m->base)->family->fused;
    out->parts[0] = view;
    out->n_parts = 1;
    out->name = view->name;
    for (size_t f = 0; may_fuse && f < sizeof fused / sizeof fused[0]; f++) {
        for (int i = 0; i < MERGE_PARTS_MAX && fused[f].parts[i] != NULL; i++) {
            if (!ends_with(view->name, fused[f].parts[i])) {
                continue;
            }
            const size_t stem = strlen(view->name) - strlen(fused[f].parts[i]);
            out->n_parts = 0;
            for (int p = 0; i == 0 && p < MERGE_PARTS_MAX && fused[f].parts[p] != NULL; p++) {
                out->parts[out->n_parts++] = sibling(m, view->name, stem, fused[f].parts[p]);
            }
            out->name = arena_printf(&m->arena, "%.*s%s", (int)stem, view->name, fused[f].whole);
            return out->name != NULL ? 0 : mem_err(err, MERGE_NAME_BYTES);
        }
    }
    return 0;
}

static void find_shape(struct merge_out *out)
{
    const struct tensor_view *first = out->parts[0];
    out->n_dims = first->n_dims < 2 ? 1 : 2;
    out->dims[0] = first->n_dims < 2 ? tensor_view_cols(first) : 0;
    out->dims[1] = tensor_view_cols(first);
    for (unsigned i = 0; i < out->n_parts && first->n_dims == 2; i++) {
        out->dims[0] += tensor_view_rows(out->parts[i]);
    }
}

static bool has_factor(const struct merge *m, const struct merge_out *out)
{
    for (unsigned i = 0; i < out->n_parts; i++) {
        if (merge_has_factor(m, out->parts[i])) {
            return true;
        }
    }
    return false;
}

/* The type of all parts; TENSOR_TYPE_COUNT when they differ. */
static enum tensor_type source_type(const struct merge_out *out)
{
    const enum tensor_type type = out->parts[0]->type;
    for (unsigned i = 1; i < out->n_parts; i++) {
        if (out->parts[i]->type != type) {
            return TENSOR_TYPE_COUNT;
        }
    }
    return type;
}

static bool is_plain(enum tensor_type type)
{
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

static enum tensor_type plain_type(enum merge_type type)
{
    return type == MERGE_F32 ? TENSOR_F32 : type == MERGE_F16 ? TENSOR_F16 : TENSOR_BF16;
}

/* --- safetensors and MLX ---------------------------------------------------------------------- */

static bool all_repack(const struct merge_out *out, int bits)
{
    for (unsigned i = 0; i < out->n_parts; i++) {
        if (!merge_repacks(out->parts[i], bits)) {
            return false;
        }
    }
    return true;
}

/* Embeddings that a file keeps finer than its layers are kept so. */
static int bits_of(const struct merge *m, const struct merge_out *out)
{
    const enum tensor_type type = source_type(out);
    const bool fine = type == TENSOR_Q5_0 || type == TENSOR_Q5_1 || type == TENSOR_Q8_0 ||
                      type == TENSOR_Q5_K || type == TENSOR_Q6_K;
    return fine && !begins_with(out->name, "model.layers.") ? 8 : m->spec->bits;
}

static void plan_affine(const struct merge *m, struct merge_out *out)
{
    const struct merge_spec *spec = m->spec;
    const struct tensor_view *first = out->parts[0];
    const uint64_t cols = out->dims[1];
    const bool mlx = spec->format == MERGE_MLX, kept = !has_factor(m, out);
    const bool linear =
        begins_with(out->name, "model.layers.") && strstr(out->name, "_proj.weight") != NULL;
    if (spec->bits == 0 || out->n_dims != 2 || (!mlx && !linear)) {
        return;
    }
    out->bits = mlx ? bits_of(m, out) : spec->bits;
    out->group = merge_group(cols, spec->group);
    out->scale_type = out->type;
    const enum tensor_type same = out->bits == 4 ? TENSOR_MLX4 : TENSOR_MLX8;
    if (mlx && kept && source_type(out) == same &&
        (spec->group == 0 || spec->group == first->group)) {
        out->way = MERGE_AFFINE_COPY;
        out->group = first->group;
        out->scale_type = first->scale_type;
    } else if (mlx && kept && out->type == TENSOR_F16 &&
               (spec->group == 0 || spec->group == BLOCK) && all_repack(out, out->bits)) {
        out->way = MERGE_REPACK;
        out->group = BLOCK;
    } else if (out->group > 0) {
        out->way = MERGE_AFFINE;
    }
}

static void size_of(struct merge_out *out)
{
    const uint64_t cols = out->dims[out->n_dims - 1];
    const uint64_t rows = out->n_dims == 2 ? out->dims[0] : 1;
    if (out->group > 0 &&
        (out->way == MERGE_AFFINE || out->way == MERGE_REPACK || out->way == MERGE_AFFINE_COPY)) {
        out->bytes = rows * (cols * (uint64_t)out->bits / 8 +
                             2 * (cols / out->group) * tensor_type_block_bytes(out->scale_type));
    } else {
        out->bytes = rows * tensor_type_row_bytes(out->type, cols);
    }
}

/* --- GGUF ------------------------------------------------------------------------------------- */

static enum tensor_type kept_type(const struct merge *m, const struct merge_out *out)
{
    const enum tensor_type type = source_type(out);
    const bool written = is_plain(type) || type == TENSOR_Q8_0 || type == TENSOR_Q4_0;
    return written && (!has_factor(m, out) || is_plain(type) || out->dims[1] % BLOCK == 0)
               ? type
               : TENSOR_F16;
}

static enum tensor_type gguf_type(const struct merge *m, const struct merge_out *out)
{
    const bool blocks = out->dims[1] % BLOCK == 0;
    if (out->n_dims == 1) {
        return TENSOR_F32;
    }
    switch (m->type) {
    case MERGE_KEEP:
        return kept_type(m, out);
    case MERGE_Q8_0:
        return blocks ? TENSOR_Q8_0 : TENSOR_F16;
    case MERGE_Q4_0:
        return !blocks                                   ? TENSOR_F16
               : begins_with(out->name, "model.layers.") ? TENSOR_Q4_0
                                                         : TENSOR_Q8_0;
    default:
        return plain_type(m->type);
    }
}

static bool all_q4_1(const struct merge_out *out)
{
    for (unsigned i = 0; i < out->n_parts; i++) {
        if (!merge_is_q4_1(out->parts[i])) {
            return false;
        }
    }
    return out->n_dims == 2;
}

static int plan_gguf(struct merge *m, struct merge_out *out, struct err *err)
{
    const struct architecture *family = merge_gguf_family(model_files_config(m->base));
    const bool from_gguf = model_files_container(m->base) == MODEL_GGUF;
    const enum tensor_type from = source_type(out);
    char name[MODEL_TENSOR_NAME_BYTES];
    out->type = gguf_type(m, out);
    if (!has_factor(m, out) && from_gguf &&
        (m->type == MERGE_KEEP ? from != TENSOR_TYPE_COUNT : from == out->type)) {
        out->way = MERGE_VERBATIM;
        out->type = from;
    } else if (!has_factor(m, out) && m->type == MERGE_KEEP && all_q4_1(out)) {
        out->way = MERGE_Q4_1;
        out->type = TENSOR_Q4_1;
    }
    out->permuted = family->gguf_permuted && (strstr(out->name, ".q_proj.") != NULL ||
                                              strstr(out->name, ".k_proj.") != NULL);
    out->plus_one = family->norm_plus_one && ends_with(out->name, "norm.weight");
    if (!model_gguf_name(family, out->name, name)) {
        return err_set(err, ERR_UNSUPPORTED, "GGUF has no name for %s", out->name);
    }
    out->name = arena_strdup(&m->arena, name);
    return out->name != NULL ? 0 : mem_err(err, sizeof name);
}

/* Rope's factors: of a GGUF file as they are, else from the config. */
static int plan_rope(struct merge *m, struct err *err)
{
    static const char *const names[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                        "rope_factors_short.weight"};
    const struct gguf *gguf = model_files_gguf(m->base);
    const float *factors[3] = {NULL};
    int rc = gguf == NULL ? merge_rope_factors(m, factors, err) : 0;
    for (size_t i = 0; i < 3 && rc == 0; i++) {
        const struct tensor_view *own = gguf != NULL ? gguf_tensor(gguf, names[i]) : NULL;
        if (own == NULL && factors[i] == NULL) {
            continue;
        }
        struct merge_out *out = &m->outs[m->n_outs++];
        *out = (struct merge_out){.name = names[i],
                                  .n_dims = 1,
                                  .dims = {model_files_config(m->base)->rope_dim / 2},
                                  .type = TENSOR_F32,
                                  .way = MERGE_GIVEN,
                                  .given = factors[i]};
        if (own != NULL) {
            out->way = MERGE_VERBATIM;
            out->parts[0] = own;
            out->n_parts = 1;
            out->type = own->type;
            out->dims[0] = own->dims[0];
        }
        size_of(out);
    }
    return rc;
}

/* --- the list --------------------------------------------------------------------------------- */

static int plan_one(struct merge *m, const struct tensor_view *view, struct err *err)
{
    struct merge_out *out = &m->outs[m->n_outs];
    int rc = find_parts(m, view, out, err);
    if (rc != 0 || out->n_parts == 0) {
        return rc;
    }
    for (unsigned i = 0; i < out->n_parts; i++) {
        if (out->parts[i] == NULL || out->parts[i]->n_dims > 2) {
            return err_set(err, ERR_UNSUPPORTED, "%s has parts that are not written", out->name);
        }
    }
    out->way = MERGE_VALUES;
    find_shape(out);
    if (m->spec->format == MERGE_GGUF) {
        rc = plan_gguf(m, out, err);
    } else {
        out->type = plain_type(m->type);
        plan_affine(m, out);
    }
    size_of(out);
    m->n_outs++;
    return rc;
}

/* Keeps the order among those of one width. */
static int wide_first(struct merge *m, struct err *err)
{
    struct merge_out *sorted = arena_alloc(&m->arena, m->n_outs, sizeof *sorted);
    size_t n = 0;
    if (sorted == NULL) {
        return mem_err(err, m->n_outs * sizeof *sorted);
    }
    for (int narrow = 0; narrow < 2; narrow++) {
        for (size_t i = 0; i < m->n_outs; i++) {
            const struct merge_out *out = &m->outs[i];
            const bool wide = out->way != MERGE_VALUES || out->type == TENSOR_F32;
            if (wide == (narrow == 0)) {
                sorted[n++] = *out;
            }
        }
    }
    m->outs = sorted;
    return 0;
}

int merge_plan(struct merge *m, struct err *err)
{
    const size_t n = model_files_tensor_count(m->base);
    int rc;
    m->outs = arena_alloc(&m->arena, n + 3, sizeof *m->outs);
    if (m->outs == NULL) {
        return mem_err(err, n * sizeof *m->outs);
    }
    rc = m->spec->format == MERGE_GGUF ? plan_rope(m, err) : 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct tensor_view *view = model_files_tensor_at(m->base, i);
        rc = is_weight(m, view) ? plan_one(m, view, err) : 0;
    }
    for (size_t i = 0; i < m->n_outs && rc == 0; i++) {
        m->bytes_total += m->outs[i].bytes;
    }
    return rc == 0 && m->spec->format != MERGE_GGUF ? wide_first(m, err) : rc;
}
