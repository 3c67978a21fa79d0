/* A bound to begin with, for many queries and many hits; see sample.c. */
#ifndef HASHRET_SAMPLE_H
#define HASHRET_SAMPLE_H

#include "search.h"

typedef struct {
    uint8_t *rows;      /* in whole words */
    size_t n, nearest;  /* rows; and those of them that a bound has to let through */
} hr_sample;

/* Takes a sample where one pays; else, or when memory ran out, it has no rows. */
void hr_sample_open(hr_sample *sample, const hr_request *request, size_t words);
void hr_sample_close(hr_sample *sample);

/* About how many rows a query keeps on its way to the k nearest of n, if k < n: k (1 + ln(n / k)). */
size_t hr_rows_kept(size_t k, size_t n);

/* A distance that the k-th of all rows is most likely below; without a sample, the request's own. */
uint32_t hr_sample_below(const hr_sample *sample, const hr_request *request, const hr_level *level, size_t words,
                         const uint64_t *query);

#endif
