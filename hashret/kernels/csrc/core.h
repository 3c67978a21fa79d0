/* What every part of the extension shares: the selection of the nearest rows, and the table of SIMD levels.
 *
 * Selection: distances are small whole numbers, so a histogram of the distances seen so far gives the running k-th
 * distance without a heap. A row is kept only if it is nearer than that. Rows come in ascending order, so a later row
 * at the k-th distance itself loses its tie and needs no look.
 */
#ifndef HASHRET_CORE_H
#define HASHRET_CORE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define HR_INLINE static inline __attribute__((always_inline))
#define HR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HR_POPCOUNT(x) ((uint32_t)__builtin_popcountll(x))
#define HR_LOWEST(x) ((uint32_t)__builtin_ctzll(x))
#define HR_PREFETCH(p) __builtin_prefetch(p, 0, 2)      /* to the L2 cache */
#define HR_PREFETCH_SOON(p) __builtin_prefetch(p, 0, 3) /* to the L1 cache */
#else
#define HR_PREFETCH(p) ((void)0)
#define HR_PREFETCH_SOON(p) ((void)0)
#define HR_INLINE static inline
#define HR_UNLIKELY(x) (x)
static inline uint32_t HR_POPCOUNT(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (uint32_t)((x * 0x0101010101010101u) >> 56);
}
static inline uint32_t HR_LOWEST(uint64_t x) { return HR_POPCOUNT((x & (0 - x)) - 1); }
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "the extension reads codes as little-endian words; without it hashret runs on FAISS or numpy"
#endif

#define HR_MAX_BITS 4096
#define HR_AHEAD 8192 /* bytes that a scan asks for before it comes to them; processors by themselves ask too late */
#define HR_ROW_BITS 48
#define HR_ROW_MASK (((uint64_t)1 << HR_ROW_BITS) - 1)

/* The nearest rows of one query so far; a key is distance << 48 | row, so that keys sort as (distance, row). */
typedef struct {
    uint64_t *keys;
    size_t size, capacity;
    size_t wanted;    /* k; SIZE_MAX where all rows within the radius are wanted */
    size_t nearer;    /* rows seen with a distance smaller than `below` */
    uint32_t *counts; /* of kept rows by distance; NULL where all are wanted */
    uint32_t n_bits;  /* no distance is larger */
    uint32_t below;   /* only rows nearer than this are of use */
    int failed;       /* out of memory */
} hr_selection;

int hr_selection_open(hr_selection *s, uint32_t n_bits, uint32_t below, size_t wanted);
void hr_selection_close(hr_selection *s);
int hr_selection_room(hr_selection *s);
/* The keys in order, into `out` (of min(wanted, size) entries); returns how many. */
size_t hr_selection_sorted(hr_selection *s, uint64_t *out);

HR_INLINE uint64_t hr_word(const void *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

HR_INLINE uint32_t hr_distance(const uint8_t *row, size_t words, const uint64_t *query) {
    uint32_t distance = 0;
    for (size_t w = 0; w < words; w++) distance += HR_POPCOUNT(hr_word(row + 8 * w) ^ query[w]);
    return distance;
}

/* Keep a row that is known to be nearer than `below`. */
HR_INLINE void hr_keep(hr_selection *s, uint32_t distance, uint64_t row) {
    if (HR_UNLIKELY(s->size == s->capacity) && !hr_selection_room(s)) return;
    s->keys[s->size++] = (uint64_t)distance << HR_ROW_BITS | row;
    if (s->counts == NULL) return;
    s->counts[distance]++;
    s->nearer++;
    while (s->nearer >= s->wanted) s->nearer -= s->counts[--s->below];
}

/* Asks for some lines of the rows that come next, so that they arrive while the queries are worked on; each asks
 * for as many as hr_lines_each says. */
HR_INLINE void hr_prefetch(const uint8_t *next, size_t bytes, size_t line, size_t lines) {
    for (size_t end = line + lines; line < end && line * 64 < bytes; line++) HR_PREFETCH(next + line * 64);
}
HR_INLINE size_t hr_lines_each(size_t bytes, size_t askers) { return (bytes / 64 + askers - 1) / askers; }

/* Bits 1 and 2 of every four change places. */
HR_INLINE uint64_t hr_swap_middle(uint64_t bits) {
    uint64_t change = (bits >> 1 ^ bits) & 0x2222222222222222u;
    return bits ^ change ^ change << 1;
}

/* Whether a mask of `n` bytes selects any row. */
HR_INLINE int hr_any_wanted(const uint8_t *mask, size_t n) {
    for (; n >= 8; mask += 8, n -= 8)
        if (hr_word(mask)) return 1;
    for (; n; mask++, n--)
        if (*mask) return 1;
    return 0;
}

/* The 64 bytes of a mask as bits. */
HR_INLINE uint64_t hr_bits_of_64(const uint8_t *mask) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 8) { /* eight bytes to eight bits */
        uint64_t eight = hr_word(mask + i);
        eight = ((eight & 0x7f7f7f7f7f7f7f7fu) + 0x7f7f7f7f7f7f7f7fu) | eight;
        bits |= ((eight >> 7 & 0x0101010101010101u) * 0x0102040810204080u >> 56) << i;
    }
    return bits;
}

