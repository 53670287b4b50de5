/* What enforcing a JSON schema costs beside decoding, as the scheduler does both. Reads the name of
 * a row a line, each {"name", "prompt", "schema"}, writes an answer to its prompt under its schema
 * with the hub's own sampling, and tells in one JSON object
 *
 *   tokens      of the answer
 *   decode      seconds of evals and of choosing tokens, as if there were no schema
 *   compile     seconds from the schema to its first mask
 *   masks       seconds of all other masks, and of following the tokens chosen
 *   choosing    seconds that choosing took longer with a mask; below 0 where few tokens were left
 *   worst       seconds of the slowest mask
 *   text        the answer
 *
 * A grammar belongs to one request, so each line compiles its own. The first line printed tells how
 * long the vocabulary was sorted, which happens once a model, and names the rows.
 *
 * usage: bench_grammar MODEL ROWS [threads=0] [isa=best] [tokens=256] */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "infer/grammar.h"
#include "infer/prompt.h"
#include "infer/sampler.h"

enum { LINE_BYTES = 256, PROMPT_TOKENS_MAX = 1024, TEXT_BYTES_MAX = 1 << 16 };

struct bench {
    struct engine_model *model;
    struct grammar_vocab *vocab;
    struct engine_session *session;
    struct prompter prompter;
    struct sampler sampler;
    struct infer_sampling sampling;
    json_t *rows;            /* {name: row} */
    float *logits, *spare;   /* of one token */
    struct token_ids tokens; /* prompt and answer */
    int tokens_max;
    double decode, compile, masks, choosing, worst;
};

static double lap(int64_t *since_ns)
{
    const int64_t now = clock_monotonic_ns();
    const double seconds = (double)(now - *since_ns) * 1e-9;
    *since_ns = now;
    return seconds;
}

static int eval(struct bench *b, const int32_t *tokens, size_t n, struct err *err)
{
    struct engine_piece piece = {
        .session = b->session, .tokens = tokens, .n_tokens = (int)n, .logits = b->logits};
    return engine_eval(b->model, &piece, 1, err);
}

static int read_prompt(struct bench *b, const json_t *row, struct err *err)
{
    json_t *request = json_pack("{s:[{s:s, s:O}]}", "messages", "role", "user", "content",
                                json_object_get(row, "prompt"));
    if (request == NULL) {
        return err_set(err, ERR_INVALID, "a row needs a prompt");
    }
    token_ids_clear(&b->tokens);
    int rc = prompter_tokens(&b->prompter, request, &b->tokens, err);
    json_decref(request);
    if (rc == 0) {
        engine_session_truncate(b->session, 0);
        rc = eval(b, b->tokens.ids, b->tokens.n, err);
    }
    return rc;
}

static int pick(struct bench *b, float *logits, const uint64_t *mask, int32_t *token,
                struct err *err)
{
    return sampler_pick(&b->sampler, &b->sampling, 1, 0, b->tokens.ids, (int)b->tokens.n, logits,
                        mask, token, err);
}

/* The next token by the grammar; *over when it ends the answer. */
static int next_token(struct bench *b, struct grammar *grammar, bool first, bool *over,
                      struct err *err)
{
    const struct engine_info *info = engine_model_info(b->model);
    const uint64_t *mask;
    int32_t token, freely;
    memcpy(b->spare, b->logits, (size_t)info->vocab_size * sizeof *b->spare);
    int64_t at = clock_monotonic_ns();
    int rc = grammar_mask(grammar, &mask, err);
    const double made = lap(&at);
    rc = rc == 0 ? pick(b, b->spare, NULL, &freely, err) : rc;
    const double plain = lap(&at);
    rc = rc == 0 ? pick(b, b->logits, mask, &token, err) : rc;
    const double masked = lap(&at);
    if (rc != 0) {
        return rc;
    }
    b->compile += first ? made : 0;
    b->masks += first ? 0 : made;
    b->choosing += masked - plain;
    b->worst = made > b->worst ? made : b->worst;
    b->decode += plain;
    for (int i = 0; i < info->n_eos; i++) {
        *over = *over || token == info->eos[i];
    }
    if (*over) {
        return 0;
    }
    at = clock_monotonic_ns();
    rc = grammar_accept(grammar, token, err);
    b->masks += lap(&at);
    rc = rc == 0 ? token_ids_push(&b->tokens, token, err) : rc;
    *over = rc == 0 && grammar_done(grammar);
    return rc;
}

static int answer(struct bench *b, const json_t *row, struct err *err)
{
    struct grammar *grammar = NULL;
    bool over = false;
    b->decode = b->compile = b->masks = b->choosing = b->worst = 0;
    int64_t at = clock_monotonic_ns();
    json_t *source = json_pack("{s:O}", "schema", json_object_get(row, "schema"));
    int rc = grammar_new(&grammar, b->vocab, source, NULL, err);
    b->compile = lap(&at);
    json_decref(source);
    for (int i = 0; rc == 0 && !over && i < b->tokens_max; i++) {
        rc = next_token(b, grammar, i == 0, &over, err);
        if (rc == 0 && !over) {
            at = clock_monotonic_ns();
            rc = eval(b, &b->tokens.ids[b->tokens.n - 1], 1, err);
            b->decode += lap(&at);
        }
    }
    grammar_free(grammar);
    return rc;
}

