/* GGUF's parallel arrays from tokenizer.json.
 *
 * Byte-level BPE goes over as it is; its pre-tokenizer has to be one that GGUF has a name for.
 * SentencePiece's BPE, which tokenizer.json spells as merges, has scores there: a token's score is
 * minus the number of the first merge that makes it, which is how the merges were made of scores.
 * Ids that the tokenizer leaves out, up to the rows of the embeddings, are filled as unused. */
#include <string.h>

#include "base/json.h"
#include "text/pretok.h"
#include "train/merge_int.h"

enum {
    TOKENIZER_BYTES_MAX = 128 << 20,
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN = 2,
    TYPE_CONTROL = 3,
    TYPE_USER_DEFINED = 4,
    TYPE_UNUSED = 5,
    TYPE_BYTE = 6,
    FILLER_BYTES = 24,
    STEPS_MAX = 3
};
#define SCORE_OF_NO_MERGE (-1e6f)

struct vocabulary {
    const struct merge *merge;
    struct gguf_writer *writer;
    json_t *root;
    const json_t *model, *tokens, *merges;
    bool pieces; /* SentencePiece */
    size_t n;
    const char **texts;
    int32_t *types;
    float *scores;
    struct arena arena; /* texts that are spelled anew */
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool is(const json_t *object, const char *type)
{
    return strcmp(text_of(object, "type"), type) == 0;
}

/* --- the pre-tokenizer's name ----------------------------------------------------------------- */

struct steps {
    const char *patterns[STEPS_MAX]; /* NULL: digits one by one */
    size_t n;
    bool strange;
};

static void add_step(struct steps *steps, const char *pattern)
{
    if (steps->n == STEPS_MAX) {
        steps->strange = true;
    } else {
        steps->patterns[steps->n++] = pattern;
    }
}

static void read_step(struct steps *steps, const json_t *step)
{
    const json_t *regex = json_object_get(json_object_get(step, "pattern"), "Regex");
    if (is(step, "ByteLevel")) {
        const json_t *use = json_object_get(step, "use_regex");
        steps->strange = steps->strange || json_is_true(json_object_get(step, "add_prefix_space"));
        if (!json_is_false(use)) {
            add_step(steps, pretok_gpt2_pattern);
        }
    } else if (is(step, "Digits") && json_is_true(json_object_get(step, "individual_digits"))) {
        add_step(steps, NULL);
    } else if (is(step, "Split") && json_is_string(regex) &&
               strcmp(text_of(step, "behavior"), "Isolated") == 0 &&
               !json_is_true(json_object_get(step, "invert"))) {
        add_step(steps, json_string_value(regex));
    } else {
        steps->strange = true;
    }
}

static bool same_steps(const struct pretok_known *known, const struct steps *steps)
{
    if (known->n_steps != steps->n) {
        return false;
    }
    for (size_t i = 0; i < steps->n; i++) {
        const struct tokenizer_step *step = &known->steps[i];
        const bool digits = step->kind == TOKENIZER_STEP_DIGITS;
        const char *pattern = steps->patterns[i];
        if (digits != (pattern == NULL) || (!digits && step->kind != TOKENIZER_STEP_REGEX) ||
            (!digits && (strlen(pattern) != step->pattern.n ||
                         memcmp(pattern, step->pattern.bytes, step->pattern.n) != 0))) {
            return false;
        }
    }
    return true;
}

static const char *pre_name(const struct vocabulary *v)
{
    static const char *const names[] = {
        "gpt-2",     "smollm", "llama-bpe", "qwen2",     "dbrx",   "gpt-4o",      "tekken",
        "command-r", "olmo",   "qwen35",    "stablelm2", "falcon", "deepseek-v3", "deepseek-coder"};
    const json_t *pre = json_object_get(v->root, "pre_tokenizer");
    const json_t *list = json_object_get(pre, "pretokenizers");
    const bool nfc = is(json_object_get(v->root, "normalizer"), "NFC");
    const bool ignore = json_is_true(json_object_get(v->model, "ignore_merges"));
    struct steps steps = {.n = 0};
    if (is(pre, "Sequence")) {
        for (size_t i = 0; i < json_array_size(list); i++) {
            read_step(&steps, json_array_get(list, i));
        }
    } else {
        read_step(&steps, pre);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !steps.strange; i++) {
        const struct pretok_known *known = pretok_find(names[i]);
        if (known != NULL && known->nfc == nfc && known->ignore_merges == ignore &&
            same_steps(known, &steps)) {
            return names[i];
        }
    }
    return NULL;
}

/* --- tokens ----------------------------------------------------------------------------------- */

static int64_t id_of_text(const struct vocabulary *v, const char *text)
{
    const json_t *id = json_object_get(v->tokens, text);
    const json_t *added = json_object_get(v->root, "added_tokens");
    for (size_t i = 0; id == NULL && i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        id = strcmp(text_of(token, "content"), text) == 0 ? json_object_get(token, "id") : NULL;
    }
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

static int set_token(struct vocabulary *v, const json_t *id, const char *text, int32_t type,
                     struct err *err)
{
    const json_int_t at = json_is_integer(id) ? json_integer_value(id) : -1;
    if (at < 0 || (size_t)at >= v->n) {
        return err_set(err, ERR_UNSUPPORTED,
                       "token '%.64s' has an id past the %zu rows of the embeddings", text, v->n);
    }
    v->texts[at] = text;
    v->types[at] = type;
    return 0;
}

static bool is_byte(const char *text)
{
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>';
}

/* Added tokens stand in GGUF with the spaces that they stand for; NULL for lack of memory. */
static const char *with_spaces(struct vocabulary *v, const char *text)
{
    static const char mark[] = "\xe2\x96\x81"; /* ▁ */
    char *out = arena_strdup(&v->arena, text), *to = out;
    for (const char *at = text; out != NULL && *at != '\0';) {
        const bool is_mark = strncmp(at, mark, sizeof mark - 1) == 0;
        *to++ = is_mark ? ' ' : *at;
        *to = '\0';
        at += is_mark ? sizeof mark - 1 : 1;
    }
    return out;
}

static int read_tokens(struct vocabulary *v, struct err *err)
{
    const json_t *added = json_object_get(v->root, "added_tokens");
    const char *unknown = text_of(v->model, "unk_token"), *text;
    json_t *id;
    int rc = 0;
    json_object_foreach((json_t *)(uintptr_t)v->tokens, text, id)
    {
        const int32_t type = v->pieces && is_byte(text)                ? TYPE_BYTE
                             : v->pieces && strcmp(text, unknown) == 0 ? TYPE_UNKNOWN
                                                                       : TYPE_NORMAL;
        if ((rc = set_token(v, id, text, type, err)) != 0) {
            return rc;
        }
    }
    for (size_t i = 0; i < json_array_size(added) && rc == 0; i++) {
        const json_t *token = json_array_get(added, i);
        const bool special = json_is_true(json_object_get(token, "special"));
        const char *content = text_of(token, "content");
        const bool is_unknown = v->pieces && strcmp(content, unknown) == 0;
        content = v->pieces && !special ? with_spaces(v, content) : content;
        if (content == NULL) {
            return mem_err(err, TOKENIZER_TOKEN_BYTES_MAX);
        }
        rc = set_token(v, json_object_get(token, "id"), content,
                       is_unknown ? TYPE_UNKNOWN
                       : special  ? TYPE_CONTROL
                                  : TYPE_USER_DEFINED,
                       err);
    }
    return rc;
}

/* The two halves of a merge: "a b" with one space, or ["a", "b"]. */
static bool halves(const json_t *merge, const char **a, size_t *n_a, const char **b)
{
    if (json_is_array(merge)) {
        *a = json_string_value(json_array_get(merge, 0));
        *b = json_string_value(json_array_get(merge, 1));
        *n_a = *a != NULL ? strlen(*a) : 0;
        return *a != NULL && *b != NULL;
    }
    *a = json_string_value(merge);
    const char *space = *a != NULL ? strchr(*a, ' ') : NULL;
    *n_a = space != NULL ? (size_t)(space - *a) : 0;
    *b = space != NULL ? space + 1 : NULL;
    return space != NULL;
}

static int bad_merge(size_t i, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "merge %zu of tokenizer.json is not two tokens", i);
}

static int read_scores(struct vocabulary *v, struct err *err)
{
    struct buf whole;
    float next = 0;
    int rc = 0;
    buf_init(&whole, 4 * TOKENIZER_TOKEN_BYTES_MAX);
    for (size_t i = 0; i < v->n; i++) {
        const bool made = v->types[i] == TYPE_NORMAL || v->types[i] == TYPE_USER_DEFINED;
        v->scores[i] = made ? SCORE_OF_NO_MERGE : 0.0f;
    }
    for (size_t i = 0; i < json_array_size(v->merges) && rc == 0; i++) {
        const char *a, *b;
        size_t n_a;
        if (!halves(json_array_get(v->merges, i), &a, &n_a, &b)) {
            rc = bad_merge(i, err);
            break;
        }
        buf_clear(&whole);
        buf_append(&whole, a, n_a);
        buf_puts(&whole, b);
        rc = buf_check(&whole, "a token", err);
        const int64_t id = rc == 0 ? id_of_text(v, whole.data) : -1;
        if (id >= 0 && (size_t)id < v->n && v->scores[id] == SCORE_OF_NO_MERGE) {
            v->scores[id] = next;
            next -= 1.0f;
        }
    }
    buf_release(&whole);
    return rc;
}

/* --- metadata --------------------------------------------------------------------------------- */

static void put_text(struct gguf_writer *writer, const char *key, const char *text)
{
    gguf_put_string(writer, key, text, strlen(text));
}

static void put_tokens(struct vocabulary *v)
{
    gguf_put_array(v->writer, "tokenizer.ggml.tokens", GGUF_STRING, v->n);
    for (size_t i = 0; i < v->n; i++) {
        char filler[FILLER_BYTES];
        (void)snprintf(filler, sizeof filler, "[PAD%zu]", i);
        const char *text = v->texts[i] != NULL ? v->texts[i] : filler;
        gguf_put_item_string(v->writer, text, strlen(text));
    }
    gguf_put_array(v->writer, "tokenizer.ggml.token_type", GGUF_I32, v->n);
    for (size_t i = 0; i < v->n; i++) {
        gguf_put_item_i32(v->writer, v->types[i]);
    }
    if (v->pieces) {
        gguf_put_array(v->writer, "tokenizer.ggml.scores", GGUF_F32, v->n);
        for (size_t i = 0; i < v->n; i++) {
            gguf_put_item_f32(v->writer, v->scores[i]);
        }
    }
}

static int put_merges(struct vocabulary *v, struct err *err)
{
    struct buf line;
    int rc = 0;
    const size_t n = json_array_size(v->merges);
    buf_init(&line, 4 * TOKENIZER_TOKEN_BYTES_MAX);
    gguf_put_array(v->writer, "tokenizer.ggml.merges", GGUF_STRING, n);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const char *a, *b;
        size_t n_a;
        if (!halves(json_array_get(v->merges, i), &a, &n_a, &b)) {
            rc = bad_merge(i, err);
            break;
        }
        buf_clear(&line);
        buf_append(&line, a, n_a);
        buf_putc(&line, ' ');
        buf_puts(&line, b);
        rc = buf_check(&line, "a merge", err);
        gguf_put_item_string(v->writer, line.data, line.len);
    }
    buf_release(&line);
    return rc;
}

