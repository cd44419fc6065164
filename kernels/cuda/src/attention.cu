// Causal grouped-query attention on the tensor cores, from halves, sums in floats (Dao,
// FlashAttention-2, arXiv 2307.08691, Algorithms 1 and 2). A block has 64 rows of queries, or of
// keys, 16 to each of its 4 warps, and goes over tiles of the other in a fixed order; scores
// live in registers only. Where gradients meet, one block adds them all, so nothing is atomic
// and the bits are the same on every run: dk and dv in one kernel, dq in another, which compute
// the scores once more: 7 products a pair of tiles instead of 5.
#include "forms.h"

constexpr int ROWS = 64;  // of a block
constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;

// What the kernels read: qkv (batch·seq, (heads + 2·kv_heads)·dim) of halves.
struct Heads {
  const uint16 *base;  // of the batch item
  int64 stride;
  int seq, dim, group, q, k, v;  // columns of a query head and of what it reads
};

DEVICE Heads head_of(const uint16 *qkv, int batch, int head, int seq, int heads, int kv_heads, int dim) {
  int64 stride = (int64)(heads + 2 * kv_heads) * dim;
  int group = heads / kv_heads, kv = head / group;
  return {qkv + batch * seq * stride, stride, seq, dim, group, head * dim, (heads + kv) * dim, (heads + kv_heads + kv) * dim};
}

// spot is the offset, in halves, of values 8c to 8c+7 of row r of a tile of D columns, permuted
// so that eight rows of one c lie in different banks. Rows of 32 and 96 begin half the banks apart.
template <int D> DEVICE int spot(int r, int c) {
  if constexpr (D % 64 == 32) return r * D + ((c ^ (r >> 1 & 3)) << 3);
  return r * D + ((c ^ (r & 7)) << 3);
}

// fetch copies N rows from first on of seq, dim of D columns, and fills up with zeros; wide
// where rows are aligned to 16 bytes.
template <int D, int N> DEVICE void fetch(uint16 *tile, const uint16 *x, int64 stride, int first, int seq, int dim, bool wide) {
  if (wide) {
#pragma unroll
    for (int turn = 0; turn < N * D / 8 / 128; turn++) {
      int i = turn * 128 + thread(), r = i / (D / 8), c = i % (D / 8), row = first + r, valid = row < seq ? dim - 8 * c : 0;
      copy16(tile + spot<D>(r, c), valid > 0 ? x + row * stride + 8 * c : x, valid > 8 ? 16 : valid > 0 ? 2 * valid : 0);
    }
    return;
  }
#pragma unroll 1
  for (int i = thread(); i < N * D; i += 128) {
    int r = i / D, c = i % D, row = first + r;
    tile[spot<D>(r, c / 8) + c % 8] = row < seq && c < dim ? x[row * stride + c] : (uint16)0;
  }
}

// rows_times_rows sets sums (16, N) to a·bᵀ, a being rows row to row+15 of a tile, b N rows of
// another.
template <int D, int N> DEVICE void rows_times_rows(float (&sums)[N / 8][4], const uint16 *a, int row, const uint16 *b) {
  int lane = thread() % 32, matrix = lane / 8, r = lane % 8;
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) sums[j][e] = 0;
#pragma unroll
  for (int k = 0; k < D / 8; k += 2) {
    uint32 fa[4];
    load_matrices(fa, a + spot<D>(row + r + matrix % 2 * 8, k + matrix / 2));
#pragma unroll
    for (int j = 0; j < N / 8; j += 2) {
      uint32 fb[4];
      load_matrices(fb, b + spot<D>(j * 8 + r + matrix / 2 * 8, k + matrix % 2));
      multiply_add(sums[j], fa, fb[0], fb[1]);
      multiply_add(sums[j + 1], fa, fb[2], fb[3]);
    }
  }
}

