/* Metadata and records first, then one tensor after another, each to its multiple. */
#include "train/merge_int.h"

static int write_tensors(struct merge *m, struct fs_writer *file, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_outs && rc == 0; i++) {
        rc = merge_stream(m, &m->outs[i], file, err);
        rc = rc == 0 ? gguf_write_pad(file, err) : rc;
    }
    return rc;
}

int merge_write_gguf(struct merge *merge, const char *path, struct err *err)
{
    struct gguf_writer writer;
    struct fs_writer file = {0};
    gguf_writer_init(&writer);
    int rc = merge_put_metadata(merge, &writer, err);
    for (size_t i = 0; i < merge->n_outs && rc == 0; i++) {
        const struct merge_out *out = &merge->outs[i];
        rc = gguf_add_tensor(&writer, out->name, out->type, out->dims, out->n_dims, err);
    }
    rc = rc == 0 ? fs_writer_open(&file, path, err) : rc;
    rc = rc == 0 ? gguf_write_head(&writer, &file, err) : rc;
    rc = rc == 0 ? write_tensors(merge, &file, err) : rc;
    merge->result->bytes = file.written;
    rc = rc == 0 ? fs_writer_publish(&file, err) : rc;
    fs_writer_abandon(&file);
    gguf_writer_release(&writer);
    return rc;
}
