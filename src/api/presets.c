#include "api/presets.h"

#include <string.h>

#include "api/ollama.h"
#include "base/json.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* --- parameters --- */

/* How other protocols call what Ollama calls `parameter`. */
static const struct {
    const char *parameter;
    const char *others[4];
} names[] = {
    {"num_predict", {"max_tokens", "max_completion_tokens", "n_predict", NULL}},
    {"repeat_penalty", {"repetition_penalty", NULL}},
    {"repeat_last_n", {"repetition_context_size", NULL}},
    {"stop", {"stop_sequences", NULL}},
};

static bool is_there(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return value != NULL && !json_is_null(value);
}

static bool is_given(const json_t *given, const char *parameter)
{
    bool is = is_there(given, parameter);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        for (int k = 0; strcmp(names[i].parameter, parameter) == 0 && names[i].others[k]; k++) {
            is = is || is_there(given, names[i].others[k]);
        }
    }
    return is;
}

int preset_sampling(const struct resolved_model *model, const json_t *given,
                    struct infer_sampling *sampling, int *num_ctx, struct err *err)
{
    int context = 0;
    void *next;
    if (!model->has_preset) {
        return 0;
    }
    json_t *parameters =
        json_parse(model->preset.parameters, strlen(model->preset.parameters), err);
    if (parameters == NULL) {
        return -(int)err->code;
    }
    for (void *at = json_object_iter(parameters); at != NULL; at = next) {
        next = json_object_iter_next(parameters, at);
        const char *name = json_object_iter_key(at);
        if (is_given(given, name)) {
            json_object_del(parameters, name);
        }
    }
    int rc = ollama_options_read(parameters, sampling, &context, err);
    json_decref(parameters);
    *num_ctx = *num_ctx == 0 ? context : *num_ctx;
    return rc == 0 ? infer_sampling_check(sampling, err) : rc;
}

/* --- messages --- */

static bool is_system(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role != NULL && strcmp(role, "system") == 0;
}

static bool has_system(const json_t *messages)
{
    size_t i;
    const json_t *message;
    json_array_foreach(messages, i, message)
    {
        if (is_system(message)) {
            return true;
        }
    }
    return false;
}

/* Appends those of `from` that begin at index `first`, system messages only if wanted. */
static int append(json_t *all, const json_t *from, size_t first, bool with_system)
{
    int failed = 0;
    for (size_t i = first; i < json_array_size(from) && failed == 0; i++) {
        json_t *message = json_array_get(from, i);
        failed = with_system || !is_system(message) ? json_array_append(all, message) : 0;
    }
    return failed;
}

static json_t *put_before(const struct preset_row *preset, const json_t *own, const json_t *given)
{
    json_t *all = json_array();
    const bool told = has_system(given);
    const bool begins = is_system(json_array_get(given, 0));
    int failed = all == NULL;
    if (failed == 0 && begins) {
        failed = json_array_append(all, json_array_get(given, 0));
    }
    if (failed == 0 && !told && preset->system != NULL && !has_system(own)) {
        failed = json_array_append_new(
            all, json_pack("{s:s,s:s}", "role", "system", "content", preset->system));
    }
    failed = failed == 0 ? append(all, own, 0, !told) : failed;
    failed = failed == 0 ? append(all, given, begins ? 1 : 0, true) : failed;
    if (failed != 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

int preset_messages(const struct resolved_model *model, json_t **messages, struct err *err)
{
    const struct preset_row *preset = &model->preset;
    if (!model->has_preset || *messages == NULL) {
        return 0;
    }
    json_t *own = json_parse(preset->messages, strlen(preset->messages), err);
    if (own == NULL) {
        return -(int)err->code;
    }
    json_t *all = put_before(preset, own, *messages);
    json_decref(own);
    if (all == NULL) {
        return mem_err(err, 0);
    }
    json_decref(*messages);
    *messages = all;
    return 0;
}
