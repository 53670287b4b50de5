/* Rows found in the file, de-quantised, packed. */
#include "engine/native/weights.h"

#include <string.h>

#include "formats/dequant.h"

static const struct {
    enum tensor_type type;
    enum pack_kind kind;
} served[] = {
    {TENSOR_Q4_0, PACK_Q4_0}, {TENSOR_Q4_1, PACK_Q4_1}, {TENSOR_Q8_0, PACK_Q8},
    {TENSOR_F16, PACK_F16},   {TENSOR_BF16, PACK_BF16}, {TENSOR_F32, PACK_F32},
};

int weight_init(struct weight *weight, const struct tensor_view *view, size_t permuted_head,
                struct err *err)
{
    memset(weight, 0, sizeof *weight);
    weight->view = *view;
    weight->n_rows = tensor_view_rows(view);
    weight->n_cols = tensor_view_cols(view);
    weight->row_bytes = tensor_type_row_bytes(view->type, weight->n_cols);
    weight->permuted_head = permuted_head;
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        if (served[i].type == view->type) {
            weight->pack.kind = served[i].kind;
            weight->pack.n_rows = weight->n_rows;
            weight->pack.n_cols = weight->n_cols;
            weight->pack.panel_bytes = pack_panel_bytes(served[i].kind, weight->n_cols);
            return 0;
        }
    }
    return err_set(err, ERR_UNSUPPORTED, "tensor '%s' is %s, which is not served", view->name,
                   tensor_type_name(view->type));
}

static size_t file_row(const struct weight *weight, size_t row)
{
    const size_t head_dim = weight->permuted_head;
    if (head_dim == 0) {
        return row;
    }
    const size_t half = head_dim / 2;
    const size_t in_head = row % head_dim;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

const uint8_t *weight_row(const struct weight *weight, size_t row)
{
    return weight->view.data + file_row(weight, row) * weight->row_bytes;
}

void weight_dequant_row(const struct weight *weight, size_t row, float *out)
{
    tensor_dequant_row(&weight->view, file_row(weight, row), out);
}

size_t weight_packed_bytes(const struct weight *weight)
{
    return pack_panels(weight->n_rows) * weight->pack.panel_bytes;
}

struct pack_task {
    const struct weight *weight;
    uint8_t *out;
};

static void pack_lane(void *ctx, int lane, int lanes)
{
    const struct pack_task *task = ctx;
    const struct weight *w = task->weight;
    size_t begin, end;
    pool_split(pack_panels(w->n_rows), 1, lane, lanes, &begin, &end);
    for (size_t p = begin; p < end; p++) {
        const uint8_t *rows[KERNEL_LANES];
        for (size_t i = 0; i < KERNEL_LANES; i++) {
            const size_t row = p * KERNEL_LANES + i;
            rows[i] = row < w->n_rows ? weight_row(w, row) : NULL;
        }
        pack_panel(w->pack.kind, w->n_cols, rows, task->out + p * w->pack.panel_bytes);
    }
}

void weight_pack(struct weight *weight, uint8_t *out, struct pool *pool)
{
    struct pack_task task = {.weight = weight, .out = out};
    pool_run(pool, pack_lane, &task);
    weight->pack.data = out;
}
