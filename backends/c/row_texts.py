"""Texts of the rows of `mma.py`: inline C functions with a body for each instruction set.

`__ARM_FEATURE_MVE` (Cortex-M55, M85), `__ARM_FEATURE_DSP` (Cortex-M4, M7, M33) or plain C; all bodies give
the same numbers. In the texts `$x` and `$w` stand for the types of data and weights (`s8`, `u8`), `$X` and
`$W` for their C types. A patch holds 16-bit elements: with DSP instructions the even ones of each four come
before the odd ones, as SXTB16 gives them; with MVE patches of int8 hold bytes.
Instructions: Arm Architecture Reference Manuals ARM DDI 0403 (v7-M DSP) and DDI 0553 (v8.1-M MVE).
"""

from __future__ import annotations

from collections.abc import Mapping

DSP = """#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#elif defined(__ARM_FEATURE_DSP)
static inline uint32_t onnxc_even_s8(uint32_t x) {
    uint32_t even;
    __asm__("sxtb16 %0, %1" : "=r"(even) : "r"(x));
    return even;
}
static inline uint32_t onnxc_odd_s8(uint32_t x) {
    uint32_t odd;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(x));
    return odd;
}
static inline uint32_t onnxc_even_u8(uint32_t x) {
    uint32_t even;
    __asm__("uxtb16 %0, %1" : "=r"(even) : "r"(x));
    return even;
}
static inline uint32_t onnxc_odd_u8(uint32_t x) {
    uint32_t odd;
    __asm__("uxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(x));
    return odd;
}
static inline int32_t onnxc_add_products(uint32_t x, uint32_t y, int32_t sum) {
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
    return sum;
}
static inline int32_t onnxc_add_low_product(uint32_t x, uint32_t y, int32_t sum) {
    __asm__("smlabb %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
    return sum;
}
static inline int32_t onnxc_add_high_product(uint32_t x, uint32_t y, int32_t sum) {
    __asm__("smlatt %0, %1, %2, %0" : "+r"(sum) : "r"(x), "r"(y));
    return sum;
}
static inline uint32_t onnxc_word(const void *bytes) {
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}
typedef struct {
    uint32_t even, odd;
} onnxc_pairs;
static inline onnxc_pairs onnxc_four(const int16_t *patch) {
    onnxc_pairs four;
    __builtin_memcpy(&four, __builtin_assume_aligned(patch, 8), sizeof four);
    return four;
}
static inline void onnxc_set_four(int16_t *patch, uint32_t even, uint32_t odd) {
    const onnxc_pairs four = {even, odd};
    __builtin_memcpy(__builtin_assume_aligned(patch, 8), &four, sizeof four);
}
#endif
"""

COPY = """static inline void onnxc_copy_$x($X *target, const $X *source, int32_t count) {
#if defined(__ARM_FEATURE_MVE)
    for (; count > 0; count -= 16, target += 16, source += 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        vstrbq_p_$x(target, vldrbq_z_$x(source, lanes), lanes);
    }
#else
#if defined(__ARM_FEATURE_DSP)
    for (; count >= 4; count -= 4, target += 4, source += 4) {
        __builtin_memcpy(target, source, 4);
    }
#endif
    for (int32_t i = 0; i < count; i++) {
        target[i] = source[i];
    }
#endif
}
"""

FILL = """static inline void onnxc_fill_$x(int16_t *patch, int32_t value, int32_t position, int32_t count) {
#if defined(__ARM_FEATURE_MVE) && $bytes
    int8_t *target = (int8_t *)patch + position;
    for (; count > 0; count -= 16, target += 16) {
        vstrbq_p_s8(target, vdupq_n_s8((int8_t)value), vctp8q((uint32_t)count));
    }
#else
    for (int32_t i = 0; i < count; i++) {
        patch[position + i] = (int16_t)value;
    }
#endif
}
"""

