/* The functions of <math.h> that generated code calls, for compilers that bring no C library. What their run-time libraries
 * may lack stands here; the compiler turns the others into instructions or into calls of these libraries. */
#ifndef ONNXC_MATH_H
#define ONNXC_MATH_H

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

float fabsf(float x);
float sqrtf(float x);
float floorf(float x);
float ceilf(float x);
float truncf(float x);
float fmodf(float x, float y);
double fabs(double x);
double sqrt(double x);
double floor(double x);
double ceil(double x);
double trunc(double x);
double fmod(double x, double y);

#define copysignf __builtin_copysignf
#define copysign __builtin_copysign

/* Half to even: beyond 2^23 and 2^52 all numbers are whole, below the sum is rounded. */
static inline float onnxc_rintf(float x) {
    const float large = copysignf(8388608.0f, x);
    return __builtin_fabsf(x) < 8388608.0f ? copysignf(x + large - large, x) : x;
}
static inline double onnxc_rint(double x) {
    const double large = copysign(4503599627370496.0, x);
    return __builtin_fabs(x) < 4503599627370496.0 ? copysign(x + large - large, x) : x;
}
#define rintf onnxc_rintf
#define rint onnxc_rint

#endif
