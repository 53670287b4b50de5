#include "train/adamw.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/det_math.h"

enum { LANES = 16 };

static const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;

static size_t values(const struct engine_tensor *tensor)
{
    return (size_t)tensor->rows * (size_t)tensor->cols;
}

size_t tensors_values(const struct engine_tensor *tensors, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += values(&tensors[i]);
    }
    return sum;
}

int adapter_copy(struct engine_adapter *to, struct engine_adapter *from, struct err *err)
{
    int n, n_from;
    struct engine_tensor *tensors = engine_adapter_tensors(to, &n);
    const struct engine_tensor *source = engine_adapter_tensors(from, &n_from);
    bool same = n == n_from;
    for (int i = 0; i < n && same; i++) {
        same = strcmp(tensors[i].name, source[i].name) == 0 && tensors[i].rows == source[i].rows &&
               tensors[i].cols == source[i].cols;
    }
    if (!same) {
        return err_set(err, ERR_INVALID,
                       "the adapter has rank %d on %d tensors, the config makes rank %d on %d",
                       engine_adapter_lora(from)->rank, n_from, engine_adapter_lora(to)->rank, n);
    }
    for (int i = 0; i < n; i++) {
        memcpy(tensors[i].data, source[i].data, values(&source[i]) * sizeof(float));
    }
    engine_adapter_changed(to);
    return 0;
}

void tensors_gather(const struct engine_tensor *tensors, int n, float *out)
{
    for (int i = 0; i < n; i++) {
        memcpy(out, tensors[i].data, values(&tensors[i]) * sizeof(float));
        out += values(&tensors[i]);
    }
}

void tensors_scatter(struct engine_tensor *tensors, int n, const float *from)
{
    for (int i = 0; i < n; i++) {
        memcpy(tensors[i].data, from, values(&tensors[i]) * sizeof(float));
        from += values(&tensors[i]);
    }
}

int adamw_init(struct adamw *adamw, size_t n, struct err *err)
{
    adamw->n = n;
    adamw->m = mem_calloc(n, sizeof(float));
    adamw->v = mem_calloc(n, sizeof(float));
    if (adamw->m == NULL || adamw->v == NULL) {
        adamw_release(adamw);
        return mem_err(err, n * sizeof(float));
    }
    return 0;
}

void adamw_release(struct adamw *adamw)
{
    mem_free(adamw->m);
    mem_free(adamw->v);
    memset(adamw, 0, sizeof *adamw);
}

/* Coefficients of one step. */
struct coefficients {
    float decay, m, v_keep, v_new, rate, v_root, epsilon, scale;
};

static void update(float *restrict p, const float *restrict gradient, float *restrict m,
                   float *restrict v, size_t n, const struct coefficients *c)
{
    for (size_t i = 0; i < n; i++) {
        const float g = gradient[i] * c->scale;
        m[i] = m[i] + c->m * (g - m[i]);
        v[i] = c->v_keep * v[i] + c->v_new * g * g;
        const float step = m[i] / (sqrtf(v[i]) / c->v_root + c->epsilon);
        p[i] = p[i] * c->decay - c->rate * step;
    }
}

/* x − x is 0 for finite x alone. */
static bool all_finite(const float *x, size_t n)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) {
        sum += x[i] - x[i];
    }
    return sum == 0.0f;
}

int adamw_step(struct adamw *adamw, struct engine_tensor *tensors, float *const *gradients, int n,
               int64_t step, double learning_rate, double weight_decay, float scale,
               struct err *err)
{
    const double t = (double)step;
    const struct coefficients c = {
        .decay = (float)(1.0 - learning_rate * weight_decay),
        .m = (float)(1.0 - beta1),
        .v_keep = (float)beta2,
        .v_new = (float)(1.0 - beta2),
        .rate = (float)(learning_rate / (1.0 - det_pow(beta1, t))),
        .v_root = (float)sqrt(1.0 - det_pow(beta2, t)),
        .epsilon = (float)epsilon,
        .scale = scale,
    };
    bool finite = true;
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const size_t count = values(&tensors[i]);
        update(tensors[i].data, gradients[i], adamw->m + at, adamw->v + at, count, &c);
        finite = finite && all_finite(tensors[i].data, count);
        at += count;
    }
    return finite ? 0 : err_set(err, ERR_INVALID, "NaN/Inf in the adapter");
}

float gradient_norm(const struct engine_tensor *tensors, float *const *gradients, int n)
{
    float lanes[LANES] = {0};
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        const size_t count = values(&tensors[i]);
        const float *g = gradients[i];
        for (size_t k = 0; k < count; k++, at++) {
            lanes[at % LANES] = fmaf(g[k], g[k], lanes[at % LANES]);
        }
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            lanes[i] += lanes[i + half];
        }
    }
    return sqrtf(lanes[0]);
}

float clip_scale(float norm, double norm_max)
{
    if (norm_max <= 0.0) {
        return 1.0f;
    }
    const float scale = (float)norm_max / (norm + 1e-6f);
    return scale < 1.0f ? scale : 1.0f;
}
