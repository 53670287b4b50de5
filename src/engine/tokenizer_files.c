/* GGUF keeps a vocabulary as parallel arrays; they are handed on as they lie in the file. */
#include "engine/tokenizer_files.h"

#include <string.h>

#include "base/fs.h"
#include "base/mem.h"

enum { NAME_BYTES_MAX = 64 };

/* Arrays that tokenizer_new copies from. */
struct arrays {
    struct tokenizer_added *added;
    struct tokenizer_text *tokens;
    int32_t *types;
    struct tokenizer_text *merges;
    float *scores;
};

static void arrays_release(struct arrays *a)
{
    mem_free(a->tokens);
    mem_free(a->types);
    mem_free(a->merges);
    mem_free(a->scores);
    mem_free(a->added);
}

static int texts(const struct gguf *gguf, const char *key, struct tokenizer_text **out, size_t *n,
                 struct err *err)
{
    struct gguf_array array;
    const int rc = gguf_get_strings(gguf, key, &array, err);
    if (rc != 0) {
        return rc;
    }
    *out = mem_calloc(array.count + 1, sizeof **out);
    if (*out == NULL) {
        return mem_err(err, array.count * sizeof **out);
    }
    for (uint64_t i = 0; i < array.count; i++) {
        (*out)[i].bytes = gguf_array_string(&array, i, &(*out)[i].n);
    }
    *n = array.count;
    return 0;
}

static int types(const struct gguf *gguf, size_t n_tokens, int32_t **out, struct err *err)
{
    struct gguf_array array;
    if (!gguf_has(gguf, "tokenizer.ggml.token_type")) {
        return 0;
    }
    const int rc = gguf_get_numbers(gguf, "tokenizer.ggml.token_type", &array, err);
    if (rc != 0) {
        return rc;
    }
    if (array.count != n_tokens) {
        return err_set(err, ERR_CORRUPT, "%llu token types for %zu tokens",
                       (unsigned long long)array.count, n_tokens);
    }
    *out = mem_calloc(n_tokens + 1, sizeof **out);
    if (*out == NULL) {
        return mem_err(err, n_tokens * sizeof **out);
    }
    for (size_t i = 0; i < n_tokens; i++) {
        (*out)[i] = (int32_t)gguf_array_i64(&array, i);
    }
    return 0;
}

