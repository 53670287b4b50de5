/* Decoding and facts.
 *
 * Decoding goes byte by byte through a state of at most three pending bytes, the beginning of a
 * character that may still be completed. A byte that cannot go on ends it: U+FFFD stands for what
 * was pending (a maximal subpart, Unicode 3.9), and the byte begins anew. Decoding all at once is
 * the same machine, so streaming cannot differ from it.
 */
#include <assert.h>
#include <string.h>

#include "text/tokenizer_private.h"

static const char replacement_character[] = "\xEF\xBF\xBD";

void detok_init(struct detok *detok, const struct tokenizer *tok, bool skip_special)
{
    *detok = (struct detok){.tok = tok, .skip_special = skip_special, .strip = tok->strip};
}

void detok_init_within(struct detok *detok, const struct tokenizer *tok, bool skip_special)
{
    *detok = (struct detok){.tok = tok, .skip_special = skip_special};
}

void detok_show(struct detok *detok, const char *text)
{
    const int32_t id = tokenizer_id_of(detok->tok, text, strlen(text));
    if (id >= 0) {
        assert(detok->n_shown < DETOK_SHOWN_MAX);
        detok->shown[detok->n_shown++] = id;
    }
}

static bool is_skipped(const struct detok *detok, int32_t id)
{
    bool skipped = detok->skip_special && (detok->tok->flags[id] & TOKEN_SPECIAL) != 0;
    for (int i = 0; i < detok->n_shown; i++) {
        skipped = skipped && detok->shown[i] != id;
    }
    return skipped;
}

/* How many bytes a character with this first byte has; 0: none begins so. */
static size_t character_bytes(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead < 0xE0)
        return 2;
    if (lead >= 0xE0 && lead < 0xF0)
        return 3;
    return lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
}

/* Whether byte may follow what is pending (Unicode table 3-7). */
static bool goes_on(const struct detok *detok, unsigned char byte)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;

    if (detok->n_pending == 1) {
        switch (detok->pending[0]) {
        case 0xE0:
            low = 0xA0;
            break;
        case 0xED:
            high = 0x9F;
            break;
        case 0xF0:
            low = 0x90;
            break;
        case 0xF4:
            high = 0x8F;
            break;
        default:
            break;
        }
    }
    return byte >= low && byte <= high;
}

static void flush_pending(struct detok *detok, struct buf *out)
{
    if (detok->n_pending > 0)
        buf_puts(out, replacement_character);
    detok->n_pending = 0;
}

static void push_byte(struct detok *detok, unsigned char byte, struct buf *out)
{
    if (detok->n_pending > 0 && goes_on(detok, byte)) {
        detok->pending[detok->n_pending++] = byte;
        if (detok->n_pending == character_bytes(detok->pending[0])) {
            buf_append(out, detok->pending, detok->n_pending);
            detok->n_pending = 0;
        }
        return;
    }
    flush_pending(detok, out);
    switch (character_bytes(byte)) {
    case 0:
        buf_puts(out, replacement_character);
        break;
    case 1:
        buf_putc(out, (char)byte);
        break;
    default:
        detok->pending[detok->n_pending++] = byte;
        break;
    }
}

static size_t ascii_run(const char *bytes, size_t n)
{
    size_t i = 0;

    while (i < n && (unsigned char)bytes[i] < 0x80)
        i++;
    return i;
}

int detok_push(struct detok *detok, int32_t id, struct buf *out, struct err *err)
{
    const struct tokenizer *tok = detok->tok;
    struct detok before = *detok;
    size_t out_before = out->len;
    const char *bytes;
    size_t n;
    int rc;

    if (id < 0 || (size_t)id >= tok->n_vocab)
        return err_set(err, ERR_INVALID, "token id %d is not in the vocabulary of %zu", (int)id,
                       tok->n_vocab);
    if (is_skipped(detok, id))
        return 0;
    bytes = tokenizer_piece(tok, id, &n);
    for (; detok->strip > 0 && n > 0; bytes++, n--) {
        if (*bytes != ' ') {
            detok->strip = 0;
            break;
        }
        detok->strip--;
    }
    for (size_t i = 0; i < n;) {
        size_t run = detok->n_pending == 0 ? ascii_run(bytes + i, n - i) : 0;
        if (run > 0)
            buf_append(out, bytes + i, run);
        else
            push_byte(detok, (unsigned char)bytes[i], out);
        i += run > 0 ? run : 1;
    }
    rc = buf_check(out, "decoded text", err);
    if (rc != 0) {
        *detok = before;
        out->len = out_before;
        if (out->data != NULL)
            out->data[out_before] = '\0';
    }
    return rc;
}

