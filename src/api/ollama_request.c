/* Options that only say how a model is held in memory (num_batch, num_gpu, main_gpu, use_mmap,
 * num_thread) are the server's own business here and pass, and so does num_keep: nothing is ever
 * dropped from a context but whole messages, as `truncate` or `num_ctx` ask for. Options that would
 * change the answer and are not served are refused by name. */
#include "api/ollama.h"

#include <string.h>

#include "base/clock.h"

enum { CONTEXT_DEFAULT = 8192 };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct member_unsupported unsupported[] = {
    {"suffix", NULL}, {"images", NULL}, {"shift", NULL}, /* a full context ends the answer */
};
static const struct member_unsupported unsupported_options[] = {
    {"typical_p", "1"},   {"tfs_z", "1"},           {"mirostat", NULL},
    {"vocab_only", NULL}, {"embedding_only", NULL},
};

int ollama_model_name(const json_t *body, const char **out, struct err *err)
{
    int rc = json_get_string(body, "model", NULL, out, err);
    if (rc == 0 && *out == NULL) {
        rc = json_get_string(body, "name", NULL, out, err);
    }
    if (rc == 0 && (*out == NULL || **out == '\0')) {
        rc = err_set(err, ERR_UNPROCESSABLE, "model is required");
    }
    return rc;
}

int ollama_keep_alive(const json_t *body, bool *given, int64_t *ms, struct err *err)
{
    const json_t *value = json_object_get(body, "keep_alive");
    *given = value != NULL && !json_is_null(value);
    if (json_is_number(value)) {
        const double seconds = json_number_value(value);
        *ms = seconds < 0.0   ? -1
              : seconds > 1e9 ? (int64_t)1000000000000
                              : (int64_t)(seconds * 1e3);
        return 0;
    }
    if (!*given) {
        return 0;
    }
    const char *text = json_string_value(value);
    if (text != NULL && text[0] == '-') {
        *ms = -1;
        return 0;
    }
    return text != NULL ? clock_parse_duration(text, ms, err)
                        : err_set(err, ERR_UNPROCESSABLE, "'keep_alive' is no duration");
}

int ollama_options_read(const json_t *options, struct infer_sampling *s, int *num_ctx,
                        struct err *err)
{
    int rc = members_refuse(options, unsupported_options, COUNT_OF(unsupported_options), err);
    if (rc == 0 && json_is_false(json_object_get(options, "penalize_newline"))) {
        rc = err_set(err, ERR_INVALID, "'penalize_newline' must be true");
    }
    if (rc == 0) {
        rc = member_int(options, "num_ctx", num_ctx, err);
    }
    if (rc == 0) {
        rc = member_tokens(options, "num_predict", &s->max_tokens, err);
    }
    if (rc == 0) {
        rc = member_float(options, "temperature", &s->temperature, err);
    }
    if (rc == 0) {
        rc = member_int(options, "top_k", &s->top_k, err);
    }
    if (rc == 0) {
        rc = member_float(options, "top_p", &s->top_p, err);
    }
    if (rc == 0) {
        rc = member_float(options, "min_p", &s->min_p, err);
    }
    if (rc == 0) {
        rc = member_float(options, "repeat_penalty", &s->repetition_penalty, err);
    }
    if (rc == 0) {
        rc = member_float(options, "presence_penalty", &s->presence_penalty, err);
    }
    if (rc == 0) {
        rc = member_float(options, "frequency_penalty", &s->frequency_penalty, err);
    }
    if (rc == 0) {
        rc = member_int(options, "repeat_last_n", &s->repeat_last_n, err);
        s->repeat_last_n = s->repeat_last_n == -1 ? INFER_REPEAT_LAST_MAX : s->repeat_last_n;
    }
    if (rc == 0) {
        rc = member_seed(options, "seed", s, err);
    }
    return rc == 0 ? member_stops(options, "stop", s, err) : rc;
}

int ollama_request_read(const json_t *body, struct ollama_request *out, struct err *err)
{
    struct infer_sampling *s = &out->sampling;
    memset(out, 0, sizeof *out);
    infer_sampling_defaults(s);
    s->max_tokens = INFER_TOKENS_MAX;
    s->temperature = 0.8f;
    s->top_p = 0.9f;
    s->top_k = 40;
    s->repetition_penalty = 1.1f;
    out->stream = true;
    int rc = ollama_model_name(body, &out->model, err);
    if (rc == 0) {
        rc = members_refuse(body, unsupported, COUNT_OF(unsupported), err);
    }
    if (rc == 0) {
        rc = member_bool(body, "stream", &out->stream, err);
    }
    if (rc == 0) {
        rc = ollama_keep_alive(body, &out->has_keep_alive, &out->keep_alive_ms, err);
    }
    if (rc == 0) {
        rc = member_bool(body, "logprobs", &s->logprobs, err);
    }
    if (rc == 0) {
        rc = member_int(body, "top_logprobs", &s->top_logprobs, err);
    }
    if (rc == 0) {
        rc = ollama_options_read(json_object_get(body, "options"), s, &out->num_ctx, err);
    }
    return rc == 0 ? infer_sampling_check(s, err) : rc;
}

int ollama_check_context(const struct hub *hub, const struct resolved_model *model, int num_ctx,
                         struct err *err)
{
    const int64_t own = model->has_weights ? model->base.context_length : 0;
    const int64_t served = hub->settings.context_length > 0   ? hub->settings.context_length
                           : own > 0 && own < CONTEXT_DEFAULT ? own
                                                              : CONTEXT_DEFAULT;
    if (num_ctx < 0 || num_ctx > served) {
        return err_set(err, ERR_INVALID,
                       "'num_ctx' is %d; the context holds %lld tokens (CONTEXT_LENGTH)", num_ctx,
                       (long long)served);
    }
    return 0;
}

bool ollama_truncates(const json_t *body, int num_ctx)
{
    const json_t *truncate = json_object_get(body, "truncate");
    return json_is_boolean(truncate) ? json_is_true(truncate) : num_ctx > 0;
}

int ollama_load(struct hub *hub, const struct infer_spec *spec, struct err *err)
{
    json_t *arguments = json_pack("{s:s}", "content", "");
    struct buf nothing;
    buf_init(&nothing, 1 << 16);
    const int rc = arguments != NULL
                       ? infer_text(hub->infer, INFER_TOKENIZE, spec, arguments, &nothing, err)
                       : mem_err(err, 0);
    json_decref(arguments);
    buf_release(&nothing);
    return rc;
}

/* Whether an action of a template, which begins at `at`, is none that Jinja knows: ".Prompt",
 * "$x", "if .System", "range .Messages". */
static bool is_go_action(const char *at)
{
    static const char *const words[] = {"if ", "range ", "with ", "else if ", "block ", "define "};
    at += *at == '-';
    at += strspn(at, " \t\r\n");
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        const size_t n = strlen(words[i]);
        if (strncmp(at, words[i], n) == 0 && at[n] != '\0' && strchr(".$(\"", at[n]) != NULL) {
            return true;
        }
    }
    return *at == '.' || *at == '$';
}

int ollama_refuse_go(const char *field, const char *text, struct err *err)
{
    for (const char *at = strstr(text, "{{"); at != NULL; at = strstr(at + 2, "{{")) {
        if (is_go_action(at + 2)) {
            return err_set(err, ERR_INVALID,
                           "'%s' is a template of Go's; send a Jinja chat template, as models "
                           "bring in tokenizer_config.json: {%% for message in messages %%}"
                           "{{ message.role }}: {{ message.content }}{%% endfor %%}",
                           field);
        }
    }
    return 0;
}
