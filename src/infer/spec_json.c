/* Floats travel as doubles in their shortest form, which reads back to the same float; the seed is
 * an integer of 64 bits kept as its signed twin, since JSON's readers know no unsigned ones. */
#include "infer/spec_json.h"

#include <string.h>

void sampling_write(struct json_out *out, const struct infer_sampling *s)
{
    json_out_object(out);
    json_out_kv_int(out, "max_tokens", s->max_tokens);
    json_out_kv_real(out, "temperature", (double)s->temperature);
    json_out_kv_real(out, "top_p", (double)s->top_p);
    json_out_kv_int(out, "top_k", s->top_k);
    json_out_kv_real(out, "min_p", (double)s->min_p);
    json_out_kv_real(out, "repetition_penalty", (double)s->repetition_penalty);
    json_out_kv_int(out, "repeat_last_n", s->repeat_last_n);
    json_out_kv_real(out, "presence_penalty", (double)s->presence_penalty);
    json_out_kv_real(out, "frequency_penalty", (double)s->frequency_penalty);
    json_out_kv_int(out, "seed", (int64_t)s->seed);
    json_out_kv_bool(out, "ignore_eos", s->ignore_eos);
    json_out_kv_bool(out, "logprobs", s->logprobs);
    json_out_kv_int(out, "top_logprobs", s->top_logprobs);
    json_out_key(out, "bias");
    json_out_array(out);
    for (int i = 0; i < s->n_bias; i++) {
        json_out_int(out, s->bias[i].id);
        json_out_real(out, (double)s->bias[i].bias);
    }
    json_out_array_end(out);
    json_out_key(out, "stop");
    json_out_array(out);
    for (int i = 0; i < s->n_stops; i++) {
        json_out_string(out, s->stops[i]);
    }
    json_out_array_end(out);
    json_out_object_end(out);
}

static int read_int(const json_t *object, const char *key, int *out, struct err *err)
{
    int64_t value = *out;
    const int rc = json_get_int(object, key, value, &value, err);
    if (rc == 0 && (value < INT32_MIN || value > INT32_MAX)) {
        return err_set(err, ERR_UNPROCESSABLE, "'%s' is out of range", key);
    }
    *out = (int)value;
    return rc;
}

static int read_float(const json_t *object, const char *key, float *out, struct err *err)
{
    double value = (double)*out;
    const int rc = json_get_real(object, key, value, &value, err);
    *out = (float)value;
    return rc;
}

static int read_stops(const json_t *object, struct infer_sampling *s, struct err *err)
{
    const json_t *stops = json_object_get(object, "stop");
    size_t i;
    const json_t *stop;
    if (json_array_size(stops) > INFER_STOPS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "%zu stop sequences; at most %d are taken",
                       json_array_size(stops), INFER_STOPS_MAX);
    }
    s->n_stops = 0;
    json_array_foreach(stops, i, stop)
    {
        const size_t n = json_string_length(stop);
        if (!json_is_string(stop) || n == 0 || n >= INFER_STOP_BYTES_MAX) {
            return err_set(err, ERR_UNPROCESSABLE, "stop sequence %zu is no text of 1 to %d bytes",
                           i, INFER_STOP_BYTES_MAX - 1);
        }
        memcpy(s->stops[s->n_stops], json_string_value(stop), n);
        s->stops[s->n_stops++][n] = '\0';
    }
    return 0;
}

static int read_bias(const json_t *object, struct infer_sampling *s, struct err *err)
{
    const json_t *pairs = json_object_get(object, "bias");
    const size_t n = json_array_size(pairs) / 2;
    if (n > INFER_BIAS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "%zu biased tokens; at most %d are taken", n,
                       INFER_BIAS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        s->bias[i].id = (int32_t)json_integer_value(json_array_get(pairs, 2 * i));
        s->bias[i].bias = (float)json_number_value(json_array_get(pairs, 2 * i + 1));
    }
    s->n_bias = (int)n;
    return 0;
}

