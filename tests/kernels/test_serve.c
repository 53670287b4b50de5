/* Serving kernels: every instruction set equals the definition written out here, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/half.h"
#include "kernels/kernels.h"

enum { COLS = 512, ROWS = 40, TOKENS = 21, BLOCKS = COLS / KERNEL_BLOCK };

static float uniform(uint64_t stream, uint64_t i)
{
    return rng_uniform(stream, RNG_INIT, 0, i) * 2.0f - 1.0f;
}

static void fill(float *x, size_t n, uint64_t stream, float scale)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = scale * uniform(stream, i);
    }
}

/* How a file keeps a kind: bytes of a block, its columns, and where its fp16 scales are. */
static const struct {
    size_t bytes, cols, d, m; /* m 0: none */
} layouts[PACK_KIND_COUNT] = {
    [PACK_Q4_0] = {18, 32, 0, 0},   [PACK_Q4_1] = {20, 32, 0, 2},
    [PACK_Q5_0] = {22, 32, 0, 0},   [PACK_Q5_1] = {24, 32, 0, 2},
    [PACK_Q8] = {34, 32, 0, 0},     [PACK_Q4_K] = {144, 256, 0, 2},
    [PACK_Q5_K] = {176, 256, 0, 2}, [PACK_Q6_K] = {210, 256, 208, 0},
    [PACK_A4] = {16, 32, 0, 0},     [PACK_A8] = {32, 32, 0, 0},
    [PACK_F16] = {2, 1, 0, 0},      [PACK_BF16] = {2, 1, 0, 0},
    [PACK_F32] = {4, 1, 0, 0},
};

/* A matrix as a file has it. Affine kinds keep scales and biases apart, ROWS × COLS / group. */
struct matrix {
    enum pack_kind kind, scale_kind;
    unsigned group_shift;
    size_t row_bytes;
    uint8_t *rows;
    uint8_t scales[ROWS * BLOCKS * 4], biases[ROWS * BLOCKS * 4];
};

static void put_float(enum pack_kind kind, uint8_t *at, float value)
{
    const uint16_t half = half_from_float(value);
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint16_t bfloat = (uint16_t)(bits >> 16);
    if (kind == PACK_F32) {
        memcpy(at, &value, 4);
    } else {
        memcpy(at, kind == PACK_F16 ? &half : &bfloat, 2);
    }
}

static float get_float(enum pack_kind kind, const uint8_t *at)
{
    uint16_t half;
    float value;
    memcpy(&half, at, 2);
    if (kind != PACK_F32) {
        return kind == PACK_F16 ? half_to_float(half) : bfloat_to_float(half);
    }
    memcpy(&value, at, 4);
    return value;
}

static size_t float_size(enum pack_kind kind)
{
    return kind == PACK_F32 ? 4 : 2;
}

/* Random bytes, or all bits set where `full`, and small scales. */
static void make_rows(struct matrix *w, bool full)
{
    w->row_bytes = COLS / layouts[w->kind].cols * layouts[w->kind].bytes;
    w->rows = mem_alloc(ROWS * w->row_bytes);
    assert_non_null(w->rows);
    for (size_t i = 0; i < ROWS * w->row_bytes; i++) {
        uint32_t draw[4];
        rng_draw4(7, RNG_INIT, w->kind, i, draw);
        w->rows[i] = full ? 0xff : (uint8_t)draw[0];
    }
    for (size_t b = 0; b < ROWS * w->row_bytes / layouts[w->kind].bytes; b++) {
        uint8_t *block = w->rows + b * layouts[w->kind].bytes;
        if (!pack_is_quantised(w->kind)) {
            put_float(w->kind, block, uniform(5, b));
        } else if (!pack_is_affine(w->kind)) {
            put_float(PACK_F16, block + layouts[w->kind].d, 0.01f * uniform(3, b));
            if (layouts[w->kind].m > 0) {
                put_float(PACK_F16, block + layouts[w->kind].m, 0.1f * uniform(4, b));
            }
        }
    }
    for (size_t i = 0; pack_is_affine(w->kind) && i < ROWS * BLOCKS; i++) {
        const size_t at = i * float_size(w->scale_kind);
        put_float(w->scale_kind, w->scales + at, 0.01f * uniform(3, i));
        put_float(w->scale_kind, w->biases + at, 0.1f * uniform(4, i));
    }
}

