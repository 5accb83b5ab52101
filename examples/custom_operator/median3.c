/* The operator Median3 of the domain acme: the median of each element and its two neighbours in a row. */
#include <stdint.h>

void median3(const float *in0, float *out0, int64_t rows, int64_t columns, int64_t out_rows, int64_t out_columns);

static float between(float a, float b, float c) {
    const float low = a < b ? a : b, high = a < b ? b : a;
    return c < low ? low : c > high ? high : c;
}

void median3(const float *in0, float *out0, int64_t rows, int64_t columns, int64_t out_rows, int64_t out_columns) {
    (void)out_rows;
    (void)out_columns;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            const float *row = in0 + r * columns;
            out0[r * columns + c] = between(row[c > 0 ? c - 1 : 0], row[c], row[c + 1 < columns ? c + 1 : c]);
        }
    }
}
