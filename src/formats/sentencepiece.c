/* Reading goes over the messages three levels deep with one cursor each: ModelProto { pieces = 1,
 * trainer_spec = 2, normalizer_spec = 3 }, as sentencepiece_model.proto of the SentencePiece
 * project numbers them. Fields that say nothing about encoding are skipped whatever they hold.
 * Pieces are counted first, so that the list is allocated once.
 */
#include "formats/sentencepiece.h"

#include <string.h>

#include "base/mem.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5, MODEL_TYPE_BPE = 2 };

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    struct err *err;
};

struct field {
    uint32_t number;
    uint32_t wire;
    uint64_t value; /* of a varint, or the bits of a fixed one */
    const uint8_t *bytes;
    size_t n;
};

struct span {
    const char *text;
    size_t n;
};

/* What the two specs say, before it is checked. */
struct spec {
    uint64_t model_type;
    bool whitespace_as_suffix;
    bool escape_whitespaces;
    size_t charsmap_bytes;
    struct span bos;
    struct span eos;
    struct span pad;
};

static int corrupt(struct cursor *c, const char *what)
{
    return err_set(c->err, ERR_CORRUPT, "tokenizer.model: %s", what);
}

/* --- the wire ----------------------------------------------------------------------------------
 */
static int read_varint(struct cursor *c, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (c->at == c->end)
            return corrupt(c, "a number is cut off");
        uint8_t byte = *c->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return 0;
        }
    }
    return corrupt(c, "a number of more than 64 bits");
}

static int take(struct cursor *c, uint64_t n, const uint8_t **out)
{
    if (n > (uint64_t)(c->end - c->at))
        return corrupt(c, "a field is longer than what it is in");
    *out = c->at;
    c->at += n;
    return 0;
}

static int read_fixed(struct cursor *c, size_t n, uint64_t *out)
{
    const uint8_t *bytes = NULL;
    int rc = take(c, n, &bytes);

    *out = 0;
    for (size_t i = n; bytes != NULL && i-- > 0;)
        *out = *out << 8 | bytes[i];
    return rc;
}

/* The next field; only while c->at < c->end. */
static int read_field(struct cursor *c, struct field *field)
{
    uint64_t key = 0;
    int rc = read_varint(c, &key);

    memset(field, 0, sizeof(*field));
    if (rc != 0)
        return rc;
    if (key >> 3 == 0 || key >> 3 > UINT32_MAX)
        return corrupt(c, "a field without a proper number");
    field->number = (uint32_t)(key >> 3);
    field->wire = (uint32_t)(key & 7);
    switch (field->wire) {
    case WIRE_VARINT:
        return read_varint(c, &field->value);
    case WIRE_64:
        return read_fixed(c, 8, &field->value);
    case WIRE_32:
        return read_fixed(c, 4, &field->value);
    case WIRE_BYTES: {
        uint64_t n = 0;
        rc = read_varint(c, &n);
        if (rc == 0)
            rc = take(c, n, &field->bytes);
        field->n = (size_t)n;
        return rc;
    }
    default:
        return corrupt(c, "a field of an unknown kind");
    }
}

static int want_wire(struct cursor *c, const struct field *field, uint32_t wire)
{
    return field->wire == wire ? 0 : corrupt(c, "a field of the wrong kind");
}

/* --- pieces ------------------------------------------------------------------------------------
 */
static int read_piece(struct cursor *outer, const struct field *message,
                      struct sentencepiece_piece *piece)
{
    struct cursor c = {message->bytes, message->bytes + message->n, outer->err};
    int rc = 0;

