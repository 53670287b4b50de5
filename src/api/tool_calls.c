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

#include "base/json.h"

#define SPACE " \t\r\n"

static const char open_tag[] = "<tool_call>";
static const char close_tag[] = "</tool_call>";

void tool_parser_init(struct tool_parser *p)
{
    memset(p, 0, sizeof *p);
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

static bool is_space(char c)
{
    return c != '\0' && strchr(SPACE, c) != NULL;
}

static void drop_front(struct buf *held, size_t n)
{
    if (n > 0) {
        memmove(held->data, held->data + n, held->len - n);
        held->len -= n;
        held->data[held->len] = '\0';
    }
}

/* How many bytes of the tag the text begins with: all of it, or all that there is of the text, or
 * none. */
static size_t tag_prefix(const char *text, size_t n, const char *tag)
{
    const size_t whole = strlen(tag);
    const size_t both = n < whole ? n : whole;
    return memcmp(text, tag, both) == 0 ? both : 0;
}

/* The tag in what is held, where the format has tags. */
static const char *find(const struct tool_parser *p, const char *tag)
{
    return p->held.len > 0 && !p->llama3 ? strstr(p->held.data, tag) : NULL;
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

/* --- an object that is a call --- */

/* Reads on while the text is what is asked for. `cut`: it ended first; `other`: it is not. */
struct reader {
    const char *at, *end;
    bool cut, other;
};

static void take(struct reader *r, char wanted)
{
    while (r->at < r->end && is_space(*r->at)) {
        r->at++;
    }
    if (r->cut || r->other) {
        return;
    }
    r->cut = r->at == r->end;
    r->other = !r->cut && *r->at != wanted;
    r->at += !r->cut && !r->other;
}

/* A string without escapes: its beginning, and *n its length. */
static const char *take_string(struct reader *r, size_t *n)
{
    take(r, '"');
    const char *text = r->at;
    while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= ' ') {
        r->at++;
    }
    *n = (size_t)(r->at - text);
    if (r->at < r->end && *r->at != '"') {
        r->other = true;
    }
    take(r, '"');
    return text;
}

static bool is_word(const char *text, size_t n, const char *word)
{
    return n == strlen(word) && memcmp(text, word, n) == 0;
}

struct head {
    const char *name;
    size_t name_bytes, length;
};

/* Reads {"name": "f", "arguments": up to the brace behind it; r->cut: it may become one. */
static void read_head(struct reader *r, struct head *head)
{
    const char *begin = r->at;
    size_t n = 0;
    take(r, '{');
    const char *word = take_string(r, &n);
    r->other = r->other || (!r->cut && !is_word(word, n, "name"));
    take(r, ':');
    head->name = take_string(r, &head->name_bytes);
    take(r, ',');
    word = take_string(r, &n);
    r->other =
        r->other || (!r->cut && !is_word(word, n, "arguments") && !is_word(word, n, "parameters"));
    take(r, ':');
    take(r, '{');
    head->length = (size_t)(r->at - begin) - 1;
}

/* Whether this byte ends the object. */
static bool scan_byte(struct brace_scan *scan, char c)
{
    if (scan->quoted) {
        scan->quoted = scan->escaped || c != '"';
        scan->escaped = !scan->escaped && c == '\\';
        return false;
    }
    scan->quoted = c == '"';
    scan->depth += c == '{';
    return c == '}' && --scan->depth == 0;
}

/* Length of the object that text begins with, braces in strings aside; 0 while it is open. */
static size_t object_length(const char *text, size_t n)
{
    struct brace_scan scan = {0};
    for (size_t i = 0; i < n; i++) {
        if (scan_byte(&scan, text[i])) {
            return i + 1;
        }
    }
    return 0;
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

static bool outside(struct tool_parser *p, const struct tool_events *events)
{
    if (p->llama3) {
        p->place = TOOLS_BEFORE;
        return true;
    }
    const char *tag = find(p, open_tag);
    if (tag == NULL) {
        const size_t n = certain(p->held.data != NULL ? p->held.data : "", p->held.len);
        say(events, p->held.data, n);
        drop_front(&p->held, n);
        return false;
    }
    size_t n = (size_t)(tag - p->held.data);
    while (n > 0 && is_space(p->held.data[n - 1])) {
        n--;
    }
    say(events, p->held.data, n);
    drop_front(&p->held, (size_t)(tag - p->held.data));
    p->tagged = true;
    p->place = TOOLS_BEFORE;
    return true;
}

/* Where the next call may begin: behind the opening tag, white space and what stands between
 * calls, a brace too many included. */
static size_t next_call(const struct tool_parser *p)
{
    const char *between = !p->llama3 ? SPACE "[],;}" : p->n_calls > 0 ? SPACE ";" : SPACE;
    size_t at = p->tagged ? sizeof open_tag - 1 : 0;
    if (p->held.len > 0) {
        at += strspn(p->held.data + at, between);
    }
    return at;
}

/* Something else stands where a call was looked for: text without tags, and text with them unless
 * one of them was a call. */
static bool no_call(struct tool_parser *p, const struct tool_events *events)
{
    const char *tag = find(p, close_tag);
    if (p->llama3) {
        p->place = TOOLS_OVER;
        say(events, p->held.data, p->held.len);
        buf_clear(&p->held);
    }
    if (tag == NULL) {
        return false;
    }
    const size_t n = (size_t)(tag - p->held.data) + sizeof close_tag - 1;
    say(events, p->held.data, p->tagged ? n : 0);
    drop_front(&p->held, n);
    p->tagged = false;
    p->place = TOOLS_OUTSIDE;
    return true;
}

static bool before_call(struct tool_parser *p, const struct tool_events *events)
{
    const size_t at = next_call(p);
    if (at == p->held.len) {
        return false;
    }
    const char *text = p->held.data + at;
    const char *tag = find(p, close_tag);
    const size_t n = tag != NULL ? (size_t)(tag - text) : p->held.len - at;
    struct reader reader = {text, text + n, false, false};
    struct head head;
    if (*text != '{') {
        return no_call(p, events);
    }
    read_head(&reader, &head);
    if (!reader.cut && !reader.other) {
        begin_call(p, head.name, head.name_bytes, events);
        drop_front(&p->held, at + head.length);
        p->scan = (struct brace_scan){0};
        p->place = TOOLS_ARGUMENTS;
        return true;
    }
    const size_t whole = reader.other ? object_length(text, n) : 0;
    if (whole > 0 && tell_whole(p, text, whole, events)) {
        drop_front(&p->held, at + whole);
        return true;
    }
    return whole > 0 || tag != NULL ? no_call(p, events) : false;
}

/* How much of `held` belongs to the object that is open; *over: all of it has come, or a tag. */
static size_t in_object(struct tool_parser *p, bool *over)
{
    const char *text = p->held.data;
    size_t n = 0;
    *over = false;
    while (n < p->held.len && !*over) {
        if (!p->llama3 && !p->scan.quoted && text[n] == '<') {
            const size_t tag = tag_prefix(text + n, p->held.len - n, close_tag);
            *over = tag == sizeof close_tag - 1;
            if (tag > 0) {
                return n;
            }
        }
        *over = scan_byte(&p->scan, text[n++]);
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
        p->place = TOOLS_BEHIND;
    }
    return over;
}

static bool behind_arguments(struct tool_parser *p)
{
    size_t at = 0;
    while (at < p->held.len && is_space(p->held.data[at])) {
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

/* Nothing but what stands between calls, and perhaps the beginning of the closing tag. */
static bool nothing_left(const struct tool_parser *p)
{
    const size_t at = next_call(p);
    const size_t n = p->held.len - at;
    return n == 0 || (p->place == TOOLS_BEFORE && !p->llama3 &&
                      tag_prefix(p->held.data + at, n, close_tag) == n);
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
