/* A template that knows of tools mentions `tools`, one that knows of calls `tool_calls`. */
#include "infer/prompt_tools.h"

#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/template.h"

const char *tools_format(const char *source, const json_t *tools)
{
    if (json_array_size(tools) == 0) {
        return NULL;
    }
    const bool llama = strstr(source, "tools") != NULL && strstr(source, "<tool_call>") == NULL &&
                       strstr(source, "<|start_header_id|>") != NULL;
    return llama ? "llama3" : "hermes";
}

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

static void describe_calls(const json_t *message, struct buf *out)
{
    size_t i;
    const json_t *call;
    const char *content = json_string_value(json_object_get(message, "content"));
    buf_puts(out, content != NULL ? content : "");
    json_array_foreach(json_object_get(message, "tool_calls"), i, call)
    {
        const json_t *function = json_object_get(call, "function");
        struct json_out json;
        buf_puts(out, out->len > 0 ? "\n<tool_call>\n" : "<tool_call>\n");
        json_out_init(&json, out);
        json_out_object(&json);
        json_out_kv_tree(&json, "name", json_object_get(function, "name"));
        json_out_kv_tree(&json, "arguments", json_object_get(function, "arguments"));
        json_out_object_end(&json);
        buf_puts(out, "\n</tool_call>");
    }
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
            describe_calls(message, &text);
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
