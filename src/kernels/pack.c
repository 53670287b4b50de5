/* Putting file rows into panels of sixteen. Quants are moved, never changed, and scales stay fp16,
 * so a pack is exactly as large as the rows it was made from (padding aside). */
#include <string.h>

#include "kernels/kernels.h"

enum { Q4_0_BYTES = 18, Q4_1_BYTES = 20, Q8_0_BYTES = 34 };

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

size_t pack_panel_bytes(enum pack_kind kind, size_t n_cols)
{
    const size_t n_blocks = n_cols / KERNEL_BLOCK;
    switch (kind) {
    case PACK_Q4_0:
        return round_up(n_blocks * (256 + 32), 64);
    case PACK_Q4_1:
        return n_blocks * (256 + 64);
    case PACK_Q8:
        return round_up(n_blocks * (512 + 32), 64);
    case PACK_F32:
        return n_cols * KERNEL_LANES * 4;
    default:
        return round_up(n_cols * KERNEL_LANES * 2, 64);
    }
}

/* File order of a 4-bit block: byte j holds column j in its low and column 16 + j in its high half;
 * ours keeps the halves and groups four bytes of each row. */
static void place_q4(const uint8_t *quants, size_t lane, uint8_t *block)
{
    for (size_t g = 0; g < 4; g++) {
        memcpy(block + g * 64 + lane * 4, quants + g * 4, 4);
    }
}

static void place_q8(const uint8_t *quants, size_t lane, uint8_t *block)
{
    for (size_t g = 0; g < 8; g++) {
        uint32_t four;
        memcpy(&four, quants + g * 4, 4);
        four ^= 0x80808080u;
        memcpy(block + g * 64 + lane * 4, &four, 4);
    }
}

static void pack_quantised(enum pack_kind kind, size_t n_cols, const uint8_t *const *rows,
                           uint8_t *out)
{
    const size_t n_blocks = n_cols / KERNEL_BLOCK;
    const size_t quant_bytes = kind == PACK_Q8 ? 512 : 256;
    const size_t scale_bytes = kind == PACK_Q4_1 ? 64 : 32;
    const size_t block_bytes = kind == PACK_Q8     ? Q8_0_BYTES
                               : kind == PACK_Q4_1 ? Q4_1_BYTES
                                                   : Q4_0_BYTES;
    uint8_t *scales = out + n_blocks * quant_bytes;
    for (size_t b = 0; b < n_blocks; b++) {
        for (size_t lane = 0; lane < KERNEL_LANES; lane++) {
            if (rows[lane] == NULL) {
                continue;
            }
            const uint8_t *from = rows[lane] + b * block_bytes;
            uint8_t *scale = scales + b * scale_bytes + lane * 2;
            memcpy(scale, from, 2);
            if (kind == PACK_Q4_1) {
                memcpy(scale + 32, from + 2, 2);
            }
            if (kind == PACK_Q8) {
                place_q8(from + 2, lane, out + b * quant_bytes);
            } else {
                place_q4(from + (kind == PACK_Q4_1 ? 4 : 2), lane, out + b * quant_bytes);
            }
        }
    }
}

void pack_panel(enum pack_kind kind, size_t n_cols, const uint8_t *const rows[KERNEL_LANES],
                uint8_t *out)
{
    for (size_t lane = 0; lane < KERNEL_LANES; lane++) {
        if (rows[lane] == NULL) { /* only a matrix's last panel has padding */
            memset(out, 0, pack_panel_bytes(kind, n_cols));
            break;
        }
    }
    if (pack_is_quantised(kind)) {
        pack_quantised(kind, n_cols, rows, out);
        return;
    }
    const size_t size = kind == PACK_F32 ? 4 : 2;
    for (size_t lane = 0; lane < KERNEL_LANES; lane++) {
        if (rows[lane] == NULL) {
            continue;
        }
        for (size_t k = 0; k < n_cols; k++) {
            memcpy(out + (k * KERNEL_LANES + lane) * size, rows[lane] + k * size, size);
        }
    }
}
