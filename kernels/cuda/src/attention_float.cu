// Attention in floats throughout, and for heads of more than 128 values: exact rather than
// fast. A warp has a row, of queries or of keys, and its lanes one of 32 rows of the other.
#include "forms.h"

constexpr int LANES = 32, WARPS = 8, PARTS = 8;  // a row has at most LANES·PARTS values

struct Row {
  int64 stride, base;  // of qkv, in values
  int64 out_stride, out;
  int64 statistics;
  int q, k, v;
};

DEVICE Row row_of(int batch, int head, int seq, int heads, int kv_heads, int dim) {
  int64 stride = (int64)(heads + 2 * kv_heads) * dim, width = (int64)heads * dim;
  int kv = head / (heads / kv_heads);
  return {stride, batch * seq * stride, width, batch * seq * width + head * dim, ((int64)batch * heads + head) * seq,
          head * dim, (heads + kv) * dim, (heads + kv_heads + kv) * dim};
}

// fetch_rows copies up to 32 rows from first on into a tile with an odd pitch.
DEVICE void fetch_rows(float *tile, const float *x, int64 stride, int first, int seq, int dim, int pitch) {
  for (int i = thread(); i < LANES * dim; i += threads()) {
    int r = i / dim, c = i % dim;
    tile[r * pitch + c] = first + r < seq ? x[(first + r) * stride + c] : 0;
  }
}

DEVICE float dot(const float *x, const float *y, int dim) {
  float s = 0;
  for (int c = 0; c < dim; c++) s = fused(x[c], y[c], s);
  return s;
}

// weigh adds Σ weight[i]·tile[i] of 32 rows to a row spread over the lanes.
DEVICE void weigh(float (&sums)[PARTS], const float *weights, const float *tile, int count, int dim, int pitch) {
  int lane = thread() % LANES;
  for (int i = 0; i < count; i++)
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
      int c = lane + p * LANES;
      if (c < dim) sums[p] = fused(weights[i], tile[i * pitch + c], sums[p]);
    }
}

DEVICE float warp_sum(float v) {
  for (int mask = 16; mask; mask /= 2) v += across(v, mask);
  return v;
}
DEVICE float warp_greatest(float v) {
  for (int mask = 16; mask; mask /= 2) v = larger(v, across(v, mask));
  return v;
}

#define FLOAT_SHARED                                                                              \
  DYNAMIC_SHARED(float, memory);                                                                  \
  int pitch = dim | 1, lane = thread() % LANES, warp = thread() / LANES;                          \
  float *a = memory, *b = a + LANES * pitch, *mine = b + LANES * pitch + warp * 2 * pitch;        \
  float *weights = b + LANES * pitch + WARPS * 2 * pitch + warp * 2 * LANES

// attention_float: blocks are 8 queries of batch items, by heads.
KERNEL(256, 1, attention_float, float *out, float *lse, const float *qkv, int seq, int heads, int kv_heads, int dim, float scale) {
  FLOAT_SHARED;
  int tiles = (seq + WARPS - 1) / WARPS, batch = block_x() / tiles, t = block_x() % tiles * WARPS + warp;
  int last = block_x() % tiles * WARPS + WARPS - 1;
  Row w = row_of(batch, block_y(), seq, heads, kv_heads, dim);
  const float *x = qkv + w.base;
  for (int c = lane; c < dim; c += LANES) mine[c] = t < seq ? x[t * w.stride + w.q + c] : 0;
  float sums[PARTS] = {}, most = -__builtin_inff(), sum = 0;
  for (int first = 0; first <= last && first < seq; first += LANES) {
    block_sync();
    fetch_rows(a, x + w.k, w.stride, first, seq, dim, pitch);
    fetch_rows(b, x + w.v, w.stride, first, seq, dim, pitch);
    block_sync();
    int count = t - first + 1 < LANES ? t - first + 1 : LANES;  // keys that t sees; may be none
    float s = lane < count ? dot(mine, a + lane * pitch, dim) * scale : -__builtin_inff();
    float next = larger(most, warp_greatest(s)), from = next == -__builtin_inff() ? 0 : next;
    float keep = exponential(most - from), p = lane < count && s != -__builtin_inff() ? exponential(s - from) : 0;
    most = next;
    sum = sum * keep + warp_sum(p);
#pragma unroll
    for (int i = 0; i < PARTS; i++) sums[i] *= keep;
    weights[lane] = p;
    warp_sync();
    weigh(sums, weights, b, count, dim, pitch);
    warp_sync();
  }
  if (t >= seq) return;
#pragma unroll
  for (int p = 0; p < PARTS; p++)
    if (lane + p * LANES < dim) out[w.out + t * w.out_stride + lane + p * LANES] = sums[p] / sum;
  if (lane == 0) lse[w.statistics + t] = (float)((double)most + natural_logarithm(sum));
}

