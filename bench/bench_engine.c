/* Prefill and decode speed of one model file, as the runner would run it: one session, logits of
 * the last token only. Prints one JSON object: tokens/s as the median of the rounds after a first
 * one that pays for page faults, the time to open, and the share of bytes read per second while
 * decoding.
 *
 * usage: bench_engine MODEL [THREADS [PROMPT [DECODE [ROUNDS [ISA]]]]] */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { ROUNDS_MAX = 64 };

struct options {
    int prompt, decode, rounds;
};

static double seconds_since(int64_t start_ns)
{
    return (double)(clock_monotonic_ns() - start_ns) / 1e9;
}

static int by_value(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, by_value);
    return values[n / 2];
}

static int one_round(struct engine_model *model, const struct options *o, int32_t *tokens,
                     float *logits, double *prefill, double *decode, struct err *err)
{
    struct engine_session *session = NULL;
    int rc = engine_session_new(&session, model, err);
    int64_t start = clock_monotonic_ns();
    for (int at = 0; rc == 0 && at < o->prompt; at += ENGINE_EVAL_TOKENS_MAX) {
        const int left = o->prompt - at;
        const int n = left < ENGINE_EVAL_TOKENS_MAX ? left : ENGINE_EVAL_TOKENS_MAX;
        struct engine_piece piece = {.session = session,
                                     .tokens = tokens + at,
                                     .n_tokens = n,
                                     .logits = n == left ? logits : NULL};
        rc = engine_eval(model, &piece, 1, err);
    }
    *prefill = (double)o->prompt / seconds_since(start);
    start = clock_monotonic_ns();
    for (int i = 0; rc == 0 && i < o->decode; i++) {
        struct engine_piece piece = {
            .session = session, .tokens = tokens, .n_tokens = 1, .logits = logits};
        rc = engine_eval(model, &piece, 1, err);
    }
    *decode = (double)o->decode / seconds_since(start);
    engine_session_free(session);
    return rc;
}

static int number(int argc, char **argv, int at, int fallback)
{
    return argc > at ? (int)strtol(argv[at], NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    struct engine_model *model = NULL;
    double prefill[ROUNDS_MAX + 1];
    double decode[ROUNDS_MAX + 1];
    const struct options o = {number(argc, argv, 3, 512), number(argc, argv, 4, 64),
                              number(argc, argv, 5, 3)};
    const struct engine_options options = {.threads = number(argc, argv, 2, 0),
                                           .isa = argc > 6 ? argv[6] : "best"};
    if (argc < 2 || o.prompt < 1 || o.decode < 1 || o.rounds < 1 || o.rounds > ROUNDS_MAX) {
        fputs("usage: bench_engine MODEL [THREADS [PROMPT [DECODE [ROUNDS [ISA]]]]]\n", stderr);
        return 2;
    }
    const int64_t start = clock_monotonic_ns();
    if (engine_model_open(&model, argv[1], &options, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    const double opened = seconds_since(start);
    const struct engine_info *info = engine_model_info(model);
    int32_t *tokens = mem_calloc((size_t)o.prompt, sizeof *tokens);
    float *logits = mem_calloc((size_t)info->vocab_size, sizeof *logits);
    int rc = tokens != NULL && logits != NULL ? 0 : mem_err(&err, 0);
    for (int i = 0; rc == 0 && i < o.prompt; i++) {
        tokens[i] = (int32_t)((int64_t)i * 7919 % info->vocab_size);
    }
    for (int i = 0; rc == 0 && i <= o.rounds; i++) {
        rc = one_round(model, &o, tokens, logits, &prefill[i], &decode[i], &err);
    }
    if (rc == 0) {
        const double d = median(decode + 1, o.rounds);
        printf("{\"prefill\": %.2f, \"decode\": %.2f, \"open_seconds\": %.4f, \"isa\": \"%s\", "
               "\"threads\": %d, \"decode_gb_per_s\": %.2f}\n",
               median(prefill + 1, o.rounds), d, opened, info->isa, info->threads,
               d * (double)info->weight_bytes / 1e9);
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    mem_free(tokens);
    mem_free(logits);
    engine_model_free(model);
    return rc == 0 ? 0 : 1;
}
