// What the lanes of a warp do together.
#include "fibers.h"

namespace emulator {

void run_nothing(void **) {}

void run_exchange(void **lanes) {
  for (int i = 0; i < 32; i++) {
    auto *e = static_cast<Exchange *>(lanes[i]);
    e->result = static_cast<Exchange *>(lanes[e->lane & 31])->v;
  }
}

void run_vote(void **lanes) {
  bool any = false;
  for (int i = 0; i < 32; i++) any |= static_cast<Vote *>(lanes[i])->v;
  for (int i = 0; i < 32; i++) static_cast<Vote *>(lanes[i])->result = any;
}

static const uint16_t *row_of(void **lanes, int i) {
  return static_cast<const uint16_t *>(static_cast<Matrices *>(lanes[i])->row);
}

// count_conflicts adds the extra cycles of reading one matrix: its rows should lie in eight
// different 16-byte columns of the 128 that memory gives in a cycle.
static void count_conflicts(void **lanes, int matrix) {
  int rows[8] = {}, most = 0;
  for (int r = 0; r < 8; r++) {
    uintptr_t a = (uintptr_t)row_of(lanes, matrix * 8 + r);
    if (a % 16) fail("a row of a matrix is not aligned to 16 bytes");
    int &n = rows[a / 16 % 8];
    if (++n > most) most = n;
  }
  conflicts += most - 1;
  matrix_loads++;
}

static void run_load(void **lanes, bool transposed) {
  uint32_t d[32][4];
  for (int m = 0; m < 4; m++) {
    count_conflicts(lanes, m);
    for (int l = 0; l < 32; l++) {
      uint16_t low, high;
      if (transposed) {
        low = row_of(lanes, m * 8 + l % 4 * 2)[l / 4];
        high = row_of(lanes, m * 8 + l % 4 * 2 + 1)[l / 4];
      } else {
        const uint16_t *row = row_of(lanes, m * 8 + l / 4);
        low = row[l % 4 * 2];
        high = row[l % 4 * 2 + 1];
      }
      d[l][m] = low | (uint32_t)high << 16;
    }
  }
  for (int l = 0; l < 32; l++) memcpy(static_cast<Matrices *>(lanes[l])->d, d[l], 16);
}

void run_matrices(void **lanes) { run_load(lanes, false); }
void run_matrices_transposed(void **lanes) { run_load(lanes, true); }

static float half_of(uint32_t word, int high) {
  uint32_t u = high ? word & 0xffff0000 : word << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

void run_product(void **lanes) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; l++) {
    auto *p = static_cast<Product *>(lanes[l]);
    int g = l / 4, t = l % 4;
    for (int h = 0; h < 2; h++) {
      for (int r = 0; r < 4; r++) a[g + r % 2 * 8][2 * t + r / 2 * 8 + h] = half_of(p->a[r], h);
      b[2 * t + h][g] = half_of(p->b0, h);
      b[2 * t + 8 + h][g] = half_of(p->b1, h);
    }
  }
  float d[16][8] = {};
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
  for (int l = 0; l < 32; l++) {
    auto *p = static_cast<Product *>(lanes[l]);
    int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; r++) p->d[r] += d[g + r / 2 * 8][2 * t + r % 2];
  }
}

}  // namespace emulator
