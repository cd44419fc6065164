/* Six functions that gorgonia.org/cu v0.9.6 calls are mapped to newer ones by the headers of
 * CUDA 13: five have another signature, and cuEventElapsedTime_v2 is missing in drivers
 * before CUDA 12.8. Every driver has the older ones; this header, found before the
 * toolkit's own, gives cu their prototypes. With older toolkits it adds nothing. */
#pragma once
#include_next <cuda.h>

#if CUDA_VERSION >= 13000
#undef cuCtxCreate
#undef cuMemAdvise
#undef cuMemPrefetchAsync
#undef cuGraphAddDependencies
#undef cuGraphGetEdges
#undef cuEventElapsedTime

CUresult cuCtxCreate_v2(CUcontext *, unsigned int, CUdevice);
CUresult loco_mem_advise(CUdeviceptr, size_t, CUmem_advise, CUdevice) __asm__("cuMemAdvise");
CUresult loco_mem_prefetch(CUdeviceptr, size_t, CUdevice, CUstream) __asm__("cuMemPrefetchAsync");
CUresult loco_add_edges(CUgraph, const CUgraphNode *, const CUgraphNode *, size_t) __asm__("cuGraphAddDependencies");
CUresult loco_get_edges(CUgraph, CUgraphNode *, CUgraphNode *, size_t *) __asm__("cuGraphGetEdges");
CUresult loco_elapsed(float *, CUevent, CUevent) __asm__("cuEventElapsedTime");

#define cuCtxCreate cuCtxCreate_v2
#define cuMemAdvise loco_mem_advise
#define cuMemPrefetchAsync loco_mem_prefetch
#define cuGraphAddDependencies loco_add_edges
#define cuGraphGetEdges loco_get_edges
#define cuEventElapsedTime loco_elapsed
#endif
