/* Added tokens: texts that are cut out whole before normalisation or before splitting.
 *
 * The leftmost match wins, and among those the longest. A set is immutable once built; its texts
 * are the caller's, who keeps them as long as the set. Matching costs O(longest token) a position
 * at worst, and one table look-up at positions whose byte begins no token.
 */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct added_token {
    const char *bytes; /* never empty */
    uint32_t n;
    int32_t id;
    bool special;
    bool lstrip;
    bool rstrip;
    bool single_word;
};

struct added_set {
    struct added_token *tokens; /* in byte order */
    size_t n;
    uint32_t first[257]; /* tokens that begin with byte b are first[b] … first[b + 1] */
};

/* Takes a copy of the n tokens. ERR_INVALID when two have the same text. */
int added_set_init(struct added_set *set, const struct added_token *tokens, size_t n,
                   struct err *err) MUST_CHECK;
void added_set_release(struct added_set *set); /* safe on a zeroed struct */

/* One cut: the token's id and its range with the white space it takes along. */
struct added_match {
    int32_t id;
    size_t begin;
    size_t end;
};

/* Walks the matches of a text from left to right. */
struct added_cursor {
    const struct added_set *set;
    const char *text;
    size_t n;
    size_t at;    /* where to look on */
    size_t taken; /* end of the last match */
    bool special; /* match control tokens too */
};

/* Next match: false at the end. The text is valid UTF-8. */
bool added_next(struct added_cursor *cursor, struct added_match *match);

#endif
