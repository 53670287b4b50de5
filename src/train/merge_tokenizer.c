/* tokenizer.json as Hugging Face's tokenizers read it, from the parallel arrays of a GGUF file.
 *
 * GGUF's byte-level BPE tokens are spelled in GPT-2's alphabet already, which is how tokenizer.json
 * has them, and merges are "a b" in both. The pre-tokenizer comes from the table of names.
 * SentencePiece's tokens have scores where tokenizer.json has merges: every way to make a token of
 * two others is a merge, the higher score before the lower, as Hugging Face's converter does. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "text/pretok.h"
#include "train/merge_int.h"

#define SPACE_MARK "\xe2\x96\x81" /* ▁ */

enum { JSON_BYTES_MAX = 128 << 20, PRE_BYTES = 64, TOKEN_ROOM = 3 * TOKENIZER_TOKEN_BYTES_MAX + 4 };

struct vocabulary {
    const struct gguf *gguf;
    struct gguf_array tokens, merges, types, scores;
    bool has_types;
    bool pieces; /* SentencePiece */
};

static bool is_pieces(const struct gguf *gguf)
{
    const char *text = NULL;
    size_t n = 0;
    return gguf_get_string(gguf, "tokenizer.ggml.model", &text, &n, NULL) == 0 && n == 5 &&
           memcmp(text, "llama", 5) == 0;
}

static int vocabulary_open(struct vocabulary *v, const struct gguf *gguf, struct err *err)
{
    memset(v, 0, sizeof *v);
    v->gguf = gguf;
    v->pieces = is_pieces(gguf);
    int rc = gguf_get_strings(gguf, "tokenizer.ggml.tokens", &v->tokens, err);
    if (rc == 0 && v->pieces) {
        rc = gguf_get_numbers(gguf, "tokenizer.ggml.scores", &v->scores, err);
        if (rc == 0 && v->scores.count != v->tokens.count) {
            rc = err_set(err, ERR_CORRUPT, "as many scores as tokens are needed");
        }
    } else if (rc == 0) {
        rc = gguf_get_strings(gguf, "tokenizer.ggml.merges", &v->merges, err);
    }
    v->has_types = gguf_has(gguf, "tokenizer.ggml.token_type");
    if (rc == 0 && v->has_types) {
        rc = gguf_get_numbers(gguf, "tokenizer.ggml.token_type", &v->types, err);
    }
    if (rc == 0 && v->has_types && v->types.count != v->tokens.count) {
        rc = err_set(err, ERR_CORRUPT, "as many token types as tokens are needed");
    }
    return rc;
}

/* An id of the metadata, or -1. */
static int64_t id_of(const struct vocabulary *v, const char *key)
{
    uint64_t id;
    return gguf_has(v->gguf, key) && gguf_get_u64(v->gguf, key, &id, NULL) == 0 &&
                   id < v->tokens.count
               ? (int64_t)id
               : -1;
}

/* A token as tokenizer.json spells it, cut where it does not fit. Tokens are no longer than
 * TOKENIZER_TOKEN_BYTES_MAX: the base was opened before. GGUF's added tokens of SentencePiece have
 * spaces where the others have their mark. */
static size_t spell(const struct vocabulary *v, uint64_t id, char out[TOKEN_ROOM])
{
    size_t n, used = 0;
    const char *text = gguf_array_string(&v->tokens, id, &n);
    const bool marked =
        v->pieces && v->has_types && gguf_array_i64(&v->types, id) == TOKENIZER_USER_DEFINED;
    for (size_t i = 0; i < n && used + 4 < TOKEN_ROOM; i++) {
        if (marked && text[i] == ' ') {
            memcpy(out + used, SPACE_MARK, 3);
            used += 3;
        } else {
            out[used++] = text[i];
        }
    }
    out[used] = '\0';
    return used;
}

static void put_token(const struct vocabulary *v, uint64_t id, struct json_out *out)
{
    char text[TOKEN_ROOM];
    const size_t n = spell(v, id, text);
    json_out_string_n(out, text, n);
}