static int text_of(const struct gguf *gguf, const char *key, const char *fallback,
                   char out[NAME_BYTES_MAX], struct err *err)
{
    const char *text = fallback;
    size_t n = strlen(fallback);
    if (gguf_has(gguf, key)) {
        const int rc = gguf_get_string(gguf, key, &text, &n, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (n >= NAME_BYTES_MAX) {
        return err_set(err, ERR_CORRUPT, "'%s' is %zu bytes long", key, n);
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return 0;
}

static int id_of(const struct gguf *gguf, const char *key, size_t n_tokens, int32_t *out,
                 struct err *err)
{
    uint64_t id;
    if (!gguf_has(gguf, key)) {
        return 0;
    }
    const int rc = gguf_get_u64(gguf, key, &id, err);
    if (rc != 0) {
        return rc;
    }
    if (id >= n_tokens) {
        return err_set(err, ERR_CORRUPT, "'%s' is %llu, past the %zu tokens", key,
                       (unsigned long long)id, n_tokens);
    }
    *out = (int32_t)id;
    return 0;
}

static int flag_of(const struct gguf *gguf, const char *key, bool *out, struct err *err)
{
    return gguf_has(gguf, key) ? gguf_get_bool(gguf, key, out, err) : 0;
}

static int scores(const struct gguf *gguf, size_t n_tokens, float **out, struct err *err)
{
    struct gguf_array array;
    const int rc = gguf_get_numbers(gguf, "tokenizer.ggml.scores", &array, err);
    if (rc != 0) {
        return rc;
    }
    if (array.count != n_tokens) {
        return err_set(err, ERR_CORRUPT, "%llu scores for %zu tokens",
                       (unsigned long long)array.count, n_tokens);
    }
    *out = mem_calloc(n_tokens + 1, sizeof **out);
    if (*out == NULL) {
        return mem_err(err, n_tokens * sizeof **out);
    }
    for (size_t i = 0; i < n_tokens; i++) {
        (*out)[i] = (float)gguf_array_f64(&array, i);
    }
    return 0;
}

/* "gpt2": byte-level BPE with merges, cut as the name of its pre-tokenizer says. */
static int fill_bytes(const struct gguf *gguf, struct arrays *a, struct tokenizer_spec *spec,
                      char pre[NAME_BYTES_MAX], struct err *err)
{
    int rc = text_of(gguf, "tokenizer.ggml.pre", "default", pre, err);
    if (rc == 0) {
        rc = texts(gguf, "tokenizer.ggml.merges", &a->merges, &spec->n_merges, err);
    }
    spec->kind = TOKENIZER_BPE_BYTES;
    spec->merges = a->merges;
    spec->pre_name = pre;
    return rc;
}

/* "llama": SentencePiece's BPE. The space in front is llama.cpp's: before every stretch between
 * control tokens. */
static int fill_scored(const struct gguf *gguf, struct arrays *a, struct tokenizer_spec *spec,
                       struct err *err)
{
    static const struct tokenizer_text mark = {"\xE2\x96\x81", 3}; /* U+2581 */
    static const struct tokenizer_text blank = {" ", 1};
    bool prefix = true;
    int rc = flag_of(gguf, "tokenizer.ggml.add_space_prefix", &prefix, err);
    if (rc == 0) {
        rc = flag_of(gguf, "tokenizer.ggml.remove_extra_whitespaces", &spec->squeeze_spaces, err);
    }
    if (rc == 0 && a->types == NULL) {
        rc = err_set(err, ERR_CORRUPT, "a vocabulary of kind 'llama' without token types");
    }
    if (rc == 0) {
        rc = scores(gguf, spec->n_tokens, &a->scores, err);
    }
    spec->kind = TOKENIZER_BPE_CHARS;
    spec->scores = a->scores;
    spec->byte_fallback = true;
    spec->fuse_unk = true;
    spec->unk_replaces = true;
    spec->replace_from = spec->decode_to = blank;
    spec->replace_to = spec->decode_from = mark;
    if (prefix) {
        spec->prepend = mark;
        spec->prepend_to = TOKENIZER_PREPEND_EACH;
        spec->decode_strip = 1;
    }
    spec->bos_id = 1; /* unless the file says otherwise, which is read next */
    spec->eos_id = 2;
    spec->unk_id = 0;
    spec->add_bos = true;
    return rc;
}

/* Phi 3's special tokens take the white space on their right along, which GGUF does not say: its
 * template puts a line's end after each, and the model has never seen one there. Its <unk>, <s> and
 * <|endoftext|> do not. */
static bool strips(const struct tokenizer_text *text)
{
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (text->n == strlen(others[i]) && memcmp(text->bytes, others[i], text->n) == 0) {
            return false;
        }
    }
    return true;
}

static int fill_phi3(struct arrays *a, struct tokenizer_spec *spec, struct err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < spec->n_tokens; i++) {
        n += a->types[i] == TOKENIZER_CONTROL || a->types[i] == TOKENIZER_UNKNOWN ||
             a->types[i] == TOKENIZER_USER_DEFINED;
    }
    a->added = mem_calloc(n + 1, sizeof *a->added);
    if (a->added == NULL) {
        return mem_err(err, n * sizeof *a->added);
    }
    for (size_t i = 0; spec->n_added < n; i++) {
        const int32_t type = a->types[i];
        if (type == TOKENIZER_CONTROL || type == TOKENIZER_UNKNOWN ||
            type == TOKENIZER_USER_DEFINED) {
            a->added[spec->n_added++] =
                (struct tokenizer_added){.text = a->tokens[i],
                                         .id = (int32_t)i,
                                         .special = type != TOKENIZER_USER_DEFINED,
                                         .rstrip = strips(&a->tokens[i])};
        }
    }
    spec->added = a->added;
    return 0;
}

static int fill_ids(const struct gguf *gguf, struct tokenizer_spec *spec, struct err *err)
{
    const size_t n = spec->n_tokens;
    int rc = id_of(gguf, "tokenizer.ggml.bos_token_id", n, &spec->bos_id, err);
    if (rc == 0) {
        rc = id_of(gguf, "tokenizer.ggml.eos_token_id", n, &spec->eos_id, err);
    }
    if (rc == 0) {
        rc = id_of(gguf, "tokenizer.ggml.unknown_token_id", n, &spec->unk_id, err);
    }
    if (rc == 0) {
        rc = id_of(gguf, "tokenizer.ggml.padding_token_id", n, &spec->pad_id, err);
    }
    if (rc == 0) {
        rc = flag_of(gguf, "tokenizer.ggml.add_bos_token", &spec->add_bos, err);
    }
    return rc == 0 ? flag_of(gguf, "tokenizer.ggml.add_eos_token", &spec->add_eos, err) : rc;
}

static int fill_spec(const struct gguf *gguf, struct arrays *a, struct tokenizer_spec *spec,
                     char pre[NAME_BYTES_MAX], struct err *err)
{
    char model[NAME_BYTES_MAX];
    int rc = text_of(gguf, "tokenizer.ggml.model", "", model, err);
    const bool scored = rc == 0 && strcmp(model, "llama") == 0;
    if (rc == 0 && !scored && strcmp(model, "gpt2") != 0) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a GGUF vocabulary of kind '%s' is not served; 'gpt2' (byte-level BPE) and "
                       "'llama' (SentencePiece) are",
                       model);
    }
    if (rc == 0) {
        rc = texts(gguf, "tokenizer.ggml.tokens", &a->tokens, &spec->n_tokens, err);
    }
    if (rc == 0) {
        rc = types(gguf, spec->n_tokens, &a->types, err);
    }
    if (rc == 0) {
        rc = scored ? fill_scored(gguf, a, spec, err) : fill_bytes(gguf, a, spec, pre, err);
    }
    if (rc == 0 && scored) {
        char family[NAME_BYTES_MAX];
        rc = text_of(gguf, "general.architecture", "", family, err);
        rc = rc == 0 && strcmp(family, "phi3") == 0 ? fill_phi3(a, spec, err) : rc;
    }
    spec->tokens = a->tokens;
    spec->types = a->types;
    return rc == 0 ? fill_ids(gguf, spec, err) : rc;
}

