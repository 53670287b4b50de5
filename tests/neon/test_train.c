/* The training kernels in NEON against the reference; runs under qemu-user too. */
#include "kernels/train_cases.h"

int main(void)
{
    if (train_kernels_get("neon") == NULL) {
        printf("this machine does not run NEON\n");
        return 1;
    }
    const int failures = train_cases("neon");
    printf("neon: %d training cases differ\n", failures);
    return failures != 0;
}
