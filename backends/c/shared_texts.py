"""Small functions that the texts of rows call: single instructions that compilers do not find by themselves.

Each stands in a file only if something there calls it (`mma.py` sees to that), under its own condition. Blocks that
read memory through a pointer which they move are volatile: gcc takes others out of loops.
"""

from __future__ import annotations

from collections.abc import Iterator

from .round_texts import APART, SCALED, code_texts

INCLUDE = "arm_mve.h"
"""Name of the text that everything with MVE needs."""

INLINED = """#if defined(__GNUC__)
#define onnxc_inlined static inline __attribute__((always_inline))
#else
#define onnxc_inlined static inline
#endif
"""

UNROLLED = """#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 8)
#define onnxc_pragma(text) _Pragma(#text)
#define onnxc_unroll(rounds) onnxc_pragma(GCC unroll rounds)
#else
#define onnxc_unroll(rounds)
#endif
"""

EXTENDED = """static inline uint32_t onnxc_$half_$t(uint32_t x) {
    uint32_t half;
    __asm__("$extend %0, %1$turn" : "=r"(half) : "r"(x));
    return half;
}
"""

WORD = """static inline uint32_t onnxc_word(const void *bytes) {
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}
"""

SET_FOUR = """static inline void onnxc_set_four(int16_t *patch, uint32_t even, uint32_t odd) {
    const uint32_t four[2] = {even, odd};
    __builtin_memcpy(__builtin_assume_aligned(patch, 8), four, sizeof four);
}
"""

PAIRS = """typedef struct {
    uint32_t even, odd;
} onnxc_pairs;
"""

NEXT_DATA = """static inline onnxc_pairs onnxc_next_data(const int16_t **patch) {
    onnxc_pairs x;
    __asm__ volatile("ldrd %0, %1, [%2], #8" : "=&r"(x.even), "=&r"(x.odd), "+r"(*patch) : : "memory");
    return x;
}
"""

NEXT_WEIGHTS = """static inline onnxc_pairs onnxc_next_weights_$t(const $T **weights) {
    onnxc_pairs w;
    __asm__ volatile("ldr %1, [%2], #4\\n\\t$extend %0, %1\\n\\t$extend %1, %1, ror #8"
                     : "=&r"(w.even), "=&r"(w.odd), "+r"(*weights) : : "memory");
    return w;
}
"""

ADD_PRODUCTS = """static inline int32_t onnxc_add_products(onnxc_pairs x, onnxc_pairs w, int32_t sum) {
    __asm__("smlad %0, %1, %2, %0\\n\\tsmlad %0, %3, %4, %0" : "+r"(sum) : "r"(x.even), "r"(w.even), "r"(x.odd), "r"(w.odd));
    return sum;
}
"""

NEXT_VECTOR = """static inline $vector onnxc_next_$name(const $T **from) {
    $vector next;
    __asm__ volatile("$load %q0, [%1], #$step" : "=w"(next), "+$registers"(*from) : : "memory");
    return next;
}
"""

VECTORS = (
    ("bytes", "int8x16_t", "int8_t", "vldrb.u8", "r", 16), ("s8", "int16x8_t", "int8_t", "vldrb.s16", "l", 8),
    ("u8", "int16x8_t", "uint8_t", "vldrb.u16", "l", 8), ("halves", "int16x8_t", "int16_t", "vldrh.u16", "r", 16),
)  # fmt: skip
"""Loads: name, type, elements in memory, instruction, registers of its address (widening loads take low ones), bytes."""

PART_S8 = """static inline int16x8_t onnxc_part_s8(const int8_t *from, mve_pred16_t lanes) {
    return vldrbq_z_s16(from, lanes);
}
"""

PART_U8 = """static inline int16x8_t onnxc_part_u8(const uint8_t *from, mve_pred16_t lanes) {
    return vreinterpretq_s16_u16(vldrbq_z_u16(from, lanes));
}
"""

FOUR_CODES = """static inline int32x4_t onnxc_four_codes(int32x4_t acc, int32x4_t bias, float32x4_t scale, int32_t zero, int32_t low,
                                         int32_t high) {
    const int32x4_t code = vqaddq_n_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(vaddq_s32(acc, bias)), scale)), zero);
    return vminq_s32(vmaxq_s32(code, vdupq_n_s32(low)), vdupq_n_s32(high));
}
"""

