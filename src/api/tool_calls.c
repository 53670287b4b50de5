/* `held` is what cannot be told yet, and a step takes something from its front:
 *
 *   OUTSIDE ──tag──▶ BEFORE ──{"name": "f", "arguments": ──▶ ARGUMENTS ──}──▶ BEHIND ──}──▶ BEFORE
 *      ▲               │                                                        └─,─▶ REST ─┘
 *      └──────tag──────┘  (other text: OVER, where there are no tags)
 *
 * Outside it is white space that a call may swallow and the beginning of a tag; before a call all
 * since the opening tag, so that it can become text; within arguments the beginning of a tag. */
#include "api/tool_calls.h"

#include <string.h>

#include "api/tool_head.h"
#include "base/json.h"

void tool_parser_init(struct tool_parser *p)
{
    memset(p, 0, sizeof *p);
    p->format = tool_format_named(NULL);
    buf_init(&p->held, TOOL_CALL_BYTES_MAX);
    buf_init(&p->name, TOOL_CALL_BYTES_MAX);
    buf_init(&p->arguments, TOOL_CALL_BYTES_MAX);
}

void tool_parser_release(struct tool_parser *p)
{
    buf_release(&p->held);
    buf_release(&p->name);
    buf_release(&p->arguments);
}

static void drop_front(struct buf *held, size_t n)
{
    if (n > 0 && held->data != NULL) {
        memmove(held->data, held->data + n, held->len - n);
        held->len -= n;
        held->data[held->len] = '\0';
    }
}

/* The first such tag in what is held; NULL, too, where the format has none. */
static const char *find(const struct tool_parser *p, const char *tag)
{
    const size_t n = tool_tag_bytes(tag);
    for (size_t i = 0; n > 0 && i + n <= p->held.len; i++) {
        if (memcmp(p->held.data + i, tag, n) == 0) {
            return p->held.data + i;
        }
    }
    return NULL;
}

/* --- telling --- */

static void say(const struct tool_events *events, const char *text, size_t n)
{
    if (n > 0) {
        events->text(events->ctx, text, n);
    }
}

static void begin_call(struct tool_parser *p, const char *name, size_t n,
                       const struct tool_events *events)
{
    p->n_calls++;
    p->tagged = false;
    buf_clear(&p->name);
    buf_clear(&p->arguments);
    buf_append(&p->name, name, n);
    if (events->call != NULL && p->n_calls <= TOOL_CALLS_MAX && p->name.data != NULL) {
        events->call(events->ctx, p->n_calls - 1, p->name.data);
    }
}

static void tell_arguments(struct tool_parser *p, const char *text, size_t n,
                           const struct tool_events *events)
{
    const size_t room = TOOL_CALL_BYTES_MAX - p->arguments.len;
    n = n < room ? n : room;
    buf_append(&p->arguments, text, n);
    if (events->arguments != NULL && n > 0 && p->n_calls <= TOOL_CALLS_MAX) {
        events->arguments(events->ctx, p->n_calls - 1, text, n);
    }
}

static void end_call(struct tool_parser *p, const struct tool_events *events)
{
    if (events->call_end != NULL && p->n_calls <= TOOL_CALLS_MAX && p->name.data != NULL &&
        p->arguments.data != NULL) {
        events->call_end(events->ctx, p->n_calls - 1, p->name.data, p->arguments.data);
    }
}

/* Tells of an object that is a call, in whatever order. False when it is none. */
static bool tell_whole(struct tool_parser *p, const char *text, size_t n,
                       const struct tool_events *events)
{
    struct err err = {0};
    struct json_out out;
    struct buf arguments;
    json_t *tree = json_parse(text, n, &err);
    const json_t *name = json_object_get(tree, "name");
    const json_t *given = json_object_get(tree, "arguments");
    given = given != NULL ? given : json_object_get(tree, "parameters");
    const bool good = json_is_string(name) && json_is_object(given);
    if (good) {
        buf_init(&arguments, TOOL_CALL_BYTES_MAX);
        json_out_init(&out, &arguments);
        json_out_tree(&out, given);
        begin_call(p, json_string_value(name), json_string_length(name), events);
        tell_arguments(p, arguments.data != NULL ? arguments.data : "", arguments.len, events);
        end_call(p, events);
        buf_release(&arguments);
    }
    json_decref(tree);
    return good;
}

