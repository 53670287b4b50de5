/* How it works. Philox is ten rounds of two 32×32→64 multiplies; nothing is kept between calls.
 * Integers come from draws by multiply-shift, reals by scaling 24 bits, so no result depends on a
 * math library.
 */
#include "base/rng.h"

#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include "base/err.h"

enum { ROUNDS = 10, ENTROPY_BYTES_MAX = 256 };

void rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    const uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u;
    const uint32_t w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)m0 * c0, p1 = (uint64_t)m1 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += w0;
        k1 += w1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void rng_draw4(uint64_t seed, enum rng_domain domain, uint64_t a, uint64_t b, uint32_t out[4])
{
    uint32_t tag = (uint32_t)domain * 0x9E3779B9u;
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32) ^ tag};
    uint32_t counter[4] = {(uint32_t)a, (uint32_t)(a >> 32), (uint32_t)b, (uint32_t)(b >> 32)};
    rng_philox(counter, key, out);
}

float rng_uniform(uint64_t seed, enum rng_domain domain, uint64_t a, uint64_t b)
{
    uint32_t out[4];
    rng_draw4(seed, domain, a, b, out);
    return (float)(out[0] >> 8) * 0x1p-24f;
}

void rng_shuffle(uint64_t seed, uint64_t epoch, uint32_t *indices, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t out[4];
        rng_draw4(seed, RNG_SHUFFLE, epoch, i - 1, out);
        uint64_t draw = (uint64_t)out[1] << 32 | out[0];
        uint32_t j = (uint32_t)(((unsigned __int128)draw * i) >> 64);
        uint32_t swap = indices[i - 1];
        indices[i - 1] = indices[j];
        indices[j] = swap;
    }
}

int rng_os_bytes(void *out, unsigned n)
{
    unsigned char *to = out;
    while (n > 0) {
        unsigned part = n < ENTROPY_BYTES_MAX ? n : ENTROPY_BYTES_MAX;
        if (getentropy(to, part) != 0)
            return -ERR_IO;
        to += part;
        n -= part;
    }
    return 0;
}
