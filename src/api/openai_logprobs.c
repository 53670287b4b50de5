/* Members are written the moment a token comes and joined when they are sent. */
#include "api/openai.h"

#include <string.h>

#include "base/utf8.h"

enum { PIECE_BYTES_MAX = 1 << 16 };

/* The text of a piece, in `text` where it has to be made. */
static const char *piece_text(const struct infer_piece *piece, struct buf *text)
{
    if (utf8_valid(piece->bytes, piece->n)) {
        buf_append(text, piece->bytes, piece->n);
        return text->data != NULL ? text->data : "";
    }
    buf_puts(text, "bytes:");
    for (size_t i = 0; i < piece->n; i++) {
        buf_printf(text, "\\x%02x", (unsigned char)piece->bytes[i]);
    }
    return text->data != NULL ? text->data : "";
}

static void put_piece(struct json_out *out, const struct infer_piece *piece, bool as_key)
{
    struct buf text;
    buf_init(&text, PIECE_BYTES_MAX);
    const char *name = piece_text(piece, &text);
    if (as_key) {
        json_out_key(out, name);
    } else {
        json_out_string_n(out, name, text.len);
    }
    buf_release(&text);
}

static void put_bytes(struct json_out *out, const struct infer_piece *piece)
{
    json_out_key(out, "bytes");
    json_out_array(out);
    for (size_t i = 0; i < piece->n; i++) {
        json_out_int(out, (unsigned char)piece->bytes[i]);
    }
    json_out_array_end(out);
}

static void put_members(struct json_out *out, const struct infer_piece *piece)
{
    json_out_kv_int(out, "id", piece->id);
    json_out_key(out, "token");
    put_piece(out, piece, false);
    json_out_kv_real(out, "logprob", (double)piece->logprob);
    put_bytes(out, piece);
}

static void next_member(struct buf *members)
{
    if (members->len > 0) {
        buf_putc(members, ',');
    }
}

void openai_add_chat_logprob(struct choice *c, const struct infer_token *token)
{
    struct json_out out;
    if (!token->scored || token->is_end) {
        return;
    }
    next_member(&c->logprobs);
    json_out_init(&out, &c->logprobs);
    json_out_object(&out);
    put_members(&out, &token->token);
    json_out_key(&out, "top_logprobs");
    json_out_array(&out);
    for (int i = 0; i < token->n_top; i++) {
        json_out_object(&out);
        put_members(&out, &token->top[i]);
        json_out_object_end(&out);
    }
    json_out_array_end(&out);
    json_out_object_end(&out);
}

void openai_put_chat_logprobs(struct choice *c, struct json_out *out)
{
    json_out_key(out, "logprobs");
    if (c->logprobs.len == 0) {
        json_out_null(out);
        return;
    }
    json_out_object(out);
    json_out_key(out, "content");
    json_out_array(out);
    json_out_raw(out, c->logprobs.data);
    json_out_array_end(out);
    json_out_kv_null(out, "refusal");
    json_out_object_end(out);
    buf_clear(&c->logprobs);
}

static bool same_piece(const struct infer_piece *a, const struct infer_piece *b)
{
    return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

/* An object by token text: of two tokens with one text the likelier stands. The chosen token is
 * always in it. */
static void put_top(struct json_out *out, const struct infer_token *token)
{
    bool chosen_in = false;
    json_out_object(out);
    for (int i = 0; i < token->n_top; i++) {
        bool seen = false;
        for (int k = 0; k < i && !seen; k++) {
            seen = same_piece(&token->top[i], &token->top[k]);
        }
        chosen_in = chosen_in || same_piece(&token->top[i], &token->token);
        if (!seen) {
            put_piece(out, &token->top[i], true);
            json_out_real(out, (double)token->top[i].logprob);
        }
    }
    if (!chosen_in) {
        put_piece(out, &token->token, true);
        json_out_real(out, (double)token->token.logprob);
    }
    json_out_object_end(out);
}

static size_t characters(const struct infer_piece *piece)
{
    size_t n = 0;
    for (size_t i = 0; i < piece->n; i++) {
        n += ((unsigned char)piece->bytes[i] & 0xc0) != 0x80;
    }
    return n;
}

void openai_add_legacy_logprob(struct choice *c, const struct infer_token *token)
{
    struct openai_choice *own = c->own;
    struct json_out out;
    next_member(&own->tokens);
    json_out_init(&out, &own->tokens);
    put_piece(&out, &token->token, false);
    next_member(&own->values);
    json_out_init(&out, &own->values);
    next_member(&own->tops);
    if (token->scored) {
        json_out_real(&out, (double)token->token.logprob);
        json_out_init(&out, &own->tops);
        put_top(&out, token);
    } else {
        json_out_null(&out);
        buf_puts(&own->tops, "null");
    }
    next_member(&own->offsets);
    buf_printf(&own->offsets, "%zu", c->text_offset);
    c->text_offset += characters(&token->token);
}

static void put_array(struct json_out *out, const char *name, struct buf *members)
{
    json_out_key(out, name);
    json_out_array(out);
    if (members->len > 0) {
        json_out_raw(out, members->data);
    }
    json_out_array_end(out);
    buf_clear(members);
}

void openai_put_legacy_logprobs(struct choice *c, struct json_out *out)
{
    struct openai_choice *own = c->own;
    json_out_key(out, "logprobs");
    if (own->tokens.len == 0) {
        json_out_null(out);
        return;
    }
    json_out_object(out);
    put_array(out, "tokens", &own->tokens);
    put_array(out, "token_logprobs", &own->values);
    put_array(out, "top_logprobs", &own->tops);
    put_array(out, "text_offset", &own->offsets);
    json_out_object_end(out);
}
