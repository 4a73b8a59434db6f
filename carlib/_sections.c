/* Sections of the usual form, many at once: carlib/usual.py says the same in Python, slower.
 *
 * `hop` finds where sections begin, `entries` makes index entries of them, `right` says how many in a row hash to what
 * their CIDs say.  All stop at the first section that is not of the usual form, or not right, and leave it to Python:
 * nothing is judged here, so no error has to be told.  SHA-256 runs over several blocks at once, which one stream cannot
 * do as each of its rounds waits for the last: 16 lanes of a vector with AVX-512, two streams with SHA instructions.  A
 * lane that is done takes the next block.  docs/decisions/0005-section-kernel.md has the reasons and the figures.
 * `tally` sums up entries, for carlib/tally.py.
 *
 * Memory safety rests on `next_section` and `write_entries`: they alone take lengths from the buffer, what the one
 * gives lies in the buffer as a whole, and the other writes no more entries than its caller made room for.
 *
 * The file includes itself once for each width: everything below `#else` is the body for one value of LANES.
 */
#ifndef LANES

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "sha256.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "little-endian machines only; carlib.usual serves the others"
#endif

#define INLINE static inline __attribute__((always_inline))
#define BLOCK 64         /* bytes of one step of SHA-256 */
#define MAX_LANES 16
#define DIGEST_BYTES 32
#define V0_HEAD 2        /* bytes of a CID before its digest: sha2-256, 32 bytes */
#define V1_HEAD 4        /* version, a codec of one byte, sha2-256, 32 bytes */
#define MAX_ABSENT 64
#define ENTRY_BYTES (DIGEST_BYTES + 8)

/* ---- sections ------------------------------------------------------------------------------------------------- */

struct walk {
    const uint8_t *buffer;
    size_t size, position;
    size_t left;           /* sections to give at most */
    const uint8_t *absent; /* digests to stop at */
    size_t absent_count;
};

struct section {
    const uint8_t *digest, *data;
    size_t data_bytes;
};

static int is_absent(const struct walk *walk, const uint8_t *digest)
{
    for (size_t i = 0; i < walk->absent_count; i++)
        if (memcmp(walk->absent + DIGEST_BYTES * i, digest, DIGEST_BYTES) == 0)
            return 1;
    return 0;
}

/* The length at `at`, of whose buffer `there` bytes are left, in its shortest form of up to three bytes; 0 if not so. */
static size_t read_length(const uint8_t *at, size_t there, size_t *length)
{
    if (there < 3)
        return 0;
    if (at[0] < 0x80) {
        *length = at[0];
        return 1;
    }
    *length = (size_t)(at[0] & 0x7f) | (size_t)(at[1] & 0x7f) << 7;
    if (at[1] < 0x80)
        return at[1] == 0 ? 0 : 2;
    *length |= (size_t)at[2] << 14;
    return at[2] == 0 || at[2] >= 0x80 ? 0 : 3;
}

/* Whether the CID at `cid` is of version 1 and usual; four bytes are looked at. */
static int is_usual_v1(const uint8_t *cid)
{
    return cid[0] == 0x01 && (cid[1] == 0x55 || cid[1] == 0x70 || cid[1] == 0x71) && cid[2] == 0x12 && cid[3] == 0x20;
}

/* The section at walk->position, if it is of the usual form and lies in the buffer as a whole; 0 if not. */
static int next_section(struct walk *walk, struct section *found)
{
    const uint8_t *at = walk->buffer + walk->position;
    const size_t there = walk->size - walk->position; /* position <= size, always */
    size_t length;
    if (walk->left == 0)
        return 0;
    const size_t head = read_length(at, there, &length);
    if (head == 0 || length < V1_HEAD + DIGEST_BYTES || length > there - head)
        return 0;
    const uint8_t *digest = at + head;
    if (digest[0] == 0x12 && digest[1] == 0x20)
        digest += V0_HEAD;
    else if (is_usual_v1(digest))
        digest += V1_HEAD;
    else
        return 0;
    if (is_absent(walk, digest))
        return 0;
    found->digest = digest;
    found->data = digest + DIGEST_BYTES;
    found->data_bytes = head + length - (size_t)(found->data - at);
    walk->position += head + length;
    walk->left--;
    return 1;
}