    *piece = (struct sentencepiece_piece){.type = SENTENCEPIECE_NORMAL};
    while (rc == 0 && c.at < c.end) {
        struct field field;
        rc = read_field(&c, &field);
        if (rc != 0)
            return rc;
        if (field.number == 1) {
            rc = want_wire(&c, &field, WIRE_BYTES);
            piece->text = (const char *)field.bytes;
            piece->n = field.n;
        } else if (field.number == 2) {
            uint32_t bits = (uint32_t)field.value;
            rc = want_wire(&c, &field, WIRE_32);
            memcpy(&piece->score, &bits, sizeof(bits));
        } else if (field.number == 3) {
            rc = want_wire(&c, &field, WIRE_VARINT);
            if (rc == 0 && (field.value < SENTENCEPIECE_NORMAL || field.value > SENTENCEPIECE_BYTE))
                rc = corrupt(&c, "a piece of an unknown type");
            piece->type = (int32_t)field.value;
        }
    }
    if (rc == 0 && piece->n == 0)
        rc = corrupt(&c, "a piece without a text");
    return rc;
}

static int add_piece(struct cursor *c, const struct field *field, struct sentencepiece *model)
{
    struct sentencepiece_piece *piece = &model->pieces[model->n_pieces];
    int rc = read_piece(c, field, piece);

    if (rc == 0 && piece->type == SENTENCEPIECE_UNKNOWN) {
        if (model->unk_id >= 0)
            return corrupt(c, "two unknown pieces");
        model->unk_id = (int32_t)model->n_pieces;
    }
    model->n_pieces++;
    return rc;
}

/* --- the two specs -----------------------------------------------------------------------------
 */
static int read_trainer(struct cursor *outer, const struct field *message,
                        struct sentencepiece *model, struct spec *spec)
{
    struct cursor c = {message->bytes, message->bytes + message->n, outer->err};
    int rc = 0;

    while (rc == 0 && c.at < c.end) {
        struct field field;
        rc = read_field(&c, &field);
        if (rc != 0)
            return rc;
        struct span text = {(const char *)field.bytes, field.n};
        switch (field.number) {
        case 3:
            spec->model_type = field.value;
            break;
        case 24:
            spec->whitespace_as_suffix = field.value != 0;
            break;
        case 35:
            model->byte_fallback = field.value != 0;
            break;
        case 46:
            spec->bos = text;
            break;
        case 47:
            spec->eos = text;
            break;
        case 48:
            spec->pad = text;
            break;
        default:
            continue;
        }
        rc = want_wire(&c, &field, field.number < 46 ? WIRE_VARINT : WIRE_BYTES);
    }
    return rc;
}

static int read_normalizer(struct cursor *outer, const struct field *message,
                           struct sentencepiece *model, struct spec *spec)
{
    struct cursor c = {message->bytes, message->bytes + message->n, outer->err};
    int rc = 0;

    while (rc == 0 && c.at < c.end) {
        struct field field;
        rc = read_field(&c, &field);
        if (rc != 0)
            return rc;
        switch (field.number) {
        case 2:
            spec->charsmap_bytes = field.n;
            break;
        case 3:
            model->add_dummy_prefix = field.value != 0;
            break;
        case 4:
            model->remove_extra_whitespaces = field.value != 0;
            break;
        case 5:
            spec->escape_whitespaces = field.value != 0;
            break;
        default:
            continue;
        }
        rc = want_wire(&c, &field, field.number == 2 ? WIRE_BYTES : WIRE_VARINT);
    }
    return rc;
}

/* --- the whole ---------------------------------------------------------------------------------
 */
static int count_pieces(struct cursor c, size_t *n)
{
    *n = 0;
    while (c.at < c.end) {
        struct field field;
        int rc = read_field(&c, &field);
        if (rc == 0 && field.number == 1)
            rc = want_wire(&c, &field, WIRE_BYTES);
        if (rc != 0)
            return rc;
        *n += field.number == 1;
    }
    if (*n == 0)
        return corrupt(&c, "no pieces");
    if (*n > SENTENCEPIECE_PIECES_MAX)
        return err_set(c.err, ERR_TOO_LARGE, "tokenizer.model: %zu pieces, at most %d", *n,
                       SENTENCEPIECE_PIECES_MAX);
    return 0;
}

