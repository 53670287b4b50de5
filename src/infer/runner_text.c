/* Text operations touch the tokenizer and the templates alone, so they are answered on the reader's
 * thread while the model goes on. */
#include "infer/runner_private.h"

#include <string.h>

#include "base/json.h"

static int write_tokens(struct runner *r, const json_t *request, struct json_out *out,
                        struct err *err)
{
    const struct tokenizer *tok = engine_model_tokenizer(r->model);
    const char *text = json_string_value(json_object_get(request, "content"));
    const size_t n = json_string_length(json_object_get(request, "content"));
    const bool special = !json_is_false(json_object_get(request, "parse_special"));
    const unsigned flags =
        (json_is_true(json_object_get(request, "add_special")) ? (unsigned)TOKENIZER_ADD_SPECIAL
                                                               : 0u) |
        (special ? (unsigned)TOKENIZER_PARSE_SPECIAL : 0u);
    struct token_ids ids;
    token_ids_init(&ids, TOKENIZER_TEXT_BYTES_MAX);
    int rc = tok == NULL ? err_set(err, ERR_INVALID, "the model brings no tokenizer")
                         : tokenizer_encode(tok, text != NULL ? text : "", n, flags, &ids, err);
    json_out_key(out, "tokens");
    json_out_array(out);
    for (size_t i = 0; rc == 0 && i < ids.n; i++) {
        json_out_int(out, ids.ids[i]);
    }
    json_out_array_end(out);
    json_out_key(out, "pieces");
    json_out_array(out);
    for (size_t i = 0; rc == 0 && i < ids.n; i++) {
        size_t bytes;
        const char *piece = tokenizer_piece(tok, ids.ids[i], &bytes);
        json_out_string_n(out, piece, bytes);
    }
    json_out_array_end(out);
    token_ids_release(&ids);
    return rc;
}

static int write_text(struct runner *r, const json_t *request, struct json_out *out,
                      struct err *err)
{
    const struct tokenizer *tok = engine_model_tokenizer(r->model);
    const json_t *tokens = json_object_get(request, "tokens");
    struct buf text;
    size_t i;
    const json_t *id;
    int rc = tok == NULL ? err_set(err, ERR_INVALID, "the model brings no tokenizer") : 0;
    struct detok detok;
    buf_init(&text, ANSWER_BYTES_MAX);
    detok_init(&detok, tok, false);
    json_array_foreach(tokens, i, id)
    {
        rc = rc == 0 ? detok_push(&detok, (int32_t)json_integer_value(id), &text, err) : rc;
    }
    rc = rc == 0 ? detok_flush(&detok, &text, err) : rc;
    json_out_key(out, "text");
    json_out_string_n(out, text.data != NULL ? text.data : "", text.len);
    buf_release(&text);
    return rc;
}

static int write_prompt(struct runner *r, const json_t *request, struct json_out *out,
                        struct err *err)
{
    struct buf text;
    buf_init(&text, TEMPLATE_OUTPUT_BYTES_MAX);
    const int rc = prompter_render(&r->prompter, request, &text, err);
    json_out_key(out, "prompt");
    json_out_string_n(out, text.data != NULL ? text.data : "", text.len);
    buf_release(&text);
    return rc;
}

void runner_answer_text(struct runner *r, const json_t *request, uint32_t number)
{
    struct err err = {0};
    struct buf buf;
    struct json_out out;
    const int64_t op = json_integer_value(json_object_get(request, "op"));
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_int(&out, "r", number);
    json_out_key(&out, "result");
    json_out_object(&out);
    const int rc = op == INFER_TOKENIZE     ? write_tokens(r, request, &out, &err)
                   : op == INFER_DETOKENIZE ? write_text(r, request, &out, &err)
                                            : write_prompt(r, request, &out, &err);
    json_out_object_end(&out);
    json_out_object_end(&out);
    if (rc != 0) {
        runner_send_failed(r, &number, &err);
    } else {
        runner_send(r, 'j', &buf);
    }
    buf_release(&buf);
}
