/* The public door: compiles source once, and renders it over values made from the caller's JSON.
 *
 * A template owns one arena with the tree and its constants. A render makes its own machine on the
 * stack: an arena for values, a scratch text for output, and one value per name of the template,
 * filled from the input and the built-in functions. The JSON's strings are used in place.
 */
#include "text/template.h"

#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/jinja_eval.h"
#include "text/jinja_render.h"

enum { TREE_BYTES_MAX = 256 << 20 };

struct template
{
    struct arena arena;
    char *source;
    size_t length;
    struct nodes body;
    struct symbols hidden;
    struct symbol_table names;
};

const char template_plain[] = "{% for message in messages %}"
                              "{{ '<|' + message.role + '|>\\n' + message.content + '\\n' }}"
                              "{% endfor %}"
                              "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

static int compile(struct template *t, struct err *err)
{
    struct tokens tokens = {0};
    int rc = jinja_lex(&t->arena, t->source, t->length, &tokens, err);
    if (rc != 0) {
        return rc;
    }
    struct parser p = {.arena = &t->arena, .err = err, .at = tokens.at, .names = &t->names};
    rc = parse_template(&p, &t->body);
    if (rc == 0) {
        rc = scope_analyze(&p, &t->body, &t->hidden);
    }
    return rc != 0 ? rc : p.failed;
}

int template_new(const char *source, size_t length, struct template **out, struct err *err)
{
    *out = NULL;
    if (length > TEMPLATE_SOURCE_BYTES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "a template of %zu bytes; at most %d are read", length,
                       TEMPLATE_SOURCE_BYTES_MAX);
    }
    if (!utf8_valid(source, length)) {
        return err_set(err, ERR_INVALID, "the template is not UTF-8");
    }
    struct template *t = mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return mem_err(err, sizeof *t);
    }
    arena_init(&t->arena, TREE_BYTES_MAX);
    t->length = length;
    t->source = arena_strndup(&t->arena, source, length);
    int rc = t->source == NULL ? mem_err(err, length) : compile(t, err);
    if (rc != 0) {
        template_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void template_free(struct template *t)
{
    if (t != NULL) {
        arena_release(&t->arena);
        mem_free(t);
    }
}

const char *template_source(const struct template *t, size_t *length)
{
    if (length != NULL) {
        *length = t->length;
    }
    return t->source;
}

/* --- input --------------------------------------------------------------------------------- */
static int from_json(struct jinja *j, const json_t *json, struct jvalue *out);

static int from_array(struct jinja *j, const json_t *json, struct jvalue *out)
{
    size_t n = json_array_size(json);
    int rc = jv_list(j, J_LIST, n, out);
    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = from_json(j, json_array_get(json, i), &out->as.list->items[i]);
    }
    return rc;
}

/* Adds the members of a JSON object to a dict. */
static int add_members(struct jinja *j, const json_t *json, struct jdict *d)
{
    json_t *object = (json_t *)json; /* jansson iterates through non-const pointers only */
    int rc = 0;
    for (void *at = json_object_iter(object); at != NULL && rc == 0;
         at = json_object_iter_next(object, at)) {
        struct jvalue value;
        rc = from_json(j, json_object_iter_value(at), &value);
        if (rc == 0) {
            struct jvalue key = jv_string(json_object_iter_key(at), json_object_iter_key_len(at));
            rc = jdict_set(j, d, key, value);
        }
    }
    return rc;
}

static int from_json(struct jinja *j, const json_t *json, struct jvalue *out)
{
    int rc;
    switch (json_typeof(json)) {
    case JSON_NULL:
        *out = jv_none();
        return 0;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = jv_bool(json_is_true(json));
        return 0;
    case JSON_INTEGER:
        *out = jv_int(json_integer_value(json));
        return 0;
    case JSON_REAL:
        *out = jv_float(json_real_value(json));
        return 0;
    case JSON_STRING:
        *out = jv_string(json_string_value(json), json_string_length(json));
        return 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    rc = jinja_enter(j);
    if (rc != 0) {
        return rc;
    }
    if (json_is_array(json)) {
        rc = from_array(j, json, out);
    } else {
        rc = jv_dict(j, json_object_size(json), out);
        if (rc == 0) {
            rc = add_members(j, json, out->as.dict);
        }
    }
    jinja_leave(j);
    return rc;
}

/* The first of the names that transformers knows for a message's reasoning; NULL when none. */
static const json_t *reasoning_of(const json_t *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(message, names[i]);
        if (value != NULL && !json_is_null(value)) {
            return value;
        }
    }
    return NULL;
}