/* Index entries of sections in a row, whose CIDs lie in the buffer, as they stand in an index of 32-byte digests. */
static size_t write_entries(const uint8_t *buffer, size_t size, size_t position, size_t most, uint64_t base, uint8_t *out)
{
    size_t count = 0;
    while (count < most && position < size) {
        const uint8_t *at = buffer + position;
        const size_t there = size - position;
        size_t length;
        const size_t head = read_length(at, there, &length);
        if (head == 0 || length < V1_HEAD + DIGEST_BYTES || V1_HEAD + DIGEST_BYTES > there - head ||
            !is_usual_v1(at + head))
            break;
        const uint64_t offset = base + position;
        memcpy(out, at + head + V1_HEAD, DIGEST_BYTES);
        memcpy(out + DIGEST_BYTES, &offset, sizeof offset);
        out += ENTRY_BYTES;
        position += head + length; /* may leave the buffer: then it ends */
        count++;
    }
    return count;
}

/* ---- sums of entries ------------------------------------------------------------------------------------------ */

static uint64_t load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

#define TURN(x, n) (((x) << (n)) | ((x) >> (64 - (n))))
#define SIP_ROUND(v)                                                                                        \
    do {                                                                                                    \
        v[0] += v[1], v[1] = TURN(v[1], 13) ^ v[0], v[0] = TURN(v[0], 32);                                  \
        v[2] += v[3], v[3] = TURN(v[3], 16) ^ v[2];                                                         \
        v[0] += v[3], v[3] = TURN(v[3], 21) ^ v[0];                                                         \
        v[2] += v[1], v[1] = TURN(v[1], 17) ^ v[2], v[2] = TURN(v[2], 32);                                  \
    } while (0)

