/* A compiled tokenizer is a header, the big arrays as they lie in memory, and a list of what is
 * small: texts of replacements, steps and added tokens. Loading maps the file, sums it up, points
 * the arrays into the map and makes the small things anew; patterns are compiled again, for PCRE2's
 * code is no data.
 *
 * 1. One SHA-256 covers the header (its own field zero) and all behind it, so what has been checked
 *    needs no doubt further on: the arrays are trusted as those that tokenizer_new makes.
 * 2. The layout of the arrays is the compiler's: sizes and the order of bytes are in the header,
 * and a machine that differs finds that the file does not fit.
 */
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "text/tokenizer_private.h"

enum { ALIGNMENT = 64, SMALL_BYTES_MAX = 64 << 20, DIGEST_CHARS = SHA256_HEX_BYTES - 1 };

#define BYTE_ORDER_MARK UINT32_C(0x01020304)
#define NO_TEXT         UINT32_MAX

static const char magic[8] = {'M', 'L', 'X', 'H', 'T', 'O', 'K', 'S'};

enum section {
    SECTION_FLAGS,
    SECTION_SPELLING_AT,
    SECTION_SPELLING,
    SECTION_PIECES_AT,
    SECTION_PIECES,
    SECTION_TABLE,
    SECTION_MERGES,
    SECTION_EDGES,
    SECTION_SMALL,
    SECTION_COUNT
};

struct extent {
    uint64_t at;
    uint64_t bytes;
};

struct header {
    char magic[sizeof magic];
    uint32_t version;
    uint32_t byte_order;
    uint32_t header_bytes;
    uint32_t merge_bytes;
    char key[TOKENIZER_KEY_BYTES];
    struct extent sections[SECTION_COUNT];
    uint64_t n_vocab;
    uint64_t n_spelling;
    uint64_t n_pieces;
    uint64_t table_mask;
    uint64_t merges_mask;
    uint32_t edges_shift;
    uint32_t kind;
    uint32_t prepend_to;
    uint32_t strip;
    uint8_t nfc, squeeze_spaces, replace_late, ignore_merges;
    uint8_t byte_fallback, fuse_unk, unk_replaces, scored;
    int32_t byte_id[256];
    int32_t prefix[TOKENIZER_AFFIX_MAX];
    int32_t suffix[TOKENIZER_AFFIX_MAX];
    uint32_t n_prefix, n_suffix;
    int32_t bos_id, eos_id, unk_id, pad_id;
    char check[DIGEST_CHARS]; /* SHA-256 of all else */
};

/* --- what is small ------------------------------------------------------------------------------
 */
static void put_number(struct buf *out, uint32_t value)
{
    buf_append(out, &value, sizeof(value));
}

static void put_text(struct buf *out, const char *text, size_t n)
{
    put_number(out, text == NULL ? NO_TEXT : (uint32_t)n);
    if (text != NULL)
        buf_append(out, text, n);
}

static void put_set(struct buf *out, const struct added_set *set)
{
    put_number(out, (uint32_t)set->n);
    for (size_t i = 0; i < set->n; i++) {
        const struct added_token *token = &set->tokens[i];
        put_text(out, token->bytes, token->n);
        put_number(out, (uint32_t)token->id);
        put_number(out, (uint32_t)token->special | (uint32_t)token->lstrip << 1 |
                            (uint32_t)token->rstrip << 2 | (uint32_t)token->single_word << 3);
    }
}

static void put_small(struct buf *out, const struct tokenizer *tok)
{
    put_text(out, tok->before.from, tok->before.n_from);
    put_text(out, tok->before.to, tok->before.n_to);
    put_text(out, tok->after.from, tok->after.n_from);
    put_text(out, tok->after.to, tok->after.n_to);
    put_text(out, tok->prepend, tok->n_prepend);
    put_number(out, (uint32_t)tok->pretok.n_steps);
    for (size_t i = 0; i < tok->pretok.n_steps; i++) {
        const struct pretok_step *step = &tok->pretok.steps[i];
        put_number(out, (uint32_t)step->kind);
        put_number(out, (uint32_t)step->split);
        put_number(out, (uint32_t)step->invert | (uint32_t)step->individual << 1);
        put_text(out, step->text, step->n_text);
    }
    put_set(out, &tok->added);
    put_set(out, &tok->added_nfc);
}