/* Look at rows one by one; `mask` has a byte for each row or is NULL, and only near rows have theirs looked at. */
HR_INLINE void hr_scan_rows(const uint8_t *rows, size_t from, size_t to, size_t words, const uint64_t *query,
                            const uint8_t *mask, uint64_t first, hr_selection *selection) {
    for (size_t row = from; row < to; row++) {
        uint32_t distance = hr_distance(rows + row * words * 8, words, query);
        if (distance < selection->below && (mask == NULL || mask[row])) hr_keep(selection, distance, first + row);
    }
}

/* The bit-sliced kernel; see level.inc. */
#define HR_TILE 1024 /* queries at most for a block; with AVX-512 576 KB are kept of them at 256 bits */
#define HR_START 12  /* a query laid out is so many words of start values, and then one for each unit */

/* Codes of so many words, the usual ones beside one, are transposed two words at a time, and are given up early. */
HR_INLINE int hr_in_pairs(size_t words) { return words == 2 || words == 4; }

/* Half of the bits of a far row differ by 32 +- 4 or 64 +- 6 at 128 and 256 bits. Below these distances (3 deviations
 * less) most blocks have no row that could still be near after their first half, and above almost all have. With at most
 * half of its bits the highest bit of a start value is set, which the kernel relies on. */
enum { HR_EARLY_128 = 20, HR_EARLY_256 = 47 };
_Static_assert(HR_EARLY_128 <= 64 && HR_EARLY_256 <= 128, "of more, a carry of the first half alone would not say far");

typedef struct {
    const char *name;
    uint32_t lanes; /* rows of a bit-sliced block; 0 = this level has no such kernel */
    uint32_t sliced_from[3]; /* queries in a batch from which it beat the scan where this was measured, on codes of one
                              * word, two, more */

    /* Look at `n` rows of `words` 64-bit words for one query; `first` is the row number of the first, `mask` has a byte
     * for each row or is NULL. */
    void (*scan)(const uint8_t *rows, size_t n, size_t words, const uint64_t *query, const uint8_t *mask,
                 uint64_t first, hr_selection *selection);

    /* The same for some queries and codes of two or four words, or NULL; `stage` is aligned scratch of as many bytes as
     * the rows. */
    void (*columns)(const uint8_t *rows, size_t n, size_t words, const uint64_t *queries, size_t n_queries,
                    const uint8_t *mask, uint64_t first, uint8_t *stage, hr_selection *selections);

    /* The same for a block of `lanes` rows and many queries. `mask` has `lanes` bits, not bytes. `scratch` is aligned,
     * of hr_scratch_bytes, and `layouts` holds `stride` words a query, made by lay_out. */
    void (*sliced)(const uint8_t *rows, size_t words, uint32_t n_bits, const uint64_t *queries, uint64_t *layouts,
                   size_t stride, size_t n_queries, const uint64_t *mask, uint64_t first, uint8_t *scratch,
                   hr_selection *selections);
    void (*lay_out)(const uint64_t *query, uint32_t n_bits, uint32_t below, uint64_t *layout);

    /* One bit for each of the `n` bytes of a mask, in whole words; returns how many are set. */
    size_t (*bits)(const uint8_t *mask, size_t n, uint64_t *bits);
} hr_level;

/* Those of some rows that are within `limit` of the query, with their distances; returns how many. The codes are
 * n_bytes wide, and the query is filled up to whole words. */
typedef struct {
    uint32_t row, distance;
} hr_near;
HR_INLINE size_t hr_within_limit(const uint8_t *codes, size_t n_bytes, const uint32_t *rows, size_t n,
                                 const uint64_t *query, uint32_t limit, hr_near *near) {
    size_t found = 0, words = n_bytes / 8, rest = n_bytes % 8;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + (size_t)rows[i] * n_bytes;
        uint32_t distance = hr_distance(code, words, query);
        if (rest) {
            uint64_t word = 0;
            memcpy(&word, code + words * 8, rest);
            distance += HR_POPCOUNT(word ^ query[words]);
        }
        near[found] = (hr_near){rows[i], distance}; /* the next one takes its place if it is too far */
        found += distance <= limit;
    }
    return found;
}

/* The same with this machine's instruction for the ones of a word, if it has one. */
extern size_t (*hr_within_limit_now)(const uint8_t *codes, size_t n_bytes, const uint32_t *rows, size_t n,
                                     const uint64_t *query, uint32_t limit, hr_near *near);

/* The levels that this machine can run, the best one last. */
extern const hr_level *hr_levels[8];
extern int hr_n_levels;
extern const hr_level *hr_level_now;
void hr_levels_find(void);

HR_INLINE uint32_t hr_units(uint32_t n_bits) { return (n_bits + 63) / 64 * 4; } /* of whole words */
HR_INLINE uint32_t hr_steps(uint32_t n_bits) { /* of the start value: the power of two that n_bits does not exceed */
    uint32_t steps = 6;
    while ((1u << steps) < n_bits) steps++;
    return steps;
}
HR_INLINE uint32_t hr_kept(uint32_t steps) { return 5 + 2 * (steps - 6); } /* vectors a query between passes; see SUM */
HR_INLINE size_t hr_scratch_bytes(const hr_level *level, uint32_t n_bits, size_t n_queries) {
    size_t planes_of_two_words = 128, tables_of_one = 256;
    return (planes_of_two_words + tables_of_one + n_queries * hr_kept(hr_steps(n_bits))) * (level->lanes / 8);
}

#endif
