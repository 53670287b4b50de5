/* Stop strings over streamed text: nothing of a stop string ever reaches the client, nothing that
 * is not part of one is held back longer than it could still become one. */
#ifndef INFER_STOPS_H
#define INFER_STOPS_H

#include "base/buf.h"
#include "infer/sampling.h"

struct stops {
    const struct infer_sampling *sampling; /* outlives this */
    struct buf held;                       /* text that may be the beginning of a stop string */
};

void stops_init(struct stops *stops, const struct infer_sampling *sampling);
void stops_release(struct stops *stops);
/* Takes new text; appends to `out` what is certain not to belong to a stop string. Returns true
 * when a stop string is complete: the text before it is in out, the rest is dropped. */
bool stops_push(struct stops *stops, const char *text, size_t n, struct buf *out);
/* The end of the answer: what was held back goes out. */
void stops_flush(struct stops *stops, struct buf *out);

#endif
