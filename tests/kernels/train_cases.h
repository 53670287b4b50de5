/* Every training kernel of one instruction set against the scalar reference, bit for bit, over
 * sizes that meet each tile, tail and mask. Plain C: the NEON build runs it without cmocka. */
#ifndef TESTS_KERNELS_TRAIN_CASES_H
#define TESTS_KERNELS_TRAIN_CASES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/train_kernels.h"

enum { CASES_FLOATS = 1 << 16, CASES_HEAD = 48, CASES_PAD = 48, CASES_KEYS = 90 };

struct cases {
    const struct train_kernels *ref, *isa;
    float *a, *b, *c;  /* inputs */
    float *want, *got; /* CASES_FLOATS each, equal before a kernel runs */
    float *more[2];    /* further results, want and got */
    float *scratch;
    uint32_t random;
    int failures;
};

static inline float cases_random(struct cases *s)
{
    s->random = s->random * 1664525u + 1013904223u;
    return (float)(s->random >> 8) * 0x1p-23f - 1.0f;
}

static inline void cases_fill(struct cases *s, float *p, float size)
{
    for (int i = 0; i < CASES_FLOATS; i++) {
        p[i] = size * cases_random(s);
    }
}

static inline void cases_reset(struct cases *s)
{
    cases_fill(s, s->want, 1.0f);
    memcpy(s->got, s->want, CASES_FLOATS * sizeof(float));
    cases_fill(s, s->more[0], 1.0f);
    memcpy(s->more[1], s->more[0], CASES_FLOATS * sizeof(float));
}

static inline void cases_check(struct cases *s, const char *what, size_t x, size_t y, size_t z)
{
    const size_t bytes = CASES_FLOATS * sizeof(float);
    if (memcmp(s->want, s->got, bytes) != 0 || memcmp(s->more[0], s->more[1], bytes) != 0) {
        printf("%s: %s (%zu, %zu, %zu) differs from the reference\n", s->isa->isa, what, x, y, z);
        s->failures++;
    }
}

static inline void cases_products(struct cases *s)
{
    static const size_t tokens[] = {1, 3, 5, 12, 29}, steps[] = {1, 17, 64};
    for (size_t i = 0; i < 5 * 3 * 2 * 3 * 2; i++) {
        const size_t n = tokens[i % 5], k = steps[i / 5 % 3], lanes = i / 15 % 2 ? 32 : 16;
        const bool packed = i / 90 % 2 == 0;
        cases_reset(s);
        for (int side = 0; side < 2; side++) {
            const struct train_kernels *kernels = side ? s->isa : s->ref;
            if (packed) {
                kernels->pack(s->scratch, s->a, 64, n, k);
            }
            const struct train_product product = {.c = side ? s->got : s->want,
                                                  .ldc = 48,
                                                  .x = packed ? s->scratch : s->a,
                                                  .x_tile = k * kernels->tile_tokens,
                                                  .ldx = packed ? 0 : 64,
                                                  .w = s->b,
                                                  .n_tokens = n,
                                                  .n_k = k,
                                                  .n_lanes = lanes,
                                                  .mode = (enum train_mode)(i / 30 % 3),
                                                  .scale = 0.3f};
            kernels->product(&product);
        }
        cases_check(s, packed ? "packed product" : "product", n, k, lanes);
    }
}

static inline void cases_outers(struct cases *s)
{
    static const size_t sizes[] = {1, 7, 16, 33, 50};
    for (size_t i = 0; i < 25; i++) {
        const size_t rows = sizes[i % 5], cols = sizes[i / 5], n = 1 + i * 11;
        cases_reset(s);
        for (int side = 0; side < 2; side++) {
            const struct train_outer outer = {.c = side ? s->got : s->want,
                                              .ldc = cols,
                                              .x = s->a,
                                              .ldx = 64,
                                              .w = s->b,
                                              .ldw = 64,
                                              .rows = rows,
                                              .cols = cols,
                                              .n_tokens = n};
            (side ? s->isa : s->ref)->outer(&outer);
        }
        cases_check(s, "outer", rows, cols, n);
    }
}

