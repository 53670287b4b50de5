/* One step takes what is held as far as its place allows; a step that changes the place is followed
 * by another. */
#include "api/thinking.h"

#include <string.h>

enum { HELD_BYTES_MAX = 4 << 20 };

static const char open_tag[] = "<think>";
static const char close_tag[] = "</think>";

void think_parser_init(struct think_parser *p)
{
    memset(p, 0, sizeof *p);
    buf_init(&p->held, HELD_BYTES_MAX);
}

void think_parser_release(struct think_parser *p)
{
    buf_release(&p->held);
}

void think_parser_open(struct think_parser *p)
{
    if (p->place == THINK_BEFORE) {
        p->place = THINK_BEGINS;
    }
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void drop(struct buf *held, size_t n)
{
    memmove(held->data, held->data + n, held->len - n);
    held->len -= n;
    held->data[held->len] = '\0';
}

static size_t spaces(const struct buf *held)
{
    size_t n = 0;
    while (n < held->len && is_space(held->data[n])) {
        n++;
    }
    return n;
}

static void tell(struct think_parser *p, size_t n, const struct think_events *events)
{
    if (n > 0) {
        (p->place == THINK_INSIDE ? events->thought : events->text)(events->ctx, p->held.data, n);
        drop(&p->held, n);
    }
}

/* Before the first tag: false when more has to come to know whether it is one. */
static bool before(struct think_parser *p, bool last)
{
    const size_t at = spaces(&p->held);
    const size_t left = p->held.len - at;
    const size_t tag = sizeof open_tag - 1;
    if (left >= tag && memcmp(p->held.data + at, open_tag, tag) == 0) {
        drop(&p->held, at + tag);
        p->place = THINK_BEGINS;
        return true;
    }
    if (!last && left < tag && memcmp(p->held.data + at, open_tag, left) == 0) {
        return false;
    }
    p->place = THINK_OVER;
    return true;
}

/* White space between a tag and what follows it; false while there is nothing else. */
static bool skip(struct think_parser *p, enum think_place next)
{
    drop(&p->held, spaces(&p->held));
    if (p->held.len > 0) {
        p->place = next;
    }
    return p->held.len > 0;
}

/* How much of a thought is certain: not what may be the closing tag, nor the space before it. */
static size_t certain(const struct buf *held)
{
    size_t end = held->len;
    for (size_t n = sizeof close_tag - 2; n > 0; n--) {
        if (n <= held->len && memcmp(held->data + held->len - n, close_tag, n) == 0) {
            end = held->len - n;
            break;
        }
    }
    while (end > 0 && is_space(held->data[end - 1])) {
        end--;
    }
    return end;
}

static bool inside(struct think_parser *p, bool last, const struct think_events *events)
{
    const char *tag = strstr(p->held.data, close_tag);
    if (tag == NULL) {
        tell(p, last ? p->held.len : certain(&p->held), events);
        return false;
    }
    size_t n = (size_t)(tag - p->held.data);
    const size_t behind = n + sizeof close_tag - 1;
    while (n > 0 && is_space(p->held.data[n - 1])) {
        n--;
    }
    tell(p, n, events);
    drop(&p->held, behind - n);
    p->place = THINK_BEHIND;
    return true;
}

static bool step(struct think_parser *p, bool last, const struct think_events *events)
{
    switch (p->place) {
    case THINK_BEFORE:
        return before(p, last);
    case THINK_BEGINS:
        return skip(p, THINK_INSIDE);
    case THINK_INSIDE:
        return inside(p, last, events);
    case THINK_BEHIND:
        return skip(p, THINK_OVER);
    case THINK_OVER:
        tell(p, p->held.len, events);
        return false;
    }
    return false;
}

void think_parser_push(struct think_parser *p, const char *text, size_t n, bool last,
                       const struct think_events *events)
{
    if (p->place == THINK_OVER && p->held.len == 0) {
        if (n > 0) {
            events->text(events->ctx, text, n);
        }
        return;
    }
    buf_append(&p->held, text, n);
    if (buf_check(&p->held, "a thought", NULL) != 0) { /* never as long: told as it comes */
        buf_clear(&p->held);
        p->place = THINK_OVER;
        events->text(events->ctx, text, n);
        return;
    }
    while (p->held.len > 0 && step(p, last, events)) {
    }
}
