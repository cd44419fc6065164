// The words of src/gpu.h on a CPU: each thread of a block is a fiber, see fibers.cc. What a
// warp does together is computed once, by the lane that comes last, for all of them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulator {

struct Fiber;
extern Fiber *current;
extern int thread_index, block_threads, block_index[3], grid_blocks;
extern unsigned char *dynamic_memory;
extern int bug;  // which of the bugs that a test planted in the sources is there; 0 for none

// A kernel as the stand-in driver finds it. Kernels register themselves.
struct Kernel {
  const char *name;
  int threads_max, parameters;
  void (*call)(void (*)(), void **);
  void (*function)();
  Kernel *next;
};
extern Kernel *kernels;

template <int... I> struct Indices {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { using type = Indices<I...>; };

template <class... A> struct Caller {
  template <int... I> static void spread(void (*f)(), void **p, Indices<I...>) {
    reinterpret_cast<void (*)(A...)>(f)(*static_cast<A *>(p[I])...);
  }
  static void call(void (*f)(), void **p) { spread(f, p, typename Count<sizeof...(A)>::type()); }
};

struct Registered : Kernel {
  template <class... A> Registered(const char *name, int threads, void (*f)(A...))
      : Kernel{name, threads, sizeof...(A), Caller<A...>::call, reinterpret_cast<void (*)()>(f), kernels} {
    static_assert(((sizeof(A) <= 8) && ...), "a kernel's parameters are 8-byte words");
    kernels = this;
  }
};

void block_barrier();
// together waits until all lanes of the warp came here and lets the last run the operation.
void together(void (*run)(void **lanes), void *mine);
void *shared_memory(const void *key, size_t bytes);
void begin_copy(void *shared, const void *global, int bytes);
void commit_copies();
void wait_copies(int under_way);
[[noreturn]] void fail(const char *what);

struct Exchange { uint32_t v; int lane; uint32_t result; };
struct Matrices { const void *row; uint32_t *d; };
struct Vote { bool v, result; };
struct Product { float *d; const uint32_t *a; uint32_t b0, b1; };
void run_exchange(void **lanes);
void run_matrices(void **lanes);
void run_matrices_transposed(void **lanes);
void run_product(void **lanes);
void run_vote(void **lanes);
void run_nothing(void **lanes);

}  // namespace emulator

#define DEVICE static inline
#define KERNEL(threads, blocks, name, ...)                                     \
  static void name(__VA_ARGS__);                                               \
  static emulator::Registered registered_##name(#name, threads, name);         \
  static void name(__VA_ARGS__)
#define SHARED(type, name, count)  \
  static const char key_##name = 0; \
  type *name = static_cast<type *>(emulator::shared_memory(&key_##name, sizeof(type) * (count)))
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(emulator::dynamic_memory)

DEVICE int thread() { return emulator::thread_index; }
DEVICE int threads() { return emulator::block_threads; }
DEVICE int block_x() { return emulator::block_index[0]; }
DEVICE int block_y() { return emulator::block_index[1]; }
DEVICE int block_z() { return emulator::block_index[2]; }
DEVICE int blocks_x() { return emulator::grid_blocks; }
DEVICE void block_sync() { emulator::block_barrier(); }
DEVICE void warp_sync() { emulator::together(emulator::run_nothing, nullptr); }

DEVICE uint32 bits_of(float f) { uint32 u; memcpy(&u, &f, 4); return u; }
DEVICE float float_of(uint32 u) { float f; memcpy(&f, &u, 4); return f; }
DEVICE uint64 bits_of(double f) { uint64 u; memcpy(&u, &f, 8); return u; }
DEVICE double double_of(uint64 u) { double f; memcpy(&f, &u, 8); return f; }

DEVICE uint32 from_lane(uint32 v, int lane) {
  emulator::Exchange e{v, lane, 0};
  emulator::together(emulator::run_exchange, &e);
  return e.result;
}
DEVICE uint32 across(uint32 v, int mask) { return from_lane(v, (thread() & 31) ^ mask); }
DEVICE float across(float v, int mask) { return float_of(across(bits_of(v), mask)); }

DEVICE uint32 swapped(uint32 v) { return __builtin_bswap32(v); }
DEVICE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
DEVICE float root(float x) { return __builtin_sqrtf(x); }
DEVICE float larger(float a, float b) { return __builtin_fmaxf(a, b); }
DEVICE float power2(float x) {
  float y = __builtin_exp2f(x);
  return y < 0x1p-126f ? 0 : y;
}
DEVICE float logarithm2(float x) { return __builtin_log2f(x); }
DEVICE half16 to_half(float f) {
  uint32 u = bits_of(f);
  return half16{(uint16)((u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
DEVICE uint32 both_halves(float low, float high) { return to_half(low).bits | (uint32)to_half(high).bits << 16; }

DEVICE void lower(int *p, int v) {
  if (v < *p) *p = v;
}
DEVICE bool any(bool v) {
  emulator::Vote e{v, false};
  emulator::together(emulator::run_vote, &e);
  return e.result;
}
using address = uint64;
DEVICE address address_of(const void *p) { return reinterpret_cast<address>(p); }
DEVICE void copy16(address shared, const void *global, int bytes) { emulator::begin_copy(reinterpret_cast<void *>(shared), global, bytes); }
DEVICE void copies_commit() { emulator::commit_copies(); }
template <int N> DEVICE void copies_wait() { emulator::wait_copies(N); }
DEVICE void load_matrices(uint32 *d, address row) {
  emulator::Matrices m{reinterpret_cast<const void *>(row), d};
  emulator::together(emulator::run_matrices, &m);
}
DEVICE void load_matrices_transposed(uint32 *d, address row) {
  emulator::Matrices m{reinterpret_cast<const void *>(row), d};
  emulator::together(emulator::run_matrices_transposed, &m);
}
DEVICE void multiply_add(float *d, const uint32 *a, uint32 b0, uint32 b1) {
  emulator::Product p{d, a, b0, b1};
  emulator::together(emulator::run_product, &p);
}
