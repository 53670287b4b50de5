/* tokenizer.model with tokenizer_config.json and added_tokens.json beside it.
 *
 * Every added token is in one list. It begins with those whose type in the vocabulary makes them
 * one; a config's "added_tokens_decoder" gives flags to these and adds more, and added_tokens.json
 * adds what that does not have. A user-defined piece stays what SentencePiece makes of it, matched
 * in the normalised text, unless the config calls it special.
 */
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/tokenizer_files.h"
#include "formats/sentencepiece.h"

enum { ID_DIGITS_MAX = 9 };

static const char space[] = "\xE2\x96\x81"; /* U+2581 */

struct maker {
    struct sentencepiece model;
    struct tokenizer_spec spec;
    struct tokenizer_text *tokens;
    int32_t *types;
    float *scores;
    struct tokenizer_added *added;
    size_t n_added;
    size_t added_cap;
    struct err *err;
};

/* --- the vocabulary -----------------------------------------------------------------------------
 */
static int take_pieces(struct maker *m)
{
    const size_t n = m->model.n_pieces;
    m->tokens = mem_calloc(n, sizeof *m->tokens);
    m->types = mem_calloc(n, sizeof *m->types);
    m->scores = mem_calloc(n, sizeof *m->scores);
    if (m->tokens == NULL || m->types == NULL || m->scores == NULL) {
        return mem_err(m->err, n * sizeof *m->tokens);
    }
    for (size_t i = 0; i < n; i++) {
        const struct sentencepiece_piece *piece = &m->model.pieces[i];
        m->tokens[i] = (struct tokenizer_text){piece->text, piece->n};
        m->types[i] = piece->type; /* both number them alike */
        m->scores[i] = piece->score;
    }
    m->spec.tokens = m->tokens;
    m->spec.types = m->types;
    m->spec.scores = m->scores;
    m->spec.n_tokens = n;
    return 0;
}

/* --- added tokens -------------------------------------------------------------------------------
 */
static struct tokenizer_added *find_added(struct maker *m, int32_t id)
{
    for (size_t i = 0; i < m->n_added; i++) {
        if (m->added[i].id == id) {
            return &m->added[i];
        }
    }
    return NULL;
}

static int push_added(struct maker *m, const struct tokenizer_added *added)
{
    if (m->n_added == TOKENIZER_ADDED_MAX) {
        return err_set(m->err, ERR_TOO_LARGE, "more than %d added tokens", TOKENIZER_ADDED_MAX);
    }
    if (m->n_added == m->added_cap) {
        const size_t cap = m->added_cap == 0 ? 64 : m->added_cap * 2;
        void *grown = mem_realloc(m->added, cap, sizeof *m->added);
        if (grown == NULL) {
            return mem_err(m->err, cap * sizeof *m->added);
        }
        m->added = grown;
        m->added_cap = cap;
    }
    m->added[m->n_added++] = *added;
    return 0;
}

static int added_by_type(struct maker *m)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < m->spec.n_tokens; i++) {
        const int32_t type = m->types[i];
        const bool user_defined = type == SENTENCEPIECE_USER_DEFINED;
        if (user_defined || type == SENTENCEPIECE_CONTROL || type == SENTENCEPIECE_UNKNOWN) {
            rc = push_added(m, &(struct tokenizer_added){.text = m->tokens[i],
                                                         .id = (int32_t)i,
                                                         .special = !user_defined,
                                                         .normalized = user_defined});
        }
    }
    return rc;
}

static int bad_added(struct maker *m, const char *text)
{
    return err_set(m->err, ERR_CORRUPT, "the added token '%.80s' is malformed", text);
}

/* Decimal digits, as added_tokens_decoder has them for keys. */
static int32_t id_of_digits(const char *text)
{
    int32_t id = 0;
    const size_t n = strlen(text);
    if (n == 0 || n > ID_DIGITS_MAX) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        id = id * 10 + (text[i] - '0');
    }
    return id;
}

/* One member of added_tokens_decoder: "32000": {"content": …, "lstrip": …, …}. */
static int added_by_config(struct maker *m, const char *key, const json_t *value)
{
    const json_t *content = json_object_get(value, "content");
    struct tokenizer_added added = {.id = id_of_digits(key)};
    if (added.id < 0 || !json_is_string(content) || json_string_length(content) == 0) {
        return bad_added(m, key);
    }
    added.text = (struct tokenizer_text){json_string_value(content), json_string_length(content)};
    int rc = json_get_bool(value, "special", false, &added.special, m->err);
    rc = rc == 0 ? json_get_bool(value, "lstrip", false, &added.lstrip, m->err) : rc;
    rc = rc == 0 ? json_get_bool(value, "rstrip", false, &added.rstrip, m->err) : rc;
    rc = rc == 0 ? json_get_bool(value, "single_word", false, &added.single_word, m->err) : rc;
    rc = rc == 0 ? json_get_bool(value, "normalized", !added.special, &added.normalized, m->err)
                 : rc;
    if (rc != 0) {
        return rc;
    }
    struct tokenizer_added *there = find_added(m, added.id);
    if (there == NULL) {
        return push_added(m, &added);
    }
    if (!there->normalized || added.special) {
        *there = added;
    }
    return 0;
}