/* Reads them back; `failed` is sticky. */
struct small {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static uint32_t get_number(struct small *in)
{
    uint32_t value = 0;

    if ((size_t)(in->end - in->at) < sizeof(value)) {
        in->failed = true;
        return 0;
    }
    memcpy(&value, in->at, sizeof(value));
    in->at += sizeof(value);
    return value;
}

static struct tokenizer_text get_text(struct small *in)
{
    uint32_t n = get_number(in);
    struct tokenizer_text text = {(const char *)in->at, n};

    if (in->failed || n == NO_TEXT)
        return (struct tokenizer_text){NULL, 0};
    if (n > (size_t)(in->end - in->at)) {
        in->failed = true;
        return (struct tokenizer_text){NULL, 0};
    }
    in->at += n;
    return text;
}

static int copy_text(struct small *in, char **out, size_t *n, struct err *err)
{
    struct tokenizer_text text = get_text(in);

    *n = text.n;
    if (text.bytes == NULL)
        return 0;
    *out = mem_strndup(text.bytes, text.n);
    return *out == NULL ? mem_err(err, text.n) : 0;
}

/* The texts of a set stay in the map. */
static int get_set(struct small *in, struct added_set *set, struct err *err)
{
    uint32_t n = get_number(in);
    struct added_token *tokens;
    int rc = 0;

    if (in->failed || n > TOKENIZER_ADDED_MAX)
        return err_set(err, ERR_CORRUPT, "compiled tokenizer: too many added tokens");
    tokens = mem_calloc((size_t)n + 1, sizeof(*tokens));
    if (tokens == NULL)
        return mem_err(err, (n + 1) * sizeof(*tokens));
    for (uint32_t i = 0; i < n; i++) {
        struct tokenizer_text text = get_text(in);
        uint32_t id = get_number(in);
        uint32_t flags = get_number(in);
        tokens[i] = (struct added_token){.bytes = text.bytes,
                                         .n = (uint32_t)text.n,
                                         .id = (int32_t)id,
                                         .special = (flags & 1) != 0,
                                         .lstrip = (flags & 2) != 0,
                                         .rstrip = (flags & 4) != 0,
                                         .single_word = (flags & 8) != 0};
        in->failed = in->failed || text.n == 0;
    }
    if (in->failed)
        rc = err_set(err, ERR_CORRUPT, "compiled tokenizer: added tokens are cut off");
    if (rc == 0)
        rc = added_set_init(set, tokens, n, err);
    mem_free(tokens);
    return rc;
}

static int get_steps(struct small *in, struct tokenizer *tok, struct err *err)
{
    struct tokenizer_step steps[TOKENIZER_STEPS_MAX] = {0};
    uint32_t n = get_number(in);

    if (in->failed || n > TOKENIZER_STEPS_MAX)
        return err_set(err, ERR_CORRUPT, "compiled tokenizer: too many steps");
    for (uint32_t i = 0; i < n; i++) {
        uint32_t flags;
        steps[i].kind = (enum tokenizer_step_kind)get_number(in);
        steps[i].split = (enum tokenizer_split)get_number(in);
        flags = get_number(in);
        steps[i].invert = (flags & 1) != 0;
        steps[i].individual = (flags & 2) != 0;
        steps[i].pattern = get_text(in);
    }
    return in->failed ? err_set(err, ERR_CORRUPT, "compiled tokenizer: steps are cut off")
                      : pretok_init(&tok->pretok, steps, n, err);
}

static int get_small(struct tokenizer *tok, const uint8_t *bytes, size_t n, struct err *err)
{
    struct small in = {.at = bytes, .end = bytes + n};
    int rc = copy_text(&in, &tok->before.from, &tok->before.n_from, err);

    if (rc == 0)
        rc = copy_text(&in, &tok->before.to, &tok->before.n_to, err);
    if (rc == 0)
        rc = copy_text(&in, &tok->after.from, &tok->after.n_from, err);
    if (rc == 0)
        rc = copy_text(&in, &tok->after.to, &tok->after.n_to, err);
    if (rc == 0)
        rc = copy_text(&in, &tok->prepend, &tok->n_prepend, err);
    if (rc == 0)
        rc = get_steps(&in, tok, err);
    if (rc == 0)
        rc = get_set(&in, &tok->added, err);
    return rc != 0 ? rc : get_set(&in, &tok->added_nfc, err);
}

/* --- the header ---------------------------------------------------------------------------------
 */
struct part {
    const void *bytes;
    size_t n;
};

static void strings_parts(const struct strings *strings, struct part *at, struct part *bytes)
{
    if (strings->at == NULL)
        return;
    *at = (struct part){strings->at, (strings->n + 1) * sizeof(*strings->at)};
    *bytes = (struct part){strings->bytes, strings->at[strings->n]};
}

static void list_parts(const struct tokenizer *tok, const struct buf *small,
                       struct part parts[SECTION_COUNT])
{
    memset(parts, 0, SECTION_COUNT * sizeof(*parts));
    parts[SECTION_FLAGS] = (struct part){tok->flags, tok->n_vocab};
    strings_parts(&tok->spelling, &parts[SECTION_SPELLING_AT], &parts[SECTION_SPELLING]);
    strings_parts(&tok->pieces, &parts[SECTION_PIECES_AT], &parts[SECTION_PIECES]);
    parts[SECTION_TABLE] =
        (struct part){tok->table.slots, (tok->table.mask + 1) * sizeof(*tok->table.slots)};
    parts[SECTION_MERGES] =
        (struct part){tok->merges.slots, (tok->merges.mask + 1) * sizeof(*tok->merges.slots)};
    parts[SECTION_EDGES] = (struct part){tok->edges.bits, edges_bytes(&tok->edges)};
    parts[SECTION_SMALL] = (struct part){small->data, small->len};
}

static void fill_header(struct header *header, const struct tokenizer *tok, const char *key)
{
    memset(header, 0, sizeof(*header));
    memcpy(header->magic, magic, sizeof(magic));
    header->version = TOKENIZER_FILE_VERSION;
    header->byte_order = BYTE_ORDER_MARK;
    header->header_bytes = sizeof(*header);
    header->merge_bytes = sizeof(struct bpe_merge);
    memcpy(header->key, key, TOKENIZER_KEY_BYTES);
    header->n_vocab = tok->n_vocab;
    header->n_spelling = tok->spelling.n;
    header->n_pieces = tok->pieces.n;
    header->table_mask = tok->table.mask;
    header->merges_mask = tok->merges.mask;
    header->edges_shift = tok->edges.shift;
    header->kind = (uint32_t)tok->kind;
    header->prepend_to = (uint32_t)tok->prepend_to;
    header->strip = tok->strip;
    header->nfc = tok->nfc;
    header->squeeze_spaces = tok->squeeze_spaces;
    header->replace_late = tok->replace_late;
    header->ignore_merges = tok->ignore_merges;
    header->byte_fallback = tok->byte_fallback;
    header->fuse_unk = tok->fuse_unk;
    header->unk_replaces = tok->unk_replaces;
    header->scored = tok->scored;
    memcpy(header->byte_id, tok->byte_id, sizeof(header->byte_id));
    memcpy(header->prefix, tok->prefix, sizeof(header->prefix));
    memcpy(header->suffix, tok->suffix, sizeof(header->suffix));
    header->n_prefix = (uint32_t)tok->n_prefix;
    header->n_suffix = (uint32_t)tok->n_suffix;
    header->bos_id = tok->bos_id;
    header->eos_id = tok->eos_id;
    header->unk_id = tok->unk_id;
    header->pad_id = tok->pad_id;
}

static void take_header(struct tokenizer *tok, const struct header *header)
{
    tok->n_vocab = header->n_vocab;
    tok->spelling.n = tok->spelling.cap = header->n_spelling;
    tok->pieces.n = tok->pieces.cap = header->n_pieces;
    tok->table.mask = header->table_mask;
    tok->merges.mask = header->merges_mask;
    tok->edges.shift = header->edges_shift;
    tok->kind = (enum tokenizer_kind)header->kind;
    tok->prepend_to = (enum tokenizer_prepend)header->prepend_to;
    tok->strip = header->strip;
    tok->nfc = header->nfc != 0;
    tok->squeeze_spaces = header->squeeze_spaces != 0;
    tok->replace_late = header->replace_late != 0;
    tok->ignore_merges = header->ignore_merges != 0;
    tok->byte_fallback = header->byte_fallback != 0;
    tok->fuse_unk = header->fuse_unk != 0;
    tok->unk_replaces = header->unk_replaces != 0;
    tok->scored = header->scored != 0;
    memcpy(tok->byte_id, header->byte_id, sizeof(tok->byte_id));
    memcpy(tok->prefix, header->prefix, sizeof(tok->prefix));
    memcpy(tok->suffix, header->suffix, sizeof(tok->suffix));
    tok->n_prefix = header->n_prefix;
    tok->n_suffix = header->n_suffix;
    tok->bos_id = header->bos_id;
    tok->eos_id = header->eos_id;
    tok->unk_id = header->unk_id;
    tok->pad_id = header->pad_id;
}

/* --- writing ------------------------------------------------------------------------------------
 */
static const uint8_t zeros[ALIGNMENT];

static size_t padding(uint64_t at)
{
    return (size_t)((ALIGNMENT - at % ALIGNMENT) % ALIGNMENT);
}

/* The digest over header and parts, into header->check. */
static int sum_up(struct header *header, const struct part parts[SECTION_COUNT], struct err *err)
{
    struct sha256 hash = {0};
    char hex[SHA256_HEX_BYTES];
    int rc = sha256_init(&hash, err);

    if (rc == 0)
        rc = sha256_update(&hash, header, sizeof(*header), err);
    for (int i = 0; rc == 0 && i < SECTION_COUNT; i++) {
        if (parts[i].n > 0)
            rc = sha256_update(&hash, parts[i].bytes, parts[i].n, err);
    }
    if (rc == 0)
        rc = sha256_final_hex(&hash, hex, err);
    sha256_release(&hash);
    if (rc == 0)
        memcpy(header->check, hex, DIGEST_CHARS);
    return rc;
}

static int write_parts(struct fs_writer *writer, const struct header *header,
                       const struct part parts[SECTION_COUNT], struct err *err)
{
    int rc = fs_writer_write(writer, header, sizeof(*header), err);

    for (int i = 0; rc == 0 && i < SECTION_COUNT; i++) {
        rc = fs_writer_write(writer, zeros, padding(writer->written), err);
        if (rc == 0 && parts[i].n > 0)
            rc = fs_writer_write(writer, parts[i].bytes, parts[i].n, err);
    }
    return rc != 0 ? rc : fs_writer_publish(writer, err);
}

int tokenizer_write(const struct tokenizer *tok, const char *path, const char *key, struct err *err)
{
    struct part parts[SECTION_COUNT];
    struct header header;
    struct fs_writer writer = {0};
    struct buf small;
    uint64_t at = sizeof(header);
    int rc;

    buf_init(&small, SMALL_BYTES_MAX);
    put_small(&small, tok);
    rc = buf_check(&small, "compiled tokenizer", err);
    if (rc != 0)
        goto out;
    fill_header(&header, tok, key);
    list_parts(tok, &small, parts);
    for (int i = 0; i < SECTION_COUNT; i++) {
        at += padding(at);
        header.sections[i] = (struct extent){at, parts[i].n};
        at += parts[i].n;
    }
    rc = sum_up(&header, parts, err);
    if (rc == 0)
        rc = fs_writer_open(&writer, path, err);
    if (rc == 0) {
        rc = write_parts(&writer, &header, parts, err);
        fs_writer_abandon(&writer);
    }
out:
    buf_release(&small);
    return rc;
}

/* --- mapping ------------------------------------------------------------------------------------
 */
static int misfit(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "compiled tokenizer: %s", what);
}