static void put_id(struct vocabulary *v, const char *key, int64_t id)
{
    if (id >= 0 && (size_t)id < v->n) {
        gguf_put_u32(v->writer, key, (uint32_t)id);
    }
}

/* A token that tokenizer_config.json names: a text, or an object with its content. */
static int64_t named_id(const struct vocabulary *v, const char *key)
{
    const json_t *value = json_object_get(model_files_tokenizer_config(v->merge->base), key);
    const char *text = json_is_object(value) ? text_of(value, "content") : json_string_value(value);
    return text != NULL ? id_of_text(v, text) : -1;
}

/* The special token at the front or the back of what the post-processor makes of one text. */
static int64_t edge_token(const struct vocabulary *v, bool front)
{
    const json_t *post = json_object_get(v->root, "post_processor");
    const json_t *list = json_object_get(post, "processors");
    for (size_t i = 0; is(post, "Sequence") && i < json_array_size(list); i++) {
        if (is(json_array_get(list, i), "TemplateProcessing")) {
            post = json_array_get(list, i);
        }
    }
    const json_t *single = json_object_get(post, "single");
    const size_t n = json_array_size(single);
    const json_t *edge = n > 1 ? json_array_get(single, front ? 0 : n - 1) : NULL;
    const json_t *special = json_object_get(edge, "SpecialToken");
    return special != NULL ? id_of_text(v, text_of(special, "id")) : -1;
}

