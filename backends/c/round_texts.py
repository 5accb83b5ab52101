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

CODE = """static inline $C onnxc_code_$t(float x, int32_t zero) {
    int32_t code = onnxc_rounded(x);
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
    text = CODE
    for slot, value in zip(("$C", "$t", "$sat", "$high", "$low"), parts, strict=True):
        text = text.replace(slot, value)
    return {"onnxc_rounded": ROUNDED, f"onnxc_code_{parts[1]}": text}