static uint8_t *make_pack(const struct matrix *w, struct pack *pack)
{
    *pack = (struct pack){.kind = w->kind,
                          .n_rows = ROWS,
                          .n_cols = COLS,
                          .group_shift = w->group_shift,
                          .scale_kind = w->scale_kind};
    pack->panel_bytes = pack_is_affine(w->kind)
                            ? pack_affine_panel_bytes(w->kind, COLS, w->group_shift, w->scale_kind)
                            : pack_panel_bytes(w->kind, COLS);
    uint8_t *data = mem_alloc_simd(pack_panels(ROWS), pack->panel_bytes);
    assert_non_null(data);
    memset(data, 0xa5, pack_panels(ROWS) * pack->panel_bytes); /* what is not written shows */
    const size_t scale_bytes = (BLOCKS >> w->group_shift) * float_size(w->scale_kind);
    for (size_t p = 0; p < pack_panels(ROWS); p++) {
        struct pack_affine_rows in = {0};
        for (size_t i = 0; i < KERNEL_LANES && p * KERNEL_LANES + i < ROWS; i++) {
            const size_t r = p * KERNEL_LANES + i;
            in.quants[i] = w->rows + r * w->row_bytes;
            in.scales[i] = w->scales + r * scale_bytes;
            in.biases[i] = w->biases + r * scale_bytes;
        }
        if (pack_is_affine(w->kind)) {
            pack_affine_panel(pack, &in, data + p * pack->panel_bytes);
        } else {
            pack_panel(w->kind, COLS, in.quants, data + p * pack->panel_bytes);
        }
    }
    pack->data = data;
    return data;
}

struct act_store {
    int8_t q[TOKENS * COLS];
    float d[TOKENS * BLOCKS], dsum[TOKENS * BLOCKS];
    int32_t zero8[TOKENS * BLOCKS], zero128[TOKENS * BLOCKS], zero32[TOKENS * BLOCKS * 2];
};

static struct qact act_view(struct act_store *s)
{
    const struct qact a = {COLS, s->q, s->d, s->dsum, s->zero8, s->zero128, s->zero32};
    return a;
}

/* One block of 32 of row r: value = (d·sc of its half)·q + m, sc 1 but for PACK_Q6_K. */
struct block {
    int q[KERNEL_BLOCK];
    int sc[2];
    float d, m;
    bool offset;
};

static void read_nibbles(const uint8_t *nibbles, uint32_t fifth, int zero, struct block *out)
{
    for (int j = 0; j < KERNEL_BLOCK; j++) {
        const int low = j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4;
        out->q[j] = low + 16 * (int)(fifth >> j & 1) - zero;
    }
}

static void read_k45(const uint8_t *from, bool five, size_t s, struct block *out)
{
    const uint8_t *p = from + 4;
    const uint8_t *nibbles = from + (five ? 48 : 16) + s / 2 * 32;
    const int sc = s < 4 ? p[s] & 63 : (p[s + 4] & 15) | p[s - 4] >> 6 << 4;
    const int mn = s < 4 ? p[s + 4] & 63 : p[s + 4] >> 4 | p[s] >> 6 << 4;
    out->d = get_float(PACK_F16, from) * (float)sc;
    out->m = -(get_float(PACK_F16, from + 2) * (float)mn);
    for (int j = 0; j < KERNEL_BLOCK; j++) {
        out->q[j] = s % 2 ? nibbles[j] >> 4 : nibbles[j] & 15;
        out->q[j] += five ? 16 * (from[16 + j] >> s & 1) : 0;
    }
}