/* Where the sections lie in the map, once their extents are known to be inside it and the whole
 * sums up. */
static int check_file(const struct fs_map *map, const char *key, struct header *header,
                      struct part parts[SECTION_COUNT], struct err *err)
{
    char check[DIGEST_CHARS];
    int rc;

    if (map->size < sizeof(*header))
        return misfit(err, "it is too short");
    memcpy(header, map->data, sizeof(*header));
    if (memcmp(header->magic, magic, sizeof(magic)) != 0 ||
        header->version != TOKENIZER_FILE_VERSION || header->byte_order != BYTE_ORDER_MARK ||
        header->header_bytes != sizeof(*header) ||
        header->merge_bytes != sizeof(struct bpe_merge) ||
        memcmp(header->key, key, TOKENIZER_KEY_BYTES) != 0)
        return misfit(err, "it is of another version or source");
    for (int i = 0; i < SECTION_COUNT; i++) {
        const struct extent *extent = &header->sections[i];
        if (extent->at > map->size || extent->bytes > map->size - extent->at ||
            extent->at % ALIGNMENT != 0)
            return misfit(err, "a part lies outside it");
        parts[i] = (struct part){map->data + extent->at, extent->bytes};
    }
    memcpy(check, header->check, sizeof(check));
    memset(header->check, 0, sizeof(header->check));
    rc = sum_up(header, parts, err);
    if (rc == 0 && memcmp(check, header->check, sizeof(check)) != 0)
        rc = misfit(err, "it is damaged");
    return rc;
}

