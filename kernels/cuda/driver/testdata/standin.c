// A stand-in for the driver: three devices, whose memory is the host's, and two kernels.
// Device 2 is too old; a launch of the kernel "fault" loses its device until the context is made anew.
// -DINIT=n makes cuInit answer n, -DVERSION=n is the driver's CUDA.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#ifndef INIT
#define INIT 0
#endif
#ifndef VERSION
#define VERSION 12040
#endif

typedef unsigned long long word;
typedef struct { int ordinal, lost, holders; size_t used; } context;
typedef struct { char name[16]; } function;
typedef struct { function f; word args[24]; int n; } launch;
typedef struct { launch calls[16]; int n; } graph;
typedef struct { context *c; graph *capture; } stream;

#define TOTAL (64u << 20)

static context contexts[3] = {{0}, {1}, {2}};
static __thread context *current;
static struct { word p; size_t n; } blocks[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define ALIVE if (!current) return 201; if (current->lost) return 719

int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
int cuGetErrorString(int code, const char **s) {
	*s = code == 2 ? "out of memory" : code == 719 ? "unspecified launch failure" : code == 218 ? "a PTX JIT compilation failed" : 0;
	return *s ? 0 : 1;
}
int cuDeviceGetCount(int *n) { *n = 3; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return i < 0 || i > 2 ? 101 : 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 2 ? "Old" : "Stand-in", n); return 0; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = TOTAL; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? (d == 2 ? 7 : 9) : a == 76 ? 0 : a == 16 ? 4 : a == 97 ? 100 << 10 : 0; return 0; }
int cuDeviceCanAccessPeer(int *can, int a, int b) { *can = 1; return 0; }
int cuCtxEnablePeerAccess(context *c, unsigned flags) { ALIVE; return c == current ? 101 : 0; }
int cuDevicePrimaryCtxRetain(context **c, int d) { *c = &contexts[d]; if (!(*c)->holders++) (*c)->lost = 0; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { contexts[d].holders--; return 0; }
int cuCtxSetCurrent(context *c) { current = c; return 0; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { ALIVE; *t = TOTAL; *f = TOTAL - current->used; return 0; }
static int take(word *p, size_t n) {
	if (n > TOTAL - current->used) return 2;
	for (int i = 0; i < 64; i++)
		if (!blocks[i].p) {
			current->used += n;
			*p = blocks[i].p = (word)aligned_alloc(256, (n + 255) & ~255ul);
			blocks[i].n = n;
			return 0;
		}
	return 2;
}
static int give(word p) {
	for (int i = 0; i < 64; i++)
		if (p && blocks[i].p == p) {
			current->used -= blocks[i].n;
			blocks[i].p = 0;
			free((void *)p);
			return 0;
		}
	return 1;
}
int cuMemAlloc_v2(word *p, size_t n) {
	ALIVE;
	pthread_mutex_lock(&lock);
	int r = take(p, n);
	pthread_mutex_unlock(&lock);
	return r;
}
int cuMemFree_v2(word p) {
	ALIVE;
	pthread_mutex_lock(&lock);
	int r = give(p);
	pthread_mutex_unlock(&lock);
	return r;
}
int cuMemHostAlloc(void **p, size_t n, unsigned flags) { ALIVE; *p = malloc(n); return 0; }
int cuMemFreeHost(void *p) { ALIVE; free(p); return 0; }
int cuMemcpyHtoDAsync_v2(word d, const void *s, size_t n, stream *st) { ALIVE; memcpy((void *)d, s, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *d, word s, size_t n, stream *st) { ALIVE; memcpy(d, (void *)s, n); return 0; }
int cuMemcpyDtoDAsync_v2(word d, word s, size_t n, stream *st) { ALIVE; memcpy((void *)d, (void *)s, n); return 0; }
int cuMemcpyPeerAsync(word d, context *dc, word s, context *sc, size_t n, stream *st) { ALIVE; memcpy((void *)d, (void *)s, n); return dc == sc; }
int cuMemsetD8Async(word d, unsigned char v, size_t n, stream *st) { ALIVE; memset((void *)d, v, n); return 0; }
int cuStreamCreate(stream **s, unsigned flags) { ALIVE; *s = calloc(1, sizeof **s); (*s)->c = current; return 0; }
int cuStreamDestroy_v2(stream *s) { ALIVE; free(s); return 0; }
int cuStreamQuery(stream *s) { ALIVE; return s->capture ? 900 : 0; }
int cuStreamWaitEvent(stream *s, void *e, unsigned flags) { ALIVE; return 0; }
int cuEventCreate(void **e, unsigned flags) { ALIVE; *e = malloc(1); return 0; }
int cuEventDestroy_v2(void *e) { ALIVE; free(e); return 0; }
int cuEventRecord(void *e, stream *s) { ALIVE; return 0; }
int cuEventQuery(void *e) { ALIVE; return 0; }
int cuEventElapsedTime(float *ms, void *a, void *b) { ALIVE; *ms = 1.5f; return 0; }
int cuModuleLoadDataEx(void **m, const char *ptx, unsigned n, int *options, void **values) {
	ALIVE;
	if (!strstr(ptx, ".version")) {
		for (unsigned i = 0; i < n; i++)
			if (options[i] == 5) strcpy(values[i], "line 1: fatal: no .version\n");
		return 218;
	}
	*m = malloc(1);
	return 0;
}
int cuModuleUnload(void *m) { ALIVE; free(m); return 0; }
int cuModuleGetFunction(function **f, void *m, const char *name) {
	static function add = {"add"}, fault = {"fault"};
	ALIVE;
	*f = !strcmp(name, "add") ? &add : !strcmp(name, "fault") ? &fault : 0;
	return *f ? 0 : 500;
}
int cuFuncSetAttribute(function *f, int a, int v) { ALIVE; return a == 8 && v <= 100 << 10 ? 0 : 1; }
// add(float *x, long n, float y): x[i] += y
static int run(function *f, const word *args) {
	if (!strcmp(f->name, "fault")) { current->lost = 1; return 719; }
	float *x = (float *)args[0], y;
	memcpy(&y, &args[2], 4);
	for (word i = 0; i < args[1]; i++) x[i] += y;
	return 0;
}
int cuLaunchKernel(function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, stream *s, void **params, void **extra) {
	ALIVE;
	launch l = {*f};
	for (int i = 0; i < 3; i++) l.args[i] = *(word *)params[i];
	if (!s->capture) return run(f, l.args);
	s->capture->calls[s->capture->n++] = l;
	return 0;
}
int cuStreamBeginCapture_v2(stream *s, int mode) { ALIVE; s->capture = calloc(1, sizeof(graph)); return 0; }
int cuStreamEndCapture(stream *s, graph **g) { ALIVE; *g = s->capture; s->capture = 0; return 0; }
int cuGraphInstantiateWithFlags(graph **exec, graph *g, word flags) { ALIVE; *exec = malloc(sizeof *g); **exec = *g; return 0; }
int cuGraphDestroy(graph *g) { ALIVE; free(g); return 0; }
int cuGraphExecDestroy(graph *g) { ALIVE; free(g); return 0; }
int cuGraphLaunch(graph *g, stream *s) {
	ALIVE;
	for (int i = 0; i < g->n; i++) {
		int r = run(&g->calls[i].f, g->calls[i].args);
		if (r) return r;
	}
	return 0;
}