static void read_q6(const uint8_t *from, size_t s, struct block *out)
{
    out->d = get_float(PACK_F16, from + 208);
    out->sc[0] = (int8_t)from[192 + 2 * s];
    out->sc[1] = (int8_t)from[192 + 2 * s + 1];
    for (size_t l = 0; l < KERNEL_BLOCK; l++) {
        const int low = from[s / 4 * 64 + s % 2 * 32 + l] >> (s % 4 / 2 * 4) & 15;
        const int high = from[128 + s / 4 * 32 + l] >> (s % 4 * 2) & 3;
        out->q[l] = low + 16 * high - 32;
    }
}

static void read_affine(const struct matrix *w, size_t r, size_t b, struct block *out)
{
    const size_t group = r * (BLOCKS >> w->group_shift) + (b >> w->group_shift);
    const size_t at = group * float_size(w->scale_kind);
    const uint8_t *from = w->rows + r * w->row_bytes;
    out->d = get_float(w->scale_kind, w->scales + at);
    out->m = get_float(w->scale_kind, w->biases + at);
    for (size_t j = 0; j < KERNEL_BLOCK; j++) {
        const size_t k = b * KERNEL_BLOCK + j;
        out->q[j] = w->kind == PACK_A8 ? from[k] : from[k / 2] >> (k % 2 * 4) & 15;
    }
}

static struct block read_block(const struct matrix *w, size_t r, size_t b)
{
    struct block out = {.sc = {1, 1}};
    const size_t k = b * KERNEL_BLOCK;
    const uint8_t *from =
        w->rows + r * w->row_bytes + k / layouts[w->kind].cols * layouts[w->kind].bytes;
    uint32_t fifth = 0;
    out.offset = layouts[w->kind].m > 0 || pack_is_affine(w->kind);
    if (layouts[w->kind].cols == 32 && !pack_is_affine(w->kind)) {
        out.d = get_float(PACK_F16, from);
        out.m = get_float(PACK_F16, from + 2);
    }
    switch (w->kind) {
    case PACK_Q4_0:
    case PACK_Q4_1:
        read_nibbles(from + (out.offset ? 4 : 2), 0, out.offset ? 0 : 8, &out);
        break;
    case PACK_Q5_0:
    case PACK_Q5_1:
        memcpy(&fifth, from + (out.offset ? 4 : 2), 4);
        read_nibbles(from + (out.offset ? 8 : 6), fifth, out.offset ? 0 : 16, &out);
        break;
    case PACK_Q8:
        for (int j = 0; j < KERNEL_BLOCK; j++) {
            out.q[j] = (int8_t)from[2 + j];
        }
        break;
    case PACK_Q6_K:
        read_q6(from, b % 8, &out);
        break;
    case PACK_A4:
    case PACK_A8:
        read_affine(w, r, b, &out);
        break;
    default:
        read_k45(from, w->kind == PACK_Q5_K, b % 8, &out);
        break;
    }
    return out;
}

/* The definition of a quantised product for one output. */
static float define_q(const struct block *row, const struct qact *x, size_t t)
{
    float acc = 0.0f;
    for (size_t b = 0; b < BLOCKS; b++) {
        const int8_t *q = x->q + t * COLS + b * KERNEL_BLOCK;
        int32_t sum[2] = {0, 0};
        int32_t q_sum = 0;
        for (int j = 0; j < KERNEL_BLOCK; j++) {
            sum[j / 16] += row[b].q[j] * q[j];
            q_sum += q[j];
        }
        const float dx = x->d[t * BLOCKS + b];
        const int32_t all = sum[0] * row[b].sc[0] + sum[1] * row[b].sc[1];
        acc = fmaf((float)all, row[b].d * dx, acc);
        if (row[b].offset) {
            acc = fmaf(row[b].m, dx * (float)q_sum, acc);
        }
    }
    return acc;
}

static float define_f(const struct matrix *w, size_t r, const float *x)
{
    float acc = 0.0f;
    for (size_t k = 0; k < COLS; k++) {
        const uint8_t *at = w->rows + r * w->row_bytes + k * float_size(w->kind);
        acc = fmaf(get_float(w->kind, at), x[k], acc);
    }
    return acc;
}