static int added_by_file(struct maker *m, const char *text, const json_t *value)
{
    const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= TOKENIZER_VOCAB_MAX || text[0] == '\0') {
        return bad_added(m, text);
    }
    if (find_added(m, (int32_t)id) != NULL) {
        return 0;
    }
    return push_added(m,
                      &(struct tokenizer_added){.text = {text, strlen(text)}, .id = (int32_t)id});
}

static int take_added(struct maker *m, const json_t *config, const json_t *file)
{
    json_t *decoder = json_object_get(config, "added_tokens_decoder");
    const char *key;
    json_t *value;
    int rc = added_by_type(m);
    if (json_object_size(decoder) > TOKENIZER_ADDED_MAX ||
        json_object_size(file) > TOKENIZER_ADDED_MAX) {
        return err_set(m->err, ERR_TOO_LARGE, "more than %d added tokens", TOKENIZER_ADDED_MAX);
    }
    json_object_foreach(decoder, key, value)
    {
        rc = rc == 0 ? added_by_config(m, key, value) : rc;
    }
    json_object_foreach((json_t *)file, key, value)
    {
        rc = rc == 0 ? added_by_file(m, key, value) : rc;
    }
    m->spec.added = m->added;
    m->spec.n_added = m->n_added;
    return rc;
}

/* --- what goes around a text --------------------------------------------------------------------
 */
/* The id of the token that the config names, or what the vocabulary says. */
static int32_t token_of(const struct maker *m, const json_t *config, const char *key,
                        int32_t fallback)
{
    const json_t *value = json_object_get(config, key);
    value = json_is_object(value) ? json_object_get(value, "content") : value;
    const char *text = json_string_value(value);
    const size_t n = json_string_length(value);
    for (size_t i = 0; text != NULL && i < m->n_added; i++) {
        if (m->added[i].text.n == n && memcmp(m->added[i].text.bytes, text, n) == 0) {
            return m->added[i].id;
        }
    }
    return fallback;
}

static int take_rules(struct maker *m, const json_t *config)
{
    struct tokenizer_spec *spec = &m->spec;
    bool legacy = false;
    int rc = json_get_bool(config, "legacy", false, &legacy, m->err);
    rc = rc == 0 ? json_get_bool(config, "add_bos_token", true, &spec->add_bos, m->err) : rc;
    rc = rc == 0 ? json_get_bool(config, "add_eos_token", false, &spec->add_eos, m->err) : rc;
    spec->kind = TOKENIZER_BPE_CHARS;
    spec->byte_fallback = m->model.byte_fallback;
    spec->squeeze_spaces = m->model.remove_extra_whitespaces;
    spec->replace_from = (struct tokenizer_text){" ", 1};
    spec->replace_to = spec->decode_from = (struct tokenizer_text){space, sizeof space - 1};
    spec->decode_to = (struct tokenizer_text){" ", 1};
    if (spec->squeeze_spaces) {
        spec->decode_strip = TOKENIZER_TOKEN_BYTES_MAX; /* as many as there are */
    }
    if (m->model.add_dummy_prefix) {
        spec->prepend = spec->replace_to;
        spec->prepend_to = legacy ? TOKENIZER_PREPEND_EACH : TOKENIZER_PREPEND_START;
        spec->decode_strip = spec->squeeze_spaces ? spec->decode_strip : 1;
    }
    spec->fuse_unk = true;
    spec->unk_replaces = true;
    spec->unk_id = token_of(m, config, "unk_token", m->model.unk_id);
    spec->bos_id = token_of(m, config, "bos_token", m->model.bos_id);
    spec->eos_id = token_of(m, config, "eos_token", m->model.eos_id);
    spec->pad_id = token_of(m, config, "pad_token", m->model.pad_id);
    return rc;
}

int tokenizer_from_sentencepiece(const char *path, const json_t *config, const json_t *added,
                                 struct tokenizer **tokenizer, struct err *err)
{
    struct maker m = {.err = err};
    struct fs_map map = {0};
    *tokenizer = NULL;
    tokenizer_spec_init(&m.spec);
    int rc = fs_map_open(&map, path, err);
    rc = rc == 0 ? sentencepiece_parse(&m.model, map.data, map.size, err) : rc;
    rc = rc == 0 ? take_pieces(&m) : rc;
    rc = rc == 0 ? take_added(&m, config, added) : rc;
    rc = rc == 0 ? take_rules(&m, config) : rc;
    rc = rc == 0 ? tokenizer_new(tokenizer, &m.spec, err) : rc;
    mem_free(m.tokens);
    mem_free(m.types);
    mem_free(m.scores);
    mem_free(m.added);
    sentencepiece_release(&m.model);
    fs_map_close(&map);
    return rc;
}
