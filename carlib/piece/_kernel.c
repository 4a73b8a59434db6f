/* Piece commitments and fr32 at the speed of the machine: carlib/piece/portable.py says the same in Python, slower.
 *
 * A subtree is hashed depth first.  LANES messages of 64 bytes lie transposed in 16 vectors, so that one round of
 * SHA-256 advances them all; what comes out is LANES nodes, and two such results are dealt out (even | odd) into the
 * next level's messages without going through memory's byte order again.  One pending result a level is all the state
 * there is: 512 bytes a level, on the stack.  The second block of each message is padding only, so its message
 * schedule is a table.  docs/decisions/0003-commitment-kernel.md has the reasons and the figures.
 *
 * The file includes itself once for each width: everything below `#else` is the body for one value of LANES.
 * Memory safety rests on three checks at the bottom (subtree, pad, unpad): lengths are whole, and the last 127 or 128
 * bytes are worked on in a copy, because the vector loads and stores of fr32 reach past them.
 */
#ifndef LANES

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "../sha256.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian machines only; carlib.piece.portable serves the others"
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNPADDED 127     /* bytes of one fr32 group, and what they become */
#define PADDED 128
#define MAX_LEVEL 25     /* subtree: at most 127 << 25 bytes, 4 GiB */

static uint32_t K_PADDING[64] __attribute__((aligned(64))); /* K + schedule of the block that ends 64 bytes */

static void make_padding_schedule(void)
{
    uint32_t w[64] = {0x80000000};
    w[15] = 512; /* bits of the message */
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + SIGMA0(w[i - 15]) + w[i - 7] + SIGMA1(w[i - 2]);
    for (int i = 0; i < 64; i++)
        K_PADDING[i] = K[i] + w[i];
}

/* fr32: 127 bytes are four numbers of 254 bits, each of which gets 32 bytes; two zero bits on top (Filecoin specification, Piece). */

typedef uint64_t words __attribute__((vector_size(32)));
typedef uint64_t loose_words __attribute__((vector_size(32), aligned(1), may_alias));
#define LOAD(p) (*(const loose_words *)(p))
#define STORE(p, v) (*(loose_words *)(p) = (v))
#define LOW_254 ((words){~0ull, ~0ull, ~0ull, ~0ull >> 2})
#define LOW_192 ((words){~0ull, ~0ull, ~0ull, 0})

/* Reads 135 bytes, writes 128. */
INLINE void pad_group(const uint8_t *in, uint8_t *out)
{
    STORE(out, LOAD(in) & LOW_254);
    STORE(out + 32, ((LOAD(in + 31) >> 6) | (LOAD(in + 39) << 58)) & LOW_254);
    STORE(out + 64, ((LOAD(in + 63) >> 4) | (LOAD(in + 71) << 60)) & LOW_254);
    STORE(out + 96, ((LOAD(in + 95) >> 2) | (LOAD(in + 103) << 62)) & LOW_254);
}

/* Payload bytes 32n..32n+31: number n from bit 2n on, and the low bits of number n+1 on top (SHIFT: 64 - 2n). */
#define JOIN(in, n, SHIFT)                                                                                 \
    (((LOAD(in) & LOW_254) >> (2 * (n))) | ((LOAD((in) + 8) << (SHIFT)) & LOW_192) |                       \
     ((LOAD((in) + 8) << ((SHIFT) - 2)) & ~LOW_192))

/* Reads 136 bytes, writes 128, of which the last is 0 and belongs to the next group.  Top bits are ignored. */
INLINE void unpad_group(const uint8_t *in, uint8_t *out)
{
    const words first = (LOAD(in) & LOW_254) | ((LOAD(in + 8) << 62) & ~LOW_192);
    const words last = ((LOAD(in + 96) & LOW_254) >> 6) | ((LOAD(in + 104) << 58) & LOW_192);
    STORE(out, first);
    STORE(out + 32, JOIN(in + 32, 1, 62));
    STORE(out + 64, JOIN(in + 64, 2, 60));
    STORE(out + 96, last);
}

