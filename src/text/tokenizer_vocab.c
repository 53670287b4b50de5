/* Loading texts and merges: spellings, pieces, the table from text to id, and the pairs' ranks.
 *
 * 1. A byte-level vocabulary is spelled back from GPT-2's alphabet to raw bytes once, here, so that
 *    encoding and decoding never see that alphabet. An added token's text is plain text already.
 * 2. A token whose text is not in the alphabet cannot come out of merging and is not in the table.
 * 3. Merges become (id, id) → (rank, id): three look-ups each, the whole cost of a load.
 */
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer_load.h"

static int check_text(const struct tokenizer_text *text, const char *what, size_t i,
                      struct err *err)
{
    if (text->n > TOKENIZER_TOKEN_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%s %zu has %zu bytes, at most %d", what, i, text->n,
                       TOKENIZER_TOKEN_BYTES_MAX);
    if (!utf8_valid(text->bytes, text->n))
        return err_set(err, ERR_INVALID, "%s %zu is not UTF-8", what, i);
    return 0;
}

/* --- texts -------------------------------------------------------------------------------------
 */
static const struct tokenizer_text *source_text(const struct loader *load, size_t id)
{
    const struct tokenizer_spec *spec = load->spec;

    if (load->added_at[id] >= 0)
        return &load->added[load->added_at[id]].text;
    return id < spec->n_tokens && spec->tokens[id].bytes != NULL ? &spec->tokens[id] : NULL;
}

/* "<0x0A>" is byte 10; −1 for any other text. */
static int byte_token(const char *text, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *high;
    const char *low;

    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
        return -1;
    high = memchr(digits, text[3], 16);
    low = memchr(digits, text[4], 16);
    return high == NULL || low == NULL ? -1 : (int)((high - digits) * 16 + (low - digits));
}

static int put_piece(struct loader *load, size_t id, const struct tokenizer_text *text,
                     struct buf *scratch)
{
    struct tokenizer *tok = load->tok;
    const struct tokenizer_added *added =
        load->added_at[id] >= 0 ? &load->added[load->added_at[id]] : NULL;
    int byte = tok->byte_fallback ? byte_token(text->bytes, text->n) : -1;
    struct buf normal;
    int rc = 0;

    if (load->spec->scores != NULL && byte >= 0 &&
        (id >= load->spec->n_tokens || load->spec->types[id] != TOKENIZER_BYTE))
        byte = -1;
    buf_clear(scratch);
    buf_init(&normal, TOKENIZER_POOL_BYTES_MAX);
    if (byte >= 0) {
        buf_putc(scratch, (char)byte);
    } else if (added != NULL && added->normalized && !tok->scored) {
        rc = tokenizer_normalize(tok, true, text->bytes, text->n, &normal, load->err);
        replacement_apply(&tok->after, normal.data, normal.len, scratch);
    } else {
        replacement_apply(&tok->after, text->bytes, text->n, scratch);
    }
    buf_release(&normal);
    if (rc == 0)
        rc = buf_check(scratch, "token text", load->err);
    if (rc == 0)
        rc = strings_append(&tok->pieces, scratch->data, scratch->len, load->err);
    return rc;
}

/* Whether merging may make a token; where scores say what merges, not every kind of token is. */
static bool is_merged(const struct loader *load, size_t id)
{
    int32_t type = load->spec->scores == NULL ? TOKENIZER_NORMAL : load->spec->types[id];

    return type == TOKENIZER_NORMAL || type == TOKENIZER_USER_DEFINED || type == TOKENIZER_UNUSED;
}

static void put_spelling(struct loader *load, size_t id, const struct tokenizer_text *text)
{
    struct tokenizer *tok = load->tok;
    char raw[TOKENIZER_TOKEN_BYTES_MAX];
    long n = (long)text->n;

    if (tok->kind == TOKENIZER_BPE_CHARS) {
        strings_put(&tok->spelling, text->bytes, text->n);
        if (id < load->spec->n_tokens && load->spec->tokens[id].bytes != NULL &&
            is_merged(load, id))
            tok->flags[id] |= TOKEN_SPELLED;
        return;
    }
    n = byte_alphabet_decode(&load->alphabet, text->bytes, text->n, raw);
    bool same = n == (long)text->n && memcmp(raw, text->bytes, text->n) == 0;
    if (n < 0 || ((tok->flags[id] & TOKEN_ADDED) != 0 && !same)) {
        strings_put(&tok->spelling, text->bytes, text->n);
        return;
    }
    strings_put(&tok->spelling, raw, (size_t)n);
    if (id < load->spec->n_tokens && load->spec->tokens[id].bytes != NULL)
        tok->flags[id] |= TOKEN_SPELLED;
}

static int sum_texts(struct loader *load, size_t *bytes)
{
    *bytes = 0;
    for (size_t id = 0; id < load->tok->n_vocab; id++) {
        const struct tokenizer_text *text = source_text(load, id);
        int rc = text == NULL ? 0 : check_text(text, "token", id, load->err);
        if (rc != 0)
            return rc;
        *bytes += text == NULL ? 0 : text->n;
        if (*bytes > TOKENIZER_POOL_BYTES_MAX)
            return err_set(load->err, ERR_TOO_LARGE, "token texts of more than %d bytes in all",
                           TOKENIZER_POOL_BYTES_MAX);
    }
    return 0;
}

