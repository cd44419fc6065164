// The layers between the products: norm, rotary positions, SwiGLU, embedding, loss.
#include "forms.h"

// rmsnorm: a block is a row of x (rows, width), of whose output only the form varies.
KERNEL(256, 4, rmsnorm, void *out, const void *x, const float *weight, float *rstd, int width, float eps, int flags) {
  SHARED(float, spare, 32);
  int64 row = (int64)block_x() * width;
  float sum = 0;
  row_each(width, flags, [&]<int N>(int i) INLINE {
    float v[N];
    load(v, x, flags & HALF_B, row + i);
#pragma unroll
    for (int j = 0; j < N; j++) sum += v[j] * v[j];
  });
  float scale = 1 / root(block_sum(sum, spare) / (float)width + eps);
  row_each(width, flags, [&]<int N>(int i) INLINE {
    float v[N], w[N];
    load(v, x, flags & HALF_B, row + i);
    load(w, weight, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) v[j] = v[j] * scale * w[j];
    store(out, flags & HALF_A, row + i, v);
  });
  if (thread() == 0) rstd[block_x()] = scale;
}

// rmsnorm_backward adds to dx, floats; copy is its halves, or null. A block is a row.
KERNEL(256, 4, rmsnorm_backward, float *dx, const void *dout, const void *x, const float *weight, const float *rstd, void *copy, int width,
       int flags) {
  SHARED(float, spare, 32);
  int64 row = (int64)block_x() * width;
  float scale = rstd[block_x()], dot = 0;
  row_each(width, flags, [&]<int N>(int i) INLINE {
    float d[N], v[N], w[N];
    load(d, dout, flags & HALF_B, row + i);
    load(v, x, flags & HALF_C, row + i);
    load(w, weight, false, i);
#pragma unroll
    for (int j = 0; j < N; j++) dot += d[j] * w[j] * (v[j] * scale);
  });
  float mean = block_sum(dot, spare) / (float)width;
  row_each(width, flags, [&]<int N>(int i) INLINE {
    float d[N], v[N], w[N], sum[N];
    load(d, dout, flags & HALF_B, row + i);
    load(v, x, flags & HALF_C, row + i);
    load(w, weight, false, i);
    load(sum, dx, false, row + i);
#pragma unroll
    for (int j = 0; j < N; j++) sum[j] += scale * (d[j] * w[j] - v[j] * scale * mean);
    store(dx, false, row + i, sum);
    if (copy) store(copy, true, row + i, sum);
  });
}

// rmsnorm_columns sums dout·x·rstd over 64 rows, ascending: a thread has a column, or eight.
KERNEL(128, 4, rmsnorm_columns, float *partial, const void *dout, const void *x, const float *rstd, int rows, int width, int flags) {
  int first = block_x() * 64, last = first + 64 < rows ? first + 64 : rows;
  auto columns = [&]<int N>(int i) INLINE {
    float sum[N] = {};
    for (int r = first; r < last; r++) {
      float d[N], v[N], scale = rstd[r];
      load(d, dout, flags & HALF_B, (int64)r * width + i);
      load(v, x, flags & HALF_C, (int64)r * width + i);
#pragma unroll
      for (int j = 0; j < N; j++) sum[j] += d[j] * (v[j] * scale);
    }
    store(partial, false, (int64)block_x() * width + i, sum);
  };
  int i = block_y() * threads() + thread();
  if (flags & VECTOR) {
    if (i * 8 < width) columns.template operator()<8>(i * 8);
  } else if (i < width) {
    columns.template operator()<1>(i);
  }
}