// add_product adds to sums (16, D) the product of x (16, N), rounded to halves, and the N rows
// of tile b: x's sums are already where an operand of the tensor cores has them.
template <int D, int N> DEVICE void add_product(float (&sums)[D / 8][4], const float (&x)[N / 8][4], const uint16 *b) {
  int lane = thread() % 32, matrix = lane / 8, r = lane % 8;
#pragma unroll
  for (int k = 0; k < N / 8; k += 2) {
    uint32 fa[4] = {both_halves(x[k][0], x[k][1]), both_halves(x[k][2], x[k][3]), both_halves(x[k + 1][0], x[k + 1][1]),
                    both_halves(x[k + 1][2], x[k + 1][3])};
#pragma unroll
    for (int j = 0; j < D / 8; j += 2) {
      uint32 fb[4];
      load_matrices_transposed(fb, b + spot<D>(k * 8 + r + matrix % 2 * 8, j + matrix / 2));
      multiply_add(sums[j], fa, fb[0], fb[1]);
      multiply_add(sums[j + 1], fa, fb[2], fb[3]);
    }
  }
}

// put stores a warp's 16 rows, each half's times its factor, from row first on.
template <int D> DEVICE void put(uint16 *x, int64 stride, int first, int seq, int dim, bool wide, const float (&sums)[D / 8][4], float low, float high) {
  int lane = thread() % 32, t = lane % 4;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int row = first + lane / 4 + 8 * h;
    float factor = h ? high : low;
#pragma unroll
    for (int j = 0; j < D / 8; j += 2) {
      float a[2] = {sums[j][2 * h] * factor, sums[j][2 * h + 1] * factor};
      float b[2] = {sums[j + 1][2 * h] * factor, sums[j + 1][2 * h + 1] * factor};
      if (wide) {
        word2 w = four_columns(both_halves(a[0], a[1]), both_halves(b[0], b[1]));
        if (row < seq && j * 8 + 4 * t < dim) *(word2 *)(x + row * stride + j * 8 + 4 * t) = w;
        continue;
      }
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int c = j * 8 + 2 * t + e % 2 + e / 2 * 8;
        if (row < seq && c < dim) x[row * stride + c] = to_half(e < 2 ? a[e] : b[e - 2]).bits;
      }
    }
  }
}

DEVICE float of_four(float v) {  // the sum over the lanes that share a row
  v += across(v, 1);
  return v + across(v, 2);
}
DEVICE float greatest_of_four(float v) {
  v = larger(v, across(v, 1));
  return larger(v, across(v, 2));
}

// hide sets the scores (16, N) of what a row does not see to −inf: columns are later than rows, or
// with later rows earlier ones, by more than ahead.
template <int N> DEVICE void hide(float (&s)[N / 8][4], int ahead, bool later_rows) {
  int lane = thread() % 32;
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int past = j * 8 + lane % 4 * 2 + e % 2 - lane / 4 - e / 2 * 8 - ahead;
      if (later_rows ? past < 0 : past > 0) s[j][e] = -__builtin_inff();
    }
}

// softmax turns scores (16, ROWS) into e^(scale·(score − m)), scale being in units of log₂, and
// rescales what was added up under the former m.
template <int D> DEVICE void softmax(float (&s)[ROWS / 8][4], float (&out)[D / 8][4], float (&m)[2], float (&sum)[2], float scale) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float most = m[h];
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++) most = larger(most, larger(s[j][2 * h], s[j][2 * h + 1]));
    most = greatest_of_four(most);
    float from = most == -__builtin_inff() ? 0 : most * scale, keep = power2(fused(m[h], scale, -from));
    m[h] = most;
    sum[h] *= keep;
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      out[j][2 * h] *= keep;
      out[j][2 * h + 1] *= keep;
    }
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
      for (int e = 2 * h; e < 2 * h + 2; e++) {
        s[j][e] = power2(fused(s[j][e], scale, -from));
        sum[h] += s[j][e];
      }
  }
}

