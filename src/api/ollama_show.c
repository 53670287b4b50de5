/* POST /api/show. What a preset adds comes from the database; a base's own template, sizes and,
 * with `verbose`, tensors from its files, which a child reads. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "infer/inspect.h"

enum { SHOWN_BYTES_MAX = 16 << 20 };

static void put_info(const struct model_name *name, const json_t *contents, struct json_out *out)
{
    const json_t *info = json_object_get(contents, "info");
    const char *word;
    const json_t *value;
    const char *family = name->base.architecture != NULL ? name->base.architecture : "unknown";
    char key[128];
    json_out_key(out, "model_info");
    json_out_object(out);
    json_out_kv_string(out, "general.architecture", family);
    json_out_kv_int(out, "general.parameter_count", name->base.parameters);
    (void)snprintf(key, sizeof key, "%.100s.context_length", family);
    json_out_kv_int(out, key, name->base.context_length);
    json_object_foreach((json_t *)info, word, value)
    {
        (void)snprintf(key, sizeof key, "%.60s.%.60s", family, word);
        json_out_kv_tree(out, key, value);
    }
    json_out_object_end(out);
}

/* Ollama's lines: a name, blanks, a value; one line for each of a list. */
static void put_parameter(struct buf *out, const char *prefix, int width, const char *name,
                          const json_t *value)
{
    if (json_is_array(value)) {
        size_t i;
        const json_t *one;
        json_array_foreach(value, i, one)
        {
            put_parameter(out, prefix, width, name, one);
        }
        return;
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    buf_printf(out, "%s%-*s %s\n", prefix, width, name, text != NULL ? text : "");
    mem_free(text);
}

static void put_parameters(struct buf *out, const char *prefix, int width, const json_t *parameters)
{
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)parameters, name, value)
    {
        put_parameter(out, prefix, width, name, value);
    }
}

struct shown {
    struct model_name name;
    struct resolved_model model;
    struct infer_spec spec;
    json_t *parameters, *license, *messages; /* of a preset, or NULL */
    json_t *contents;                        /* of the weights' files, or NULL */
};

/* What is not kept in the database. Files that are gone or damaged are left to whoever loads them.
 */
static void look_inside(struct shown *s, struct hub *hub)
{
    struct err gone = {0};
    struct buf text;
    buf_init(&text, INSPECT_CONTENTS_BYTES_MAX);
    if (inspect_contents(hub->program, s->spec.base_path, &text, &gone) == 0) {
        s->contents = json_parse(text.data, text.len, &gone);
    } else {
        log_event(LOG_WARNING, "api", "not_shown", "model=\"%s\" error=\"%s\"", s->name.id,
                  gone.message);
    }
    buf_release(&text);
}