/* Whether a text begins with a ▁ that is not in it. */
static bool adds_space(const struct vocabulary *v)
{
    const json_t *normalizer = json_object_get(v->root, "normalizer");
    const json_t *list = json_object_get(normalizer, "normalizers");
    const json_t *pre = json_object_get(v->root, "pre_tokenizer");
    bool found = is(normalizer, "Prepend");
    for (size_t i = 0; i < json_array_size(list); i++) {
        found = found || is(json_array_get(list, i), "Prepend");
    }
    return found || (is(pre, "Metaspace") && strcmp(text_of(pre, "prepend_scheme"), "never") != 0);
}

static void put_ids(struct vocabulary *v)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const struct model_config *c = model_files_config(v->merge->base);
    const json_t *said =
        json_object_get(model_files_tokenizer_config(v->merge->base), "add_bos_token");
    const int64_t front = edge_token(v, true), back = edge_token(v, false);
    const int64_t bos = front >= 0 ? front : c->bos_id;
    put_id(v, "tokenizer.ggml.bos_token_id", bos >= 0 ? bos : named_id(v, "bos_token"));
    for (unsigned i = 0; i < c->n_eos && i < sizeof ends / sizeof ends[0]; i++) {
        put_id(v, ends[i], c->eos_ids[i]);
    }
    if (c->n_eos == 0) {
        put_id(v, ends[0], named_id(v, "eos_token"));
    }
    put_id(v, "tokenizer.ggml.unknown_token_id", named_id(v, "unk_token"));
    put_id(v, "tokenizer.ggml.padding_token_id", named_id(v, "pad_token"));
    gguf_put_bool(v->writer, "tokenizer.ggml.add_bos_token",
                  front >= 0 || (v->pieces && json_is_true(said)));
    gguf_put_bool(v->writer, "tokenizer.ggml.add_eos_token", back >= 0);
    if (v->pieces) {
        gguf_put_bool(v->writer, "tokenizer.ggml.add_space_prefix", adds_space(v));
    }
}