static void pad_groups(const uint8_t *in, uint8_t *out, size_t groups)
{
    uint8_t tail[UNPADDED + 8] = {0};
    if (groups == 0)
        return;
    for (size_t g = 0; g + 1 < groups; g++)
        pad_group(in + UNPADDED * g, out + PADDED * g);
    memcpy(tail, in + UNPADDED * (groups - 1), UNPADDED);
    pad_group(tail, out + PADDED * (groups - 1));
}

static void unpad_groups(const uint8_t *in, uint8_t *out, size_t groups)
{
    uint8_t tail[PADDED + 8] = {0}, result[PADDED];
    if (groups == 0)
        return;
    for (size_t g = 0; g + 1 < groups; g++)
        unpad_group(in + PADDED * g, out + UNPADDED * g);
    memcpy(tail, in + PADDED * (groups - 1), PADDED);
    unpad_group(tail, result);
    memcpy(out + UNPADDED * (groups - 1), result, UNPADDED);
}

/* The lanes, once for each width. */

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define DEAL(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

/* Message word + constant of a round of the second block. */
#define OF_PADDING(n, i) ((vec){0} + K_PADDING[(n) + (i)])

#define LANES 4
#define NAME baseline
#define TARGET
#define EVEN(a, b) DEAL(a, b, 0, 2, 4, 6)
#define ODD(a, b) DEAL(a, b, 1, 3, 5, 7)
#define LOW(a, b) DEAL(a, b, 0, 4, 1, 5)
#define HIGH(a, b) DEAL(a, b, 2, 6, 3, 7)
#include "_kernel.c"

#if defined(__x86_64__)
#define LANES 8
#define NAME avx2
#define TARGET __attribute__((target("avx2")))
#define EVEN(a, b) DEAL(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b) DEAL(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#define LOW(a, b) DEAL(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) DEAL(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#include "_kernel.c"

#define LANES 16
#define NAME avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define EVEN(a, b) DEAL(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) DEAL(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define LOW(a, b) DEAL(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) DEAL(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#include "_kernel.c"

/* SHA instructions: two messages at a time, level by level over a block that stays in the first cache. */

#include <cpuid.h>
#include <immintrin.h>

#define STREAMS 2
#define BLOCK_GROUPS 64
#define SHA __attribute__((target("sha,sse4.1")))
#define EACH for (int s = 0; s < STREAMS; s++)

/* STREAMS messages of 64 bytes to as many nodes; `out` may be `in`. */
SHA static void hash_streams(const uint8_t *in, uint8_t *out)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i reverse = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
    const __m128i clear = _mm_set_epi64x(0x3fffffffffffffff, -1);
    const __m128i abef = _mm_set_epi32((int)START[0], (int)START[1], (int)START[4], (int)START[5]);
    const __m128i cdgh = _mm_set_epi32((int)START[2], (int)START[3], (int)START[6], (int)START[7]);
    __m128i w[STREAMS][4], x[STREAMS], y[STREAMS], x1[STREAMS], y1[STREAMS];
    EACH {
        for (int i = 0; i < 4; i++)
            w[s][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(in + 64 * s + 16 * i)), swap);
        x[s] = abef;
        y[s] = cdgh;
    }
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) {
        const __m128i k = _mm_load_si128((const __m128i *)(K + 4 * r));
        EACH {
            __m128i *m = w[s];
            const __m128i kw = _mm_add_epi32(m[r & 3], k);
            y[s] = _mm_sha256rnds2_epu32(y[s], x[s], kw);
            x[s] = _mm_sha256rnds2_epu32(x[s], y[s], _mm_shuffle_epi32(kw, 0x0e));
            if (r < 12) {
                const __m128i seven = _mm_alignr_epi8(m[(r + 3) & 3], m[(r + 2) & 3], 4);
                const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(m[r & 3], m[(r + 1) & 3]), seven);
                m[r & 3] = _mm_sha256msg2_epu32(sum, m[(r + 3) & 3]);
            }
        }
    }
    EACH {
        x1[s] = x[s] = _mm_add_epi32(x[s], abef);
        y1[s] = y[s] = _mm_add_epi32(y[s], cdgh);
    }
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) {
        const __m128i k = _mm_load_si128((const __m128i *)(K_PADDING + 4 * r));
        EACH {
            y[s] = _mm_sha256rnds2_epu32(y[s], x[s], k);
            x[s] = _mm_sha256rnds2_epu32(x[s], y[s], _mm_shuffle_epi32(k, 0x0e));
        }
    }
    EACH {
        const __m128i ab_ef = _mm_add_epi32(x[s], x1[s]), cd_gh = _mm_add_epi32(y[s], y1[s]);
        const __m128i abcd = _mm_shuffle_epi8(_mm_unpackhi_epi64(cd_gh, ab_ef), reverse);
        const __m128i efgh = _mm_shuffle_epi8(_mm_unpacklo_epi64(cd_gh, ab_ef), reverse);
        _mm_storeu_si128((__m128i *)(out + 32 * s), abcd);
        _mm_storeu_si128((__m128i *)(out + 32 * s + 16), _mm_and_si128(efgh, clear));
    }
}