static void put_key(const struct vocabulary *v, uint64_t id, struct json_out *out)
{
    char key[TOKEN_ROOM];
    (void)spell(v, id, key);
    json_out_key(out, key);
}

static void put_added(const struct vocabulary *v, struct json_out *out)
{
    json_out_key(out, "added_tokens");
    json_out_array(out);
    for (uint64_t id = 0; v->has_types && id < v->tokens.count; id++) {
        const int64_t type = gguf_array_i64(&v->types, id);
        const bool unknown = v->pieces && type == TOKENIZER_UNKNOWN;
        if (type != TOKENIZER_CONTROL && type != TOKENIZER_USER_DEFINED && !unknown) {
            continue;
        }
        json_out_object(out);
        json_out_kv_int(out, "id", (int64_t)id);
        json_out_key(out, "content");
        put_token(v, id, out);
        json_out_kv_bool(out, "single_word", false);
        json_out_kv_bool(out, "lstrip", false);
        json_out_kv_bool(out, "rstrip", false);
        json_out_kv_bool(out, "normalized", false);
        json_out_kv_bool(out, "special", type != TOKENIZER_USER_DEFINED);
        json_out_object_end(out);
    }
    json_out_array_end(out);
}

static void put_type(struct json_out *out, const char *type)
{
    json_out_object(out);
    json_out_kv_string(out, "type", type);
}

static void put_byte_level(struct json_out *out)
{
    put_type(out, "ByteLevel");
    json_out_kv_bool(out, "add_prefix_space", false);
    json_out_kv_bool(out, "trim_offsets", true);
    json_out_kv_bool(out, "use_regex", false);
    json_out_object_end(out);
}

static void put_steps(const struct pretok_known *known, struct json_out *out)
{
    json_out_key(out, "pre_tokenizer");
    put_type(out, "Sequence");
    json_out_key(out, "pretokenizers");
    json_out_array(out);
    for (size_t i = 0; i < known->n_steps; i++) {
        const struct tokenizer_step *step = &known->steps[i];
        if (step->kind == TOKENIZER_STEP_DIGITS) {
            put_type(out, "Digits");
            json_out_kv_bool(out, "individual_digits", step->individual);
        } else {
            put_type(out, "Split");
            json_out_key(out, "pattern");
            json_out_object(out);
            json_out_key(out, "Regex");
            json_out_string_n(out, step->pattern.bytes, step->pattern.n);
            json_out_object_end(out);
            json_out_kv_string(out, "behavior", "Isolated");
            json_out_kv_bool(out, "invert", false);
        }
        json_out_object_end(out);
    }
    put_byte_level(out);
    json_out_array_end(out);
    json_out_object_end(out);
}

/* --- SentencePiece ---------------------------------------------------------------------------- */

struct pair {
    float score;
    uint32_t id;     /* of what it makes */
    uint32_t n_left; /* bytes of its first half */
};

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    if (x->id != y->id) {
        return x->id < y->id ? -1 : 1;
    }
    return (x->n_left > y->n_left) - (x->n_left < y->n_left);
}

struct pairs {
    const struct vocabulary *v;
    json_t *ids; /* of tokens by their text */
    struct pair *items;
    size_t n, cap;
};

static bool may_be_made(const struct vocabulary *v, uint64_t id)
{
    const int64_t type = v->has_types ? gguf_array_i64(&v->types, id) : TOKENIZER_NORMAL;
    return type == TOKENIZER_NORMAL || type == TOKENIZER_USER_DEFINED;
}

static bool has_token(const struct pairs *p, const char *text, size_t n)
{
    char key[TOKEN_ROOM];
    (void)snprintf(key, sizeof key, "%.*s", (int)n, text);
    return json_object_get(p->ids, key) != NULL;
}