FOUR_QUOTIENTS = """/* x / divisor, rounded once: MVE does not divide. Remainders are exact, so the second gives what a division would. */
static inline float32x4_t onnxc_four_quotients(float32x4_t x, float divisor, float inverse) {
    const float32x4_t all = vdupq_n_f32(divisor);
    float32x4_t quotient = vmulq_n_f32(x, inverse);
    quotient = vfmaq_n_f32(quotient, vfmsq_f32(x, quotient, all), inverse);
    return vfmaq_n_f32(quotient, vfmsq_f32(x, quotient, all), inverse);
}
"""
"""Markstein, Computation of elementary functions on the IBM RISC System/6000 processor, 1990."""

FOUR_SUMS = """onnxc_inlined int32x4_t onnxc_four_sums(int32x4_t one, int32x4_t other, int32_t one_zero, int32_t other_zero, int32_t zero,
                                        int32_t least, float one_scale, float other_scale, float scale, float inverse) {
    const float32x4_t first = vmulq_n_f32(vcvtq_f32_s32(vsubq_n_s32(one, one_zero)), one_scale);
    const float32x4_t second = vmulq_n_f32(vcvtq_f32_s32(vsubq_n_s32(other, other_zero)), other_scale);
    const float32x4_t units = onnxc_four_quotients(vaddq_f32(second, first), scale, inverse);
    return vmaxq_s32(vqaddq_n_s32(vcvtnq_s32_f32(units), zero), vdupq_n_s32(least));
}
"""

TYPES = (("s8", "int8_t", "sxtb16"), ("u8", "uint8_t", "uxtb16"))


def _dsp() -> Iterator[tuple[str, str]]:
    yield "onnxc_word", WORD
    yield "onnxc_set_four", SET_FOUR
    yield "onnxc_pairs", PAIRS
    for t, c_type, extend in TYPES:
        for half, turn in (("even", ""), ("odd", ", ror #8")):
            yield f"onnxc_{half}_{t}", filled(EXTENDED, half=half, turn=turn, extend=extend, t=t)
        yield f"onnxc_next_weights_{t}", filled(NEXT_WEIGHTS, extend=extend, T=c_type, t=t)
    yield "onnxc_next_data", NEXT_DATA
    yield "onnxc_add_products", ADD_PRODUCTS


def _mve() -> Iterator[tuple[str, str]]:
    yield INCLUDE, f"#include <{INCLUDE}>\n"
    for name, vector, c_type, load, registers, step in VECTORS:
        parts = {"vector": vector, "name": name, "load": load, "registers": registers, "step": str(step), "T": c_type}
        yield f"onnxc_next_{name}", filled(NEXT_VECTOR, **parts)
    yield "onnxc_part_s8", PART_S8
    yield "onnxc_part_u8", PART_U8


def _mve_floats() -> Iterator[tuple[str, str]]:
    yield "onnxc_four_codes", FOUR_CODES
    yield "onnxc_four_quotients", FOUR_QUOTIENTS
    yield "onnxc_four_sums", FOUR_SUMS


def filled(text: str, **parts: str) -> str:
    """A text with values for its slots `$name`; longer names first, so that none hides another."""
    for name in sorted(parts, key=len, reverse=True):
        text = text.replace(f"${name}", parts[name])
    return text


def shared_texts() -> dict[str, str]:
    """All of them by name, those that are called before those that call."""
    found = {name: f"#if defined(__ARM_FEATURE_MVE)\n{text}#endif\n" for name, text in _mve()}
    floats = "#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)"
    found |= {name: f"{floats}\n{text}#endif\n" for name, text in _mve_floats()}
    condition = "#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_FEATURE_MVE)"
    found |= {name: f"{condition}\n{text}#endif\n" for name, text in _dsp()}
    whole = {"onnxc_scaled": SCALED, "onnxc_apart": APART, "onnxc_inlined": INLINED, "onnxc_unroll": UNROLLED}
    return found | code_texts(True) | code_texts(False) | whole
