/* Rows are collected into pieces of MERGE_PIECE_BYTES, one write each. Of an affine matrix the
 * words go out as they come; its scales and biases, a sixteenth of them, are kept until the words
 * are done. */
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "train/merge_int.h"

struct stream {
    struct merge *merge;
    const struct merge_out *out;
    struct fs_writer *file;
    uint8_t *piece;
    size_t used;
    float *row, *turned;       /* cols values each */
    uint8_t *scales, *biases;  /* of the whole matrix */
    size_t row_bytes, n_scale; /* of what goes out: a row's words, a row's scales */
    uint64_t row_at;           /* in the new tensor */
    bool merged, rounded;      /* a factor was folded in; a value became another */
};

static int check_hooks(struct merge *m, struct err *err)
{
    if (m->hooks == NULL || m->hooks->poll == NULL) {
        return 0;
    }
    if (m->hooks->progress != NULL) {
        const struct train_progress progress = {.step = (int64_t)(m->bytes_done >> 20),
                                                .steps = (int64_t)(m->bytes_total >> 20) + 1,
                                                .epoch = (double)NAN,
                                                .loss = (double)NAN,
                                                .val_loss = (double)NAN,
                                                .learning_rate = (double)NAN,
                                                .grad_norm = (double)NAN,
                                                .tokens_per_second = (double)NAN,
                                                .eta_seconds = (double)NAN};
        m->hooks->progress(m->hooks->ctx, &progress, false);
    }
    switch (m->hooks->poll(m->hooks->ctx)) {
    case TRAIN_CANCEL:
    case TRAIN_ABANDON:
        return err_set(err, ERR_CANCELLED, "writing was cancelled");
    case TRAIN_CHECKPOINT_AND_STOP:
        return err_set(err, ERR_CLOSED, "writing was stopped");
    default:
        return 0;
    }
}

static int flush(struct stream *s, struct err *err)
{
    const int rc = s->used > 0 ? fs_writer_write(s->file, s->piece, s->used, err) : 0;
    s->merge->bytes_done += s->used;
    s->used = 0;
    return rc == 0 ? check_hooks(s->merge, err) : rc;
}

/* Room for one more row; rows are no longer than a piece, or have a piece of their own. */
static int next_row(struct stream *s, uint8_t **at, struct err *err)
{
    const size_t room = s->row_bytes > MERGE_PIECE_BYTES ? s->row_bytes : MERGE_PIECE_BYTES;
    const int rc = s->used + s->row_bytes > room ? flush(s, err) : 0;
    *at = s->piece + s->used;
    s->used += s->row_bytes;
    return rc;
}

static int write_bytes(struct stream *s, const uint8_t *bytes, uint64_t n, struct err *err)
{
    int rc = flush(s, err);
    for (uint64_t at = 0; at < n && rc == 0; at += MERGE_PIECE_BYTES) {
        const uint64_t left = n - at;
        const size_t take = left < MERGE_PIECE_BYTES ? (size_t)left : MERGE_PIECE_BYTES;
        rc = fs_writer_write(s->file, bytes + at, take, err);
        s->merge->bytes_done += take;
        rc = rc == 0 ? check_hooks(s->merge, err) : rc;
    }
    return rc;
}

/* Hugging Face's row that goes out as row r. */
static uint64_t wanted_row(const struct stream *s, uint64_t r)
{
    const uint32_t head_dim = model_files_config(s->merge->base)->head_dim;
    if (!s->out->permuted || s->out->n_dims != 2) {
        return r;
    }
    const uint64_t in_head = r % head_dim;
    return r - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
}

/* A vector in the order that goes out. */
static void arrange(struct stream *s, size_t cols)
{
    const uint32_t head_dim = model_files_config(s->merge->base)->head_dim;
    if (s->out->plus_one) {
        for (size_t c = 0; c < cols; c++) {
            s->row[c] += 1.0f;
        }
    }
    if (!s->out->permuted || s->out->n_dims != 1) {
        return;
    }
    memcpy(s->turned, s->row, cols * sizeof *s->row);
    for (size_t c = 0; c < cols; c++) {
        const size_t in_head = c % head_dim;
        s->row[c] = s->turned[c - in_head + in_head % 2 * (head_dim / 2) + in_head / 2];
    }
}