/* --- steps: false when nothing more can be told --- */

/* How much of text is certain not to belong to a call: up to white space before a tag's beginning,
 * or before the end. */
static size_t certain(const char *text, size_t n, const char *tag)
{
    size_t end = n < strlen(tag) ? 0 : n - strlen(tag) + 1;
    while (end < n && tool_tag_prefix(text + end, n - end, tag) == 0) {
        end++;
    }
    while (end > 0 && tool_is_space(text[end - 1])) {
        end--;
    }
    return end;
}

static bool outside(struct tool_parser *p, const struct tool_events *events)
{
    if (p->format->open == NULL) {
        p->place = TOOLS_BEFORE;
        return true;
    }
    const char *tag = find(p, p->format->open);
    if (tag == NULL) {
        const size_t n =
            certain(p->held.data != NULL ? p->held.data : "", p->held.len, p->format->open);
        say(events, p->held.data, n);
        drop_front(&p->held, n);
        return false;
    }
    size_t n = (size_t)(tag - p->held.data);
    while (n > 0 && tool_is_space(p->held.data[n - 1])) {
        n--;
    }
    say(events, p->held.data, n);
    drop_front(&p->held, (size_t)(tag - p->held.data));
    p->tagged = true;
    p->place = TOOLS_BEFORE;
    return true;
}

/* Where the next call, or a tag, may begin: behind the opening tag, white space and what stands
 * between calls, a brace too many included. */
static size_t next_call(const struct tool_parser *p)
{
    const char *between = p->format->open != NULL ? TOOL_SPACE "[],;}"
                          : p->n_calls > 0        ? TOOL_SPACE ";"
                                                  : TOOL_SPACE;
    size_t at = p->tagged ? tool_tag_bytes(p->format->open) : 0;
    while (at < p->held.len && p->held.data[at] != '\0' &&
           strchr(between, p->held.data[at]) != NULL &&
           tool_tag_prefix(p->held.data + at, p->held.len - at, p->format->open) == 0) {
        at++;
    }
    return at;
}

/* Something else stands where a call was looked for. Between tags it is text together with them,
 * and dropped where one of them was a call; else there will be no call, or none before the next
 * opening tag. */
static bool no_call(struct tool_parser *p, const struct tool_events *events)
{
    const char *close = find(p, p->format->close);
    const size_t n = close != NULL
                         ? (size_t)(close - p->held.data) + tool_tag_bytes(p->format->close)
                     : p->tagged ? tool_tag_bytes(p->format->open)
                                 : next_call(p);
    if (p->format->close != NULL && close == NULL) {
        return false;
    }
    if (p->format->open == NULL) {
        p->place = TOOLS_OVER;
        say(events, p->held.data, p->held.len);
        buf_clear(&p->held);
        return false;
    }
    say(events, p->held.data, p->tagged ? n : 0);
    drop_front(&p->held, n);
    p->tagged = false;
    p->place = TOOLS_OUTSIDE;
    return true;
}

static bool tell_head(struct tool_parser *p, size_t at, const struct tool_head *head,
                      const struct tool_events *events)
{
    begin_call(p, head->name, head->name_bytes, events);
    drop_front(&p->held, at + head->bytes);
    p->scan = (struct brace_scan){0};
    p->place = TOOLS_ARGUMENTS;
    return true;
}

static bool before_call(struct tool_parser *p, const struct tool_events *events)
{
    const size_t at = next_call(p);
    if (at == p->held.len) {
        return false;
    }
    const char *text = p->held.data + at;
    const char *close = find(p, p->format->close);
    const size_t n = close != NULL ? (size_t)(close - text) : p->held.len - at;
    const size_t open = tool_tag_prefix(text, p->held.len - at, p->format->open);
    struct tool_head head;
    if (open > 0 && open < tool_tag_bytes(p->format->open)) {
        return false;
    }
    if (open > 0) { /* once more */
        drop_front(&p->held, at);
        p->tagged = true;
        return true;
    }
    p->bare = p->format->bare_name && p->tagged && *text != '{';
    const enum tool_head_kind kind = tool_head_read(text, n, p->bare, &head);
    if (kind == TOOL_HEAD_WHOLE) {
        return tell_head(p, at, &head, events);
    }
    const size_t whole = kind == TOOL_HEAD_OTHER && !p->bare ? tool_object_bytes(text, n) : 0;
    if (whole > 0 && tell_whole(p, text, whole, events)) {
        drop_front(&p->held, at + whole);
        return true;
    }
    const bool may_be = whole == 0 && close == NULL && (kind == TOOL_HEAD_CUT || *text == '{');
    return may_be ? false : no_call(p, events);
}

