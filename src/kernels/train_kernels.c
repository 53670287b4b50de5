/* The training tables by name; what this machine runs is decided by kernels_get. */
#include "kernels/train_kernels.h"

#include <string.h>

#include "kernels/kernels.h"

extern const struct train_kernels train_kernels_table_ref;
#ifdef KERNELS_HAVE_AVX2
extern const struct train_kernels train_kernels_table_avx2;
#endif
#ifdef KERNELS_HAVE_AVX512
extern const struct train_kernels train_kernels_table_avx512;
#endif
#ifdef KERNELS_HAVE_NEON
extern const struct train_kernels train_kernels_table_neon;
#endif

static const struct train_kernels *const tables[] = {
#ifdef KERNELS_HAVE_AVX512
    &train_kernels_table_avx512,
#endif
#ifdef KERNELS_HAVE_AVX2
    &train_kernels_table_avx2,
#endif
#ifdef KERNELS_HAVE_NEON
    &train_kernels_table_neon,
#endif
    &train_kernels_table_ref,
};

const struct train_kernels *train_kernels_get(const char *isa)
{
    const struct kernels *serving = kernels_get(isa);
    for (size_t i = 0; serving && i < sizeof tables / sizeof tables[0]; i++) {
        if (strcmp(tables[i]->isa, serving->isa) == 0) {
            return tables[i];
        }
    }
    return NULL;
}
