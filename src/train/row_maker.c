/* One row at a time.
 *
 * 1. put_text appends the tokens of one piece of text and marks them; pieces follow one another
 *    without a gap, so their texts together are the whole text.
 * 2. Trailing messages behind the last assistant turn are not rendered at all: an answer never sees
 *    what comes after it.
 * 3. ids may run past tokens_max by one piece; finish cuts.
 */
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer.h"
#include "train/rows.h"

/* The text of a special token, or NULL when there is none. */
static int token_text(const struct tokenizer *tokenizer, int32_t id, char **out, struct err *err)
{
    size_t n;
    if (id < 0) {
        return 0;
    }
    const char *piece = tokenizer_piece(tokenizer, id, &n);
    *out = mem_strndup(piece, n);
    return *out != NULL ? 0 : mem_err(err, n);
}

int row_maker_init_with(struct row_maker *maker, const struct row_model *with, const char *date,
                        int tokens_max, bool mask_prompt, struct err *err)
{
    const char *source = with->template != NULL ? with->template : template_plain;
    memset(maker, 0, sizeof *maker);
    maker->tokenizer = with->tokenizer;
    if (maker->tokenizer == NULL) {
        return err_set(err, ERR_INVALID, "the base model brings no tokenizer");
    }
    maker->tokens_max = tokens_max;
    maker->mask_prompt = mask_prompt;
    maker->vocab_size = with->vocab_size;
    if (date != NULL && strlen(date) < sizeof maker->date) {
        memcpy(maker->date, date, strlen(date) + 1);
    }
    memcpy(maker->end_ids, with->eos, sizeof maker->end_ids);
    maker->n_end_ids = with->n_eos;
    maker->end_id = with->n_eos > 0 ? with->eos[0] : tokenizer_eos(maker->tokenizer);
    buf_init(&maker->full, TEMPLATE_OUTPUT_BYTES_MAX);
    buf_init(&maker->part, TEMPLATE_OUTPUT_BYTES_MAX);
    buf_init(&maker->header, TEMPLATE_OUTPUT_BYTES_MAX);
    token_ids_init(&maker->ids, TRAIN_ROW_IDS_MAX);
    int rc = template_new(source, strlen(source), &maker->template, err);
    if (rc == 0) {
        rc = token_text(maker->tokenizer, tokenizer_bos(maker->tokenizer), &maker->bos, err);
    }
    if (rc == 0) {
        rc = token_text(maker->tokenizer, tokenizer_eos(maker->tokenizer), &maker->eos, err);
    }
    if (rc != 0) {
        row_maker_release(maker);
    }
    return rc;
}

int row_maker_init(struct row_maker *maker, const struct engine_model *model,
                   const char *template_source, const char *date, int tokens_max, bool mask_prompt,
                   struct err *err)
{
    const struct engine_info *info = engine_model_info(model);
    struct row_model with = {.tokenizer = engine_model_tokenizer(model),
                             .template = template_source != NULL ? template_source
                                                                 : engine_model_template(model),
                             .n_eos = info->n_eos,
                             .vocab_size = info->vocab_size};
    memcpy(with.eos, info->eos, sizeof with.eos);
    return row_maker_init_with(maker, &with, date, tokens_max, mask_prompt, err);
}

void row_maker_release(struct row_maker *maker)
{
    template_free(maker->template);
    mem_free(maker->bos);
    mem_free(maker->eos);
    buf_release(&maker->full);
    buf_release(&maker->part);
    buf_release(&maker->header);
    token_ids_release(&maker->ids);
    mem_free(maker->targets);
    memset(maker, 0, sizeof *maker);
}

/* --- tokens ----------------------------------------------------------------------------------- */

bool row_maker_is_end(const struct row_maker *maker, int32_t id)
{
    for (int i = 0; i < maker->n_end_ids; i++) {
        if (maker->end_ids[i] == id) {
            return true;
        }
    }
    return id >= 0 && id == maker->end_id;
}

