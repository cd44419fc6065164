// A stand-in for libcuda.so.1: the calls of the driver that package driver makes, on the
// kernels of src/kernels.cu compiled for the CPU. Device memory is the host's; what a stream is
// given happens when streams.h says, and what it records for a graph when the graph is launched.
// EMULATOR_SCHEDULE orders warps, lanes and streams: 1 ascending and at once, 2 descending and as
// late as can be, more shuffles them.
//
// It keeps the PTX of a module and finds only kernels that the PTX has, with as many parameters
// as the C++ has.
#include "fibers.h"
#include "streams.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "../../src/kernels.cu"

using emulator::Event, emulator::Result, emulator::Stream;
using Address = unsigned long long;
enum : Result {
  success = 0, invalid_value = 1, out_of_memory = 2, no_device = 100, invalid_device = 101, invalid_image = 200, invalid_context = 201,
  invalid_ptx = 218, not_found = 500, launch_failed = 719
};

namespace {

constexpr int devices = 2;
constexpr size_t memory_bytes = (size_t)4 << 30;  // of each device
constexpr int shared_max = 99 << 10;              // of a block: that of an RTX 30

struct Context { int device; size_t used; };
struct Allocation { size_t bytes; int device; };
struct Module { std::string ptx; };
struct Function { const emulator::Kernel *kernel; int dynamic_max = 48 << 10; };
struct Graph { std::vector<std::function<Result()>> work; };

// held is what other programs hold of each device: EMULATOR_HELD, and EMULATOR_GRABBED, which they
// take after everybody asked how much is free.
size_t held(bool grabbed) {
  auto bytes = [](const char *name) { return getenv(name) ? (size_t)atoll(getenv(name)) : 0; };
  return bytes("EMULATOR_HELD") + (grabbed ? bytes("EMULATOR_GRABBED") : 0);
}

Context contexts[devices] = {{0, 0}, {1, 0}};
thread_local Context *current_context;
std::mutex one_at_a_time;
std::vector<std::pair<Address, Allocation>> allocations;

std::vector<std::pair<unsigned char *, size_t>> pinned;

// Lost answers for a call where nothing goes any more.
#define UNLESS_LOST                                    \
  std::lock_guard<std::mutex> lock(one_at_a_time);     \
  if (emulator::lost) return emulator::lost;           \
  if (!current_context) return invalid_context

// submit gives a stream a copy or a kernel. What goes wrong in it is heard by a later call, if
// it did not happen at once.
Result submit(void *stream, std::function<Result()> work) {
  UNLESS_LOST;
  auto *s = static_cast<Stream *>(stream);
  if (s && s->recording) {
    s->graph.push_back(std::move(work));
    return success;
  }
  // EMULATOR_LOSE=n loses the devices after n copies and kernels, for good.
  static long left = getenv("EMULATOR_LOSE") ? atol(getenv("EMULATOR_LOSE")) : -1;
  if (left == 0) emulator::lost = launch_failed;
  if (left > 0) left--;
  emulator::give(s, std::move(work));
  return emulator::lost;
}

bool is_pinned(const void *p) {
  for (auto &[at, bytes] : pinned)
    if (p >= at && p < at + bytes) return true;
  return false;
}

// parameters_in counts those of an entry of the PTX; -1 if there is none.
int parameters_in(const std::string &ptx, const std::string &name) {
  size_t at = ptx.find(".entry " + name + "(");
  if (at == std::string::npos) return -1;
  size_t end = ptx.find(')', at);
  int n = 0;
  for (size_t i = ptx.find(".param", at); i < end; i = ptx.find(".param", i + 1)) n++;
  return n;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) Result

API cuInit(unsigned) {
  if (const char *s = getenv("EMULATOR_SCHEDULE")) emulator::schedule = atoi(s);
  if (const char *s = getenv("EMULATOR_BUG")) emulator::bug = atoi(s);
  return success;
}
API cuDriverGetVersion(int *v) { *v = 12040; return success; }
API cuGetErrorString(Result r, const char **s) {
  *s = r == launch_failed ? emulator::failure.c_str() : r == out_of_memory ? "out of memory" : r == not_found ? "named symbol not found"
       : r == invalid_value ? "invalid argument" : "error of the stand-in driver";
  return success;
}
API cuDeviceGetCount(int *n) { *n = devices; return success; }
API cuDeviceGet(int *d, int i) { *d = i; return i < 0 || i >= devices ? invalid_device : success; }
API cuDeviceGetName(char *s, int n, int) { snprintf(s, n, "CPU emulation"); return success; }
API cuDeviceTotalMem_v2(size_t *n, int) { *n = memory_bytes; return success; }
API cuDeviceGetAttribute(int *v, int what, int) {
  switch (what) {
    case 16: *v = 4; break;           // multiprocessors
    case 75: *v = 8; break;           // compute capability
    case 76: *v = 0; break;
    case 97: *v = shared_max; break;
    default: *v = 0;
  }
  return success;
}
API cuDeviceCanAccessPeer(int *can, int, int) { *can = 1; return success; }
API cuCtxEnablePeerAccess(void *, unsigned) { return success; }
API cuDevicePrimaryCtxRetain(void **c, int d) {
  if (d < 0 || d >= devices) return invalid_device;
  *c = &contexts[d];
  return success;
}
// With EMULATOR_REPORT=FILE the end of a device writes there how many extra cycles matrices took
// to come out of shared memory, and how many matrices came.
API cuDevicePrimaryCtxRelease_v2(int) {
  if (const char *path = getenv("EMULATOR_REPORT"))
    if (FILE *f = fopen(path, "w")) {
      fprintf(f, "%ld %ld\n", emulator::conflicts, emulator::matrix_loads);
      fclose(f);
    }
  return success;
}
API cuCtxSetCurrent(void *c) { current_context = static_cast<Context *>(c); return success; }
API cuCtxGetCurrent(void **c) { *c = current_context; return success; }
API cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  if (!current_context) return invalid_context;
  *total = memory_bytes;
  *free_bytes = memory_bytes - held(false) - current_context->used;
  return success;
}