/* How much of `held` belongs to the object that is open; *over: all of it has come, or a tag. */
static size_t in_object(struct tool_parser *p, bool *over)
{
    const char *text = p->held.data;
    size_t n = 0;
    *over = false;
    while (n < p->held.len && !*over) {
        const size_t tag =
            p->scan.quoted ? 0 : tool_tag_prefix(text + n, p->held.len - n, p->format->close);
        if (tag > 0) {
            *over = tag == tool_tag_bytes(p->format->close);
            return n;
        }
        *over = brace_scan_byte(&p->scan, text[n++]);
    }
    return n;
}

static bool in_arguments(struct tool_parser *p, const struct tool_events *events)
{
    bool over;
    const size_t n = in_object(p, &over);
    tell_arguments(p, p->held.data, n, events);
    drop_front(&p->held, n);
    if (over) {
        end_call(p, events);
        p->place = p->bare ? TOOLS_BEFORE : TOOLS_BEHIND;
    }
    return over;
}

static bool behind_arguments(struct tool_parser *p)
{
    size_t at = 0;
    while (at < p->held.len && tool_is_space(p->held.data[at])) {
        at++;
    }
    if (at == p->held.len) {
        return false;
    }
    const char c = p->held.data[at];
    drop_front(&p->held, c == '}' || c == ',' ? at + 1 : 0);
    p->scan = (struct brace_scan){.depth = 1};
    p->place = c == ',' ? TOOLS_REST : TOOLS_BEFORE;
    return true;
}

/* More members, which say nothing. */
static bool in_rest(struct tool_parser *p)
{
    bool over;
    drop_front(&p->held, in_object(p, &over));
    p->place = over ? TOOLS_BEFORE : TOOLS_REST;
    return over;
}

static bool step(struct tool_parser *p, const struct tool_events *events)
{
    switch (p->place) {
    case TOOLS_OUTSIDE:
        return outside(p, events);
    case TOOLS_BEFORE:
        return before_call(p, events);
    case TOOLS_ARGUMENTS:
        return in_arguments(p, events);
    case TOOLS_BEHIND:
        return behind_arguments(p);
    case TOOLS_REST:
        return in_rest(p);
    default:
        return false;
    }
}

void tool_parser_push(struct tool_parser *p, const char *text, size_t n,
                      const struct tool_events *events)
{
    if (p->place == TOOLS_OVER) {
        say(events, text, n);
        return;
    }
    buf_append(&p->held, text, n);
    if (buf_check(&p->held, "a call", NULL) != 0) { /* no call is as long */
        tool_parser_end(p, events);
        say(events, text, n);
        p->place = TOOLS_OVER;
        return;
    }
    while (step(p, events)) {
    }
}

/* Nothing but what stands between calls, and perhaps the beginning of a tag. */
static bool nothing_left(const struct tool_parser *p)
{
    const size_t at = next_call(p);
    const size_t n = p->held.len - at;
    return n == 0 || tool_tag_prefix(p->held.data + at, n, p->format->open) == n ||
           tool_tag_prefix(p->held.data + at, n, p->format->close) == n;
}

void tool_parser_end(struct tool_parser *p, const struct tool_events *events)
{
    const bool blank = p->n_calls > 0 && !p->tagged && nothing_left(p);
    if (p->place == TOOLS_ARGUMENTS) {
        tell_arguments(p, p->held.data, p->held.len, events);
        end_call(p, events);
        p->cut = true;
    } else if (p->place <= TOOLS_BEFORE && !blank) {
        say(events, p->held.data, p->held.len);
    }
    buf_clear(&p->held);
}