/* Marks ids[from, n) as targets or not. */
static int mark(struct row_maker *maker, size_t from, bool target, struct err *err)
{
    if (maker->ids.n > maker->targets_cap) {
        const size_t cap = 2 * maker->ids.n;
        uint8_t *grown = mem_realloc(maker->targets, cap, 1);
        if (grown == NULL) {
            return mem_err(err, cap);
        }
        maker->targets = grown;
        maker->targets_cap = cap;
    }
    if (maker->ids.n > from) {
        memset(maker->targets + from, target, maker->ids.n - from);
    }
    return 0;
}

static int put_text(struct row_maker *maker, const char *text, size_t length, unsigned flags,
                    bool target, struct err *err)
{
    const size_t from = maker->ids.n;
    if (length == 0 && (flags & TOKENIZER_ADD_SPECIAL) == 0) {
        return 0;
    }
    int rc = tokenizer_encode(maker->tokenizer, text, length, flags | TOKENIZER_PARSE_SPECIAL,
                              &maker->ids, err);
    return rc == 0 ? mark(maker, from, target, err) : rc;
}

/* The end token as a target, unless the row ends with one. */
static int put_end(struct row_maker *maker, struct err *err)
{
    const size_t from = maker->ids.n;
    if (maker->end_id < 0 || (from > 0 && row_maker_is_end(maker, maker->ids.ids[from - 1]))) {
        return 0;
    }
    int rc = token_ids_push(&maker->ids, maker->end_id, err);
    return rc == 0 ? mark(maker, from, true, err) : rc;
}

/* --- chat ------------------------------------------------------------------------------------- */

static int render(struct row_maker *maker, const json_t *messages, const json_t *tools,
                  bool generation_prompt, struct buf *out, struct err *err)
{
    const struct template_input input = {
        .messages = messages,
        .tools = tools,
        .add_generation_prompt = generation_prompt,
        .bos_token = maker->bos,
        .eos_token = maker->eos,
        .date = maker->date[0] != '\0' ? maker->date : NULL,
        .fill_calls = true,
    };
    buf_clear(out);
    return template_render(maker->template, &input, out, err);
}

/* Whether `part` is how `full` begins, and goes on from byte `from` or later. */
static bool begins_with(const struct row_maker *maker, size_t from)
{
    return maker->part.len >= from && maker->part.len <= maker->full.len &&
           (maker->part.len == 0 ||
            memcmp(maker->part.data, maker->full.data, maker->part.len) == 0);
}

static bool is_assistant(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role != NULL && strcmp(role, "assistant") == 0;
}

/* One assistant turn, full[begin, end). Its targets end with its end token: a line break that the
 * template writes behind is never generated. A turn without one gets it when the row ends here. */
static int put_turn(struct row_maker *maker, size_t begin, size_t end, bool last, struct err *err)
{
    const size_t from = maker->ids.n;
    int rc = put_text(maker, maker->full.data + begin, end - begin, 0, true, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = maker->ids.n; i > from; i--) {
        if (row_maker_is_end(maker, maker->ids.ids[i - 1])) {
            memset(maker->targets + i, 0, maker->ids.n - i);
            return 0;
        }
    }
    return last ? put_end(maker, err) : 0;
}

/* What the template writes in front of any answer: what asking for one adds to a question. Left
 * empty where that cannot be told, by a template that writes nothing or will not have the question.
 */
static int find_header(struct row_maker *maker, struct err *err)
{
    struct err refused = {0};
    struct buf *asked = &maker->part, *header = &maker->header;
    json_t *question = json_pack("[{s:s, s:s}]", "role", "user", "content", "?");
    int rc = question != NULL ? 0 : err_set(&refused, ERR_NOMEM, "out of memory");
    rc = rc == 0 ? render(maker, question, NULL, false, header, &refused) : rc;
    rc = rc == 0 ? render(maker, question, NULL, true, asked, &refused) : rc;
    const size_t n = header->len;
    const bool told =
        rc == 0 && asked->len > n && (n == 0 || memcmp(asked->data, header->data, n) == 0);
    buf_clear(header);
    if (told) {
        buf_append(header, asked->data + n, asked->len - n);
    }
    json_decref(question);
    maker->header_known = refused.code != ERR_NOMEM;
    return maker->header_known ? buf_check(header, "an answer's header", err)
                               : err_set(err, refused.code, "%s", refused.message);
}