static int add_pairs_of(struct pairs *p, uint64_t id, struct err *err)
{
    char text[TOKEN_ROOM];
    const size_t n = spell(p->v, id, text);
    for (size_t i = 1; i < n; i++) {
        const bool inside = ((unsigned char)text[i] & 0xc0) == 0x80; /* of a character */
        if (inside || !has_token(p, text, i) || !has_token(p, text + i, n - i)) {
            continue;
        }
        if (p->n == p->cap) {
            const size_t cap = p->cap > 0 ? 2 * p->cap : 4096;
            struct pair *grown = mem_realloc(p->items, cap, sizeof *grown);
            if (grown == NULL) {
                return mem_err(err, cap * sizeof *grown);
            }
            p->items = grown;
            p->cap = cap;
        }
        p->items[p->n++] = (struct pair){.score = (float)gguf_array_f64(&p->v->scores, id),
                                         .id = (uint32_t)id,
                                         .n_left = (uint32_t)i};
    }
    return 0;
}

static void put_pair(const struct vocabulary *v, const struct pair *pair, struct json_out *out)
{
    char text[TOKEN_ROOM];
    const size_t n = spell(v, pair->id, text);
    json_out_array(out);
    json_out_string_n(out, text, pair->n_left);
    json_out_string_n(out, text + pair->n_left, n - pair->n_left);
    json_out_array_end(out);
}

/* [["▁", "t"], …]: pairs, since a half may be a space. */
static int put_pairs(const struct vocabulary *v, struct json_out *out, struct err *err)
{
    struct pairs p = {.v = v, .ids = json_object()};
    char key[TOKEN_ROOM];
    int rc = p.ids != NULL ? 0 : mem_err(err, sizeof key);
    for (uint64_t id = 0; id < v->tokens.count && rc == 0; id++) {
        const size_t n = spell(v, id, key);
        if (may_be_made(v, id) && json_object_set_new(p.ids, key, json_true()) != 0) {
            rc = mem_err(err, n);
        }
    }
    for (uint64_t id = 0; id < v->tokens.count && rc == 0; id++) {
        rc = may_be_made(v, id) ? add_pairs_of(&p, id, err) : 0;
    }
    if (rc == 0 && p.n > 0) {
        qsort(p.items, p.n, sizeof *p.items, compare_pairs);
    }
    json_out_array(out);
    for (size_t i = 0; i < p.n && rc == 0; i++) {
        put_pair(v, &p.items[i], out);
    }
    json_out_array_end(out);
    json_decref(p.ids);
    mem_free(p.items);
    return rc;
}

static void put_replace(struct json_out *out, const char *from, const char *to)
{
    put_type(out, "Replace");
    json_out_key(out, "pattern");
    json_out_object(out);
    json_out_kv_string(out, "String", from);
    json_out_object_end(out);
    json_out_kv_string(out, "content", to);
    json_out_object_end(out);
}

static void put_pieces_normalizer(bool prefix, struct json_out *out)
{
    put_type(out, "Sequence");
    json_out_key(out, "normalizers");
    json_out_array(out);
    if (prefix) {
        put_type(out, "Prepend");
        json_out_kv_string(out, "prepend", SPACE_MARK);
        json_out_object_end(out);
    }
    put_replace(out, " ", SPACE_MARK);
    json_out_array_end(out);
    json_out_object_end(out);
}

static void put_pieces_decoder(bool prefix, struct json_out *out)
{
    put_type(out, "Sequence");
    json_out_key(out, "decoders");
    json_out_array(out);
    put_replace(out, SPACE_MARK, " ");
    put_type(out, "ByteFallback");
    json_out_object_end(out);
    put_type(out, "Fuse");
    json_out_object_end(out);
    if (prefix) {
        put_type(out, "Strip");
        json_out_kv_string(out, "content", " ");
        json_out_kv_int(out, "start", 1);
        json_out_kv_int(out, "stop", 0);
        json_out_object_end(out);
    }
    json_out_array_end(out);
    json_out_object_end(out);
}

/* --- the model -------------------------------------------------------------------------------- */

