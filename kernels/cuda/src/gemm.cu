// Products of matrices of halves on the tensor cores: c (m,n) = op(a)·op(b), sums in floats.
//
// A block computes 128×128 outputs from tiles of 32 of k, of which three are in shared memory
// or on the way there; each of its 8 warps 64×32. Rows of 16 bytes are permuted within a tile
// so that the eight rows of a matrix that ldmatrix reads lie in different banks.
//
// Arithmetic of a block and tile: 128·128·32·2 = 1.05 MFLOP for 16 KiB from the level-2 cache:
// 64 FLOP a byte, and for 64 + 32 rows × 32 halves × 8 warps = 48 KiB out of shared memory.
// Registers: 64 sums, 24 for operands, so two blocks fit a multiprocessor.
#include "forms.h"

constexpr int TILE = 128, DEPTH = 32, STAGES = 3, TILE_BYTES = TILE * DEPTH * 2;
constexpr int GEMM_SHARED = STAGES * 2 * TILE_BYTES;  // 48 KiB, the most a launch need not ask for

// Flags of gemm: pairs of floats, fours of halves may be stored at once.
constexpr int WIDE_FLOATS = 1, WIDE_HALVES = 2;

// place is the offset of 8 halves of a tile: of row r (of TILE), k 8c to 8c+7, where rows lie
// along k; of k r, rows 8c to 8c+7, where they are transposed.
template <bool transposed> DEVICE int place(int r, int c) {
  return transposed ? r * 256 + ((c ^ (r & 7)) << 4) : r * 64 + ((c ^ (r >> 1 & 3)) << 4);
}

// An operand's tile: rows first and on of limit (of op(a), or columns of op(b)), k from k0 of
// k1. With gated, rows are those of the gate and of up in turns of 16, limit of each.
template <bool transposed, bool gated>
DEVICE void load_tile(address tile, const uint16 *x, int64 stride, int first, int limit, int k0, int k1) {
#pragma unroll
  for (int turn = 0; turn < TILE * DEPTH / 8 / 256; turn++) {
    int i = turn * 256 + thread(), r = transposed ? i / 16 : i / 4, c = transposed ? i % 16 : i % 4;
    const uint16 *from = x;
    int valid;
    if constexpr (transposed) {
      int k = k0 + r, row = first + 8 * c;
      valid = k < k1 ? limit - row : 0;
      if (valid > 0) from += k * stride + row;
    } else {
      int row = first + r, k = k0 + 8 * c;
      bool up = false;
      if constexpr (gated) {
        row = first + r / 32 * 16 + r % 16;
        up = r & 16;
      }
      valid = row < limit ? k1 - k : 0;
      if (valid > 0) from += (row + (up ? limit : 0)) * stride + k;
    }
    copy16(tile + place<transposed>(r, c), from, valid > 8 ? 16 : valid > 0 ? 2 * valid : 0);
  }
}

