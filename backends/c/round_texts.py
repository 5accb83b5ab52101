"""Texts that turn real numbers into 8-bit codes: `saturate(round(x) + zero)`, ties to even.

A call of the C library's `rint` and comparisons of floats cost more than the sum before it. Arm converts and
rounds in one instruction (VCVTR, in the mode of FPSCR, which is ties to even unless the program changes it),
so does RISC-V; elsewhere the bits of the number are enough. All bodies give the same codes.
"""

from __future__ import annotations

ROUNDED = """/* The nearest integer, ties to even; beyond 2^22 any number on that side of it, 0 for NaN. */
static inline int32_t onnxc_rounded(float x) {
#if defined(__ARM_FP) && (__ARM_FP & 4) && !defined(__aarch64__) && defined(__GNUC__)
    int32_t whole;
    __asm__("vcvtr.s32.f32 %0, %1" : "=t"(x) : "t"(x));
    __builtin_memcpy(&whole, &x, sizeof whole);
    return whole;
#elif defined(__riscv_flen) && defined(__GNUC__)
    int32_t whole;
    __asm__("fcvt.w.s %0, %1, rne" : "=r"(whole) : "f"(x));
    return x == x ? whole : 0;
#else
    union {
        float from;
        uint32_t to;
    } bits;
    bits.from = x;
    const uint32_t size = bits.to & 0x7FFFFFFFu;
    uint32_t whole;
    if (size < 0x3F000000u || size > 0x7F800000u) {
        whole = 0;
    } else if (size >= 0x4A800000u) {
        whole = 0x400000u;
    } else {
        const uint32_t shift = 150u - (size >> 23);
        const uint32_t digits = (size & 0x7FFFFFu) | 0x800000u;
        const uint32_t rest = digits & ((1u << shift) - 1u), half = 1u << (shift - 1u);
        whole = digits >> shift;
        whole += rest > half || (rest == half && (whole & 1u) != 0u) ? 1u : 0u;
    }
    return (bits.to >> 31) != 0u ? -(int32_t)whole : (int32_t)whole;
#endif
}
"""

SCALED = """/* onnxc_rounded of (float)sum * scale; without an FPU by integers, which are rounded where floats would be. */
#if defined(__GNUC__) && ((defined(__arm__) && !defined(__thumb2__) && !defined(__ARM_FP)) || \\
                          (defined(__riscv) && !defined(__riscv_flen)))
static __attribute__((noinline)) int32_t onnxc_scaled(int32_t sum, float scale) {
    union {
        float from;
        uint32_t to;
    } bits;
    bits.from = scale;
    const uint32_t exponent = bits.to >> 23;
    if (exponent == 0u || exponent >= 255u) { /* not a normal positive number */
        return onnxc_rounded((float)sum * scale);
    }
    uint32_t digits = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    int32_t shift = 150 - (int32_t)exponent;
    if (digits >= 0x1000000u) {
        const int32_t excess = 8 - __builtin_clz(digits);
        digits = (digits + (1u << (excess - 1)) - 1u + ((digits >> excess) & 1u)) >> excess;
        shift -= excess;
    }
    if (digits == 0u) {
        return 0;
    }
    const uint64_t product = (uint64_t)digits * ((bits.to & 0x7FFFFFu) | 0x800000u);
    const int32_t zeros = __builtin_clz(digits);
    const int32_t beyond = 31 - zeros + (product >> (55 - zeros) != 0u ? 1 : 0); /* bits of the product that a float does not hold */
    uint32_t whole = (uint32_t)(product >> beyond);
    const uint64_t rest = product & (((uint64_t)1 << beyond) - 1u), half = ((uint64_t)1 << beyond) >> 1;
    whole += beyond > 0 && (rest > half || (rest == half && (whole & 1u) != 0u)) ? 1u : 0u;
    shift -= beyond;
    if (shift >= 25) {
        whole = 0u;
    } else if (shift <= 1) {
        whole = 0x400000u;
    } else {
        whole = (whole + (1u << (shift - 1)) - 1u + ((whole >> shift) & 1u)) >> shift;
    }
    return sum < 0 ? -(int32_t)whole : (int32_t)whole;
}
#else
static inline int32_t onnxc_scaled(int32_t sum, float scale) {
    return onnxc_rounded((float)sum * scale);
}
#endif
"""

APART = """/* The number itself, rounded: compilers do not fuse the product that it is into a sum. */
static inline float onnxc_apart(float x) {
#if defined(__ARM_FP) && (__ARM_FP & 4) && defined(__GNUC__)
    __asm__("" : "+w"(x));
#elif defined(__riscv_flen) && defined(__GNUC__)
    __asm__("" : "+f"(x));
#elif defined(__SSE__) && defined(__GNUC__)
    __asm__("" : "+x"(x));
#endif
    return x;
}
"""

RINT = """#if defined(__AVR__) /* whose C library has none */
static float onnxc_rintf(float x) {
    const float down = floorf(x), rest = x - down;
    const float whole = rest > 0.5f || (rest == 0.5f && floorf(down * 0.5f) * 2.0f != down) ? down + 1.0f : down;
    return copysignf(whole, x);
}
#define rintf onnxc_rintf
#define rint onnxc_rintf /* doubles have 32 bits */
#endif
"""

CODE = """static inline $C onnxc_code_$t(float x, int32_t zero) {
    return onnxc_byte_$t(onnxc_rounded(x), zero);
}
"""

BYTE = """static inline $C onnxc_byte_$t(int32_t code, int32_t zero) {
#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
    __asm__("qadd %0, %1, %2" : "=r"(code) : "r"(code), "r"(zero));
    __asm__("$sat %0, #8, %1" : "=r"(code) : "r"(code));
    return ($C)code;
#else
    return ($C)(code > $high - zero ? $high : code < $low - zero ? $low : code + zero);
#endif
}
"""


def code_texts(signed: bool) -> dict[str, str]:
    """The helper functions of `saturate(round(x) + zero)` for int8 or uint8, by name; the last one is called."""
    parts = ("int8_t", "s8", "ssat", "127", "(-128)") if signed else ("uint8_t", "u8", "usat", "255", "0")
    texts = {"onnxc_rounded": ROUNDED, f"onnxc_byte_{parts[1]}": BYTE, f"onnxc_code_{parts[1]}": CODE}
    for slot, value in zip(("$C", "$t", "$sat", "$high", "$low"), parts, strict=True):
        texts = {name: text.replace(slot, value) for name, text in texts.items()}
    return texts