static void subtree_sha(const uint8_t *in, size_t groups, uint8_t *root)
{
    uint8_t block[PADDED * BLOCK_GROUPS], pending[MAX_LEVEL + 1][32], pairs[64 * STREAMS] = {0};
    const size_t step = groups < BLOCK_GROUPS ? groups : BLOCK_GROUPS;
    int top = 0;
    for (size_t b = 0; b < groups / step; b++) {
        pad_groups(in + UNPADDED * step * b, block, step);
        for (size_t messages = 2 * step; messages > 0; messages /= 2)
            for (size_t m = 0; m < messages; m += STREAMS)
                hash_streams(block + 64 * m, block + 32 * m);
        memcpy(pending[top++], block, 32);
        for (size_t done = b + 1; !(done & 1); done >>= 1) {
            top--;
            memcpy(pairs, pending[top - 1], 32);
            memcpy(pairs + 32, pending[top], 32);
            hash_streams(pairs, pairs);
            memcpy(pending[top - 1], pairs, 32);
        }
    }
    memcpy(root, pending[0], 32);
}

static int have_sha(void)
{
    unsigned int a, b, c, d;
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#endif

/* What Python sees. */

typedef void subtree_function(const uint8_t *in, size_t groups, uint8_t *root);
static struct variant {
    const char *name;
    subtree_function *subtree;
} variants[4];
static int variant_count;

/* The variants that this CPU can run, the fastest first. */
static void choose_variants(void)
{
    variant_count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        variants[variant_count++] = (struct variant){"avx512", subtree_avx512};
    if (have_sha())
        variants[variant_count++] = (struct variant){"sha", subtree_sha};
    if (__builtin_cpu_supports("avx2"))
        variants[variant_count++] = (struct variant){"avx2", subtree_avx2};
#endif
    variants[variant_count++] = (struct variant){"baseline", subtree_baseline};
}

PyDoc_STRVAR(subtree_doc, "subtree(data, variant=0, /) -> bytes\n\n"
             "Root of the tree over 127 << n bytes of payload, by variants()[variant].");
static PyObject *subtree(PyObject *module, PyObject *arguments)
{
    Py_buffer data;
    int variant = 0;
    uint8_t root[32];
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*|i:subtree", &data, &variant))
        return NULL;
    const size_t groups = (size_t)data.len / UNPADDED;
    const int whole = groups > 0 && (size_t)data.len % UNPADDED == 0 && (groups & (groups - 1)) == 0;
    if (!whole || groups > (size_t)1 << MAX_LEVEL || variant < 0 || variant >= variant_count) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_ValueError, "data must be 127 << n bytes, 0 <= n <= 25, and the variant exist");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    variants[variant].subtree(data.buf, groups, root);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    return PyBytes_FromStringAndSize((const char *)root, sizeof root);
}

