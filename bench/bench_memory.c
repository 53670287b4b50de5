/* How fast this machine reads memory: N threads add up a buffer far larger than any cache, each its
 * own part, over and over. Reads one number of seconds a line and answers each with a JSON object
 * {"gb_per_s": …}, so that it can take turns with what it is compared to.
 *
 * usage: bench_memory [THREADS [MEGABYTES]] */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { THREADS_MAX = 256, LINE_BYTES = 64, STRIPE_WORDS = 1 << 16, MEGABYTES = 2048 };

struct part {
    const uint64_t *words;
    size_t n;
    int64_t end_ns;
    uint64_t sum;   /* so that reading is not left out */
    uint64_t bytes; /* read before end_ns */
};

/* Eight independent sums, which the compiler makes vectors of. */
static uint64_t add_up(const uint64_t *words, size_t n)
{
    uint64_t sums[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8) {
        __builtin_prefetch(words + i + 512);
        for (size_t j = 0; j < 8; j++) {
            sums[j] += words[i + j];
        }
    }
    uint64_t sum = 0;
    for (size_t j = 0; j < 8; j++) {
        sum += sums[j];
    }
    return sum;
}

static void *read_part(void *arg)
{
    struct part *part = arg;
    size_t at = 0;
    while (clock_monotonic_ns() < part->end_ns) {
        part->sum += add_up(part->words + at, STRIPE_WORDS);
        part->bytes += STRIPE_WORDS * sizeof *part->words;
        at += STRIPE_WORDS;
        at = at + STRIPE_WORDS > part->n ? 0 : at;
    }
    return NULL;
}

static double measure(const uint64_t *words, size_t n, int threads, double seconds)
{
    struct part parts[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    const int64_t start = clock_monotonic_ns();
    int started = 0;
    for (; started < threads; started++) {
        const size_t share = n / (size_t)threads;
        parts[started] = (struct part){.words = words + share * (size_t)started,
                                       .n = share,
                                       .end_ns = start + (int64_t)(seconds * 1e9)};
        if (pthread_create(&ids[started], NULL, read_part, &parts[started]) != 0) {
            break;
        }
    }
    uint64_t bytes = 0, sum = 0;
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        bytes += parts[i].bytes;
        sum += parts[i].sum;
    }
    const double took = (double)(clock_monotonic_ns() - start) * 1e-9;
    return started == threads && sum != 0 ? (double)bytes / took / 1e9 : 0;
}

int main(int argc, char **argv)
{
    const long threads = argc > 1 ? strtol(argv[1], NULL, 10) : sysconf(_SC_NPROCESSORS_ONLN);
    const long megabytes = argc > 2 ? strtol(argv[2], NULL, 10) : MEGABYTES;
    if (threads < 1 || threads > THREADS_MAX || megabytes < 1 || megabytes > 1 << 20) {
        fputs("usage: bench_memory [THREADS [MEGABYTES]] < SECONDS\n", stderr);
        return 2;
    }
    const size_t n = (size_t)megabytes * (1 << 20) / sizeof(uint64_t);
    uint64_t *words = mem_calloc(n, sizeof *words);
    if (words == NULL || n / (size_t)threads < STRIPE_WORDS) {
        fputs("bench_memory: too little memory\n", stderr);
        mem_free(words);
        return 1;
    }
    memset(words, 1, n * sizeof *words); /* zero pages would all be the same one */
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin) != NULL) {
        printf("{\"gb_per_s\": %.2f}\n", measure(words, n, (int)threads, strtod(line, NULL)));
        fflush(stdout);
    }
    mem_free(words);
    return 0;
}
