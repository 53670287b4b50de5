/* mlx-hub generate and mlx-hub chat: answers from a model, a path to weights or a name that the hub
 * knows. Where it runs is answer.h's business. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/print.h"

enum { LINE_BYTES_MAX = 1 << 16 };

/* --- options ------------------------------------------------------------------------------------
 */

static const struct option_info options[] = {
    {"system", "TEXT", "what the model is told first"},
    {"max-tokens", "N", "longest answer (256)"},
    {"temperature", "T", "0 = always the likeliest token (0.7)"},
    {"top-p", "P", "keep the likeliest tokens that make up P (0.9)"},
    {"top-k", "K", "keep the K likeliest tokens, 0 = all (50)"},
    {"min-p", "P", "drop tokens below P times the likeliest (0)"},
    {"repetition-penalty", "R", "above 1 to repeat less (1: off)"},
    {"seed", "N", "repeat an answer byte for byte"},
    {"stop", "TEXT", "end the answer before this text"},
    {"raw", NULL, "give the prompt to the model as it is, without a chat template"},
};

enum { N_OPTIONS = sizeof options / sizeof options[0] };

static int read_real(const struct args *args, const char *name, float *value, struct err *err)
{
    double x;
    const int rc = args_get_real(args, name, (double)*value, &x, err);
    *value = (float)x;
    return rc;
}

static int read_int(const struct args *args, const char *name, int *value, struct err *err)
{
    long n;
    const int rc = args_get_int(args, name, *value, &n, err);
    if (rc == 0 && (n < INT32_MIN || n > INT32_MAX)) {
        return err_set(err, ERR_INVALID, "--%s is out of range", name);
    }
    *value = (int)n;
    return rc;
}

static int read_sampling(const struct args *args, struct infer_sampling *s, struct err *err)
{
    long seed = 0;
    infer_sampling_defaults(s);
    s->repetition_penalty = 1.0f; /* it falls on the words of the question, too */
    int rc = read_int(args, "max-tokens", &s->max_tokens, err);
    rc = rc == 0 ? read_real(args, "temperature", &s->temperature, err) : rc;
    rc = rc == 0 ? read_real(args, "top-p", &s->top_p, err) : rc;
    rc = rc == 0 ? read_int(args, "top-k", &s->top_k, err) : rc;
    rc = rc == 0 ? read_real(args, "min-p", &s->min_p, err) : rc;
    rc = rc == 0 ? read_real(args, "repetition-penalty", &s->repetition_penalty, err) : rc;
    rc = rc == 0 ? args_get_int(args, "seed", 0, &seed, err) : rc;
    s->has_seed = args_get(args, "seed") != NULL;
    s->seed = (uint64_t)seed;
    const char *stop = args_get(args, "stop");
    if (rc == 0 && stop != NULL) {
        if (strlen(stop) >= INFER_STOP_BYTES_MAX) {
            return err_set(err, ERR_INVALID, "--stop takes at most %d bytes",
                           INFER_STOP_BYTES_MAX - 1);
        }
        snprintf(s->stops[s->n_stops++], INFER_STOP_BYTES_MAX, "%s", stop);
    }
    return rc == 0 ? infer_sampling_check(s, err) : rc;
}

/* A member for each that the user gave. */
static json_t *read_given(const struct args *args, struct err *err)
{
    static const char *const names[][2] = {
        {"max-tokens", "max_tokens"},
        {"temperature", "temperature"},
        {"top-p", "top_p"},
        {"top-k", "top_k"},
        {"min-p", "min_p"},
        {"repetition-penalty", "repetition_penalty"},
        {"seed", "seed"},
        {"stop", "stop"},
    };
    json_t *given = json_object();
    int failed = given == NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && failed == 0; i++) {
        failed = args_get(args, names[i][0]) != NULL
                     ? json_object_set(given, names[i][1], json_true())
                     : 0;
    }
    if (failed != 0) {
        json_decref(given);
        (void)mem_err(err, 0);
        return NULL;
    }
    return given;
}

/* What the user gave of settings, and the model with it; *given is the caller's. */
static int open_source(struct source *source, const struct args *args, json_t **given,
                       struct err *err)
{
    struct infer_sampling sampling;
    const int rc = read_sampling(args, &sampling, err);
    *given = rc == 0 ? read_given(args, err) : NULL;
    return *given != NULL ? source_open(source, args, &sampling, *given, err) : -(int)err->code;
}

static int add_message(json_t *messages, const char *role, const char *content, struct err *err)
{
    json_t *message = json_pack("{s:s, s:s}", "role", role, "content", content);
    if (message == NULL || json_array_append_new(messages, message) != 0) {
        return err_set(err, ERR_INVALID, "the text is not UTF-8");
    }
    return 0;
}

/* --- generate -----------------------------------------------------------------------------------
 */