static int from_message(struct jinja *j, const json_t *message, size_t index, struct jvalue *out)
{
    const json_t *reasoning = reasoning_of(message);
    struct jvalue value;
    int rc = jv_dict(j, json_object_size(message) + 2, out);
    if (rc == 0 && reasoning != NULL) {
        rc = from_json(j, reasoning, &value);
        if (rc == 0) {
            rc = jdict_set(j, out->as.dict, jv_text("thinking"), value);
        }
    }
    if (rc == 0) {
        rc = add_members(j, message, out->as.dict);
    }
    if (rc == 0 && reasoning != NULL) {
        rc = jdict_set(j, out->as.dict, jv_text("reasoning_content"), value);
    }
    if (rc == 0) {
        out->as.dict->message = (int32_t)index;
    }
    return rc;
}

static int refuse(struct jinja *j, const char *what)
{
    j->failed = err_set(j->err, ERR_INVALID, "%s", what);
    return j->failed = -(int)ERR_INVALID;
}

static int refuse_item(struct jinja *j, const char *list, size_t index, const char *what)
{
    (void)err_set(j->err, ERR_INVALID, "%s[%zu]%s", list, index, what);
    return j->failed = -(int)ERR_INVALID;
}

static int from_messages(struct jinja *j, const json_t *messages, struct jvalue *out)
{
    if (!json_is_array(messages)) {
        return refuse(j, "messages must be an array");
    }
    size_t n = json_array_size(messages);
    int rc = jv_list(j, J_LIST, n, out);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const json_t *message = json_array_get(messages, i);
        if (!json_is_object(message)) {
            return refuse_item(j, "messages", i, " must be an object");
        }
        if (!json_is_string(json_object_get(message, "role"))) {
            return refuse_item(j, "messages", i, ".role must be a string");
        }
        const json_t *content = json_object_get(message, "content");
        if (content != NULL && !json_is_string(content) && !json_is_array(content) &&
            !json_is_null(content)) {
            return refuse_item(j, "messages", i, ".content must be a string, an array or null");
        }
        rc = from_message(j, message, i, &out->as.list->items[i]);
    }
    return rc;
}

static int from_tools(struct jinja *j, const json_t *tools, struct jvalue *out)
{
    *out = jv_none();
    if (tools == NULL || json_is_null(tools)) {
        return 0;
    }
    if (!json_is_array(tools)) {
        return refuse(j, "tools must be an array");
    }
    for (size_t i = 0; i < json_array_size(tools); i++) {
        if (!json_is_object(json_array_get(tools, i))) {
            return refuse_item(j, "tools", i, " must be an object");
        }
    }
    return from_array(j, tools, out);
}

/* One token of the input, checked since it did not come through JSON. */
static int set_token(struct jinja *j, struct jdict *d, const char *name, const char *token)
{
    if (token == NULL) {
        return 0;
    }
    if (!utf8_valid(token, strlen(token))) {
        return refuse(j, "a special token is not UTF-8");
    }
    return jdict_set(j, d, jv_text(name), jv_text(token));
}

/* Every variable of the input, by name. */
static int make_context(struct jinja *j, const struct template_input *input, struct jvalue *out)
{
    static const char *const own[] = {"messages", "tools", "add_generation_prompt"};
    struct jvalue messages = jv_none();
    struct jvalue tools = jv_none();
    int rc = jv_dict(j, 0, out);
    struct jdict *d = rc == 0 ? out->as.dict : NULL;
    if (rc == 0) {
        rc = set_token(j, d, "bos_token", input->bos_token);
    }
    if (rc == 0) {
        rc = set_token(j, d, "eos_token", input->eos_token);
    }
    if (rc == 0) {
        rc = jdict_set(j, d, jv_text("documents"), jv_none());
    }
    if (rc == 0 && input->extra != NULL && !json_is_null(input->extra)) {
        if (!json_is_object(input->extra)) {
            return refuse(j, "chat_template_kwargs must be an object");
        }
        for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
            if (json_object_get(input->extra, own[i]) != NULL) {
                return refuse(j, "chat_template_kwargs can't set messages, tools or "
                                 "add_generation_prompt");
            }
        }
        rc = add_members(j, input->extra, d);
    }
    if (rc == 0) {
        rc = from_messages(j, input->messages, &messages);
    }
    if (rc == 0) {
        rc = from_tools(j, input->tools, &tools);
    }
    if (rc == 0) {
        rc = jdict_set(j, d, jv_text(own[0]), messages);
    }
    if (rc == 0) {
        rc = jdict_set(j, d, jv_text(own[1]), tools);
    }
    if (rc == 0) {
        rc = jdict_set(j, d, jv_text(own[2]), jv_bool(input->add_generation_prompt));
    }
    return rc;
}

