/* Inverse frequencies and their scaling; cosines and sines of positions as they are first needed.
 *
 * LongRoPE has two sets of factors. Which one holds is chosen once, by the longest session that the
 * model is opened for, since keys are never turned again.
 */
#include <string.h>

#include "base/mem.h"
#include "engine/native/model.h"
#include "formats/dequant.h"
#include "kernels/det_math.h"

/* Llama 3's scaling of one inverse frequency: long waves divided by factor, short ones kept, a
 * linear blend between (transformers, modeling_rope_utils, _compute_llama3_parameters). */
static double scale_llama3(const struct rope_scaling *s, double inv_freq)
{
    const double wave = 6.283185307179586 / inv_freq;
    const double original = (double)s->original_context;
    if (wave < original / s->high_freq_factor) {
        return inv_freq;
    }
    if (wave > original / s->low_freq_factor) {
        return inv_freq / s->factor;
    }
    const double smooth =
        (original / wave - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
    return (1.0 - smooth) * inv_freq / s->factor + smooth * inv_freq;
}

/* The dimension whose wave turns so many times in the original context. */
static double yarn_dim(const struct rope_scaling *s, double theta, double dims, double turns)
{
    const double length = (double)s->original_context / (turns * 6.283185307179586);
    return dims * det_log(length) / (2.0 * det_log(theta));
}

/* YaRN's scaling of inverse frequency i: how much of it is kept falls from one to zero along the
 * ramp (transformers, modeling_rope_utils, _compute_yarn_parameters). */
static double scale_yarn(const struct rope_scaling *s, double theta, double dims, size_t i,
                         double inv_freq)
{
    double low = yarn_dim(s, theta, dims, s->beta_fast);
    double high = yarn_dim(s, theta, dims, s->beta_slow);
    low = low > 0 ? low : 0;
    high = high < dims - 1 ? high : dims - 1;
    if (!s->between) {
        const double below = (double)(int64_t)high;
        low = (double)(int64_t)low;
        high = below < high ? below + 1 : below;
    }
    if (!(high > low)) {
        high = low + 0.001;
    }
    double ramp = ((double)i - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return inv_freq / s->factor * ramp + inv_freq * (1.0 - ramp);
}

static double scaled(const struct rope_scaling *scaling, double inv_freq, float factor)
{
    switch (scaling->type) {
    case ROPE_SCALING_LLAMA3:
        return scale_llama3(scaling, inv_freq);
    case ROPE_SCALING_LINEAR:
        return inv_freq / scaling->factor;
    case ROPE_SCALING_FACTORS:
    case ROPE_SCALING_LONG:
        return inv_freq / (double)factor;
    default:
        return inv_freq;
    }
}

static int make_rope(struct engine_model *m, struct rope *rope, double theta,
                     const struct rope_scaling *scaling, struct err *err)
{
    const size_t half = rope->dims / 2;
    const size_t n = (size_t)m->info.context_length * half;
    float factors[KERNEL_HEAD_DIM_MAX] = {0};
    rope->scale = (float)scaling->attention_factor;
    rope->inv_freq = mem_calloc(half, sizeof *rope->inv_freq);
    rope->cosines = mem_alloc_simd(n, sizeof(float));
    rope->sines = mem_alloc_simd(n, sizeof(float));
    if (rope->inv_freq == NULL || rope->cosines == NULL || rope->sines == NULL) {
        return mem_err(err, 2 * n * sizeof(float));
    }
    if (scaling->type == ROPE_SCALING_FACTORS) {
        tensor_dequant_row(model_files_tensor(m->files, "rope_freqs.weight"), 0, factors);
    } else if (scaling->type == ROPE_SCALING_LONG) {
        const struct rope_long *stretch = &model_files_config(m->files)->rope_long;
        const bool far = m->info.context_length > (int)scaling->original_context;
        memcpy(factors, far ? stretch->long_factors : stretch->short_factors,
               half * sizeof *factors);
    }
    for (size_t i = 0; i < half; i++) {
        const double plain = 1.0 / det_pow(theta, 2.0 * (double)i / (double)rope->dims);
        rope->inv_freq[i] = (float)(scaling->type == ROPE_SCALING_YARN
                                        ? scale_yarn(scaling, theta, (double)rope->dims, i, plain)
                                        : scaled(scaling, plain, factors[i]));
    }
    return 0;
}

int model_make_ropes(struct engine_model *m, struct err *err)
{
    const struct model_config *c = model_files_config(m->files);
    const struct rope_scaling none = {.attention_factor = 1.0};
    const bool local = c->rope_theta_local != 0 && c->sliding_window > 0;
    m->ropes[0].dims = m->ropes[1].dims = c->rope_dim;
    int rc = make_rope(m, &m->ropes[0], c->rope_theta, &c->rope_scaling, err);
    if (rc == 0 && local) {
        rc = make_rope(m, &m->ropes[1], c->rope_theta_local, &none, err);
    }
    for (int i = 0; i < m->info.n_layers; i++) {
        const bool sliding = (c->layers[i] & MODEL_LAYER_SLIDING) != 0;
        m->layers[i].rope =
            c->layers[i] & MODEL_LAYER_NO_ROPE ? NULL : &m->ropes[local && sliding ? 1 : 0];
    }
    return rc;
}

void model_free_ropes(struct engine_model *m)
{
    for (int i = 0; i < MODEL_ROPES; i++) {
        mem_free(m->ropes[i].inv_freq);
        mem_free(m->ropes[i].cosines);
        mem_free(m->ropes[i].sines);
    }
}

static void fill_rope(struct rope *rope, int n)
{
    const size_t half = rope->dims / 2;
    for (int p = rope->ready; p < n; p++) {
        for (size_t i = 0; i < half; i++) {
            const float angle = (float)p * rope->inv_freq[i];
            rope->cosines[(size_t)p * half + i] = (float)det_cos((double)angle) * rope->scale;
            rope->sines[(size_t)p * half + i] = (float)det_sin((double)angle) * rope->scale;
        }
    }
    rope->ready = n > rope->ready ? n : rope->ready;
}

void model_rope_prepare(struct engine_model *m, int n)
{
    for (int i = 0; i < MODEL_ROPES && m->ropes[i].cosines != NULL; i++) {
        fill_rope(&m->ropes[i], n);
    }
}
