#include "api/members.h"

#include <stdlib.h>
#include <string.h>

int member_int(const json_t *body, const char *name, int *out, struct err *err)
{
    int64_t value = *out;
    const int rc = json_get_int(body, name, value, &value, err);
    if (rc == 0 && (value < INT32_MIN || value > INT32_MAX)) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' is out of range", name);
    }
    *out = (int)value;
    return rc;
}

int member_float(const json_t *body, const char *name, float *out, struct err *err)
{
    double value = (double)*out;
    const int rc = json_get_real(body, name, value, &value, err);
    *out = (float)value;
    return rc;
}

int member_bool(const json_t *body, const char *name, bool *out, struct err *err)
{
    return json_get_bool(body, name, *out, out, err);
}

int member_tokens(const json_t *body, const char *name, int *out, struct err *err)
{
    int value = *out;
    const int rc = member_int(body, name, &value, err);
    if (rc == 0 && (value < -2 || value > INFER_TOKENS_MAX)) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' is %d; it must be between 0 and %d", name,
                       value, INFER_TOKENS_MAX);
    }
    *out = value < 0 ? INFER_TOKENS_MAX : value;
    return rc;
}

int member_seed(const json_t *body, const char *name, struct infer_sampling *s, struct err *err)
{
    int64_t seed = -1;
    const int rc = json_get_int(body, name, seed, &seed, err);
    if (rc == 0 && seed != -1) {
        s->has_seed = true;
        s->seed = (uint64_t)seed;
    }
    return rc;
}

static int add_stop(const char *name, const json_t *stop, struct infer_sampling *s, struct err *err)
{
    const size_t n = json_string_length(stop);
    if (!json_is_string(stop)) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' must be a text or a list of texts", name);
    }
    if (strlen(json_string_value(stop)) != n) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' must not hold a NUL character", name);
    }
    if (n == 0) {
        return 0; /* clients send "" for none */
    }
    if (n >= INFER_STOP_BYTES_MAX || s->n_stops == INFER_STOPS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' holds at most %d texts of %d bytes", name,
                       INFER_STOPS_MAX, INFER_STOP_BYTES_MAX - 1);
    }
    memcpy(s->stops[s->n_stops++], json_string_value(stop), n + 1);
    return 0;
}

int member_stops(const json_t *body, const char *name, struct infer_sampling *s, struct err *err)
{
    const json_t *stops = json_object_get(body, name);
    int rc = 0;
    if (stops == NULL || json_is_null(stops)) {
        return 0;
    }
    if (!json_is_array(stops)) {
        return add_stop(name, stops, s, err);
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(stops); i++) {
        rc = add_stop(name, json_array_get(stops, i), s, err);
    }
    return rc;
}

enum { NEVER = -1000 }; /* a bias that no logit makes up for */

static int add_bias(const char *name, int64_t id, const json_t *bias, struct infer_sampling *s,
                    struct err *err)
{
    if (id < 0 || id > INT32_MAX || (!json_is_number(bias) && !json_is_false(bias))) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' must map token ids to numbers", name);
    }
    if (s->n_bias == INFER_BIAS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' holds more than %d tokens", name,
                       INFER_BIAS_MAX);
    }
    s->bias[s->n_bias].id = (int32_t)id;
    s->bias[s->n_bias++].bias = json_is_false(bias) ? (float)NEVER : (float)json_number_value(bias);
    return 0;
}

int member_bias(const json_t *body, const char *name, struct infer_sampling *s, struct err *err)
{
    json_t *all = json_object_get(body, name);
    const char *key;
    json_t *bias;
    int rc = 0;
    if (json_is_array(all)) {
        for (size_t i = 0; rc == 0 && i < json_array_size(all); i++) {
            const json_t *pair = json_array_get(all, i);
            const json_t *id = json_array_get(pair, 0);
            rc = add_bias(name, json_is_integer(id) ? json_integer_value(id) : -1,
                          json_array_get(pair, 1), s, err);
        }
        return rc;
    }
    if (all != NULL && !json_is_null(all) && !json_is_object(all)) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' must map token ids to numbers", name);
    }
    json_object_foreach(all, key, bias)
    {
        char *end;
        const long long id = strtoll(key, &end, 10);
        rc = rc == 0 ? add_bias(name, end != key && *end == '\0' ? id : -1, bias, s, err) : rc;
    }
    return rc;
}

int member_kwargs(const json_t *body, json_t **out, struct err *err)
{
    const json_t *given = json_object_get(body, "chat_template_kwargs");
    json_t *effort = json_object_get(body, "reasoning_effort");
    *out = NULL;
    if (!json_is_object(given) && !json_is_string(effort)) {
        return 0;
    }
    json_t *all = json_is_object(given) ? json_deep_copy(given) : json_object();
    if (all == NULL ||
        (json_is_string(effort) && json_object_set(all, "reasoning_effort", effort) != 0)) {
        json_decref(all);
        return mem_err(err, 0);
    }
    *out = all;
    return 0;
}

