/* Everything is appended in its final form; only the counts wait for the end. */
#include "formats/gguf_write.h"

#include <string.h>

#include "formats/gguf_private.h"

enum { VERSION = 3, LITTLE_MAGIC_BYTES = 4 };

void gguf_writer_init(struct gguf_writer *writer)
{
    memset(writer, 0, sizeof *writer);
    buf_init(&writer->metadata, GGUF_HEAD_BYTES_MAX);
    buf_init(&writer->records, GGUF_HEAD_BYTES_MAX);
}

void gguf_writer_release(struct gguf_writer *writer)
{
    buf_release(&writer->metadata);
    buf_release(&writer->records);
}

static void put_number(struct buf *buf, uint64_t value, unsigned n_bytes)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    buf_append(buf, bytes, n_bytes);
}

static void put_text(struct buf *buf, const char *text, size_t length)
{
    put_number(buf, length, 8);
    buf_append(buf, text, length);
}

static void put_key(struct gguf_writer *writer, const char *key, enum gguf_type type)
{
    put_text(&writer->metadata, key, strlen(key));
    put_number(&writer->metadata, (uint64_t)type, 4);
    writer->n_kv++;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void gguf_put_u32(struct gguf_writer *writer, const char *key, uint32_t value)
{
    put_key(writer, key, GGUF_U32);
    put_number(&writer->metadata, value, 4);
}

void gguf_put_f32(struct gguf_writer *writer, const char *key, float value)
{
    put_key(writer, key, GGUF_F32);
    put_number(&writer->metadata, bits_of(value), 4);
}

void gguf_put_bool(struct gguf_writer *writer, const char *key, bool value)
{
    put_key(writer, key, GGUF_BOOL);
    put_number(&writer->metadata, value, 1);
}

void gguf_put_string(struct gguf_writer *writer, const char *key, const char *text, size_t length)
{
    put_key(writer, key, GGUF_STRING);
    put_text(&writer->metadata, text, length);
}

void gguf_put_array(struct gguf_writer *writer, const char *key, enum gguf_type type,
                    uint64_t count)
{
    put_key(writer, key, GGUF_ARRAY);
    put_number(&writer->metadata, (uint64_t)type, 4);
    put_number(&writer->metadata, count, 8);
}

void gguf_put_item_i32(struct gguf_writer *writer, int32_t value)
{
    put_number(&writer->metadata, (uint32_t)value, 4);
}

void gguf_put_item_f32(struct gguf_writer *writer, float value)
{
    put_number(&writer->metadata, bits_of(value), 4);
}

void gguf_put_item_string(struct gguf_writer *writer, const char *text, size_t length)
{
    put_text(&writer->metadata, text, length);
}

static void copy_array(struct gguf_writer *writer, const char *key, const struct gguf_array *array)
{
    gguf_put_array(writer, key, array->item_type, array->count);
    if (array->item_type != GGUF_STRING) {
        buf_append(&writer->metadata, array->data,
                   array->count * gguf_type_bytes(array->item_type));
        return;
    }
    for (uint64_t i = 0; i < array->count; i++) {
        size_t length;
        const char *text = gguf_array_string(array, i, &length);
        put_text(&writer->metadata, text, length);
    }
}

void gguf_put_copy(struct gguf_writer *writer, const struct gguf *from, size_t i)
{
    const struct gguf_kv *kv = &from->kv[i];
    if (kv->type == GGUF_ARRAY) {
        copy_array(writer, kv->key, &kv->array);
        return;
    }
    put_key(writer, kv->key, kv->type);
    if (kv->type == GGUF_STRING)
        put_text(&writer->metadata, (const char *)kv->value, (size_t)kv->length);
    else
        buf_append(&writer->metadata, kv->value, gguf_type_bytes(kv->type));
}

/* How many bytes bring n up to the next multiple of the alignment. */
static uint64_t padding(uint64_t n)
{
    const uint64_t over = n % GGUF_ALIGNMENT_DEFAULT;
    return over > 0 ? GGUF_ALIGNMENT_DEFAULT - over : 0;
}

int gguf_add_tensor(struct gguf_writer *writer, const char *name, enum tensor_type type,
                    const uint64_t *dims, unsigned n_dims, struct err *err)
{
    uint32_t number = 0;
    uint64_t bytes = 0;
    int rc = gguf_type_number(type, &number)
                 ? tensor_shape_bytes(name, type, dims, n_dims, &bytes, err)
                 : err_set(err, ERR_UNSUPPORTED, "GGUF cannot hold tensor '%s' of type %s", name,
                           tensor_type_name(type));
    if (rc != 0)
        return rc;
    put_text(&writer->records, name, strlen(name));
    put_number(&writer->records, n_dims, 4);
    for (unsigned i = n_dims; i-- > 0;)
        put_number(&writer->records, dims[i], 8);
    put_number(&writer->records, number, 4);
    put_number(&writer->records, writer->data_bytes, 8);
    writer->data_bytes += bytes + padding(bytes);
    writer->n_tensors++;
    return 0;
}

int gguf_write_pad(struct fs_writer *file, struct err *err)
{
    static const uint8_t zeros[GGUF_ALIGNMENT_DEFAULT];
    return fs_writer_write(file, zeros, (size_t)padding(file->written), err);
}

int gguf_write_head(const struct gguf_writer *writer, struct fs_writer *file, struct err *err)
{
    struct buf head;
    int rc;
    if ((rc = buf_check(&writer->metadata, "GGUF's metadata", err)) != 0 ||
        (rc = buf_check(&writer->records, "GGUF's list of tensors", err)) != 0)
        return rc;
    if (writer->n_kv > GGUF_KV_MAX || writer->n_tensors > GGUF_TENSORS_MAX)
        return err_set(err, ERR_TOO_LARGE, "too many tensors or too much metadata for GGUF");
    buf_init(&head, 64);
    buf_append(&head, "GGUF", LITTLE_MAGIC_BYTES);
    put_number(&head, VERSION, 4);
    put_number(&head, writer->n_tensors, 8);
    put_number(&head, writer->n_kv, 8);
    rc = buf_check(&head, "GGUF's header", err);
    if (rc == 0)
        rc = fs_writer_write(file, head.data, head.len, err);
    if (rc == 0)
        rc = fs_writer_write(file, writer->metadata.data, writer->metadata.len, err);
    if (rc == 0)
        rc = fs_writer_write(file, writer->records.data, writer->records.len, err);
    buf_release(&head);
    return rc == 0 ? gguf_write_pad(file, err) : rc;
}