static void load_byte_ids(struct loader *load)
{
    static const char digits[] = "0123456789ABCDEF";
    struct tokenizer *tok = load->tok;

    if (load->spec->scores != NULL) { /* the table has only what merges */
        memset(tok->byte_id, 0xFF, sizeof(tok->byte_id));
        for (size_t id = 0; id < load->spec->n_tokens; id++) {
            const struct tokenizer_text *text = &load->spec->tokens[id];
            int byte = text->bytes == NULL ? -1 : byte_token(text->bytes, text->n);
            if (byte >= 0 && load->spec->types[id] == TOKENIZER_BYTE)
                tok->byte_id[byte] = (int32_t)id;
        }
        return;
    }
    for (int byte = 0; byte < 256; byte++) {
        char text[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        if (tok->kind == TOKENIZER_BPE_BYTES)
            text[0] = (char)byte;
        tok->byte_id[byte] = vocab_table_find(&tok->table, &tok->spelling, text,
                                              tok->kind == TOKENIZER_BPE_BYTES ? 1 : 6);
    }
}

int load_texts(struct loader *load)
{
    struct tokenizer *tok = load->tok;
    struct buf scratch;
    size_t bytes;
    int rc = sum_texts(load, &bytes);

    buf_init(&scratch, TOKENIZER_POOL_BYTES_MAX);
    byte_alphabet_init(&load->alphabet);
    if (rc == 0)
        rc = strings_init(&tok->spelling, tok->n_vocab, bytes, load->err);
    if (rc == 0 && tok->kind == TOKENIZER_BPE_CHARS)
        rc = strings_init(&tok->pieces, tok->n_vocab, bytes, load->err);
    if (rc == 0)
        rc = vocab_table_init(&tok->table, tok->n_vocab, load->err);
    for (size_t id = 0; rc == 0 && id < tok->n_vocab; id++) {
        const struct tokenizer_text *text = source_text(load, id);
        static const struct tokenizer_text none = {"", 0};
        if (text == NULL)
            tok->flags[id] |= TOKEN_HOLE;
        put_spelling(load, id, text == NULL ? &none : text);
        if (tok->kind == TOKENIZER_BPE_CHARS)
            rc = put_piece(load, id, text == NULL ? &none : text, &scratch);
        if ((tok->flags[id] & TOKEN_SPELLED) != 0)
            vocab_table_put(&tok->table, &tok->spelling, (int32_t)id);
    }
    buf_release(&scratch);
    if (rc == 0)
        load_byte_ids(load);
    return rc;
}

/* --- merges ------------------------------------------------------------------------------------
 */
/* Where the left half ends, and where the right one begins. */
static int merge_halves(const struct loader *load, size_t i, size_t *left, size_t *right)
{
    const struct tokenizer_text *text = &load->spec->merges[i];

    if (load->spec->merge_left != NULL) {
        *left = *right = load->spec->merge_left[i];
        if (*left == 0 || *left >= text->n)
            goto malformed;
        return 0;
    }
    const char *space = memchr(text->bytes, ' ', text->n);
    if (space == NULL)
        goto malformed;
    *left = (size_t)(space - text->bytes);
    *right = *left + 1;
    if (*left == 0 || *right == text->n || memchr(space + 1, ' ', text->n - *right) != NULL)
        goto malformed;
    return 0;
malformed:
    return err_set(load->err, ERR_INVALID, "merge %zu is not two tokens: '%.*s'", i,
                   (int)(text->n < 80 ? text->n : 80), text->bytes);
}

static int load_merge(struct loader *load, size_t i)
{
    struct tokenizer *tok = load->tok;
    const struct tokenizer_text *text = &load->spec->merges[i];
    char raw[2 * TOKENIZER_TOKEN_BYTES_MAX];
    size_t left = 0;
    size_t right = 0;
    int rc;

    if (text->bytes == NULL || text->n > sizeof(raw))
        return err_set(load->err, ERR_INVALID, "merge %zu has %zu bytes", i, text->n);
    rc = merge_halves(load, i, &left, &right);
    if (rc != 0)
        return rc;
    long n_left = (long)left;
    long n_right = (long)(text->n - right);
    if (tok->kind == TOKENIZER_BPE_BYTES) {
        n_left = byte_alphabet_decode(&load->alphabet, text->bytes, left, raw);
        n_right = n_left < 0 ? -1
                             : byte_alphabet_decode(&load->alphabet, text->bytes + right,
                                                    text->n - right, raw + n_left);
    } else {
        memcpy(raw, text->bytes, left);
        memcpy(raw + left, text->bytes + right, text->n - right);
    }
    int32_t ids[3] = {-1, -1, -1};
    if (n_left > 0 && n_right > 0) {
        ids[0] = vocab_table_find(&tok->table, &tok->spelling, raw, (size_t)n_left);
        ids[1] = vocab_table_find(&tok->table, &tok->spelling, raw + n_left, (size_t)n_right);
        ids[2] = vocab_table_find(&tok->table, &tok->spelling, raw, (size_t)(n_left + n_right));
    }
    if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0)
        return err_set(load->err, ERR_INVALID, "merge %zu, '%.*s', names a token that is not there",
                       i, (int)(text->n < 80 ? text->n : 80), text->bytes);
    bpe_merges_put(&tok->merges, ids[0], ids[1], (uint32_t)i, ids[2]);
    return 0;
}

int load_merges(struct loader *load)
{
    int rc;

    if (load->spec->scores != NULL)
        return load_scored_merges(load);
    rc = bpe_merges_init(&load->tok->merges, load->spec->n_merges, load->err);
    for (size_t i = 0; rc == 0 && i < load->spec->n_merges; i++)
        rc = load_merge(load, i);
    return rc;
}