static void each_isa(void (*check)(const struct kernels *))
{
    const char *const *names = kernels_available();
    for (; *names != NULL; names++) {
        print_message("instruction set %s\n", *names);
        check(kernels_get(*names));
    }
}

static void quantise_all(const struct kernels *kn, const float *x, struct act_store *store)
{
    struct qact a = act_view(store);
    for (size_t t = 0; t < TOKENS; t++) {
        assert_true(kn->quantise(x + t * COLS, &a, t, 0, COLS));
    }
}

/* Products for every number of tokens: exactly the rows and tokens asked for, to the bit. */
static void check_product(const struct kernels *kn, const struct matrix *w, const struct pack *pack,
                          const struct qact *a, const float *x)
{
    static float want[TOKENS * ROWS], y[TOKENS * ROWS];
    static struct block row[BLOCKS];
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t b = 0; pack_is_quantised(w->kind) && b < BLOCKS; b++) {
            row[b] = read_block(w, r, b);
        }
        for (size_t t = 0; t < TOKENS; t++) {
            want[t * ROWS + r] =
                pack_is_quantised(w->kind) ? define_q(row, a, t) : define_f(w, r, x + t * COLS);
        }
    }
    for (size_t n = 1; n <= TOKENS; n++) {
        for (int add = 0; add < 2; add++) {
            fill(y, TOKENS * ROWS, 9, 1.0f);
            if (pack_is_quantised(w->kind)) {
                kn->matmul_q(pack, 0, pack_panels(ROWS), a, n, y, ROWS, add);
            } else {
                kn->matmul_f(pack, 0, pack_panels(ROWS), x, COLS, n, y, ROWS, add);
            }
            for (size_t i = 0; i < TOKENS * ROWS; i++) {
                float expected = uniform(9, i);
                if (i < n * ROWS) {
                    expected = add ? expected + want[i] : want[i];
                }
                if (memcmp(&y[i], &expected, sizeof expected) != 0) {
                    fail_msg("%s kind %d, %zu tokens: %g instead of %g at %zu", kn->isa, w->kind, n,
                             (double)y[i], (double)expected, i);
                }
            }
        }
    }
}

/* Random quants and activations; then all quants at their largest and activations at ±127, where
 * 16-bit sums would overflow. */
static void check_products(const struct kernels *kn)
{
    static float x[TOKENS * COLS];
    static struct act_store store;
    static struct matrix w;
    static const enum pack_kind scale_kinds[] = {PACK_F16, PACK_BF16, PACK_F32};
    const struct qact a = act_view(&store);
    for (int full = 0; full < 2; full++) {
        fill(x, TOKENS * COLS, 1, 3.0f);
        for (size_t i = 0; full && i < TOKENS * COLS; i++) {
            x[i] = i / COLS % 2 ? -1.5f : 1.5f;
        }
        quantise_all(kn, x, &store);
        for (int kind = 0; kind < PACK_KIND_COUNT; kind++) {
            const unsigned variants = pack_is_affine((enum pack_kind)kind) ? 3 : 1;
            for (unsigned v = 0; v < variants; v++) {
                struct pack pack;
                w.kind = (enum pack_kind)kind;
                w.group_shift = v;
                w.scale_kind = scale_kinds[v];
                make_rows(&w, full);
                uint8_t *data = make_pack(&w, &pack);
                check_product(kn, &w, &pack, &a, x);
                mem_free(data);
                mem_free(w.rows);
            }
        }
    }
}

static void test_products_are_the_definition(void **state)
{
    (void)state;
    each_isa(check_products);
}