static void put_merges(const struct vocabulary *v, struct json_out *out)
{
    json_out_array(out);
    for (uint64_t i = 0; i < v->merges.count; i++) {
        size_t n;
        const char *text = gguf_array_string(&v->merges, i, &n);
        json_out_string_n(out, text, n);
    }
    json_out_array_end(out);
}

static int put_model(const struct vocabulary *v, const struct pretok_known *known,
                     struct json_out *out, struct err *err)
{
    const int64_t unknown = v->pieces ? id_of(v, "tokenizer.ggml.unknown_token_id") : -1;
    int rc = 0;
    json_out_key(out, "model");
    put_type(out, "BPE");
    json_out_kv_null(out, "dropout");
    json_out_key(out, "unk_token");
    if (unknown >= 0) {
        put_token(v, (uint64_t)unknown, out);
    } else {
        json_out_null(out);
    }
    json_out_kv_bool(out, "fuse_unk", v->pieces);
    json_out_kv_bool(out, "byte_fallback", v->pieces);
    json_out_kv_bool(out, "ignore_merges", known != NULL && known->ignore_merges);
    json_out_key(out, "vocab");
    json_out_object(out);
    for (uint64_t id = 0; id < v->tokens.count; id++) {
        put_key(v, id, out);
        json_out_int(out, (int64_t)id);
    }
    json_out_object_end(out);
    json_out_key(out, "merges");
    if (v->pieces) {
        rc = put_pairs(v, out, err);
    } else {
        put_merges(v, out);
    }
    json_out_object_end(out);
    return rc;
}

/* {"SpecialToken": …} and {"Sequence": …} of a template. */
static void put_template(const struct vocabulary *v, uint64_t bos, struct json_out *out)
{
    json_out_key(out, "post_processor");
    put_type(out, "TemplateProcessing");
    for (int pair = 0; pair < 2; pair++) {
        json_out_key(out, pair == 0 ? "single" : "pair");
        json_out_array(out);
        json_out_object(out);
        json_out_key(out, "SpecialToken");
        json_out_object(out);
        json_out_key(out, "id");
        put_token(v, bos, out);
        json_out_kv_int(out, "type_id", 0);
        json_out_object_end(out);
        json_out_object_end(out);
        for (int s = 0; s <= pair; s++) {
            json_out_object(out);
            json_out_key(out, "Sequence");
            json_out_object(out);
            json_out_kv_string(out, "id", s == 0 ? "A" : "B");
            json_out_kv_int(out, "type_id", s);
            json_out_object_end(out);
            json_out_object_end(out);
        }
        json_out_array_end(out);
    }
    json_out_key(out, "special_tokens");
    json_out_object(out);
    put_key(v, bos, out);
    json_out_object(out);
    json_out_key(out, "id");
    put_token(v, bos, out);
    json_out_key(out, "ids");
    json_out_array(out);
    json_out_int(out, (int64_t)bos);
    json_out_array_end(out);
    json_out_key(out, "tokens");
    json_out_array(out);
    put_token(v, bos, out);
    json_out_array_end(out);
    json_out_object_end(out);
    json_out_object_end(out);
    json_out_object_end(out);
}

/* Where the key is missing, what llama.cpp takes it for. */
static bool flag_of(const struct vocabulary *v, const char *key, bool missing)
{
    bool value = missing;
    if (gguf_has(v->gguf, key) && gguf_get_bool(v->gguf, key, &value, NULL) != 0) {
        value = missing;
    }
    return value;
}

