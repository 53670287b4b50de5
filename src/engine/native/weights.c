/* Rows found in the file, de-quantised, packed. */
#include "engine/native/weights.h"

#include <string.h>

#include "formats/dequant.h"

static const struct {
    enum tensor_type type;
    enum pack_kind kind;
} served[] = {
    {TENSOR_Q4_0, PACK_Q4_0}, {TENSOR_Q4_1, PACK_Q4_1}, {TENSOR_Q5_0, PACK_Q5_0},
    {TENSOR_Q5_1, PACK_Q5_1}, {TENSOR_Q8_0, PACK_Q8},   {TENSOR_Q4_K, PACK_Q4_K},
    {TENSOR_Q5_K, PACK_Q5_K}, {TENSOR_Q6_K, PACK_Q6_K}, {TENSOR_MLX4, PACK_A4},
    {TENSOR_MLX8, PACK_A8},   {TENSOR_F16, PACK_F16},   {TENSOR_BF16, PACK_BF16},
    {TENSOR_F32, PACK_F32},
};

/* PACK_KIND_COUNT for a type without a kernel. */
static enum pack_kind kind_of(enum tensor_type type)
{
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        if (served[i].type == type) {
            return served[i].kind;
        }
    }
    return PACK_KIND_COUNT;
}

static struct pack unfilled_pack(const struct weight *weight, enum pack_kind kind)
{
    struct pack pack = {.kind = kind, .n_rows = weight->n_rows, .n_cols = weight->n_cols};
    if (pack_is_affine(kind)) {
        while ((size_t)KERNEL_BLOCK << pack.group_shift < weight->view.group) {
            pack.group_shift++;
        }
        pack.scale_kind = kind_of(weight->view.scale_type);
        pack.panel_bytes =
            pack_affine_panel_bytes(kind, pack.n_cols, pack.group_shift, pack.scale_kind);
    } else {
        pack.panel_bytes = pack_panel_bytes(kind, pack.n_cols);
    }
    return pack;
}

int weight_init(struct weight *weight, const struct tensor_view *view, size_t permuted_head,
                struct err *err)
{
    memset(weight, 0, sizeof *weight);
    const enum pack_kind kind = kind_of(view->type);
    if (kind == PACK_KIND_COUNT) {
        return err_set(err, ERR_UNSUPPORTED, "tensor '%s' is %s, which is not served", view->name,
                       tensor_type_name(view->type));
    }
    weight->view = *view;
    weight->n_rows = tensor_view_rows(view);
    weight->n_cols = tensor_view_cols(view);
    weight->row_bytes = tensor_type_row_bytes(view->type, weight->n_cols);
    weight->permuted_head = permuted_head;
    weight->pack = unfilled_pack(weight, kind);
    return 0;
}

/* Where row `in_head` of an interleaved head stands in the file. */
static size_t interleaved(size_t in_head, size_t head_dim)
{
    const size_t half = head_dim / 2;
    return in_head < half ? 2 * in_head : 2 * (in_head - half) + 1;
}

static size_t file_row(const struct weight *weight, size_t row)
{
    const size_t head_dim = weight->permuted_head;
    if (head_dim == 0) {
        return row;
    }
    const size_t in_head = row % head_dim;
    return row - in_head + interleaved(in_head, head_dim);
}

void weight_rows(const struct weight *weight, size_t row, size_t n, const uint8_t **rows)
{
    const uint8_t *data = weight->view.data;
    const size_t head_dim = weight->permuted_head, bytes = weight->row_bytes;
    if (head_dim == 0) {
        for (size_t i = 0; i < n; i++) {
            rows[i] = data + (row + i) * bytes;
        }
        return;
    }
    size_t in_head = row % head_dim, head = row - in_head;
    for (size_t i = 0; i < n; i++, in_head++) {
        if (in_head == head_dim) {
            in_head = 0;
            head += head_dim;
        }
        rows[i] = data + (head + interleaved(in_head, head_dim)) * bytes;
    }
}

void weight_dequant_row(const struct weight *weight, size_t row, float *out)
{
    tensor_dequant_row(&weight->view, file_row(weight, row), out);
}

size_t weight_scale_row_bytes(const struct weight *weight)
{
    return weight->n_cols / weight->view.group * tensor_type_block_bytes(weight->view.scale_type);
}

size_t weight_packed_bytes(const struct weight *weight)
{
    return pack_panels(weight->n_rows) * weight->pack.panel_bytes;
}

struct pack_task {
    const struct weight *weight;
    uint8_t *out;
};

static void pack_one(const struct weight *w, size_t panel, uint8_t *out)
{
    struct pack_affine_rows rows = {0};
    const struct tensor_view *view = &w->view;
    const bool affine = pack_is_affine(w->pack.kind);
    const size_t first = panel * KERNEL_LANES, left = w->n_rows - first;
    const size_t n = left < KERNEL_LANES ? left : KERNEL_LANES;
    weight_rows(w, first, n, rows.quants);
    for (size_t i = 0; affine && i < n; i++) {
        const size_t at = file_row(w, first + i) * weight_scale_row_bytes(w);
        rows.scales[i] = view->scales + at;
        rows.biases[i] = view->biases + at;
    }
    if (affine) {
        pack_affine_panel(&w->pack, &rows, out);
    } else {
        pack_panel(w->pack.kind, w->n_cols, rows.quants, out);
    }
}

static void pack_lane(void *ctx, int lane, int lanes)
{
    const struct pack_task *task = ctx;
    const struct weight *w = task->weight;
    size_t begin, end;
    pool_split(pack_panels(w->n_rows), 1, lane, lanes, &begin, &end);
    for (size_t p = begin; p < end; p++) {
        pack_one(w, p, task->out + p * w->pack.panel_bytes);
    }
}

void weight_pack(struct weight *weight, uint8_t *out, struct pool *pool)
{
    struct pack_task task = {.weight = weight, .out = out};
    pool_run(pool, pack_lane, &task);
    weight->pack.data = out;
}
