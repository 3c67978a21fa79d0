/* The Python side: buffers in, buffers out, the GIL released in between. Arguments are checked by hashret.kernels; what
 * could read or write outside a buffer is checked here once more. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "outputs.h"
#include "threads.h"

typedef struct {
    Py_buffer codes, queries, mask;
    hr_request request;
} arguments;

static void release(arguments *a) {
    PyBuffer_Release(&a->codes);
    PyBuffer_Release(&a->queries);
    if (a->mask.obj != NULL) PyBuffer_Release(&a->mask);
}

/* The buffers are filled and are released here on error. */
static int check(arguments *a, int n_bits, long long radius, int threads) {
    hr_request *r = &a->request;
    if (n_bits < 1 || n_bits > HR_MAX_BITS) {
        PyErr_Format(PyExc_ValueError, "n_bits must be from 1 to %d, not %d", HR_MAX_BITS, n_bits);
        goto wrong;
    }
    r->n_bits = (uint32_t)n_bits;
    r->n_bytes = ((size_t)n_bits + 7) / 8;
    r->below = radius < 0 || radius > n_bits ? (uint32_t)n_bits + 1 : (uint32_t)radius + 1;
    r->threads = threads < 1 ? 1 : threads;
    r->codes = a->codes.buf;
    r->queries = a->queries.buf;
    r->mask = a->mask.obj == NULL ? NULL : a->mask.buf;
    r->n_rows = (size_t)a->codes.len / r->n_bytes;
    r->n_queries = (size_t)a->queries.len / r->n_bytes;
    if ((size_t)a->codes.len % r->n_bytes || (size_t)a->queries.len % r->n_bytes) {
        PyErr_SetString(PyExc_ValueError, "codes and queries must be whole rows of (n_bits + 7) / 8 bytes");
        goto wrong;
    }
    if (r->n_rows > HR_ROW_MASK) {
        PyErr_SetString(PyExc_ValueError, "too many codes");
        goto wrong;
    }
    if (r->mask != NULL && (size_t)a->mask.len != r->n_rows) {
        PyErr_SetString(PyExc_ValueError, "the mask must have one byte a code");
        goto wrong;
    }
    return 1;
wrong:
    release(a);
    return 0;
}

static int get_mask(PyObject *object, Py_buffer *view) {
    view->obj = NULL;
    return object == Py_None || PyObject_GetBuffer(object, view, PyBUF_SIMPLE) == 0;
}

static PyObject *py_search(PyObject *self, PyObject *args) {
    (void)self;
    arguments a;
    Py_buffer distances, rows;
    PyObject *mask, *result = NULL;
    Py_ssize_t k;
    long long radius;
    int n_bits, threads, ok;
    memset(&a, 0, sizeof a);
    if (!PyArg_ParseTuple(args, "y*y*nOiLiw*w*", &a.codes, &a.queries, &k, &mask, &n_bits, &radius, &threads,
                          &distances, &rows))
        return NULL;
    if (!get_mask(mask, &a.mask)) {
        PyBuffer_Release(&a.codes);
        PyBuffer_Release(&a.queries);
        goto done;
    }
    if (!check(&a, n_bits, radius, threads)) goto done;
    size_t cells = k > 0 ? a.request.n_queries * (size_t)k : 0;
    if (k < 1 || (size_t)k > SIZE_MAX / 64 / (a.request.n_queries + 1) || (size_t)distances.len != cells * 4 ||
        (size_t)rows.len != cells * 8 || (uintptr_t)distances.buf % 4 || (uintptr_t)rows.buf % 8) {
        PyErr_SetString(PyExc_ValueError, "the outputs must be (n_queries, k) int32 and int64, k at least 1");
    } else {
        hr_nearest out = {distances.buf, rows.buf, (size_t)k};
        a.request.wanted = (size_t)k > a.request.n_rows ? a.request.n_rows + 1 : (size_t)k;
        Py_BEGIN_ALLOW_THREADS
        ok = hr_search(&a.request, hr_receive_nearest, &out);
        Py_END_ALLOW_THREADS
        result = ok ? Py_NewRef(Py_None) : PyErr_NoMemory();
    }
    release(&a);
done:
    PyBuffer_Release(&distances);
    PyBuffer_Release(&rows);
    return result;
}

