/* tokenizer.json: what each part of Hugging Face's format comes to in a tokenizer_spec.
 *
 * Every part has a "type"; each reader below takes the types it knows and refuses others by name,
 * and likewise each option whose value would change ids. The tree is kept until tokenizer_new has
 * copied what it needs; arrays that point into it come from an arena.
 */
#include "text/tokenizer_json.h"

#include <string.h>

#include "text/pretok.h"

int json_unsupported(struct reader *rd, const char *part, const char *what)
{
    return err_set(rd->err, ERR_UNSUPPORTED, "tokenizer.json: %s %.100s is not supported", part,
                   what);
}

int json_malformed(struct reader *rd, const char *what)
{
    return err_set(rd->err, ERR_INVALID, "tokenizer.json: %s", what);
}

static int type_of(struct reader *rd, const json_t *part, const char *what, const char **type)
{
    *type = NULL;
    if (!json_is_object(part))
        return json_malformed(rd, what);
    int rc = json_get_string(part, "type", NULL, type, rd->err);
    if (rc == 0 && *type == NULL)
        rc = json_malformed(rd, what);
    return rc;
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
        return json_malformed(rd, what);
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
        return json_malformed(rd, "a part's pattern is missing or of an unknown kind");
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
        return json_unsupported(rd, "more than one", "Replace");
    rc = pattern_of(rd, part, false, &is_regex, from);
    if (rc == 0 && !json_is_string(content))
        rc = json_malformed(rd, "a Replace without content");
    if (rc == 0)
        *to = text_of(content);
    return rc;
}

static int set_prepend(struct reader *rd, const char *what, struct tokenizer_text text,
                       enum tokenizer_prepend to)
{
    if (rd->spec.prepend.bytes != NULL)
        return json_unsupported(rd, "more than one", what);
    rd->spec.prepend = text;
    rd->spec.prepend_to = to;
    return 0;
}

static int read_prepend(struct reader *rd, const json_t *part)
{
    const json_t *text = json_object_get(part, "prepend");

    if (!json_is_string(text) || json_string_length(text) == 0)
        return json_malformed(rd, "a Prepend without its text");
    if (rd->spec.nfc)
        return json_unsupported(rd, "together with NFC a", "Prepend");
    return set_prepend(rd, "Prepend", text_of(text), TOKENIZER_PREPEND_EACH);
}

/* What is prepended is not to be replaced, so that the order of the two is no matter. */
static int check_prepend(struct reader *rd)
{
    const struct tokenizer_text *prepend = &rd->spec.prepend;
    const struct tokenizer_text *from = &rd->spec.replace_from;

    if (prepend->bytes != NULL && from->bytes != NULL && from->n > 0 && !rd->spec.replace_late &&
        memmem(prepend->bytes, prepend->n, from->bytes, from->n) != NULL)
        return json_unsupported(rd, "a Prepend of what is replaced:", prepend->bytes);
    return 0;
}

static int read_normalizer(struct reader *rd, const json_t *part, const char *type)
{
    if (is(type, "NFC") && rd->spec.replace_from.bytes == NULL) {
        rd->spec.nfc = true;
        return 0;
    }
    if (is(type, "Replace"))
        return read_replace(rd, part, &rd->spec.replace_from, &rd->spec.replace_to);
    if (is(type, "Prepend"))
        return read_prepend(rd, part);
    return json_unsupported(rd, "normalizer", type);
}

static int read_strip(struct reader *rd, const json_t *part)
{
    const char *content = json_string_value(json_object_get(part, "content"));
    const json_t *start = json_object_get(part, "start");
    const json_t *stop = json_object_get(part, "stop");

    if (content == NULL || !json_is_integer(start) || !json_is_integer(stop) ||
        json_integer_value(start) < 0)
        return json_malformed(rd, "a Strip without content, start or stop");
    if (!is(content, " ") || json_integer_value(stop) != 0 ||
        json_integer_value(start) > TOKENIZER_TOKEN_BYTES_MAX || rd->spec.decode_strip != 0)
        return json_unsupported(rd, "decoder", "Strip of other than spaces at the beginning");
    rd->spec.decode_strip = (unsigned)json_integer_value(start);
    return 0;
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
    if (is(type, "Strip"))
        return read_strip(rd, part);
    return json_unsupported(rd, "decoder", type);
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
    return json_unsupported(rd, "Split behavior", behavior);
}