static int print_result(const struct answer *a, struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_key(&out, "text");
    json_out_string_n(&out, a->text.data != NULL ? a->text.data : "", a->text.len);
    json_out_kv_string(&out, "finish_reason", a->finish_reason);
    json_out_kv_int(&out, "prompt_tokens", a->done.prompt_tokens);
    json_out_kv_int(&out, "tokens_generated", a->done.completion_tokens);
    json_out_kv_real(&out, "time_to_first_token", a->done.time_to_first_token);
    json_out_kv_real(&out, "total_time", a->done.total_time);
    json_out_kv_real(&out, "tokens_per_second", a->done.tokens_per_second);
    json_out_kv_int(&out, "seed", (int64_t)a->done.seed);
    json_out_kv_string(&out, "engine", a->done.engine);
    json_out_kv_int(&out, "numerics_version", a->done.numerics_version);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static void print_speed(const struct answer *a)
{
    fflush(stdout);
    fprintf(stderr,
            "[%d prompt tokens, %d new, first after %.0f ms, %.1f tokens/s, seed %llu, %s]\n",
            a->done.prompt_tokens, a->done.completion_tokens, a->done.time_to_first_token * 1e3,
            a->done.tokens_per_second, (unsigned long long)a->done.seed, a->finish_reason);
}

/* The prompt from the command line, or all of standard input. */
static int read_prompt(const struct args *args, struct buf *prompt, struct err *err)
{
    char chunk[4096];
    size_t n;
    if (args->n_positional > 1) {
        buf_puts(prompt, args->positional[1]);
        return buf_check(prompt, "the prompt", err);
    }
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        buf_append(prompt, chunk, n);
    }
    return buf_check(prompt, "the prompt", err);
}

static int run_generate(const struct args *args, struct err *err)
{
    struct source source = {0};
    json_t *given = NULL;
    struct answer a;
    struct buf prompt;
    const bool raw = args_get(args, "raw") != NULL;
    json_t *messages = json_array();
    answer_init(&a, !args->json);
    buf_init(&prompt, INFER_PROMPT_BYTES_MAX);
    interrupt_catch();
    int rc = open_source(&source, args, &given, err);
    rc = rc == 0 ? read_prompt(args, &prompt, err) : rc;
    if (rc == 0 && !raw && args_get(args, "system") != NULL) {
        rc = add_message(messages, "system", args_get(args, "system"), err);
    }
    if (rc == 0 && !raw) {
        rc = add_message(messages, "user", prompt.data != NULL ? prompt.data : "", err);
    }
    if (rc == 0) {
        rc = source_ask(&source, raw ? NULL : messages, &prompt, &a, err);
    }
    int status = rc == 0 ? EXIT_DONE : EXIT_FAILED;
    if (rc == 0 && args->json) {
        status = print_result(&a, err);
    } else if (rc == 0) {
        putchar('\n');
        print_speed(&a);
    }
    source_close(&source);
    buf_release(&prompt);
    answer_release(&a);
    json_decref(given);
    json_decref(messages);
    return status;
}

const struct command command_generate = {
    .name = "generate",
    .summary = "Print a model's answer to one prompt",
    .usage = "MODEL [PROMPT]        MODEL: a path, or a name that mlx-hub list shows",
    .examples = "  mlx-hub generate model.gguf \"What is the capital of France?\"\n"
                "  mlx-hub generate my-model@1.0.0 \"Who are you?\" --temperature 0\n"
                "  echo \"def fib(n):\" | mlx-hub generate model.gguf --raw --seed 7\n",
    .options = options,
    .n_options = N_OPTIONS,
    .positional_min = 1,
    .positional_max = 2,
    .run = run_generate,
};

/* --- chat ---------------------------------------------------------------------------------------
 */

static bool read_line(char *line, size_t size)
{
    if (isatty(STDIN_FILENO)) {
        fputs("> ", stderr);
    }
    if (fgets(line, (int)size, stdin) == NULL) {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    return true;
}

static int take_turn(struct source *source, bool json, json_t *messages, const char *line,
                     struct err *err)
{
    struct answer a;
    answer_init(&a, !json);
    int rc = add_message(messages, "user", line, err);
    rc = rc == 0 ? source_ask(source, messages, NULL, &a, err) : rc;
    if (rc == 0 && json) {
        rc = print_result(&a, err) == EXIT_DONE ? 0 : -(int)err->code;
        fflush(stdout);
    } else if (rc == 0) {
        putchar('\n');
        print_speed(&a);
    }
    if (rc == 0) {
        rc = add_message(messages, "assistant", a.text.data != NULL ? a.text.data : "", err);
    } else if (rc == -ERR_CANCELLED) {
        putchar('\n');
        err_clear(err);
        rc = 0;
        json_array_remove(messages, json_array_size(messages) - 1);
    }
    answer_release(&a);
    return rc;
}

static int run_chat(const struct args *args, struct err *err)
{
    struct source source = {0};
    json_t *given = NULL;
    json_t *messages = json_array();
    char *line = mem_alloc(LINE_BYTES_MAX);
    interrupt_catch();
    int rc = open_source(&source, args, &given, err);
    if (rc == 0 && args_get(args, "system") != NULL) {
        rc = add_message(messages, "system", args_get(args, "system"), err);
    }
    if (rc == 0 && isatty(STDIN_FILENO)) {
        fprintf(stderr, "%s. An empty line or Ctrl-D ends; Ctrl-C stops an answer.\n",
                args->positional[0]);
    }
    while (rc == 0 && line != NULL && read_line(line, LINE_BYTES_MAX) && line[0] != '\0') {
        interrupt_catch();
        rc = take_turn(&source, args->json, messages, line, err);
    }
    source_close(&source);
    mem_free(line);
    json_decref(given);
    json_decref(messages);
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}

const struct command command_chat = {
    .name = "chat",
    .summary = "Talk with a model",
    .usage = "MODEL        MODEL: a path, or a name that mlx-hub list shows",
    .examples = "  mlx-hub chat model.gguf --system \"You are a pirate.\"\n"
                "  mlx-hub chat my-model --temperature 0.2\n",
    .options = options,
    .n_options = N_OPTIONS,
    .positional_min = 1,
    .positional_max = 1,
    .run = run_chat,
};
