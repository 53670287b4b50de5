/* Inputs are draws of the counter-based generator, so they are the same on every machine; each
 * kernel's output goes on into one hash. */
#include "cli/self_test.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/half.h"
#include "kernels/kernels.h"

enum {
    COLS = 256, /* one block of a K type */
    ROWS = 32,
    TOKENS = 3,
    BLOCKS = COLS / KERNEL_BLOCK,
    HEAD_DIM = 64,
    POSITIONS = 21,
    PAGE_TOKENS = 16,
    PAGES = 2,
    PAGE_HALVES = 2 * HEAD_DIM * PAGE_TOKENS,
    SEED = 20
};

struct work {
    const struct kernels *k;
    struct sha256 hash;
    float x[TOKENS * COLS];
    float y[TOKENS * ROWS];
    int8_t q[TOKENS * COLS];
    float d[TOKENS * BLOCKS], dsum[TOKENS * BLOCKS];
    int32_t zero8[TOKENS * BLOCKS], zero128[TOKENS * BLOCKS], zero32[TOKENS * BLOCKS * 2];
    uint16_t page[PAGES][PAGE_HALVES];
    float scores[PAGES * PAGE_TOKENS];
};

static float draw(uint64_t stream, uint64_t i)
{
    return rng_uniform(SEED, RNG_INIT, stream, i) * 2.0f - 1.0f;
}

static void fill(float *x, size_t n, uint64_t stream)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = draw(stream, i);
    }
}

static void put_half(uint8_t *at, float value)
{
    const uint16_t half = half_from_float(value);
    memcpy(at, &half, sizeof half);
}

/* A panel in place: random quants, then scales; or random elements. */
static void fill_panel(const struct pack *pack, uint8_t *panel)
{
    if (pack_is_quantised(pack->kind)) {
        const size_t quants = BLOCKS * pack_quant_bytes(pack->kind);
        for (size_t i = 0; i < quants; i++) {
            uint32_t four[4];
            rng_draw4(SEED, RNG_INIT, (uint64_t)pack->kind, i, four);
            panel[i] = (uint8_t)four[0];
        }
        /* a K type's integer scales are whatever these halves' bytes are */
        for (size_t i = 0; i < (pack->panel_bytes - quants) / 2; i++) {
            put_half(panel + quants + i * 2, 0.01f * draw(7, i));
        }
        return;
    }
    for (size_t i = 0; i < (size_t)COLS * KERNEL_LANES; i++) {
        const float value = draw(8, i);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        const uint16_t upper = (uint16_t)(bits >> 16);
        if (pack->kind == PACK_F32) {
            memcpy(panel + i * 4, &value, sizeof value);
        } else if (pack->kind == PACK_F16) {
            put_half(panel + i * 2, value);
        } else {
            memcpy(panel + i * 2, &upper, sizeof upper);
        }
    }
}

static int take(struct work *w, const void *bytes, size_t n, struct err *err)
{
    return sha256_update(&w->hash, bytes, n, err);
}

static int product(struct work *w, enum pack_kind kind, const struct qact *x, struct err *err)
{
    struct pack pack = {.kind = kind, .n_rows = ROWS, .n_cols = COLS};
    const size_t panels = pack_panels(ROWS);
    pack.group_shift = 1;
    pack.scale_kind = PACK_F16;
    pack.panel_bytes = pack_is_affine(kind)
                           ? pack_affine_panel_bytes(kind, COLS, pack.group_shift, PACK_F16)
                           : pack_panel_bytes(kind, COLS);
    uint8_t *data = mem_alloc_simd(panels, pack.panel_bytes);
    if (data == NULL) {
        return mem_err(err, panels * pack.panel_bytes);
    }
    memset(data, 0, panels * pack.panel_bytes);
    for (size_t p = 0; p < panels; p++) {
        fill_panel(&pack, data + p * pack.panel_bytes);
    }
    pack.data = data;
    memset(w->y, 0, sizeof w->y);
    if (pack_is_quantised(kind)) {
        w->k->matmul_q(&pack, 0, panels, x, TOKENS, w->y, ROWS, false);
    } else {
        w->k->matmul_f(&pack, 0, panels, w->x, COLS, TOKENS, w->y, ROWS, false);
    }
    mem_free(data);
    return take(w, w->y, sizeof w->y, err);
}

