/* A template that knows of tools mentions `tools`, one that knows of calls `tool_calls`. */
#include "infer/prompt_tools.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "infer/tool_format.h"
#include "text/template.h"

static void describe(const json_t *tools, const char *system, struct buf *out)
{
    struct json_out json;
    if (system != NULL && *system != '\0') {
        buf_puts(out, system);
        buf_puts(out, "\n\n");
    }
    buf_puts(out, "You may call these functions to answer. Their signatures:\n<tools>\n");
    json_out_init(&json, out);
    json_out_tree(&json, tools);
    buf_puts(out, "\n</tools>\n\nTo call a function, answer with nothing but one JSON object for "
                  "each call, each between tags:\n<tool_call>\n{\"name\": <function-name>, "
                  "\"arguments\": <arguments-object>}\n</tool_call>\n"
                  "When no function is of use, answer in plain words.");
}

static const char *role_of(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role != NULL ? role : "";
}

/* A call's name or arguments. */
static void put_tree(const json_t *tree, struct buf *out)
{
    struct json_out json;
    json_out_init(&json, out);
    json_out_tree(&json, tree);
}

static void describe_calls(const json_t *message, const struct tool_format *format, struct buf *out)
{
    size_t i;
    const json_t *call;
    const char *content = json_string_value(json_object_get(message, "content"));
    buf_puts(out, content != NULL ? content : "");
    buf_puts(out, out->len > 0 ? "\n" : "");
    buf_puts(out, format->begin);
    json_array_foreach(json_object_get(message, "tool_calls"), i, call)
    {
        const json_t *function = json_object_get(call, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        buf_puts(out, i > 0 && format->between != NULL ? format->between : "");
        buf_puts(out, format->call_begin);
        if (format->bare_name && name != NULL) {
            buf_puts(out, name);
        } else {
            put_tree(json_object_get(function, "name"), out);
        }
        buf_puts(out, format->middle);
        put_tree(json_object_get(function, "arguments"), out);
        buf_puts(out, format->call_end);
    }
    buf_puts(out, format->end);
}

static int append(json_t *all, const char *role, const struct buf *text, struct err *err)
{
    json_t *message = json_object();
    int rc = buf_check(text, "a message", err);
    if (rc == 0 &&
        (json_object_set_new(message, "role", json_string(role)) != 0 ||
         json_object_set_new(message, "content",
                             json_stringn(text->data != NULL ? text->data : "", text->len)) != 0 ||
         json_array_append(all, message) != 0)) {
        rc = mem_err(err, text->len);
    }
    json_decref(message);
    return rc;
}

int tools_tell(const char *source, const json_t *messages, const json_t *tools, json_t **out,
               struct err *err)
{
    const bool tell_tools = json_array_size(tools) > 0 && strstr(source, "tools") == NULL;
    const bool tell_calls = strstr(source, "tool_calls") == NULL;
    const json_t *first = json_array_get(messages, 0);
    const bool has_system = tell_tools && strcmp(role_of(first), "system") == 0;
    bool calls = false;
    size_t i;
    json_t *message;
    json_array_foreach(messages, i, message)
    {
        calls = calls || json_array_size(json_object_get(message, "tool_calls")) > 0;
    }
    if (!tell_tools && !(tell_calls && calls)) {
        return 0;
    }
    json_t *all = json_array();
    struct buf text;
    int rc = 0;
    buf_init(&text, TEMPLATE_OUTPUT_BYTES_MAX);
    if (tell_tools) {
        describe(tools, has_system ? json_string_value(json_object_get(first, "content")) : NULL,
                 &text);
        rc = append(all, "system", &text, err);
    }
    json_array_foreach(messages, i, message)
    {
        if (rc != 0 || (i == 0 && has_system)) {
            continue;
        }
        buf_clear(&text);
        if (tell_calls && json_array_size(json_object_get(message, "tool_calls")) > 0) {
            describe_calls(message, tool_format_of_template(source), &text);
            rc = append(all, role_of(message), &text, err);
        } else if (json_array_append(all, message) != 0) {
            rc = mem_err(err, 0);
        }
    }
    buf_release(&text);
    if (rc != 0) {
        json_decref(all);
        return rc;
    }
    *out = all;
    return 0;
}

/* --- ids --- */

enum { ID_LETTERS = 9 };

struct numbering {
    json_t *renamed; /* ids as they were: as they are now */
    json_t *open;    /* ids of calls without an answer so far */
    unsigned n;
};

static bool is_short(const char *id)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    return id != NULL && strlen(id) == ID_LETTERS && strspn(id, letters) == ID_LETTERS;
}

static int number_call(struct numbering *n, json_t *call)
{
    const char *id = json_string_value(json_object_get(call, "id"));
    if (!is_short(id)) {
        char text[32];
        (void)snprintf(text, sizeof text, "call%05u", ++n->n % 100000);
        if ((id != NULL && json_object_set_new(n->renamed, id, json_string(text)) != 0) ||
            json_object_set_new(call, "id", json_string(text)) != 0) {
            return -1;
        }
    }
    return json_array_append(n->open, json_object_get(call, "id"));
}

/* An answer that does not say to which call is one to the first without. */
static int number_answer(struct numbering *n, json_t *message)
{
    json_t *given = json_object_get(message, "tool_call_id");
    const char *old = json_string_value(given);
    json_t *id = old != NULL ? json_object_get(n->renamed, old) : NULL;
    id = id == NULL && is_short(old) ? given : id;
    id = id == NULL ? json_array_get(n->open, 0) : id;
    if (id == NULL || json_object_set(message, "tool_call_id", id) != 0) {
        return id == NULL ? 0 : -1;
    }
    for (size_t i = 0; i < json_array_size(n->open); i++) {
        if (json_equal(json_array_get(n->open, i), json_object_get(message, "tool_call_id"))) {
            return json_array_remove(n->open, i);
        }
    }
    return 0;
}

int tools_number(const char *source, const json_t *messages, json_t **out, struct err *err)
{
    if (!tool_format_of_template(source)->short_ids) {
        return 0;
    }
    struct numbering numbers = {json_object(), json_array(), 0};
    json_t *all = json_deep_copy(messages);
    bool failed = all == NULL || numbers.renamed == NULL || numbers.open == NULL;
    size_t i;
    size_t k;
    json_t *message;
    json_t *call;
    json_array_foreach(all, i, message)
    {
        json_array_foreach(json_object_get(message, "tool_calls"), k, call)
        {
            failed = failed || number_call(&numbers, call) != 0;
        }
        if (strcmp(role_of(message), "tool") == 0) {
            failed = failed || number_answer(&numbers, message) != 0;
        }
    }
    json_decref(numbers.renamed);
    json_decref(numbers.open);
    if (failed) {
        json_decref(all);
        return mem_err(err, 0);
    }
    *out = all;
    return 0;
}
