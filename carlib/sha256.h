/* SHA-256 (FIPS 180-4) in pieces, for whatever type `vec` is: a word, or a vector that holds a word of each lane.
 *
 * Included by carlib/_sections.c and carlib/piece/_kernel.c, which lay out the lanes each in their way.
 */
#ifndef CARFS_SHA256_H
#define CARFS_SHA256_H

#include <stdint.h>

static const uint32_t K[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define SIGMA0(x) (ROTATE(x, 7) ^ ROTATE(x, 18) ^ ((x) >> 3))
#define SIGMA1(x) (ROTATE(x, 17) ^ ROTATE(x, 19) ^ ((x) >> 10))
#define CHOOSE(e, f, g) ((((f) ^ (g)) & (e)) ^ (g))
#define MAJORITY(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))
/* The order of the sums keeps what waits for `e` and `a` last; -fno-tree-reassoc keeps the order (9 % with AVX-512). */
#define ROUND(a, b, c, d, e, f, g, h, kw)                                                                  \
    do {                                                                                                   \
        vec t = ((h + (kw)) + CHOOSE(e, f, g)) + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25));           \
        d += t;                                                                                            \
        h = t + (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + MAJORITY(a, b, c);                        \
    } while (0)

/* Message word + constant of round n + i: of the first 16, and of the others (made in place). */
#define GIVEN(n, i) (w[i] + K[(n) + (i)])
#define SCHEDULED(n, i)                                                                                    \
    ((w[i] += SIGMA0(w[((i) + 1) & 15]) + w[((i) + 9) & 15] + SIGMA1(w[((i) + 14) & 15])) + K[(n) + (i)])
#define EIGHT_ROUNDS(KW, n, i)                                                                             \
    ROUND(a, b, c, d, e, f, g, h, KW(n, i));                                                               \
    ROUND(h, a, b, c, d, e, f, g, KW(n, i + 1));                                                           \
    ROUND(g, h, a, b, c, d, e, f, KW(n, i + 2));                                                           \
    ROUND(f, g, h, a, b, c, d, e, KW(n, i + 3));                                                           \
    ROUND(e, f, g, h, a, b, c, d, KW(n, i + 4));                                                           \
    ROUND(d, e, f, g, h, a, b, c, KW(n, i + 5));                                                           \
    ROUND(c, d, e, f, g, h, a, b, KW(n, i + 6));                                                           \
    ROUND(b, c, d, e, f, g, h, a, KW(n, i + 7))
#define SIXTEEN_ROUNDS(KW, n)                                                                              \
    do {                                                                                                   \
        EIGHT_ROUNDS(KW, n, 0);                                                                            \
        EIGHT_ROUNDS(KW, n, 8);                                                                            \
    } while (0)

#endif
