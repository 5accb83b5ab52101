"""Texts of the rows of `mma.py`: inline C functions with a body for each instruction set.

`__ARM_FEATURE_MVE` (Cortex-M55, M85), `__ARM_FEATURE_DSP` (Cortex-M4, M7, M33) or plain C; all bodies give
the same numbers. In the texts `$x` and `$w` stand for the types of data and weights (`s8`, `u8`), `$X` and
`$W` for their C types. Patches hold 16-bit elements, one pixel after the other. With DSP instructions the pixels
take turns, four elements each, and the even ones come before the odd ones, as SXTB16 gives them; with MVE
patches of int8 hold bytes.
Loops whose callers give a constant number of rounds say how often they are unrolled: gcc does so by itself at -O3 only.
What callers give many constants is `onnxc_inlined`: with -Os gcc would test them in every round.
Instructions: Arm Architecture Reference Manuals ARM DDI 0403 (v7-M DSP) and DDI 0553 (v8.1-M MVE).
"""

from __future__ import annotations

from collections.abc import Mapping

COPY = """onnxc_inlined void onnxc_copy_$x($X *target, const $X *source, int32_t count) {
#if defined(__ARM_FEATURE_MVE)
    for (; count >= 16; count -= 16, target += 16, source += 16) {
        vstrbq_$x(target, vldrbq_$x(source));
    }
    if (count > 0) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        vstrbq_p_$x(target, vldrbq_z_$x(source, lanes), lanes);
    }
#else
#if defined(__ARM_FEATURE_DSP)
    for (; count >= 4; count -= 4, target += 4, source += 4) {
        __builtin_memcpy(target, source, 4);
        __asm__("" : : : "memory"); /* a call of memmove would cost more */
    }
#endif
    for (int32_t i = 0; i < count; i++) {
        target[i] = source[i];
    }
#endif
}
"""

FILL = """static inline void onnxc_fill_$x(int16_t *patch, int32_t value, int32_t pixel, int32_t pixels, int32_t width,
                                 int32_t position, int32_t count) {
#if defined(__ARM_FEATURE_MVE) && $bytes
    int8_t *target = (int8_t *)patch + pixel * width + position;
    (void)pixels;
    for (; count > 0; count -= 16, target += 16) {
        vstrbq_p_s8(target, vdupq_n_s8((int8_t)value), vctp8q((uint32_t)count));
    }
#elif defined(__ARM_FEATURE_DSP) && !defined(__ARM_FEATURE_MVE)
    const uint32_t pair = ((uint32_t)value & 0xFFFFu) * 0x10001u;
    patch += position * pixels + pixel * 4;
    (void)width;
    for (; count > 0; count -= 4, patch += 4 * pixels) {
        onnxc_set_four(patch, pair, pair);
    }
#else
    (void)pixels;
    for (int32_t i = 0; i < count; i++) {
        patch[pixel * width + position + i] = (int16_t)value;
    }
#endif
}
"""

RUN = """static inline void onnxc_run_$x(int16_t *patch, const $X *data, int32_t pixel, int32_t pixels, int32_t width, int32_t position,
                                int32_t count) {
#if defined(__ARM_FEATURE_MVE)
    (void)pixels;
$mve_run
#elif defined(__ARM_FEATURE_DSP)
    (void)width;
    for (patch += position * pixels + pixel * 4; count > 0; count -= 4, patch += 4 * pixels, data += 4) {
        const uint32_t four = onnxc_word(data);
        onnxc_set_four(patch, onnxc_even_$x(four), onnxc_odd_$x(four));
    }
#else
    (void)pixels;
    for (int32_t i = 0; i < count; i++) {
        patch[pixel * width + position + i] = data[i];
    }
#endif
}
"""

MVE_RUNS: Mapping[str, str] = {
    "s8": """    int8_t *target = (int8_t *)patch + pixel * width + position;
    for (; count >= 16; count -= 16, target += 16, data += 16) {
        vstrbq_s8(target, vldrbq_s8(data));
    }
    if (count > 0) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        vstrbq_p_s8(target, vldrbq_z_s8(data, lanes), lanes);
    }""",
    "u8": """    for (patch += pixel * width + position; count > 0; count -= 8, patch += 8, data += 8) {
        const mve_pred16_t lanes = vctp16q((uint32_t)count);
        vstrhq_p_s16(patch, onnxc_part_u8(data, lanes), lanes);
    }""",
}
"""Patches of int8 hold bytes, those of uint8 hold 16-bit elements."""


