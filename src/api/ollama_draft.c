/* Parameters are Ollama's options: those that requests refuse are refused here, and so is any name
 * that nobody knows, since a slip would otherwise be kept for good. */
#include <string.h>

#include "api/ollama.h"
#include "infer/inspect.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { MESSAGES_MAX = 1024, LICENSES_MAX = 64, TEMPLATE_BYTES_MAX = 256 << 10 };

/* --- texts --- */

static int take_text(const json_t *body, const char *name, struct arena *arena, const char **out,
                     struct err *err)
{
    const json_t *value = json_object_get(body, name);
    const char *text = json_string_value(value);
    if (text == NULL || *text == '\0') {
        return 0; /* of another type it was refused before */
    }
    if (strlen(text) != json_string_length(value)) {
        return err_set(err, ERR_INVALID, "'%s' holds a NUL", name);
    }
    *out = arena_strdup(arena, text);
    return *out != NULL ? 0 : mem_err(err, strlen(text));
}

static int take_template(const struct hub *hub, const json_t *body, struct arena *arena,
                         const char **out, struct err *err)
{
    struct err why = {0};
    int rc = take_text(body, "template", arena, out, err);
    if (rc != 0 || *out == NULL) {
        return rc;
    }
    if (strlen(*out) > TEMPLATE_BYTES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "'template' has %zu bytes; at most %d are kept",
                       strlen(*out), TEMPLATE_BYTES_MAX);
    }
    rc = ollama_refuse_go("template", *out, err);
    if (rc == 0 && inspect_template(hub->program, *out, &why) != 0) {
        const bool known = why.code == ERR_INVALID || why.code == ERR_UNSUPPORTED;
        rc = err_set(err, known ? ERR_INVALID : why.code, "'template': %s", why.message);
    }
    return rc;
}

static int keep_json(const char *name, const json_t *value, struct arena *arena, const char **out,
                     struct err *err)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    *out = text != NULL ? arena_strdup(arena, text) : NULL;
    mem_free(text);
    return *out != NULL ? 0 : err_set(err, ERR_NOMEM, "Out of memory for '%s'", name);
}

/* One text or a list of them, as a list. */
static int take_license(const json_t *body, struct arena *arena, const char **out, struct err *err)
{
    json_t *value = json_object_get(body, "license");
    size_t i;
    const json_t *one;
    if (value == NULL || json_is_null(value) ||
        json_string_length(value) + json_array_size(value) == 0) {
        return json_is_object(value) || json_is_number(value) || json_is_boolean(value)
                   ? err_set(err, ERR_UNPROCESSABLE, "'license' must be a text or a list of texts")
                   : 0;
    }
    json_array_foreach(value, i, one)
    {
        if (!json_is_string(one) || i >= LICENSES_MAX) {
            return err_set(err, ERR_UNPROCESSABLE,
                           "'license' must be a text or a list of at most %d texts", LICENSES_MAX);
        }
    }
    json_t *list = json_is_array(value) ? json_incref(value) : json_pack("[O]", value);
    const int rc = list != NULL ? keep_json("license", list, arena, out, err) : mem_err(err, 0);
    json_decref(list);
    return rc;
}

/* --- messages --- */

static int check_message(size_t at, const json_t *message, struct err *err)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *role = json_string_value(json_object_get(message, "role"));
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        if (role != NULL && strcmp(role, roles[i]) == 0) {
            return 0;
        }
    }
    return err_set(err, ERR_INVALID,
                   "messages[%zu]: the role must be system, user, assistant or tool", at);
}

static int take_messages(const json_t *body, struct arena *arena, const char **out, struct err *err)
{
    const json_t *value = json_object_get(body, "messages");
    int rc = 0;
    if (json_array_size(value) == 0) {
        return 0;
    }
    if (json_array_size(value) > MESSAGES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "%zu messages; at most %d are kept",
                       json_array_size(value), MESSAGES_MAX);
    }
    json_t *messages = messages_normal(value, err);
    rc = messages != NULL ? 0 : -(int)err->code;
    for (size_t i = 0; rc == 0 && i < json_array_size(messages); i++) {
        rc = check_message(i, json_array_get(messages, i), err);
    }
    rc = rc == 0 ? keep_json("messages", messages, arena, out, err) : rc;
    json_decref(messages);
    return rc;
}

/* --- parameters --- */