#define FLOAT_BACKWARD \
  float *dqkv, const float *dout, const float *lse, const float *delta, const float *qkv, int seq, int heads, int kv_heads, int dim, float scale

// attention_queries_float sets dq; its blocks are those of attention_float.
KERNEL(256, 1, attention_queries_float, FLOAT_BACKWARD) {
  FLOAT_SHARED;
  int tiles = (seq + WARPS - 1) / WARPS, batch = block_x() / tiles, t = block_x() % tiles * WARPS + warp;
  int last = block_x() % tiles * WARPS + WARPS - 1;
  Row w = row_of(batch, block_y(), seq, heads, kv_heads, dim);
  const float *x = qkv + w.base;
  for (int c = lane; c < dim; c += LANES) {
    mine[c] = t < seq ? x[t * w.stride + w.q + c] : 0;
    mine[pitch + c] = t < seq ? dout[w.out + t * w.out_stride + c] : 0;
  }
  float sums[PARTS] = {}, l = t < seq ? lse[w.statistics + t] : 0, own = t < seq ? delta[w.statistics + t] : 0;
  for (int first = 0; first <= last && first < seq; first += LANES) {
    block_sync();
    fetch_rows(a, x + w.k, w.stride, first, seq, dim, pitch);
    fetch_rows(b, x + w.v, w.stride, first, seq, dim, pitch);
    block_sync();
    int count = t - first + 1 < LANES ? t - first + 1 : LANES;
    float ds = 0;
    if (lane < count) {
      float p = exponential(dot(mine, a + lane * pitch, dim) * scale - l);
      ds = p * (dot(mine + pitch, b + lane * pitch, dim) - own) * scale;
    }
    weights[lane] = ds;
    warp_sync();
    weigh(sums, weights, a, count, dim, pitch);
    warp_sync();
  }
  if (t >= seq) return;
#pragma unroll
  for (int p = 0; p < PARTS; p++)
    if (lane + p * LANES < dim) dqkv[w.base + t * w.stride + w.q + lane + p * LANES] = sums[p];
}

// attention_keys_float sets dk and dv: blocks are 8 keys of batch items, by key-value heads.
KERNEL(256, 1, attention_keys_float, FLOAT_BACKWARD) {
  FLOAT_SHARED;
  int tiles = (seq + WARPS - 1) / WARPS, batch = block_x() / tiles, begin = block_x() % tiles * WARPS, key = begin + warp;
  int group = heads / kv_heads, kv = block_y();
  float dk[PARTS] = {}, dv[PARTS] = {};
  Row w = row_of(batch, kv * group, seq, heads, kv_heads, dim);
  const float *x = qkv + w.base;
  for (int c = lane; c < dim; c += LANES) {
    mine[c] = key < seq ? x[key * w.stride + w.k + c] : 0;
    mine[pitch + c] = key < seq ? x[key * w.stride + w.v + c] : 0;
  }
  for (int head = kv * group; head < kv * group + group; head++) {
    w = row_of(batch, head, seq, heads, kv_heads, dim);
    for (int first = begin; first < seq; first += LANES) {
      block_sync();
      fetch_rows(a, x + w.q, w.stride, first, seq, dim, pitch);
      fetch_rows(b, dout + w.out, w.out_stride, first, seq, dim, pitch);
      block_sync();
      int t = first + lane;
      float p = 0, ds = 0;
      if (t >= key && t < seq) {
        p = exponential(dot(mine, a + lane * pitch, dim) * scale - lse[w.statistics + t]);
        ds = p * (dot(mine + pitch, b + lane * pitch, dim) - delta[w.statistics + t]) * scale;
      }
      weights[lane] = ds;
      weights[LANES + lane] = p;
      warp_sync();
      int count = seq - first < LANES ? seq - first : LANES;
      weigh(dk, weights, a, count, dim, pitch);
      weigh(dv, weights + LANES, b, count, dim, pitch);
      warp_sync();
    }
  }
  if (key >= seq) return;
#pragma unroll
  for (int p = 0; p < PARTS; p++)
    if (lane + p * LANES < dim) {
      dqkv[w.base + key * w.stride + w.k + lane + p * LANES] = dk[p];
      dqkv[w.base + key * w.stride + w.v + lane + p * LANES] = dv[p];
    }
}
