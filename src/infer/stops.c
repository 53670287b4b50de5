/* The held text is scanned from its start: at each offset either a stop string matches whole
 * (done), or one matches up to the end of the text (hold from here), or the byte is free to go.
 * Stop strings and texts are short, so the plain scan is enough. */
#include "infer/stops.h"

#include <string.h>

enum { HELD_BYTES_MAX = 1 << 20 };

void stops_init(struct stops *stops, const struct infer_sampling *sampling)
{
    stops->sampling = sampling;
    buf_init(&stops->held, HELD_BYTES_MAX);
}

void stops_release(struct stops *stops)
{
    buf_release(&stops->held);
}

enum match { MATCH_NONE, MATCH_PART, MATCH_WHOLE };

static enum match match_at(const struct infer_sampling *s, const char *text, size_t n)
{
    enum match best = MATCH_NONE;
    for (int i = 0; i < s->n_stops; i++) {
        const size_t length = strlen(s->stops[i]);
        if (n >= length && memcmp(text, s->stops[i], length) == 0) {
            return MATCH_WHOLE;
        }
        if (n < length && memcmp(text, s->stops[i], n) == 0) {
            best = MATCH_PART;
        }
    }
    return best;
}

bool stops_push(struct stops *stops, const char *text, size_t n, struct buf *out)
{
    if (stops->sampling->n_stops == 0) {
        buf_append(out, text, n);
        return false;
    }
    buf_append(&stops->held, text, n);
    size_t at = 0;
    enum match match = MATCH_NONE;
    while (at < stops->held.len && match == MATCH_NONE) {
        match = match_at(stops->sampling, stops->held.data + at, stops->held.len - at);
        at += match == MATCH_NONE;
    }
    buf_append(out, stops->held.data, at);
    if (match == MATCH_WHOLE) {
        buf_clear(&stops->held);
        return true;
    }
    memmove(stops->held.data, stops->held.data + at, stops->held.len - at);
    stops->held.len -= at;
    return false;
}

void stops_flush(struct stops *stops, struct buf *out)
{
    buf_append(out, stops->held.data, stops->held.len);
    buf_clear(&stops->held);
}
