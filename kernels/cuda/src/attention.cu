// Causal grouped-query attention on the tensor cores, from halves, sums in floats (Dao,
// FlashAttention-2, arXiv 2307.08691, Algorithms 1 and 2). A block has 64·M rows of queries, or of
// keys, 16·M to each of its 4 warps, and goes over tiles of N rows of the other in a fixed order;
// scores live in registers only. With M = 2 what a warp reads of a tile serves twice as many
// products: shared memory gives a matrix in the time in which the tensor cores of a Hopper multiply
// two thirds of one. Where gradients meet, one block adds them all, so nothing is atomic
// and the bits are the same on every run: dk and dv in one kernel, dq in another, which compute
// the scores once more: 7 products a pair of tiles instead of 5.
#include "forms.h"

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

// A Tile is where rows of halves are in shared memory.
struct Tile { uint16 *values; address at; };
DEVICE Tile operator+(Tile t, int values) { return {t.values + values, t.at + 2 * values}; }

// fetch copies N rows, of which memory has left, of dim of D columns, and fills up with zeros; wide
// where rows are aligned to 16 bytes. A thread copies the same columns of every ROWS-th row, so
// that what changes from copy to copy, and from call to call, is added.
template <int D, int N> DEVICE void fetch(Tile tile, const uint16 *x, int64 stride, int left, int dim, bool wide) {
  if (wide) {
    constexpr int COLUMNS = D / 8, ROWS = D == 96 ? 8 : 128 / COLUMNS;
    int r = thread() / COLUMNS, c = thread() % COLUMNS, bytes = dim > 8 * c ? dim > 8 * c + 8 ? 16 : 2 * (dim - 8 * c) : 0;
    const uint16 *from = x + r * stride + 8 * c;
    address to = tile.at + 2 * spot<D>(r, c);
    if (ROWS * COLUMNS < 128 && r >= ROWS) return;
#pragma unroll
    for (int turn = 0; turn < N / ROWS; turn++) copy16(to + turn * ROWS * D * 2, from + turn * ROWS * stride, r + turn * ROWS < left ? bytes : 0);
    return;
  }
#pragma unroll 1
  for (int i = thread(); i < N * D; i += 128) {
    int r = i / D, c = i % D;
    tile.values[spot<D>(r, c / 8) + c % 8] = r < left && c < dim ? x[r * stride + c] : (uint16)0;
  }
}

// read_rows sets f to what the tensor cores take for 16 rows, from row on, of columns 16k to 16k+15
// of a tile.
template <int D> DEVICE void read_rows(uint32 (&f)[4], Tile tile, int row, int k) {
  int lane = thread() % 32, matrix = lane / 8, r = lane % 8;
  load_matrices(f, tile.at + 2 * row * D + 2 * spot<D>(r + matrix % 2 * 8, 2 * k + matrix / 2));
}

// multiply_rows adds to sums (16·M, N) the product of columns 16k to 16k+15 of a warp's rows and of
// tile b's.
template <int M, int D, int N> DEVICE void multiply_rows(float (&sums)[M][N / 8][4], const uint32 (*a)[4], Tile b, int k) {
  int lane = thread() % 32, matrix = lane / 8, r = lane % 8;
#pragma unroll
  for (int j = 0; j < N / 8; j += 2) {
    uint32 f[4];
    load_matrices(f, b.at + 2 * j * 8 * D + 2 * spot<D>(r + matrix / 2 * 8, 2 * k + matrix % 2));
#pragma unroll
    for (int i = 0; i < M; i++) {
      multiply_add(sums[i][j], a[i], f[0], f[1]);
      multiply_add(sums[i][j + 1], a[i], f[2], f[3]);
    }
  }
}

template <int M, int N> DEVICE void clear(float (&sums)[M][N][4]) {
#pragma unroll
  for (int i = 0; i < M; i++)
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][j][e] = 0;
}

// A warp's own rows of a tile, (16·M, D), in registers; own reads them.
template <int M, int D> struct Own { uint32 part[D / 16][M][4]; };
template <int M, int D> DEVICE void own(Own<M, D> &o, Tile tile, int row) {
#pragma unroll
  for (int k = 0; k < D / 16; k++)
#pragma unroll
    for (int i = 0; i < M; i++) read_rows<D>(o.part[k][i], tile, row + 16 * i, k);
}