int detok_flush(struct detok *detok, struct buf *out, struct err *err)
{
    flush_pending(detok, out);
    return buf_check(out, "decoded text", err);
}

int tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t n, bool skip_special,
                     struct buf *out, struct err *err)
{
    struct detok detok;
    size_t out_before = out->len;
    int rc = 0;

    detok_init(&detok, tok, skip_special);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = detok_push(&detok, ids[i], out, err);
    if (rc == 0)
        rc = detok_flush(&detok, out, err);
    if (rc != 0)
        out->len = out_before;
    return rc;
}

/* --- facts -------------------------------------------------------------------------------------
 */
size_t tokenizer_vocab_size(const struct tokenizer *tok)
{
    return tok->n_vocab;
}

const char *tokenizer_piece(const struct tokenizer *tok, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || (size_t)id >= tok->n_vocab)
        return "";
    return strings_get(tok->kind == TOKENIZER_BPE_BYTES ? &tok->spelling : &tok->pieces, (size_t)id,
                       n);
}

bool tokenizer_is_special(const struct tokenizer *tok, int32_t id)
{
    return id >= 0 && (size_t)id < tok->n_vocab && (tok->flags[id] & TOKEN_SPECIAL) != 0;
}

static int32_t added_id(const struct added_set *set, const char *bytes, size_t n)
{
    for (size_t i = 0; i < set->n; i++) {
        if (set->tokens[i].n == n && memcmp(set->tokens[i].bytes, bytes, n) == 0)
            return set->tokens[i].id;
    }
    return -1;
}

int32_t tokenizer_id_of(const struct tokenizer *tok, const char *bytes, size_t n)
{
    int32_t id = added_id(&tok->added, bytes, n);
    struct buf spelling;

    if (id < 0)
        id = added_id(&tok->added_nfc, bytes, n);
    if (id >= 0)
        return id;
    buf_init(&spelling, TOKENIZER_POOL_BYTES_MAX);
    if (tok->before.from != NULL)
        replacement_apply(&tok->before, bytes, n, &spelling);
    if (tok->before.from == NULL)
        id = vocab_table_find(&tok->table, &tok->spelling, bytes, n);
    else if (spelling.failed == ERR_NONE)
        id = vocab_table_find(&tok->table, &tok->spelling, spelling.data, spelling.len);
    buf_release(&spelling);
    return id < (int32_t)tok->n_vocab ? id : -1;
}

int32_t tokenizer_bos(const struct tokenizer *tok)
{
    return tok->bos_id;
}

int32_t tokenizer_eos(const struct tokenizer *tok)
{
    return tok->eos_id;
}

int32_t tokenizer_unk(const struct tokenizer *tok)
{
    return tok->unk_id;
}

int32_t tokenizer_pad(const struct tokenizer *tok)
{
    return tok->pad_id;
}

size_t tokenizer_bytes(const struct tokenizer *tok)
{
    size_t texts = tok->spelling.n == 0 ? 0 : tok->spelling.at[tok->spelling.n];
    size_t pieces = tok->pieces.n == 0 ? 0 : tok->pieces.at[tok->pieces.n];

    return sizeof(*tok) + tok->n_vocab + texts + pieces +
           (tok->spelling.cap + tok->pieces.cap + 2) * sizeof(uint32_t) +
           (tok->table.mask + 1) * sizeof(uint64_t) +
           (tok->merges.mask + 1) * sizeof(struct bpe_merge) + edges_bytes(&tok->edges) +
           (tok->added.n + tok->added_nfc.n) * sizeof(struct added_token) +
           tok->pretok.alphabet.n_pages * ALPHABET_PAGE;
}
