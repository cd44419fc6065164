// The codec: the layouts and the arithmetic of package gossip/codec to the bit. A warp has a
// block of 256 values.
#include "forms.h"

constexpr int FP32 = 0, BF16 = 1, INT8 = 2, INT4 = 3;  // kernels.Format
constexpr uint32 EXPONENT = 0x7f800000;

DEVICE float largest_of(int format) { return format == INT8 ? 127 : 7; }

// scale_for is the scale of a block whose greatest magnitude has these bits.
DEVICE float scale_for(uint32 greatest, int format) {
  uint32 bits = bits_of(float_of(greatest) / largest_of(format)), most = format == INT8 ? 0x7c010200 : 0x7e124900;
  bits = (bits + 0x7f) & ~0x7fu;
  if (bits < 0x00800000) return 0;
  return float_of(bits < most ? bits : most);
}

// quantised is round-to-even(x/scale) in the low bits of two's complement.
DEVICE uint32 quantised(float x, float scale) {
  if (scale == 0) return 0;
  return bits_of(x / scale + 12582912.0f) - 0x4b400000;
}

DEVICE uint16 half_for_wire(float x) {
  uint32 bits = bits_of(x);
  uint16 h = (uint16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  return (h & 0x7fff) > 0x7f7f ? (uint16)((h & 0x8000) | 0x7f7f) : h;
}

// encode writes whole and partial blocks of n values; the bytes of a whole block are a multiple
// of 4, so words may be stored. first_bad gets the least block with a value that is not finite.
KERNEL(256, 4, encode, uint8 *dst, const float *src, int64 n, int format, int *first_bad) {
  int64 block = (int64)block_x() * 8 + thread() / 32;
  int lane = thread() % 32, half = format == INT4 ? 128 : 0;
  if (block * 256 >= n) block = -1;  // the warp still takes part in its operations
  int count = block < 0 ? 0 : n - block * 256 < 256 ? (int)(n - block * 256) : 256;
  const float *x = src + (block < 0 ? 0 : block * 256);
  uint32 greatest = 0;
  for (int i = lane; i < count; i += 32) {
    uint32 b = bits_of(x[i]) & 0x7fffffff;
    greatest = greatest > b ? greatest : b;
  }
  for (int mask = 16; mask; mask /= 2) {
    uint32 other = across(greatest, mask);
    greatest = greatest > other ? greatest : other;
  }
  if (block < 0) return;
  if (greatest >= EXPONENT) {
    if (lane == 0) lower(first_bad, (int)block);
    return;
  }
  if (format == FP32) {
    for (int i = lane; i < count; i += 32) ((float *)dst)[block * 256 + i] = x[i];
    return;
  }
  if (format == BF16) {
    for (int i = lane; i < count; i += 32) ((uint16 *)dst)[block * 256 + i] = half_for_wire(x[i]);
    return;
  }
  uint8 *q = dst + block * (half ? 132 : 260);
  float scale = scale_for(greatest, format);
  if (lane == 0) *(uint32 *)q = bits_of(scale);
  q += 4;
  if (count == 256) {
    for (int w = lane; w < (half ? 32 : 64); w += 32) {
      uint32 word = 0;
      for (int j = 0; j < 4; j++) {
        uint32 b = half ? (quantised(x[4 * w + j], scale) & 15) | (quantised(x[128 + 4 * w + j], scale) & 15) << 4
                        : quantised(x[4 * w + j], scale) & 255;
        word |= b << (8 * j);
      }
      ((uint32 *)q)[w] = word;
    }
  } else if (half) {
    half = (count + 1) / 2;
    for (int i = lane; i < half; i += 32) {
      uint32 high = half + i < count ? quantised(x[half + i], scale) & 15 : 0;
      q[i] = (uint8)((quantised(x[i], scale) & 15) | high << 4);
    }
  } else {
    for (int i = lane; i < count; i += 32) q[i] = (uint8)quantised(x[i], scale);
  }
}

// decode sets dst to what sound bytes stand for, or adds round(weight·that) to it.
KERNEL(256, 4, decode, float *dst, const uint8 *src, int64 n, int format, float weight, int add) {
  int64 block = (int64)block_x() * 8 + thread() / 32;
  if (block * 256 >= n) return;
  int lane = thread() % 32, count = n - block * 256 < 256 ? (int)(n - block * 256) : 256;
  float *y = dst + block * 256;
  auto put = [&](int i, float x) INLINE { y[i] = add ? y[i] + weight * x : x; };
  if (format == FP32) {
    for (int i = lane; i < count; i += 32) put(i, ((const float *)src)[block * 256 + i]);
    return;
  }
  if (format == BF16) {
    for (int i = lane; i < count; i += 32) put(i, float_of_half(((const uint16 *)src)[block * 256 + i]));
    return;
  }
  const uint8 *q = src + block * (format == INT4 ? 132 : 260);
  float scale = float_of(*(const uint32 *)q);
  q += 4;
  if (format == INT8) {
    for (int i = lane; i < count; i += 32) put(i, (float)(signed char)q[i] * scale);
    return;
  }
  int half = (count + 1) / 2;
  for (int i = lane; i < half; i += 32) {
    int b = (signed char)q[i];
    put(i, (float)((int)((uint32)b << 28) >> 28) * scale);
    if (half + i < count) put(half + i, (float)(b >> 4) * scale);
  }
}
