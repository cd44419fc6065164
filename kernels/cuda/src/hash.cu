// SHA-256 (FIPS 180-4, section 6.2), a thread to a leaf: a message is one chain, so what there is
// to share between threads is messages.
#include "forms.h"

constexpr int HASH_LEAF = 1024;  // kernels.HashLeaf, in values

// The fractions of the roots of the first primes: cube roots' for the rounds, square roots' to begin with.
constexpr uint32 HASH_ROUND[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
constexpr uint32 HASH_BEGIN[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

DEVICE uint32 rotated(uint32 x, int right) { return x >> right | x << (32 - right); }

// compress adds a block of 16 words to the state. w becomes the last 16 words of the schedule; all
// its indices are known where this is unrolled, so it stays in registers.
DEVICE void compress(uint32 (&state)[8], uint32 (&w)[16]) {
  uint32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
#pragma unroll
  for (int i = 0; i < 64; i++) {
    if (i >= 16) {
      uint32 early = w[(i + 1) % 16], late = w[(i + 14) % 16];
      w[i % 16] += (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3) + w[(i + 9) % 16] + (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10);
    }
    uint32 add = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + HASH_ROUND[i] + w[i % 16];
    h = g, g = f, f = e, e = d + add;
    add += (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    d = c, c = b, b = a, a = add;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

// hash_leaves sets 32 bytes of dst for each leaf of n values to its SHA-256. A leaf's bytes are a
// multiple of four, so padding begins with a word: one bit, zeros, and the length in bits.
KERNEL(128, 4, hash_leaves, uint8 *dst, const float *x, int64 n, int flags) {
  int64 leaf = (int64)block_x() * 128 + thread(), first = leaf * HASH_LEAF;
  if (first >= n) return;
  int count = n - first < HASH_LEAF ? (int)(n - first) : HASH_LEAF;
  const uint32 *words = (const uint32 *)x + first;
  uint32 state[8], w[16];
#pragma unroll
  for (int j = 0; j < 8; j++) state[j] = HASH_BEGIN[j];
  for (int i = 0; i - 16 <= count - 14; i += 16) {  // two words of padding at least
    if (i + 16 <= count && flags & VECTOR) {
#pragma unroll
      for (int j = 0; j < 4; j++) {
        word4 four = ((const word4 *)(words + i))[j];
#pragma unroll
        for (int k = 0; k < 4; k++) w[4 * j + k] = swapped(four[k]);
      }
    } else {
#pragma unroll
      for (int j = 0; j < 16; j++) w[j] = i + j < count ? swapped(words[i + j]) : i + j == count ? 0x80000000 : 0;
      if (i + 14 > count) w[15] = (uint32)count * 32;
    }
    compress(state, w);
  }
#pragma unroll
  for (int j = 0; j < 2; j++) {
    word4 four;
#pragma unroll
    for (int k = 0; k < 4; k++) four[k] = swapped(state[4 * j + k]);
    ((word4 *)(dst + leaf * 32))[j] = four;
  }
}
