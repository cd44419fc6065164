// Operations on values one by one, and sums of all.
#include "forms.h"

// dst = src, each floats or halves.
KERNEL(256, 4, copy_values, void *dst, const void *src, int64 n, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float x[N];
    load(x, src, flags & HALF_B, i);
    store(dst, flags & HALF_A, i, x);
  });
}

// dst += x; dst floats.
KERNEL(256, 4, add_values, float *dst, const void *x, int64 n, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float a[N], b[N];
    load(a, dst, false, i);
    load(b, x, flags & HALF_B, i);
#pragma unroll
    for (int j = 0; j < N; j++) a[j] += b[j];
    store(dst, false, i, a);
  });
}

KERNEL(256, 4, scale_values, float *x, float factor, int64 n, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float a[N];
    load(a, x, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) a[j] *= factor;
    store(x, false, i, a);
  });
}

// chunk_sums adds each chunk of 4096 values, or of their squares, in the tree of
// kernels.Device.SquaredNorm, a warp to a chunk. A square of a float is exact in a double, so
// fusing it changes nothing.
KERNEL(256, 4, chunk_sums, double *sums, const float *x, int64 n, int square) {
  int64 chunk = (int64)block_x() * 8 + thread() / 32, first = chunk * 4096;
  int lane = thread() % 32;
  double s = 0;
  if (first < n) {
    int count = n - first < 4096 ? (int)(n - first) : 4096;
#pragma unroll 8
    for (int i = lane; i < count; i += 32) {
      double v = x[first + i];
      s = square ? fused(v, v, s) : s + v;
    }
  }
  // Lane l takes l+16, l+8, ...: what the lanes beyond take instead is not used.
  for (int half = 16; half; half /= 2) {
    uint64 b = bits_of(s);
    uint32 low = across((uint32)b, half), high = across((uint32)(b >> 32), half);
    s += double_of((uint64)high << 32 | low);
  }
  if (first < n && lane == 0) sums[chunk] = s;
}

// adamw is kernels.Device.AdamW; copy is the parameters' halves, or null.
KERNEL(256, 2, adamw, float *p, const float *g, float *m, float *v, void *copy, int64 n, float grad_scale, float beta1, float rest1,
       float beta2, float rest2, float decay, float rate, float correction1, float correction2, float eps, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float w[N], grad[N], mean[N], square[N];
    load(w, p, false, i);
    load(grad, g, false, i);
    load(mean, m, false, i);
    load(square, v, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      float x = grad[j] * grad_scale;
      mean[j] = beta1 * mean[j] + rest1 * x;
      square[j] = beta2 * square[j] + rest2 * (x * x);
      w[j] -= decay * w[j];
      w[j] -= rate * (mean[j] / correction1) / (root(square[j] / correction2) + eps);
    }
    store(p, false, i, w);
    store(m, false, i, mean);
    store(v, false, i, square);
    if (copy) store(copy, true, i, w);
  });
}

// dst = a·x + b·y, each operation rounded. dst may be an operand.
KERNEL(256, 4, axpby, float *dst, const float *x, const float *y, int64 n, float a, float b, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float u[N], v[N];
    load(u, x, false, i);
    load(v, y, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) u[j] = a * u[j] + b * v[j];
    store(dst, false, i, u);
  });
}

// dst = a·x + b·(y + c·z), likewise.
KERNEL(256, 4, axpb_sum, float *dst, const float *x, const float *y, const float *z, int64 n, float a, float b, float c, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float u[N], v[N], w[N];
    load(u, x, false, i);
    load(v, y, false, i);
    load(w, z, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) u[j] = a * u[j] + b * (v[j] + c * w[j]);
    store(dst, false, i, u);
  });
}