static PyObject *convert(PyObject *arguments, size_t from, size_t to,
                         void (*groups_function)(const uint8_t *, uint8_t *, size_t))
{
    Py_buffer data;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y*", &data))
        return NULL;
    const size_t groups = (size_t)data.len / from;
    if ((size_t)data.len % from != 0 || groups > (size_t)PY_SSIZE_T_MAX / PADDED)
        PyErr_Format(PyExc_ValueError, "data must be a multiple of %zu bytes", from);
    else
        result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(groups * to));
    if (result != NULL) {
        uint8_t *out = (uint8_t *)PyBytes_AsString(result);
        Py_BEGIN_ALLOW_THREADS
        groups_function(data.buf, out, groups);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return result;
}

PyDoc_STRVAR(pad_doc, "pad(data, /) -> bytes\n\nfr32: 128 bytes for each 127 of data.");
static PyObject *pad(PyObject *module, PyObject *arguments)
{
    (void)module;
    return convert(arguments, UNPADDED, PADDED, pad_groups);
}

PyDoc_STRVAR(unpad_doc, "unpad(data, /) -> bytes\n\nfr32: 127 bytes for each 128 of data, top bits ignored.");
static PyObject *unpad(PyObject *module, PyObject *arguments)
{
    (void)module;
    return convert(arguments, PADDED, UNPADDED, unpad_groups);
}

PyDoc_STRVAR(variants_doc, "variants() -> tuple[str, ...]\n\nWhat this CPU can run, the fastest first.");
static PyObject *variant_names(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *names = PyTuple_New(variant_count);
    for (int i = 0; names != NULL && i < variant_count; i++) {
        PyObject *name = PyUnicode_FromString(variants[i].name);
        if (name == NULL || PyTuple_SetItem(names, i, name) != 0)
            Py_CLEAR(names);
    }
    return names;
}

static int initialise(PyObject *module)
{
    (void)module;
    make_padding_schedule();
    choose_variants();
    return 0;
}

static PyMethodDef methods[] = {
    {"subtree", subtree, METH_VARARGS, subtree_doc},
    {"pad", pad, METH_VARARGS, pad_doc},
    {"unpad", unpad, METH_VARARGS, unpad_doc},
    {"variants", variant_names, METH_NOARGS, variants_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)initialise}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "carlib.piece._kernel",
                                        "Piece commitments and fr32, see carlib.piece.kernel.", 0,
                                        methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    return PyModuleDef_Init(&definition);
}

#else /* ---- the body for LANES ------------------------------------------------------------------------- */

#define vec PASTE(vec, LANES)
#define loose_vec PASTE(loose_vec, LANES)
#define nodes PASTE(nodes, LANES)
#define hash_lanes PASTE(hash_lanes, LANES)
#define load_messages PASTE(load_messages, LANES)
#define deal PASTE(deal, LANES)

typedef uint32_t vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t loose_vec __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef struct {
    vec word[8];
} nodes; /* LANES nodes: word[i] holds word i of each, in native byte order */

