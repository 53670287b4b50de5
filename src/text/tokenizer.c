/* Making a tokenizer from arrays.
 *
 * All is copied into a few flat arrays, in the order of ids; nothing of the spec is kept. The
 * stages (tokenizer_load.h) need each other in this order: the normaliser's settings, added tokens
 * (which say how many ids there are), texts, merges, edges, the sets of added tokens, the steps.
 */
#include "text/tokenizer.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/tokenizer_load.h"

void tokenizer_spec_init(struct tokenizer_spec *spec)
{
    memset(spec, 0, sizeof(*spec));
    spec->bos_id = spec->eos_id = spec->unk_id = spec->pad_id = -1;
}

/* --- checks and sizes --------------------------------------------------------------------------
 */
static int check_counts(const struct tokenizer_spec *spec, struct err *err)
{
    if (spec->n_tokens == 0)
        return err_set(err, ERR_INVALID, "tokenizer without tokens");
    if (spec->n_tokens > TOKENIZER_VOCAB_MAX)
        return err_set(err, ERR_TOO_LARGE, "tokenizer of %zu tokens, at most %d", spec->n_tokens,
                       TOKENIZER_VOCAB_MAX);
    if (spec->n_merges > TOKENIZER_MERGES_MAX)
        return err_set(err, ERR_TOO_LARGE, "tokenizer of %zu merges, at most %d", spec->n_merges,
                       TOKENIZER_MERGES_MAX);
    if (spec->n_added > TOKENIZER_ADDED_MAX)
        return err_set(err, ERR_TOO_LARGE, "tokenizer of %zu added tokens, at most %d",
                       spec->n_added, TOKENIZER_ADDED_MAX);
    if (spec->scores != NULL &&
        (spec->kind != TOKENIZER_BPE_CHARS || spec->types == NULL || spec->n_merges > 0))
        return err_set(err, ERR_INVALID, "scores go with character BPE, types and no merges");
    if (spec->n_prefix > TOKENIZER_AFFIX_MAX || spec->n_suffix > TOKENIZER_AFFIX_MAX)
        return err_set(err, ERR_TOO_LARGE, "post-processor puts more than %d tokens around a text",
                       TOKENIZER_AFFIX_MAX);
    return 0;
}

/* --- steps and ids -------------------------------------------------------------------------- */
static int load_steps(struct loader *load)
{
    const struct tokenizer_spec *spec = load->spec;

    if (load->known != NULL)
        return pretok_init(&load->tok->pretok, load->known->steps, load->known->n_steps, load->err);
    return pretok_init(&load->tok->pretok, spec->steps, spec->n_steps, load->err);
}

static int take_id(const struct loader *load, int32_t id, const char *what, int32_t *out)
{
    if (id != -1 &&
        (id < 0 || (size_t)id >= load->tok->n_vocab || (load->tok->flags[id] & TOKEN_HOLE) != 0))
        return err_set(load->err, ERR_INVALID, "the %s token's id %d is not in the vocabulary",
                       what, (int)id);
    *out = id;
    return 0;
}

static int load_ids(struct loader *load)
{
    const struct tokenizer_spec *spec = load->spec;
    struct tokenizer *tok = load->tok;
    int rc = take_id(load, spec->bos_id, "BOS", &tok->bos_id);

    if (rc == 0)
        rc = take_id(load, spec->eos_id, "EOS", &tok->eos_id);
    if (rc == 0)
        rc = take_id(load, spec->unk_id, "unknown", &tok->unk_id);
    if (rc == 0)
        rc = take_id(load, spec->pad_id, "padding", &tok->pad_id);
    for (size_t i = 0; rc == 0 && i < spec->n_prefix; i++)
        rc = take_id(load, spec->prefix[i], "post-processor's", &tok->prefix[tok->n_prefix++]);
    for (size_t i = 0; rc == 0 && i < spec->n_suffix; i++)
        rc = take_id(load, spec->suffix[i], "post-processor's", &tok->suffix[tok->n_suffix++]);
    if (rc != 0)
        return rc;
    if (spec->add_bos && tok->bos_id >= 0 && tok->n_prefix == 0)
        tok->prefix[tok->n_prefix++] = tok->bos_id;
    if (spec->add_eos && tok->eos_id >= 0 && tok->n_suffix == 0)
        tok->suffix[tok->n_suffix++] = tok->eos_id;
    tok->unk_replaces = spec->unk_replaces && tok->unk_id >= 0;
    return 0;
}