static PyObject *py_range_search(PyObject *self, PyObject *args) {
    (void)self;
    arguments a;
    PyObject *mask, *limits = NULL, *result = NULL;
    hr_within out = {NULL, NULL, 0, 0};
    long long radius;
    int n_bits, threads, ok;
    memset(&a, 0, sizeof a);
    if (!PyArg_ParseTuple(args, "y*y*LOii", &a.codes, &a.queries, &radius, &mask, &n_bits, &threads)) return NULL;
    if (!get_mask(mask, &a.mask)) {
        PyBuffer_Release(&a.codes);
        PyBuffer_Release(&a.queries);
        return NULL;
    }
    if (!check(&a, n_bits, radius, threads)) return NULL;
    limits = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)((a.request.n_queries + 1) * 8));
    if (limits == NULL) goto done;
    out.limits = (int64_t *)PyByteArray_AS_STRING(limits);
    out.limits[0] = 0;
    a.request.wanted = SIZE_MAX;
    Py_BEGIN_ALLOW_THREADS
    ok = hr_search(&a.request, hr_receive_within, &out);
    Py_END_ALLOW_THREADS
    if (!ok) {
        PyErr_NoMemory();
        goto done;
    }
    result = hr_within_tuple(&out, limits);
done:
    free(out.keys);
    Py_XDECREF(limits);
    release(&a);
    return result;
}

static PyObject *py_levels(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    PyObject *names = PyTuple_New(hr_n_levels);
    for (int i = 0; names != NULL && i < hr_n_levels; i++) {
        PyObject *name = PyUnicode_FromString(hr_levels[i]->name);
        if (name == NULL) Py_CLEAR(names);
        else PyTuple_SET_ITEM(names, i, name);
    }
    return names;
}

static PyObject *py_level(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    return PyUnicode_FromString(hr_level_now->name);
}

static PyObject *py_set_level(PyObject *self, PyObject *name) {
    (void)self;
    const char *wanted = PyUnicode_AsUTF8(name);
    if (wanted == NULL) return NULL;
    for (int i = 0; i < hr_n_levels; i++)
        if (strcmp(hr_levels[i]->name, wanted) == 0) {
            hr_level_now = hr_levels[i];
            Py_RETURN_NONE;
        }
    PyErr_Format(PyExc_ValueError, "this machine or build has no SIMD level %R", name);
    return NULL;
}

PyObject *hr_py_mih_build(PyObject *self, PyObject *args);
PyObject *hr_py_mih_search(PyObject *self, PyObject *args);

static PyMethodDef methods[] = {
    {"search", py_search, METH_VARARGS,
     "search(codes, queries, k, mask, n_bits, radius, threads, distances, rows): the k nearest, into the last two."},
    {"range_search", py_range_search, METH_VARARGS,
     "range_search(codes, queries, radius, mask, n_bits, threads) -> limits, distances, rows as bytearrays."},
    {"mih_build", hr_py_mih_build, METH_VARARGS,
     "mih_build(codes, n_bytes, from, width, starts, ids): a table of the rows by a substring, into the last two."},
    {"mih_search", hr_py_mih_search, METH_VARARGS,
     "mih_search(codes, queries, k, mask, n_bits, radius, tables, costs, threads, distances, rows, stats); see mih_module.c."},
    {"levels", py_levels, METH_NOARGS, "The SIMD levels that this machine can run, the best one last."},
    {"level", py_level, METH_NOARGS, "The SIMD level in use."},
    {"set_level", py_set_level, METH_O, "Use another SIMD level, in all threads; not while a search runs."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Exact Hamming search in C; see hashret.kernels.native.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void) {
    hr_levels_find();
    hr_threads_prepare();
    return PyModule_Create(&definition);
}