static int put_kind(struct vocabulary *v, struct err *err)
{
    const char *name = v->pieces ? "default" : pre_name(v);
    if (name == NULL) {
        return err_set(err, ERR_UNSUPPORTED,
                       "the tokenizer cuts text in a way that GGUF has no name for; export it as "
                       "mlx or safetensors");
    }
    put_text(v->writer, "tokenizer.ggml.model", v->pieces ? "llama" : "gpt2");
    put_text(v->writer, "tokenizer.ggml.pre", name);
    return 0;
}

static int open_vocabulary(struct vocabulary *v, const char *path, struct err *err)
{
    v->root = json_parse_file(path, TOKENIZER_BYTES_MAX, err);
    if (v->root == NULL) {
        return -(int)err->code;
    }
    v->model = json_object_get(v->root, "model");
    v->tokens = json_object_get(v->model, "vocab");
    v->merges = json_object_get(v->model, "merges");
    v->pieces = json_is_true(json_object_get(v->model, "byte_fallback"));
    if (!json_is_object(v->tokens) || !json_is_array(v->merges)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a tokenizer of kind '%.32s' is not written as GGUF; BPE is",
                       text_of(v->model, "type"));
    }
    v->n = model_files_config(v->merge->base)->vocab;
    v->texts = mem_calloc(v->n, sizeof *v->texts);
    v->types = mem_calloc(v->n, sizeof *v->types);
    v->scores = mem_calloc(v->n, sizeof *v->scores);
    if (v->texts == NULL || v->types == NULL || v->scores == NULL) {
        return mem_err(err, v->n * sizeof *v->texts);
    }
    for (size_t i = 0; i < v->n; i++) {
        v->types[i] = TYPE_UNUSED;
    }
    return 0;
}

int merge_put_vocabulary(const struct merge *merge, struct gguf_writer *writer, struct err *err)
{
    struct vocabulary v = {.merge = merge, .writer = writer};
    const char *path = model_files_tokenizer_path(merge->base);
    int rc;
    if (path == NULL) {
        return 0;
    }
    arena_init(&v.arena, 0);
    if ((rc = open_vocabulary(&v, path, err)) == 0 && (rc = read_tokens(&v, err)) == 0 &&
        (rc = v.pieces ? read_scores(&v, err) : 0) == 0 && (rc = put_kind(&v, err)) == 0) {
        put_tokens(&v);
        put_ids(&v);
        rc = v.pieces ? 0 : put_merges(&v, err);
    }
    json_decref(v.root);
    arena_release(&v.arena);
    mem_free(v.texts);
    mem_free(v.types);
    mem_free(v.scores);
    return rc;
}
