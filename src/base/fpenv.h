/* The floating-point environment that results are defined in: round to nearest, subnormal numbers
 * kept on input and output, no traps.
 *
 * Libraries built with fast-math switch subnormals off behind a program's back, per thread. A
 * compute task therefore calls fpenv_enter at its start and fpenv_check at its end; false means
 * that something in between changed the environment and that the result must not be used. Costs a
 * few cycles. pool_run does both on every lane.
 */
#ifndef BASE_FPENV_H
#define BASE_FPENV_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

#if defined(__x86_64__)

/* MXCSR: rounding in bits 13-14, flush to zero bit 15, denormals are zero bit 6, masks 7-12. */
enum { FPENV_MXCSR_CLEAR = 0xE040, FPENV_MXCSR_MASKS = 0x1F80 };

static inline bool fpenv_check(void)
{
    unsigned now = _mm_getcsr();
    return (now & (FPENV_MXCSR_CLEAR | FPENV_MXCSR_MASKS)) == FPENV_MXCSR_MASKS;
}

static inline void fpenv_enter(void)
{
    if (!fpenv_check())
        _mm_setcsr((_mm_getcsr() & ~(unsigned)FPENV_MXCSR_CLEAR) | FPENV_MXCSR_MASKS);
}

#elif defined(__aarch64__)

/* FPCR: FIZ 0, AH 1, NEP 2, traps 8-12 and 15, FZ16 19, rounding 22-23, FZ 24, DN 25, AHP 26. */
static const uint64_t FPENV_FPCR_CLEAR = 0x07C89F07;

static inline uint64_t fpenv_fpcr(void)
{
    uint64_t now;
    __asm__ volatile("mrs %0, fpcr" : "=r"(now));
    return now;
}

static inline bool fpenv_check(void)
{
    return (fpenv_fpcr() & FPENV_FPCR_CLEAR) == 0;
}

static inline void fpenv_enter(void)
{
    if (!fpenv_check())
        __asm__ volatile("msr fpcr, %0" : : "r"(fpenv_fpcr() & ~FPENV_FPCR_CLEAR) : "memory");
}

#else

static inline bool fpenv_check(void)
{
    return fegetround() == FE_TONEAREST;
}

static inline void fpenv_enter(void)
{
    fesetenv(FE_DFL_ENV);
}

#endif

#endif
