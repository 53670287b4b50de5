/* Selection works on token ids ordered by (probability descending, id ascending), a total order, so
 * what is kept never depends on how the selection went about it:
 *   top-k   quickselect of the k first, then those are sorted
 *   top-p   without top-k: ever larger prefixes are selected and sorted until their mass suffices
 *   min-p   a cut in the sorted prefix
 * The draw walks the kept prefix: the first token at which the running sum exceeds u × mass. */
#include "infer/sampler.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

enum { PREFIX_FIRST = 256 };

int sampler_init(struct sampler *s, const struct engine_model *model, struct err *err)
{
    s->model = model;
    s->vocab_size = engine_model_info(model)->vocab_size;
    s->order = mem_calloc((size_t)s->vocab_size, sizeof *s->order);
    return s->order != NULL ? 0 : mem_err(err, (size_t)s->vocab_size * sizeof *s->order);
}

void sampler_release(struct sampler *s)
{
    mem_free(s->order);
    memset(s, 0, sizeof *s);
}

/* How often `id` occurs in tokens[0, n), counted at its first occurrence only; 0 at later ones. */
static int count_at_first(const int32_t *tokens, int n, int at)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (tokens[i] == tokens[at]) {
            if (i < at) {
                return 0;
            }
            count++;
        }
    }
    return count;
}

static void penalise(const struct infer_sampling *p, const int32_t *history, int n_history,
                     int vocab_size, float *logits)
{
    const int n = n_history < p->repeat_last_n ? n_history : p->repeat_last_n;
    const int32_t *recent = history + (n_history - n);
    if (p->repetition_penalty == 1.0f && p->presence_penalty == 0.0f &&
        p->frequency_penalty == 0.0f) {
        return;
    }
    for (int i = 0; i < n; i++) {
        const int count = count_at_first(recent, n, i);
        if (count == 0 || recent[i] < 0 || recent[i] >= vocab_size) {
            continue;
        }
        float x = logits[recent[i]];
        x = x > 0.0f ? x / p->repetition_penalty : x * p->repetition_penalty;
        x = x - (float)count * p->frequency_penalty;
        logits[recent[i]] = x - p->presence_penalty;
    }
}

static void add_bias(const struct infer_sampling *p, int vocab_size, float *logits)
{
    for (int i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id >= 0 && p->bias[i].id < vocab_size) {
            logits[p->bias[i].id] += p->bias[i].bias;
        }
    }
}

static bool before(const float *p, int32_t a, int32_t b)
{
    return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void swap(int32_t *a, int32_t *b)
{
    const int32_t t = *a;
    *a = *b;
    *b = t;
}

/* Moves the k first of order[0, n) to the front, in any order among themselves (Hoare). */
static void select_first(const float *p, int32_t *order, int n, int k)
{
    int low = 0;
    int high = n - 1;
    while (low < high) {
        const int32_t pivot = order[low + (high - low) / 2];
        int i = low;
        int j = high;
        while (i <= j) {
            while (before(p, order[i], pivot)) {
                i++;
            }
            while (before(p, pivot, order[j])) {
                j--;
            }
            if (i <= j) {
                swap(&order[i++], &order[j--]);
            }
        }
        if (k - 1 <= j) {
            high = j;
        } else if (k - 1 >= i) {
            low = i;
        } else {
            return;
        }
    }
}

/* Heap sort of order[0, n): no recursion, no worst case. */
static void sift(const float *p, int32_t *order, int root, int n)
{
    for (;;) {
        int child = 2 * root + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n && before(p, order[child], order[child + 1])) {
            child++;
        }
        if (!before(p, order[root], order[child])) {
            return;
        }
        swap(&order[root], &order[child]);
        root = child;
    }
}

static void sort_order(const float *p, int32_t *order, int n)
{
    for (int i = n / 2 - 1; i >= 0; i--) {
        sift(p, order, i, n);
    }
    for (int i = n - 1; i > 0; i--) {
        swap(&order[0], &order[i]);
        sift(p, order, 0, i);
    }
}