static int shown_find(struct shown *s, struct hub *hub, const char *id, struct arena *arena,
                      struct err *err)
{
    const struct preset_row *preset = &s->model.preset;
    struct err missing = {0};
    memset(s, 0, sizeof *s);
    int rc = names_find(hub, id, arena, &s->name, err);
    rc = rc == 0 ? registry_resolve_model(hub->registry, id, arena, &s->model, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (spec_of(hub, &s->model, arena, &s->spec, &missing) != 0) {
        s->spec.chat_template = NULL; /* of weights that were never imported nothing is known */
    } else {
        look_inside(s, hub);
    }
    if (s->model.has_preset) {
        s->parameters = json_parse(preset->parameters, strlen(preset->parameters), err);
        s->license = json_parse(preset->license, strlen(preset->license), err);
        s->messages = json_parse(preset->messages, strlen(preset->messages), err);
        rc = s->parameters != NULL && s->license != NULL && s->messages != NULL ? 0
                                                                                : -(int)err->code;
    }
    return rc;
}

static void shown_release(struct shown *s)
{
    json_decref(s->parameters);
    json_decref(s->license);
    json_decref(s->messages);
    json_decref(s->contents);
}

/* As a Modelfile would say it; for people: what the hub takes is the members of /api/create. */
static void put_modelfile(const struct shown *s, struct buf *out)
{
    const struct preset_row *preset = &s->model.preset;
    size_t i;
    const json_t *one;
    buf_printf(out, "FROM %s\n", s->name.source);
    if (!s->model.has_preset) {
        return;
    }
    if (preset->adapter_sha256 != NULL) {
        buf_printf(out, "ADAPTER sha256:%s\n", preset->adapter_sha256);
    }
    if (preset->template != NULL) {
        buf_printf(out, "TEMPLATE \"\"\"%s\"\"\"\n", preset->template);
    }
    if (preset->system != NULL) {
        buf_printf(out, "SYSTEM \"\"\"%s\"\"\"\n", preset->system);
    }
    put_parameters(out, "PARAMETER ", 0, s->parameters);
    json_array_foreach(s->messages, i, one)
    {
        const char *content = json_string_value(json_object_get(one, "content"));
        buf_printf(out, "MESSAGE %s \"\"\"%s\"\"\"\n",
                   json_string_value(json_object_get(one, "role")), content != NULL ? content : "");
    }
    json_array_foreach(s->license, i, one)
    {
        buf_printf(out, "LICENSE \"\"\"%s\"\"\"\n", json_string_value(one));
    }
}

/* The texts that are put together here. */
struct shown_texts {
    struct buf license, parameters, modelfile;
};

static void put_texts(const struct shown *s, struct shown_texts *texts)
{
    size_t i;
    const json_t *one;
    json_array_foreach(s->license, i, one)
    {
        buf_printf(&texts->license, "%s%s", i > 0 ? "\n" : "", json_string_value(one));
    }
    put_parameters(&texts->parameters, "", 30, s->parameters);
    put_modelfile(s, &texts->modelfile);
}

static void put_shown(const struct shown *s, const struct shown_texts *texts, struct json_out *out)
{
    const char *own = json_string_value(json_object_get(s->contents, "template"));
    const char *template = s->spec.chat_template != NULL ? s->spec.chat_template : own;
    const char *system = s->model.has_preset ? s->model.preset.system : NULL;
    json_out_kv_string(out, "license", texts->license.data != NULL ? texts->license.data : "");
    json_out_kv_string(out, "modelfile", texts->modelfile.data);
    json_out_kv_string(out, "parameters",
                       texts->parameters.data != NULL ? texts->parameters.data : "");
    json_out_kv_string(out, "template", template != NULL ? template : "");
    json_out_kv_string(out, "system", system != NULL ? system : "");
    if (json_array_size(s->messages) > 0) {
        json_out_kv_tree(out, "messages", s->messages);
    }
}

HANDLER(ollama_show)
{
    struct hub *hub = ctx;
    struct shown s;
    struct shown_texts texts;
    struct json_out out;
    const json_t *body = NULL;
    const char *id = NULL;
    int rc = ollama_read_name(request, response, &body, &id, err);
    if (rc != 0 || id == NULL) {
        return rc;
    }
    buf_init(&texts.license, SHOWN_BYTES_MAX);
    buf_init(&texts.parameters, SHOWN_BYTES_MAX);
    buf_init(&texts.modelfile, SHOWN_BYTES_MAX);
    rc = shown_find(&s, hub, id, request->arena, err);
    if (rc == 0) {
        put_texts(&s, &texts);
    }
    rc = rc == 0 ? buf_check(&texts.license, "the license", err) : rc;
    rc = rc == 0 ? buf_check(&texts.parameters, "the parameters", err) : rc;
    rc = rc == 0 ? buf_check(&texts.modelfile, "the modelfile", err) : rc;
    if (rc == 0) {
        http_json(response, &out);
        json_out_object(&out);
        put_shown(&s, &texts, &out);
        ollama_put_details(&s.name, &out);
        put_info(&s.name, s.contents, &out);
        if (json_is_true(json_object_get(body, "verbose")) && s.contents != NULL) {
            json_out_kv_tree(&out, "tensors", json_object_get(s.contents, "tensors"));
        }
        ollama_put_capabilities(&s.name, &out);
        json_out_kv_string(&out, "modified_at", s.name.created_at);
        json_out_object_end(&out);
        rc = http_reply_json(response, 200, err);
    }
    buf_release(&texts.license);
    buf_release(&texts.parameters);
    buf_release(&texts.modelfile);
    shown_release(&s);
    return rc;
}
