/* Where rolling hashes let a file be cut: carlib/unixfs/rolling_portable.py says the same with numpy, slower.
 *
 * Both hashes depend on the last few bytes alone (16 and 32), so a search may begin anywhere.  The Rabin fingerprint
 * of one byte waits for that of the byte before it, some nine cycles; LANES searches a STRIDE apart hide that.  The
 * tables come from Python: the constants stand in one place, rolling.py.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian machines only; carlib.unixfs.rolling_portable serves the others"
#endif

#define INLINE static inline __attribute__((always_inline))
#define RABIN_WINDOW 16
#define BUZHASH_WINDOW 32
#define DEGREE 53
#define LANES 4
#define STRIDE 1024

typedef struct {
    uint64_t out[256], mod[256];
} rabin_tables;

INLINE uint64_t rabin_in(const rabin_tables *t, uint64_t digest, uint8_t in)
{
    return (digest << 8 | in) ^ t->mod[digest >> (DEGREE - 8)];
}

INLINE uint64_t rabin_roll(const rabin_tables *t, uint64_t digest, uint8_t out, uint8_t in)
{
    return rabin_in(t, digest ^ t->out[out], in);
}

/* The fingerprint of the window that ends before `end`. */
INLINE uint64_t rabin_at(const rabin_tables *t, const uint8_t *end)
{
    uint64_t digest = 0;
    for (int i = RABIN_WINDOW; i > 0; i--)
        digest = rabin_in(t, digest, end[-i]);
    return digest;
}

/* The first position from `start` on whose fingerprint is 0 under `mask`, or `size`.  start >= RABIN_WINDOW. */
static size_t rabin_find(const rabin_tables *t, const uint8_t *data, size_t size, size_t start, uint64_t mask)
{
    uint64_t digest[LANES];
    for (; size - start > LANES * STRIDE; start += LANES * STRIDE) {
        const uint8_t *at[LANES];
        size_t hit[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            at[lane] = data + start + lane * STRIDE;
            digest[lane] = rabin_at(t, at[lane]);
            hit[lane] = SIZE_MAX;
        }
        for (size_t step = 0; step < STRIDE; step++) {
#pragma GCC unroll 4
            for (int lane = 0; lane < LANES; lane++) {
                if (__builtin_expect(!(digest[lane] & mask), 0) && hit[lane] == SIZE_MAX)
                    hit[lane] = start + lane * STRIDE + step;
                digest[lane] = rabin_roll(t, digest[lane], at[lane][step - RABIN_WINDOW], at[lane][step]);
            }
        }
        for (int lane = 0; lane < LANES; lane++)
            if (hit[lane] != SIZE_MAX)
                return hit[lane];
    }
    digest[0] = rabin_at(t, data + start);
    for (; start < size; start++) {
        if (!(digest[0] & mask))
            return start;
        digest[0] = rabin_roll(t, digest[0], data[start - RABIN_WINDOW], data[start]);
    }
    return size;
}

INLINE uint32_t rotated(uint32_t x) { return x << 1 | x >> 31; }

/* Likewise; start >= BUZHASH_WINDOW.  A byte that leaves has been turned by 32 bits, which is not at all. */
static size_t buzhash_find(const uint32_t *t, const uint8_t *data, size_t size, size_t start, uint32_t mask)
{
    uint32_t state = 0;
    for (size_t i = start - BUZHASH_WINDOW; i < start; i++)
        state = rotated(state) ^ t[data[i]];
    for (; start < size; start++) {
        if (!(state & mask))
            return start;
        state = rotated(state) ^ t[data[start - BUZHASH_WINDOW]] ^ t[data[start]];
    }
    return size;
}

/* (data, start, mask, tables) -> position.  Memory safety rests on the checks here: `window` bytes lie before start,
 * start is not past the end, and the tables are as long as they must be (and copied, as nothing says how aligned). */
static PyObject *find(PyObject *args, size_t window, size_t table_bytes)
{
    Py_buffer data, tables;
    Py_ssize_t start;
    unsigned long long mask;
    if (!PyArg_ParseTuple(args, "y*nKy*", &data, &start, &mask, &tables))
        return NULL;
    PyObject *result = NULL;
    if (start < (Py_ssize_t)window || start > data.len || tables.len != (Py_ssize_t)table_bytes) {
        PyErr_SetString(PyExc_ValueError, "start outside of the data, or tables of another size");
    } else {
        size_t found;
        Py_BEGIN_ALLOW_THREADS
        if (window == RABIN_WINDOW) {
            rabin_tables t;
            memcpy(&t, tables.buf, sizeof t);
            found = rabin_find(&t, data.buf, (size_t)data.len, (size_t)start, mask);
        } else {
            uint32_t t[256];
            memcpy(t, tables.buf, sizeof t);
            found = buzhash_find(t, data.buf, (size_t)data.len, (size_t)start, (uint32_t)mask);
        }
        Py_END_ALLOW_THREADS
        result = PyLong_FromSize_t(found);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&tables);
    return result;
}

static PyObject *rabin(PyObject *self, PyObject *args)
{
    (void)self;
    return find(args, RABIN_WINDOW, sizeof(rabin_tables));
}

static PyObject *buzhash(PyObject *self, PyObject *args)
{
    (void)self;
    return find(args, BUZHASH_WINDOW, 256 * sizeof(uint32_t));
}

static PyMethodDef functions[] = {
    {"rabin", rabin, METH_VARARGS, "rabin(data, start, mask, tables) -> position of the first cut, or len(data)"},
    {"buzhash", buzhash, METH_VARARGS, "buzhash(data, start, mask, table) -> position of the first cut, or len(data)"},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rolling", NULL, 0, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__rolling(void) { return PyModule_Create(&module); }
