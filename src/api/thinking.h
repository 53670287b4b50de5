/* What a model thinks before it answers, told apart while it streams: text between <think> and
 * </think> at the beginning of an answer, the opening tag being the template's own where it ends
 * with it. Tags are not told, nor the white space around them. What was never closed was all
 * thought. Owned by one thread.
 */
#ifndef API_THINKING_H
#define API_THINKING_H

#include <stdbool.h>

#include "base/buf.h"

struct think_events {
    void (*thought)(void *ctx, const char *text, size_t n);
    void (*text)(void *ctx, const char *text, size_t n);
    void *ctx;
};

enum think_place { THINK_BEFORE, THINK_BEGINS, THINK_INSIDE, THINK_BEHIND, THINK_OVER };

struct think_parser {
    enum think_place place;
    struct buf held; /* what cannot be told yet */
};

void think_parser_init(struct think_parser *parser);
void think_parser_release(struct think_parser *parser);
/* Before the first text: the prompt has opened the tag. */
void think_parser_open(struct think_parser *parser);
/* `last`: nothing follows. */
void think_parser_push(struct think_parser *parser, const char *text, size_t n, bool last,
                       const struct think_events *events);

#endif