RUN = """static inline void onnxc_run_$x(int16_t *patch, const $X *data, int32_t position, int32_t count) {
#if defined(__ARM_FEATURE_MVE) && $bytes
    for ($X *target = ($X *)patch + position; count > 0; count -= 16, target += 16, data += 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        vstrbq_p_$x(target, vldrbq_z_$x(data, lanes), lanes);
    }
#elif defined(__ARM_FEATURE_MVE)
    for (patch += position; count > 0; count -= 8, patch += 8, data += 8) {
        const mve_pred16_t lanes = vctp16q((uint32_t)count);
        vstrhq_p_s16(patch, $wide_x(data, lanes), lanes);
    }
#elif defined(__ARM_FEATURE_DSP)
    patch += position;
    for (int32_t i = 0; i < count; i += 4) {
        const uint32_t four = onnxc_word(data + i);
        onnxc_set_four(patch + i, onnxc_even_$x(four), onnxc_odd_$x(four));
    }
#else
    for (int32_t i = 0; i < count; i++) {
        patch[position + i] = data[i];
    }
#endif
}
"""


def dot_text(pixels: int, channels: int) -> str:
    """The text of `acc[p * channels + c] = sum(patch[p] * weight[c])`."""
    sums = [(p, c) for p in range(pixels) for c in range(channels)]
    parameters = ["int32_t *acc", *(f"const int16_t *x{p}" for p in range(pixels)), *(f"const $W *w{c}" for c in range(channels))]
    start = "    int32_t " + ", ".join(f"a{p}{c} = 0" for p, c in sums) + ";"
    end = [f"    acc[{p * channels + c}] = a{p}{c};" for p, c in sums]
    lines = [
        f"static inline void onnxc_dot_$x$w_{pixels}x{channels}({', '.join(parameters)}, int32_t depth) {{",
        start,
        "#if defined(__ARM_FEATURE_MVE)",
        *_mve_loop(pixels, channels),
        "#elif defined(__ARM_FEATURE_DSP)",
        "    for (int32_t i = 0; i < depth; i += 4) {",
        *(line for c in range(channels) for line in _unpacked(c)),
        *(line for p in range(pixels) for line in _pixel(p, channels)),
        "    }",
        "#else",
        "    for (int32_t i = 0; i < depth; i++) {",
        *(f"        a{p}{c} += x{p}[i] * w{c}[i];" for p, c in sums),
        "    }",
        "#endif",
        *end,
        "}",
    ]
    return "\n".join(lines) + "\n"


def _unpacked(c: int) -> list[str]:
    return [
        f"        const uint32_t v{c} = onnxc_word(w{c} + i);",
        f"        const uint32_t e{c} = onnxc_even_$w(v{c}), o{c} = onnxc_odd_$w(v{c});",
    ]


def _pixel(p: int, channels: int) -> list[str]:
    sums = [f"        a{p}{c} = onnxc_add_products(four{p}.{half}, {half[0]}{c}, a{p}{c});" for half in ("even", "odd") for c in range(channels)]
    return [f"        const onnxc_pairs four{p} = onnxc_four(x{p} + i);", *sums]


def _mve_loop(pixels: int, channels: int) -> list[str]:
    """Vectors of 16 bytes, or of 8 products of 16 bits where the types differ in sign."""
    sums = [f"        a{p}{c} = $sum(a{p}{c}, d{p}, v{c});" for c in range(channels) for p in range(pixels)]
    whole = [f"        const $vector d{p} = $load_x($from x{p} + i);" for p in range(pixels)]
    whole += [f"        const $vector v{c} = $load_w(w{c} + i);" for c in range(channels)]
    part = [f"        const $vector d{p} = $part_x($from x{p} + i, lanes);" for p in range(pixels)]
    part += [f"        const $vector v{c} = $part_w(w{c} + i, lanes);" for c in range(channels)]
    return [
        "    int32_t i = 0;", "    for (; i + $lanes <= depth; i += $lanes) {", *whole, *sums, "    }", "    if (i < depth) {",
        "        const mve_pred16_t lanes = $tail((uint32_t)(depth - i));", *part, *sums, "    }",
    ]  # fmt: skip


MVE_BYTES: Mapping[str, str] = {
    "$sum": "vmladavaq_s8", "$vector": "int8x16_t", "$load_x": "vldrbq_s8", "$load_w": "vldrbq_s8", "$part_x": "vldrbq_z_s8",
    "$part_w": "vldrbq_z_s8", "$lanes": "16", "$tail": "vctp8q", "$from": "(const int8_t *)",
}  # fmt: skip
MVE_HALVES: Mapping[str, str] = {
    "$sum": "vmladavaq_s16", "$vector": "int16x8_t", "$lanes": "8", "$tail": "vctp16q", "$load_w": "onnxc_wide_$w",
    "$part_w": "onnxc_wide_part_$w",
}  # fmt: skip

