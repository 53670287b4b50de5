/* Argument reduction by the nearest multiple of ln 2 or π/2 in two parts, then Taylor polynomials
 * long enough for double precision on the reduced range, by Horner's rule with fma. */
#include "kernels/det_math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static double pow2i(int n)
{
    const uint64_t bits = (uint64_t)(n + 1023) << 52;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* Nearest integer, ties to even, for |x| < 2^51. */
static double nearest(double x)
{
    const double magic = 6755399441055744.0; /* 1.5·2^52 */
    volatile double shifted = x + magic;
    return shifted - magic;
}

double det_exp(double x)
{
    if (x > 700.0) {
        x = 700.0;
    }
    if (x < -700.0) {
        x = -700.0;
    }
    const double n = nearest(x * 1.4426950408889634074);
    double r = fma(n, -6.93147180369123816490e-01, x);
    r = fma(n, -1.90821492927058770002e-10, r);
    double p = 1.0 / 6227020800.0;
    double factorial = 6227020800.0;
    for (int k = 13; k > 0; k--) {
        factorial /= (double)k;
        p = fma(p, r, 1.0 / factorial);
    }
    return p * pow2i((int)n);
}

/* x = m·2^e with m in [√½, √2); log m = 2·atanh((m−1)/(m+1)). */
double det_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.41421356237309504880) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double p = 0.0;
    for (int k = 25; k >= 1; k -= 2) {
        p = fma(p, z, 2.0 / (double)k);
    }
    const double hi = (double)e * 6.93147180369123816490e-01;
    return hi + fma((double)e, 1.90821492927058770002e-10, s * p);
}

double det_pow(double x, double y)
{
    return det_exp(y * det_log(x));
}

static double sin_poly(double r)
{
    const double z = r * r;
    double p = -1.0 / 121645100408832000.0;
    p = fma(p, z, 1.0 / 355687428096000.0);
    p = fma(p, z, -1.0 / 1307674368000.0);
    p = fma(p, z, 1.0 / 6227020800.0);
    p = fma(p, z, -1.0 / 39916800.0);
    p = fma(p, z, 1.0 / 362880.0);
    p = fma(p, z, -1.0 / 5040.0);
    p = fma(p, z, 1.0 / 120.0);
    p = fma(p, z, -1.0 / 6.0);
    return fma(p * z, r, r);
}

static double cos_poly(double r)
{
    const double z = r * r;
    double p = 1.0 / 6402373705728000.0 * -1.0;
    p = fma(p, z, 1.0 / 20922789888000.0);
    p = fma(p, z, -1.0 / 87178291200.0);
    p = fma(p, z, 1.0 / 479001600.0);
    p = fma(p, z, -1.0 / 3628800.0);
    p = fma(p, z, 1.0 / 40320.0);
    p = fma(p, z, -1.0 / 720.0);
    p = fma(p, z, 1.0 / 24.0);
    p = fma(p, z, -0.5);
    return fma(p, z, 1.0);
}

/* π/2 in three parts; n·part is exact to the last for |n| < 2^20. */
static double reduce_half_pi(double x, int *quadrant)
{
    const double n = nearest(x * 0.63661977236758134308);
    double r = fma(n, -1.57079632673412561417e+00, x);
    r = fma(n, -6.07710050630396597660e-11, r);
    r = fma(n, -2.02226624879595063154e-21, r);
    *quadrant = (int)((int64_t)n & 3);
    return r;
}

double det_sin(double x)
{
    int quadrant;
    const double r = reduce_half_pi(x, &quadrant);
    const double v = (quadrant & 1) ? cos_poly(r) : sin_poly(r);
    return (quadrant & 2) ? -v : v;
}

double det_cos(double x)
{
    int quadrant;
    const double r = reduce_half_pi(x, &quadrant);
    const double v = (quadrant & 1) ? sin_poly(r) : cos_poly(r);
    return (quadrant == 1 || quadrant == 2) ? -v : v;
}

double det_tanh(double x)
{
    if (x > 20.0) {
        return 1.0;
    }
    if (x < -20.0) {
        return -1.0;
    }
    if (fabs(x) < 1e-3) {
        const double z = x * x;
        return x * fma(z, fma(z, 2.0 / 15.0, -1.0 / 3.0), 1.0);
    }
    const double e = det_exp(2.0 * x);
    return (e - 1.0) / (e + 1.0);
}