// multiply_tile adds the products of one stage to a warp's sums. row is a multiple of 64, column of 32:
// places that are whole permutations apart are constants apart.
template <bool trans_a, bool trans_b>
DEVICE void multiply_tile(float (&sums)[4][4][4], address a, address b, int row, int column) {
  int lane = thread() % 32, matrix = lane / 8, r = lane % 8;
#pragma unroll
  for (int k = 0; k < DEPTH; k += 16) {
    uint32 fa[4][4], fb[2][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if constexpr (trans_a)
        load_matrices_transposed(fa[i], a + k * 256 + row * 2 + place<true>(r + matrix / 2 * 8, 2 * i + matrix % 2));
      else
        load_matrices(fa[i], a + (row + 16 * i) * 64 + place<false>(r + matrix % 2 * 8, k / 8 + matrix / 2));
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
      int n = column + 16 * j;
      if constexpr (trans_b)
        load_matrices(fb[j], b + n * 64 + place<false>(r + matrix / 2 * 8, k / 8 + matrix % 2));
      else
        load_matrices_transposed(fb[j], b + k * 256 + place<true>(r + matrix % 2 * 8, n / 8 + matrix / 2));
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) multiply_add(sums[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
  }
}

// multiply runs the pipeline over k0 to k1: the copies of two stages are under way while one is
// multiplied.
template <bool trans_a, bool trans_b, bool gated>
DEVICE void multiply(float (&sums)[4][4][4], const uint16 *a, int64 a_stride, const uint16 *b, int64 b_stride, int m0, int n0, int m, int n,
                     int k0, int k1) {
  DYNAMIC_SHARED(unsigned char, memory);
  address base = address_of(memory);
  int warp = thread() / 32, tiles = (k1 - k0 + DEPTH - 1) / DEPTH;
  auto fetch = [&](int tile) INLINE {
    address to = base + tile % STAGES * 2 * TILE_BYTES;
    if (tile < tiles) {
      load_tile<trans_a, false>(to, a, a_stride, m0, m, k0 + tile * DEPTH, k1);
      load_tile<!trans_b, gated>(to + TILE_BYTES, b, b_stride, n0, n, k0 + tile * DEPTH, k1);
    }
    copies_commit();
  };
#pragma unroll
  for (int s = 0; s < STAGES - 1; s++) fetch(s);
  for (int tile = 0; tile < tiles; tile++) {
    copies_wait<STAGES - 2>();
    block_sync();  // the copies of all threads are there, and no thread reads the oldest stage
    fetch(tile + STAGES - 1);
    address from = base + tile % STAGES * 2 * TILE_BYTES;
    multiply_tile<trans_a, trans_b>(sums, from, from + TILE_BYTES, warp / 4 * 64, warp % 4 * 32);
  }
}

// block_tile gives blocks tiles in columns of eight rows of tiles, which share more of the
// level-2 cache than whole rows do.
DEVICE void block_tile(int tiles_m, int tiles_n, int &tile_m, int &tile_n) {
  int group = block_x() / (8 * tiles_n), first = group * 8, rows = tiles_m - first < 8 ? tiles_m - first : 8;
  int i = block_x() - group * 8 * tiles_n;
  tile_m = first + i % rows;
  tile_n = i / rows;
}

// four_columns turns words of columns 2t, 2t+1 of two neighbouring tiles of 8 columns, t being
// lane%4, into columns 4t to 4t+3 of the 16. Warp.
DEVICE word2 four_columns(uint32 first, uint32 second) {
  int t = thread() % 4, from = (thread() % 32 & ~3) + t % 2 * 2;
  uint32 a = from_lane(first, from), b = from_lane(first, from + 1), c = from_lane(second, from), d = from_lane(second, from + 1);
  word2 low = {a, b}, high = {c, d};
  return t < 2 ? low : high;
}

// store_halves stores columns column to column+15 of a row, four or one at a time.
DEVICE void store_halves(uint16 *row, int column, int limit, bool stored, bool wide, const float *x, const float *y) {
  int t = thread() % 4;
  if (wide) {
    word2 w = four_columns(both_halves(x[0], x[1]), both_halves(y[0], y[1]));
    if (stored && column + 4 * t < limit) *(word2 *)(row + column + 4 * t) = w;
    return;
  }
  if (!stored) return;
#pragma unroll
  for (int e = 0; e < 4; e++) {
    int c = column + 2 * t + e % 2 + e / 2 * 8;
    if (c < limit) row[c] = to_half(e < 2 ? x[e] : y[e - 2]).bits;
  }
}

// store_floats stores or adds to: columns column to column+7 of a row.
DEVICE void store_floats(float *row, const float *add, int column, int limit, bool wide, const float *x) {
  int c = column + thread() % 4 * 2;
  if (wide) {
    if (c >= limit) return;
    float2v v = {x[0], x[1]};
    if (add) v += *(const float2v *)(add + c);
    *(float2v *)(row + c) = v;
    return;
  }
  for (int e = 0; e < 2; e++)
    if (c + e < limit) row[c + e] = x[e] + (add ? add[c + e] : 0);
}

#define GEMM_PARAMETERS                                                                                                          \
  float *c, uint16 *halves, const float *add, const uint16 *a, int64 a_stride, const uint16 *b, int64 b_stride, int m, int n, int k, \
      int split, int flags

// gemm computes c, (m,n) floats, plus add where that is not null, or its halves. With split, a
// block multiplies only split of k, and c is one (m,n) for each part.
template <bool trans_a, bool trans_b> DEVICE void gemm(GEMM_PARAMETERS) {
  float sums[4][4][4] = {};
  int tile_m, tile_n, k0 = block_z() * split, k1 = k - k0 < split ? k : k0 + split;
  block_tile((m + TILE - 1) / TILE, (n + TILE - 1) / TILE, tile_m, tile_n);
  multiply<trans_a, trans_b, false>(sums, a, a_stride, b, b_stride, tile_m * TILE, tile_n * TILE, m, n, k0, k1);
  if (c) c += (int64)block_z() * m * n;
  int lane = thread() % 32, warp = thread() / 32, column = tile_n * TILE + warp % 4 * 32;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int row = tile_m * TILE + warp / 4 * 64 + i * 16 + lane / 4 + h * 8;
      int64 at = (int64)row * n;
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (c && row < m) store_floats(c + at, add ? add + at : nullptr, column + j * 8, n, flags & WIDE_FLOATS, &sums[i][j][h * 2]);
#pragma unroll
      for (int j = 0; j < 4; j += 2)
        if (halves) store_halves(halves + at, column + j * 8, n, row < m, flags & WIDE_HALVES, &sums[i][j][h * 2], &sums[i][j + 1][h * 2]);
    }
}

KERNEL(256, 2, gemm_nt, GEMM_PARAMETERS) { gemm<false, true>(c, halves, add, a, a_stride, b, b_stride, m, n, k, split, flags); }
KERNEL(256, 2, gemm_nn, GEMM_PARAMETERS) { gemm<false, false>(c, halves, add, a, a_stride, b, b_stride, m, n, k, split, flags); }
KERNEL(256, 2, gemm_tn, GEMM_PARAMETERS) { gemm<true, false>(c, halves, add, a, a_stride, b, b_stride, m, n, k, split, flags); }
KERNEL(256, 2, gemm_tt, GEMM_PARAMETERS) { gemm<true, true>(c, halves, add, a, a_stride, b, b_stride, m, n, k, split, flags); }

// gemm_join adds the parts of a split product in ascending order.
KERNEL(256, 4, gemm_join, float *c, uint16 *halves, const float *add, const float *parts, int64 n, int count) {
  int64 i = (int64)block_x() * threads() + thread();
  if (i >= n) return;
  float sum = parts[i];
  for (int p = 1; p < count; p++) sum += parts[p * n + i];
  if (c) c[i] = add ? sum + add[i] : sum;
  if (halves) halves[i] = to_half(sum).bits;
}

// gemm_swiglu computes gate_up (m, 2·width) = a·bᵀ and out (m, width) = silu(gate)·up, halves:
// of a block's columns 64 are the gate's and 64 up's, so that a warp has both of a position.
KERNEL(256, 2, gemm_swiglu, uint16 *out, uint16 *gate_up, const uint16 *a, int64 a_stride, const uint16 *b, int64 b_stride, int m, int width,
       int k, int flags) {
  float sums[4][4][4] = {};
  int tile_m, tile_n;
  block_tile((m + TILE - 1) / TILE, (width + TILE / 2 - 1) / (TILE / 2), tile_m, tile_n);
  multiply<false, true, true>(sums, a, a_stride, b, b_stride, tile_m * TILE, tile_n * (TILE / 2), m, width, 0, k);
  int lane = thread() % 32, warp = thread() / 32, column = tile_n * (TILE / 2) + warp % 4 * 16;
  bool wide = flags & WIDE_HALVES;
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int row = tile_m * TILE + warp / 4 * 64 + i * 16 + lane / 4 + h * 8;
      int64 at = (int64)row * width;
      const float *gate0 = &sums[i][0][h * 2], *gate1 = &sums[i][1][h * 2], *up0 = &sums[i][2][h * 2], *up1 = &sums[i][3][h * 2];
      store_halves(gate_up + 2 * at, column, width, row < m, wide, gate0, gate1);
      store_halves(gate_up + 2 * at + width, column, width, row < m, wide, up0, up1);
      float x[2], y[2];
      for (int e = 0; e < 2; e++) {
        x[e] = gate0[e] * sigmoid(gate0[e]) * up0[e];
        y[e] = gate1[e] * sigmoid(gate1[e]) * up1[e];
      }
      store_halves(out + at, column, width, row < m, wide, x, y);
    }
}

