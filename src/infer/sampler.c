/* What may be drawn is a prefix of the tokens in (probability descending, id ascending) order:
 *   top-k   the k first
 *   top-p   without top-k: ever larger prefixes are selected until their mass suffices
 *   min-p   none that is less likely is selected
 * The draw walks the kept prefix: the first token at which the running sum exceeds u × mass. */
#include "infer/sampler.h"

#include <string.h>

#include "base/rng.h"

enum { PREFIX_FIRST = 256 };
static const float NEVER = -1e30f;

int sampler_init(struct sampler *s, const struct engine_model *model, struct err *err)
{
    s->model = model;
    return select_init(&s->select, engine_model_info(model)->vocab_size, err);
}

void sampler_release(struct sampler *s)
{
    select_release(&s->select);
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

/* Leaves the tokens that may be drawn sorted in select->ids; returns how many. */
static int keep(const struct infer_sampling *s, const float *p, struct select *select)
{
    int wanted = s->top_k > 0 ? s->top_k : s->top_p < 1.0f ? PREFIX_FIRST : select->n;
    for (;;) {
        const int n = select_first(select, p, wanted, s->min_p);
        const int first = s->top_k > 0 && s->top_k < n ? s->top_k : n;
        const int prefix = s->top_p < 1.0f ? mass_prefix(p, select->ids, first, s->top_p) : first;
        if (prefix <= first) {
            return prefix;
        }
        if (s->top_k > 0 || n < wanted) {
            return first;
        }
        wanted *= 4;
    }
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

/* Masked logits become low enough that their probability is 0. Penalties and temperature treat each
 * logit alone, so this may come after them. */
static void apply_mask(const uint64_t *mask, int n, float *logits)
{
    for (int i = 0; mask != NULL && i < n; i += 64) {
        for (uint64_t out = ~mask[i / 64]; out != 0; out &= out - 1) {
            const int at = i + __builtin_ctzll(out);
            if (at >= n) {
                break;
            }
            logits[at] = NEVER;
        }
    }
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
    const int n = s->select.n;
    add_bias(sampling, n, logits);
    penalise(sampling, history, n_history, n, logits);
    if (sampling->temperature == 0.0f) {
        *token = select_highest(logits, n, mask);
        return *token >= 0 ? 0 : err_set(err, ERR_INVALID, "none of the logits is a number");
    }
    for (int i = 0; i < n; i++) {
        logits[i] = logits[i] / sampling->temperature;
    }
    apply_mask(mask, n, logits);
    const int rc = engine_softmax(s->model, logits, err);
    if (rc != 0) {
        return rc;
    }
    const int kept = keep(sampling, logits, &s->select);
    const float u = rng_uniform(seed, RNG_SAMPLE, choice, (uint64_t)n_history);
    *token = draw(logits, s->select.ids, kept, u);
    return 0;
}