/* SipHash-2-4 of `size` bytes. */
INLINE uint64_t siphash(const uint8_t *at, size_t size, uint64_t key0, uint64_t key1)
{
    uint64_t v[4] = {key0 ^ 0x736f6d6570736575, key1 ^ 0x646f72616e646f6d, key0 ^ 0x6c7967656e657261,
                     key1 ^ 0x7465646279746573};
    uint64_t last = (uint64_t)size << 56;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        const uint64_t word = load64(at + i);
        v[3] ^= word;
        SIP_ROUND(v);
        SIP_ROUND(v);
        v[0] ^= word;
    }
    for (size_t i = 0; i < size % 8; i++)
        last |= (uint64_t)at[size - size % 8 + i] << (8 * i);
    v[3] ^= last;
    SIP_ROUND(v);
    SIP_ROUND(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        SIP_ROUND(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The sum of all `count` rows' hashes; the width that nearly all have is a constant to the compiler. */
static uint64_t sum_rows(const uint8_t *at, size_t count, size_t width, const uint8_t key[16])
{
    const uint64_t key0 = load64(key), key1 = load64(key + 8);
    uint64_t sum = 0;
    if (width == ENTRY_BYTES)
        for (size_t i = 0; i < count; i++)
            sum += siphash(at + ENTRY_BYTES * i, ENTRY_BYTES, key0, key1);
    else
        for (size_t i = 0; i < count; i++)
            sum += siphash(at + width * i, width, key0, key1);
    return sum;
}

/* Whether each row begins with no less than the one before it, eight bytes at the end left out. */
static int is_ascending(const uint8_t *at, size_t count, size_t width)
{
    for (size_t i = 1; i < count; i++)
        if (memcmp(at + width * (i - 1), at + width * i, width - 8) > 0)
            return 0;
    return 1;
}

/* ---- SHA-256 of several blocks at once ------------------------------------------------------------------------ */

/* State of all lanes: words[i] holds word i of each. */
typedef struct {
    uint32_t words[8][MAX_LANES] __attribute__((aligned(64)));
} states;

/* Advances all lanes by `blocks` blocks of 64 bytes, each from its own pointer. */
typedef void wide_function(states *state, const uint8_t *const in[], size_t blocks);
/* Advances the `count` lanes that are named, and no others. */
typedef void few_function(states *state, const int lanes[], int count, const uint8_t *const in[], size_t blocks);

#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define DEAL(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

#define LANES 4
#define NAME baseline
#define TARGET
#define LOW(a, b) DEAL(a, b, 0, 4, 1, 5)
#define HIGH(a, b) DEAL(a, b, 2, 6, 3, 7)
#include "_sections.c"

#if defined(__x86_64__)
#define LANES 8
#define NAME avx2
#define TARGET __attribute__((target("avx2")))
#define LOW(a, b) DEAL(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) DEAL(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#include "_sections.c"

#define LANES 16
#define NAME avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define LOW(a, b) DEAL(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) DEAL(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#include "_sections.c"

#include <cpuid.h>
#include <immintrin.h>

#define STREAMS 2
#define SHA __attribute__((target("sha,sse4.1")))
#define EACH for (int s = 0; s < STREAMS; s++)

/* Two lanes, or one twice over, with SHA instructions. */
SHA static void two_sha(states *state, const int lanes[STREAMS], const uint8_t *const in[STREAMS], size_t blocks)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i x[STREAMS], y[STREAMS], w[STREAMS][4];
    EACH {
        const int n = lanes[s];
#define WORD(i) (int)state->words[i][n]
        x[s] = _mm_set_epi32(WORD(0), WORD(1), WORD(4), WORD(5));
        y[s] = _mm_set_epi32(WORD(2), WORD(3), WORD(6), WORD(7));
    }
    for (size_t b = 0; b < blocks; b++) {
        const __m128i x0[STREAMS] = {x[0], x[1]}, y0[STREAMS] = {y[0], y[1]};
        EACH {
            for (int i = 0; i < 4; i++)
                w[s][i] = _mm_shuffle_epi8(
                    _mm_loadu_si128((const __m128i *)(in[s] + BLOCK * b + 16 * (size_t)i)), swap);
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
            x[s] = _mm_add_epi32(x[s], x0[s]);
            y[s] = _mm_add_epi32(y[s], y0[s]);
        }
    }
    EACH {
        uint32_t abef[4], cdgh[4];
        _mm_storeu_si128((__m128i *)abef, x[s]);
        _mm_storeu_si128((__m128i *)cdgh, y[s]);
        const int n = lanes[s];
        state->words[0][n] = abef[3], state->words[1][n] = abef[2];
        state->words[4][n] = abef[1], state->words[5][n] = abef[0];
        state->words[2][n] = cdgh[3], state->words[3][n] = cdgh[2];
        state->words[6][n] = cdgh[1], state->words[7][n] = cdgh[0];
    }
}

static void few_sha(states *state, const int lanes[], int count, const uint8_t *const in[], size_t blocks)
{
    for (int i = 0; i < count; i += STREAMS) {
        const int second = i + 1 < count ? i + 1 : i;
        const int pair[STREAMS] = {lanes[i], lanes[second]};
        const uint8_t *const from[STREAMS] = {in[pair[0]], in[pair[1]]};
        two_sha(state, pair, from, blocks);
    }
}

static int have_sha(void)
{
    unsigned int a, b, c, d;
    return __builtin_cpu_supports("sse4.1") && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}
#endif

/* One lane after the other, word by word: for the last blocks where there are no SHA instructions. */
static void few_plain(states *state, const int lanes[], int count, const uint8_t *const in[], size_t blocks)
{
    typedef uint32_t vec;
    for (int one = 0; one < count; one++) {
        const int lane = lanes[one];
        for (size_t block = 0; block < blocks; block++) {
            uint32_t w[16], s[8];
            memcpy(w, in[lane] + BLOCK * block, BLOCK);
            for (int i = 0; i < 16; i++)
                w[i] = __builtin_bswap32(w[i]);
            for (int i = 0; i < 8; i++)
                s[i] = state->words[i][lane];
            vec a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
            SIXTEEN_ROUNDS(GIVEN, 0);
            for (int n = 16; n < 64; n += 16)
                SIXTEEN_ROUNDS(SCHEDULED, n);
            const vec after[8] = {a, b, c, d, e, f, g, h};
            for (int i = 0; i < 8; i++)
                state->words[i][lane] = s[i] + after[i];
        }
    }
}

/* ---- lanes ---------------------------------------------------------------------------------------------------- */

static struct variant {
    const char *name;
    wide_function *wide; /* NULL: only few */
    few_function *few;
    int lanes, few_at_most; /* busy lanes up to which few is the faster */
} variants[5];
static int variant_count;

/* The variants that this CPU can run, the fastest first. */
static void choose_variants(void)
{
    variant_count = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int sha = have_sha();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        variants[variant_count++] =
            (struct variant){"avx512", wide_avx512, sha ? few_sha : few_plain, 16, sha ? 8 : 1};
    if (sha)
        variants[variant_count++] = (struct variant){"sha", NULL, few_sha, STREAMS, STREAMS};
    if (__builtin_cpu_supports("avx2"))
        variants[variant_count++] = (struct variant){"avx2", wide_avx2, few_plain, 8, 2};
#endif
    variants[variant_count++] = (struct variant){"baseline", wide_baseline, few_plain, 4, 2};
    variants[variant_count++] = (struct variant){"plain", NULL, few_plain, 1, 1};
}

/* A block that is being hashed: `left` steps from `next` on, then `tail_steps` from the tail: its last bytes, padded. */
struct lane {
    const uint8_t *next, *digest;
    size_t left, tail_steps, number;
    uint8_t tail[2 * BLOCK];
};

static void begin(struct lane *lane, states *state, int n, const struct section *section, size_t number)
{
    const size_t rest = section->data_bytes % BLOCK;
    const uint64_t bits = (uint64_t)section->data_bytes * 8;
    lane->digest = section->digest;
    lane->number = number;
    lane->tail_steps = rest < BLOCK - 8 ? 1 : 2;
    memset(lane->tail, 0, sizeof lane->tail);
    memcpy(lane->tail, section->data + (section->data_bytes - rest), rest);
    lane->tail[rest] = 0x80;
    for (size_t i = 0; i < 8; i++)
        lane->tail[lane->tail_steps * BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
    lane->next = section->data;
    lane->left = section->data_bytes / BLOCK;
    if (lane->left == 0) {
        lane->next = lane->tail;
        lane->left = lane->tail_steps;
        lane->tail_steps = 0;
    }
    for (int i = 0; i < 8; i++)
        state->words[i][n] = START[i];
}

static int has_digest(const states *state, int n, const uint8_t *digest)
{
    uint32_t difference = 0;
    for (int i = 0; i < 8; i++) {
        uint32_t word;
        memcpy(&word, digest + 4 * i, 4);
        difference |= __builtin_bswap32(word) ^ state->words[i][n];
    }
    return difference == 0;
}

/* How many sections from walk->position on are right, up to the first that is not, or is not of the usual form. */
static size_t count_right(struct walk *walk, const struct variant *variant)
{
    struct lane lanes[MAX_LANES];
    states state;
    const uint8_t *in[MAX_LANES];
    int busy[MAX_LANES], busy_count = 0, idle[MAX_LANES], idle_count = 0, ended = 0;
    size_t given = 0, wrong = SIZE_MAX;
    memset(&state, 0, sizeof state);
    for (int n = variant->lanes - 1; n >= 0; n--)
        idle[idle_count++] = n;
    for (;;) {
        struct section section;
        while (idle_count > 0 && !ended) {
            if (!next_section(walk, &section)) {
                ended = 1;
                break;
            }
            const int n = idle[--idle_count];
            begin(&lanes[n], &state, n, &section, given++);
            busy[busy_count++] = n;
        }
        if (busy_count == 0)
            break;
        size_t steps = SIZE_MAX;
        for (int i = 0; i < busy_count; i++)
            if (lanes[busy[i]].left < steps)
                steps = lanes[busy[i]].left;
        for (int i = 0; i < busy_count; i++)
            in[busy[i]] = lanes[busy[i]].next;
        if (busy_count <= variant->few_at_most || variant->wide == NULL) {
            variant->few(&state, busy, busy_count, in, steps);
        } else {
            for (int i = 0; i < idle_count; i++)
                in[idle[i]] = in[busy[0]]; /* something to read; what comes out of it nobody looks at */
            variant->wide(&state, in, steps);
        }
        for (int i = busy_count - 1; i >= 0; i--) {
            const int n = busy[i];
            struct lane *lane = &lanes[n];
            lane->next += BLOCK * steps;
            lane->left -= steps;
            if (lane->left > 0)
                continue;
            if (lane->tail_steps > 0) {
                lane->next = lane->tail;
                lane->left = lane->tail_steps;
                lane->tail_steps = 0;
                continue;
            }
            if (!has_digest(&state, n, lane->digest)) {
                ended = 1;
                if (lane->number < wrong)
                    wrong = lane->number;
            }
            busy[i] = busy[--busy_count];
            idle[idle_count++] = n;
        }
    }
    return wrong < given ? wrong : given;
}

/* ---- what Python sees ----------------------------------------------------------------------------------------- */

PyDoc_STRVAR(right_doc, "right(data, start, most, absent=b'', variant=0, /) -> (count, data_bytes)\n\n"
             "How many sections in a row are right, see carlib.usual.");
static PyObject *right(PyObject *module, PyObject *arguments)
{
    Py_buffer data, absent = {0};
    Py_ssize_t start, most;
    int variant = 0;
    size_t count = 0;
    uint64_t data_bytes = 0;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*nn|y*i:right", &data, &start, &most, &absent, &variant))
        return NULL;
    if (start < 0 || start > data.len || most < 0 || variant < 0 || variant >= variant_count ||
        (absent.obj != NULL && (absent.len % DIGEST_BYTES != 0 || absent.len > MAX_ABSENT * DIGEST_BYTES))) {
        PyErr_SetString(PyExc_ValueError, "start must lie in the data, absent be 64 digests at most, "
                                          "and the variant exist");
    } else {
        const struct walk from = {data.buf, (size_t)data.len, (size_t)start, (size_t)most,
                                  absent.buf, absent.obj == NULL ? 0 : (size_t)absent.len / DIGEST_BYTES};
        struct walk walk = from;
        struct section section;
        Py_BEGIN_ALLOW_THREADS
        count = count_right(&walk, &variants[variant]);
        walk = from;
        walk.left = count;
        while (next_section(&walk, &section))
            data_bytes += section.data_bytes;
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    if (absent.obj != NULL)
        PyBuffer_Release(&absent);
    return PyErr_Occurred() ? NULL : Py_BuildValue("nK", (Py_ssize_t)count, (unsigned long long)data_bytes);
}

PyDoc_STRVAR(hop_doc, "hop(data, start, limit, /) -> (starts, position)\n\n"
             "Where sections of the usual lengths begin, see carlib.usual.");
static PyObject *hop(PyObject *module, PyObject *arguments)
{
    Py_buffer data;
    Py_ssize_t start, limit;
    PyObject *starts = NULL;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*nn:hop", &data, &start, &limit))
        return NULL;
    const uint8_t *buffer = data.buf;
    Py_ssize_t cursor = start;
    if (start < 0 || limit > data.len) {
        PyErr_SetString(PyExc_ValueError, "start and limit must lie in the data");
    } else {
        starts = PyList_New(0);
        while (starts != NULL && cursor < limit) {
            Py_ssize_t next;
            if (buffer[cursor] > 0 && buffer[cursor] < 0x80)
                next = cursor + 1 + buffer[cursor];
            else if (buffer[cursor] > 0 && cursor + 1 < data.len && buffer[cursor + 1] > 0 && buffer[cursor + 1] < 0x80)
                next = cursor + 2 + ((buffer[cursor] & 0x7f) | buffer[cursor + 1] << 7);
            else
                break;
            PyObject *number = PyLong_FromSsize_t(cursor);
            if (number == NULL || PyList_Append(starts, number) != 0)
                Py_CLEAR(starts);
            Py_XDECREF(number);
            cursor = next;
        }
    }
    PyBuffer_Release(&data);
    return starts == NULL ? NULL : Py_BuildValue("Nn", starts, cursor);
}

PyDoc_STRVAR(entries_doc, "entries(data, start, most, base, /) -> (count, rows)\n\n"
             "Index entries of sections in a row, see carlib.usual.");
static PyObject *entries(PyObject *module, PyObject *arguments)
{
    Py_buffer data;
    Py_ssize_t start, most;
    unsigned long long base;
    PyObject *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*nnK:entries", &data, &start, &most, &base))
        return NULL;
    if (start < 0 || start > data.len || most < 0) {
        PyErr_SetString(PyExc_ValueError, "start must lie in the data");
    } else {
        const Py_ssize_t room = (data.len - start) / (1 + V1_HEAD + DIGEST_BYTES) + 1; /* no more can be there */
        PyObject *rows = PyBytes_FromStringAndSize(NULL, (most < room ? most : room) * ENTRY_BYTES);
        if (rows != NULL) {
            uint8_t *out = (uint8_t *)PyBytes_AsString(rows);
            size_t count;
            Py_BEGIN_ALLOW_THREADS
            count = write_entries(data.buf, (size_t)data.len, (size_t)start, (size_t)(most < room ? most : room),
                                  base, out);
            Py_END_ALLOW_THREADS
            result = Py_BuildValue("nN", (Py_ssize_t)count, rows);
        }
    }
    PyBuffer_Release(&data);
    return result;
}

PyDoc_STRVAR(tally_doc, "tally(rows, width, key, /) -> (sum, ascending)\n\n"
             "What carlib.tally needs to know of index entries, see there.");
static PyObject *tally(PyObject *module, PyObject *arguments)
{
    Py_buffer rows, key;
    Py_ssize_t width;
    uint64_t sum = 0;
    int ascending = 0, fits;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*ny*:tally", &rows, &width, &key))
        return NULL;
    fits = width >= 8 && rows.len % width == 0 && key.len == 16;
    if (fits) {
        const size_t count = (size_t)(rows.len / width);
        Py_BEGIN_ALLOW_THREADS
        sum = sum_rows(rows.buf, count, (size_t)width, key.buf);
        ascending = is_ascending(rows.buf, count, (size_t)width);
        Py_END_ALLOW_THREADS
    } else {
        PyErr_SetString(PyExc_ValueError, "rows must be whole, of 8 bytes or more, and the key of 16");
    }
    PyBuffer_Release(&rows);
    PyBuffer_Release(&key);
    return fits ? Py_BuildValue("KO", (unsigned long long)sum, ascending ? Py_True : Py_False) : NULL;
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
    choose_variants();
    return 0;
}

static PyMethodDef methods[] = {
    {"right", right, METH_VARARGS, right_doc},
    {"hop", hop, METH_VARARGS, hop_doc},
    {"entries", entries, METH_VARARGS, entries_doc},
    {"tally", tally, METH_VARARGS, tally_doc},
    {"variants", variant_names, METH_NOARGS, variants_doc},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)initialise}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "carlib._sections",
                                        "Sections of the usual form, see carlib.usual.", 0,
                                        methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sections(void)
{
    return PyModuleDef_Init(&definition);
}

#else /* ---- the body for LANES ------------------------------------------------------------------------------- */

#define vec PASTE(vec, LANES)
#define loose_vec PASTE(loose_vec, LANES)

typedef uint32_t vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t loose_vec __attribute__((vector_size(4 * LANES), aligned(1), may_alias));

TARGET static void PASTE(wide_, NAME)(states *state, const uint8_t *const in[], size_t blocks)
{
    vec s[8];
    for (int i = 0; i < 8; i++)
        s[i] = *(const loose_vec *)state->words[i];
    for (size_t block = 0; block < blocks; block++) {
        vec w[16];
        /* Transposed by log2(LANES) perfect shuffles. */
        for (int column = 0; column < 16; column += LANES) {
            vec *x = w + column, y[LANES];
            for (int i = 0; i < LANES; i++) {
                const vec v = *(const loose_vec *)(in[i] + BLOCK * block + 4 * (size_t)column);
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
        vec a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        SIXTEEN_ROUNDS(GIVEN, 0);
        for (int n = 16; n < 64; n += 16)
            SIXTEEN_ROUNDS(SCHEDULED, n);
        s[0] += a, s[1] += b, s[2] += c, s[3] += d;
        s[4] += e, s[5] += f, s[6] += g, s[7] += h;
    }
    for (int i = 0; i < 8; i++)
        *(loose_vec *)state->words[i] = s[i];
}

#undef vec
#undef loose_vec
#undef LANES
#undef NAME
#undef TARGET
#undef LOW
#undef HIGH
#endif