static void check_quantise(const struct kernels *kn)
{
    static float x[TOKENS * COLS];
    static struct act_store store;
    struct qact a = act_view(&store);
    fill(x, TOKENS * COLS, 2, 5.0f);
    memset(x + 32, 0, 32 * sizeof(float));
    x[64] = 1e-31f;
    for (size_t i = 65; i < 96; i++) {
        x[i] = 0.0f;
    }
    quantise_all(kn, x, &store);
    for (size_t b = 0; b < TOKENS * BLOCKS; b++) {
        float amax = 0.0f;
        for (size_t j = 0; j < 32; j++) {
            amax = fmaxf(amax, fabsf(x[b * 32 + j]));
        }
        const bool tiny = amax < 1e-30f;
        assert_true(a.d[b] == (tiny ? 0.0f : amax / 127.0f));
        int32_t sum = 0;
        int32_t half[2] = {0, 0};
        for (size_t j = 0; j < 32; j++) {
            const int want = tiny ? 0 : (int)nearbyintf(x[b * 32 + j] * (127.0f / amax));
            assert_int_equal(a.q[b * 32 + j], want);
            sum += want;
            half[j / 16] += want;
        }
        assert_int_equal(a.zero32[2 * b], -32 * half[0]);
        assert_int_equal(a.zero32[2 * b + 1], -32 * half[1]);
        assert_int_equal(a.zero8[b], -8 * sum);
        assert_int_equal(a.zero128[b], -128 * sum);
        assert_true(a.dsum[b] == a.d[b] * (float)sum);
    }
    x[50] = NAN;
    assert_false(kn->quantise(x, &a, 0, 0, COLS));
    x[50] = INFINITY;
    assert_false(kn->quantise(x, &a, 0, 0, COLS));
}

static void test_quantise_follows_the_rule(void **state)
{
    (void)state;
    each_isa(check_quantise);
}

/* Attention against the rule spelled out over plain arrays, for ragged tiles and lengths. */
enum { HEAD = 48, POSITIONS = 77 };

static void check_attention_rule(const struct kernels *kn, size_t window, float cap)
{
    static uint16_t pages[5][2 * HEAD * 16];
    static float k[POSITIONS][HEAD], v[POSITIONS][HEAD], q[KERNEL_QUERY_TILE][HEAD];
    static float out[KERNEL_QUERY_TILE][HEAD], scores[KERNEL_QUERY_TILE * 80];
    uint16_t *table[5];
    fill(&k[0][0], POSITIONS * HEAD, 11, 2.0f);
    fill(&v[0][0], POSITIONS * HEAD, 12, 2.0f);
    fill(&q[0][0], KERNEL_QUERY_TILE * HEAD, 13, 2.0f);
    for (int i = 0; i < 5; i++) {
        table[i] = pages[i];
    }
    const struct kv_view kv = {table, 0};
    for (size_t p = 0; p < POSITIONS; p++) {
        assert_int_equal(kn->kv_store(&kv, p, k[p], v[p], HEAD), 0);
    }
    const struct attention_rule rule = {
        .head_dim = HEAD, .scale = 0.1443375673f, .window = window, .soft_cap = cap};
    for (size_t n = 1; n <= KERNEL_QUERY_TILE; n++) {
        const float *queries[KERNEL_QUERY_TILE];
        float *rows[KERNEL_QUERY_TILE];
        size_t visible[KERNEL_QUERY_TILE];
        for (size_t i = 0; i < n; i++) {
            queries[i] = q[i];
            rows[i] = out[i];
            visible[i] = POSITIONS - 2 * (n - 1 - i);
        }
        kn->attention(&kv, &rule, n, queries, visible, rows, scores, 80);
        for (size_t i = 0; i < n; i++) {
            const struct kernels *ref = kernels_get("ref");
            float p[80] = {0};
            for (size_t j = 0; j < visible[i]; j++) {
                float s = 0.0f;
                for (size_t d = 0; d < HEAD; d++) {
                    s = fmaf(q[i][d], half_to_float(half_from_float(k[j][d])), s);
                }
                p[j] = s * rule.scale;
                if (cap > 0.0f) {
                    p[j] = cap * tanhf(p[j] / cap);
                }
                if (window > 0 && j + window < visible[i]) {
                    p[j] = -1e30f;
                }
            }
            float normal[80];
            memcpy(normal, p, sizeof p);
            assert_true(ref->softmax(normal, visible[i]));
            float o[HEAD] = {0};
            for (size_t j = 0; j < visible[i]; j++) {
                for (size_t d = 0; d < HEAD; d++) {
                    o[d] += normal[j] * half_to_float(half_from_float(v[j][d]));
                }
            }
            for (size_t d = 0; d < HEAD; d++) {
                assert_true(fabsf(o[d] - out[i][d]) < 2e-5f);
            }
        }
    }
}

