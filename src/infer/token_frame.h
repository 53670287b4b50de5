/* One token on the wire between runner and hub: frames 't' (of the answer) and 'p' (of the prompt).
 *
 * u32 request, u32 index, i32 id, u32 flags, u32 n, n bytes of text; with TOKEN_SCORED: a piece
 * (f32 log-probability, u32 n, n bytes) of the token, u32 count, and so many of i32 id and piece.
 * In the machine's byte order: both ends are one program.
 */
#ifndef INFER_TOKEN_FRAME_H
#define INFER_TOKEN_FRAME_H

#include "base/buf.h"
#include "infer/infer.h"
#include "infer/scheduler.h"
#include "text/tokenizer.h"

/* Appends the frame's payload; tok gives the tokens' bytes. */
void token_frame_write(struct buf *out, uint32_t request, const struct scheduled_token *token,
                       const struct tokenizer *tok);
/* False when the payload is not one. Texts are borrowed from it. */
bool token_frame_read(const struct buf *payload, uint32_t *request,
                      struct infer_token *token) MUST_CHECK;

#endif