// rmsnorm_backward_once is both of these for rows of at most eight values a thread, from vectors: a
// block has 64 rows, one after the other, and reads each operand once. While the sum of a row goes
// around the block, the next row is on its way.
KERNEL(512, 1, rmsnorm_backward_once, float *dx, float *partial, const void *dout, const void *x, const float *weight, const float *rstd,
       void *copy, int rows, int width, int flags) {
  SHARED(float, spare, 64);
  int first = block_x() * 64, last = first + 64 < rows ? first + 64 : rows, i = thread() * 8;
  bool mine = i < width;
  float w[8] = {}, d[8] = {}, v[8] = {}, sum[8] = {};
  if (mine) {
    load(w, weight, false, i);
    load(d, dout, flags & HALF_B, (int64)first * width + i);
    load(v, x, flags & HALF_C, (int64)first * width + i);
  }
  for (int r = first; r < last; r++) {
    int64 at = (int64)r * width + i;
    float scale = rstd[r], dot = 0, was[8] = {}, next_d[8] = {}, next_v[8] = {};
    if (mine) load(was, dx, false, at);
    if (mine && r + 1 < last) {
      load(next_d, dout, flags & HALF_B, at + width);
      load(next_v, x, flags & HALF_C, at + width);
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      dot += d[j] * w[j] * (v[j] * scale);
      sum[j] += d[j] * (v[j] * scale);
    }
    float mean = block_sum(dot, spare + r % 2 * 32) / (float)width;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      was[j] += scale * (d[j] * w[j] - v[j] * scale * mean);
      d[j] = next_d[j];
      v[j] = next_v[j];
    }
    if (!mine) continue;
    store(dx, false, at, was);
    if (copy) store(copy, true, at, was);
  }
  if (mine) store(partial, false, (int64)block_x() * width + i, sum);
}

// add_rows adds the rows of partial (rows, width) to sum, ascending.
KERNEL(256, 4, add_rows, float *sum, const float *partial, int rows, int width) {
  int i = block_x() * threads() + thread();
  if (i >= width) return;
  float s = sum[i];
#pragma unroll 32  // so many loads are under way; the sums stay in order
  for (int r = 0; r < rows; r++) s += partial[(int64)r * width + i];
  sum[i] = s;
}

// rope: a block is a position of qkv, whose first heads·dim columns turn; the rest is copied.
KERNEL(256, 4, rope, void *out, const void *in, const float *cosines, const float *sines, int seq, int heads, int all, int dim, float sign,
       int flags) {
  int half = dim / 2, t = block_x() % seq;
  int64 row = (int64)block_x() * all * dim;
  auto turn = [&]<int N>(int p) INLINE {
    int64 i = row + p / half * dim + p % half;
    float low[N], high[N], c[N], s[N], a[N], b[N];
    load(low, in, flags & HALF_B, i);
    load(high, in, flags & HALF_B, i + half);
    load(c, cosines, false, t * half + p % half);
    load(s, sines, false, t * half + p % half);
#pragma unroll
    for (int j = 0; j < N; j++) {
      a[j] = low[j] * c[j] - high[j] * (sign * s[j]);
      b[j] = high[j] * c[j] + low[j] * (sign * s[j]);
    }
    store(out, flags & HALF_A, i, a);
    store(out, flags & HALF_A, i + half, b);
  };
  row_each(heads * half, flags, turn);
  if (out == in) return;
  int64 rest = row + heads * dim;
  row_each((all - heads) * dim, flags, [&]<int N>(int i) INLINE {
    float x[N];
    load(x, in, flags & HALF_B, rest + i);
    store(out, flags & HALF_A, rest + i, x);
  });
}

// swiglu: rows are blocks' first index, their columns the second.
KERNEL(256, 4, swiglu, void *out, const void *gate_up, int width, int flags) {
  int64 row = block_x();
  each_of(block_y(), width, flags, [&]<int N>(int64 i) INLINE {
    float gate[N], up[N];
    load(gate, gate_up, flags & HALF_B, 2 * row * width + i);
    load(up, gate_up, flags & HALF_B, (2 * row + 1) * width + i);
#pragma unroll
    for (int j = 0; j < N; j++) gate[j] = gate[j] * sigmoid(gate[j]) * up[j];
    store(out, flags & HALF_A, row * width + i, gate);
  });
}

