/* A bitmap of some sixteen bits for each token: tokens share most of their pairs, so that few of
 * the bits are set and the bitmap stays in a core's cache.
 */
#include "text/edges.h"

#include "base/mem.h"
#include "base/utf8.h"

enum { LOG_BITS_MIN = 10, LOG_BITS_MAX = 22, BITS_PER_TOKEN = 16 };

int edges_init(struct edges *edges, size_t n_tokens, struct err *err)
{
    uint32_t log_bits = LOG_BITS_MIN;

    while (log_bits < LOG_BITS_MAX && ((size_t)1 << log_bits) < n_tokens * BITS_PER_TOKEN)
        log_bits++;
    edges->shift = 64 - log_bits;
    edges->bits = mem_calloc((size_t)1 << (log_bits - 6), sizeof(*edges->bits));
    return edges->bits == NULL ? mem_err(err, (size_t)1 << (log_bits - 3)) : 0;
}

void edges_release(struct edges *edges)
{
    mem_free(edges->bits);
    edges->bits = NULL;
}

size_t edges_bytes(const struct edges *edges)
{
    return edges->bits == NULL ? 0 : (size_t)1 << (64 - edges->shift - 3);
}

void edges_add(struct edges *edges, const char *text, size_t n)
{
    uint32_t left = 0;

    for (size_t i = 0; i < n;) {
        uint32_t right = 0;
        size_t step = utf8_decode(text + i, n - i, &right);
        if (step == 0)
            return;
        if (i > 0) {
            uint64_t slot = edges_slot(edges, left, right);
            edges->bits[slot / 64] |= UINT64_C(1) << slot % 64;
        }
        left = right;
        i += step;
    }
}