/* Where the first of `messages` begins, an answer to nothing: behind the header in front of it.
 * Nothing can be rendered before it, which for later turns tells the same. */
static int find_first_answer(struct row_maker *maker, const json_t *first, const json_t *tools,
                             size_t *begin, struct err *err)
{
    *begin = 0;
    int rc = maker->header_known ? 0 : find_header(maker, err);
    rc = rc == 0 ? render(maker, first, tools, false, &maker->part, err) : rc;
    if (rc != 0 || maker->header.len == 0 || !begins_with(maker, 0)) {
        return rc;
    }
    const char *at =
        memmem(maker->full.data, maker->part.len, maker->header.data, maker->header.len);
    *begin = at != NULL ? (size_t)(at - maker->full.data) + maker->header.len : 0;
    return 0;
}

/* Where the answer of the last of `messages` begins: behind what stands before it with a generation
 * prompt, or without one where a template asks differently than it writes. prefix: the messages
 * before. */
static int put_last_turn(struct row_maker *maker, const json_t *prefix, const json_t *tools,
                         struct err *err)
{
    int rc = 0;
    maker->ids.n = 0;
    buf_clear(&maker->part);
    if (json_array_size(prefix) > 0) {
        rc = render(maker, prefix, tools, true, &maker->part, err);
        if (rc == 0 && !begins_with(maker, 0)) {
            rc = render(maker, prefix, tools, false, &maker->part, err);
        }
        if (rc == 0 && !begins_with(maker, 0)) {
            rc = err_set(err, ERR_INVALID,
                         "the chat template writes the conversation differently with and without "
                         "its last answer, so the answer's tokens cannot be told apart");
        }
    }
    if (rc == 0) {
        rc = put_text(maker, maker->full.data, maker->part.len, 0, false, err);
    }
    return rc == 0 ? put_turn(maker, maker->part.len, maker->full.len, true, err) : rc;
}

/* Where the assistant turn behind the messages of `prefix` begins. *rewritten: the template does
 * not tell, since what it writes is not how the whole begins. */
static int find_answer(struct row_maker *maker, const json_t *prefix, json_t *message,
                       const json_t *tools, size_t cursor, size_t *begin, bool *rewritten,
                       struct err *err)
{
    int rc;
    if (json_array_size(prefix) == 0) {
        json_t *first = json_pack("[O]", message);
        rc = first != NULL ? find_first_answer(maker, first, tools, begin, err)
                           : mem_err(err, sizeof(void *));
        json_decref(first);
        return rc;
    }
    rc = render(maker, prefix, tools, true, &maker->part, err);
    *rewritten = rc == 0 && !begins_with(maker, cursor);
    *begin = maker->part.len;
    return rc;
}

/* Every assistant turn of messages[0, n), the last of which is one, until the row is full: *cut.
 * *rewritten: the template does not allow it; then nothing that was put counts. */
static int put_turns(struct row_maker *maker, const json_t *messages, size_t n, json_t *prefix,
                     const json_t *tools, bool *rewritten, bool *cut, struct err *err)
{
    size_t cursor = 0;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        *cut = maker->ids.n >= (size_t)maker->tokens_max;
        if (*cut) {
            break;
        }
        json_t *message = json_array_get(messages, i);
        size_t begin = 0;
        if (is_assistant(message)) {
            rc = find_answer(maker, prefix, message, tools, cursor, &begin, rewritten, err);
            if (rc != 0 || *rewritten) {
                return rc;
            }
            rc = put_text(maker, maker->full.data + cursor, begin - cursor, 0, false, err);
        }
        if (json_array_append(prefix, message) != 0) {
            return mem_err(err, sizeof(void *));
        }
        if (rc == 0 && is_assistant(message)) {
            rc = render(maker, prefix, tools, false, &maker->part, err);
            *rewritten = rc == 0 && !begins_with(maker, begin);
            if (rc != 0 || *rewritten) {
                return rc;
            }
            cursor = maker->part.len;
            rc = put_turn(maker, begin, cursor, i + 1 == n, err);
        }
    }
    return rc;
}