static bool is_neutral(const json_t *value, const char *neutral)
{
    if (value == NULL || json_is_null(value) || json_is_false(value) ||
        (json_is_number(value) && json_number_value(value) == 0.0) ||
        (json_is_string(value) && json_string_length(value) == 0) ||
        (json_is_array(value) && json_array_size(value) == 0) ||
        (json_is_object(value) && json_object_size(value) == 0)) {
        return true;
    }
    struct err err = {0};
    json_t *same = neutral != NULL ? json_parse(neutral, strlen(neutral), &err) : NULL;
    const bool equal = same != NULL && (json_equal(same, value) ||
                                        (json_is_number(same) && json_is_number(value) &&
                                         json_number_value(same) == json_number_value(value)));
    json_decref(same);
    return equal;
}

int members_refuse(const json_t *body, const struct member_unsupported *rows, size_t n,
                   struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_neutral(json_object_get(body, rows[i].name), rows[i].neutral)) {
            return err_set(err, ERR_INVALID, "'%s' is not supported", rows[i].name);
        }
    }
    return 0;
}

/* --- messages --- */

static int join_parts(size_t at, const json_t *parts, struct buf *out, struct err *err)
{
    size_t i;
    const json_t *part;
    json_array_foreach(parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, "text");
        if (type == NULL || strcmp(type, "text") != 0 || !json_is_string(text)) {
            return err_set(err, ERR_INVALID,
                           "messages[%zu]: content of type '%s' is not supported; text is", at,
                           type != NULL ? type : "?");
        }
        buf_append(out, json_string_value(text), json_string_length(text));
    }
    return buf_check(out, "a message", err);
}

static int normal_content(size_t at, json_t *message, struct err *err)
{
    const json_t *content = json_object_get(message, "content");
    struct buf text;
    int rc = 0;
    if (content == NULL) {
        return json_object_set_new(message, "content", json_null()) == 0 ? 0 : mem_err(err, 0);
    }
    if (json_is_string(content) || json_is_null(content)) {
        return 0;
    }
    if (!json_is_array(content)) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "messages[%zu]: content must be a text or a list of parts", at);
    }
    buf_init(&text, INFER_PROMPT_BYTES_MAX);
    rc = join_parts(at, content, &text, err);
    if (rc == 0 &&
        json_object_set_new(message, "content",
                            json_stringn(text.data != NULL ? text.data : "", text.len)) != 0) {
        rc = mem_err(err, text.len);
    }
    buf_release(&text);
    return rc;
}

/* The JSON in a text of arguments; a text that is none stays as it is. */
static int normal_calls(json_t *message, struct err *err)
{
    size_t i;
    json_t *call;
    json_array_foreach(json_object_get(message, "tool_calls"), i, call)
    {
        json_t *function = json_object_get(call, "function");
        const json_t *arguments = json_object_get(function, "arguments");
        struct err quiet = {0};
        if (!json_is_string(arguments)) {
            continue;
        }
        json_t *tree =
            json_parse(json_string_value(arguments), json_string_length(arguments), &quiet);
        if (tree != NULL && json_object_set_new(function, "arguments", tree) != 0) {
            return mem_err(err, 0);
        }
    }
    return 0;
}

static int normal_message(size_t at, json_t *message, struct err *err)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    if (!json_is_object(message) || role == NULL || *role == '\0') {
        return err_set(err, ERR_UNPROCESSABLE, "messages[%zu]: a role is required", at);
    }
    if (json_array_size(json_object_get(message, "images")) > 0) {
        return err_set(err, ERR_INVALID, "messages[%zu]: images are not supported", at);
    }
    if (strcmp(role, "developer") == 0 &&
        json_object_set_new(message, "role", json_string("system")) != 0) {
        return mem_err(err, 0);
    }
    const int rc = normal_content(at, message, err);
    return rc == 0 ? normal_calls(message, err) : rc;
}

json_t *messages_normal(const json_t *messages, struct err *err)
{
    json_t *all = json_deep_copy(messages);
    int rc = all != NULL ? 0 : mem_err(err, 0);
    if (rc == 0 && json_array_size(all) == 0) {
        rc = err_set(err, ERR_UNPROCESSABLE, "'messages' must hold at least one message");
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(all); i++) {
        rc = normal_message(i, json_array_get(all, i), err);
    }
    if (rc != 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

/* --- grammars --- */

json_t *grammar_of_schema(json_t *schema, struct err *err)
{
    json_t *grammar = json_object();
    if (json_object_set(grammar, "schema", schema) != 0) {
        json_decref(grammar);
        (void)mem_err(err, 0);
        return NULL;
    }
    return grammar;
}

json_t *grammar_of_tools(const json_t *tools, const char *name, bool parallel, struct err *err)
{
    json_t *grammar = json_object();
    json_t *calls = json_array();
    int failed = json_object_set_new(grammar, "calls", calls);
    if (failed == 0) {
        failed = json_object_set_new(grammar, "parallel", json_boolean(parallel));
    }
    size_t i;
    const json_t *tool;
    json_array_foreach(tools, i, tool)
    {
        json_t *function = json_object_get(tool, "function");
        const char *its = json_string_value(json_object_get(function, "name"));
        if (failed == 0 && its != NULL && (name == NULL || strcmp(its, name) == 0)) {
            failed = json_array_append(calls, function);
        }
    }
    if (failed != 0) {
        (void)mem_err(err, 0);
    } else if (json_array_size(calls) == 0) {
        failed = err_set(err, ERR_INVALID, "'tool_choice' names no function of 'tools'");
    }
    if (failed != 0) {
        json_decref(grammar);
        return NULL;
    }
    return grammar;
}
