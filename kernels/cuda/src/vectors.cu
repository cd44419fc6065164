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

// outer steps of package optim, with its roundings.
KERNEL(256, 4, difference, float *dst, const float *a, const float *b, int64 n, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float x[N], y[N];
    load(x, a, false, i);
    load(y, b, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) x[j] -= y[j];
    store(dst, false, i, x);
  });
}

KERNEL(256, 4, rebase, float *fast, const float *from, const float *to, int64 n, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float x[N], y[N], z[N];
    load(x, fast, false, i);
    load(y, from, false, i);
    load(z, to, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) x[j] = z[j] + (x[j] - y[j]);
    store(fast, false, i, x);
  });
}

KERNEL(256, 4, nesterov, float *slow, float *momentum, const float *delta, int64 n, float rate, float mu, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float s[N], b[N], d[N];
    load(s, slow, false, i);
    load(b, momentum, false, i);
    load(d, delta, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      b[j] = mu * b[j] + d[j];
      s[j] -= rate * (d[j] + mu * b[j]);
    }
    store(momentum, false, i, b);
    store(slow, false, i, s);
  });
}

KERNEL(256, 4, noloco, float *slow, float *momentum, const float *mean_delta, const float *mean_slow, int64 n, float alpha, float beta,
       float gamma, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float s[N], b[N], d[N], other[N];
    load(s, slow, false, i);
    load(b, momentum, false, i);
    load(d, mean_delta, false, i);
    load(other, mean_slow, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      float pull = gamma * (s[j] - other[j]);
      b[j] = alpha * b[j] + beta * d[j] - pull;
      s[j] += b[j];
    }
    store(momentum, false, i, b);
    store(slow, false, i, s);
  });
}

KERNEL(256, 4, noloco_fast, float *slow, float *momentum, const float *mean_fast, int64 n, float alpha, float beta, int flags) {
  each(n, flags, [&]<int N>(int64 i) INLINE {
    float s[N], b[N], f[N];
    load(s, slow, false, i);
    load(b, momentum, false, i);
    load(f, mean_fast, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      b[j] = alpha * b[j] + beta * (f[j] - s[j]);
      s[j] += b[j];
    }
    store(momentum, false, i, b);
    store(slow, false, i, s);
  });
}