int sampling_read(const json_t *object, struct infer_sampling *s, struct err *err)
{
    int64_t seed = 0;
    infer_sampling_defaults(s);
    int rc = read_int(object, "max_tokens", &s->max_tokens, err);
    if (rc == 0) {
        rc = read_float(object, "temperature", &s->temperature, err);
    }
    if (rc == 0) {
        rc = read_float(object, "top_p", &s->top_p, err);
    }
    if (rc == 0) {
        rc = read_int(object, "top_k", &s->top_k, err);
    }
    if (rc == 0) {
        rc = read_float(object, "min_p", &s->min_p, err);
    }
    if (rc == 0) {
        rc = read_float(object, "repetition_penalty", &s->repetition_penalty, err);
    }
    if (rc == 0) {
        rc = read_int(object, "repeat_last_n", &s->repeat_last_n, err);
    }
    if (rc == 0) {
        rc = read_float(object, "presence_penalty", &s->presence_penalty, err);
    }
    if (rc == 0) {
        rc = read_float(object, "frequency_penalty", &s->frequency_penalty, err);
    }
    if (rc == 0) {
        rc = json_get_int(object, "seed", 0, &seed, err);
    }
    if (rc == 0) {
        rc = json_get_bool(object, "ignore_eos", false, &s->ignore_eos, err);
    }
    if (rc == 0) {
        rc = json_get_bool(object, "logprobs", false, &s->logprobs, err);
    }
    if (rc == 0) {
        rc = read_int(object, "top_logprobs", &s->top_logprobs, err);
    }
    if (rc == 0) {
        rc = read_bias(object, s, err);
    }
    if (rc == 0) {
        rc = read_stops(object, s, err);
    }
    s->has_seed = true;
    s->seed = (uint64_t)seed;
    return rc == 0 ? infer_sampling_check(s, err) : rc;
}

void spec_write(struct json_out *out, const struct infer_spec *spec)
{
    if (spec->prompt != NULL) {
        json_out_key(out, "prompt");
        json_out_string_n(out, spec->prompt, spec->prompt_bytes);
    }
    if (spec->prompt_ids != NULL) {
        json_out_key(out, "prompt");
        json_out_array(out);
        for (size_t i = 0; i < spec->n_prompt_ids; i++) {
            json_out_int(out, spec->prompt_ids[i]);
        }
        json_out_array_end(out);
    }
    if (spec->messages != NULL) {
        json_out_kv_tree(out, "messages", spec->messages);
    }
    if (spec->context != NULL) {
        json_out_kv_tree(out, "context", spec->context);
    }
    if (spec->template_kwargs != NULL) {
        json_out_kv_tree(out, "template_kwargs", spec->template_kwargs);
    }
    if (spec->grammar != NULL) {
        json_out_kv_tree(out, "grammar", spec->grammar);
    }
    json_out_kv_int(out, "choice", spec->choice);
    json_out_kv_bool(out, "score_prompt", spec->score_prompt);
    json_out_kv_bool(out, "tell_prompt", spec->tell_prompt);
    json_out_kv_bool(out, "embed", spec->embed);
    json_out_kv_bool(out, "cold", spec->cold);
    if (spec->truncate) {
        json_out_kv_bool(out, "truncate", true);
    }
    if (spec->context_tokens > 0) {
        json_out_kv_int(out, "context_tokens", spec->context_tokens);
    }
    if (spec->tools != NULL) {
        json_out_kv_tree(out, "tools", spec->tools);
    }
    if (spec->chat_template != NULL) {
        json_out_kv_string(out, "template", spec->chat_template);
    }
    if (spec->date != NULL) {
        json_out_kv_string(out, "date", spec->date);
    }
    if (spec->adapter_key != NULL) {
        json_out_key(out, "adapter");
        json_out_object(out);
        json_out_kv_string(out, "key", spec->adapter_key);
        json_out_kv_string(out, "path", spec->adapter_path);
        json_out_kv_real(out, "scale", (double)spec->adapter_scale);
        json_out_object_end(out);
    }
    json_out_key(out, "sampling");
    sampling_write(out, &spec->sampling);
}