int tokenizer_from_gguf(const struct gguf *gguf, struct tokenizer **tokenizer, struct err *err)
{
    struct arrays a = {0};
    char pre[NAME_BYTES_MAX];
    struct tokenizer_spec spec;
    *tokenizer = NULL;
    if (!gguf_has(gguf, "tokenizer.ggml.model")) {
        return 0;
    }
    tokenizer_spec_init(&spec);
    int rc = fill_spec(gguf, &a, &spec, pre, err);
    if (rc == 0) {
        rc = tokenizer_new(tokenizer, &spec, err);
    }
    arrays_release(&a);
    return rc;
}

int tokenizer_from_files(const struct model_files *files, struct tokenizer **tokenizer,
                         struct err *err)
{
    *tokenizer = NULL;
    if (model_files_gguf(files) != NULL) {
        return tokenizer_from_gguf(model_files_gguf(files), tokenizer, err);
    }
    const char *path = model_files_tokenizer_path(files);
    if (path == NULL) {
        path = model_files_sentencepiece_path(files);
        return path == NULL
                   ? 0
                   : tokenizer_from_sentencepiece(path, model_files_tokenizer_config(files),
                                                  model_files_added_tokens(files), tokenizer, err);
    }
    struct buf text;
    buf_init(&text, TOKENIZER_JSON_BYTES_MAX);
    int rc = fs_read_file(path, TOKENIZER_JSON_BYTES_MAX, &text, err);
    if (rc == 0) {
        rc = tokenizer_from_json(tokenizer, text.data, text.len, err);
    }
    buf_release(&text);
    return rc;
}
