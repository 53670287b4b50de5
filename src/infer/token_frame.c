/* Written field by field into a growing buffer, read back with every length checked: the runner is
 * on the far side of the wall. */
#include "infer/token_frame.h"

#include <string.h>

enum { TOKEN_END = 1, TOKEN_SCORED = 2 };

static void put_u32(struct buf *out, uint32_t value)
{
    buf_append(out, &value, sizeof value);
}

static void put_piece(struct buf *out, float logprob, const struct tokenizer *tok, int32_t id)
{
    size_t n;
    const char *bytes = tokenizer_piece(tok, id, &n);
    buf_append(out, &logprob, sizeof logprob);
    put_u32(out, (uint32_t)n);
    buf_append(out, bytes, n);
}

void token_frame_write(struct buf *out, uint32_t request, const struct scheduled_token *token,
                       const struct tokenizer *tok)
{
    const bool with_piece = token->scored || token->text == NULL;
    put_u32(out, request);
    put_u32(out, (uint32_t)token->index);
    put_u32(out, (uint32_t)token->id);
    put_u32(out, (token->is_end ? TOKEN_END : 0u) | (token->scored ? TOKEN_SCORED : 0u));
    put_u32(out, (uint32_t)token->bytes);
    buf_append(out, token->text != NULL ? token->text : "", token->bytes);
    if (!with_piece) {
        return;
    }
    put_piece(out, token->logprob, tok, token->id);
    put_u32(out, (uint32_t)token->n_top);
    for (int i = 0; i < token->n_top; i++) {
        put_u32(out, (uint32_t)token->top[i].id);
        put_piece(out, token->top[i].logprob, tok, token->top[i].id);
    }
}

struct reader {
    const char *at, *end;
    bool bad;
};

static void take(struct reader *r, void *out, size_t n)
{
    r->bad = r->bad || (size_t)(r->end - r->at) < n;
    if (r->bad) {
        memset(out, 0, n);
        return;
    }
    memcpy(out, r->at, n);
    r->at += n;
}

static uint32_t take_u32(struct reader *r)
{
    uint32_t value;
    take(r, &value, sizeof value);
    return value;
}

static const char *take_bytes(struct reader *r, size_t *n)
{
    *n = take_u32(r);
    const char *bytes = r->at;
    r->bad = r->bad || (size_t)(r->end - r->at) < *n;
    *n = r->bad ? 0 : *n;
    r->at += *n;
    return bytes;
}

static void take_piece(struct reader *r, struct infer_piece *piece)
{
    take(r, &piece->logprob, sizeof piece->logprob);
    piece->bytes = take_bytes(r, &piece->n);
}

bool token_frame_read(const struct buf *payload, uint32_t *request, struct infer_token *token)
{
    struct reader r = {payload->data, payload->data + payload->len, payload->len == 0};
    memset(token, 0, sizeof *token);
    *request = take_u32(&r);
    token->index = (int)take_u32(&r);
    token->token.id = (int32_t)take_u32(&r);
    const uint32_t flags = take_u32(&r);
    token->is_end = (flags & TOKEN_END) != 0;
    token->scored = (flags & TOKEN_SCORED) != 0;
    token->text = take_bytes(&r, &token->bytes);
    if (!r.bad && r.at < r.end) {
        take_piece(&r, &token->token);
        const uint32_t n_top = take_u32(&r);
        r.bad = r.bad || n_top > INFER_TOP_LOGPROBS_MAX;
        for (uint32_t i = 0; !r.bad && i < n_top; i++) {
            token->top[i].id = (int32_t)take_u32(&r);
            take_piece(&r, &token->top[i]);
        }
        token->n_top = r.bad ? 0 : (int)n_top;
    }
    return !r.bad;
}
