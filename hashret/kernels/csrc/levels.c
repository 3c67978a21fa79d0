/* The SIMD levels of the extension and which of them this machine can run. Must not know of threads or Python. */
#include "core.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HR_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif
#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define HR_NEON 1
#endif

#if defined(__clang__)
#define HR_PRAGMA(x) _Pragma(#x)
#define HR_TARGET(features) HR_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define HR_TARGET_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define HR_PRAGMA(x) _Pragma(#x)
#define HR_TARGET(features) _Pragma("GCC push_options") HR_PRAGMA(GCC target(features))
#define HR_TARGET_END _Pragma("GCC pop_options")
#endif

static void scan_plain(const uint8_t *rows, size_t n, size_t words, const uint64_t *query, const uint8_t *mask,
                       uint64_t first, hr_selection *selection) {
    hr_scan_rows(rows, 0, n, words, query, mask, first, selection);
}

#define NAME(x) x##_plain
#define M_BITS(p) hr_bits_of_64(p)
#include "mask.inc"
#undef NAME
#undef M_BITS

static size_t within_limit_plain(const uint8_t *codes, size_t n_bytes, const uint32_t *rows, size_t n,
                                 const uint64_t *query, uint32_t limit, hr_near *near) {
    return hr_within_limit(codes, n_bytes, rows, n, query, limit, near);
}

#if defined(HR_X86) || defined(HR_NEON)

/* 64 rows of one word each to 64 planes, `stride` bytes apart: the halves of ever smaller squares change places. */
static void transpose_64(const uint8_t *words, uint8_t *planes, size_t stride) {
    uint64_t square[64];
    memcpy(square, words, sizeof square);
    uint64_t low = 0x00000000ffffffffu;
    for (int half = 32; half; half >>= 1, low ^= low << half)
        for (int k = 0; k < 64; k = ((k | half) + 1) & ~half) {
            uint64_t change = ((square[k] >> half) ^ square[k | half]) & low;
            square[k] ^= change << half;
            square[k | half] ^= change;
        }
    for (int plane = 0; plane < 64; plane++) memcpy(planes + plane * stride, &square[plane ^ 7], 8);
}

/* Word `w` of each of `n` rows, side by side; where the rows are one word wide, they are that already. */
HR_INLINE const uint8_t *column(const uint8_t *rows, size_t n, size_t words, size_t w, uint8_t *stage) {
    if (words == 1) return rows;
    for (size_t row = 0; row < n; row++) memcpy(stage + 8 * row, rows + (row * words + w) * 8, 8);
    return stage;
}

/* 128 bits without intrinsics: NEON on ARM, SSE2 on the x86 that has nothing wider. */
#if defined(HR_X86)
HR_TARGET("popcnt")
#endif
#define NAME(x) x##_128
#define V_BYTES 16
typedef uint64_t vector_128 __attribute__((vector_size(16), may_alias));
#define V vector_128
#define V_LOAD(p) (*(const V *)(p))
#define V_STORE(p, x) (*(V *)(p) = (x))
#define V_XOR3(a, b, c) ((a) ^ (b) ^ (c))
#define V_MAJ(a, b, c) (((a) & (b)) | (((a) ^ (b)) & (c)))
#define V_SET(x) ((V){(x), (x)})
#define V_NOT(a) (~(a))
#define V_OR(a, b) ((a) | (b))
#define V_AND(a, b) ((a) & (b))
#define V_ANDNOT(a, b) (~(a) & (b))
HR_INLINE int any_128(V a) { return (a[0] | a[1]) != 0; }
#define V_ANY(a) any_128(a)
static void transpose_128(const uint8_t *rows, size_t words, size_t from, size_t to, uint8_t *planes,
                          uint8_t *stage) {
    for (size_t w = from; w < to; w++, planes += 64 * V_BYTES) {
        const uint8_t *side = column(rows, 128, words, w, stage);
        transpose_64(side, planes, V_BYTES);
        transpose_64(side + 512, planes + 8, V_BYTES);
    }
}
#include "level.inc"
#include "level_undef.inc"
#if defined(HR_X86)
HR_TARGET_END
#endif

#endif

#if defined(HR_X86)

