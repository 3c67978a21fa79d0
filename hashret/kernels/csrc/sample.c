/* A bound to begin with, for many queries and many hits.
 *
 * A query that looks for the k nearest of N rows keeps about k (1 + ln(N / k)) of them before its bound has come down,
 * and of a thousand hits that takes longer than to look at the rows. Among S rows taken all over, e = k S / N are
 * expected to be within the k-th distance. So the distance of the one at place e + 3 sqrt(e) + 3 is beyond it for all but
 * one query in a thousand, and lets through fewer rows than no bound does. A query that finds fewer than k rows below it
 * is searched again without it. Must not know who looks.
 */
#include "sample.h"

enum {
    QUERIES = 64,    /* from which on one copy of the sample serves enough of them */
    ROWS = 16384,    /* of a sample at most */
    ENOUGH = 32,     /* rows expected within the k-th distance; more would make the bound hardly better */
    SHARE = 8,       /* at most this part of all rows */
    KEEP = 35,       /* time that it takes to keep a row, if a word of a row that is looked at takes 1/2 */
};

static size_t root(size_t x) { /* rounded up */
    size_t r = 0;
    while (r * r < x) r++;
    return r;
}

size_t hr_rows_kept(size_t k, size_t n) { /* 1 + ln is about 7/10 of the bits of 2 n / k */
    size_t bits = 1;
    for (size_t ratio = n / k; ratio; ratio >>= 1) bits++;
    return k * bits * 7 / 10;
}

void hr_sample_open(hr_sample *sample, const hr_request *request, size_t words) {
    memset(sample, 0, sizeof *sample);
    size_t k = request->wanted, rows = request->n_rows;
    if (request->n_queries < QUERIES || request->mask != NULL || request->below <= request->n_bits) return;
    if (k == 0 || k >= rows / SHARE) return; /* SIZE_MAX: all rows within a radius */
    size_t n = rows / k > ROWS / ENOUGH ? ROWS : rows / k * ENOUGH;
    if (n > rows / SHARE) n = rows / SHARE;
    size_t expected = (k * n + rows - 1) / rows, nearest = expected + 3 * root(expected) + 3;
    if (nearest >= n) return;
    if (n * words / 2 + (hr_rows_kept(nearest, n) + nearest * (rows / n)) * KEEP > hr_rows_kept(k, rows) * KEEP) return;
    sample->rows = malloc(n * words * 8);
    if (sample->rows == NULL) return;
    sample->n = n;
    sample->nearest = nearest;
    size_t step = rows / n;
    uint64_t spread = 0;
    for (size_t i = 0; i < n; i++) { /* somewhere in each step, lest rows in a pattern deceive it */
        spread = spread * 6364136223846793005u + 1442695040888963407u;
        uint8_t *code = sample->rows + i * words * 8;
        memcpy(code, request->codes + (i * step + (spread >> 33) % step) * request->n_bytes, request->n_bytes);
        memset(code + request->n_bytes, 0, words * 8 - request->n_bytes);
    }
}

void hr_sample_close(hr_sample *sample) {
    free(sample->rows);
    sample->rows = NULL;
}

uint32_t hr_sample_below(const hr_sample *sample, const hr_request *request, const hr_level *level, size_t words,
                         const uint64_t *query) {
    hr_selection nearest;
    uint32_t below = request->below;
    if (sample->n == 0) return below;
    if (hr_selection_open(&nearest, request->n_bits, below, sample->nearest)) {
        level->scan(sample->rows, sample->n, words, query, NULL, 0, &nearest);
        if (nearest.below < below) below = nearest.below + 1; /* rows at that distance are let through */
    }
    hr_selection_close(&nearest);
    return below;
}
