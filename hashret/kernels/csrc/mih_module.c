/* The Python side of multi-index hashing. What could read outside a buffer is checked here; what the tables hold is
 * checked as it is used, for they may come from a file. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mih.h"
#include "outputs.h"
#include "threads.h"

enum { QUERIES = 4 }; /* that are worth a thread: each takes as long as to wake one */

PyObject *hr_py_mih_build(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer codes, starts, ids;
    Py_ssize_t n_bytes;
    int from, width, ok = 0;
    if (!PyArg_ParseTuple(args, "y*niiw*w*", &codes, &n_bytes, &from, &width, &starts, &ids)) return NULL;
    size_t n_rows = n_bytes > 0 ? (size_t)(codes.len / n_bytes) : 0;
    int fits = n_bytes > 0 && from >= 0 && width > 0 && width <= HR_MIH_MAX_WIDTH &&
               (size_t)from + (size_t)width <= 8 * (size_t)n_bytes && n_rows < UINT32_MAX &&
               codes.len % n_bytes == 0 && (size_t)starts.len == (((size_t)1 << width) + 1) * 4 &&
               (size_t)ids.len == n_rows * 4 && (uintptr_t)starts.buf % 4 == 0 && (uintptr_t)ids.buf % 4 == 0;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        ok = hr_mih_build(codes.buf, n_rows, (size_t)n_bytes, (uint32_t)from, (uint32_t)width, starts.buf, ids.buf);
        Py_END_ALLOW_THREADS
        if (!ok) PyErr_NoMemory();
    } else {
        PyErr_SetString(PyExc_ValueError, "the table does not fit the codes");
    }
    PyBuffer_Release(&codes);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&ids);
    return ok ? Py_NewRef(Py_None) : NULL;
}

typedef struct {
    hr_table tables[HR_MIH_TABLES];
    Py_buffer views[2 * HR_MIH_TABLES];
    uint32_t n_views;
} opened;

static void close_tables(opened *o) {
    for (uint32_t i = 0; i < o->n_views; i++) PyBuffer_Release(&o->views[i]);
}

static int open_tables(PyObject *tables, opened *o, size_t n_rows, size_t n_bytes) {
    o->n_views = 0;
    Py_ssize_t n = PyTuple_Check(tables) ? PyTuple_GET_SIZE(tables) : 0;
    if (n < 1 || n > HR_MIH_TABLES) goto wrong;
    for (Py_ssize_t i = 0; i < n; i++) {
        int from, width;
        Py_buffer *starts = &o->views[o->n_views], *ids = starts + 1;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(tables, i), "iiy*y*", &from, &width, starts, ids)) return 0;
        o->n_views += 2;
        if (from < 0 || width < 1 || width > HR_MIH_MAX_WIDTH || (size_t)from + (size_t)width > 8 * n_bytes ||
            (size_t)starts->len != (((size_t)1 << width) + 1) * 4 || (size_t)ids->len != n_rows * 4 ||
            (uintptr_t)starts->buf % 4 || (uintptr_t)ids->buf % 4)
            goto wrong;
        o->tables[i] = (hr_table){(uint32_t)from, (uint32_t)width, starts->buf, ids->buf};
    }
    return 1;
wrong:
    PyErr_SetString(PyExc_ValueError, "the tables do not fit the codes");
    return 0;
}

typedef struct {
    const hr_mih *index;
    const uint8_t *queries;
    size_t n_queries, next;
    hr_receive receive;
    void *context;
    int64_t *stats;
    hr_mih_end ends[HR_THREADS];
} batch;

static void answer(void *context, int part) {
    batch *b = context;
    for (size_t q; b->ends[part] == HR_MIH_DONE && (q = HR_TAKE(b->next)) < b->n_queries;) {
        int64_t *of = b->stats + 4 * q;
        hr_mih_result found;
        hr_mih_end end = hr_mih_search(b->index, b->queries + q * b->index->n_bytes, &found);
        of[0] = end == HR_MIH_DONE;
        of[1] = (int64_t)found.probes;
        of[2] = (int64_t)found.candidates;
        of[3] = found.steps;
        if (end == HR_MIH_SCAN) {
            end = b->receive(b->context, q, NULL, 0) ? HR_MIH_DONE : HR_MIH_MEMORY;
        } else if (end == HR_MIH_DONE) {
            if (!b->receive(b->context, q, found.keys, found.n)) end = HR_MIH_MEMORY;
            free(found.keys);
        }
        b->ends[part] = end;
    }
}

/* mih_search(codes, queries, k, mask, n_bits, radius, tables, (scan_ns, probe_ns, candidate_ns), threads, distances,
 *            rows, stats)
 *
 * k = 0 asks for all within the radius, in one thread; then distances and rows are None and (limits, distances, rows) is
 * returned.
 * stats gets four int64 a query: 1 if it was answered and 0 if it is left to a scan, probes, candidates, steps. */
