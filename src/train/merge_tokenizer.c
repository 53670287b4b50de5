/* tokenizer.json as Hugging Face's tokenizers read it, from the parallel arrays of a GGUF file.
 *
 * GGUF's byte-level BPE tokens are spelled in GPT-2's alphabet already, which is how tokenizer.json
 * has them, and merges are "a b" in both. The pre-tokenizer comes from the table of names. */
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "text/pretok.h"
#include "train/merge_int.h"

enum { JSON_BYTES_MAX = 128 << 20, PRE_BYTES = 64 };

struct vocabulary {
    const struct gguf *gguf;
    struct gguf_array tokens, merges, types;
    bool has_types;
};

static int vocabulary_open(struct vocabulary *v, const struct gguf *gguf, struct err *err)
{
    memset(v, 0, sizeof *v);
    v->gguf = gguf;
    int rc = gguf_get_strings(gguf, "tokenizer.ggml.tokens", &v->tokens, err);
    rc = rc == 0 ? gguf_get_strings(gguf, "tokenizer.ggml.merges", &v->merges, err) : rc;
    v->has_types = gguf_has(gguf, "tokenizer.ggml.token_type");
    if (rc == 0 && v->has_types) {
        rc = gguf_get_numbers(gguf, "tokenizer.ggml.token_type", &v->types, err);
    }
    if (rc == 0 && v->has_types && v->types.count != v->tokens.count) {
        rc = err_set(err, ERR_CORRUPT, "as many token types as tokens are needed");
    }
    return rc;
}

static void put_token(const struct vocabulary *v, uint64_t id, struct json_out *out)
{
    size_t n;
    const char *text = gguf_array_string(&v->tokens, id, &n);
    json_out_string_n(out, text, n);
}

/* Tokens are no longer than TOKENIZER_TOKEN_BYTES_MAX: the base was opened before. */
static void put_key(const struct vocabulary *v, uint64_t id, struct json_out *out)
{
    char key[TOKENIZER_TOKEN_BYTES_MAX + 1];
    size_t n;
    const char *text = gguf_array_string(&v->tokens, id, &n);
    (void)snprintf(key, sizeof key, "%.*s", (int)(n < sizeof key ? n : sizeof key - 1), text);
    json_out_key(out, key);
}

static void put_added(const struct vocabulary *v, struct json_out *out)
{
    json_out_key(out, "added_tokens");
    json_out_array(out);
    for (uint64_t id = 0; v->has_types && id < v->tokens.count; id++) {
        const int64_t type = gguf_array_i64(&v->types, id);
        if (type != TOKENIZER_CONTROL && type != TOKENIZER_USER_DEFINED) {
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
        json_out_kv_bool(out, "special", type == TOKENIZER_CONTROL);
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

static void put_model(const struct vocabulary *v, const struct pretok_known *known,
                      struct json_out *out)
{
    json_out_key(out, "model");
    put_type(out, "BPE");
    json_out_kv_null(out, "dropout");
    json_out_kv_null(out, "unk_token");
    json_out_kv_bool(out, "fuse_unk", false);
    json_out_kv_bool(out, "byte_fallback", false);
    json_out_kv_bool(out, "ignore_merges", known->ignore_merges);
    json_out_key(out, "vocab");
    json_out_object(out);
    for (uint64_t id = 0; id < v->tokens.count; id++) {
        put_key(v, id, out);
        json_out_int(out, (int64_t)id);
    }
    json_out_object_end(out);
    json_out_key(out, "merges");
    json_out_array(out);
    for (uint64_t i = 0; i < v->merges.count; i++) {
        size_t n;
        const char *text = gguf_array_string(&v->merges, i, &n);
        json_out_string_n(out, text, n);
    }
    json_out_array_end(out);
    json_out_object_end(out);
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

/* An id of the metadata, or -1. */
static int64_t id_of(const struct vocabulary *v, const char *key)
{
    uint64_t id;
    return gguf_has(v->gguf, key) && gguf_get_u64(v->gguf, key, &id, NULL) == 0 &&
                   id < v->tokens.count
               ? (int64_t)id
               : -1;
}

static void put_tokenizer(const struct vocabulary *v, const struct pretok_known *known,
                          struct json_out *out)
{
    const int64_t bos = id_of(v, "tokenizer.ggml.bos_token_id");
    bool add_bos = false;
    if (gguf_has(v->gguf, "tokenizer.ggml.add_bos_token") &&
        gguf_get_bool(v->gguf, "tokenizer.ggml.add_bos_token", &add_bos, NULL) != 0) {
        add_bos = false;
    }
    json_out_object(out);
    json_out_kv_string(out, "version", "1.0");
    json_out_kv_null(out, "truncation");
    json_out_kv_null(out, "padding");
    put_added(v, out);
    json_out_key(out, "normalizer");
    if (known->nfc) {
        put_type(out, "NFC");
        json_out_object_end(out);
    } else {
        json_out_null(out);
    }
    put_steps(known, out);
    if (add_bos && bos >= 0) {
        put_template(v, (uint64_t)bos, out);
    } else {
        json_out_kv_null(out, "post_processor");
    }
    json_out_key(out, "decoder");
    put_byte_level(out);
    put_model(v, known, out);
    json_out_object_end(out);
}

static void put_config(const struct vocabulary *v, const struct model_config *config,
                       struct json_out *out)
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
                          const char *dir, struct err *err)
{
    struct vocabulary v;
    const struct pretok_known *known = NULL;
    struct buf text;
    struct json_out out;
    if (!gguf_has(gguf, "tokenizer.ggml.tokens")) {
        return 0;
    }
    int rc = find_known(gguf, &known, err);
    rc = rc == 0 ? vocabulary_open(&v, gguf, err) : rc;
    if (rc != 0) {
        return rc;
    }
    buf_init(&text, JSON_BYTES_MAX);
    json_out_init(&out, &text);
    put_tokenizer(&v, known, &out);
    rc = save(dir, "tokenizer.json", &text, err);
    if (rc == 0) {
        buf_init(&text, JSON_BYTES_MAX);
        json_out_init(&out, &text);
        put_config(&v, config, &out);
        rc = save(dir, "tokenizer_config.json", &text, err);
    }
    return rc;
}
