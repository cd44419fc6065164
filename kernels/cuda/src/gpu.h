// The words in which the kernels are written. Two compilers read them: clang, which makes PTX
// of them and needs no file of NVIDIA's, and a C++ compiler of the host, for which
// emulator/host/cpu.h gives the same words on fibers.
//
// A kernel is KERNEL(threads of a block, blocks at least on a multiprocessor, name, parameters).
// Every parameter is at most 8 bytes: the launcher passes 8-byte words. All 32 lanes of a warp
// must reach every function below that says "warp".
#pragma once

using int64 = long long;
using uint8 = unsigned char;
using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;

struct half16 { uint16 bits; };                        // a bf16 value
// What one load or store moves: 8 and 16 bytes, aligned to as much.
using float2v = float __attribute__((vector_size(8)));
using float4v = float __attribute__((vector_size(16)));
using word2 = uint32 __attribute__((vector_size(8)));
using word4 = uint32 __attribute__((vector_size(16)));

// After the parameters of a lambda: without it one that is called twice would be a call, and what
// it captures would lie in memory.
#define INLINE __attribute__((always_inline))

#ifdef GPU_EMULATED
#include "../emulator/host/cpu.h"
#else

#define DEVICE static __attribute__((device)) __inline__ __attribute__((always_inline))
#define KERNEL(threads, blocks, name, ...) \
  extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, blocks))) void name(__VA_ARGS__)
#define SHARED(type, name, count) static __attribute__((shared)) type name[count]
// The block's memory whose size the launch says, aligned to 16 bytes.
#define DYNAMIC_SHARED(type, name) type *name = (type *)dynamic_shared
extern __attribute__((shared)) __attribute__((aligned(16))) unsigned char dynamic_shared[];

DEVICE int thread() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE int threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE int block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE int block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
DEVICE int block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
DEVICE int blocks_x() { return __nvvm_read_ptx_sreg_nctaid_x(); }

// block_sync waits for all threads of the block; warp_sync for those of the warp.
DEVICE void block_sync() { __nvvm_bar_sync(0); }
DEVICE void warp_sync() { __nvvm_bar_warp_sync(0xffffffffu); }

// from_lane returns lane's v, across returns that of lane xor mask. Warp.
DEVICE uint32 from_lane(uint32 v, int lane) { return __nvvm_shfl_sync_idx_i32(0xffffffffu, v, lane, 31); }
DEVICE float across(float v, int mask) { return __nvvm_shfl_sync_bfly_f32(0xffffffffu, v, mask, 31); }
DEVICE uint32 across(uint32 v, int mask) { return __nvvm_shfl_sync_bfly_i32(0xffffffffu, v, mask, 31); }

DEVICE uint32 bits_of(float f) { return __builtin_bit_cast(uint32, f); }
DEVICE float float_of(uint32 u) { return __builtin_bit_cast(float, u); }
DEVICE uint64 bits_of(double f) { return __builtin_bit_cast(uint64, f); }
DEVICE double double_of(uint64 u) { return __builtin_bit_cast(double, u); }

// swapped is v with its bytes in the other order.
DEVICE uint32 swapped(uint32 v) { return __nvvm_prmt(v, 0, 0x0123); }

DEVICE float fused(float a, float b, float c) { return __nvvm_fma_rn_f(a, b, c); }
DEVICE double fused(double a, double b, double c) { return __nvvm_fma_rn_d(a, b, c); }
DEVICE float root(float x) { return __nvvm_sqrt_rn_f(x); }
DEVICE float larger(float a, float b) { return __nvvm_fmax_f(a, b); }
// power2 is 2^x within 2 ulp, subnormal results as 0.
DEVICE float power2(float x) { return __nvvm_ex2_approx_ftz_f(x); }
// logarithm2 is log₂ x, off by 2⁻²² at most.
DEVICE float logarithm2(float x) { return __nvvm_lg2_approx_ftz_f(x); }

// to_half rounds to nearest even; both_halves puts low into the lower half of a word.
DEVICE half16 to_half(float f) {
  half16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h.bits) : "f"(f));
  return h;
}
DEVICE uint32 both_halves(float low, float high) {
  uint32 w;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
  return w;
}

// lower sets *p to v where that is less, also while other threads do.
DEVICE void lower(int *p, int v) { asm volatile("red.global.min.s32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }

// any says whether one lane's v is true. Warp.
DEVICE bool any(bool v) { return __nvvm_vote_any_sync(0xffffffffu, v); }

// An address is one in shared memory, in bytes: what is computed with it costs half of what a
// pointer does, and is not converted at every use.
using address = uint32;
DEVICE address address_of(const void *p) {
  address a;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(p));
  return a;
}
// copy16 begins to copy bytes (0 to 16) to shared memory and fills up with zeros: both ends
// aligned to 16; of no bytes the source is not looked at. What was begun since the last copies_commit is one group; copies_wait<N>
// waits until at most N of this thread's groups are under way. Other threads see the values
// after a block_sync besides.
DEVICE void copy16(address shared, const void *global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes) : "memory");
}
DEVICE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// load_matrices loads four 8×8 matrices of halves, the rows of matrix i at the addresses of
// lanes 8i to 8i+7: lane l gets row l/4, columns 2(l%4) and the next; with the other, which
// transposes, rows 2(l%4) and the next of column l/4. Warp.
DEVICE void load_matrices(uint32 *d, address row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(row) : "memory");
}
DEVICE void load_matrices_transposed(uint32 *d, address row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(row) : "memory");
}
// multiply_add adds to d (16,8) the product of a (16,16) and b (16,8), halves, in the layout
// of mma.m16n8k16: with g = lane/4 and t = lane%4, d holds rows g, g, g+8, g+8 of columns 2t,
// 2t+1; a rows g, g+8, g, g+8 of columns 2t (twice), 2t+8 (twice) and the next; b rows 2t and
// 2t+8 and the next of column g. Warp.
DEVICE void multiply_add(float *d, const uint32 *a, uint32 b0, uint32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