HALVES_OF: Mapping[str, Mapping[str, str]] = {
    "s8": {"$load_x": "vldrbq_s16", "$part_x": "vldrbq_z_s16", "$from": "(const int8_t *)"},
    "u8": {"$load_x": "vldrhq_s16", "$part_x": "vldrhq_z_s16", "$from ": ""},
}
"""How patches of a type are read as 16-bit elements."""

WIDE = """#if defined(__ARM_FEATURE_MVE)
static inline int16x8_t onnxc_wide_s8(const int8_t *weights) {
    return vldrbq_s16(weights);
}
static inline int16x8_t onnxc_wide_part_s8(const int8_t *weights, mve_pred16_t lanes) {
    return vldrbq_z_s16(weights, lanes);
}
static inline int16x8_t onnxc_wide_u8(const uint8_t *weights) {
    return vreinterpretq_s16_u16(vldrbq_u16(weights));
}
static inline int16x8_t onnxc_wide_part_u8(const uint8_t *weights, mve_pred16_t lanes) {
    return vreinterpretq_s16_u16(vldrbq_z_u16(weights, lanes));
}
#endif
"""

TAPS_4 = """static inline void onnxc_taps_$x$w_4(int32_t *acc, const $X *data, const $W *weights, int32_t rows, int32_t columns,
                                     int32_t row_step, int32_t column_step, int32_t weight_step) {
#if defined(__ARM_FEATURE_MVE)
    int32x4_t sums = vdupq_n_s32(0);
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t c = 0; c < columns; c++) {
            sums = vaddq_s32(sums, vmulq_s32($four_x(data + r * row_step + c * column_step), $four_w(weights)));
            weights += weight_step;
        }
    }
    vst1q_s32(acc, sums);
#else
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t j = 0; j < columns; j++) {
            const $X *const tap = data + i * row_step + j * column_step;
#if defined(__ARM_FEATURE_DSP)
            const uint32_t x = onnxc_word(tap), w = onnxc_word(weights);
            const uint32_t xe = onnxc_even_$x(x), xo = onnxc_odd_$x(x), we = onnxc_even_$w(w), wo = onnxc_odd_$w(w);
            a = onnxc_add_low_product(xe, we, a);
            b = onnxc_add_low_product(xo, wo, b);
            c = onnxc_add_high_product(xe, we, c);
            d = onnxc_add_high_product(xo, wo, d);
#else
            a += tap[0] * weights[0];
            b += tap[1] * weights[1];
            c += tap[2] * weights[2];
            d += tap[3] * weights[3];
#endif
            weights += weight_step;
        }
    }
    acc[0] = a;
    acc[1] = b;
    acc[2] = c;
    acc[3] = d;
#endif
}
"""

TAPS_1 = """static inline void onnxc_taps_$x$w_1(int32_t *acc, const $X *data, const $W *weights, int32_t rows, int32_t columns,
                                     int32_t row_step, int32_t column_step, int32_t weight_step) {
    int32_t sum = 0;
    for (int32_t i = 0; i < rows; i++) {
        for (int32_t j = 0; j < columns; j++) {
            sum += data[i * row_step + j * column_step] * *weights;
            weights += weight_step;
        }
    }
    acc[0] = sum;
}
"""

C_TYPES: Mapping[str, str] = {"s8": "int8_t", "u8": "uint8_t"}


def typed(text: str, data: str, weight: str = "") -> str:
    """A text for types `s8` or `u8` of data and weights."""
    bytes_only = data == "s8" and weight in ("s8", "")
    four = {"s8": "vldrbq_s32", "u8": "(int32x4_t)vldrbq_u32"}
    parts = {
        **(MVE_BYTES if bytes_only else {**MVE_HALVES, **HALVES_OF[data]}), "$wide_x": "onnxc_wide_part_u8", "$four_x": four[data], "$four_w": four.get(weight, ""),
        "$bytes": str(int(data == "s8")), "$x": data, "$w": weight, "$X": C_TYPES[data], "$W": C_TYPES.get(weight, ""),
    }  # fmt: skip
    for name, value in parts.items():
        text = text.replace(name, value)
    return text
