/* Five functions that gorgonia.org/cu v0.9.6 calls have another signature under their plain
 * name from the headers of CUDA 13 on, which map it to a newer function. Every driver still
 * has the older ones; this header, found before the toolkit's own, gives cu their
 * prototypes. With older toolkits it adds nothing. */
#pragma once
#include_next <cuda.h>

#if CUDA_VERSION >= 13000
#undef cuCtxCreate
#undef cuMemAdvise
#undef cuMemPrefetchAsync
#undef cuGraphAddDependencies
#undef cuGraphGetEdges

CUresult cuCtxCreate_v2(CUcontext *, unsigned int, CUdevice);
CUresult loco_mem_advise(CUdeviceptr, size_t, CUmem_advise, CUdevice) __asm__("cuMemAdvise");
CUresult loco_mem_prefetch(CUdeviceptr, size_t, CUdevice, CUstream) __asm__("cuMemPrefetchAsync");
CUresult loco_add_edges(CUgraph, const CUgraphNode *, const CUgraphNode *, size_t) __asm__("cuGraphAddDependencies");
CUresult loco_get_edges(CUgraph, CUgraphNode *, CUgraphNode *, size_t *) __asm__("cuGraphGetEdges");

#define cuCtxCreate cuCtxCreate_v2
#define cuMemAdvise loco_mem_advise
#define cuMemPrefetchAsync loco_mem_prefetch
#define cuGraphAddDependencies loco_add_edges
#define cuGraphGetEdges loco_get_edges
#endif