static int products(struct work *w, struct err *err)
{
    struct qact act = {.n_cols = COLS,
                       .q = w->q,
                       .d = w->d,
                       .dsum = w->dsum,
                       .zero8 = w->zero8,
                       .zero128 = w->zero128,
                       .zero32 = w->zero32};
    fill(w->x, TOKENS * COLS, 1);
    for (size_t t = 0; t < TOKENS; t++) {
        if (!w->k->quantise(w->x + t * COLS, &act, t, 0, COLS)) {
            return err_set(err, ERR_INTERNAL, "%s: finite numbers are not taken for finite",
                           w->k->isa);
        }
    }
    int rc = take(w, w->q, sizeof w->q, err);
    for (int kind = 0; rc == 0 && kind < PACK_KIND_COUNT; kind++) {
        rc = product(w, (enum pack_kind)kind, &act, err);
    }
    return rc;
}

static int attention(struct work *w, struct err *err)
{
    uint16_t *pages[PAGES] = {w->page[0], w->page[1]};
    const struct kv_view kv = {.pages = pages};
    float key[HEAD_DIM], value[HEAD_DIM], query[HEAD_DIM], out[HEAD_DIM];
    float cosines[HEAD_DIM / 2], sines[HEAD_DIM / 2];
    const float *queries[] = {query};
    float *outs[] = {out};
    const size_t visible[] = {POSITIONS};
    fill(cosines, HEAD_DIM / 2, 2);
    fill(sines, HEAD_DIM / 2, 3);
    for (size_t p = 0; p < POSITIONS; p++) {
        fill(key, HEAD_DIM, 10 + p);
        fill(value, HEAD_DIM, 100 + p);
        w->k->rope(key, cosines, sines, HEAD_DIM);
        if (w->k->kv_store(&kv, p, key, value, HEAD_DIM) != 0) {
            return err_set(err, ERR_INTERNAL, "%s: small numbers were clamped", w->k->isa);
        }
    }
    fill(query, HEAD_DIM, 4);
    const struct attention_rule rule = {.head_dim = HEAD_DIM, .scale = 0.125f};
    w->k->attention(&kv, &rule, 1, queries, visible, outs, w->scores, PAGES * PAGE_TOKENS);
    return take(w, out, sizeof out, err);
}

static int vectors(struct work *w, struct err *err)
{
    float a[COLS], b[COLS], c[COLS];
    fill(a, COLS, 5);
    fill(b, COLS, 6);
    w->k->rmsnorm(a, b, 1e-5f, COLS, c);
    w->k->silu_mul(c, b, COLS);
    w->k->axpy(c, 0.3f, a, COLS);
    if (!w->k->softmax(a, COLS)) {
        return err_set(err, ERR_INTERNAL, "%s: finite numbers are not taken for finite", w->k->isa);
    }
    const int rc = take(w, a, sizeof a, err);
    return rc == 0 ? take(w, c, sizeof c, err) : rc;
}

int self_test_hash(const char *isa, char out[SHA256_HEX_BYTES], struct err *err)
{
    struct work *w = mem_alloc_simd(1, sizeof *w);
    if (w == NULL) {
        return mem_err(err, sizeof *w);
    }
    memset(w, 0, sizeof *w);
    w->k = kernels_get(isa);
    assert(w->k != NULL);
    int rc = sha256_init(&w->hash, err);
    rc = rc == 0 ? products(w, err) : rc;
    rc = rc == 0 ? attention(w, err) : rc;
    rc = rc == 0 ? vectors(w, err) : rc;
    rc = rc == 0 ? sha256_final_hex(&w->hash, out, err) : rc;
    sha256_release(&w->hash);
    mem_free(w);
    return rc;
}