// attention: blocks are tiles of queries, the longest rows first, of batch items, by heads. While
// a tile of keys is multiplied its values arrive, and while these are, the next keys.
template <int D>
DEVICE void attention(uint16 *out, float *lse, const uint16 *qkv, int seq, int heads, int kv_heads, int dim, float scale, int wide) {
  DYNAMIC_SHARED(uint16, memory);
  uint16 *q = memory, *k = q + ROWS * D, *v = k + ROWS * D;
  int tiles = (seq + ROWS - 1) / ROWS, batch = block_x() / tiles, tile = tiles - 1 - block_x() % tiles, head = block_y();
  Heads w = head_of(qkv, batch, head, seq, heads, kv_heads, dim);
  int row = thread() / 32 * 16, first = tile * ROWS + row, lane = thread() % 32;
  float sums[D / 8][4] = {}, m[2] = {-__builtin_inff(), -__builtin_inff()}, sum[2] = {};
  fetch<D, ROWS>(q, w.base + w.q, w.stride, tile * ROWS, seq, dim, wide);
  fetch<D, ROWS>(k, w.base + w.k, w.stride, 0, seq, dim, wide);
  copies_commit();
  copies_wait<0>();
  block_sync();
  for (int j = 0; j <= tile; j++) {
    fetch<D, ROWS>(v, w.base + w.v, w.stride, j * ROWS, seq, dim, wide);
    copies_commit();
    float s[ROWS / 8][4];
    rows_times_rows<D, ROWS>(s, q, row, k);
    if (j == tile) hide<ROWS>(s, row, false);
    softmax<D>(s, sums, m, sum, scale * LOG2E);
    copies_wait<0>();
    block_sync();  // all values are there, and nobody reads the keys any more
    if (j < tile) fetch<D, ROWS>(k, w.base + w.k, w.stride, (j + 1) * ROWS, seq, dim, wide);
    copies_commit();
    add_product<D, ROWS>(sums, s, v);
    copies_wait<0>();
    block_sync();  // all keys are there, and nobody reads the values
  }
  sum[0] = of_four(sum[0]);
  sum[1] = of_four(sum[1]);
  int64 width = (int64)heads * dim;
  put<D>(out + batch * seq * width + head * dim, width, first, seq, dim, wide, sums, 1 / sum[0], 1 / sum[1]);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int t = first + lane / 4 + 8 * h;
    if (lane % 4 == 0 && t < seq) lse[((int64)batch * heads + head) * seq + t] = m[h] * scale + logarithm2(sum[h]) * LN2;
  }
}

// attention_delta: delta is Σ dout·out of a row, a warp to each of the rows of all heads.
KERNEL(256, 4, attention_delta, float *delta, const void *dout, const void *out, int rows, int seq, int heads, int dim, int flags) {
  int64 i = (int64)block_x() * 8 + thread() / 32;
  int row = (int)(i / heads), head = (int)(i % heads), lane = thread() % 32;
  float sum = 0;
  if (row < rows)
    for (int c = lane; c < dim; c += 32) {
      float a[1], b[1];
      load(a, dout, flags & HALF_B, i * dim + c);
      load(b, out, flags & HALF_C, i * dim + c);
      sum += a[0] * b[0];
    }
  for (int mask = 16; mask; mask /= 2) sum += across(sum, mask);
  if (row < rows && lane == 0) delta[((int64)(row / seq) * heads + head) * seq + row % seq] = sum;
}

// pair_gradients turns scores s = q·k and products dp = dout·v into probabilities p = e^(scale·s −
// lse) and ds = p·(dp − delta), for one query and key; scale and lse are in units of log₂.
DEVICE void pair_gradients(float &s, float &dp, float scale, float lse, float delta) {
  s = power2(fused(s, scale, -lse));
  dp = s * (dp - delta);
}

#define BACKWARD_PARAMETERS                                                                                                            \
  uint16 *dqkv, const uint16 *dout, const float *lse, const float *delta, const uint16 *qkv, int seq, int heads, int kv_heads, int dim, \
      float scale, int wide

