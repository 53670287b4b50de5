/* Turning blocks of floats: rows become columns. Moves only, no arithmetic, so plain vector types
 * do for any compiler target. */
#ifndef KERNELS_ISA_TRAIN_TURN_H
#define KERNELS_ISA_TRAIN_TURN_H

#include <string.h>

#include "kernels/isa/lane.h"

typedef float four __attribute__((vector_size(16)));
typedef float eight __attribute__((vector_size(32)));

/* a = rows i and i + 4 of a block, one in each half. */
#define TURN_PAIR(a, from, ld, i)                                                                  \
    do {                                                                                           \
        four upper_, lower_;                                                                       \
        memcpy(&upper_, (from) + (i) * (ld), sizeof upper_);                                       \
        memcpy(&lower_, (from) + ((i) + 4) * (ld), sizeof lower_);                                 \
        (a) = __builtin_shufflevector(upper_, lower_, 0, 1, 2, 3, 4, 5, 6, 7);                     \
    } while (0)

/* to[k][i] = from[i][k] for i < 8, k < 4: a 4 × 4 block in each half of the registers. */
LANE_INLINE void turn_8x4(float *to, size_t ld_to, const float *from, size_t ld_from)
{
    eight a, b, c, d;
    TURN_PAIR(a, from, ld_from, 0);
    TURN_PAIR(b, from, ld_from, 1);
    TURN_PAIR(c, from, ld_from, 2);
    TURN_PAIR(d, from, ld_from, 3);
    const eight ab_lo = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
    const eight ab_hi = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    const eight cd_lo = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13);
    const eight cd_hi = __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    const eight turned[4] = {__builtin_shufflevector(ab_lo, cd_lo, 0, 1, 8, 9, 4, 5, 12, 13),
                             __builtin_shufflevector(ab_lo, cd_lo, 2, 3, 10, 11, 6, 7, 14, 15),
                             __builtin_shufflevector(ab_hi, cd_hi, 0, 1, 8, 9, 4, 5, 12, 13),
                             __builtin_shufflevector(ab_hi, cd_hi, 2, 3, 10, 11, 6, 7, 14, 15)};
    for (size_t k = 0; k < 4; k++) {
        memcpy(to + k * ld_to, &turned[k], sizeof turned[k]);
    }
}

/* The same for i < 4. */
LANE_INLINE void turn_4x4(float *to, size_t ld_to, const float *from, size_t ld_from)
{
    four row[4];
    for (size_t i = 0; i < 4; i++) {
        memcpy(&row[i], from + i * ld_from, sizeof row[i]);
    }
    const four ab_lo = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    const four ab_hi = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    const four cd_lo = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    const four cd_hi = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    const four turned[4] = {__builtin_shufflevector(ab_lo, cd_lo, 0, 1, 4, 5),
                            __builtin_shufflevector(ab_lo, cd_lo, 2, 3, 6, 7),
                            __builtin_shufflevector(ab_hi, cd_hi, 0, 1, 4, 5),
                            __builtin_shufflevector(ab_hi, cd_hi, 2, 3, 6, 7)};
    for (size_t k = 0; k < 4; k++) {
        memcpy(to + k * ld_to, &turned[k], sizeof turned[k]);
    }
}

/* to[k][i] = from[i][k] for i < n_i, k < n_k. */
LANE_INLINE void turn(float *to, size_t ld_to, const float *from, size_t ld_from, size_t n_i,
                      size_t n_k)
{
    const size_t eights = n_i & ~(size_t)7, fours = n_i & ~(size_t)3, whole_k = n_k & ~(size_t)3;
    for (size_t k = 0; k < whole_k; k += 4) {
        for (size_t i = 0; i < eights; i += 8) {
            turn_8x4(to + k * ld_to + i, ld_to, from + i * ld_from + k, ld_from);
        }
        if (eights < fours) {
            turn_4x4(to + k * ld_to + eights, ld_to, from + eights * ld_from + k, ld_from);
        }
    }
    for (size_t k = 0; k < n_k; k++) {
        for (size_t i = k < whole_k ? fours : 0; i < n_i; i++) {
            to[k * ld_to + i] = from[i * ld_from + k];
        }
    }
}

/* The same, lanes past n_i zero: to is (n_k, lanes). */
LANE_INLINE void turn_padded(float *to, const size_t lanes, const float *from, size_t ld_from,
                             size_t n_i, size_t n_k)
{
    if (n_i == lanes) { /* a constant, for which the loops unroll */
        turn(to, lanes, from, ld_from, lanes, n_k);
        return;
    }
    memset(to, 0, n_k * lanes * sizeof *to);
    turn(to, lanes, from, ld_from, n_i, n_k);
}

#endif
