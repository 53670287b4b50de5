/* Our own elementary functions, in double, the same bits on every machine.
 *
 * libm differs between platforms and versions, so no path to a result calls it. These use only + −
 * × ÷ and fma on doubles, each IEEE-exact, so they repeat everywhere. Errors are below 1e-13
 * relative over the ranges given: enough that the fp32 values made from them are within 1 ulp.
 */
#ifndef KERNELS_DET_MATH_H
#define KERNELS_DET_MATH_H

double det_exp(double x);           /* |x| ≤ 700, clamped */
double det_log(double x);           /* x > 0, normal */
double det_pow(double x, double y); /* x > 0; exp(y·log x) */
double det_sin(double x);           /* |x| ≤ 1e6 */
double det_cos(double x);           /* |x| ≤ 1e6 */
double det_tanh(double x);

#endif
