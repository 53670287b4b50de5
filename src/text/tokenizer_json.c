/* tokenizer.json: what each part of Hugging Face's format comes to in a tokenizer_spec.
 *
 * Every part has a "type"; each reader below takes the types it knows and refuses others by name,
 * and likewise each option whose value would change ids. The tree is kept until tokenizer_new has
 * copied what it needs; arrays that point into it come from an arena.
 */
#include <assert.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/tokenizer_private.h"

enum { JSON_ARENA_BYTES_MAX = 512 << 20, JSON_PARTS_MAX = 16 };

struct reader {
    struct tokenizer_spec spec;
    struct tokenizer_step steps[TOKENIZER_STEPS_MAX];
    int32_t prefix[TOKENIZER_AFFIX_MAX];
    int32_t suffix[TOKENIZER_AFFIX_MAX];
    bool byte_level;         /* a ByteLevel pre-tokenizer was seen */
    bool byte_level_decoder; /* and its decoder */
    bool has_decoder;
    struct arena arena;
    struct err *err;
};

static int unsupported(struct reader *rd, const char *part, const char *what)
{
    return err_set(rd->err, ERR_UNSUPPORTED, "tokenizer.json: %s %.100s is not supported", part,
                   what);
}

static int malformed(struct reader *rd, const char *what)
{
    return err_set(rd->err, ERR_INVALID, "tokenizer.json: %s", what);
}

static int type_of(struct reader *rd, const json_t *part, const char *what, const char **type)
{
    *type = NULL;
    if (!json_is_object(part))
        return malformed(rd, what);
    int rc = json_get_string(part, "type", NULL, type, rd->err);
    if (rc == 0 && *type == NULL)
        rc = malformed(rd, what);
    return rc;
}

static bool is(const char *type, const char *name)
{
    return strcmp(type, name) == 0;
}

static struct tokenizer_text text_of(const json_t *string)
{
    return (struct tokenizer_text){json_string_value(string), json_string_length(string)};
}

/* Runs `each` over a part's list `key`, or over the part alone where it is no Sequence. */
static int each_part(struct reader *rd, const json_t *part, const char *what, const char *key,
                     int (*each)(struct reader *, const json_t *, const char *))
{
    const json_t *list;
    const char *type;
    int rc;

    if (part == NULL || json_is_null(part))
        return 0;
    rc = type_of(rd, part, what, &type);
    if (rc != 0 || !is(type, "Sequence"))
        return rc != 0 ? rc : each(rd, part, type);
    list = json_object_get(part, key);
    if (!json_is_array(list) || json_array_size(list) > JSON_PARTS_MAX)
        return malformed(rd, what);
    for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        rc = type_of(rd, item, what, &type);
        if (rc == 0)
            rc = each(rd, item, type);
    }
    return rc;
}

/* {"String": …} or, where wanted, {"Regex": …}. */
static int pattern_of(struct reader *rd, const json_t *part, bool regex_too, bool *is_regex,
                      struct tokenizer_text *out)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const json_t *text = json_object_get(pattern, "String");

    *is_regex = text == NULL;
    if (text == NULL && regex_too)
        text = json_object_get(pattern, "Regex");
    if (!json_is_string(text))
        return malformed(rd, "a part's pattern is missing or of an unknown kind");
    *out = text_of(text);
    return 0;
}

/* --- normalizer and decoder --------------------------------------------------------------------
 */
static int read_replace(struct reader *rd, const json_t *part, struct tokenizer_text *from,
                        struct tokenizer_text *to)
{
    const json_t *content = json_object_get(part, "content");
    bool is_regex;
    int rc;

    if (from->bytes != NULL)
        return unsupported(rd, "more than one", "Replace");
    rc = pattern_of(rd, part, false, &is_regex, from);
    if (rc == 0 && !json_is_string(content))
        rc = malformed(rd, "a Replace without content");
    if (rc == 0)
        *to = text_of(content);
    return rc;
}