/* The arrays are read only, also where their type does not say so. */
static void take_parts(struct tokenizer *tok, const struct part parts[SECTION_COUNT])
{
    tok->flags = (uint8_t *)(uintptr_t)parts[SECTION_FLAGS].bytes;
    tok->spelling.at = (uint32_t *)(uintptr_t)parts[SECTION_SPELLING_AT].bytes;
    tok->spelling.bytes = (char *)(uintptr_t)parts[SECTION_SPELLING].bytes;
    if (parts[SECTION_PIECES_AT].n > 0) {
        tok->pieces.at = (uint32_t *)(uintptr_t)parts[SECTION_PIECES_AT].bytes;
        tok->pieces.bytes = (char *)(uintptr_t)parts[SECTION_PIECES].bytes;
    }
    tok->table.slots = (uint64_t *)(uintptr_t)parts[SECTION_TABLE].bytes;
    tok->merges.slots = (struct bpe_merge *)(uintptr_t)parts[SECTION_MERGES].bytes;
    if (parts[SECTION_EDGES].n > 0)
        tok->edges.bits = (uint64_t *)(uintptr_t)parts[SECTION_EDGES].bytes;
}

int tokenizer_map(struct tokenizer **out, const char *path, const char *key, struct err *err)
{
    struct part parts[SECTION_COUNT];
    struct header header;
    struct fs_map map = {0};
    struct tokenizer *tok;
    int rc;

    *out = NULL;
    if (!fs_exists(path))
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", path);
    rc = fs_map_open(&map, path, err);
    if (rc == 0)
        rc = check_file(&map, key, &header, parts, err);
    if (rc != 0) {
        fs_map_close(&map);
        return rc;
    }
    tok = mem_calloc(1, sizeof(*tok));
    if (tok == NULL) {
        fs_map_close(&map);
        return mem_err(err, sizeof(*tok));
    }
    tok->map = map;
    take_header(tok, &header);
    take_parts(tok, parts);
    rc = get_small(tok, parts[SECTION_SMALL].bytes, parts[SECTION_SMALL].n, err);
    if (rc != 0)
        tokenizer_free(tok);
    else
        *out = tok;
    return rc;
}
