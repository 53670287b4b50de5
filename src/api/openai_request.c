/* Members that are known and not served are refused by name; members that nobody knows pass. */
#include "api/openai.h"

#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct member_unsupported unsupported[] = {
    {"grammar", NULL},
    {"dry_multiplier", NULL},
    {"xtc_probability", NULL},
    {"dynatemp_range", NULL},
    {"top_n_sigma", "-1"},
    {"mirostat", NULL},
    {"typical_p", "1"},
    {"samplers", NULL},
    {"lora", NULL},
    {"timings_per_token", NULL},
    {"return_progress", NULL},
    {"t_max_predict_ms", NULL},
    {"draft_model", NULL},
    {"num_draft_tokens", NULL},
    {"adapters", NULL},
    {"role_mapping", NULL},
    {"audio", NULL},
    {"modalities", "[\"text\"]"},
    {"functions", NULL},
    {"function_call", NULL},
    {"prediction", NULL},
    {"web_search_options", NULL},
    {"suffix", NULL},
    {"id_slot", "-1"},
    {"store", NULL},
    {"best_of", "1"},
    {"use_beam_search", NULL},
    {"length_penalty", "1"},
    {"min_tokens", NULL},
    {"stop_token_ids", NULL},
    {"bad_words", NULL},
    {"allowed_token_ids", NULL},
    {"include_stop_str_in_output", NULL},
    {"truncate_prompt_tokens", NULL},
    {"prompt_logprobs", NULL},
    {"structured_outputs", NULL},
    {"guided_json", NULL},
    {"guided_regex", NULL},
    {"guided_choice", NULL},
    {"guided_grammar", NULL},
    {"verbosity", "\"medium\""},
    {"chat_template", NULL},
    {"documents", NULL},
    {"continue_final_message", NULL},
    {"post_sampling_probs", NULL},
    {"sse_ping_interval", "-1"},
};

/* On where nothing is said, and not to be switched off. */
static const char *const always_on[] = {"add_generation_prompt", "parse_tool_calls"};

/* What one of the two routes knows, and the other would ignore. */
static const struct member_unsupported of_completions[] = {{"echo", NULL}, {"prompt", NULL}};
static const struct member_unsupported of_chats[] = {
    {"messages", NULL}, {"tools", NULL}, {"tool_choice", "\"none\""}};

static int read_sampling(const json_t *body, struct infer_sampling *s, struct err *err)
{
    int rc = member_tokens(body, "max_tokens", &s->max_tokens, err);
    if (rc == 0) {
        rc = member_tokens(body, "max_completion_tokens", &s->max_tokens, err);
    }
    if (rc == 0) {
        rc = member_tokens(body, "n_predict", &s->max_tokens, err); /* llama.cpp's */
    }
    if (rc == 0) {
        rc = member_float(body, "temperature", &s->temperature, err);
    }
    if (rc == 0) {
        rc = member_float(body, "top_p", &s->top_p, err);
    }
    if (rc == 0) {
        rc = member_int(body, "top_k", &s->top_k, err);
        s->top_k = s->top_k == -1 ? 0 : s->top_k; /* vLLM's clients say -1 for all */
    }
    if (rc == 0) {
        rc = member_float(body, "min_p", &s->min_p, err);
    }
    if (rc == 0) {
        rc = member_float(body, "presence_penalty", &s->presence_penalty, err);
    }
    if (rc == 0) {
        rc = member_float(body, "frequency_penalty", &s->frequency_penalty, err);
    }
    if (rc == 0) {
        rc = member_float(body, "repeat_penalty", &s->repetition_penalty, err);
    }
    if (rc == 0) {
        rc = member_float(body, "repetition_penalty", &s->repetition_penalty, err);
    }
    if (rc == 0) {
        rc = member_int(body, "repeat_last_n", &s->repeat_last_n, err);
    }
    if (rc == 0) {
        rc = member_int(body, "repetition_context_size", &s->repeat_last_n, err);
        s->repeat_last_n = s->repeat_last_n == -1 ? INFER_REPEAT_LAST_MAX : s->repeat_last_n;
    }
    if (rc == 0) {
        rc = member_bool(body, "ignore_eos", &s->ignore_eos, err);
    }
    if (rc == 0) {
        rc = member_seed(body, "seed", s, err);
    }
    if (rc == 0) {
        rc = member_stops(body, "stop", s, err);
    }
    return rc == 0 ? member_bias(body, "logit_bias", s, err) : rc;
}

