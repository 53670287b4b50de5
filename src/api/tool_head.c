#include "api/tool_head.h"

#include <string.h>

bool tool_is_space(char c)
{
    return c != '\0' && strchr(TOOL_SPACE, c) != NULL;
}

size_t tool_tag_bytes(const char *tag)
{
    return tag != NULL ? strlen(tag) : 0;
}

size_t tool_tag_prefix(const char *text, size_t n, const char *tag)
{
    const size_t whole = tool_tag_bytes(tag);
    if (whole == 0) {
        return 0;
    }
    const size_t both = n < whole ? n : whole;
    return memcmp(text, tag, both) == 0 ? both : 0;
}

/* Reads on while the text is what is asked for. `cut`: it ended first; `other`: it is not. */
struct reader {
    const char *at, *end;
    bool cut, other;
};

static void take(struct reader *r, char wanted)
{
    while (r->at < r->end && tool_is_space(*r->at)) {
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

/* At least one of the letters of names. */
static const char *take_word(struct reader *r, size_t *n)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const char *text = r->at;
    while (r->at < r->end && *r->at != '\0' && strchr(letters, *r->at) != NULL) {
        r->at++;
    }
    *n = (size_t)(r->at - text);
    if (!r->cut && !r->other) {
        r->cut = r->at == r->end;
        r->other = !r->cut && *n == 0;
    }
    return text;
}

/* A tag that may be there or not. */
static bool take_tag(struct reader *r, const char *tag)
{
    const size_t n = r->cut || r->other ? 0 : tool_tag_prefix(r->at, (size_t)(r->end - r->at), tag);
    if (n < strlen(tag)) {
        r->cut = r->cut || n > 0;
        return false;
    }
    r->at += n;
    return true;
}

static bool is_word(const char *text, size_t n, const char *word)
{
    return n == strlen(word) && memcmp(text, word, n) == 0;
}

static void read_head(struct reader *r, struct tool_head *head)
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
    head->bytes = (size_t)(r->at - begin) - 1;
}

static void read_bare_head(struct reader *r, struct tool_head *head)
{
    const char *begin = r->at;
    head->name = take_word(r, &head->name_bytes);
    if (take_tag(r, "[CALL_ID]")) {
        size_t n;
        (void)take_word(r, &n);
    }
    (void)take_tag(r, "[ARGS]");
    take(r, '{');
    head->bytes = (size_t)(r->at - begin) - 1;
}

enum tool_head_kind tool_head_read(const char *text, size_t n, bool bare, struct tool_head *head)
{
    struct reader r = {text, text + n, false, false};
    if (bare) {
        read_bare_head(&r, head);
    } else {
        read_head(&r, head);
    }
    return r.other ? TOOL_HEAD_OTHER : r.cut ? TOOL_HEAD_CUT : TOOL_HEAD_WHOLE;
}

bool brace_scan_byte(struct brace_scan *scan, char c)
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

size_t tool_object_bytes(const char *text, size_t n)
{
    struct brace_scan scan = {0};
    for (size_t i = 0; i < n; i++) {
        if (brace_scan_byte(&scan, text[i])) {
            return i + 1;
        }
    }
    return 0;
}