static void check_attention(const struct kernels *kn)
{
    check_attention_rule(kn, 0, 0.0f);
    check_attention_rule(kn, 7, 0.0f);
    check_attention_rule(kn, 33, 0.0f);
    check_attention_rule(kn, 200, 1.5f);
    check_attention_rule(kn, 20, 0.5f);
}

static void test_attention_is_close_to_the_textbook(void **state)
{
    (void)state;
    each_isa(check_attention);
}

/* One run of everything, its outputs as bytes: the same from each instruction set, and the same
 * whether queries come one at a time or in tiles. */
struct outcome {
    float norm[77], rope[64], gated[77], bent[77], capped[77], soft[777],
        attended[KERNEL_QUERY_TILE][64], sum, max;
};

static void run_all(const struct kernels *kn, const struct attention_rule *rule, bool one_by_one,
                    struct outcome *o)
{
    static uint16_t pages[20][2 * 64 * 16];
    uint16_t *table[20];
    float w[77], u[77], k[64], v[64], c[32], s[32];
    static float q[KERNEL_QUERY_TILE][64];
    memset(o, 0, sizeof *o);
    fill(w, 77, 20, 1.0f);
    fill(u, 77, 21, 9.0f);
    kn->rmsnorm(u, w, 1e-5f, 77, o->norm);
    fill(o->rope, 64, 22, 1.0f);
    fill(c, 32, 23, 1.0f);
    fill(s, 32, 24, 1.0f);
    kn->rope(o->rope, c, s, 64);
    fill(o->gated, 77, 25, 20.0f);
    kn->silu_mul(o->gated, u, 77);
    fill(o->bent, 77, 25, 6.0f);
    kn->gelu_mul(o->bent, u, 77);
    fill(o->capped, 77, 25, 90.0f);
    kn->scale_cap(o->capped, 0.7f, 30.0f, 77);
    kn->axpy(o->gated, 0.3f, w, 77);
    fill(o->soft, 777, 26, 30.0f);
    o->sum = kn->exp_sum(o->soft, 777, &o->max);
    assert_true(kn->softmax(o->soft, 777));
    memset(pages, 0, sizeof pages);
    for (int i = 0; i < 20; i++) {
        table[i] = pages[i];
    }
    const struct kv_view kv = {table, 0};
    for (size_t p = 0; p < 300; p++) {
        fill(k, 64, 100 + p, 3.0f);
        fill(v, 64, 500 + p, 3.0f);
        kn->kv_store(&kv, p, k, v, 64);
    }
    fill(&q[0][0], KERNEL_QUERY_TILE * 64, 27, 3.0f);
    const float *queries[KERNEL_QUERY_TILE];
    float *rows[KERNEL_QUERY_TILE];
    size_t visible[KERNEL_QUERY_TILE];
    static float scores[KERNEL_QUERY_TILE * 304];
    for (size_t i = 0; i < KERNEL_QUERY_TILE; i++) {
        queries[i] = q[i];
        rows[i] = o->attended[i];
        visible[i] = 280 + i;
    }
    const size_t step = one_by_one ? 1 : KERNEL_QUERY_TILE;
    for (size_t i = 0; i < KERNEL_QUERY_TILE; i += step) {
        kn->attention(&kv, rule, step, queries + i, visible + i, rows + i, scores, 304);
    }
}

static void test_every_instruction_set_gives_the_same_bits(void **state)
{
    (void)state;
    static struct outcome want, got;
    static const struct attention_rule rules[] = {{64, 0.125f, 0, 0.0f},
                                                  {64, 0.125f, 5, 0.0f},
                                                  {64, 0.125f, 100, 3.0f},
                                                  {64, 1.0f, 0, 30.0f}};
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        run_all(kernels_get("ref"), &rules[r], false, &want);
        for (const char *const *names = kernels_available(); *names != NULL; names++) {
            for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
                run_all(kernels_get(*names), &rules[r], one_by_one != 0, &got);
                assert_memory_equal(&want, &got, sizeof want);
            }
        }
    }
}

