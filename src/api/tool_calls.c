/* `held` is what cannot be told yet: white space that a call may swallow and the beginning of a tag
 * outside of a call, everything since the opening tag or brace inside of one. */
#include "api/tool_calls.h"

#include <string.h>

#include "base/json.h"

static const char open_tag[] = "<tool_call>";
static const char close_tag[] = "</tool_call>";

void tool_parser_init(struct tool_parser *p, bool llama3)
{
    memset(p, 0, sizeof *p);
    p->llama3 = llama3;
    buf_init(&p->held, TOOL_CALL_BYTES_MAX);
}

void tool_parser_release(struct tool_parser *p)
{
    buf_release(&p->held);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void say(const struct tool_events *events, const char *text, size_t n)
{
    if (n > 0) {
        events->text(events->ctx, text, n);
    }
}

static void drop_front(struct buf *held, size_t n)
{
    memmove(held->data, held->data + n, held->len - n);
    held->len -= n;
    held->data[held->len] = '\0';
}

static const json_t *arguments_of(const json_t *call)
{
    const json_t *arguments = json_object_get(call, "arguments");
    return arguments != NULL ? arguments : json_object_get(call, "parameters");
}

static bool is_call(const json_t *call)
{
    return json_is_string(json_object_get(call, "name")) && json_is_object(arguments_of(call));
}

static void tell(struct tool_parser *p, const json_t *call, const struct tool_events *events)
{
    if (p->n_calls < TOOL_CALLS_MAX) {
        events->call(events->ctx, p->n_calls++, json_string_value(json_object_get(call, "name")),
                     arguments_of(call));
    }
}

/* Tells of the calls in text, one or a list. False when it holds anything else. */
static bool tell_calls(struct tool_parser *p, const char *text, size_t n,
                       const struct tool_events *events)
{
    struct err err = {0};
    json_t *tree = json_parse(text, n, &err);
    bool good = tree != NULL && (json_is_array(tree) ? json_array_size(tree) > 0 : is_call(tree));
    for (size_t i = 0; good && i < json_array_size(tree); i++) {
        good = is_call(json_array_get(tree, i));
    }
    if (good && !json_is_array(tree)) {
        tell(p, tree, events);
    }
    for (size_t i = 0; good && i < json_array_size(tree); i++) {
        tell(p, json_array_get(tree, i), events);
    }
    json_decref(tree);
    return good;
}

/* How much of text is certain not to belong to a call: up to white space before a tag's beginning,
 * or before the end. */
static size_t certain(const char *text, size_t n)
{
    size_t end = n;
    for (size_t tail = n < sizeof open_tag - 1 ? n : sizeof open_tag - 2; tail > 0; tail--) {
        if (memcmp(text + n - tail, open_tag, tail) == 0) {
            end = n - tail;
            break;
        }
    }
    while (end > 0 && is_space(text[end - 1])) {
        end--;
    }
    return end;
}

static const char *find(const struct buf *held, const char *tag)
{
    return held->len > 0 ? strstr(held->data, tag) : NULL;
}

/* One step outside of a call; false when nothing more can be told. */
static bool hermes_outside(struct tool_parser *p, const struct tool_events *events)
{
    const char *tag = find(&p->held, open_tag);
    if (tag == NULL) {
        const size_t n = certain(p->held.data != NULL ? p->held.data : "", p->held.len);
        if (n > 0) {
            say(events, p->held.data, n);
            drop_front(&p->held, n);
        }
        return false;
    }
    size_t n = (size_t)(tag - p->held.data);
    while (n > 0 && is_space(p->held.data[n - 1])) {
        n--;
    }
    say(events, p->held.data, n);
    drop_front(&p->held, (size_t)(tag - p->held.data));
    p->inside = true;
    return true;
}

static bool hermes_inside(struct tool_parser *p, const struct tool_events *events)
{
    const char *tag = find(&p->held, close_tag);
    if (tag == NULL) {
        return false;
    }
    const char *begin = p->held.data + sizeof open_tag - 1;
    const size_t whole = (size_t)(tag - p->held.data) + sizeof close_tag - 1;
    if (!tell_calls(p, begin, (size_t)(tag - begin), events)) {
        say(events, p->held.data, whole);
    }
    drop_front(&p->held, whole);
    p->inside = false;
    return true;
}

/* Length of the object that text begins with, braces in strings aside; 0 while it is open. */
static size_t object_length(const char *text, size_t n)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        if (quoted) {
            quoted = text[i] != '"';
            i += text[i] == '\\';
        } else if (text[i] == '"') {
            quoted = true;
        } else if (text[i] == '{') {
            depth++;
        } else if (text[i] == '}' && --depth == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* One step; false when nothing more can be told. */
static bool llama3_step(struct tool_parser *p, const struct tool_events *events)
{
    size_t at = 0;
    while (at < p->held.len &&
           (is_space(p->held.data[at]) || (p->n_calls > 0 && p->held.data[at] == ';'))) {
        at++;
    }
    if (at == p->held.len) {
        return false;
    }
    if (p->held.data[at] == '{') {
        const size_t n = object_length(p->held.data + at, p->held.len - at);
        if (n == 0) {
            return false;
        }
        if (tell_calls(p, p->held.data + at, n, events)) {
            drop_front(&p->held, at + n);
            return true;
        }
    }
    p->plain = true;
    say(events, p->held.data, p->held.len);
    buf_clear(&p->held);
    return false;
}

void tool_parser_push(struct tool_parser *p, const char *text, size_t n,
                      const struct tool_events *events)
{
    if (p->plain) {
        say(events, text, n);
        return;
    }
    buf_append(&p->held, text, n);
    if (buf_check(&p->held, "a call", NULL) != 0) { /* no call is as long */
        tool_parser_end(p, events);
        say(events, text, n);
        p->plain = true;
    } else if (p->llama3) {
        while (llama3_step(p, events)) {
        }
    } else {
        while (p->inside ? hermes_inside(p, events) : hermes_outside(p, events)) {
        }
    }
}

void tool_parser_end(struct tool_parser *p, const struct tool_events *events)
{
    const size_t skip = sizeof open_tag - 1;
    const bool blank = p->held.len > 0 && strspn(p->held.data, " \r\n\t;") == p->held.len;
    if (p->held.len == 0 || (blank && p->n_calls > 0)) {
        return;
    }
    if (!p->inside || !tell_calls(p, p->held.data + skip, p->held.len - skip, events)) {
        say(events, p->held.data, p->held.len);
    }
    buf_clear(&p->held);
}