/* chat: logprobs true, top_logprobs 0–20; legacy: logprobs N. */
static int read_logprobs(const json_t *body, bool chat, struct infer_sampling *s, struct err *err)
{
    const json_t *logprobs = json_object_get(body, "logprobs");
    const json_t *top_given = json_object_get(body, "top_logprobs");
    int top = -1;
    int rc = 0;
    if (json_is_integer(top_given) && json_integer_value(top_given) < 0) {
        return err_set(err, ERR_UNPROCESSABLE, "'top_logprobs' must be between 0 and %d",
                       INFER_TOP_LOGPROBS_MAX);
    }
    if (json_is_boolean(logprobs)) {
        s->logprobs = json_is_true(logprobs);
    } else {
        rc = member_int(body, "logprobs", &top, err);
        s->logprobs = json_is_number(logprobs);
    }
    if (rc == 0 && chat && json_is_number(logprobs)) {
        rc = err_set(err, ERR_UNPROCESSABLE, "'logprobs' must be true or false");
    }
    if (rc == 0) {
        rc = member_int(body, "top_logprobs", &top, err);
    }
    if (rc == 0) {
        rc = member_int(body, "n_probs", &top, err);
        s->logprobs = s->logprobs || (top > 0 && json_is_number(json_object_get(body, "n_probs")));
    }
    if (rc == 0 && top > 0 && !s->logprobs) {
        rc = err_set(err, ERR_UNPROCESSABLE, "'top_logprobs' needs 'logprobs'");
    }
    if (rc == 0 && json_is_number(logprobs) && json_number_value(logprobs) < 0.0) {
        rc = err_set(err, ERR_UNPROCESSABLE, "'logprobs' must be between 0 and %d",
                     INFER_TOP_LOGPROBS_MAX);
    }
    s->top_logprobs = top > 0 ? top : 0;
    return rc;
}

static int check_members(const json_t *body, bool chat, struct err *err)
{
    int rc = members_refuse(body, unsupported, COUNT_OF(unsupported), err);
    if (rc == 0) {
        rc = chat ? members_refuse(body, of_completions, COUNT_OF(of_completions), err)
                  : members_refuse(body, of_chats, COUNT_OF(of_chats), err);
    }
    for (size_t i = 0; i < COUNT_OF(always_on) && rc == 0; i++) {
        if (json_is_false(json_object_get(body, always_on[i]))) {
            rc = err_set(err, ERR_INVALID, "'%s' must be true", always_on[i]);
        }
    }
    return rc;
}

int openai_request_read(const json_t *body, bool chat, struct openai_request *out, struct err *err)
{
    const json_t *options = json_object_get(body, "stream_options");
    bool cache = true;
    memset(out, 0, sizeof *out);
    out->body = body;
    out->n = 1;
    infer_sampling_defaults(&out->sampling);
    out->sampling.max_tokens = chat ? INFER_TOKENS_MAX : 16;
    out->sampling.temperature = 0.8f;
    out->sampling.top_p = 0.95f;
    out->sampling.top_k = 40;
    out->sampling.min_p = 0.05f;
    out->sampling.repetition_penalty = 1.0f;
    int rc = check_members(body, chat, err);
    if (rc == 0) {
        rc = member_bool(body, "stream", &out->stream, err);
    }
    if (rc == 0) {
        rc = member_bool(options, "include_usage", &out->include_usage, err);
    }
    if (rc == 0 && !chat) {
        rc = member_bool(body, "echo", &out->echo, err);
    }
    if (rc == 0) {
        rc = member_bool(body, "cache_prompt", &cache, err);
    }
    out->cold = !cache;
    if (rc == 0) {
        rc = member_int(body, "n", &out->n, err);
    }
    if (rc == 0 && (out->n < 1 || out->n > OPENAI_CHOICES_MAX)) {
        rc = err_set(err, ERR_UNPROCESSABLE, "'n' is %d; it must be between 1 and %d", out->n,
                     OPENAI_CHOICES_MAX);
    }
    if (rc == 0) {
        rc = read_sampling(body, &out->sampling, err);
    }
    if (rc == 0) {
        rc = read_logprobs(body, chat, &out->sampling, err);
    }
    if (rc == 0 && out->sampling.max_tokens < 1 && !out->echo) {
        rc = err_set(err, ERR_UNPROCESSABLE, "'max_tokens' must be at least 1");
    }
    return rc == 0 ? infer_sampling_check(&out->sampling, err) : rc;
}

int openai_read_format(const json_t *body, json_t **grammar, struct err *err)
{
    const json_t *format = json_object_get(body, "response_format");
    json_t *schema = json_object_get(body, "json_schema"); /* llama.cpp's */
    const char *type = json_string_value(json_object_get(format, "type"));
    json_t *any = json_true();
    if (json_is_object(format) &&
        (type == NULL || (strcmp(type, "text") != 0 && strcmp(type, "json_object") != 0 &&
                          strcmp(type, "json_schema") != 0))) {
        return err_set(err, ERR_INVALID, "'response_format' of type '%s' is not supported",
                       type != NULL ? type : "?");
    }
    if (type != NULL && strcmp(type, "json_object") == 0) {
        schema = json_object_get(format, "schema");
        schema = schema == NULL || json_is_null(schema) ? any : schema;
    } else if (type != NULL && strcmp(type, "json_schema") == 0) {
        schema = json_object_get(json_object_get(format, "json_schema"), "schema");
        if (!json_is_object(schema)) {
            return err_set(err, ERR_INVALID, "'response_format' brings no schema");
        }
    }
    if (schema == NULL || json_is_null(schema)) {
        return 0;
    }
    if (*grammar != NULL) {
        return err_set(err, ERR_INVALID,
                       "'response_format' and a 'tool_choice' that must be called exclude each "
                       "other");
    }
    *grammar = grammar_of_schema(schema, err);
    return *grammar != NULL ? 0 : -(int)err->code;
}

int openai_find_model(struct hub *hub, const json_t *body, struct arena *arena,
                      struct resolved_model *model, struct infer_spec *spec, struct err *err)
{
    const int rc =
        registry_resolve_model(hub->registry, body_string(body, "model"), arena, model, err);
    return rc == 0 ? spec_of(hub, model, arena, spec, err) : rc;
}