static inline void cases_panels(struct cases *s)
{
    for (size_t rows = 1; rows <= TRAIN_PANEL; rows += 5) {
        cases_reset(s);
        s->ref->transpose(s->want, s->a, rows, 6 * rows + 1);
        s->isa->transpose(s->got, s->a, rows, 6 * rows + 1);
        cases_check(s, "transpose", rows, 0, 0);
    }
    const uint8_t *weights[9];
    uint8_t *bytes = (uint8_t *)s->scratch;
    for (size_t i = 0; i < 9 * 512; i++) {
        bytes[i] = (uint8_t)(128.0f * (cases_random(s) + 1.0f)) & 0x7b;
    }
    for (size_t i = 0; i < 9; i++) {
        weights[i] = bytes + 512 * i;
    }
    for (int kind = 0; kind < TRAIN_WEIGHT_COUNT; kind++) {
        cases_reset(s);
        s->ref->unpack[kind](s->want, 100, weights, 32, 9, 64);
        s->isa->unpack[kind](s->got, 100, weights, 32, 9, 64);
        cases_check(s, "unpack", (size_t)kind, 0, 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        const struct train_affine affine = {
            .quants = bytes,
            .scales = bytes + 2048,
            .biases = bytes + 3072,
            .row_bytes = i % 2 ? 128 : 64,
            .scale_row_bytes = i / 2 == TRAIN_F32 ? 16 : 8,
            .bits = i % 2 ? 8 : 4,
            .group = 32,
            .scale_type = (enum train_weight)(i / 2),
        };
        cases_reset(s);
        s->ref->unpack_affine(s->want, 100, &affine, 2, 32, 9, 64);
        s->isa->unpack_affine(s->got, 100, &affine, 2, 32, 9, 64);
        cases_check(s, "unpack_affine", i, 0, 0);
    }
}

static inline void cases_rows(struct cases *s)
{
    const uint16_t *bits = (const uint16_t *)(const void *)s->c;
    for (size_t n = 16; n <= 80; n += 32) {
        float *const w = s->want, *const g = s->got, *const m = s->more[0], *const h = s->more[1];
#define CASES_BOTH(name, ref_call, isa_call)                                                       \
    cases_reset(s);                                                                                \
    s->ref->ref_call;                                                                              \
    s->isa->isa_call;                                                                              \
    cases_check(s, name, n, 0, 0)
        CASES_BOTH("norm", norm(w, s->a, s->b, n, n - 3, 1e-5f),
                   norm(g, s->a, s->b, n, n - 3, 1e-5f));
        CASES_BOTH("norm_back", norm_back(w, s->a, s->b, s->c, n, n - 3, 1e-5f),
                   norm_back(g, s->a, s->b, s->c, n, n - 3, 1e-5f));
        CASES_BOTH("rope", rope(w, s->a, s->b, s->c, n - 6, -1.0f),
                   rope(g, s->a, s->b, s->c, n - 6, -1.0f));
        CASES_BOTH("swiglu", swiglu(w, s->a, s->b, n), swiglu(g, s->a, s->b, n));
        CASES_BOTH("swiglu_back", swiglu_back(w, m, w, m, s->a, n),
                   swiglu_back(g, h, g, h, s->a, n));
        CASES_BOTH("join", join(w, 0.7f, s->a, n), join(g, 0.7f, s->a, n));
        CASES_BOTH("scale", scale(w, 0.7f, n), scale(g, 0.7f, n));
        CASES_BOTH("settle", settle(w, s->a, n - 5), settle(g, s->a, n - 5));
        CASES_BOTH("geglu", geglu(w, s->a, s->b, n), geglu(g, s->a, s->b, n));
        CASES_BOTH("geglu_back", geglu_back(w, m, w, m, s->a, n), geglu_back(g, h, g, h, s->a, n));
        CASES_BOTH("soft_cap", soft_cap(w, 0.7f, n - 3), soft_cap(g, 0.7f, n - 3));
        CASES_BOTH("soft_cap_back", soft_cap_back(w, s->a, 1.7f, n - 3),
                   soft_cap_back(g, s->a, 1.7f, n - 3));
        CASES_BOTH("mask", mask(w, s->a, bits, 1.25f, n), mask(g, s->a, bits, 1.25f, n));
        CASES_BOTH("mask_add", mask_add(w, s->a, bits, 1.25f, n),
                   mask_add(g, s->a, bits, 1.25f, n));
        CASES_BOTH("normalise", normalise(w, n - 5, 3.0f, 0.1f), normalise(g, n - 5, 3.0f, 0.1f));
        CASES_BOTH("exp_row", exp_row(w, n - 5, m, m + 1), exp_row(g, n - 5, h, h + 1));
#undef CASES_BOTH
        cases_reset(s);
        s->want[0] = s->ref->dot(s->a, s->b, n);
        s->got[0] = s->isa->dot(s->a, s->b, n);
        s->want[1] = (float)s->ref->finite(s->a, n - 5);
        s->got[1] = (float)s->isa->finite(s->a, n - 5);
        cases_check(s, "dot, finite", n, 0, 0);
    }
}

static inline void cases_attention(struct cases *s, size_t first, size_t n, size_t window,
                                   float soft_cap)
{
    const size_t keys = first + n;
    float max[2][TRAIN_QUERY_TILE] = {{0}}, sum[2][TRAIN_QUERY_TILE] = {{0}};
    cases_reset(s);
    for (int side = 0; side < 2; side++) {
        const struct train_kernels *kernels = side ? s->isa : s->ref;
        float *out = side ? s->got : s->want, *ds = side ? s->more[1] : s->more[0];
        const struct train_attention tile = {.head_dim = CASES_HEAD,
                                             .head_pad = CASES_PAD,
                                             .first = first,
                                             .n_queries = n,
                                             .window = window,
                                             .scale = 0.15f,
                                             .soft_cap = soft_cap,
                                             .q = s->a,
                                             .k = s->b,
                                             .v = s->c,
                                             .scratch = s->scratch};
        if (!kernels->attention(&tile, out, max[side], sum[side])) {
            s->failures++;
        }
        float *p = out + TRAIN_QUERY_TILE * CASES_PAD, *q_grad = p + TRAIN_QUERY_TILE * CASES_KEYS;
        const size_t cut = keys / 2;
        for (size_t begin = 0; begin<keys; begin += cut> 0 ? cut : 1) {
            const size_t end = begin + cut < keys && cut > 0 ? begin + cut : keys;
            const struct train_attention_back back = {.tile = tile,
                                                      .out_grad = s->c + 7,
                                                      .max = max[side],
                                                      .sum = sum[side],
                                                      .dots = s->b,
                                                      .key_begin = begin,
                                                      .key_end = end,
                                                      .p = p + begin * TRAIN_QUERY_TILE,
                                                      .ds = ds + begin * TRAIN_QUERY_TILE,
                                                      .q_grad = q_grad};
            kernels->attention_back(&back);
        }
        /* lanes past n_queries are never read, and may differ */
        for (size_t j = 0; j < keys; j++) {
            for (size_t i = n; i < TRAIN_QUERY_TILE; i++) {
                p[j * TRAIN_QUERY_TILE + i] = ds[j * TRAIN_QUERY_TILE + i] = 0.0f;
            }
        }
        const struct train_attention_keys job = {
            .head_dim = CASES_HEAD,
            .head_pad = CASES_PAD,
            .n_keys = keys < TRAIN_KEY_TILE ? keys : TRAIN_KEY_TILE,
            .n_queries = n,
            .p = p,
            .ds = ds,
            .q = s->a,
            .out_grad = s->c + 7,
            .k_grad = q_grad + TRAIN_QUERY_TILE * CASES_PAD,
            .v_grad = q_grad + (TRAIN_QUERY_TILE + TRAIN_KEY_TILE) * CASES_PAD};
        kernels->attention_keys(&job);
    }
    cases_check(s, "attention", first, n, 0);
    if (memcmp(max[0], max[1], sizeof max[0]) != 0 || memcmp(sum[0], sum[1], sizeof sum[0]) != 0) {
        printf("%s: attention's maximum or sum (%zu, %zu)\n", s->isa->isa, first, n);
        s->failures++;
    }
}

/* Number of cases that differ. */
static inline int train_cases(const char *isa)
{
    struct cases s = {.ref = train_kernels_get("ref"), .isa = train_kernels_get(isa), .random = 3};
    float **const arrays[] = {&s.a,   &s.b,       &s.c,       &s.want,
                              &s.got, &s.more[0], &s.more[1], &s.scratch};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        *arrays[i] = calloc(CASES_FLOATS, sizeof(float));
    }
    cases_fill(&s, s.a, 2.0f);
    cases_fill(&s, s.b, 2.0f);
    cases_fill(&s, s.c, 2.0f);
    cases_products(&s);
    cases_outers(&s);
    cases_panels(&s);
    cases_rows(&s);
    for (size_t first = 0; first <= 64; first += 16) {
        cases_attention(&s, first, TRAIN_QUERY_TILE, 0, 0.0f);
        cases_attention(&s, first, 1 + first / 8, 0, 0.0f);
        cases_attention(&s, first, TRAIN_QUERY_TILE, 9, 0.0f);
        cases_attention(&s, first, 1 + first / 8, 20, 0.5f);
    }
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(*arrays[i]);
    }
    return s.failures;
}

#endif