/* Caps and gelu rest on tanh: a few units in the last place, on both of its branches. */
static void test_tanh_is_close_to_libm(void **state)
{
    (void)state;
    const struct kernels *kn = kernels_get("best");
    for (int i = -6000; i <= 6000; i++) {
        const float x = (float)i * 0.002f;
        float t = x, g = x;
        kn->scale_cap(&t, 1.0f, 1.0f, 1);
        assert_true(fabs((double)t - tanh((double)x)) <= 4e-7 * fabs(tanh((double)x)));
        const float one = 1.0f;
        kn->gelu_mul(&g, &one, 1);
        const double d = (double)x;
        const double want = 0.5 * d * (1 + tanh(0.7978845608028654 * (d + 0.044715 * d * d * d)));
        assert_true(fabs((double)g - want) <= 4e-7 * (fabs(d) + 1e-3));
    }
    float bad[2] = {NAN, -INFINITY};
    kn->scale_cap(bad, 1.0f, 2.0f, 2);
    assert_true(isnan(bad[0]) && isnan(bad[1]));
}

static void test_exp_is_close_to_libm(void **state)
{
    (void)state;
    const struct kernels *kn = kernels_get("best");
    for (int i = -8600; i <= 0; i++) {
        float x[2] = {(float)i * 0.01f, 0.0f};
        float max;
        const float sum = kn->exp_sum(x, 2, &max);
        assert_true(max == 0.0f);
        assert_true(fabs((double)sum - 1.0 - exp((double)x[0])) < 2e-7);
    }
    float far[2] = {-1000.0f, 0.0f};
    float max;
    assert_true(kn->exp_sum(far, 2, &max) == 1.0f);
}

static void test_clamped_keys_are_counted(void **state)
{
    (void)state;
    uint16_t page[2 * 16 * 16];
    uint16_t *table[1] = {page};
    const struct kv_view kv = {table, 0};
    float k[16] = {0}, v[16] = {0};
    k[3] = 70000.0f;
    v[5] = -1e9f;
    const char *const *names = kernels_available();
    for (; *names != NULL; names++) {
        memset(page, 0, sizeof page);
        assert_int_equal(kernels_get(*names)->kv_store(&kv, 2, k, v, 16), 2);
        assert_int_equal(page[3 * 16 + 2], 0x7bff);
        assert_int_equal(page[16 * 16 + 2 * 16 + 5], 0xfbff);
    }
}

static void test_unknown_instruction_sets_are_refused(void **state)
{
    (void)state;
    assert_null(kernels_get("sse9"));
    assert_string_equal(kernels_get("best")->isa, kernels_available()[0]);
    assert_non_null(kernels_get("ref"));
}

static void test_half_round_trips(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const bool nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff) != 0;
        if (!nan) {
            assert_int_equal(half_from_float(half_to_float((uint16_t)h)), h);
        }
    }
    assert_int_equal(half_from_float(65519.0f), 0x7bff);
    assert_int_equal(half_from_float(65520.0f), 0x7c00);
    assert_int_equal(half_from_float(5.9604645e-8f * 0.5f), 0);
    assert_int_equal(half_from_float(5.9604645e-8f * 0.75f), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_are_the_definition),
        cmocka_unit_test(test_quantise_follows_the_rule),
        cmocka_unit_test(test_attention_is_close_to_the_textbook),
        cmocka_unit_test(test_every_instruction_set_gives_the_same_bits),
        cmocka_unit_test(test_tanh_is_close_to_libm),
        cmocka_unit_test(test_exp_is_close_to_libm),
        cmocka_unit_test(test_clamped_keys_are_counted),
        cmocka_unit_test(test_unknown_instruction_sets_are_refused),
        cmocka_unit_test(test_half_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
