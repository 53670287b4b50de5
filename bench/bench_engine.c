/* Speed of one model file as the runner would run it, driven by commands so that it can take turns
 * with a peer that is loaded at the same time. Reads one command a line:
 *
 *   prefill N        N tokens into an empty session, logits of the last one
 *   decode DEPTH N   N tokens one by one after DEPTH others
 *   batch S N        N tokens one by one for S sessions at once, each after 32 others
 *   score FILE W OUT logits of every token of FILE (ids, separated by spaces) in windows of W
 *                    tokens, each read from scratch, written to OUT as fp32
 *
 * and answers with one JSON object a line: {"seconds": …}. A first line tells of the model.
 *
 * usage: bench_engine MODEL [threads=0] [isa=best] [context=0] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"

enum { SESSIONS_MAX = 32, BATCH_DEPTH = 32, LINE_BYTES = 4096, WINDOW_MAX = 512 };

struct bench {
    struct engine_model *model;
    const struct engine_info *info;
    struct engine_session *session; /* of prefill, decode and score */
    float *logits;                  /* SESSIONS_MAX rows */
};

static double seconds_since(int64_t start_ns)
{
    return (double)(clock_monotonic_ns() - start_ns) / 1e9;
}

/* Any token will do: speed does not depend on which, and peers are given the same. */
static int32_t token_at(const struct bench *b, int i)
{
    return (int32_t)((int64_t)i * 7919 % b->info->vocab_size);
}

/* Fills a session up to `end` tokens in evals as long as they may be. */
static int fill(struct bench *b, struct engine_session *session, int end, float *logits,
                struct err *err)
{
    int32_t tokens[ENGINE_EVAL_TOKENS_MAX];
    int rc = 0;
    for (int at = engine_session_length(session); rc == 0 && at < end;) {
        const int n = end - at < ENGINE_EVAL_TOKENS_MAX ? end - at : ENGINE_EVAL_TOKENS_MAX;
        for (int i = 0; i < n; i++) {
            tokens[i] = token_at(b, at + i);
        }
        at += n;
        struct engine_piece piece = {.session = session,
                                     .tokens = tokens,
                                     .n_tokens = n,
                                     .logits = at == end ? logits : NULL};
        rc = engine_eval(b->model, &piece, 1, err);
    }
    return rc;
}

static int run_prefill(struct bench *b, int n, double *seconds, struct err *err)
{
    engine_session_truncate(b->session, 0);
    const int64_t start = clock_monotonic_ns();
    const int rc = fill(b, b->session, n, b->logits, err);
    *seconds = seconds_since(start);
    return rc;
}

static int decode_all(struct bench *b, struct engine_session **sessions, int n_sessions, int n,
                      double *seconds, struct err *err)
{
    const int32_t token = 5;
    struct engine_piece pieces[SESSIONS_MAX];
    for (int s = 0; s < n_sessions; s++) {
        pieces[s] =
            (struct engine_piece){.session = sessions[s],
                                  .tokens = &token,
                                  .n_tokens = 1,
                                  .logits = b->logits + (size_t)s * (size_t)b->info->vocab_size};
    }
    int rc = 0;
    const int64_t start = clock_monotonic_ns();
    for (int i = 0; rc == 0 && i < n; i++) {
        rc = engine_eval(b->model, pieces, n_sessions, err);
    }
    *seconds = seconds_since(start);
    return rc;
}

static int run_decode(struct bench *b, int depth, int n, double *seconds, struct err *err)
{
    if (engine_session_length(b->session) > depth) {
        engine_session_truncate(b->session, depth);
    }
    int rc = fill(b, b->session, depth, NULL, err);
    rc = rc == 0 ? decode_all(b, &b->session, 1, n, seconds, err) : rc;
    return rc;
}

static int run_batch(struct bench *b, int n_sessions, int n, double *seconds, struct err *err)
{
    struct engine_session *sessions[SESSIONS_MAX] = {NULL};
    int rc = n_sessions < 1 || n_sessions > SESSIONS_MAX
                 ? err_set(err, ERR_INVALID, "1 to %d sessions", (int)SESSIONS_MAX)
                 : 0;
    engine_session_truncate(b->session, 0);
    for (int s = 0; rc == 0 && s < n_sessions; s++) {
        rc = engine_session_new(&sessions[s], b->model, err);
        rc = rc == 0 ? fill(b, sessions[s], BATCH_DEPTH, NULL, err) : rc;
    }
    rc = rc == 0 ? decode_all(b, sessions, n_sessions, n, seconds, err) : rc;
    for (int s = 0; s < SESSIONS_MAX; s++) {
        engine_session_free(sessions[s]);
    }
    return rc;
}

