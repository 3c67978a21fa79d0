/* Exact search over rows of packed codes; see search.c. */
#ifndef HASHRET_SEARCH_H
#define HASHRET_SEARCH_H

#include "core.h"

typedef struct {
    const uint8_t *codes; /* n_rows of n_bytes */
    size_t n_rows, n_bytes;
    const uint8_t *queries; /* n_queries of n_bytes */
    size_t n_queries;
    const uint8_t *mask; /* n_rows bytes, 0 = left out; NULL = all */
    uint32_t n_bits;
    uint32_t below; /* radius + 1 */
    size_t wanted;  /* k, or SIZE_MAX for all */
    int threads;
} hr_request;

/* Called once a query, in order, with its keys sorted; returns 0 to stop. */
typedef int (*hr_receive)(void *context, size_t query, const uint64_t *keys, size_t n);

/* Returns 1, or 0 when memory ran out or the receiver stopped. */
int hr_search(const hr_request *request, hr_receive receive, void *context);

#endif