/* Length of the prefix of order[0, n) whose mass reaches top_p; n + 1 when it does not. */
static int mass_prefix(const float *p, const int32_t *order, int n, float top_p)
{
    float mass = 0.0f;
    for (int i = 0; i < n; i++) {
        mass += p[order[i]];
        if (mass >= top_p) {
            return i + 1;
        }
    }
    return n + 1;
}

/* Leaves the tokens that may be drawn sorted at the front of order; returns how many. */
static int keep(const struct infer_sampling *s, const float *p, int32_t *order, int n)
{
    int kept = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    int sorted = kept;
    if (s->top_p < 1.0f && s->top_k == 0) {
        for (sorted = PREFIX_FIRST < n ? PREFIX_FIRST : n; sorted < n; sorted *= 4) {
            select_first(p, order, n, sorted);
            sort_order(p, order, sorted);
            if (mass_prefix(p, order, sorted, s->top_p) <= sorted) {
                break;
            }
        }
        sorted = sorted < n ? sorted : n;
    }
    if (sorted < n) {
        select_first(p, order, n, sorted);
    }
    sort_order(p, order, sorted);
    if (s->top_p < 1.0f) {
        const int prefix = mass_prefix(p, order, sorted, s->top_p);
        kept = prefix < kept ? prefix : kept;
    }
    const float floor = s->min_p * p[order[0]];
    while (kept > 1 && (p[order[kept - 1]] < floor || p[order[kept - 1]] == 0.0f)) {
        kept--;
    }
    return kept;
}

static int32_t draw(const float *p, const int32_t *order, int kept, float u)
{
    float mass = 0.0f;
    for (int i = 0; i < kept; i++) {
        mass += p[order[i]];
    }
    const float target = u * mass;
    float sum = 0.0f;
    for (int i = 0; i < kept; i++) {
        sum += p[order[i]];
        if (sum > target) {
            return order[i];
        }
    }
    return order[kept - 1];
}

static bool masked(const uint64_t *mask, int32_t id)
{
    return mask != NULL && (mask[id / 64] >> (id % 64) & 1) == 0;
}

/* Masked logits become low enough that their probability is 0. Penalties and temperature treat each
 * logit alone, so this may come after them. */
static void apply_mask(const uint64_t *mask, int n, float *logits)
{
    static const float never = -1e30f;
    for (int i = 0; mask != NULL && i < n; i++) {
        logits[i] = masked(mask, i) ? never : logits[i];
    }
}

static int32_t highest(const float *logits, int n, const uint64_t *mask)
{
    int best = -1;
    for (int i = 0; i < n; i++) {
        if (!masked(mask, i) && (best < 0 || logits[i] > logits[best])) {
            best = i;
        }
    }
    return best;
}

int sampler_top(const float *logits, int n, int n_top, int32_t *top)
{
    int found = 0;
    for (int i = 0; i < n && n_top > 0; i++) {
        if (found == n_top && !before(logits, i, top[found - 1])) {
            continue;
        }
        int at = found < n_top ? found++ : n_top - 1;
        while (at > 0 && before(logits, i, top[at - 1])) {
            top[at] = top[at - 1];
            at--;
        }
        top[at] = i;
    }
    return found;
}

int sampler_pick(struct sampler *s, const struct infer_sampling *sampling, uint64_t seed,
                 uint32_t choice, const int32_t *history, int n_history, float *logits,
                 const uint64_t *mask, int32_t *token, struct err *err)
{
    const int n = s->vocab_size;
    add_bias(sampling, n, logits);
    penalise(sampling, history, n_history, n, logits);
    if (sampling->temperature == 0.0f) {
        *token = highest(logits, n, mask);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        logits[i] = logits[i] / sampling->temperature;
    }
    apply_mask(mask, n, logits);
    const int rc = engine_softmax(s->model, logits, err);
    if (rc != 0) {
        return rc;
    }
    for (int i = 0; i < n; i++) {
        s->order[i] = i;
    }
    const int kept = keep(sampling, logits, s->order, n);
    const float u = rng_uniform(seed, RNG_SAMPLE, choice, (uint64_t)n_history);
    *token = draw(logits, s->order, kept, u);
    return 0;
}
