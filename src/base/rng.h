/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 *
 * A counter-based generator: the draw is a pure function of key and counter, so no state is kept,
 * nothing is saved in a checkpoint, and any thread may ask for any draw. Every use has a domain tag
 * so that two uses of one seed never share a draw.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

enum rng_domain {
    RNG_SAMPLE = 1,  /* counter: choice, position */
    RNG_SHUFFLE = 2, /* counter: epoch, index */
    RNG_DROPOUT = 3, /* counter: step, tensor, row in step, position and feature */
    RNG_INIT = 4,    /* counter: tensor, element */
    RNG_SPLIT = 5,   /* counter: row */
};

/* Ten rounds over counter c[4] with key k[2]; out may alias counter. */
void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Four draws of domain `domain` for seed at counter (a, b). key = seed lo, seed hi ^ tag mix. */
void rng_draw4(uint64_t seed, enum rng_domain domain, uint64_t a, uint64_t b, uint32_t out[4]);
/* Uniform in [0, 1): the top 24 bits of the first draw times 2^-24, exact in fp32. */
float rng_uniform(uint64_t seed, enum rng_domain domain, uint64_t a, uint64_t b);
/* Fisher–Yates over indices[0..n): draw i is (epoch, i); bounded by multiply-shift on 64 bits. */
void rng_shuffle(uint64_t seed, uint64_t epoch, uint32_t *indices, uint32_t n);

/* Fills bytes from the operating system's generator; 0 or negative ERR_IO. */
int rng_os_bytes(void *out, unsigned n);

#endif
