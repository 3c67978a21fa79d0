/* Exact multi-index hashing; see mih.c. */
#ifndef HASHRET_MIH_H
#define HASHRET_MIH_H

#include "core.h"

enum { HR_MIH_TABLES = 64, HR_MIH_MAX_WIDTH = 26 };

/* The rows by the value of `width` bits from bit `from` on: those of value v are ids[starts[v]] to ids[starts[v + 1] - 1],
 * ascending. */
typedef struct {
    uint32_t from, width;
    const uint32_t *starts; /* 2^width + 1 */
    const uint32_t *ids;    /* n_rows */
} hr_table;

typedef struct {
    const uint8_t *codes; /* n_rows of n_bytes; only those that the tables hold */
    size_t n_rows, n_bytes;
    const uint8_t *mask; /* n_rows bytes, 0 = left out; NULL = all */
    uint32_t n_bits, radius;
    size_t wanted; /* k, or SIZE_MAX for all */
    const hr_table *tables;
    uint32_t n_tables;
    double scan_ns, probe_ns, candidate_ns; /* what a scan, a probe and a look at a candidate cost */
} hr_mih;

typedef enum { HR_MIH_DONE, HR_MIH_SCAN, HR_MIH_MEMORY, HR_MIH_DAMAGED } hr_mih_end;

typedef struct {
    uint64_t *keys; /* sorted, as in core.h; to be freed */
    size_t n;
    uint64_t probes, candidates;
    uint32_t steps; /* distances up to steps - 1 were searched completely */
} hr_mih_result;

int hr_mih_build(const uint8_t *codes, size_t n_rows, size_t n_bytes, uint32_t from, uint32_t width, uint32_t *starts,
                 uint32_t *ids);
hr_mih_end hr_mih_search(const hr_mih *index, const uint8_t *query, hr_mih_result *result);

#endif