// pack copies a matrix of rows rows, floats or halves, to halves whose rows are stride apart.
KERNEL(256, 4, pack, uint16 *dst, const void *src, int rows, int width, int64 stride, int flags) {
  int row = block_x(), i = block_y() * threads() + thread();
  if (i >= width) return;
  float x[1];
  load(x, src, flags & HALF_B, (int64)row * width + i);
  store(dst, true, row * stride + i, x);
}

// gemm_float multiplies floats: each output is one chain of fused multiply-adds over k, as
// kernels.Device.MatMul says, so it has the CPU's bits. a has row stride a_row and column stride
// a_col, one of them 1, and so has b. A thread has 8×8 of a block's 128×128 outputs.
KERNEL(256, 1, gemm_float, float *c, const float *add, const float *a, int64 a_row, int64 a_col, const float *b, int64 b_row, int64 b_col, int m,
       int n, int k) {
  constexpr int STEP = 8, PITCH = TILE + 4;  // the pitch puts neighbours along k into other banks
  SHARED(float, sa, STEP * PITCH);
  SHARED(float, sb, STEP * PITCH);
  int tiles_m = (m + TILE - 1) / TILE, tiles_n = (n + TILE - 1) / TILE, tile_m, tile_n;
  block_tile(tiles_m, tiles_n, tile_m, tile_n);
  int m0 = tile_m * TILE, n0 = tile_n * TILE, ty = thread() / 16, tx = thread() % 16;
  float sums[8][8] = {};
  for (int k0 = 0; k0 < k; k0 += STEP) {
#pragma unroll
    for (int turn = 0; turn < TILE * STEP / 256; turn++) {
      int i = turn * 256 + thread(), r = a_col == 1 ? i / STEP : i % TILE, p = a_col == 1 ? i % STEP : i / TILE;
      sa[p * PITCH + r] = m0 + r < m && k0 + p < k ? a[(m0 + r) * a_row + (k0 + p) * a_col] : 0;
      r = b_row == 1 ? i / STEP : i % TILE;
      p = b_row == 1 ? i % STEP : i / TILE;
      sb[p * PITCH + r] = n0 + r < n && k0 + p < k ? b[(k0 + p) * b_row + (n0 + r) * b_col] : 0;
    }
    block_sync();
    int depth = k - k0 < STEP ? k - k0 : STEP;  // zeros beyond would turn −0 into 0
    for (int p = 0; p < depth; p++) {
      float x[8], y[8];
#pragma unroll
      for (int i = 0; i < 8; i++) {
        x[i] = sa[p * PITCH + ty * 8 + i];
        y[i] = sb[p * PITCH + tx * 4 + i % 4 + i / 4 * 64];
      }
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sums[i][j] = fused(x[i], y[j], sums[i][j]);
    }
    block_sync();
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
#pragma unroll
    for (int j = 0; j < 8; j++) {
      int row = m0 + ty * 8 + i, column = n0 + tx * 4 + j % 4 + j / 4 * 64;
      int64 at = (int64)row * n + column;
      if (row < m && column < n) c[at] = add ? sums[i][j] + add[at] : sums[i][j];
    }
}
