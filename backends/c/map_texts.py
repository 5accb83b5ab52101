"""Texts of the rows of `mma.py` that are no sums of products: windows, sums of codes, tables. The slots are those of `row_texts.py`."""

from __future__ import annotations

LARGEST = """static inline void onnxc_largest_$x($X *target, const $X *data, int32_t rows, int32_t columns, int32_t row_step,
                                   int32_t column_step, int32_t count) {
#if defined(__ARM_FEATURE_MVE)
    for (; count > 0; count -= 16, target += 16, data += 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        $many most = vdupq_n_$x($low);
        for (int32_t r = 0; r < rows; r++) {
            for (int32_t c = 0; c < columns; c++) {
                most = vmaxq_$x(most, vldrbq_z_$x(data + r * row_step + c * column_step, lanes));
            }
        }
        vstrbq_p_$x(target, most, lanes);
    }
#else
#if defined(__ARM_FEATURE_DSP)
    for (; count >= 4; count -= 4, target += 4, data += 4) {
        uint32_t most = $low_word, rest;
        for (int32_t r = 0; r < rows; r++) {
            const $X *tap = data + r * row_step;
            for (int32_t c = 0; c < columns; c++, tap += column_step) {
                const uint32_t four = onnxc_word(tap);
                __asm__("$sub8 %1, %2, %0\\n\\tsel %0, %2, %0" : "+r"(most), "=&r"(rest) : "r"(four) : "cc");
            }
        }
        __builtin_memcpy(target, &most, sizeof most);
    }
#endif
    for (int32_t i = 0; i < count; i++) {
        $X most = $low;
        for (int32_t r = 0; r < rows; r++) {
            for (int32_t c = 0; c < columns; c++) {
                const $X tap = data[r * row_step + c * column_step + i];
                most = tap > most ? tap : most;
            }
        }
        target[i] = most;
    }
#endif
}
"""

MEANS = """onnxc_inlined void onnxc_means_$x($X *target, const $X *data, int32_t rows, int32_t columns, int32_t row_step,
                                  int32_t column_step, int32_t one_zero, int32_t zero, float one_scale, float terms, float part,
                                  float scale, float inverse, int32_t count) {
    int32_t i = 0;
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
    if (scale > 1e-30f && scale < 1e30f) {
        for (; i + 4 <= count; i += 4) {
            float32x4_t sum = vdupq_n_f32(0.0f);
            for (int32_t r = 0; r < rows; r++) {
                for (int32_t c = 0; c < columns; c++) {
                    const int32x4_t code = vsubq_n_s32($four_x(data + i + r * row_step + c * column_step), one_zero);
                    sum = vaddq_f32(sum, vmulq_n_f32(vcvtq_f32_s32(code), one_scale));
                }
            }
            const float32x4_t units = onnxc_four_quotients(onnxc_four_quotients(sum, terms, part), scale, inverse);
            const int32x4_t code = vqaddq_n_s32(vcvtnq_s32_f32(units), zero);
            $store(target + i, $as_stored(vmaxq_s32(vminq_s32(code, vdupq_n_s32($high)), vdupq_n_s32($low))));
        }
    }
#endif
    (void)part;
    (void)inverse;
    for (; i < count; i++) {
        float sum = 0.0f;
        for (int32_t r = 0; r < rows; r++) {
            for (int32_t c = 0; c < columns; c++) {
                sum += onnxc_apart((float)(data[i + r * row_step + c * column_step] - one_zero) * one_scale);
            }
        }
        target[i] = onnxc_code_$x(sum / terms / scale, zero);
    }
}
"""

SUMS = """onnxc_inlined void onnxc_sums_$x($X *target, const $X *one, const $X *other, int32_t one_zero, int32_t other_zero, int32_t zero,
                                 int32_t least, float one_scale, float other_scale, float scale, float inverse, int32_t count) {
    int32_t i = 0;
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
    if (scale > 1e-30f && scale < 1e30f) {
        for (; i + 4 <= count; i += 4) {
            const int32x4_t sum = onnxc_four_sums($four_x(one + i), $four_x(other + i), one_zero, other_zero, zero, least, one_scale,
                                                  other_scale, scale, inverse);
            $store(target + i, $as_stored(vminq_s32(sum, vdupq_n_s32($high))));
        }
    }
#endif
    (void)inverse;
    for (; i < count; i++) {
        const float first = onnxc_apart((float)(one[i] - one_zero) * one_scale);
        const float second = onnxc_apart((float)(other[i] - other_zero) * other_scale);
        const $X found = onnxc_code_$x((second + first) / scale, zero);
        target[i] = ($X)(found < least ? least : found);
    }
}
"""

LOOKUP = """onnxc_inlined void onnxc_lookup_$x(void *target, const $X *codes, const void *table, int32_t count) {
    uint8_t *to = (uint8_t *)target;
#if defined(__ARM_FEATURE_MVE)
    for (; count >= 16; count -= 16, to += 16, codes += 16) {
        vstrbq_u8(to, vldrbq_gather_offset_u8((const uint8_t *)table, veorq_u8((uint8x16_t)vldrbq_$x(codes), vdupq_n_u8($first))));
    }
    if (count > 0) {
        const mve_pred16_t lanes = vctp8q((uint32_t)count);
        const uint8x16_t at = veorq_u8((uint8x16_t)vldrbq_z_$x(codes, lanes), vdupq_n_u8($first));
        vstrbq_p_u8(to, vldrbq_gather_offset_z_u8((const uint8_t *)table, at, lanes), lanes);
    }
#else
    const uint8_t *const of_zero = (const uint8_t *)table + $first;
    onnxc_unroll(4)
    for (int32_t i = 0; i < count; i++) {
        to[i] = of_zero[codes[i]];
    }
#endif
}
"""