static int tell(struct bench *b, size_t n_prompt, struct err *err)
{
    struct buf text;
    buf_init(&text, TEXT_BYTES_MAX);
    int rc = tokenizer_decode(engine_model_tokenizer(b->model), b->tokens.ids + n_prompt,
                              b->tokens.n - n_prompt, false, &text, err);
    json_t *told =
        rc == 0 ? json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:s%}", "tokens",
                            (json_int_t)(b->tokens.n - n_prompt), "decode", b->decode, "compile",
                            b->compile, "masks", b->masks, "choosing", b->choosing, "worst",
                            b->worst, "text", text.data != NULL ? text.data : "", text.len)
                : NULL;
    if (rc == 0 && told == NULL) {
        rc = err_set(err, ERR_NOMEM, "no memory for the figures");
    }
    if (rc == 0) {
        json_dumpf(told, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
    }
    json_decref(told);
    buf_release(&text);
    return rc;
}

static int obey(struct bench *b, const char *name, struct err *err)
{
    const json_t *row = json_object_get(b->rows, name);
    if (row == NULL) {
        return err_set(err, ERR_INVALID, "no row is called %s", name);
    }
    int rc = read_prompt(b, row, err);
    const size_t n_prompt = b->tokens.n;
    rc = rc == 0 ? answer(b, row, err) : rc;
    return rc == 0 ? tell(b, n_prompt, err) : rc;
}

static int read_rows(struct bench *b, const char *path, struct err *err)
{
    char *line = NULL;
    size_t size = 0;
    int rc = 0;
    FILE *in = fopen(path, "r");
    if (in == NULL) {
        return err_set(err, ERR_IO, "cannot read %s", path);
    }
    b->rows = json_object();
    for (ssize_t n; rc == 0 && (n = getline(&line, &size, in)) > 0;) {
        json_t *row = json_parse(line, (size_t)n, err);
        const char *name = json_string_value(json_object_get(row, "name"));
        if (name == NULL || json_object_set(b->rows, name, row) != 0) {
            rc = row == NULL ? -ERR_INVALID : err_set(err, ERR_INVALID, "a row needs a name");
        }
        json_decref(row);
    }
    free(line);
    fclose(in);
    return rc;
}

static const char *option(int argc, char **argv, const char *key, const char *otherwise)
{
    const size_t n = strlen(key);
    for (int i = 3; i < argc; i++) {
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=') {
            return argv[i] + n + 1;
        }
    }
    return otherwise;
}

static int open_all(struct bench *b, int argc, char **argv, struct err *err)
{
    const struct engine_options options = {
        .threads = (int)strtol(option(argc, argv, "threads", "0"), NULL, 10),
        .isa = option(argc, argv, "isa", "best")};
    b->tokens_max = (int)strtol(option(argc, argv, "tokens", "256"), NULL, 10);
    infer_sampling_defaults(&b->sampling);
    token_ids_init(&b->tokens, PROMPT_TOKENS_MAX + (size_t)b->tokens_max);
    int rc = read_rows(b, argv[2], err);
    rc = rc == 0 ? engine_model_open(&b->model, argv[1], &options, err) : rc;
    if (rc != 0) {
        return rc;
    }
    const size_t vocab_size = (size_t)engine_model_info(b->model)->vocab_size;
    prompter_init(&b->prompter, b->model);
    rc = sampler_init(&b->sampler, b->model, err);
    rc = rc == 0 ? engine_session_new(&b->session, b->model, err) : rc;
    b->logits = mem_calloc(vocab_size, sizeof *b->logits);
    b->spare = mem_calloc(vocab_size, sizeof *b->spare);
    if (rc == 0 && (b->logits == NULL || b->spare == NULL)) {
        rc = mem_err(err, 2 * vocab_size * sizeof *b->logits);
    }
    return rc;
}

static int tell_first(struct bench *b, struct err *err)
{
    const char *name;
    json_t *row;
    int64_t at = clock_monotonic_ns();
    const int rc = grammar_vocab_new(&b->vocab, b->model, err);
    if (rc == 0) {
        printf("{\"vocab_seconds\": %.6f, \"names\": [", lap(&at));
        const char *comma = "";
        json_object_foreach(b->rows, name, row)
        {
            printf("%s\"%s\"", comma, name);
            comma = ", ";
        }
        puts("]}");
        fflush(stdout);
    }
    return rc;
}

static void close_all(struct bench *b)
{
    grammar_vocab_free(b->vocab);
    engine_session_free(b->session);
    sampler_release(&b->sampler);
    prompter_release(&b->prompter);
    engine_model_free(b->model);
    token_ids_release(&b->tokens);
    mem_free(b->logits);
    mem_free(b->spare);
    json_decref(b->rows);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: bench_grammar MODEL ROWS [threads=0] [isa=best] [tokens=256] < NAMES\n",
              stderr);
        return 2;
    }
    struct err err = {0};
    struct bench b = {0};
    char line[LINE_BYTES];
    int rc = open_all(&b, argc, argv, &err);
    rc = rc == 0 ? tell_first(&b, &err) : rc;
    while (rc == 0 && fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        rc = obey(&b, line, &err);
    }
    if (rc != 0) {
        fprintf(stderr, "bench_grammar: %s\n", err.message);
    }
    close_all(&b);
    return rc == 0 ? 0 : 1;
}