static int read_normalizer(struct reader *rd, const json_t *part, const char *type)
{
    if (is(type, "NFC") && rd->spec.replace_from.bytes == NULL) {
        rd->spec.nfc = true;
        return 0;
    }
    if (is(type, "Replace"))
        return read_replace(rd, part, &rd->spec.replace_from, &rd->spec.replace_to);
    return unsupported(rd, "normalizer", type);
}

static int read_decoder(struct reader *rd, const json_t *part, const char *type)
{
    rd->has_decoder = true;
    if (is(type, "ByteLevel")) {
        rd->byte_level_decoder = true;
        return 0;
    }
    if (is(type, "Replace"))
        return read_replace(rd, part, &rd->spec.decode_from, &rd->spec.decode_to);
    if (is(type, "ByteFallback") || is(type, "Fuse"))
        return 0;
    return unsupported(rd, "decoder", type);
}

/* --- pre_tokenizer -----------------------------------------------------------------------------
 */
static int add_step(struct reader *rd, struct tokenizer_step step)
{
    if (rd->spec.n_steps == TOKENIZER_STEPS_MAX)
        return err_set(rd->err, ERR_TOO_LARGE,
                       "tokenizer.json: pre-tokenizer of more than %d steps", TOKENIZER_STEPS_MAX);
    rd->steps[rd->spec.n_steps++] = step;
    return 0;
}

