/* tokenizer.json's model: the vocabulary is an object from text to id, which may have holes; merges
 * are strings "a b" or pairs of strings.
 */
#include "text/tokenizer_json.h"

static int read_vocab(struct reader *rd, const json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab");
    struct tokenizer_text *tokens;
    const char *key;
    size_t key_len;
    json_t *value;
    size_t n = 0;

    if (!json_is_object(vocab))
        return json_malformed(rd, "model without a vocab");
    json_object_keylen_foreach(vocab, key, key_len, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= TOKENIZER_VOCAB_MAX)
            return err_set(rd->err, ERR_INVALID,
                           "tokenizer.json: token '%.*s' has an id that is none, or above %d",
                           (int)(key_len < 80 ? key_len : 80), key, TOKENIZER_VOCAB_MAX - 1);
        n = (size_t)id >= n ? (size_t)id + 1 : n;
    }
    tokens = arena_alloc(&rd->arena, n + 1, sizeof(*tokens));
    if (tokens == NULL)
        return mem_err(rd->err, (n + 1) * sizeof(*tokens));
    json_object_keylen_foreach(vocab, key, key_len, value)
    {
        struct tokenizer_text *token = &tokens[json_integer_value(value)];
        if (token->bytes != NULL)
            return err_set(rd->err, ERR_INVALID, "tokenizer.json: two tokens have id %d",
                           (int)json_integer_value(value));
        *token = (struct tokenizer_text){key, key_len};
    }
    rd->spec.tokens = tokens;
    rd->spec.n_tokens = n;
    return 0;
}

/* ["a", "b"] becomes "ab" and the length of a. */
static int read_merge_pair(struct reader *rd, const json_t *item, struct tokenizer_text *text,
                           uint32_t *left)
{
    const json_t *a = json_array_get(item, 0);
    const json_t *b = json_array_get(item, 1);
    size_t n;
    char *bytes;

    if (json_array_size(item) != 2 || !json_is_string(a) || !json_is_string(b))
        return json_malformed(rd, "a merge is neither \"a b\" nor [\"a\", \"b\"]");
    n = json_string_length(a) + json_string_length(b);
    bytes = arena_alloc(&rd->arena, n + 1, 1);
    if (bytes == NULL)
        return mem_err(rd->err, n);
    memcpy(bytes, json_string_value(a), json_string_length(a));
    memcpy(bytes + json_string_length(a), json_string_value(b), json_string_length(b));
    *text = (struct tokenizer_text){bytes, n};
    *left = (uint32_t)json_string_length(a);
    return 0;
}

static int read_merges(struct reader *rd, const json_t *model)
{
    const json_t *merges = json_object_get(model, "merges");
    size_t n = json_array_size(merges);
    struct tokenizer_text *texts;
    uint32_t *lefts;
    int rc = 0;

    if (!json_is_array(merges))
        return json_malformed(rd, "model without merges");
    if (n > TOKENIZER_MERGES_MAX)
        return err_set(rd->err, ERR_TOO_LARGE, "tokenizer of %zu merges, at most %d", n,
                       TOKENIZER_MERGES_MAX);
    texts = arena_alloc(&rd->arena, n + 1, sizeof(*texts));
    lefts = arena_alloc(&rd->arena, n + 1, sizeof(*lefts));
    if (texts == NULL || lefts == NULL)
        return mem_err(rd->err, (n + 1) * sizeof(*texts));
    bool pairs = n > 0 && json_is_array(json_array_get(merges, 0));
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const json_t *item = json_array_get(merges, i);
        if (pairs)
            rc = read_merge_pair(rd, item, &texts[i], &lefts[i]);
        else if (json_is_string(item))
            texts[i] = text_of(item);
        else
            rc = json_malformed(rd, "a merge is neither \"a b\" nor [\"a\", \"b\"]");
    }
    rd->spec.merges = texts;
    rd->spec.merge_left = pairs ? lefts : NULL;
    rd->spec.n_merges = n;
    return rc;
}

static int refuse_option(struct reader *rd, const json_t *model, const char *key)
{
    const json_t *value = json_object_get(model, key);
    bool unset = value == NULL || json_is_null(value) ||
                 (json_is_string(value) && json_string_length(value) == 0) ||
                 (json_is_number(value) && json_number_value(value) == 0);

    return unset ? 0 : json_unsupported(rd, "model option", key);
}

static int read_unk(struct reader *rd, const json_t *model)
{
    const json_t *unk = json_object_get(model, "unk_token");
    const json_t *id;

    if (unk == NULL || json_is_null(unk))
        return 0;
    id = json_is_string(unk) ? json_object_getn(json_object_get(model, "vocab"),
                                                json_string_value(unk), json_string_length(unk))
                             : NULL;
    if (!json_is_integer(id))
        return json_malformed(rd, "the unk_token is not in the vocab");
    rd->spec.unk_id = (int32_t)json_integer_value(id);
    rd->spec.unk_replaces = true;
    return 0;
}

int json_read_model(struct reader *rd, const json_t *model)
{
    const char *type = NULL;

    if (!json_is_object(model))
        return json_malformed(rd, "no model");
    int rc = json_get_string(model, "type", "BPE", &type, rd->err);
    if (rc == 0 && !is(type, "BPE"))
        rc = json_unsupported(rd, "model", type);
    if (rc == 0)
        rc = refuse_option(rd, model, "dropout");
    if (rc == 0)
        rc = refuse_option(rd, model, "continuing_subword_prefix");
    if (rc == 0)
        rc = refuse_option(rd, model, "end_of_word_suffix");
    if (rc == 0)
        rc = json_get_bool(model, "fuse_unk", false, &rd->spec.fuse_unk, rd->err);
    if (rc == 0)
        rc = json_get_bool(model, "byte_fallback", false, &rd->spec.byte_fallback, rd->err);
    if (rc == 0)
        rc = json_get_bool(model, "ignore_merges", false, &rd->spec.ignore_merges, rd->err);
    if (rc == 0)
        rc = read_vocab(rd, model);
    if (rc == 0)
        rc = read_merges(rd, model);
    return rc != 0 ? rc : read_unk(rd, model);
}
