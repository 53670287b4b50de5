/* Times LoRA steps of the trainer alone: forward, backward and gradients, without the optimizer,
 * whose part is below one in a thousand. Driven, so that it can take turns with a peer: each line
 * read is a step, answered with one JSON object of its seconds, tokens and operations, and of
 * memory so far. A first line tells of the model, after a short step that is not counted.
 *
 * usage: bench_train MODEL [rows=4] [length=512] [rank=16] [targets=15] [threads=0] [isa=best]
 *                    [first=0]
 * Every row is a micro-step of its own, every token but a row's first is a target; first: the first
 * layer that trains.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "flops.h"

enum { TOKENS_MAX = 1 << 16, WARM_TOKENS = 64, LINE_BYTES = 64 };

struct settings {
    const char *model, *isa;
    int rows, length, rank, targets, threads, first;
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

static uint32_t draw(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static int one_step(struct engine_trainer *trainer, int vocab, int n_rows, int length, int step,
                    struct err *err)
{
    static int32_t tokens[TOKENS_MAX];
    static uint8_t targets[TOKENS_MAX];
    struct engine_loss loss = {0};
    uint32_t state = (uint32_t)step;
    engine_trainer_zero(trainer);
    int rc = 0;
    for (int r = 0; rc == 0 && r < n_rows; r++) {
        for (int i = 0; i < length; i++) {
            tokens[i] = (int32_t)(draw(&state) % (uint32_t)vocab);
            targets[i] = i >= 1;
        }
        const struct engine_row row = {.tokens = tokens, .targets = targets, .n_tokens = length};
        rc = engine_train_step(trainer, &row, 1, (uint64_t)step, 1e-3f, &loss, err);
    }
    return rc;
}

static struct engine_lora lora_of(const struct settings *s)
{
    return (struct engine_lora){
        .rank = s->rank, .scale = 2.0f, .targets = (unsigned)s->targets, .first_layer = s->first};
}

static void report(const struct engine_info *info, const struct settings *s, double seconds)
{
    const struct engine_lora lora = lora_of(s);
    const double tokens = (double)s->rows * s->length;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"seconds\": %.4f, \"tokens\": %.0f, \"gflop\": %.2f, \"heap_peak_mb\": %.1f, "
           "\"rss_peak_mb\": %.1f}\n",
           seconds, tokens, flops_per_token(info, &lora, s->length) * tokens * 1e-9,
           (double)mem_peak() * 1e-6, (double)usage.ru_maxrss * 1.024e-3);
    fflush(stdout);
}

static int drive(struct engine_trainer *trainer, const struct engine_info *info,
                 const struct settings *s, uint64_t planned, struct err *err)
{
    char line[LINE_BYTES];
    const int warm = s->length < WARM_TOKENS ? s->length : WARM_TOKENS;
    int rc = one_step(trainer, info->vocab_size, 1, warm, 0, err);
    if (rc != 0) {
        return rc;
    }
    printf("{\"isa\": \"%s\", \"threads\": %d, \"layers\": %d, \"planned_mb\": %.1f, "
           "\"weights_mb\": %.1f}\n",
           info->isa, info->threads, info->n_layers, (double)planned * 1e-6,
           (double)info->weight_bytes * 1e-6);
    fflush(stdout);
    for (int step = 1; rc == 0 && fgets(line, sizeof line, stdin) != NULL; step++) {
        const int64_t begin = clock_monotonic_ns();
        rc = one_step(trainer, info->vocab_size, s->rows, s->length, step, err);
        if (rc == 0) {
            report(info, s, (double)(clock_monotonic_ns() - begin) * 1e-9);
        }
    }
    return rc;
}

static int bench(const struct settings *s, struct err *err)
{
    struct engine_model *model = NULL;
    struct engine_adapter *adapter = NULL;
    struct engine_trainer *trainer = NULL;
    const struct engine_options options = {
        .threads = s->threads, .isa = s->isa, .train_only = true}; /* as the trainer opens it */
    const struct engine_lora lora = lora_of(s);
    const struct engine_train_plan plan = {.tokens_max = s->length, .seed = 1};
    uint64_t planned = 0;
    int rc = engine_model_open(&model, s->model, &options, err);
    rc = rc == 0 ? engine_adapter_new(&adapter, model, &lora, 1, err) : rc;
    rc = rc == 0 ? engine_trainer_estimate(model, &lora, &plan, &planned, err) : rc;
    rc = rc == 0 ? engine_trainer_new(&trainer, model, adapter, &plan, err) : rc;
    rc = rc == 0 ? drive(trainer, engine_model_info(model), s, planned, err) : rc;
    engine_trainer_free(trainer);
    engine_adapter_free(adapter);
    engine_model_free(model);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bench_train MODEL [key=value …] < LINES\n");
        return 2;
    }
    const struct settings s = {
        .model = argv[1],
        .isa = text(argc, argv, "isa", "best"),
        .rows = number(argc, argv, "rows", 4),
        .length = number(argc, argv, "length", 512),
        .rank = number(argc, argv, "rank", 16),
        .targets = number(argc, argv, "targets", 15),
        .threads = number(argc, argv, "threads", 0),
        .first = number(argc, argv, "first", 0),
    };
    if (s.length < 2 || s.length > TOKENS_MAX || s.rows < 1) {
        fprintf(stderr, "bench_train: length 2 to %d, rows at least 1\n", TOKENS_MAX);
        return 2;
    }
    struct err err = {0};
    if (bench(&s, &err) != 0) {
        fprintf(stderr, "bench_train: %s\n", err.message);
        return 1;
    }
    return 0;
}