API cuMemAlloc_v2(Address *p, size_t n) {
  UNLESS_LOST;
  if (n == 0) return invalid_value;
  if (n + current_context->used + held(true) > memory_bytes) return out_of_memory;
  void *memory;
  if (posix_memalign(&memory, 256, n)) return out_of_memory;
  memset(memory, 0xff, n);
  current_context->used += n;
  allocations.push_back({(Address)memory, {n, current_context->device}});
  *p = (Address)memory;
  return success;
}
API cuMemFree_v2(Address p) {
  UNLESS_LOST;
  emulator::finish_all();
  for (size_t i = 0; i < allocations.size(); i++)
    if (allocations[i].first == p) {
      contexts[allocations[i].second.device].used -= allocations[i].second.bytes;
      allocations.erase(allocations.begin() + i);
      free((void *)p);
      return success;
    }
  return invalid_value;
}
API cuMemHostAlloc(void **p, size_t n, unsigned) {
  UNLESS_LOST;
  if (posix_memalign(p, 4096, n)) return out_of_memory;
  pinned.push_back({static_cast<unsigned char *>(*p), n});
  return success;
}
API cuMemFreeHost(void *p) {
  UNLESS_LOST;
  emulator::finish_all();
  if (!std::erase_if(pinned, [=](auto &a) { return a.first == p; })) return invalid_value;
  free(p);
  return success;
}

API cuStreamSynchronize(void *s);

static Result copy(void *to, const void *from, size_t n, void *stream) {
  return submit(stream, [=] { memmove(to, from, n); return success; });
}
// Memory that is not pinned is read before the call returns, and written before.
API cuMemcpyHtoDAsync_v2(Address d, const void *s, size_t n, void *stream) {
  if (is_pinned(s)) return copy((void *)d, s, n, stream);
  auto *bytes = static_cast<const unsigned char *>(s);
  return submit(stream, [d, all = std::vector<unsigned char>(bytes, bytes + n)] { memcpy((void *)d, all.data(), all.size()); return success; });
}
API cuMemcpyDtoHAsync_v2(void *d, Address s, size_t n, void *stream) {
  Result r = copy(d, (void *)s, n, stream);
  if (!r && !is_pinned(d)) return cuStreamSynchronize(stream);
  return r;
}
API cuMemcpyDtoDAsync_v2(Address d, Address s, size_t n, void *stream) { return copy((void *)d, (void *)s, n, stream); }
API cuMemcpyPeerAsync(Address d, void *, Address s, void *, size_t n, void *stream) { return copy((void *)d, (void *)s, n, stream); }
API cuMemsetD8Async(Address d, unsigned char v, size_t n, void *stream) {
  return submit(stream, [=] { memset((void *)d, v, n); return success; });
}

