// Runs a block's threads as fibers of one thread of the host. A fiber runs until a barrier of
// the block, an operation of its warp, or its end.
//
// One warp at a time runs until all its threads wait for the block: a warp that a missing
// barrier lets run ahead reads what the others have not written, in one order of the warps or
// in the other, so a schedule is an order, and tests run at least two.
#include "fibers.h"

#include <cstdio>
#include <deque>
#include <map>
#include <vector>

namespace emulator {

enum class State { ready, block, warp, done };

struct Copy { void *to; const void *from; int bytes; };

struct Fiber {
  void *stack_pointer;
  int index;
  State state;
  std::deque<std::vector<Copy>> groups;  // the last is not committed
};

struct Warp {
  void *lanes[32];
  void (*run)(void **);
  int arrived;
};

Fiber *current;
int thread_index, block_threads, block_index[3], grid_blocks;
unsigned char *dynamic_memory;
Kernel *kernels;
int schedule = 1, bug;
long conflicts, matrix_loads;
std::string failure;

static constexpr size_t stack_bytes = 64 << 10;
static std::vector<unsigned char> stacks;
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static std::map<const void *, unsigned char *> statics;
static void *scheduler;
static const Kernel *kernel;
static void **arguments;

// Stack switching, System V ABI: what a function must preserve goes on the stack.
extern "C" void emulator_switch(void **save, void *to);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

static void leave(State why) {
  current->state = why;
  emulator_switch(&current->stack_pointer, scheduler);
}

static void enter(Fiber &f) {
  current = &f;
  thread_index = f.index;
  emulator_switch(&scheduler, f.stack_pointer);
}

static void begin() {
  kernel->call(kernel->function, arguments);
  wait_copies(0);
  leave(State::done);
  abort();
}

void block_barrier() { leave(State::block); }

// A failure ends the kernel where it stands: its fibers are never resumed.
void fail(const char *what) {
  if (failure.empty())
    failure = std::string(kernel->name) + ": thread " + std::to_string(thread_index) + ": " + what;
  leave(State::done);
  abort();
}

void together(void (*run)(void **), void *mine) {
  Warp &w = warps[thread_index / 32];
  if (w.arrived == 0) w.run = run;
  if (w.run != run) fail("the lanes of a warp meet in different operations");
  w.lanes[thread_index % 32] = mine;
  if (++w.arrived < 32) {
    leave(State::warp);
    return;
  }
  run(w.lanes);
  w.arrived = 0;
  int first = thread_index / 32 * 32;
  for (int i = first; i < first + 32; i++)
    if (&fibers[i] != current) fibers[i].state = State::ready;
}

void *shared_memory(const void *key, size_t bytes) {
  unsigned char *&p = statics[key];
  if (!p) {
    p = static_cast<unsigned char *>(aligned_alloc(16, (bytes + 15) / 16 * 16));
    memset(p, 0xff, bytes);  // NaNs: what is read before it is written shows
  }
  return p;
}

// Copies happen when they are waited for, the last moment at which a GPU may do them.
void begin_copy(void *shared, const void *global, int bytes) {
  if ((uintptr_t)shared % 16 || (uintptr_t)global % 16) fail("a 16-byte copy is not aligned");
  if (bytes < 0 || bytes > 16) fail("a 16-byte copy of another size");
  if (current->groups.empty()) current->groups.emplace_back();
  current->groups.back().push_back({shared, global, bytes});
}

void commit_copies() { current->groups.emplace_back(); }

void wait_copies(int under_way) {
  while ((int)current->groups.size() > under_way + 1) {
    for (const Copy &c : current->groups.front()) {
      memcpy(c.to, c.from, c.bytes);
      memset(static_cast<unsigned char *>(c.to) + c.bytes, 0, 16 - c.bytes);
    }
    current->groups.pop_front();
  }
}

// order returns 0 to n-1 as the schedule has it: ascending, descending, or shuffled.
static std::vector<int> order(int n) {
  std::vector<int> o(n);
  for (int i = 0; i < n; i++) o[i] = schedule == 2 ? n - 1 - i : i;
  if (schedule > 2) {
    uint32_t s = schedule;
    for (int i = n - 1; i > 0; i--) {
      s = s * 1664525 + 1013904223;
      std::swap(o[i], o[(s >> 8) % (i + 1)]);
    }
  }
  return o;
}

static void prepare() {
  if (stacks.size() < stack_bytes * block_threads) stacks.resize(stack_bytes * block_threads);
  if ((int)fibers.size() < block_threads) fibers.resize(block_threads);
  warps.assign((block_threads + 31) / 32, Warp{});
  for (int i = 0; i < block_threads; i++) {
    uintptr_t top = ((uintptr_t)stacks.data() + stack_bytes * (i + 1)) & ~(uintptr_t)15;
    void **sp = (void **)top;
    *--sp = nullptr;
    *--sp = (void *)begin;
    for (int r = 0; r < 6; r++) *--sp = nullptr;
    fibers[i].stack_pointer = sp;
    fibers[i].index = i;
    fibers[i].state = State::ready;
    fibers[i].groups.clear();
  }
}

// run_warp runs a warp until each of its threads waits for the block or has ended.
static void run_warp(int w, const std::vector<int> &lanes) {
  for (bool again = true; again;) {
    again = false;
    for (int lane : lanes) {
      Fiber &f = fibers[w * 32 + lane];
      if (f.state != State::ready) continue;
      enter(f);
      again = true;
      if (!failure.empty()) return;
    }
  }
  if (warps[w].arrived) failure = std::string(kernel->name) + ": only " + std::to_string(warps[w].arrived) + " lanes of a warp reach its operation";
}

static void run_block(const std::vector<int> &lanes) {
  prepare();
  std::vector<int> in_order = order(block_threads / 32);
  for (;;) {
    for (int w : in_order) {
      run_warp(w, lanes);
      if (!failure.empty()) return;
    }
    int waiting = 0;
    for (int i = 0; i < block_threads; i++) waiting += fibers[i].state == State::block;
    if (waiting == 0) return;
    if (waiting < block_threads) {
      failure = std::string(kernel->name) + ": only " + std::to_string(waiting) + " threads of the block reach its barrier";
      return;
    }
    for (int i = 0; i < block_threads; i++) fibers[i].state = State::ready;
  }
}

bool run(const Kernel &k, const int grid[3], int block, int shared, void **args) {
  failure.clear();
  kernel = &k;
  arguments = args;
  block_threads = block;
  grid_blocks = grid[0];
  std::vector<int> lanes = order(32), xs = order(grid[0]);
  for (int z = 0; z < grid[2]; z++)
    for (int y = 0; y < grid[1]; y++)
      for (int x : xs) {
        block_index[0] = x;
        block_index[1] = y;
        block_index[2] = z;
        void *memory;
        if (posix_memalign(&memory, 128, shared ? shared : 1)) abort();
        dynamic_memory = static_cast<unsigned char *>(memory);
        memset(dynamic_memory, 0xff, shared);
        run_block(lanes);
        free(dynamic_memory);
        for (auto &s : statics) free(s.second);
        statics.clear();
        if (!failure.empty()) return false;
      }
  return true;
}

}  // namespace emulator