// attention_queries sets dq, whose blocks are those of attention; tiles of N keys and values, two
// of each.
template <int D, int N> DEVICE void attention_queries(BACKWARD_PARAMETERS) {
  DYNAMIC_SHARED(uint16, memory);
  uint16 *q = memory, *d = q + ROWS * D, *stages = d + ROWS * D;
  int tiles = (seq + ROWS - 1) / ROWS, batch = block_x() / tiles, tile = tiles - 1 - block_x() % tiles, head = block_y();
  Heads w = head_of(qkv, batch, head, seq, heads, kv_heads, dim);
  int row = thread() / 32 * 16, first = tile * ROWS + row, lane = thread() % 32;
  int64 width = (int64)heads * dim;
  const uint16 *douts = dout + batch * seq * width + head * dim;
  float l[2] = {}, own[2] = {}, sums[D / 8][4] = {};
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int t = first + lane / 4 + 8 * h;
    if (t < seq) {
      l[h] = lse[((int64)batch * heads + head) * seq + t] * LOG2E;
      own[h] = delta[((int64)batch * heads + head) * seq + t];
    }
  }
  int last = tile * ROWS + ROWS < seq ? tile * ROWS + ROWS : seq, count = (last + N - 1) / N;
  auto next = [&](int j) INLINE {
    uint16 *to = stages + j % 2 * 2 * N * D;
    if (j < count) {
      fetch<D, N>(to, w.base + w.k, w.stride, j * N, seq, dim, wide);
      fetch<D, N>(to + N * D, w.base + w.v, w.stride, j * N, seq, dim, wide);
    }
    copies_commit();
  };
  fetch<D, ROWS>(q, w.base + w.q, w.stride, tile * ROWS, seq, dim, wide);
  fetch<D, ROWS>(d, douts, width, tile * ROWS, seq, dim, wide);
  next(0);
  for (int j = 0; j < count; j++) {
    copies_wait<0>();
    block_sync();  // tile j is there, and nobody reads the one before
    next(j + 1);
    const uint16 *k = stages + j % 2 * 2 * N * D;
    float s[N / 8][4], dp[N / 8][4];
    rows_times_rows<D, N>(s, q, row, k);
    rows_times_rows<D, N>(dp, d, row, k + N * D);
    if (j * N + N - 1 > first) hide<N>(s, first - j * N, false);
#pragma unroll
    for (int i = 0; i < N / 8; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) pair_gradients(s[i][e], dp[i][e], scale * LOG2E, l[e / 2], own[e / 2]);
    add_product<D, N>(sums, dp, k);
  }
  put<D>(dqkv + (w.base - qkv) + w.q, w.stride, first, seq, dim, wide, sums, scale, scale);
}