static int read_byte_level(struct reader *rd, const json_t *part)
{
    bool add_prefix_space = false;
    bool use_regex = true;
    int rc = json_get_bool(part, "add_prefix_space", true, &add_prefix_space, rd->err);

    if (rc == 0)
        rc = json_get_bool(part, "use_regex", true, &use_regex, rd->err);
    if (rc == 0 && add_prefix_space && rd->spec.n_steps > 0)
        rc = json_unsupported(rd, "ByteLevel", "add_prefix_space behind another pre-tokenizer");
    if (rc == 0 && add_prefix_space) {
        rd->spec.replace_late = true;
        rc = set_prepend(rd, "add_prefix_space", (struct tokenizer_text){" ", 1},
                         TOKENIZER_PREPEND_EACH_MISSING);
    }
    rd->byte_level = true;
    if (rc != 0 || !use_regex)
        return rc;
    return add_step(
        rd, (struct tokenizer_step){.kind = TOKENIZER_STEP_REGEX,
                                    .pattern = {pretok_gpt2_pattern, strlen(pretok_gpt2_pattern)}});
}

/* Spaces become `replacement`, which also goes before the text, and may be split at. */
static int read_metaspace(struct reader *rd, const json_t *part)
{
    const json_t *replacement = json_object_get(part, "replacement");
    const char *scheme = NULL;
    bool split = true;
    int rc = json_get_string(part, "prepend_scheme", "always", &scheme, rd->err);

    if (rc == 0)
        rc = json_get_bool(part, "split", true, &split, rd->err);
    if (rc != 0)
        return rc;
    if (!json_is_string(replacement) || json_string_length(replacement) == 0)
        return json_malformed(rd, "a Metaspace without its replacement");
    if (rd->spec.replace_from.bytes != NULL || rd->spec.prepend.bytes != NULL ||
        rd->spec.n_steps > 0)
        return json_unsupported(rd, "together with other parts a", "Metaspace");
    rd->spec.replace_late = true;
    rd->spec.replace_from = (struct tokenizer_text){" ", 1};
    rd->spec.replace_to = text_of(replacement);
    if (is(scheme, "always"))
        rc = set_prepend(rd, scheme, text_of(replacement), TOKENIZER_PREPEND_EACH_MISSING);
    else if (is(scheme, "first"))
        rc = set_prepend(rd, scheme, text_of(replacement), TOKENIZER_PREPEND_START_MISSING);
    else if (!is(scheme, "never"))
        rc = json_unsupported(rd, "Metaspace with prepend_scheme", scheme);
    if (rc != 0 || !split)
        return rc;
    return add_step(rd, (struct tokenizer_step){.kind = TOKENIZER_STEP_LITERAL,
                                                .pattern = text_of(replacement),
                                                .split = TOKENIZER_SPLIT_MERGED_WITH_NEXT});
}

static int read_pre_tokenizer(struct reader *rd, const json_t *part, const char *type)
{
    struct tokenizer_step digits = {.kind = TOKENIZER_STEP_DIGITS};

    if (rd->byte_level)
        return json_unsupported(rd, "after ByteLevel a pre-tokenizer", type);
    if (is(type, "ByteLevel"))
        return read_byte_level(rd, part);
    if (is(type, "Split"))
        return read_split(rd, part);
    if (is(type, "Metaspace"))
        return read_metaspace(rd, part);
    if (!is(type, "Digits"))
        return json_unsupported(rd, "pre-tokenizer", type);
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
        return json_malformed(rd, "a post-processor's special token has no ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= TOKENIZER_VOCAB_MAX)
            return json_malformed(rd, "a post-processor's special token has an id that is none");
        if (*n == TOKENIZER_AFFIX_MAX)
            return json_unsupported(rd, "post-processor", "with so many tokens");
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
        return json_unsupported(rd, "post-processor", type);
    if (!json_is_array(items))
        return json_malformed(rd, "a TemplateProcessing without its single template");
    if (rd->spec.n_prefix + rd->spec.n_suffix > 0)
        return json_unsupported(rd, "more than one", type);
    for (size_t i = 0; rc == 0 && i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        if (name != NULL)
            rc = read_affix(rd, part, name, after);
        else if (json_object_get(item, "Sequence") == NULL || after)
            rc = json_unsupported(rd, "post-processor", "with this template");
        else
            after = true;
    }
    if (rc == 0 && !after)
        rc = json_unsupported(rd, "post-processor", "without the text");
    return rc;
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
        return json_malformed(rd, "an added token without content or a proper id");
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
        return json_malformed(rd, "added_tokens is no list, or too long a one");
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
    int rc = json_is_object(root) ? 0 : json_malformed(rd, "not an object");

    if (rc == 0)
        rc = json_read_model(rd, json_object_get(root, "model"));
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
    if (rc == 0)
        rc = check_prepend(rd);
    if (rc == 0 && rd->byte_level && rd->spec.byte_fallback)
        rc = json_unsupported(rd, "byte_fallback", "together with ByteLevel");
    if (rc == 0 && (!rd->has_decoder || rd->byte_level != rd->byte_level_decoder))
        rc = json_unsupported(rd, "decoder",
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
