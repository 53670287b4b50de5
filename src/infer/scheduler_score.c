/* Log-probabilities are differences to the likeliest token's, which the engine computes: the sum is
 * made once for a row. */
#include "infer/scheduler_private.h"

void scheduler_score(const struct scheduler *s, const float *row, int n_top,
                     struct scheduled_token *token)
{
    int32_t top[INFER_TOP_LOGPROBS_MAX];
    int32_t best;
    (void)sampler_top(row, s->info->vocab_size, 1, &best);
    const float best_logprob = engine_log_probability(s->model, row, best);
    token->scored = true;
    token->logprob = (row[token->id] - row[best]) + best_logprob;
    token->n_top = sampler_top(row, s->info->vocab_size, n_top, top);
    for (int i = 0; i < token->n_top; i++) {
        token->top[i].id = top[i];
        token->top[i].logprob = (row[top[i]] - row[best]) + best_logprob;
    }
}

bool scheduler_embed(const struct scheduler *s, struct scheduled *r)
{
    const size_t d = (size_t)s->info->d_model;
    const int first = engine_session_length(r->session) - r->n_rows;
    float squares = 0.0f;
    for (int t = 0; t < r->n_rows; t++) {
        for (size_t i = 0; first + t == r->n_summed && i < d; i++) {
            r->sum[i] += s->hidden[(size_t)t * d + i];
        }
        r->n_summed += first + t == r->n_summed;
    }
    if (r->n_summed < r->n_prompt) {
        return false;
    }
    for (size_t i = 0; i < d; i++) {
        r->sum[i] /= (float)r->n_prompt;
        squares += r->sum[i] * r->sum[i];
    }
    const float length = __builtin_sqrtf(squares);
    for (size_t i = 0; i < d && length > 0.0f; i++) {
        r->sum[i] /= length;
    }
    r->events.embedded(r->ctx, r->sum, (int)d);
    return true;
}

void scheduler_tell_prompt(struct scheduler *s, struct scheduled *r)
{
    const int first = engine_session_length(r->session) - r->n_rows;
    for (int i = 0; i < r->n_rows; i++) {
        struct scheduled_token token = {.index = first + i + 1};
        if (first + i == 0 && r->n_scored == 0) {
            const struct scheduled_token begin = {.index = 0, .id = r->tokens[0]};
            r->events.prompt_token(r->ctx, &begin);
            r->n_scored = 1;
        }
        if (token.index == r->n_scored && token.index < r->n_prompt) {
            token.id = r->tokens[token.index];
            scheduler_score(s, s->rows + (size_t)i * (size_t)s->info->vocab_size,
                            r->sampling.top_logprobs, &token);
            r->events.prompt_token(r->ctx, &token);
            r->n_scored++;
        }
    }
}