/* Logits of the next window of ids from `in` to `out`; *n is 0 when there are none left. */
static int score_window(struct bench *b, FILE *in, FILE *out, int window, float *rows, int *n,
                        struct err *err)
{
    int32_t tokens[WINDOW_MAX];
    char *end;
    char word[16];
    *n = 0;
    for (size_t len = 0; *n < window;) {
        const int c = fgetc(in);
        if (c >= '0' && c <= '9' && len + 1 < sizeof word) {
            word[len++] = (char)c;
        } else if (len > 0) {
            word[len] = '\0';
            tokens[(*n)++] = (int32_t)strtol(word, &end, 10);
            len = 0;
        }
        if (c == EOF) {
            break;
        }
    }
    if (*n == 0) {
        return 0;
    }
    engine_session_truncate(b->session, 0);
    struct engine_piece piece = {.session = b->session,
                                 .tokens = tokens,
                                 .n_tokens = *n,
                                 .logits = rows,
                                 .all_logits = true};
    const size_t values = (size_t)*n * (size_t)b->info->vocab_size;
    const int rc = engine_eval(b->model, &piece, 1, err);
    if (rc == 0 && fwrite(rows, sizeof *rows, values, out) != values) {
        return err_set(err, ERR_IO, "cannot write the logits");
    }
    return rc;
}

static int run_score(struct bench *b, const char *ids, int window, const char *path,
                     double *seconds, struct err *err)
{
    FILE *in = fopen(ids, "r");
    FILE *out = fopen(path, "w");
    const int64_t start = clock_monotonic_ns();
    int rc = in == NULL || out == NULL || window < 1 || window > WINDOW_MAX
                 ? err_set(err, ERR_INVALID, "score FILE WINDOW OUT")
                 : 0;
    const size_t values = (size_t)WINDOW_MAX * (size_t)b->info->vocab_size;
    float *rows = rc == 0 ? mem_calloc(values, sizeof *rows) : NULL;
    rc = rc == 0 && rows == NULL ? mem_err(err, values * sizeof *rows) : rc;
    for (int n = 1; rc == 0 && n > 0;) {
        rc = score_window(b, in, out, window, rows, &n, err);
    }
    if (out != NULL && fclose(out) != 0 && rc == 0) {
        rc = err_set(err, ERR_IO, "cannot write the logits");
    }
    if (in != NULL) {
        fclose(in);
    }
    mem_free(rows);
    *seconds = seconds_since(start);
    return rc;
}

static int number(const char *word)
{
    return word != NULL ? (int)strtol(word, NULL, 10) : 0;
}

static int obey(struct bench *b, char *line, struct err *err)
{
    char *words[4] = {NULL};
    char *rest = line;
    for (int i = 0; i < 4; i++) {
        words[i] = strsep(&rest, " \n");
    }
    double seconds = 0;
    int rc;
    if (words[1] != NULL && strcmp(words[0], "prefill") == 0) {
        rc = run_prefill(b, number(words[1]), &seconds, err);
    } else if (words[2] != NULL && strcmp(words[0], "decode") == 0) {
        rc = run_decode(b, number(words[1]), number(words[2]), &seconds, err);
    } else if (words[2] != NULL && strcmp(words[0], "batch") == 0) {
        rc = run_batch(b, number(words[1]), number(words[2]), &seconds, err);
    } else if (words[3] != NULL && strcmp(words[0], "score") == 0) {
        rc = run_score(b, words[1], number(words[2]), words[3], &seconds, err);
    } else {
        rc = err_set(err, ERR_INVALID, "no such command: %s", words[0]);
    }
    if (rc == 0) {
        printf("{\"seconds\": %.6f}\n", seconds);
        fflush(stdout);
    }
    return rc;
}

static const char *option(int argc, char **argv, const char *key, const char *otherwise)
{
    const size_t n = strlen(key);
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=') {
            return argv[i] + n + 1;
        }
    }
    return otherwise;
}

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    const struct engine_options options = {.threads = number(option(argc, argv, "threads", "0")),
                                           .isa = option(argc, argv, "isa", "best"),
                                           .context_length =
                                               number(option(argc, argv, "context", "0"))};
    const int64_t start = clock_monotonic_ns();
    int rc = engine_model_open(&b->model, argv[1], &options, err);
    if (rc != 0) {
        return rc;
    }
    const double opened = seconds_since(start);
    b->info = engine_model_info(b->model);
    const size_t values = (size_t)SESSIONS_MAX * (size_t)b->info->vocab_size;
    b->logits = mem_calloc(values, sizeof *b->logits);
    rc = b->logits == NULL ? mem_err(err, values * sizeof *b->logits) : 0;
    rc = rc == 0 ? engine_session_new(&b->session, b->model, err) : rc;
    if (rc == 0) {
        printf("{\"isa\": \"%s\", \"threads\": %d, \"open_seconds\": %.4f, \"weight_bytes\": %llu, "
               "\"vocab_size\": %d}\n",
               b->info->isa, b->info->threads, opened, (unsigned long long)b->info->weight_bytes,
               b->info->vocab_size);
        fflush(stdout);
    }
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: bench_engine MODEL [threads=0] [isa=best] [context=0] < COMMANDS\n", stderr);
        return 2;
    }
    struct err err = {0};
    struct bench b = {0};
    char line[LINE_BYTES];
    int rc = open_all(&b, argc, argv, &err);
    while (rc == 0 && fgets(line, sizeof line, stdin) != NULL) {
        rc = obey(&b, line, &err);
    }
    if (rc != 0) {
        fprintf(stderr, "bench_engine: %s\n", err.message);
    }
    engine_session_free(b.session);
    mem_free(b.logits);
    engine_model_free(b.model);
    return rc == 0 ? 0 : 1;
}
