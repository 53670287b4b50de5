/* Putting file rows into panels of sixteen. Quants are moved, never changed, and scales stay as
 * small as they were (a K type's six bits become eight), so a pack is as large as the rows it was
 * made from, padding aside.
 *
 * Each type brings a block of one row into one of two forms, and these are placed: sixteen bytes of
 * nibbles (byte j holds column j low and column 16 + j high, which is how the 32-column types of
 * GGUF have them) with the upper bits apart, or 32 bytes. */
#include <string.h>

#include "kernels/kernels.h"

enum {
    Q4_0_BYTES = 18,
    Q4_1_BYTES = 20,
    Q5_0_BYTES = 22,
    Q5_1_BYTES = 24,
    Q8_0_BYTES = 34,
    Q4_K_BYTES = 144,
    Q5_K_BYTES = 176,
    Q6_K_BYTES = 210,
    SUPER_SCALES_Q45 = 64 + KERNEL_SUPER * 32, /* scales of eight blocks of sixteen rows */
    SUPER_SCALES_Q6 = 32 + KERNEL_SUPER * 32
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t float_bytes(enum pack_kind kind)
{
    return kind == PACK_F32 ? 4 : 2;
}

size_t pack_panel_bytes(enum pack_kind kind, size_t n_cols)
{
    const size_t n_blocks = n_cols / KERNEL_BLOCK;
    const size_t quants = n_blocks * pack_quant_bytes(kind);
    switch (kind) {
    case PACK_Q4_0:
    case PACK_Q5_0:
    case PACK_Q8:
        return round_up(quants + n_blocks * 32, 64);
    case PACK_Q4_1:
    case PACK_Q5_1:
        return quants + n_blocks * 64;
    case PACK_Q4_K:
    case PACK_Q5_K:
        return quants + n_blocks / KERNEL_SUPER * SUPER_SCALES_Q45;
    case PACK_Q6_K:
        return round_up(quants + n_blocks / KERNEL_SUPER * SUPER_SCALES_Q6, 64);
    default:
        return round_up(n_cols * KERNEL_LANES * float_bytes(kind), 64);
    }
}

size_t pack_affine_panel_bytes(enum pack_kind kind, size_t n_cols, unsigned group_shift,
                               enum pack_kind scale_kind)
{
    const size_t n_blocks = n_cols / KERNEL_BLOCK;
    return n_blocks * pack_quant_bytes(kind) +
           (n_blocks >> group_shift) * 2 * KERNEL_LANES * float_bytes(scale_kind);
}

/* --- placing one row's block --- */
static void place_nibbles(const uint8_t nibbles[16], size_t lane, uint8_t *block)
{
    for (size_t g = 0; g < 4; g++) {
        memcpy(block + g * 64 + lane * 4, nibbles + g * 4, 4);
    }
}

static void place_bytes(const uint8_t bytes[KERNEL_BLOCK], uint32_t flip, size_t lane,
                        uint8_t *block)
{
    for (size_t g = 0; g < 8; g++) {
        uint32_t four;
        memcpy(&four, bytes + g * 4, 4);
        four ^= flip;
        memcpy(block + g * 64 + lane * 4, &four, 4);
    }
}

/* Fifth bits given as one word, column i its bit i. The product sets bits 0–3 of a group apart, one
 * to a byte. */
static void place_fifth(uint32_t fifth, size_t lane, uint8_t *block)
{
    uint32_t four = 0;
    for (unsigned g = 0; g < 8; g++) {
        four |= ((fifth >> (4 * g) & 15) * 0x00204081u & 0x01010101u) << g;
    }
    for (unsigned j = 0; j < 4; j++) {
        block[256 + lane * 4 + j] = (uint8_t)(four >> (8 * j));
    }
}

/* Columns 0–15 in the low, 16–31 in the high nibbles of sixteen bytes, from 32 bytes of which each
 * holds its column's four bits at `shift`. */
static void merge_nibbles(const uint8_t *bytes, unsigned shift, uint8_t nibbles[16])
{
    for (size_t i = 0; i < 16; i++) {
        nibbles[i] = (uint8_t)((bytes[i] >> shift & 15) | (bytes[16 + i] >> shift & 15) << 4);
    }
}

/* Four bytes, each with `width` bits at `shift`, moved to `to` and added to what block holds. */
static void place_upper(const uint8_t *from, unsigned shift, unsigned width, unsigned to,
                        uint8_t *block)
{
    for (unsigned j = 0; j < 4; j++) {
        block[j] = (uint8_t)(block[j] | (from[j] >> shift & ((1u << width) - 1)) << to);
    }
}

/* --- types with blocks of 32 --- */
static void place_block32(enum pack_kind kind, const uint8_t *from, size_t lane, uint8_t *block,
                          uint8_t *scale)
{
    const bool offset = kind == PACK_Q4_1 || kind == PACK_Q5_1;
    const bool five = kind == PACK_Q5_0 || kind == PACK_Q5_1;
    memcpy(scale + lane * 2, from, 2);
    from += 2;
    if (offset) {
        memcpy(scale + 32 + lane * 2, from, 2);
        from += 2;
    }
    if (kind == PACK_Q8) {
        place_bytes(from, 0x80808080u, lane, block);
        return;
    }
    if (five) {
        const uint32_t fifth = (uint32_t)from[0] | (uint32_t)from[1] << 8 |
                               (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
        place_fifth(fifth, lane, block);
        from += 4;
    }
    place_nibbles(from, lane, block);
}

static size_t block32_bytes(enum pack_kind kind)
{
    switch (kind) {
    case PACK_Q4_0:
        return Q4_0_BYTES;
    case PACK_Q4_1:
        return Q4_1_BYTES;
    case PACK_Q5_0:
        return Q5_0_BYTES;
    case PACK_Q5_1:
        return Q5_1_BYTES;
    default:
        return Q8_0_BYTES;
    }
}

static void pack_row32(enum pack_kind kind, size_t n_blocks, const uint8_t *row, size_t lane,
                       uint8_t *out)
{
    const size_t quant_bytes = pack_quant_bytes(kind);
    const size_t scale_bytes = kind == PACK_Q4_1 || kind == PACK_Q5_1 ? 64 : 32;
    const size_t block_bytes = block32_bytes(kind);
    uint8_t *scales = out + n_blocks * quant_bytes;
    for (size_t b = 0; b < n_blocks; b++) {
        place_block32(kind, row + b * block_bytes, lane, out + b * quant_bytes,
                      scales + b * scale_bytes);
    }
}

/* --- K types: 256 columns, described in formats/dequant.c --- */
static void place_super45(enum pack_kind kind, const uint8_t *from, size_t lane, uint8_t *out,
                          uint8_t *scales)
{
    const uint8_t *packed = from + 4;
    const uint8_t *fifth = from + 16;
    const uint8_t *nibbles = from + (kind == PACK_Q5_K ? 48 : 16);
    memcpy(scales + lane * 2, from, 2);
    scales[32 + lane * 2] = from[2];
    scales[32 + lane * 2 + 1] = from[3] ^ 0x80; /* minimums are taken away */
    for (unsigned s = 0; s < KERNEL_SUPER; s++) {
        uint8_t *block = out + s * pack_quant_bytes(kind);
        uint8_t *small = scales + 64 + s * 32;
        uint8_t merged[16];
        merge_nibbles(nibbles + s / 2 * 32, s % 2 * 4, merged);
        place_nibbles(merged, lane, block);
        small[lane] =
            s < 4 ? packed[s] & 63 : (uint8_t)((packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4);
        small[16 + lane] =
            s < 4 ? packed[s + 4] & 63 : (uint8_t)((packed[s + 4] >> 4) | (packed[s] >> 6) << 4);
        if (kind != PACK_Q5_K) {
            continue;
        }
        uint8_t *upper = block + 256 + lane * 4;
        memset(upper, 0, 4);
        for (unsigned g = 0; g < 8; g++) {
            place_upper(fifth + 4 * g, s, 1, g, upper);
        }
    }
}

static void place_super6(const uint8_t *from, size_t lane, uint8_t *out, uint8_t *scales)
{
    memcpy(scales + lane * 2, from + 208, 2);
    for (unsigned s = 0; s < KERNEL_SUPER; s++) {
        const unsigned half = s / 4, j = s % 4;
        const uint8_t *high = from + 128 + half * 32;
        uint8_t *block = out + s * pack_quant_bytes(PACK_Q6_K);
        uint8_t *small = scales + 32 + s * 32;
        uint8_t merged[16];
        merge_nibbles(from + half * 64 + j % 2 * 32, j / 2 * 4, merged);
        place_nibbles(merged, lane, block);
        small[lane] = from[192 + 2 * s];
        small[16 + lane] = from[192 + 2 * s + 1];
        for (unsigned part = 0; part < 2; part++) {
            uint8_t *upper = block + 256 + part * 64 + lane * 4;
            memset(upper, 0, 4);
            for (unsigned g = 0; g < 4; g++) {
                place_upper(high + 16 * part + 4 * g, 2 * j, 2, 2 * g, upper);
            }
        }
    }
}

static void pack_row_k(enum pack_kind kind, size_t n_blocks, const uint8_t *row, size_t lane,
                       uint8_t *out)
{
    const size_t super_quants = KERNEL_SUPER * pack_quant_bytes(kind);
    uint8_t *scales = out + n_blocks * pack_quant_bytes(kind);
    for (size_t b = 0; b < n_blocks / KERNEL_SUPER; b++) {
        if (kind == PACK_Q6_K) {
            place_super6(row + b * Q6_K_BYTES, lane, out + b * super_quants,
                         scales + b * SUPER_SCALES_Q6);
        } else {
            place_super45(kind, row + b * (kind == PACK_Q5_K ? Q5_K_BYTES : Q4_K_BYTES), lane,
                          out + b * super_quants, scales + b * SUPER_SCALES_Q45);
        }
    }
}

static void pack_row_float(enum pack_kind kind, size_t n_cols, const uint8_t *row, size_t lane,
                           uint8_t *out)
{
    const size_t size = float_bytes(kind);
    for (size_t k = 0; k < n_cols; k++) {
        memcpy(out + (k * KERNEL_LANES + lane) * size, row + k * size, size);
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
    for (size_t lane = 0; lane < KERNEL_LANES; lane++) {
        if (rows[lane] == NULL) {
            continue;
        }
        if (!pack_is_quantised(kind)) {
            pack_row_float(kind, n_cols, rows[lane], lane, out);
        } else if (kind >= PACK_Q4_K) {
            pack_row_k(kind, n_cols / KERNEL_BLOCK, rows[lane], lane, out);
        } else {
            pack_row32(kind, n_cols / KERNEL_BLOCK, rows[lane], lane, out);
        }
    }
}

/* --- affine --- */
/* Sixteen bytes of which byte j holds columns 2j and 2j + 1. */
static void part_neighbours(const uint8_t *bytes, uint8_t nibbles[16])
{
    for (size_t j = 0; j < 8; j++) {
        nibbles[2 * j] = (uint8_t)((bytes[j] & 15) | bytes[8 + j] << 4);
        nibbles[2 * j + 1] = (uint8_t)(bytes[j] >> 4 | (bytes[8 + j] & 0xf0));
    }
}

static void pack_row_affine(const struct pack *pack, const struct pack_affine_rows *rows,
                            size_t lane, uint8_t *out)
{
    const size_t n_blocks = pack->n_cols / KERNEL_BLOCK;
    const size_t quant_bytes = pack_quant_bytes(pack->kind);
    const size_t size = float_bytes(pack->scale_kind);
    for (size_t b = 0; b < n_blocks; b++) {
        if (pack->kind == PACK_A8) {
            place_bytes(rows->quants[lane] + b * KERNEL_BLOCK, 0, lane, out + b * quant_bytes);
        } else {
            uint8_t nibbles[16];
            part_neighbours(rows->quants[lane] + b * 16, nibbles);
            place_nibbles(nibbles, lane, out + b * quant_bytes);
        }
    }
    uint8_t *scales = out + n_blocks * quant_bytes;
    for (size_t g = 0; g < n_blocks >> pack->group_shift; g++) {
        uint8_t *at = scales + g * 2 * KERNEL_LANES * size;
        memcpy(at + lane * size, rows->scales[lane] + g * size, size);
        memcpy(at + (KERNEL_LANES + lane) * size, rows->biases[lane] + g * size, size);
    }
}

void pack_affine_panel(const struct pack *pack, const struct pack_affine_rows *rows, uint8_t *out)
{
    for (size_t lane = 0; lane < KERNEL_LANES; lane++) {
        if (rows->quants[lane] == NULL) {
            memset(out, 0, pack->panel_bytes);
            break;
        }
    }
    for (size_t lane = 0; lane < KERNEL_LANES; lane++) {
        if (rows->quants[lane] != NULL) {
            pack_row_affine(pack, rows, lane, out);
        }
    }
}
