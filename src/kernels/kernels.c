/* Which instruction sets this build has and this machine runs. */
#include "kernels/kernels.h"

#include <string.h>

extern const struct kernels kernels_table_ref;
#ifdef KERNELS_HAVE_AVX2
extern const struct kernels kernels_table_avx2;
#endif
#ifdef KERNELS_HAVE_AVX512
extern const struct kernels kernels_table_avx512;
#endif
#ifdef KERNELS_HAVE_NEON
extern const struct kernels kernels_table_neon;
#endif

/* Whether the machine runs what the build has, by name. */
static int machine_runs(const char *isa)
{
#ifdef KERNELS_HAVE_AVX2
    if (strcmp(isa, "avx512") == 0) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vnni");
    }
    if (strcmp(isa, "avx2") == 0) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    return __builtin_cpu_supports("fma") != 0;
#else
    (void)isa;
    return 1;
#endif
}

static const struct kernels *const tables[] = {
#ifdef KERNELS_HAVE_AVX512
    &kernels_table_avx512,
#endif
#ifdef KERNELS_HAVE_AVX2
    &kernels_table_avx2,
#endif
#ifdef KERNELS_HAVE_NEON
    &kernels_table_neon,
#endif
    &kernels_table_ref,
};

enum { TABLES = sizeof tables / sizeof tables[0] };

const struct kernels *kernels_get(const char *isa)
{
    const int best = strcmp(isa, "best") == 0;
    for (size_t i = 0; i < TABLES; i++) {
        if ((best || strcmp(isa, tables[i]->isa) == 0) && machine_runs(tables[i]->isa)) {
            return tables[i];
        }
    }
    return NULL;
}

/* The list is a constant of build and machine; two threads writing it write the same. */
const char *const *kernels_available(void)
{
    static const char *names[TABLES + 1];
    size_t n = 0;
    for (size_t i = 0; i < TABLES; i++) {
        if (machine_runs(tables[i]->isa)) {
            names[n++] = tables[i]->isa;
        }
    }
    return names;
}