static int take_replacement(struct replacement *to, const struct tokenizer_text *from,
                            const struct tokenizer_text *by, struct err *err)
{
    if (from->bytes == NULL)
        return 0;
    if (from->n == 0 || from->n > TOKENIZER_TOKEN_BYTES_MAX || by->n > TOKENIZER_TOKEN_BYTES_MAX ||
        !utf8_valid(from->bytes, from->n) || !utf8_valid(by->bytes, by->n))
        return err_set(err, ERR_INVALID, "replacement of empty, too long or malformed text");
    to->from = mem_strndup(from->bytes, from->n);
    to->to = mem_strndup(by->n == 0 ? "" : by->bytes, by->n);
    to->n_from = from->n;
    to->n_to = by->n;
    return to->from == NULL || to->to == NULL ? mem_err(err, from->n + by->n) : 0;
}

static int take_prepend(struct loader *load)
{
    const struct tokenizer_text *text = &load->spec->prepend;
    struct tokenizer *tok = load->tok;

    tok->prepend_to = load->spec->prepend_to;
    tok->replace_late = load->spec->replace_late;
    if (text->bytes == NULL)
        return 0;
    if (text->n == 0 || text->n > TOKENIZER_TOKEN_BYTES_MAX || !utf8_valid(text->bytes, text->n))
        return err_set(load->err, ERR_INVALID, "text to prepend is empty, too long or malformed");
    tok->prepend = mem_strndup(text->bytes, text->n);
    tok->n_prepend = text->n;
    return tok->prepend == NULL ? mem_err(load->err, text->n) : 0;
}

/* --- the whole ---------------------------------------------------------------------------------
 */
static int load_rules(struct loader *load)
{
    const struct tokenizer_spec *spec = load->spec;
    struct tokenizer *tok = load->tok;
    int rc;

    tok->kind = spec->kind;
    tok->nfc = spec->nfc;
    tok->squeeze_spaces = spec->squeeze_spaces;
    tok->ignore_merges = spec->ignore_merges;
    tok->byte_fallback = spec->byte_fallback && spec->kind == TOKENIZER_BPE_CHARS;
    tok->fuse_unk = spec->fuse_unk;
    tok->scored = spec->scores != NULL;
    tok->strip = spec->decode_strip;
    if (spec->kind != TOKENIZER_BPE_BYTES && spec->kind != TOKENIZER_BPE_CHARS)
        return err_set(load->err, ERR_UNSUPPORTED, "tokenizer of kind %d", (int)spec->kind);
    if (spec->pre_name != NULL) {
        load->known = pretok_find(spec->pre_name);
        if (load->known == NULL)
            return err_set(load->err, ERR_UNSUPPORTED, "unknown pre-tokenizer '%.100s'",
                           spec->pre_name);
        tok->nfc = load->known->nfc;
        tok->ignore_merges = load->known->ignore_merges;
    }
    rc = take_replacement(&tok->before, &spec->replace_from, &spec->replace_to, load->err);
    if (rc == 0 && spec->kind == TOKENIZER_BPE_CHARS)
        rc = take_replacement(&tok->after, &spec->decode_from, &spec->decode_to, load->err);
    return rc != 0 ? rc : take_prepend(load);
}

static int load_all(struct loader *load)
{
    int rc = check_counts(load->spec, load->err);

    if (rc == 0)
        rc = load_rules(load);
    if (rc == 0)
        rc = load_added_list(load);
    if (rc == 0)
        rc = load_texts(load);
    if (rc == 0)
        rc = load_merges(load);
    if (rc == 0)
        rc = load_edges(load);
    if (rc == 0)
        rc = load_added_sets(load);
    if (rc == 0)
        rc = load_steps(load);
    if (rc == 0)
        rc = load_ids(load);
    return rc;
}

int tokenizer_new(struct tokenizer **tok, const struct tokenizer_spec *spec, struct err *err)
{
    struct loader load = {.spec = spec, .err = err};
    int rc;

    *tok = NULL;
    load.tok = mem_calloc(1, sizeof(*load.tok));
    if (load.tok == NULL)
        return mem_err(err, sizeof(*load.tok));
    rc = load_all(&load);
    mem_free(load.added);
    mem_free(load.added_at);
    if (rc != 0)
        tokenizer_free(load.tok);
    else
        *tok = load.tok;
    return rc;
}

void tokenizer_free(struct tokenizer *tok)
{
    if (tok == NULL)
        return;
    if (tok->map.data == NULL) {
        mem_free(tok->flags);
        strings_release(&tok->spelling);
        strings_release(&tok->pieces);
        vocab_table_release(&tok->table);
        bpe_merges_release(&tok->merges);
        edges_release(&tok->edges);
    }
    fs_map_close(&tok->map);
    pretok_release(&tok->pretok);
    mem_free(tok->before.from);
    mem_free(tok->before.to);
    mem_free(tok->after.from);
    mem_free(tok->after.to);
    mem_free(tok->prepend);
    mem_free(tok->added_text);
    added_set_release(&tok->added);
    added_set_release(&tok->added_nfc);
    mem_free(tok);
}
