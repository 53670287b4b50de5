/* Packing, transposing and the two products of training. See train_chain.h for the inner loop. */
#include "kernels/isa/train_chain.h"
#include "kernels/isa/train_parts.h"
#include "kernels/isa/train_turn.h"

void KERNEL(train_pack)(float *packed, const float *x, size_t ldx, size_t n_tokens, size_t n_k)
{
    for (size_t t = 0; t < n_tokens; t += TILE_TOKENS) {
        const size_t n = n_tokens - t < TILE_TOKENS ? n_tokens - t : TILE_TOKENS;
        if (n == TILE_TOKENS) {
            turn(packed + t * n_k, TILE_TOKENS, x + t * ldx, ldx, TILE_TOKENS, n_k);
        } else {
            turn(packed + t * n_k, TILE_TOKENS, x + t * ldx, ldx, n, n_k);
        }
    }
}

void KERNEL(train_transpose)(float *panel, const float *rows, size_t n_rows, size_t n_k)
{
    turn_padded(panel, TRAIN_PANEL, rows, TRAIN_STRIP, n_rows, n_k);
}

void KERNEL(train_product)(const struct train_product *product)
{
    struct chain q = {.n_k = product->n_k,
                      .ldw = TRAIN_PANEL,
                      .ldt = 1,
                      .ldk = TILE_TOKENS,
                      .ldc = product->ldc,
                      .mode = product->mode,
                      .scale = product->scale,
                      .last_lanes = LANES};
    const size_t n_panels = product->n_lanes / LANES;
    if (product->ldx != 0) {
        q.w = product->w;
        q.x = product->x;
        q.ldt = product->ldx;
        q.c = product->c;
        strided_block(&q, product->n_tokens, n_panels);
        return;
    }
    /* a panel that the registers cannot take at once is walked in columns, so that the part in use
     * stays in the first cache */
    const size_t n_tiles = (product->n_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
    for (size_t p = 0; p < n_panels; p += TILE_PANELS) {
        q.w = product->w + p * LANES;
        for (size_t tile = 0; tile < n_tiles; tile++) {
            const size_t t = tile * TILE_TOKENS;
            const size_t left = product->n_tokens - t;
            q.x = product->x + tile * product->x_tile;
            q.ahead = tile + 1 < n_tiles ? product->x_tile : 0;
            q.c = product->c + t * product->ldc + p * LANES;
            packed_block(&q, left < TILE_TOKENS ? left : TILE_TOKENS,
                         n_panels - p < TILE_PANELS ? n_panels - p : TILE_PANELS);
        }
    }
}

/* Tokens are taken in blocks that keep w's columns in the first cache; chains are carried. */
void KERNEL(train_outer)(const struct train_outer *outer)
{
    enum { TOKEN_BLOCK = 128, COLUMN_BLOCK = 32 };
    for (size_t j = 0; j < outer->cols; j += COLUMN_BLOCK) {
        const size_t cols = outer->cols - j < COLUMN_BLOCK ? outer->cols - j : COLUMN_BLOCK;
        for (size_t t = 0; t < outer->n_tokens; t += TOKEN_BLOCK) {
            const size_t left = outer->n_tokens - t;
            const struct chain q = {.n_k = left < TOKEN_BLOCK ? left : TOKEN_BLOCK,
                                    .w = outer->w + t * outer->ldw + j,
                                    .ldw = outer->ldw,
                                    .x = outer->x + t * outer->ldx,
                                    .ldt = 1,
                                    .ldk = outer->ldx,
                                    .c = outer->c + j,
                                    .ldc = outer->ldc,
                                    .mode = TRAIN_CARRY,
                                    .last_lanes = cols % LANES ? cols % LANES : LANES};
            columns_block(&q, outer->rows, (cols + LANES - 1) / LANES);
        }
    }
}
