/* From a row of logits to one token, by the rule "Sampling" of the numerics.
 *
 * Order: bias, mask, penalties over the last repeat_last_n tokens, temperature, softmax with its
 * sum indexed by token id, then top-k, top-p and min-p over probabilities in (value, token id)
 * order, then one Philox draw for (seed, choice, position). A pure function of its inputs: no state
 * between calls but scratch memory.
 */
#ifndef INFER_SAMPLER_H
#define INFER_SAMPLER_H

#include "base/err.h"
#include "engine/engine.h"
#include "infer/sampling.h"
#include "infer/select.h"

struct sampler {
    const struct engine_model *model;
    struct select select; /* of a value per token of the vocabulary */
};

int sampler_init(struct sampler *sampler, const struct engine_model *model,
                 struct err *err) MUST_CHECK;
void sampler_release(struct sampler *sampler); /* safe on a zeroed struct */

/* Picks the token that follows history[0, n_history); logits (vocab_size) are overwritten. position
 * is n_history, choice the index among answers to one prompt. Greedy (temperature 0) takes the
 * highest logit, the lowest id among equals. mask: a bit per token that may be
 * taken, at least one of them; or NULL. ERR_INVALID when a logit is not finite. */
int sampler_pick(struct sampler *sampler, const struct infer_sampling *sampling, uint64_t seed,
                 uint32_t choice, const int32_t *history, int n_history, float *logits,
                 const uint64_t *mask, int32_t *token, struct err *err) MUST_CHECK;

/* The n_top highest of logits (n) in (value, token id) order, their ids in top; returns how many.
 */
int sampler_top(const float *logits, int n, int n_top, int32_t *top);

#endif