// attention_keys sets dk and dv of a tile of keys: blocks are tiles of batch items, by key-value
// heads. It goes over the tiles of N queries that see the keys, of each query head of the group
// in turn. A warp computes the scores transposed, so that its 16 keys' are where an operand is.
template <int D, int N> DEVICE void attention_keys(BACKWARD_PARAMETERS) {
  DYNAMIC_SHARED(uint16, memory);
  uint16 *k = memory, *v = k + ROWS * D, *stages = v + ROWS * D;
  float *statistics = (float *)(stages + 4 * N * D);  // of two tiles: lse, delta
  int tiles = (seq + ROWS - 1) / ROWS, batch = block_x() / tiles, tile = block_x() % tiles, kv = block_y(), group = heads / kv_heads;
  Heads w = head_of(qkv, batch, kv * group, seq, heads, kv_heads, dim);
  int row = thread() / 32 * 16, first = tile * ROWS + row, lane = thread() % 32;
  int64 width = (int64)heads * dim;
  int start = tile * ROWS / N, each = (seq + N - 1) / N - start, count = each * group;
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  auto next = [&](int j) INLINE {
    uint16 *to = stages + j % 2 * 2 * N * D;
    float *l = statistics + j % 2 * 2 * N;
    if (j < count) {
      int head = kv * group + j / each, at = (start + j % each) * N;
      fetch<D, N>(to, w.base + head * dim, w.stride, at, seq, dim, wide);
      fetch<D, N>(to + N * D, dout + batch * seq * width + head * dim, width, at, seq, dim, wide);
      if (int i = thread(); i < N) {
        int64 t = ((int64)batch * heads + head) * seq + at + i;
        l[i] = at + i < seq ? lse[t] * LOG2E : 0;
        l[N + i] = at + i < seq ? delta[t] : 0;
      }
    }
    copies_commit();
  };
  fetch<D, ROWS>(k, w.base + w.k, w.stride, tile * ROWS, seq, dim, wide);
  fetch<D, ROWS>(v, w.base + w.v, w.stride, tile * ROWS, seq, dim, wide);
  next(0);
  for (int j = 0; j < count; j++) {
    copies_wait<0>();
    block_sync();  // tile j is there, and nobody reads the one before
    next(j + 1);
    const uint16 *q = stages + j % 2 * 2 * N * D;
    const float *l = statistics + j % 2 * 2 * N;
    float s[N / 8][4], dp[N / 8][4];
    rows_times_rows<D, N>(s, k, row, q);
    rows_times_rows<D, N>(dp, v, row, q + N * D);
    int at = (start + j % each) * N;
    if (at < first + 15) hide<N>(s, first - at, true);
#pragma unroll
    for (int i = 0; i < N / 8; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int c = i * 8 + lane % 4 * 2 + e % 2;
        pair_gradients(s[i][e], dp[i][e], scale * LOG2E, l[c], l[N + c]);
      }
    add_product<D, N>(dv, s, q + N * D);
    add_product<D, N>(dk, dp, q);
  }
  put<D>(dqkv + (w.base - qkv) + w.k, w.stride, first, seq, dim, wide, dk, scale, scale);
  put<D>(dqkv + (w.base - qkv) + w.v, w.stride, first, seq, dim, wide, dv, 1, 1);
}

#define FORWARD_PARAMETERS uint16 *out, float *lse, const uint16 *qkv, int seq, int heads, int kv_heads, int dim, float scale, int wide

KERNEL(128, 4, attention_32, FORWARD_PARAMETERS) { attention<32>(out, lse, qkv, seq, heads, kv_heads, dim, scale, wide); }
KERNEL(128, 3, attention_64, FORWARD_PARAMETERS) { attention<64>(out, lse, qkv, seq, heads, kv_heads, dim, scale, wide); }
KERNEL(128, 2, attention_96, FORWARD_PARAMETERS) { attention<96>(out, lse, qkv, seq, heads, kv_heads, dim, scale, wide); }
KERNEL(128, 2, attention_128, FORWARD_PARAMETERS) { attention<128>(out, lse, qkv, seq, heads, kv_heads, dim, scale, wide); }

#define BACKWARD_ARGUMENTS dqkv, dout, lse, delta, qkv, seq, heads, kv_heads, dim, scale, wide

KERNEL(128, 4, attention_queries_32, BACKWARD_PARAMETERS) { attention_queries<32, 64>(BACKWARD_ARGUMENTS); }
KERNEL(128, 3, attention_queries_64, BACKWARD_PARAMETERS) { attention_queries<64, 64>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_queries_96, BACKWARD_PARAMETERS) { attention_queries<96, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_queries_128, BACKWARD_PARAMETERS) { attention_queries<128, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 3, attention_keys_32, BACKWARD_PARAMETERS) { attention_keys<32, 64>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_64, BACKWARD_PARAMETERS) { attention_keys<64, 64>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_96, BACKWARD_PARAMETERS) { attention_keys<96, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_128, BACKWARD_PARAMETERS) { attention_keys<128, 32>(BACKWARD_ARGUMENTS); }