/* LANES messages, transposed, to LANES nodes. */
TARGET static void hash_lanes(const vec message[16], nodes *out)
{
    vec w[16];
    const vec zero = {0};
    vec a = zero + START[0], b = zero + START[1], c = zero + START[2], d = zero + START[3];
    vec e = zero + START[4], f = zero + START[5], g = zero + START[6], h = zero + START[7];
    memcpy(w, message, sizeof w);
    SIXTEEN_ROUNDS(GIVEN, 0);
    for (int n = 16; n < 64; n += 16)
        SIXTEEN_ROUNDS(SCHEDULED, n);
    const vec middle[8] = {a + START[0], b + START[1], c + START[2], d + START[3],
                           e + START[4], f + START[5], g + START[6], h + START[7]};
    a = middle[0], b = middle[1], c = middle[2], d = middle[3];
    e = middle[4], f = middle[5], g = middle[6], h = middle[7];
    for (int n = 0; n < 64; n += 16)
        SIXTEEN_ROUNDS(OF_PADDING, n);
    out->word[0] = middle[0] + a, out->word[1] = middle[1] + b;
    out->word[2] = middle[2] + c, out->word[3] = middle[3] + d;
    out->word[4] = middle[4] + e, out->word[5] = middle[5] + f;
    out->word[6] = middle[6] + g, out->word[7] = (middle[7] + h) & 0xffffff3f; /* 254 bits */
}

/* LANES messages of 64 bytes, transposed by log2(LANES) perfect shuffles. */
TARGET INLINE void load_messages(const uint8_t *in, vec message[16])
{
    for (int column = 0; column < 16; column += LANES) {
        vec *x = message + column, y[LANES];
        for (int i = 0; i < LANES; i++) {
            const vec v = *(const loose_vec *)(in + 64 * i + 4 * column);
            x[i] = (v >> 24) | ((v >> 8) & 0xff00) | ((v << 8) & 0xff0000) | (v << 24);
        }
        for (int step = 1; step < LANES; step *= 2) {
            for (int i = 0; i < LANES / 2; i++) {
                y[2 * i] = LOW(x[i], x[i + LANES / 2]);
                y[2 * i + 1] = HIGH(x[i], x[i + LANES / 2]);
            }
            memcpy(x, y, sizeof y);
        }
    }
}

/* The messages of the next level: pairs of neighbours among left's nodes, then among right's. */
TARGET INLINE void deal(const nodes *left, const nodes *right, vec message[16])
{
    for (int i = 0; i < 8; i++) {
        message[i] = EVEN(left->word[i], right->word[i]);
        message[8 + i] = ODD(left->word[i], right->word[i]);
    }
}

/* The root over `groups` (a power of two, at most 1 << MAX_LEVEL) groups of 127 bytes. */
TARGET static void PASTE(subtree_, NAME)(const uint8_t *in, size_t groups, uint8_t *root)
{
    nodes pending[MAX_LEVEL + 1];
    vec message[16];
    uint8_t padded[64 * LANES] = {0}, tail[UNPADDED + 8] = {0};
    const size_t step = groups < LANES / 2 ? groups : LANES / 2;
    int top = 0;
    memcpy(tail, in + UNPADDED * (groups - 1), UNPADDED);
    for (size_t b = 0; b < groups / step; b++) {
        for (size_t g = step * b; g < step * (b + 1); g++)
            pad_group(g + 1 < groups ? in + UNPADDED * g : tail, padded + PADDED * (g - step * b));
        load_messages(padded, message);
        hash_lanes(message, &pending[top++]);
        for (size_t done = b + 1; !(done & 1); done >>= 1) {
            top--;
            deal(&pending[top - 1], &pending[top], message);
            hash_lanes(message, &pending[top - 1]);
        }
    }
    for (size_t left = 2 * step; left > 1; left /= 2) {
        deal(&pending[0], &pending[0], message);
        hash_lanes(message, &pending[0]);
    }
    for (int i = 0; i < 8; i++) {
        const uint32_t word = __builtin_bswap32(pending[0].word[i][0]);
        memcpy(root + 4 * i, &word, 4);
    }
}

#undef vec
#undef loose_vec
#undef nodes
#undef hash_lanes
#undef load_messages
#undef deal
#undef LANES
#undef NAME
#undef TARGET
#undef EVEN
#undef ODD
#undef LOW
#undef HIGH
#endif