static int read_split(struct reader *rd, const json_t *part)
{
    static const char *const names[] = {
        [TOKENIZER_SPLIT_ISOLATED] = "Isolated",
        [TOKENIZER_SPLIT_REMOVED] = "Removed",
        [TOKENIZER_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [TOKENIZER_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [TOKENIZER_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    struct tokenizer_step step = {.kind = TOKENIZER_STEP_LITERAL};
    const char *behavior = NULL;
    bool is_regex;
    int rc = pattern_of(rd, part, true, &is_regex, &step.pattern);

    if (rc == 0)
        rc = json_get_string(part, "behavior", "", &behavior, rd->err);
    if (rc == 0)
        rc = json_get_bool(part, "invert", false, &step.invert, rd->err);
    if (rc != 0)
        return rc;
    if (is_regex)
        step.kind = TOKENIZER_STEP_REGEX;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!is(behavior, names[i]))
            continue;
        step.split = (enum tokenizer_split)i;
        return add_step(rd, step);
    }
    return unsupported(rd, "Split behavior", behavior);
}

static int read_byte_level(struct reader *rd, const json_t *part)
{
    bool add_prefix_space = false;
    bool use_regex = true;
    int rc = json_get_bool(part, "add_prefix_space", true, &add_prefix_space, rd->err);

    if (rc == 0)
        rc = json_get_bool(part, "use_regex", true, &use_regex, rd->err);
    if (rc == 0 && add_prefix_space)
        rc = unsupported(rd, "ByteLevel", "add_prefix_space");
    rd->byte_level = true;
    if (rc != 0 || !use_regex)
        return rc;
    return add_step(
        rd, (struct tokenizer_step){.kind = TOKENIZER_STEP_REGEX,
                                    .pattern = {pretok_gpt2_pattern, strlen(pretok_gpt2_pattern)}});
}

static int read_pre_tokenizer(struct reader *rd, const json_t *part, const char *type)
{
    struct tokenizer_step digits = {.kind = TOKENIZER_STEP_DIGITS};

    if (rd->byte_level)
        return unsupported(rd, "after ByteLevel a pre-tokenizer", type);
    if (is(type, "ByteLevel"))
        return read_byte_level(rd, part);
    if (is(type, "Split"))
        return read_split(rd, part);
    if (!is(type, "Digits"))
        return unsupported(rd, "pre-tokenizer", type);
    int rc = json_get_bool(part, "individual_digits", false, &digits.individual, rd->err);
    return rc != 0 ? rc : add_step(rd, digits);
}

/* --- post_processor ----------------------------------------------------------------------------
 */
/* The ids of one special token of a template, put before or after the text. */
static int read_affix(struct reader *rd, const json_t *part, const char *name, bool after)
{
    const json_t *token = json_object_get(json_object_get(part, "special_tokens"), name);
    const json_t *ids = json_object_get(token, "ids");
    int32_t *out = after ? rd->suffix : rd->prefix;
    size_t *n = after ? &rd->spec.n_suffix : &rd->spec.n_prefix;

    if (!json_is_array(ids))
        return malformed(rd, "a post-processor's special token has no ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= TOKENIZER_VOCAB_MAX)
            return malformed(rd, "a post-processor's special token has an id that is none");
        if (*n == TOKENIZER_AFFIX_MAX)
            return unsupported(rd, "post-processor", "with so many tokens");
        out[(*n)++] = (int32_t)json_integer_value(id);
    }
    return 0;
}

static int read_post_processor(struct reader *rd, const json_t *part, const char *type)
{
    const json_t *items = json_object_get(part, "single");
    bool after = false;
    int rc = 0;

    if (is(type, "ByteLevel")) /* concerns offsets only */
        return 0;
    if (!is(type, "TemplateProcessing"))
        return unsupported(rd, "post-processor", type);
    if (!json_is_array(items))
        return malformed(rd, "a TemplateProcessing without its single template");
    if (rd->spec.n_prefix + rd->spec.n_suffix > 0)
        return unsupported(rd, "more than one", type);
    for (size_t i = 0; rc == 0 && i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        if (name != NULL)
            rc = read_affix(rd, part, name, after);
        else if (json_object_get(item, "Sequence") == NULL || after)
            rc = unsupported(rd, "post-processor", "with this template");
        else
            after = true;
    }
    if (rc == 0 && !after)
        rc = unsupported(rd, "post-processor", "without the text");
    return rc;
}

/* --- model -------------------------------------------------------------------------------------
 */
static int read_vocab(struct reader *rd, const json_t *model)
{
    json_t *vocab = json_object_get(model, "vocab");
    struct tokenizer_text *tokens;
    const char *key;
    size_t key_len;
    json_t *value;
    size_t n = 0;

    if (!json_is_object(vocab))
        return malformed(rd, "model without a vocab");
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
        return malformed(rd, "a merge is neither \"a b\" nor [\"a\", \"b\"]");
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
        return malformed(rd, "model without merges");
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
            rc = malformed(rd, "a merge is neither \"a b\" nor [\"a\", \"b\"]");
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

    return unset ? 0 : unsupported(rd, "model option", key);
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
        return malformed(rd, "the unk_token is not in the vocab");
    rd->spec.unk_id = (int32_t)json_integer_value(id);
    rd->spec.unk_replaces = true;
    return 0;
}

static int read_model(struct reader *rd, const json_t *model)
{
    const char *type = NULL;
    int rc = json_is_object(model) ? json_get_string(model, "type", "BPE", &type, rd->err)
                                   : malformed(rd, "no model");

    if (rc == 0 && !is(type, "BPE"))
        rc = unsupported(rd, "model", type);
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

/* --- added_tokens ------------------------------------------------------------------------------
 */
static int read_added_token(struct reader *rd, const json_t *item, struct tokenizer_added *added)
{
    const json_t *content = json_object_get(item, "content");
    const json_t *id = json_object_get(item, "id");
    int rc;

    if (!json_is_string(content) || !json_is_integer(id) || json_integer_value(id) < 0 ||
        json_integer_value(id) >= TOKENIZER_VOCAB_MAX)
        return malformed(rd, "an added token without content or a proper id");
    added->text = text_of(content);
    added->id = (int32_t)json_integer_value(id);
    rc = json_get_bool(item, "special", false, &added->special, rd->err);
    if (rc == 0)
        rc = json_get_bool(item, "lstrip", false, &added->lstrip, rd->err);
    if (rc == 0)
        rc = json_get_bool(item, "rstrip", false, &added->rstrip, rd->err);
    if (rc == 0)
        rc = json_get_bool(item, "single_word", false, &added->single_word, rd->err);
    if (rc == 0)
        rc = json_get_bool(item, "normalized", !added->special, &added->normalized, rd->err);
    return rc;
}

static int read_added(struct reader *rd, const json_t *list)
{
    size_t n = json_array_size(list);
    struct tokenizer_added *added;
    int rc = 0;

    if (list == NULL || json_is_null(list))
        return 0;
    if (!json_is_array(list) || n > TOKENIZER_ADDED_MAX)
        return malformed(rd, "added_tokens is no list, or too long a one");
    added = arena_alloc(&rd->arena, n + 1, sizeof(*added));
    if (added == NULL)
        return mem_err(rd->err, n * sizeof(*added));
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = read_added_token(rd, json_array_get(list, i), &added[i]);
    rd->spec.added = added;
    rd->spec.n_added = n;
    return rc;
}

/* --- the whole ---------------------------------------------------------------------------------
 */
static int read_all(struct reader *rd, const json_t *root)
{
    int rc = json_is_object(root) ? 0 : malformed(rd, "not an object");

    if (rc == 0)
        rc = read_model(rd, json_object_get(root, "model"));
    if (rc == 0)
        rc = read_added(rd, json_object_get(root, "added_tokens"));
    if (rc == 0)
        rc = each_part(rd, json_object_get(root, "normalizer"), "normalizer is malformed",
                       "normalizers", read_normalizer);
    if (rc == 0)
        rc = each_part(rd, json_object_get(root, "pre_tokenizer"), "pre_tokenizer is malformed",
                       "pretokenizers", read_pre_tokenizer);
    if (rc == 0)
        rc = each_part(rd, json_object_get(root, "post_processor"), "post_processor is malformed",
                       "processors", read_post_processor);
    if (rc == 0)
        rc = each_part(rd, json_object_get(root, "decoder"), "decoder is malformed", "decoders",
                       read_decoder);
    if (rc == 0 && rd->byte_level && rd->spec.byte_fallback)
        rc = unsupported(rd, "byte_fallback", "together with ByteLevel");
    if (rc == 0 && (!rd->has_decoder || rd->byte_level != rd->byte_level_decoder))
        rc = unsupported(rd, "decoder",
                         rd->has_decoder ? "of another kind than the pre-tokenizer" : "null");
    return rc;
}

static void finish_spec(struct reader *rd)
{
    struct tokenizer_spec *spec = &rd->spec;

    spec->kind = rd->byte_level ? TOKENIZER_BPE_BYTES : TOKENIZER_BPE_CHARS;
    spec->steps = rd->steps;
    spec->prefix = rd->prefix;
    spec->suffix = rd->suffix;
    if (spec->n_prefix > 0)
        spec->bos_id = rd->prefix[0];
    if (spec->n_suffix > 0)
        spec->eos_id = rd->suffix[spec->n_suffix - 1];
}

int tokenizer_from_json(struct tokenizer **tok, const char *text, size_t length, struct err *err)
{
    struct err own = {0}; /* the parser tells its code by the error alone */
    struct reader rd;
    json_t *root = NULL;
    int rc;

    err = err == NULL ? &own : err;
    rd = (struct reader){.err = err};
    *tok = NULL;
    if (length > TOKENIZER_JSON_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "tokenizer.json of %zu bytes, at most %d", length,
                       TOKENIZER_JSON_BYTES_MAX);
    arena_init(&rd.arena, JSON_ARENA_BYTES_MAX);
    tokenizer_spec_init(&rd.spec);
    root = json_parse(text, length, err);
    if (root == NULL) {
        rc = -(int)err->code;
        goto out;
    }
    rc = read_all(&rd, root);
    if (rc == 0) {
        finish_spec(&rd);
        rc = tokenizer_new(tok, &rd.spec, err);
    }
out:
    arena_release(&rd.arena);
    json_decref(root);
    return rc;
}
