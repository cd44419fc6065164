// Operands are arrays of floats or of halves; a bit of a kernel's flags says which for each.
#pragma once
#include "gpu.h"

// Flags of a kernel: the first operands, in the order of its parameters, are halves, and all of
// them allow loads and stores of eight values at a time.
constexpr int HALF_A = 1, HALF_B = 2, HALF_C = 4, HALF_D = 8, VECTOR = 16;

DEVICE float float_of_half(uint16 bits) { return float_of((uint32)bits << 16); }

// load reads N values, 1 or 8, from index i.
template <int N> DEVICE void load(float (&x)[N], const void *p, bool half, int64 i) {
  if constexpr (N == 1) {
    x[0] = half ? float_of_half(((const uint16 *)p)[i]) : ((const float *)p)[i];
  } else if (half) {
    word4 w = *(const word4 *)((const uint16 *)p + i);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      x[2 * j] = float_of(w[j] << 16);
      x[2 * j + 1] = float_of(w[j] & 0xffff0000);
    }
  } else {
    float4v a = *(const float4v *)((const float *)p + i), b = *(const float4v *)((const float *)p + i + 4);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      x[j] = a[j];
      x[4 + j] = b[j];
    }
  }
}

// store writes what load reads; halves are rounded.
template <int N> DEVICE void store(void *p, bool half, int64 i, const float (&x)[N]) {
  if constexpr (N == 1) {
    if (half)
      ((half16 *)p)[i] = to_half(x[0]);
    else
      ((float *)p)[i] = x[0];
  } else if (half) {
    word4 w;
#pragma unroll
    for (int j = 0; j < 4; j++) w[j] = both_halves(x[2 * j], x[2 * j + 1]);
    *(word4 *)((uint16 *)p + i) = w;
  } else {
    float4v a = {x[0], x[1], x[2], x[3]}, b = {x[4], x[5], x[6], x[7]};
    *(float4v *)((float *)p + i) = a;
    *(float4v *)((float *)p + i + 4) = b;
  }
}

// A Body is called with eight values' first index where that is possible, else with one value's.
// each gives this thread eight of n values, row_each the row's values in turn.
template <class Body> DEVICE void each_of(int block, int64 n, int flags, Body body) {
  int64 i = ((int64)block * threads() + thread()) * 8;
  if (flags & VECTOR && i + 8 <= n) {
    body.template operator()<8>(i);
    return;
  }
  for (int j = 0; j < 8 && i + j < n; j++) body.template operator()<1>(i + j);
}
template <class Body> DEVICE void each(int64 n, int flags, Body body) { each_of(block_x(), n, flags, body); }
template <class Body> DEVICE void row_each(int width, int flags, Body body) {
  if (flags & VECTOR) {
    for (int i = thread() * 8; i < width; i += threads() * 8) body.template operator()<8>(i);
  } else {
    for (int i = thread(); i < width; i += threads()) body.template operator()<1>(i);
  }
}

// block_sum and block_greatest return to every thread the sum, in a fixed tree, and the
// greatest of the block's values. spare is 32 floats of shared memory, free again after the
// next block_sync.
DEVICE float block_sum(float v, float *spare) {
  for (int mask = 16; mask; mask /= 2) v += across(v, mask);
  if (thread() % 32 == 0) spare[thread() / 32] = v;
  block_sync();
  float sum = spare[0];
  for (int w = 1; w < threads() / 32; w++) sum += spare[w];
  return sum;
}
DEVICE float block_greatest(float v, float *spare) {
  for (int mask = 16; mask; mask /= 2) v = larger(v, across(v, mask));
  if (thread() % 32 == 0) spare[thread() / 32] = v;
  block_sync();
  float greatest = spare[0];
  for (int w = 1; w < threads() / 32; w++) greatest = larger(greatest, spare[w]);
  return greatest;
}

// exponential is e^x within 1.1 units in the last place, by the arithmetic of the CPU's exp32:
// x = n·ln 2 + r with a polynomial for e^r; 2^n in two factors because n may be −150.
DEVICE float exponential(float x) {
  if (x > 89) x = 89;
  if (x < -104) x = -104;
  constexpr float round = 12582912;  // 1.5·2²³
  float shifted = x * 1.44269502f + round, n = shifted - round;
  float r = x - n * 0.693145751953125f;
  r -= n * 1.42860677e-06f;
  float q = 0.008363179f + r * 0.0013926184f;
  q = 0.041666556f + r * q;
  q = 0.16666576f + r * q;
  q = 0.5f + r * q;
  q = r * r * q + r;
  q += 1;
  int i = (int)(bits_of(shifted) - bits_of(round)), part = i >> 1;
  return q * float_of((uint32)(part + 127) << 23) * float_of((uint32)(i - part + 127) << 23);
}

DEVICE float sigmoid(float x) { return 1 / (1 + exponential(-x)); }

// natural_logarithm is that of a positive normal x with a relative error below 1e-11; infinity
// and NaN for themselves.
DEVICE double natural_logarithm(double x) {
  if (!(x <= 1.7976931348623157e308)) return x;
  uint64 bits = bits_of(x);
  int64 e = (int64)(bits - 0x3fe6a09e667f3bcdull) >> 52;  // of x/√½
  double m = double_of(bits - ((uint64)e << 52)), s = (m - 1) / (m + 1), z = s * s, p = 1.0 / 17;
  p = 1.0 / 15 + z * p;
  p = 1.0 / 13 + z * p;
  p = 1.0 / 11 + z * p;
  p = 1.0 / 9 + z * p;
  p = 1.0 / 7 + z * p;
  p = 1.0 / 5 + z * p;
  p = 1.0 / 3 + z * p;
  p = 1 + z * p;
  return (double)e * 0.6931471805599453 + 2 * (s * p);
}