PyObject *hr_py_mih_search(PyObject *self, PyObject *args) {
    (void)self;
    Py_buffer codes, queries, stats, mask = {0}, distances = {0}, rows = {0};
    PyObject *mask_object, *tables, *distances_object, *rows_object, *limits = NULL, *result = NULL;
    Py_ssize_t k;
    int n_bits, radius, threads;
    hr_mih index;
    opened o;
    hr_within within = {NULL, NULL, 0, 0};
    hr_nearest nearest = {NULL, NULL, 0};
    hr_receive receive = hr_receive_nearest;
    void *context = &nearest;
    memset(&index, 0, sizeof index);
    o.n_views = 0;
    if (!PyArg_ParseTuple(args, "y*y*nOiiO(ddd)iOOw*", &codes, &queries, &k, &mask_object, &n_bits, &radius, &tables,
                          &index.scan_ns, &index.probe_ns, &index.candidate_ns, &threads, &distances_object, &rows_object,
                          &stats))
        return NULL;
    if (n_bits < 1 || n_bits > HR_MAX_BITS || radius < 0 || k < 0) {
        PyErr_SetString(PyExc_ValueError, "n_bits must be from 1 to 4096, radius and k at least 0");
        goto done;
    }
    index.n_bits = (uint32_t)n_bits;
    index.radius = (uint32_t)radius;
    index.n_bytes = ((size_t)n_bits + 7) / 8;
    index.n_rows = (size_t)codes.len / index.n_bytes;
    index.codes = codes.buf;
    index.wanted = k ? (size_t)k : SIZE_MAX;
    size_t n_queries = (size_t)queries.len / index.n_bytes;
    if ((size_t)codes.len % index.n_bytes || (size_t)queries.len % index.n_bytes ||
        (size_t)stats.len != n_queries * 32 || (uintptr_t)stats.buf % 8) {
        PyErr_SetString(PyExc_ValueError, "codes, queries or statistics do not fit n_bits or one another");
        goto done;
    }
    if (!open_tables(tables, &o, index.n_rows, index.n_bytes)) goto done;
    index.tables = o.tables;
    index.n_tables = (uint32_t)PyTuple_GET_SIZE(tables);
    if (mask_object != Py_None) {
        if (PyObject_GetBuffer(mask_object, &mask, PyBUF_SIMPLE) < 0) goto done;
        if ((size_t)mask.len != index.n_rows) {
            PyErr_SetString(PyExc_ValueError, "the mask must have one byte a code");
            goto done;
        }
        index.mask = mask.buf;
    }
    if (k) {
        if (PyObject_GetBuffer(distances_object, &distances, PyBUF_WRITABLE) < 0 ||
            PyObject_GetBuffer(rows_object, &rows, PyBUF_WRITABLE) < 0)
            goto done;
        if ((size_t)k > SIZE_MAX / 64 / (n_queries + 1) || (size_t)distances.len != n_queries * (size_t)k * 4 ||
            (size_t)rows.len != n_queries * (size_t)k * 8 || (uintptr_t)distances.buf % 4 || (uintptr_t)rows.buf % 8) {
            PyErr_SetString(PyExc_ValueError, "the outputs must be (n_queries, k) int32 and int64");
            goto done;
        }
        nearest = (hr_nearest){distances.buf, rows.buf, (size_t)k};
    } else {
        limits = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)((n_queries + 1) * 8));
        if (limits == NULL) goto done;
        within.limits = (int64_t *)PyByteArray_AS_STRING(limits);
        within.limits[0] = 0;
        receive = hr_receive_within;
        context = &within;
    }
    batch b = {.index = &index, .queries = queries.buf, .n_queries = n_queries, .receive = receive,
               .context = context, .stats = stats.buf};
    hr_mih_end end = HR_MIH_DONE;
    size_t worth = k ? (n_queries + QUERIES - 1) / QUERIES : 1;
    if (threads > HR_THREADS) threads = HR_THREADS;
    if (threads > 0 && (size_t)threads > worth) threads = (int)worth;
    if (threads < 1) threads = 1;
    Py_BEGIN_ALLOW_THREADS
    hr_together(threads, answer, &b);
    Py_END_ALLOW_THREADS
    for (int part = 0; part < threads; part++)
        if (b.ends[part] != HR_MIH_DONE) end = b.ends[part];
    if (end == HR_MIH_MEMORY) PyErr_NoMemory();
    else if (end == HR_MIH_DAMAGED) PyErr_SetString(PyExc_ValueError, "the tables are damaged");
    else result = k ? Py_NewRef(Py_None) : hr_within_tuple(&within, limits);
done:
    free(within.keys);
    Py_XDECREF(limits);
    close_tables(&o);
    if (mask.obj != NULL) PyBuffer_Release(&mask);
    if (distances.obj != NULL) PyBuffer_Release(&distances);
    if (rows.obj != NULL) PyBuffer_Release(&rows);
    PyBuffer_Release(&codes);
    PyBuffer_Release(&queries);
    PyBuffer_Release(&stats);
    return result;
}