/* Options that say how weights are held, by type; the others are read where requests are. */
static const char *const ints[] = {"num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread"};
static const char *const bools[] = {"use_mmap", "use_mlock", "low_vram", "numa", "f16_kv"};
static const char *const read_elsewhere[] = {"seed",
                                             "num_predict",
                                             "top_k",
                                             "top_p",
                                             "min_p",
                                             "typical_p",
                                             "tfs_z",
                                             "repeat_last_n",
                                             "temperature",
                                             "repeat_penalty",
                                             "presence_penalty",
                                             "frequency_penalty",
                                             "mirostat",
                                             "penalize_newline",
                                             "stop",
                                             "num_ctx",
                                             "vocab_only",
                                             "embedding_only"};

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int check_parameter(const char *name, const json_t *value, struct err *err)
{
    const bool is_int = is_one_of(name, ints, COUNT_OF(ints));
    const bool is_bool = is_one_of(name, bools, COUNT_OF(bools));
    if (!is_int && !is_bool && !is_one_of(name, read_elsewhere, COUNT_OF(read_elsewhere))) {
        return err_set(err, ERR_INVALID, "'%.60s' in 'parameters' is not known", name);
    }
    if ((is_int && !json_is_integer(value)) || (is_bool && !json_is_boolean(value))) {
        return err_set(err, ERR_INVALID, "'%s' in 'parameters' must be %s", name,
                       is_int ? "a whole number" : "true or false");
    }
    return 0;
}

static int take_parameters(const json_t *body, struct arena *arena, const char **out, int *num_ctx,
                           struct err *err)
{
    json_t *value = json_object_get(body, "parameters");
    struct infer_sampling sampling;
    int rc = 0;
    const char *name;
    json_t *one;
    if (json_object_size(value) == 0) {
        return 0;
    }
    json_object_foreach(value, name, one)
    {
        rc = rc == 0 ? check_parameter(name, one, err) : rc;
    }
    infer_sampling_defaults(&sampling);
    rc = rc == 0 ? ollama_options_read(value, &sampling, num_ctx, err) : rc;
    rc = rc == 0 ? infer_sampling_check(&sampling, err) : rc;
    return rc == 0 ? keep_json("parameters", value, arena, out, err) : rc;
}

int ollama_draft_read(struct hub *hub, const json_t *body, struct arena *arena,
                      struct preset_draft *draft, bool *given, int *num_ctx, struct err *err)
{
    int rc;
    *num_ctx = 0;
    if ((rc = take_text(body, "system", arena, &draft->system, err)) != 0 ||
        (rc = take_license(body, arena, &draft->license, err)) != 0 ||
        (rc = take_messages(body, arena, &draft->messages, err)) != 0 ||
        (rc = take_parameters(body, arena, &draft->parameters, num_ctx, err)) != 0 ||
        (rc = take_template(hub, body, arena, &draft->template, err)) != 0) {
        return rc;
    }
    *given = draft->system != NULL || draft->license != NULL || draft->messages != NULL ||
             draft->parameters != NULL || draft->template != NULL;
    return 0;
}

/* --- inheritance --- */

/* Two JSON texts as one: objects where the second one's members win, or lists behind one another.
 */
static int join(const char *first, const char **second, struct arena *arena, struct err *err)
{
    if (*second == NULL) {
        *second = first;
        return 0;
    }
    json_t *all = json_parse(first, strlen(first), err);
    json_t *more = all != NULL ? json_parse(*second, strlen(*second), err) : NULL;
    int rc = more != NULL ? 0 : -(int)err->code;
    if (rc == 0 &&
        (json_is_array(all) ? json_array_extend(all, more) : json_object_update(all, more)) != 0) {
        rc = mem_err(err, 0);
    }
    rc = rc == 0 ? keep_json("parameters", all, arena, second, err) : rc;
    json_decref(all);
    json_decref(more);
    return rc;
}

int ollama_draft_inherit(struct preset_draft *draft, const struct preset_row *from,
                         struct arena *arena, struct err *err)
{
    draft->system = draft->system != NULL ? draft->system : from->system;
    draft->messages = draft->messages != NULL ? draft->messages : from->messages;
    const int rc = join(from->license, &draft->license, arena, err);
    return rc == 0 ? join(from->parameters, &draft->parameters, arena, err) : rc;
}