/* The first `n` messages as an array of their own; NULL when out of memory. */
static json_t *first_messages(const json_t *messages, size_t n)
{
    json_t *out = json_array();
    for (size_t i = 0; out != NULL && i < n; i++) {
        if (json_array_append(out, json_array_get(messages, i)) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

static int put_chat(struct row_maker *maker, const struct dataset_row *row, bool *last_only,
                    bool *cut, struct err *err)
{
    size_t n = json_array_size(row->messages);
    while (n > 0 && !is_assistant(json_array_get(row->messages, n - 1))) {
        n--;
    }
    json_t *whole = first_messages(row->messages, n);
    json_t *prefix = first_messages(row->messages, 0);
    int rc = whole != NULL && prefix != NULL ? 0 : mem_err(err, n * sizeof(void *));
    if (rc == 0 && n == 0) {
        rc = err_set(err, ERR_INVALID, "no assistant message");
    }
    if (rc == 0) {
        rc = render(maker, whole, row->tools, false, &maker->full, err);
    }
    if (rc == 0) {
        rc = put_turns(maker, row->messages, n, prefix, row->tools, last_only, cut, err);
    }
    if (rc == 0 && *last_only) {
        json_decref(prefix);
        prefix = first_messages(row->messages, n - 1);
        rc = prefix != NULL ? put_last_turn(maker, prefix, row->tools, err)
                            : mem_err(err, n * sizeof(void *));
    }
    json_decref(whole);
    json_decref(prefix);
    return rc;
}

/* --- a row ------------------------------------------------------------------------------------ */

static int put_completion(struct row_maker *maker, const struct dataset_row *row, struct err *err)
{
    int rc =
        put_text(maker, row->prompt.bytes, row->prompt.length, TOKENIZER_ADD_SPECIAL, false, err);
    if (rc == 0) {
        rc = put_text(maker, row->completion.bytes, row->completion.length, 0, true, err);
    }
    return rc == 0 ? put_end(maker, err) : rc;
}

static int put_plain(struct row_maker *maker, const struct dataset_row *row, struct err *err)
{
    int rc = put_text(maker, row->text.bytes, row->text.length, TOKENIZER_ADD_SPECIAL, true, err);
    return rc == 0 ? put_end(maker, err) : rc;
}

static int finish(struct row_maker *maker, struct train_sample *sample, struct err *err)
{
    size_t n = maker->ids.n, last = 0;
    if (n > 0) {
        if (!maker->mask_prompt) {
            memset(maker->targets, 1, n);
        }
        maker->targets[0] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (maker->ids.ids[i] < 0 || maker->ids.ids[i] >= maker->vocab_size) {
            return err_set(err, ERR_INVALID, "token %d is outside the model's vocabulary of %d",
                           (int)maker->ids.ids[i], maker->vocab_size);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (maker->targets[i] != 0 && i < (size_t)maker->tokens_max) {
            sample->n_targets++;
            last = i;
        } else if (maker->targets[i] != 0) {
            sample->truncated = true;
        }
    }
    sample->n_tokens = sample->n_targets > 0 ? (int)last + 1 : 0;
    sample->tokens = maker->ids.ids;
    sample->targets = maker->targets;
    return 0;
}

int row_maker_make(struct row_maker *maker, const struct dataset_row *row,
                   struct train_sample *sample, struct err *err)
{
    int rc = 0;
    memset(sample, 0, sizeof *sample);
    token_ids_clear(&maker->ids);
    switch (row->shape) {
    case DATASET_CHAT:
        rc = put_chat(maker, row, &sample->last_turn_only, &sample->truncated, err);
        break;
    case DATASET_COMPLETION:
        rc = put_completion(maker, row, err);
        break;
    case DATASET_TEXT:
        rc = put_plain(maker, row, err);
        break;
    }
    return rc == 0 ? finish(maker, sample, err) : rc;
}
