/* Sorted keys to the arrays that Python gets. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "outputs.h"

int hr_receive_nearest(void *context, size_t query, const uint64_t *keys, size_t n) {
    hr_nearest *out = context;
    int32_t *distances = out->distances + query * out->k;
    int64_t *rows = out->rows + query * out->k;
    for (size_t i = 0; i < out->k; i++) {
        distances[i] = i < n ? (int32_t)(keys[i] >> HR_ROW_BITS) : -1;
        rows[i] = i < n ? (int64_t)(keys[i] & HR_ROW_MASK) : -1;
    }
    return 1;
}

int hr_receive_within(void *context, size_t query, const uint64_t *keys, size_t n) {
    hr_within *out = context;
    if (out->size + n > out->capacity) {
        size_t capacity = 2 * (out->size + n) + 1024;
        uint64_t *more = realloc(out->keys, capacity * sizeof *more);
        if (more == NULL) return 0;
        out->keys = more;
        out->capacity = capacity;
    }
    if (n) memcpy(out->keys + out->size, keys, n * sizeof *keys);
    out->size += n;
    out->limits[query + 1] = (int64_t)out->size;
    return 1;
}

PyObject *hr_within_tuple(const hr_within *out, PyObject *limits) {
    PyObject *distances = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(out->size * 4));
    PyObject *rows = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(out->size * 8));
    PyObject *result = NULL;
    if (distances != NULL && rows != NULL) {
        int32_t *to_distances = (int32_t *)PyByteArray_AS_STRING(distances);
        int64_t *to_rows = (int64_t *)PyByteArray_AS_STRING(rows);
        for (size_t i = 0; i < out->size; i++) {
            to_distances[i] = (int32_t)(out->keys[i] >> HR_ROW_BITS);
            to_rows[i] = (int64_t)(out->keys[i] & HR_ROW_MASK);
        }
        result = PyTuple_Pack(3, limits, distances, rows);
    }
    Py_XDECREF(distances);
    Py_XDECREF(rows);
    return result;
}
