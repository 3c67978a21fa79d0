/* Where sorted keys go: arrays of k hits a query, or growing lists. Needs Python.h before it. */
#ifndef HASHRET_OUTPUTS_H
#define HASHRET_OUTPUTS_H

#include "search.h"

typedef struct {
    int32_t *distances;
    int64_t *rows;
    size_t k;
} hr_nearest;

typedef struct {
    uint64_t *keys;
    int64_t *limits;
    size_t size, capacity;
} hr_within;

int hr_receive_nearest(void *context, size_t query, const uint64_t *keys, size_t n);
int hr_receive_within(void *context, size_t query, const uint64_t *keys, size_t n);

/* (limits, distances, rows) as bytearrays; `limits` is the one that out->limits points into. */
PyObject *hr_within_tuple(const hr_within *out, PyObject *limits);

#endif