/* The control piece with this text, or −1. */
static int32_t control_of(const struct sentencepiece *model, struct span name)
{
    for (size_t i = 0; i < model->n_pieces; i++) {
        const struct sentencepiece_piece *piece = &model->pieces[i];
        if (piece->type == SENTENCEPIECE_CONTROL && piece->n == name.n &&
            memcmp(piece->text, name.text, name.n) == 0)
            return (int32_t)i;
    }
    return -1;
}

static int check(struct cursor *c, struct sentencepiece *model, const struct spec *spec)
{
    static const char *const names[] = {"", "unigram", "BPE", "word", "character"};

    if (spec->model_type != MODEL_TYPE_BPE)
        return err_set(c->err, ERR_UNSUPPORTED,
                       "tokenizer.model: a model of type '%s' is not served, BPE is",
                       spec->model_type < 5 ? names[spec->model_type] : "unknown");
    if (spec->charsmap_bytes > 0)
        return err_set(c->err, ERR_UNSUPPORTED,
                       "tokenizer.model: a normaliser with a character map (%zu bytes) is not "
                       "served",
                       spec->charsmap_bytes);
    if (spec->whitespace_as_suffix || !spec->escape_whitespaces)
        return err_set(c->err, ERR_UNSUPPORTED, "tokenizer.model: %s is not served",
                       spec->whitespace_as_suffix ? "treat_whitespace_as_suffix"
                                                  : "escape_whitespaces false");
    if (model->unk_id < 0)
        return corrupt(c, "no unknown piece");
    model->bos_id = control_of(model, spec->bos);
    model->eos_id = control_of(model, spec->eos);
    model->pad_id = control_of(model, spec->pad);
    return 0;
}

static int read_all(struct cursor c, struct sentencepiece *model, struct spec *spec)
{
    int rc = 0;

    while (rc == 0 && c.at < c.end) {
        struct field field;
        rc = read_field(&c, &field);
        if (rc == 0 && (field.number == 2 || field.number == 3))
            rc = want_wire(&c, &field, WIRE_BYTES);
        if (rc != 0)
            return rc;
        if (field.number == 1)
            rc = add_piece(&c, &field, model);
        else if (field.number == 2)
            rc = read_trainer(&c, &field, model, spec);
        else if (field.number == 3)
            rc = read_normalizer(&c, &field, model, spec);
    }
    return rc != 0 ? rc : check(&c, model, spec);
}

int sentencepiece_parse(struct sentencepiece *model, const void *data, size_t size, struct err *err)
{
    struct spec spec = {.model_type = 1,
                        .escape_whitespaces = true,
                        .bos = {"<s>", 3},
                        .eos = {"</s>", 4},
                        .pad = {"<pad>", 5}};
    struct cursor c = {.at = data, .err = err};
    size_t n = 0;
    int rc;

    *model = (struct sentencepiece){.add_dummy_prefix = true,
                                    .remove_extra_whitespaces = true,
                                    .unk_id = -1,
                                    .bos_id = -1,
                                    .eos_id = -1,
                                    .pad_id = -1};
    if (size > SENTENCEPIECE_FILE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "tokenizer.model of %zu bytes, at most %d", size,
                       SENTENCEPIECE_FILE_BYTES_MAX);
    if (size == 0)
        return corrupt(&c, "the file is empty");
    c.end = c.at + size;
    rc = count_pieces(c, &n);
    if (rc != 0)
        return rc;
    model->pieces = mem_calloc(n, sizeof(*model->pieces));
    if (model->pieces == NULL)
        return mem_err(err, n * sizeof(*model->pieces));
    rc = read_all(c, model, &spec);
    if (rc != 0)
        sentencepiece_release(model);
    return rc;
}

void sentencepiece_release(struct sentencepiece *model)
{
    mem_free(model->pieces);
    memset(model, 0, sizeof(*model));
}