static int put_tokenizer(const struct vocabulary *v, const struct pretok_known *known,
                         struct json_out *out, struct err *err)
{
    const int64_t bos = id_of(v, "tokenizer.ggml.bos_token_id");
    const bool add_bos = flag_of(v, "tokenizer.ggml.add_bos_token", v->pieces);
    const bool prefix = v->pieces && flag_of(v, "tokenizer.ggml.add_space_prefix", true);
    json_out_object(out);
    json_out_kv_string(out, "version", "1.0");
    json_out_kv_null(out, "truncation");
    json_out_kv_null(out, "padding");
    put_added(v, out);
    json_out_key(out, "normalizer");
    if (known == NULL) {
        put_pieces_normalizer(prefix, out);
    } else if (known->nfc) {
        put_type(out, "NFC");
        json_out_object_end(out);
    } else {
        json_out_null(out);
    }
    if (known == NULL) {
        json_out_kv_null(out, "pre_tokenizer");
    } else {
        put_steps(known, out);
    }
    if (add_bos && bos >= 0) {
        put_template(v, (uint64_t)bos, out);
    } else {
        json_out_kv_null(out, "post_processor");
    }
    json_out_key(out, "decoder");
    if (v->pieces) {
        put_pieces_decoder(prefix, out);
    } else {
        put_byte_level(out);
    }
    const int rc = put_model(v, known, out, err);
    json_out_object_end(out);
    return rc;
}

static void put_config(const struct vocabulary *v, const struct model_config *config,
                       const char *template, struct json_out *out)
{
    static const struct {
        const char *name, *key;
    } tokens[] = {{"bos_token", "tokenizer.ggml.bos_token_id"},
                  {"eos_token", "tokenizer.ggml.eos_token_id"},
                  {"unk_token", "tokenizer.ggml.unknown_token_id"},
                  {"pad_token", "tokenizer.ggml.padding_token_id"}};
    json_out_object(out);
    json_out_kv_string(out, "tokenizer_class", "PreTrainedTokenizerFast");
    json_out_kv_bool(out, "clean_up_tokenization_spaces", false);
    json_out_kv_int(out, "model_max_length", config->context_length);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        const int64_t id = id_of(v, tokens[i].key);
        if (id >= 0) {
            json_out_key(out, tokens[i].name);
            put_token(v, (uint64_t)id, out);
        }
    }
    if (template != NULL) {
        json_out_kv_string(out, "chat_template", template);
    }
    json_out_object_end(out);
}

static int save(const char *dir, const char *name, struct buf *text, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    int rc = buf_check(text, name, err);
    rc = rc == 0 ? fs_join(path, dir, name, err) : rc;
    rc = rc == 0 ? fs_write_file(path, text->data, text->len, err) : rc;
    buf_release(text);
    return rc;
}

static int find_known(const struct gguf *gguf, const struct pretok_known **known, struct err *err)
{
    char name[PRE_BYTES] = "default";
    const char *text = NULL;
    size_t n = 0;
    if (gguf_has(gguf, "tokenizer.ggml.pre")) {
        const int rc = gguf_get_string(gguf, "tokenizer.ggml.pre", &text, &n, err);
        if (rc != 0) {
            return rc;
        }
        (void)snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1),
                       text);
    }
    *known = pretok_find(name);
    return *known != NULL
               ? 0
               : err_set(err, ERR_UNSUPPORTED, "the pre-tokenizer '%s' is not known", name);
}

int merge_write_tokenizer(const struct gguf *gguf, const struct model_config *config,
                          const char *template, const char *dir, struct err *err)
{
    struct vocabulary v;
    const struct pretok_known *known = NULL;
    struct buf text;
    struct json_out out;
    if (!gguf_has(gguf, "tokenizer.ggml.tokens")) {
        return 0;
    }
    int rc = is_pieces(gguf) ? 0 : find_known(gguf, &known, err);
    rc = rc == 0 ? vocabulary_open(&v, gguf, err) : rc;
    if (rc != 0) {
        return rc;
    }
    buf_init(&text, JSON_BYTES_MAX);
    json_out_init(&out, &text);
    rc = put_tokenizer(&v, known, &out, err);
    if (rc != 0) {
        buf_release(&text);
        return rc;
    }
    rc = save(dir, "tokenizer.json", &text, err);
    if (rc == 0) {
        buf_init(&text, JSON_BYTES_MAX);
        json_out_init(&out, &text);
        put_config(&v, config, template, &out);
        rc = save(dir, "tokenizer_config.json", &text, err);
    }
    return rc;
}