/* Whether a plain type's bytes say the very values. */
static bool said(enum tensor_type type, const float *values, size_t n, const uint8_t *bytes)
{
    for (size_t i = 0; i < n && type != TENSOR_F32 && !tensor_type_quantised(type); i++) {
        const uint16_t half = (uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
        if ((type == TENSOR_F16 ? half_to_float(half) : bfloat_to_float(half)) != values[i]) {
            return false;
        }
    }
    return true;
}

/* What fp16 cannot say would be written as infinity. */
static int check_range(const struct stream *s, const struct tensor_view *view, size_t n,
                       struct err *err)
{
    for (size_t i = 0; i < n && s->out->type == TENSOR_F16; i++) {
        if (fabsf(s->row[i]) >= 65520.0f) {
            return err_set(err, ERR_UNSUPPORTED,
                           "%s holds %g, which f16 cannot: take --type bf16 or f32", view->name,
                           (double)s->row[i]);
        }
    }
    return 0;
}

static int stream_row(struct stream *s, const struct merge_rows *rows, uint64_t r, struct err *err)
{
    const struct merge_out *out = s->out;
    const struct tensor_view *view = rows->view;
    const size_t cols = (size_t)tensor_view_cols(view);
    uint8_t *at, *scales = s->scales + s->row_at * s->n_scale;
    uint8_t *biases = s->biases + s->row_at * s->n_scale;
    int rc = next_row(s, &at, err);
    if (rc != 0) {
        return rc;
    }
    s->row_at++;
    switch (out->way) {
    case MERGE_REPACK:
        merge_repack_row(view, merge_rows_source(rows, wanted_row(s, r)), out->bits, at, scales,
                         biases);
        return 0;
    case MERGE_AFFINE_COPY:
        memcpy(at, view->data + r * s->row_bytes, s->row_bytes);
        memcpy(scales, view->scales + r * s->n_scale, s->n_scale);
        memcpy(biases, view->biases + r * s->n_scale, s->n_scale);
        return 0;
    case MERGE_Q4_1:
        merge_q4_1_row(view, wanted_row(s, r), at);
        return 0;
    default:
        break;
    }
    rc = merge_rows_get(rows, wanted_row(s, r), s->row, err);
    arrange(s, cols);
    if (rc == 0 && out->way == MERGE_AFFINE) {
        merge_quantize_row(s->row, cols, out->group, out->bits, out->scale_type,
                           s->merge->spec->format == MERGE_SAFETENSORS, at, scales, biases);
        return rc;
    }
    rc = rc == 0 ? check_range(s, view, cols, err) : rc;
    if (rc == 0) {
        merge_encode(out->type, s->row, cols, at);
        s->rounded = s->rounded || !said(out->type, s->row, cols, at);
    }
    return rc;
}

static int stream_part(struct stream *s, const struct tensor_view *view, struct err *err)
{
    struct merge_rows rows;
    int rc = merge_rows_open(&rows, s->merge, view, err);
    if (rc != 0) {
        return rc;
    }
    s->merge->result->merged += rows.rank > 0;
    s->merged = s->merged || rows.rank > 0;
    for (uint64_t r = 0; r < tensor_view_rows(view) && rc == 0; r++) {
        rc = stream_row(s, &rows, r, err);
    }
    merge_rows_close(&rows);
    return rc;
}

static bool is_affine(enum merge_way way)
{
    return way == MERGE_AFFINE || way == MERGE_REPACK || way == MERGE_AFFINE_COPY;
}

static int stream_open(struct stream *s, struct err *err)
{
    const struct merge_out *out = s->out;
    const size_t cols = (size_t)out->dims[out->n_dims - 1];
    const size_t rows = out->n_dims == 2 ? (size_t)out->dims[0] : 1;
    const bool affine = is_affine(out->way);
    s->row_bytes =
        affine ? cols * (size_t)out->bits / 8 : (size_t)tensor_type_row_bytes(out->type, cols);
    s->n_scale = affine ? cols / out->group * tensor_type_block_bytes(out->scale_type) : 0;
    s->piece = mem_alloc(s->row_bytes > MERGE_PIECE_BYTES ? s->row_bytes : MERGE_PIECE_BYTES);
    s->row = mem_calloc(2 * cols, sizeof *s->row);
    s->scales = mem_alloc(2 * rows * s->n_scale + 1);
    if (s->piece == NULL || s->row == NULL || s->scales == NULL) {
        return mem_err(err, s->row_bytes + 2 * rows * s->n_scale);
    }
    s->turned = s->row + cols;
    s->biases = s->scales + rows * s->n_scale;
    return 0;
}

/* What became of the tensor's values. */
static void count(const struct stream *s)
{
    struct merge_result *result = s->merge->result;
    const struct merge_out *out = s->out;
    const bool values = out->way == MERGE_VALUES || out->way == MERGE_AFFINE;
    const bool quantised = out->way == MERGE_AFFINE || tensor_type_quantised(out->type);
    const bool before = out->n_parts > 0 && tensor_type_quantised(out->parts[0]->type);
    result->tensors++;
    if (s->merged) {
        return;
    }
    result->requantised += values && quantised && before;
    result->quantised += values && quantised && !before;
    result->rounded += values && !quantised && s->rounded;
    result->exact += !values || (!quantised && !s->rounded);
}

int merge_stream(struct merge *merge, const struct merge_out *out, struct fs_writer *file,
                 struct err *err)
{
    struct stream s = {.merge = merge, .out = out, .file = file};
    int rc = stream_open(&s, err);
    if (rc == 0 && out->way == MERGE_GIVEN) {
        rc = write_bytes(&s, (const uint8_t *)out->given, out->bytes, err);
    } else if (rc == 0 && out->way == MERGE_VERBATIM) {
        rc = write_bytes(&s, out->parts[0]->data, out->bytes, err);
    } else {
        for (unsigned i = 0; i < out->n_parts && rc == 0; i++) {
            rc = stream_part(&s, out->parts[i], err);
        }
        rc = rc == 0 ? flush(&s, err) : rc;
        rc = rc == 0 ? write_bytes(&s, s.scales, s.row_at * s.n_scale, err) : rc;
        rc = rc == 0 ? write_bytes(&s, s.biases, s.row_at * s.n_scale, err) : rc;
    }
    mem_free(s.piece);
    mem_free(s.row);
    mem_free(s.scales);
    if (rc == 0) {
        count(&s);
    }
    return rc;
}