def dot_text(pixels: int, channels: int) -> str:
    """The text of `acc[p * channels + c] = sum(patch[p] * weight[c])`."""
    sums = [(p, c) for p in range(pixels) for c in range(channels)]
    parameters = ["int32_t *acc", "const int16_t *patch", *(f"const $W *w{c}" for c in range(channels)), "int32_t depth"]
    lines = [
        f"static inline void onnxc_dot_$x$w_{pixels}x{channels}({', '.join(parameters)}) {{",
        "    int32_t " + ", ".join(f"a{p}{c} = 0" for p, c in sums) + ";",
        "#if defined(__ARM_FEATURE_MVE)",
        *_mve_loop(pixels, channels),
        "#elif defined(__ARM_FEATURE_DSP)",
        *_dsp_loop(pixels, channels),
        "#else",
        "    for (int32_t i = 0; i < depth; i++) {",
        *(f"        a{p}{c} += patch[{p} * depth + i] * w{c}[i];" for p, c in sums),
        "    }",
        "#endif",
        *(f"    acc[{p * channels + c}] = a{p}{c};" for p, c in sums),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dsp_loop(pixels: int, channels: int) -> list[str]:
    """Four products of each sum a round: the weights of all channels in halves first, then pixel by pixel."""
    taken = [f"        const onnxc_pairs v{c} = onnxc_next_weights_$w(&w{c});" for c in range(channels)]
    lines = taken if pixels > 1 else []
    for p in range(pixels):
        lines.append(f"        const onnxc_pairs x{p} = onnxc_next_data(&patch);")
        for c in range(channels):
            lines += taken[c : c + 1] if pixels == 1 else []
            lines.append(f"        a{p}{c} = onnxc_add_products(x{p}, v{c}, a{p}{c});")
    return [*_ACC_ON_STACK, "    onnxc_unroll(4)", "    for (; depth > 0; depth -= 4) {", *lines, "    }"]


_ACC_ON_STACK = ("#if defined(__OPTIMIZE_SIZE__)", '    __asm__("" : "+m"(acc));', "#endif")
"""For gcc, which with -Os finds any pointer as good as another to be kept on the stack, where a loop needs one register too many."""


def _mve_loop(pixels: int, channels: int) -> list[str]:
    """Vectors of 16 bytes, or of 8 products of 16 bits where the types differ in sign; the rest of the depth under a mask."""
    whole = [f"        const $vector x{p} = $next_x(&d{p});" for p in range(pixels)]
    rest = [f"        const $vector x{p} = $part_x(d{p}, lanes);" for p in range(pixels)]
    for c in range(channels):
        sums = [f"        a{p}{c} = $sum(a{p}{c}, x{p}, v{c});" for p in range(pixels)]
        whole += [f"        const $vector v{c} = $next_w(&w{c});", *sums]
        rest += [f"        const $vector v{c} = $part_w(w{c}, lanes);", *sums]
    return [
        *(f"    const $from *d{p} = (const $from *)patch + {p} * depth;" for p in range(pixels)),
        "    for (; depth >= $lanes; depth -= $lanes) {", *whole, "    }",
        "    if (depth > 0) {", "        const mve_pred16_t lanes = $tail((uint32_t)depth);", *rest, "    }",
    ]  # fmt: skip


MVE_BYTES: Mapping[str, str] = {
    "$sum": "vmladavaq_s8", "$vector": "int8x16_t", "$next_x": "onnxc_next_bytes", "$next_w": "onnxc_next_bytes",
    "$part_x": "vldrbq_z_s8", "$part_w": "vldrbq_z_s8", "$lanes": "16", "$tail": "vctp8q", "$from": "int8_t",
}  # fmt: skip
MVE_HALVES: Mapping[str, str] = {
    "$sum": "vmladavaq_s16", "$vector": "int16x8_t", "$lanes": "8", "$tail": "vctp16q", "$next_w": "onnxc_next_$w",
    "$part_w": "onnxc_part_$w",
}  # fmt: skip
HALVES_OF: Mapping[str, Mapping[str, str]] = {
    "s8": {"$next_x": "onnxc_next_s8", "$part_x": "vldrbq_z_s16", "$from": "int8_t"},
    "u8": {"$next_x": "onnxc_next_halves", "$part_x": "vldrhq_z_s16", "$from": "int16_t"},
}
"""How patches of a type are read as 16-bit elements."""

TAPS_4 = """static inline void onnxc_taps_$x$w_4(int32_t *acc, const $X *data, const $W *weights, int32_t rows, int32_t columns,
                                     int32_t row_step, int32_t column_step, int32_t weight_step) {
#if defined(__ARM_FEATURE_MVE)
    int32x4_t sums = vdupq_n_s32(0);
    onnxc_unroll(8)
    for (int32_t r = 0; r < rows; r++) {
        onnxc_unroll(8)
        for (int32_t c = 0; c < columns; c++) {
            sums = vaddq_s32(sums, vmulq_s32($four_x(data + r * row_step + c * column_step), $four_w(weights)));
            weights += weight_step;
        }
    }
    vst1q_s32(acc, sums);
#else
    int32_t a = 0, b = 0, c = 0, d = 0;
    onnxc_unroll(8)
    for (int32_t i = 0; i < rows; i++) {
        onnxc_unroll(8)
        for (int32_t j = 0; j < columns; j++) {
            const $X *const tap = data + i * row_step + j * column_step;
#if defined(__ARM_FEATURE_DSP)
            uint32_t x, w, even, odd;
            __asm__("ldr %4, %8\\n\\tldr %5, %9\\n\\t$ext_x %6, %4\\n\\t$ext_w %7, %5\\n\\t"
                    "smlabb %0, %6, %7, %0\\n\\tsmlatt %2, %6, %7, %2\\n\\t"
                    "$ext_x %4, %4, ror #8\\n\\t$ext_w %5, %5, ror #8\\n\\t"
                    "smlabb %1, %4, %5, %1\\n\\tsmlatt %3, %4, %5, %3"
                    : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "=&r"(x), "=&r"(w), "=&r"(even), "=&r"(odd)
                    : "m"(*(const struct { $X four[4]; } *)tap), "m"(*(const struct { $W four[4]; } *)weights));
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

TAPS_8 = """static inline void onnxc_taps_$x$w_8(int32_t *acc, const $X *data, const $W *weights, int32_t rows, int32_t columns,
                                     int32_t row_step, int32_t column_step, int32_t weight_step) {
#if defined(__ARM_FEATURE_MVE)
    int32x4_t even = vdupq_n_s32(0), odd = vdupq_n_s32(0);
    onnxc_unroll(8)
    for (int32_t i = 0; i < rows; i++, data += row_step - columns * column_step) {
        onnxc_unroll(8)
        for (int32_t j = 0; j < columns; j++) {
            int16x8_t x, w;
            int32x4_t product;
            __asm__ volatile("vldrb.$sign_x16 %q2, [%5]\\n\\tvldrb.$sign_w16 %q3, [%6]\\n\\tadd %5, %5, %7\\n\\tadd %6, %6, %8\\n\\t"
                    "vmullb.s16 %q4, %q2, %q3\\n\\tvadd.i32 %q0, %q0, %q4\\n\\t"
                    "vmullt.s16 %q4, %q2, %q3\\n\\tvadd.i32 %q1, %q1, %q4"
                    : "+w"(even), "+w"(odd), "=&w"(x), "=&w"(w), "=&w"(product), "+l"(data), "+l"(weights)
                    : "r"(column_step), "r"(weight_step) : "memory");
        }
    }
    const int32x4x2_t sums = {{even, odd}};
    vst2q_s32(acc, sums);
#else
    for (int32_t c = 0; c < 8; c++) {
        acc[c] = 0;
        for (int32_t i = 0; i < rows * columns; i++) {
            acc[c] += data[i / columns * row_step + i % columns * column_step + c] * weights[i * weight_step + c];
        }
    }
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

CODES = """onnxc_inlined void onnxc_codes_$x($X *target, const int32_t *acc, const int32_t *bias, const float *scale, int32_t zero,
                                  int32_t low, int32_t high, int32_t bias_step, int32_t scale_step, int32_t count) {
    int32_t i = 0;
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
    onnxc_unroll(4)
    for (; i + 4 <= count; i += 4) {
        const int32x4_t offset = bias_step ? vldrwq_s32(bias + i) : vdupq_n_s32(*bias);
        const float32x4_t factor = scale_step ? vldrwq_f32(scale + i) : vdupq_n_f32(*scale);
        const int32x4_t code = onnxc_four_codes(vldrwq_s32(acc + i), offset, factor, zero, low, high);
        $store(target + i, $as_stored(code));
    }
#endif
    onnxc_unroll(4)
    for (; i < count; i++) {
        const int32_t sum = (int32_t)((uint32_t)acc[i] + (uint32_t)bias[i * bias_step]);
        const $X code = onnxc_byte_$x(onnxc_scaled(sum, scale[i * scale_step]), zero);
        target[i] = low > $low && code < low ? ($X)low : high < $high && code > high ? ($X)high : code;
    }
}
"""

RESIDUAL = """onnxc_inlined void onnxc_residual_$x($X *target, const int32_t *acc, const int32_t *bias, const float *scale, const $X *other,
                                     int32_t zero, int32_t low, int32_t high, int32_t bias_step, int32_t scale_step, int32_t count,
                                     int32_t own_zero, int32_t other_zero, int32_t sum_zero, int32_t least, float own_scale,
                                     float other_scale, float sum_scale, float inverse) {
    int32_t i = 0;
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
    if (sum_scale > 1e-30f && sum_scale < 1e30f) {
        onnxc_unroll(4)
        for (; i + 4 <= count; i += 4) {
            const int32x4_t offset = bias_step ? vldrwq_s32(bias + i) : vdupq_n_s32(*bias);
            const float32x4_t factor = scale_step ? vldrwq_f32(scale + i) : vdupq_n_f32(*scale);
            const int32x4_t code = onnxc_four_codes(vldrwq_s32(acc + i), offset, factor, zero, low, high);
            const int32x4_t sum = onnxc_four_sums(code, $four_x(other + i), own_zero, other_zero, sum_zero, least, own_scale,
                                                  other_scale, sum_scale, inverse);
            $store(target + i, $as_stored(vminq_s32(sum, vdupq_n_s32($high))));
        }
    }
#endif
    (void)inverse;
    for (; i < count; i++) {
        const int32_t sum = (int32_t)((uint32_t)acc[i] + (uint32_t)bias[i * bias_step]);
        const int32_t code = onnxc_byte_$x(onnxc_scaled(sum, scale[i * scale_step]), zero);
        const int32_t within = code < low ? low : code > high ? high : code;
        const float own = onnxc_apart((float)(within - own_zero) * own_scale);
        const float others = onnxc_apart((float)(other[i] - other_zero) * other_scale);
        const $X found = onnxc_code_$x((others + own) / sum_scale, sum_zero);
        target[i] = ($X)(found < least ? least : found);
    }
}
"""

TAPS: Mapping[int, str] = {8: TAPS_8, 4: TAPS_4, 1: TAPS_1}
"""By the number of channels."""

C_TYPES: Mapping[str, str] = {"s8": "int8_t", "u8": "uint8_t"}

EXTEND: Mapping[str, str] = {"s8": "sxtb16", "u8": "uxtb16"}


def typed(text: str, data: str, weight: str = "") -> str:
    """A text for types `s8` or `u8` of data and weights."""
    bytes_only = data == "s8" and weight in ("s8", "")
    four = {"s8": "vldrbq_s32", "u8": "(int32x4_t)vldrbq_u32"}
    limits = {"s8": ("(-128)", "127"), "u8": ("0", "255")}
    stores = {"s8": ("vstrbq_s32", ""), "u8": ("vstrbq_u32", "(uint32x4_t)")}
    parts = {
        **(MVE_BYTES if bytes_only else {**MVE_HALVES, **HALVES_OF[data]}),
        "$mve_run": MVE_RUNS[data], "$four_x": four[data], "$four_w": four.get(weight, ""),
        "$ext_x": EXTEND[data], "$ext_w": EXTEND.get(weight, ""), "$bytes": str(int(data == "s8")),
        "$sign_x": data[0], "$sign_w": weight[:1],
        "$low_word": {"s8": "0x80808080u", "u8": "0u"}[data], "$many": {"s8": "int8x16_t", "u8": "uint8x16_t"}[data],
        "$sub8": {"s8": "ssub8", "u8": "usub8"}[data],
        "$first": {"s8": "128", "u8": "0"}[data],
        "$low": limits[data][0], "$high": limits[data][1], "$store": stores[data][0], "$as_stored": stores[data][1],
        "$x": data, "$w": weight, "$X": C_TYPES[data], "$W": C_TYPES.get(weight, ""),
    }  # fmt: skip
    for name, value in parts.items():
        text = text.replace(name, value)
    return text