API cuStreamCreate(void **s, unsigned) {
  UNLESS_LOST;
  *s = emulator::open_stream();
  return success;
}
API cuStreamDestroy_v2(void *s) {
  UNLESS_LOST;
  emulator::close_stream(static_cast<Stream *>(s));
  return success;
}
API cuStreamSynchronize(void *s) {
  UNLESS_LOST;
  emulator::finish(static_cast<Stream *>(s));
  return emulator::lost;
}
API cuStreamQuery(void *s) { return cuStreamSynchronize(s); }
API cuStreamWaitEvent(void *s, void *e, unsigned) {
  UNLESS_LOST;
  emulator::wait_for(static_cast<Stream *>(s), static_cast<Event *>(e));
  return success;
}
API cuEventCreate(void **e, unsigned) {
  UNLESS_LOST;
  *e = new Event;
  return success;
}
API cuEventDestroy_v2(void *e) {
  UNLESS_LOST;
  emulator::finish_all();
  delete static_cast<Event *>(e);
  return success;
}
API cuEventRecord(void *e, void *s) {
  UNLESS_LOST;
  emulator::record(static_cast<Event *>(e), static_cast<Stream *>(s));
  return success;
}
API cuEventSynchronize(void *e) {
  UNLESS_LOST;
  emulator::finish(static_cast<Event *>(e));
  return emulator::lost;
}
API cuEventQuery(void *e) { return cuEventSynchronize(e); }
API cuEventElapsedTime(float *ms, void *, void *) { *ms = 0; return success; }
API cuEventElapsedTime_v2(float *ms, void *, void *) { *ms = 0; return success; }

API cuModuleLoadDataEx(void **m, const void *image, unsigned, int *, void **) {
  std::string ptx = static_cast<const char *>(image);
  if (ptx.find(".version") == std::string::npos || ptx.find(".target sm_80") == std::string::npos) return invalid_ptx;
  *m = new Module{ptx};
  return success;
}
API cuModuleUnload(void *m) {
  UNLESS_LOST;
  emulator::finish_all();
  delete static_cast<Module *>(m);
  return success;
}
API cuModuleGetFunction(void **f, void *m, const char *name) {
  int parameters = parameters_in(static_cast<Module *>(m)->ptx, name);
  for (auto *k = emulator::kernels; k; k = k->next)
    if (!strcmp(k->name, name)) {
      if (parameters != k->parameters) return parameters < 0 ? not_found : invalid_image;
      *f = new Function{k};
      return success;
    }
  return not_found;
}
API cuFuncSetAttribute(void *f, int what, int value) {
  if (what != 8 || value > shared_max) return invalid_value;
  static_cast<Function *>(f)->dynamic_max = value;
  return success;
}

API cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
                   void **params, void **) {
  auto *f = static_cast<Function *>(function);
  const emulator::Kernel *k = f->kernel;
  if (!x || !y || !z || x > 0x7fffffff || y > 65535 || z > 65535) return invalid_value;
  if (!bx || bx % 32 || (int)bx > k->threads_max || by != 1 || bz != 1) return invalid_value;
  if ((int)shared > f->dynamic_max) return invalid_value;
  std::vector<uint64_t> words(k->parameters);
  for (int i = 0; i < k->parameters; i++) memcpy(&words[i], params[i], 8);
  return submit(stream, [=]() mutable {
    std::vector<void *> args;
    for (auto &w : words) args.push_back(&w);
    int grid[3] = {(int)x, (int)y, (int)z};
    return emulator::run(*k, grid, (int)bx, (int)shared, args.data()) ? success : (Result)launch_failed;
  });
}

API cuStreamBeginCapture_v2(void *s, int) {
  auto *stream = static_cast<Stream *>(s);
  stream->recording = true;
  stream->graph.clear();
  return success;
}
API cuStreamEndCapture(void *s, void **graph) {
  auto *stream = static_cast<Stream *>(s);
  stream->recording = false;
  *graph = new Graph{std::move(stream->graph)};
  stream->graph.clear();
  return success;
}
API cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long) {
  *exec = new Graph(*static_cast<Graph *>(graph));
  return success;
}
API cuGraphDestroy(void *g) { delete static_cast<Graph *>(g); return success; }
API cuGraphExecDestroy(void *g) { delete static_cast<Graph *>(g); return success; }
API cuGraphLaunch(void *g, void *stream) {
  for (auto &w : static_cast<Graph *>(g)->work)
    if (Result r = submit(stream, w)) return r;
  return success;
}