/* One instruction for the ones of a word; every x86-64 since 2008. */
HR_TARGET("popcnt")
static size_t within_limit_popcnt(const uint8_t *codes, size_t n_bytes, const uint32_t *rows, size_t n,
                                  const uint64_t *query, uint32_t limit, hr_near *near) {
    if (n_bytes == 8) return hr_within_limit(codes, 8, rows, n, query, limit, near);
    if (n_bytes == 16) return hr_within_limit(codes, 16, rows, n, query, limit, near);
    if (n_bytes == 32) return hr_within_limit(codes, 32, rows, n, query, limit, near);
    return hr_within_limit(codes, n_bytes, rows, n, query, limit, near);
}

static void scan_popcnt(const uint8_t *rows, size_t n, size_t words, const uint64_t *query, const uint8_t *mask,
                        uint64_t first, hr_selection *selection) {
    if (words == 1)
        hr_scan_rows(rows, 0, n, 1, query, mask, first, selection);
    else if (words == 2)
        hr_scan_rows(rows, 0, n, 2, query, mask, first, selection);
    else if (words == 4)
        hr_scan_rows(rows, 0, n, 4, query, mask, first, selection);
    else
        hr_scan_rows(rows, 0, n, words, query, mask, first, selection);
}
HR_TARGET_END

HR_TARGET("avx2,popcnt,bmi,bmi2")
#include "level_avx2.inc"
HR_TARGET_END

HR_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,popcnt,bmi,bmi2")
#include "level_avx512.inc"
HR_TARGET_END

HR_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vbmi,gfni,avx2,popcnt,bmi,bmi2")
#include "level_vpopcnt.inc"
HR_TARGET_END

#endif

static const hr_level level_scalar = {.name = "scalar", .scan = scan_plain, .bits = bits_plain};
#if defined(HR_X86)
static const hr_level level_popcnt = {.name = "scalar", .scan = scan_popcnt, .bits = bits_plain};
static const hr_level level_sse2 = {"sse2", 128, {12, 12, 12}, scan_popcnt, NULL, sliced_128, lay_out_128, bits_plain};
static const hr_level level_avx2 = {"avx2", 256, {7, 8, 8}, scan_256, NULL, sliced_256, lay_out_256, bits_256};
static const hr_level level_avx512 = {"avx512", 512, {7, 6, 5}, scan_512, NULL, sliced_512, lay_out_512, bits_512};
static const hr_level level_vpopcnt = {"vpopcnt", 512, {100, 32, 32}, scan_vp, columns_vp, sliced_vp, lay_out_vp, bits_vp};
#elif defined(HR_NEON)
static const hr_level level_neon = {"neon", 128, {8, 8, 8}, scan_plain, NULL, sliced_128, lay_out_128, bits_plain};
#endif

const hr_level *hr_levels[8];
int hr_n_levels;
const hr_level *hr_level_now;
size_t (*hr_within_limit_now)(const uint8_t *codes, size_t n_bytes, const uint32_t *rows, size_t n,
                              const uint64_t *query, uint32_t limit, hr_near *near) = within_limit_plain;

void hr_levels_find(void) {
    if (hr_n_levels) return; /* loaded once more, under another name: a level that was chosen stays */
#if defined(HR_X86)
    __builtin_cpu_init();
    int popcnt = __builtin_cpu_supports("popcnt");
    hr_levels[hr_n_levels++] = popcnt ? &level_popcnt : &level_scalar;
    if (popcnt) {
        hr_within_limit_now = within_limit_popcnt;
        hr_levels[hr_n_levels++] = &level_sse2;
    }
    if (popcnt && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) {
        hr_levels[hr_n_levels++] = &level_avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
            hr_levels[hr_n_levels++] = &level_avx512;
            unsigned a, b, c, d; /* GFNI is not a name that every compiler's builtin knows */
            int gfni = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 8 & 1);
            if (gfni && __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vbmi"))
                hr_levels[hr_n_levels++] = &level_vpopcnt;
        }
    }
#elif defined(HR_NEON)
    hr_levels[hr_n_levels++] = &level_scalar;
    hr_levels[hr_n_levels++] = &level_neon;
#else
    hr_levels[hr_n_levels++] = &level_scalar;
#endif
    hr_level_now = hr_levels[hr_n_levels - 1];
}