KERNEL(256, 4, swiglu_backward, void *dgate_up, const void *dout, const void *gate_up, int width, int flags) {
  int64 row = block_x();
  each_of(block_y(), width, flags, [&]<int N>(int64 i) INLINE {
    float gate[N], up[N], d[N];
    load(d, dout, flags & HALF_B, row * width + i);
    load(gate, gate_up, flags & HALF_C, 2 * row * width + i);
    load(up, gate_up, flags & HALF_C, (2 * row + 1) * width + i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      float sigma = sigmoid(gate[j]), dgate = d[j] * up[j] * (sigma * (1 + gate[j] * (1 - sigma)));
      up[j] = d[j] * (gate[j] * sigma);
      gate[j] = dgate;
    }
    store(dgate_up, flags & HALF_A, 2 * row * width + i, gate);
    store(dgate_up, flags & HALF_A, (2 * row + 1) * width + i, up);
  });
}

// embedding: a block is a token.
KERNEL(256, 4, embedding, float *out, const float *table, const int *tokens, int width, int flags) {
  int64 to = (int64)block_x() * width, from = (int64)tokens[block_x()] * width;
  row_each(width, flags, [&]<int N>(int i) INLINE {
    float x[N];
    load(x, table, false, from + i);
    store(out, false, to + i, x);
  });
}

// embedding_backward: places hold a token above and its position below, ascending. The block of
// a token's first position adds all of them in turn, so no two blocks write one row and the
// order of the sum is fixed.
KERNEL(256, 4, embedding_backward, float *dtable, const void *dout, const uint64 *places, int n, int width, int flags) {
  int first = block_x(), token = (int)(places[first] >> 32);
  if (first > 0 && (int)(places[first - 1] >> 32) == token) return;
  int last = first + 1;
  while (last < n && (int)(places[last] >> 32) == token) last++;
  row_each(width, flags, [&]<int N>(int i) INLINE {
    float sum[N];
    load(sum, dtable, false, (int64)token * width + i);
#pragma unroll 4
    for (int r = first; r < last; r++) {
      float x[N];
      load(x, dout, flags & HALF_B, (int64)(uint32)places[r] * width + i);
#pragma unroll
      for (int j = 0; j < N; j++) sum[j] += x[j];
    }
    store(dtable, false, (int64)token * width + i, sum);
  });
}

// cross_entropy: a block is a row of logits; gradient may be logits. It reads a row twice: for
// the greatest and the sum at once, then for the gradient.
KERNEL(512, 2, cross_entropy, void *gradient, const float *logits, float *losses, const int *targets, int vocab, float scale, int flags) {
  SHARED(float, spare, 32);
  SHARED(float, spare2, 32);
  int64 row = (int64)block_x() * vocab;
  int target = targets[block_x()];
  if (target < 0) {
    row_each(vocab, flags, [&]<int N>(int i) INLINE {
      float zero[N] = {};
      store(gradient, flags & HALF_A, row + i, zero);
    });
    if (thread() == 0) losses[block_x()] = 0;
    return;
  }
  float own = logits[row + target];
  float highest = -__builtin_inff(), sum = 0;
  row_each(vocab, flags, [&]<int N>(int i) INLINE {
    float x[N], most = highest;
    load(x, logits, false, row + i);
#pragma unroll
    for (int j = 0; j < N; j++) most = larger(most, x[j]);
    if (most > highest) {
      sum *= exponential(highest - most);
      highest = most;
    }
#pragma unroll
    for (int j = 0; j < N; j++) sum += x[j] == -__builtin_inff() ? 0 : exponential(x[j] - highest);
  });
  float most = block_greatest(highest, spare);
  if (highest < most) sum *= exponential(highest - most);
  sum = block_sum(sum, spare2);
  block_sync();  // own is read before another thread writes the gradient there
  if (thread() == 0) losses[block_x()] = (float)(natural_logarithm(sum) - (double)(own - most));
  float factor = scale / sum;
  row_each(vocab, flags, [&]<int N>(int i) INLINE {
    float x[N];
    load(x, logits, false, row + i);
#pragma unroll
    for (int j = 0; j < N; j++) {
      x[j] = exponential(x[j] - most) * factor;
      if (i + j == target) x[j] -= scale;
    }
    store(gradient, flags & HALF_A, row + i, x);
  });
}
