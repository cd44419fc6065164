//go:build cuda && linux && amd64

package driver

// #include <cuda.h>
// #include <time.h>
//
// static long long now_us(void) {
// 	struct timespec t;
// 	clock_gettime(CLOCK_MONOTONIC, &t);
// 	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
// }
//
// // Asks until there is an answer other than CUDA_ERROR_NOT_READY or limit_us have passed:
// // at first without a pause, for what is short, then resting the core in between.
// static CUresult wait(CUstream stream, CUevent event, long long limit_us) {
// 	long long start = now_us();
// 	for (;;) {
// 		CUresult r = event ? cuEventQuery(event) : cuStreamQuery(stream);
// 		long long passed = now_us() - start;
// 		if (r != CUDA_ERROR_NOT_READY || passed > limit_us)
// 			return r;
// 		if (passed > 200) {
// 			struct timespec pause = {0, 20000};
// 			nanosleep(&pause, 0);
// 		}
// 	}
// }
import "C"

import (
	"time"
	"unsafe"

	"gorgonia.org/cu"
)

// This file holds what cu lacks, on cu's own handles, each of which is a struct of one
// C pointer.

// code is a CUresult that is no success.
type code int

func (c code) Error() string { return errorText(int(c)) }

const notReady = code(C.CUDA_ERROR_NOT_READY)

func check(r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	return code(r)
}

// errorText is what the driver says that a code means.
func errorText(code int) string {
	var text *C.char
	if C.cuGetErrorString(C.CUresult(code), &text) != C.CUDA_SUCCESS || text == nil {
		return "unknown error"
	}
	return C.GoString(text)
}

// hostAlloc pins host memory, for every device.
func hostAlloc(bytes int) (unsafe.Pointer, error) {
	var p unsafe.Pointer
	err := check(C.cuMemHostAlloc(&p, C.size_t(bytes), C.CU_MEMHOSTALLOC_PORTABLE))
	return p, err
}

// setDynamicShared lets a kernel be launched with more than 48 KiB of shared memory.
func setDynamicShared(f cu.Function, bytes int) error {
	return check(C.cuFuncSetAttribute(*(*C.CUfunction)(unsafe.Pointer(&f)), C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)))
}

func waitStream(s cu.Stream, limit time.Duration) error {
	return check(C.wait(stream(s), nil, C.longlong(limit.Microseconds())))
}

func waitEvent(e cu.Event, limit time.Duration) error {
	return check(C.wait(nil, *(*C.CUevent)(unsafe.Pointer(&e)), C.longlong(limit.Microseconds())))
}