// rows_times_rows sets sums (16·M, N) to a·bᵀ, a being a warp's rows, in registers or from row on of
// a tile, b N rows of another.
template <int M, int D, int N> DEVICE void rows_times_rows(float (&sums)[M][N / 8][4], const Own<M, D> &a, Tile b) {
  clear(sums);
#pragma unroll
  for (int k = 0; k < D / 16; k++) multiply_rows<M, D, N>(sums, a.part[k], b, k);
}
template <int M, int D, int N> DEVICE void rows_times_rows(float (&sums)[M][N / 8][4], Tile a, int row, Tile b) {
  clear(sums);
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    uint32 f[M][4];
#pragma unroll
    for (int i = 0; i < M; i++) read_rows<D>(f[i], a, row + 16 * i, k);
    multiply_rows<M, D, N>(sums, f, b, k);
  }
}

// add_product adds to sums (16·M, D) the product of x (16·M, N), rounded to halves, and the N rows
// of tile b: x's sums are already where an operand of the tensor cores has them.
template <int M, int D, int N> DEVICE void add_product(float (&sums)[M][D / 8][4], const float (&x)[M][N / 8][4], Tile b) {
  int lane = thread() % 32, matrix = lane / 8, r = lane % 8;
#pragma unroll
  for (int k = 0; k < N / 8; k += 2) {
    uint32 a[M][4];
#pragma unroll
    for (int i = 0; i < M; i++) {
      a[i][0] = both_halves(x[i][k][0], x[i][k][1]);
      a[i][1] = both_halves(x[i][k][2], x[i][k][3]);
      a[i][2] = both_halves(x[i][k + 1][0], x[i][k + 1][1]);
      a[i][3] = both_halves(x[i][k + 1][2], x[i][k + 1][3]);
    }
#pragma unroll
    for (int j = 0; j < D / 8; j += 2) {
      uint32 f[4];
      load_matrices_transposed(f, b.at + 2 * k * 8 * D + 2 * spot<D>(r + matrix % 2 * 8, j + matrix / 2));
#pragma unroll
      for (int i = 0; i < M; i++) {
        multiply_add(sums[i][j], a[i], f[0], f[1]);
        multiply_add(sums[i][j + 1], a[i], f[2], f[3]);
      }
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

// softmax turns scores (16, N) into e^(scale·(score − m)), scale being in units of log₂, and
// rescales what was added up under the former m, if that was another for any row of the warp.
template <int D, int N> DEVICE void softmax(float (&s)[N / 8][4], float (&out)[D / 8][4], float (&m)[2], float (&sum)[2], float scale) {
  float from[2], keep[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float most = m[h];
#pragma unroll
    for (int j = 0; j < N / 8; j++) most = larger(most, larger(s[j][2 * h], s[j][2 * h + 1]));
    most = greatest_of_four(most);
    from[h] = most == -__builtin_inff() ? 0 : most * scale;
    keep[h] = power2(fused(m[h], scale, -from[h]));
    m[h] = most;
  }
  if (any(keep[0] != 1 || keep[1] != 1)) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      sum[h] *= keep[h];
#pragma unroll
      for (int j = 0; j < D / 8; j++) {
        out[j][2 * h] *= keep[h];
        out[j][2 * h + 1] *= keep[h];
      }
    }
  }
#pragma unroll
  for (int j = 0; j < N / 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      s[j][e] = power2(fused(s[j][e], scale, -from[e / 2]));
      sum[e / 2] += s[j][e];
    }
}

// attention: blocks are tiles of queries, the longest rows first, of batch items, by heads. While
// a tile of keys is multiplied its values arrive, and while these are, the next keys. A warp whose
// rows see nothing of a tile does nothing with it.
template <int D, int M, int N>
DEVICE void attention(uint16 *out, float *lse, const uint16 *qkv, int seq, int heads, int kv_heads, int dim, float scale, int wide) {
  constexpr int ROWS = 64 * M;
  DYNAMIC_SHARED(uint16, memory);
  Tile q = {memory, address_of(memory)}, k = q + ROWS * D, v = k + N * D;
  int tiles = (seq + ROWS - 1) / ROWS, batch = block_x() / tiles, tile = tiles - 1 - block_x() % tiles, head = block_y();
  Heads w = head_of(qkv, batch, head, seq, heads, kv_heads, dim);
  int row = thread() / 32 * 16 * M, first = tile * ROWS + row, lane = thread() % 32;
  int last = tile * ROWS + ROWS < seq ? tile * ROWS + ROWS : seq, count = (last + N - 1) / N;
  float sums[M][D / 8][4] = {}, m[M][2], sum[M][2] = {};
#pragma unroll
  for (int i = 0; i < M; i++) m[i][0] = m[i][1] = -__builtin_inff();
  const uint16 *keys = w.base + w.k, *values = w.base + w.v;
  fetch<D, ROWS>(q, w.base + w.q + tile * ROWS * w.stride, w.stride, seq - tile * ROWS, dim, wide);
  fetch<D, N>(k, keys, w.stride, seq, dim, wide);
  copies_commit();
  copies_wait<0>();
  block_sync();
  constexpr bool KEPT = D <= 64;  // more would not fit the registers beside the sums
  Own<KEPT ? M : 1, KEPT ? D : 16> queries;
  if constexpr (KEPT) own(queries, q, row);
  for (int j = 0; j < count; j++) {
    bool sees = j * N < first + 16 * M;
    fetch<D, N>(v, values, w.stride, seq - j * N, dim, wide);
    values += N * w.stride;
    copies_commit();
    float s[M][N / 8][4];
    if (sees) {
      if constexpr (KEPT)
        rows_times_rows<M, D, N>(s, queries, k);
      else
        rows_times_rows<M, D, N>(s, q, row, k);
#pragma unroll
      for (int i = 0; i < M; i++) {
        if (j * N + N - 1 > first + 16 * i) hide<N>(s[i], first + 16 * i - j * N, false);
        softmax<D, N>(s[i], sums[i], m[i], sum[i], scale * LOG2E);
      }
    }
    copies_wait<0>();
    block_sync();  // all values are there, and no thread reads the keys any more
    keys += N * w.stride;
    if (j + 1 < count) fetch<D, N>(k, keys, w.stride, seq - (j + 1) * N, dim, wide);
    copies_commit();
    if (sees) add_product<M, D, N>(sums, s, v);
    copies_wait<0>();
    block_sync();  // all keys are there, and no thread reads the values
  }
  int64 width = (int64)heads * dim;
#pragma unroll
  for (int i = 0; i < M; i++) {
    sum[i][0] = of_four(sum[i][0]);
    sum[i][1] = of_four(sum[i][1]);
    put<D>(out + batch * seq * width + head * dim, width, first + 16 * i, seq, dim, wide, sums[i], 1 / sum[i][0], 1 / sum[i][1]);
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int t = first + 16 * i + lane / 4 + 8 * h;
      if (lane % 4 == 0 && t < seq) lse[((int64)batch * heads + head) * seq + t] = m[i][h] * scale + logarithm2(sum[i][h]) * LN2;
    }
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
template <int D, int M, int N> DEVICE void attention_queries(BACKWARD_PARAMETERS) {
  constexpr int ROWS = 64 * M;
  DYNAMIC_SHARED(uint16, memory);
  Tile q = {memory, address_of(memory)}, d = q + ROWS * D, stages = d + ROWS * D;
  int tiles = (seq + ROWS - 1) / ROWS, batch = block_x() / tiles, tile = tiles - 1 - block_x() % tiles, head = block_y();
  Heads w = head_of(qkv, batch, head, seq, heads, kv_heads, dim);
  int row = thread() / 32 * 16 * M, first = tile * ROWS + row, lane = thread() % 32;
  int64 width = (int64)heads * dim;
  const uint16 *douts = dout + batch * seq * width + head * dim;
  float l[M][2] = {}, delta_of[M][2] = {}, sums[M][D / 8][4] = {};
#pragma unroll
  for (int i = 0; i < 2 * M; i++) {
    int t = first + lane / 4 + 8 * i;
    if (t < seq) {
      l[i / 2][i % 2] = lse[((int64)batch * heads + head) * seq + t] * LOG2E;
      delta_of[i / 2][i % 2] = delta[((int64)batch * heads + head) * seq + t];
    }
  }
  int last = tile * ROWS + ROWS < seq ? tile * ROWS + ROWS : seq, count = (last + N - 1) / N;
  const uint16 *keys = w.base + w.k, *values = w.base + w.v;
  auto next = [&](int j) INLINE {
    Tile to = stages + j % 2 * 2 * N * D;
    if (j < count) {
      fetch<D, N>(to, keys, w.stride, seq - j * N, dim, wide);
      fetch<D, N>(to + N * D, values, w.stride, seq - j * N, dim, wide);
    }
    keys += N * w.stride;
    values += N * w.stride;
    copies_commit();
  };
  fetch<D, ROWS>(q, w.base + w.q + tile * ROWS * w.stride, w.stride, seq - tile * ROWS, dim, wide);
  fetch<D, ROWS>(d, douts + tile * ROWS * width, width, seq - tile * ROWS, dim, wide);
  next(0);
  copies_wait<0>();
  block_sync();
  Own<M, D> queries, gradients;
  own(queries, q, row);
  own(gradients, d, row);
  for (int j = 0; j < count; j++) {
    copies_wait<0>();
    block_sync();  // tile j is there, and no thread reads the one before
    next(j + 1);
    if (j * N >= first + 16 * M) continue;  // this warp's rows see nothing of it
    Tile k = stages + j % 2 * 2 * N * D;
    float s[M][N / 8][4], dp[M][N / 8][4];
    rows_times_rows<M, D, N>(s, queries, k);
    rows_times_rows<M, D, N>(dp, gradients, k + N * D);
#pragma unroll
    for (int i = 0; i < M; i++) {
      if (j * N + N - 1 > first + 16 * i) hide<N>(s[i], first + 16 * i - j * N, false);
#pragma unroll
      for (int c = 0; c < N / 8; c++)
#pragma unroll
        for (int e = 0; e < 4; e++) pair_gradients(s[i][c][e], dp[i][c][e], scale * LOG2E, l[i][e / 2], delta_of[i][e / 2]);
    }
    add_product<M, D, N>(sums, dp, k);
  }
#pragma unroll
  for (int i = 0; i < M; i++) put<D>(dqkv + (w.base - qkv) + w.q, w.stride, first + 16 * i, seq, dim, wide, sums[i], scale, scale);
}

// attention_keys sets dk and dv of a tile of keys: blocks are tiles of batch items, by key-value
// heads. It goes over the tiles of N queries that see the keys, of each query head of the group
// in turn. A warp computes the scores transposed, so that its own keys' are where an operand is.
template <int D, int M, int N> DEVICE void attention_keys(BACKWARD_PARAMETERS) {
  constexpr int ROWS = 64 * M;
  DYNAMIC_SHARED(uint16, memory);
  Tile k = {memory, address_of(memory)}, v = k + ROWS * D, stages = v + ROWS * D;
  float *statistics = (float *)(stages + 4 * N * D).values;  // of two tiles: lse, delta
  int tiles = (seq + ROWS - 1) / ROWS, batch = block_x() / tiles, tile = block_x() % tiles, kv = block_y(), group = heads / kv_heads;
  Heads w = head_of(qkv, batch, kv * group, seq, heads, kv_heads, dim);
  int row = thread() / 32 * 16 * M, first = tile * ROWS + row, lane = thread() % 32;
  int64 width = (int64)heads * dim;
  int start = tile * ROWS, each = (seq - start + N - 1) / N, count = each * group;
  float dk[M][D / 8][4] = {}, dv[M][D / 8][4] = {};
  int head = kv * group, ahead = start;  // of the tile that next fetches: its first query
  auto next = [&](int j) INLINE {
    Tile to = stages + j % 2 * 2 * N * D;
    float *l = statistics + j % 2 * 2 * N;
    if (j < count) {
      fetch<D, N>(to, w.base + head * dim + ahead * w.stride, w.stride, seq - ahead, dim, wide);
      fetch<D, N>(to + N * D, dout + (batch * seq + ahead) * width + head * dim, width, seq - ahead, dim, wide);
      if (int i = thread(); i < N) {
        int64 t = ((int64)batch * heads + head) * seq + ahead + i;
        l[i] = ahead + i < seq ? lse[t] * LOG2E : 0;
        l[N + i] = ahead + i < seq ? delta[t] : 0;
      }
    }
    ahead += N;
    if (ahead >= seq) ahead = start, head++;
    copies_commit();
  };
  fetch<D, ROWS>(k, w.base + w.k + start * w.stride, w.stride, seq - start, dim, wide);
  fetch<D, ROWS>(v, w.base + w.v + start * w.stride, w.stride, seq - start, dim, wide);
  next(0);
  constexpr bool KEPT = M == 1;
  Own<KEPT ? M : 1, KEPT ? D : 16> own_k, own_v;
  if constexpr (KEPT) {
    copies_wait<0>();
    block_sync();
    own(own_k, k, row);
    own(own_v, v, row);
  }
  for (int j = 0, at = start; j < count; j++, at = at + N < seq ? at + N : start) {
    copies_wait<0>();
    block_sync();  // tile j is there, and no thread reads the one before
    next(j + 1);
    if (at + N <= first) continue;  // none of it sees this warp's rows
    Tile q = stages + j % 2 * 2 * N * D;
    const float *l = statistics + j % 2 * 2 * N;
    float s[M][N / 8][4], dp[M][N / 8][4];
    if constexpr (KEPT) {
      rows_times_rows<M, D, N>(s, own_k, q);
      rows_times_rows<M, D, N>(dp, own_v, q + N * D);
    } else {
      rows_times_rows<M, D, N>(s, k, row, q);
      rows_times_rows<M, D, N>(dp, v, row, q + N * D);
    }
#pragma unroll
    for (int i = 0; i < M; i++) {
      if (at < first + 16 * i + 15) hide<N>(s[i], first + 16 * i - at, true);
#pragma unroll
      for (int b = 0; b < N / 8; b++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          int c = b * 8 + lane % 4 * 2 + e % 2;
          pair_gradients(s[i][b][e], dp[i][b][e], scale * LOG2E, l[c], l[N + c]);
        }
    }
    add_product<M, D, N>(dv, s, q + N * D);
    add_product<M, D, N>(dk, dp, q);
  }
#pragma unroll
  for (int i = 0; i < M; i++) {
    put<D>(dqkv + (w.base - qkv) + w.k, w.stride, first + 16 * i, seq, dim, wide, dk[i], scale, scale);
    put<D>(dqkv + (w.base - qkv) + w.v, w.stride, first + 16 * i, seq, dim, wide, dv[i], 1, 1);
  }
}

#define FORWARD_PARAMETERS uint16 *out, float *lse, const uint16 *qkv, int seq, int heads, int kv_heads, int dim, float scale, int wide

// The shapes are those of attention.go. By heads: rows of a warp, rows of a tile, and what the
// registers of a multiprocessor allow.
#define FORWARD_ARGUMENTS out, lse, qkv, seq, heads, kv_heads, dim, scale, wide

KERNEL(128, 3, attention_32, FORWARD_PARAMETERS) { attention<32, 2, 64>(FORWARD_ARGUMENTS); }
KERNEL(128, 2, attention_64, FORWARD_PARAMETERS) { attention<64, 2, 64>(FORWARD_ARGUMENTS); }
KERNEL(128, 2, attention_96, FORWARD_PARAMETERS) { attention<96, 2, 32>(FORWARD_ARGUMENTS); }
KERNEL(128, 2, attention_128, FORWARD_PARAMETERS) { attention<128, 2, 32>(FORWARD_ARGUMENTS); }

#define BACKWARD_ARGUMENTS dqkv, dout, lse, delta, qkv, seq, heads, kv_heads, dim, scale, wide

KERNEL(128, 3, attention_queries_32, BACKWARD_PARAMETERS) { attention_queries<32, 2, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_queries_64, BACKWARD_PARAMETERS) { attention_queries<64, 2, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_queries_96, BACKWARD_PARAMETERS) { attention_queries<96, 1, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_queries_128, BACKWARD_PARAMETERS) { attention_queries<128, 1, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_32, BACKWARD_PARAMETERS) { attention_keys<32, 2, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_64, BACKWARD_PARAMETERS) { attention_keys<64, 2, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_96, BACKWARD_PARAMETERS) { attention_keys<96, 1, 32>(BACKWARD_ARGUMENTS); }
KERNEL(128, 2, attention_keys_128, BACKWARD_PARAMETERS) { attention_keys<128, 1, 16>(BACKWARD_ARGUMENTS); }
