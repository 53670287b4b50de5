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

enum { COLS = 96, ROWS = 40, TOKENS = 21, BLOCKS = COLS / KERNEL_BLOCK };

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

/* Rows in a file's own format, random quants and small scales. */
static uint8_t *make_rows(enum pack_kind kind, size_t *row_bytes)
{
    static const size_t block_bytes[] = {18, 20, 34};
    const size_t element = kind == PACK_F32 ? 4 : 2;
    *row_bytes = kind <= PACK_Q8 ? BLOCKS * block_bytes[kind] : COLS * element;
    uint8_t *rows = mem_alloc(ROWS * *row_bytes);
    assert_non_null(rows);
    for (size_t i = 0; i < ROWS * *row_bytes; i++) {
        uint32_t draw[4];
        rng_draw4(7, RNG_INIT, kind, i, draw);
        rows[i] = (uint8_t)draw[0];
    }
    for (size_t r = 0; r < ROWS; r++) {
        uint8_t *row = rows + r * *row_bytes;
        for (size_t b = 0; kind <= PACK_Q8 && b < BLOCKS; b++) {
            const uint16_t d = half_from_float(0.01f * uniform(3, r * BLOCKS + b));
            const uint16_t m = half_from_float(0.1f * uniform(4, r * BLOCKS + b));
            memcpy(row + b * block_bytes[kind], &d, 2);
            if (kind == PACK_Q4_1) {
                memcpy(row + b * block_bytes[kind] + 2, &m, 2);
            }
        }
        for (size_t k = 0; kind > PACK_Q8 && k < COLS; k++) {
            const float w = uniform(5, r * COLS + k);
            const uint16_t half = half_from_float(w);
            uint32_t bits;
            memcpy(&bits, &w, 4);
            const uint16_t bfloat = (uint16_t)(bits >> 16);
            if (kind == PACK_F32) {
                memcpy(row + k * 4, &w, 4);
            } else {
                memcpy(row + k * 2, kind == PACK_F16 ? &half : &bfloat, 2);
            }
        }
    }
    return rows;
}

static uint8_t *make_pack(enum pack_kind kind, const uint8_t *rows, size_t row_bytes,
                          struct pack *pack)
{
    const size_t panel_bytes = pack_panel_bytes(kind, COLS);
    uint8_t *data = mem_alloc_simd(pack_panels(ROWS), panel_bytes);
    assert_non_null(data);
    for (size_t p = 0; p < pack_panels(ROWS); p++) {
        const uint8_t *in[KERNEL_LANES];
        for (size_t i = 0; i < KERNEL_LANES; i++) {
            const size_t r = p * KERNEL_LANES + i;
            in[i] = r < ROWS ? rows + r * row_bytes : NULL;
        }
        pack_panel(kind, COLS, in, data + p * panel_bytes);
    }
    const struct pack made = {kind, ROWS, COLS, panel_bytes, data};
    *pack = made;
    return data;
}

struct act_store {
    int8_t q[TOKENS * COLS];
    float d[TOKENS * BLOCKS], dsum[TOKENS * BLOCKS];
    int32_t zero8[TOKENS * BLOCKS], zero128[TOKENS * BLOCKS];
};

static struct qact act_view(struct act_store *s)
{
    const struct qact a = {COLS, s->q, s->d, s->dsum, s->zero8, s->zero128};
    return a;
}

/* The definition of a quantised product for one output. */
static float define_q(enum pack_kind kind, const uint8_t *row, const struct qact *x, size_t t)
{
    static const size_t block_bytes[] = {18, 20, 34};
    float acc = 0.0f;
    for (size_t b = 0; b < BLOCKS; b++) {
        const uint8_t *block = row + b * block_bytes[kind];
        const int8_t *q = x->q + t * COLS + b * KERNEL_BLOCK;
        uint16_t d16, m16;
        memcpy(&d16, block, 2);
        memcpy(&m16, block + 2, 2);
        const uint8_t *quants = block + (kind == PACK_Q4_1 ? 4 : 2);
        int32_t sum = 0;
        int32_t q_sum = 0;
        for (int j = 0; j < KERNEL_BLOCK; j++) {
            int w;
            if (kind == PACK_Q8) {
                w = (int8_t)quants[j];
            } else {
                w = j < 16 ? quants[j] & 15 : quants[j - 16] >> 4;
                w -= kind == PACK_Q4_0 ? 8 : 0;
            }
            sum += w * q[j];
            q_sum += q[j];
        }
        const float dx = x->d[t * BLOCKS + b];
        acc = fmaf((float)sum, half_to_float(d16) * dx, acc);
        if (kind == PACK_Q4_1) {
            acc = fmaf(half_to_float(m16), dx * (float)q_sum, acc);
        }
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

static void check_products(const struct kernels *kn)
{
    static float x[TOKENS * COLS], y[TOKENS * ROWS];
    static struct act_store store;
    fill(x, TOKENS * COLS, 1, 3.0f);
    quantise_all(kn, x, &store);
    const struct qact a = act_view(&store);
    for (int kind = 0; kind < PACK_KIND_COUNT; kind++) {
        size_t row_bytes;
        struct pack pack;
        uint8_t *rows = make_rows((enum pack_kind)kind, &row_bytes);
        uint8_t *data = make_pack((enum pack_kind)kind, rows, row_bytes, &pack);
        for (size_t n = 1; n <= TOKENS; n++) {
            for (int add = 0; add < 2; add++) {
                fill(y, TOKENS * ROWS, 9, 1.0f);
                if (kind <= PACK_Q8) {
                    kn->matmul_q(&pack, 0, pack_panels(ROWS), &a, n, y, ROWS, add);
                } else {
                    kn->matmul_f(&pack, 0, pack_panels(ROWS), x, COLS, n, y, ROWS, add);
                }
                for (size_t i = 0; i < TOKENS * ROWS; i++) {
                    const size_t t = i / ROWS;
                    const size_t r = i % ROWS;
                    float want = uniform(9, i);
                    if (t < n) {
                        float product = 0.0f;
                        if (kind <= PACK_Q8) {
                            product = define_q((enum pack_kind)kind, rows + r * row_bytes, &a, t);
                        }
                        for (size_t k = 0; kind > PACK_Q8 && k < COLS; k++) {
                            float w;
                            uint16_t h;
                            memcpy(&h, rows + r * row_bytes + k * 2, 2);
                            memcpy(&w, rows + r * row_bytes + k * (kind == PACK_F32 ? 4 : 0), 4);
                            w = kind == PACK_F16    ? half_to_float(h)
                                : kind == PACK_BF16 ? bfloat_to_float(h)
                                                    : w;
                            product = fmaf(w, x[t * COLS + k], product);
                        }
                        want = add ? want + product : product;
                    }
                    /* exactly the written part, to the bit */
                    assert_memory_equal(&y[i], &want, sizeof want);
                }
            }
        }
        mem_free(rows);
        mem_free(data);
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
        for (size_t j = 0; j < 32; j++) {
            const int want = tiny ? 0 : (int)nearbyintf(x[b * 32 + j] * (127.0f / amax));
            assert_int_equal(a.q[b * 32 + j], want);
            sum += want;
        }
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
