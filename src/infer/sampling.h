/* How tokens are chosen: the settings that a request may give, their defaults and bounds. */
#ifndef INFER_SAMPLING_H
#define INFER_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    INFER_STOPS_MAX = 16,
    INFER_STOP_BYTES_MAX = 256,
    INFER_TOKENS_MAX = 1 << 20,
    INFER_REPEAT_LAST_MAX = 8192,
    INFER_BIAS_MAX = 512,
    INFER_TOP_LOGPROBS_MAX = 20
};

struct infer_bias {
    int32_t id;
    float bias;
};

struct infer_sampling {
    int max_tokens;           /* ≥ 0; 0 only looks at the prompt */
    float temperature;        /* 0 = greedy; at most 100 */
    float top_p;              /* 0 < top_p ≤ 1 */
    int top_k;                /* 0 = all */
    float min_p;              /* 0 ≤ min_p < 1 */
    float repetition_penalty; /* 1 = none */
    int repeat_last_n;        /* how far back penalties look: 64 */
    float presence_penalty, frequency_penalty;
    bool has_seed;
    uint64_t seed;
    bool ignore_eos;
    int n_stops;
    int n_bias;
    struct infer_bias bias[INFER_BIAS_MAX]; /* added to logits; ±1000 at most */
    bool logprobs;                          /* each token comes with its log-probability … */
    int top_logprobs;                       /* … and those of so many of the likeliest */
    char stops[INFER_STOPS_MAX][INFER_STOP_BYTES_MAX]; /* not empty, NUL-terminated */
};

/* The hub's own: 256 tokens, temperature 0.7, top_p 0.9, top_k 50, repetition_penalty 1.1. */
void infer_sampling_defaults(struct infer_sampling *sampling);
/* ERR_UNPROCESSABLE naming the setting, its value and its bounds. */
int infer_sampling_check(const struct infer_sampling *sampling, struct err *err) MUST_CHECK;

#endif
