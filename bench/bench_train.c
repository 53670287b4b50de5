/* Times LoRA steps: tokens/s, GFLOP/s and memory of the trainer alone.
 *
 * usage: bench_train MODEL [rows=4] [length=512] [rank=16] [targets=15] [steps=3] [threads=0]
 *                    [isa=best] [first=0] [chat=0]
 * Every row is a micro-step of its own, every token but a row's first is a target; with chat=1 rows
 * are packed from pieces of 20 to 300 tokens of which the first 40% are no targets. The first step
 * is not counted. Prints one line of key=value pairs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { PIECES_MAX = 64, TOKENS_MAX = 1 << 16 };

struct settings {
    const char *model, *isa;
    int rows, length, rank, targets, steps, threads, first, chat;
};

static const char *text(int argc, char **argv, const char *key, const char *otherwise)
{
    const size_t n = strlen(key);
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=') {
            return argv[i] + n + 1;
        }
    }
    return otherwise;
}

static int number(int argc, char **argv, const char *key, int otherwise)
{
    const char *value = text(argc, argv, key, NULL);
    return value != NULL ? (int)strtol(value, NULL, 0) : otherwise;
}

/* Floating-point operations of one token: every matrix once forward and once backward, factors
 * three times, attention's two products forward and five backward over half the row. */
static double flops_per_token(const struct engine_info *info, const struct settings *s)
{
    const double q = (double)info->n_heads * info->head_dim;
    const double kv = (double)info->n_kv_heads * info->head_dim, d = info->d_model;
    const double f = info->d_ffn, layers = info->n_layers;
    const double in[ENGINE_TARGET_COUNT] = {d, d, d, q, d, d, f};
    const double out[ENGINE_TARGET_COUNT] = {q, kv, kv, d, f, f, d};
    double matrices = (double)info->vocab_size * d, factors = 0;
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        matrices += layers * in[t] * out[t];
        factors += (s->targets >> t) & 1 ? (layers - s->first) * s->rank * (in[t] + out[t]) : 0;
    }
    return 4 * matrices + 6 * factors + 14 * layers * q * s->length / 2;
}

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Fills one micro-step; returns its rows. */
static int make_rows(struct engine_row *rows, int32_t *tokens, uint8_t *targets,
                     const struct settings *s, int vocab, uint32_t *state)
{
    int n = 0, at = 0;
    while (at < s->length && n < PIECES_MAX) {
        int length = s->chat ? 20 + (int)(draw(state) % 281) : s->length;
        length = length > s->length - at ? s->length - at : length;
        rows[n++] =
            (struct engine_row){.tokens = tokens + at, .targets = targets + at, .n_tokens = length};
        for (int i = 0; i < length; i++, at++) {
            tokens[at] = (int32_t)(draw(state) % (uint32_t)vocab);
            targets[at] = i >= (s->chat ? length * 2 / 5 + 1 : 1);
        }
    }
    return n;
}

static int one_step(struct engine_trainer *trainer, const struct engine_info *info,
                    const struct settings *s, int step, uint64_t *n_targets, struct err *err)
{
    static int32_t tokens[TOKENS_MAX];
    static uint8_t targets[TOKENS_MAX];
    struct engine_row rows[PIECES_MAX];
    struct engine_loss loss = {0};
    uint32_t state = (uint32_t)step;
    engine_trainer_zero(trainer);
    for (int i = 0; i < s->rows; i++) {
        const int n = make_rows(rows, tokens, targets, s, info->vocab_size, &state);
        int rc = engine_train_step(trainer, rows, n, (uint64_t)step, 1e-3f, &loss, err);
        if (rc != 0) {
            return rc;
        }
    }
    *n_targets += loss.n_targets;
    return 0;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void report(const struct engine_info *info, const struct settings *s, double seconds,
                   double cpu, uint64_t n_targets, uint64_t planned)
{
    const double tokens = (double)s->steps * s->rows * s->length;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("isa=%s threads=%d tokens_per_s=%.1f tokens_per_cpu_s=%.1f targets_per_s=%.1f "
           "gflops=%.1f step_s=%.3f "
           "planned_mb=%.0f heap_peak_mb=%.0f rss_peak_mb=%.0f\n",
           info->isa, info->threads, tokens / seconds, tokens / cpu, (double)n_targets / seconds,
           flops_per_token(info, s) * tokens / seconds * 1e-9, seconds / s->steps,
           (double)planned / 1e6, (double)mem_peak() / 1e6, (double)usage.ru_maxrss * 1e-3);
}

static int bench(const struct settings *s, struct err *err)
{
    struct engine_model *model = NULL;
    struct engine_adapter *adapter = NULL;
    struct engine_trainer *trainer = NULL;
    const struct engine_options options = {.threads = s->threads, .isa = s->isa};
    const struct engine_lora lora = {
        .rank = s->rank, .scale = 2.0f, .targets = (unsigned)s->targets, .first_layer = s->first};
    const struct engine_train_plan plan = {.tokens_max = s->length, .seed = 1};
    uint64_t planned = 0, n_targets = 0;
    int rc = engine_model_open(&model, s->model, &options, err);
    if (rc == 0) {
        rc = engine_adapter_new(&adapter, model, &lora, 1, err);
    }
    if (rc == 0) {
        rc = engine_trainer_estimate(model, &lora, &plan, &planned, err);
    }
    if (rc == 0) {
        rc = engine_trainer_new(&trainer, model, adapter, &plan, err);
    }
    int64_t begin = 0;
    double cpu = 0;
    for (int step = 0; rc == 0 && step <= s->steps; step++) {
        if (step == 1) {
            begin = clock_monotonic_ns();
            cpu = cpu_seconds();
            n_targets = 0;
        }
        rc = one_step(trainer, engine_model_info(model), s, step, &n_targets, err);
    }
    if (rc == 0) {
        const double seconds = (double)(clock_monotonic_ns() - begin) * 1e-9;
        report(engine_model_info(model), s, seconds, cpu_seconds() - cpu, n_targets, planned);
    }
    engine_trainer_free(trainer);
    engine_adapter_free(adapter);
    engine_model_free(model);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_train MODEL [key=value …]\n");
        return 2;
    }
    const struct settings s = {
        .model = argv[1],
        .isa = text(argc, argv, "isa", "best"),
        .rows = number(argc, argv, "rows", 4),
        .length = number(argc, argv, "length", 512),
        .rank = number(argc, argv, "rank", 16),
        .targets = number(argc, argv, "targets", 15),
        .steps = number(argc, argv, "steps", 3),
        .threads = number(argc, argv, "threads", 0),
        .first = number(argc, argv, "first", 0),
        .chat = number(argc, argv, "chat", 0),
    };
    if (s.length < 2 || s.length > TOKENS_MAX || s.steps < 1 || s.rows < 1) {
        fprintf(stderr, "bench_train: length 2 to %d, rows and steps at least 1\n", TOKENS_MAX);
        return 2;
    }
    struct err err = {0};
    if (bench(&s, &err) != 0) {
        fprintf(stderr, "bench_train: %s\n", err.message);
        return 1;
    }
    return 0;
}
