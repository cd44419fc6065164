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

// A lane has values 4·lane to 4·lane+3 of a whole block, and those 128 later, where memory can be
// moved 16 bytes at a time: then each value is read once, and what it becomes is one word of int8, or
// one of int4 with the other's.
DEVICE bool whole(int count, const float *x) { return count == 256 && (uint64)x % 16 == 0; }
DEVICE void load_lane(float (&v)[8], const float *x) {
  float4v a = ((const float4v *)x)[thread() % 32], b = ((const float4v *)x)[32 + thread() % 32];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    v[j] = a[j];
    v[4 + j] = b[j];
  }
}
DEVICE void store_lane(float *x, const float (&v)[8]) {
  float4v a = {v[0], v[1], v[2], v[3]}, b = {v[4], v[5], v[6], v[7]};
  ((float4v *)x)[thread() % 32] = a;
  ((float4v *)x)[32 + thread() % 32] = b;
}

DEVICE uint32 greater_bits(uint32 greatest, float x) {
  uint32 b = bits_of(x) & 0x7fffffff;
  return greatest > b ? greatest : b;
}

// encode_whole writes a whole block's values.
DEVICE void encode_whole(uint8 *dst, const float (&v)[8], int format, float scale) {
  int lane = thread() % 32;
  if (format == FP32) return store_lane((float *)dst, v);
  if (format == BF16) {
    auto two = [](float a, float b) INLINE { return half_for_wire(a) | (uint32)half_for_wire(b) << 16; };
    word2 a = {two(v[0], v[1]), two(v[2], v[3])}, b = {two(v[4], v[5]), two(v[6], v[7])};
    ((word2 *)dst)[lane] = a;
    ((word2 *)dst)[32 + lane] = b;
    return;
  }
  uint32 first = 0, second = 0;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    uint32 a = quantised(v[j], scale), b = quantised(v[4 + j], scale);
    first |= (format == INT4 ? (a & 15) | (b & 15) << 4 : a & 255) << (8 * j);
    second |= (b & 255) << (8 * j);
  }
  ((uint32 *)dst)[lane] = first;
  if (format == INT8) ((uint32 *)dst)[32 + lane] = second;
}

// encode_part writes any block's values, one at a time.
DEVICE void encode_part(uint8 *dst, const float *x, int count, int format, float scale) {
  int half = (count + 1) / 2;
  for (int i = thread() % 32; i < (format == INT4 ? half : count); i += 32) {
    if (format == FP32)
      ((float *)dst)[i] = x[i];
    else if (format == BF16)
      ((uint16 *)dst)[i] = half_for_wire(x[i]);
    else if (format == INT8)
      dst[i] = (uint8)quantised(x[i], scale);
    else
      dst[i] = (uint8)((quantised(x[i], scale) & 15) | (half + i < count ? quantised(x[half + i], scale) & 15 : 0) << 4);
  }
}

// block_bytes is the length of a whole block, a multiple of 4.
DEVICE int block_bytes(int format) { return format == FP32 ? 1024 : format == BF16 ? 512 : format == INT8 ? 260 : 132; }

// encode writes whole and partial blocks of n values to dst, which is aligned to 16. first_bad gets
// the least block with a value that is not finite.
KERNEL(256, 4, encode, uint8 *dst, const float *src, int64 n, int format, int *first_bad) {
  int64 block = (int64)block_x() * 8 + thread() / 32;
  int lane = thread() % 32;
  if (block * 256 >= n) block = -1;  // the warp still takes part in its operations
  int count = block < 0 ? 0 : n - block * 256 < 256 ? (int)(n - block * 256) : 256;
  const float *x = src + (block < 0 ? 0 : block * 256);
  float v[8];
  uint32 greatest = 0;
  if (whole(count, x)) {
    load_lane(v, x);
#pragma unroll
    for (int j = 0; j < 8; j++) greatest = greater_bits(greatest, v[j]);
  } else {
    for (int i = lane; i < count; i += 32) greatest = greater_bits(greatest, x[i]);
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
  dst += block * block_bytes(format);
  float scale = 0;
  if (format == INT8 || format == INT4) {
    scale = scale_for(greatest, format);
    if (lane == 0) *(uint32 *)dst = bits_of(scale);
    dst += 4;
  }
  if (whole(count, x))
    encode_whole(dst, v, format, scale);
  else
    encode_part(dst, x, count, format, scale);
}

// decode_whole reads a whole block's values.
DEVICE void decode_whole(float (&v)[8], const uint8 *src, int format, float scale) {
  int lane = thread() % 32;
  if (format == FP32) return load_lane(v, (const float *)src);
  if (format == BF16) {
    word2 a = ((const word2 *)src)[lane], b = ((const word2 *)src)[32 + lane];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      v[j] = float_of_half((uint16)(a[j / 2] >> (16 * (j % 2))));
      v[4 + j] = float_of_half((uint16)(b[j / 2] >> (16 * (j % 2))));
    }
    return;
  }
  uint32 first = ((const uint32 *)src)[lane], second = format == INT8 ? ((const uint32 *)src)[32 + lane] : 0;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if (format == INT8) {
      v[j] = (float)(signed char)(first >> (8 * j)) * scale;
      v[4 + j] = (float)(signed char)(second >> (8 * j)) * scale;
    } else {
      v[j] = (float)((int)(first << (28 - 8 * j)) >> 28) * scale;
      v[4 + j] = (float)((int)(first << (24 - 8 * j)) >> 28) * scale;
    }
  }
}

// decode sets dst to what sound bytes stand for, or adds round(weight·that) to it.
KERNEL(256, 4, decode, float *dst, const uint8 *src, int64 n, int format, float weight, int add) {
  int64 block = (int64)block_x() * 8 + thread() / 32;
  if (block * 256 >= n) return;
  int lane = thread() % 32, count = n - block * 256 < 256 ? (int)(n - block * 256) : 256;
  float *y = dst + block * 256, scale = 0;
  src += block * block_bytes(format);
  if (format == INT8 || format == INT4) {
    scale = float_of(*(const uint32 *)src);
    src += 4;
  }
  if (whole(count, y)) {
    float v[8], was[8];
    decode_whole(v, src, format, scale);
    if (add) {
      load_lane(was, y);
#pragma unroll
      for (int j = 0; j < 8; j++) v[j] = was[j] + weight * v[j];
    }
    return store_lane(y, v);
  }
  auto put = [&](int i, float x) INLINE { y[i] = add ? y[i] + weight * x : x; };
  int half = (count + 1) / 2;
  for (int i = lane; i < (format == INT4 ? half : count); i += 32) {
    if (format == FP32) put(i, ((const float *)src)[i]);
    if (format == BF16) put(i, float_of_half(((const uint16 *)src)[i]));
    if (format == INT8) put(i, (float)(signed char)src[i] * scale);
    if (format != INT4) continue;
    int b = (signed char)src[i];
    put(i, (float)((int)((uint32)b << 28) >> 28) * scale);
    if (half + i < count) put(half + i, (float)(b >> 4) * scale);
  }
}
