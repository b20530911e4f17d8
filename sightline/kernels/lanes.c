/* What every kernel for weights includes: vectors of as many lanes as the processor has, e^x, and the product of some
   queries with some keys. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, GROUP = 8, WIDE = 3 };
#elif defined(__AVX__)
enum { LANES = 8, GROUP = 4, WIDE = 2 };
#else
enum { LANES = 4, GROUP = 4, WIDE = 2 };
#endif
enum { PANEL = WIDE * LANES }; /* numbers that a product takes side by side */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), may_alias));
typedef float loose __attribute__((vector_size(LANES * sizeof(float)), may_alias, aligned(4)));
typedef int32_t whole __attribute__((vector_size(LANES * sizeof(int32_t)), may_alias));
typedef uint32_t bits __attribute__((vector_size(LANES * sizeof(uint32_t)), may_alias));

static const float HIDDEN = -1e30f; /* as in observe/calls.py */

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline lanes chosen(whole mask, lanes a, lanes b) {
    return (lanes)((mask & (whole)a) | (~mask & (whole)b));
}

/* The larger, or the smaller, of each pair; b where a is NaN or b is. */
static inline lanes larger(lanes a, lanes b) { return chosen(a > b, a, b); }
static inline lanes smaller(lanes a, lanes b) { return chosen(a < b, a, b); }

static inline float total(lanes x) {
    float sum[4] = {0};
    for (int i = 0; i < LANES; i++) sum[i % 4] += x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* e^x to about one unit in the last place; 0 below the normal numbers, NaN of NaN.
   Source: Cephes, expf: x = n ln 2 + r. */
static inline lanes exponential(lanes x) {
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it leaves the nearest whole number in the last bits */
    whole none = x < -87.33654f;
    x = smaller((lanes){0} + 89.0f, x);
    lanes shifted = x * 1.44269504088896341f + rounder;
    lanes n = shifted - rounder;
    lanes r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits power = (bits)shifted << 23; /* the shift drops the bits of the added number */
    lanes result = p * (lanes)(power + (127u << 23));
    return (lanes)(~none & (whole)result);
}

/* Scores of GROUP queries against PANEL keys, less a level for each query, into rows `pitch` apart. */
static void product(const float *restrict q, const float *restrict k, int64_t width, const float *level,
    float *restrict into, int64_t pitch) {
    lanes sum[GROUP][WIDE];
    for (int r = 0; r < GROUP; r++)
        for (int v = 0; v < WIDE; v++) sum[r][v] = (lanes){0};
    for (int64_t d = 0; d < width; d++, q += GROUP, k += PANEL)
        for (int r = 0; r < GROUP; r++)
            for (int v = 0; v < WIDE; v++) sum[r][v] += q[r] * ((const lanes *)k)[v];
    for (int r = 0; r < GROUP; r++)
        for (int v = 0; v < WIDE; v++) ((lanes *)(into + r * pitch))[v] = sum[r][v] - level[r];
}

/* Transposes rows in groups of `side`: [rows / side, width, side], zeros beyond the last. */
static void lay_out(const float *from, int64_t row, int64_t one, int64_t rows, int64_t width, int64_t side,
    float scale, float *into) {
    for (int64_t first = 0; first < rows; first += side, into += width * side) {
        int64_t real = least(side, rows - first);
        if (real < side) memset(into, 0, width * side * sizeof(float));
        for (int64_t r = 0; r < real; r++) {
            const float *start = from + (first + r) * row;
            for (int64_t d = 0; d < width; d++) into[d * side + r] = start[d * one] * scale;
        }
    }
}

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