/* --- rendering ----------------------------------------------------------------------------- */
/* Gives every name of the template its first value. */
static int fill_root(struct jinja *j, const struct template *t, const struct jdict *context)
{
    j->root = jinja_alloc(j, t->names.n, sizeof *j->root);
    if (j->root == NULL) {
        return j->failed;
    }
    for (uint32_t i = 0; i < t->names.n; i++) {
        const char *name = t->names.text[i];
        j->root[i] = jdict_find(context, name, strlen(name));
        if (jv_is(j->root[i], J_MISSING)) {
            j->root[i] = global_find(j, name);
        }
    }
    for (uint32_t i = 0; i < t->hidden.n; i++) {
        j->root[t->hidden.at[i]] = jv_missing();
    }
    return 0;
}

static int render(struct jinja *j, const struct template *t, const struct template_input *input)
{
    struct jvalue context;
    enum flow flow;
    if (input->date != NULL && !jdate_parse(input->date, &j->date)) {
        return refuse(j, "the date of a template must be a day written YYYY-MM-DD");
    }
    int rc = make_context(j, input, &context);
    if (rc == 0) {
        rc = fill_root(j, t, context.as.dict);
    }
    if (rc == 0) {
        rc = exec_body(j, NULL, &t->body, &flow);
    }
    return rc == 0 ? jtext_check(j) : rc;
}

int jinja_render(const struct template *t, const struct template_input *input, uint64_t steps_max,
                 struct buf *out, struct err *err)
{
    struct jinja j = {.err = err, .steps_max = steps_max, .line = 1};
    arena_init(&j.arena, TEMPLATE_MEMORY_BYTES_MAX);
    buf_init(&j.scratch, TEMPLATE_OUTPUT_BYTES_MAX);
    int rc = render(&j, t, input);
    if (rc == 0) {
        size_t before = out->len;
        buf_append(out, j.scratch.len == 0 ? "" : j.scratch.data, j.scratch.len);
        rc = buf_check(out, "a rendered template", err);
        if (rc != 0) {
            out->len = before;
        }
    }
    buf_release(&j.scratch);
    arena_release(&j.arena);
    return rc;
}

static bool only_calls(const json_t *message)
{
    const json_t *content = json_object_get(message, "content");
    return json_array_size(json_object_get(message, "tool_calls")) > 0 &&
           (content == NULL || json_is_null(content));
}

/* The messages with "" for the content of those that only call tools; NULL when there are none, or
 * no memory. */
static json_t *with_empty_contents(const json_t *messages)
{
    json_t *filled = NULL;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        if (!only_calls(message)) {
            continue;
        }
        json_t *copy = json_copy((json_t *)(uintptr_t)message);
        filled = filled != NULL ? filled : json_copy((json_t *)(uintptr_t)messages);
        if (json_array_set_new(filled, i, copy) != 0 ||
            json_object_set_new(copy, "content", json_string("")) != 0) {
            json_decref(filled);
            return NULL;
        }
    }
    return filled;
}

int template_render(const struct template *t, const struct template_input *input, struct buf *out,
                    struct err *err)
{
    const int rc = jinja_render(t, input, TEMPLATE_STEPS_MAX, out, err);
    struct template_input second = *input;
    struct err why = {0};
    size_t length;
    const bool fill = rc == -(int)ERR_INVALID && input->fill_calls &&
                      strstr(template_source(t, &length), "tool_calls") != NULL;
    json_t *filled = fill ? with_empty_contents(input->messages) : NULL;
    if (filled == NULL) {
        return rc;
    }
    second.messages = filled;
    const int again = jinja_render(t, &second, TEMPLATE_STEPS_MAX, out, &why);
    json_decref(filled);
    return again == 0 ? 0 : rc;
}
