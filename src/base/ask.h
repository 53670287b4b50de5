/* One question to a child of its own: whatever reads strangers' files does it there, with limits,
 * and dies of them alone.
 *
 *   hub: spawn, 'Q' {…} ─▶ child: limits, answers ─▶ 'a' {…} or 'x' {code, message}
 *
 * Each call has its own child; any thread may ask. A question has at most ASK_QUESTION_BYTES_MAX.
 */
#ifndef BASE_ASK_H
#define BASE_ASK_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

enum { ASK_QUESTION_BYTES_MAX = 1 << 20 };

struct ask_kind {
    const char *command;     /* hidden command of this program that calls ask_answer_main */
    unsigned cpu_seconds;    /* limit of the child; address space has none: maps of weights are
                                larger than memory */
    int timeout_ms;          /* for each frame */
    size_t answer_bytes_max; /* kept by the child */
    const char *broken;      /* said, as ERR_CORRUPT, when the child ends without an answer */
};

/* The child's answer replaces what is in `answer`. The child's own error comes back as it set it.
 * program NULL: this one. */
int ask_child(const struct ask_kind *kind, const char *program, const struct buf *question,
              struct buf *answer, struct err *err) MUST_CHECK;

/* Writes the whole answer, one JSON object. */
typedef int (*ask_answer_fn)(const json_t *question, struct json_out *out, struct err *err);
/* The child: takes one question from control_fd, answers, returns the exit status. */
int ask_answer_main(const struct ask_kind *kind, int control_fd, ask_answer_fn answer);

#endif
