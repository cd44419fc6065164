//go:build cuda && linux && amd64

package driver

/*
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
	int (*create)(void **);
	int (*destroy)(void *);
	int (*version)(void *, int *);
	int (*set_stream)(void *, void *);
	int (*set_workspace)(void *, void *, size_t);
	int (*set_math_mode)(void *, int);
	int (*gemm)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int,
		const void *, void *, int, int, int, int);
} blas;

// Returns why the library cannot be used, or null.
static const char *blas_open(blas *b, const char *path) {
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return dlerror();
	b->create = (int (*)(void **))dlsym(lib, "cublasCreate_v2");
	b->destroy = (int (*)(void *))dlsym(lib, "cublasDestroy_v2");
	b->version = (int (*)(void *, int *))dlsym(lib, "cublasGetVersion_v2");
	b->set_stream = (int (*)(void *, void *))dlsym(lib, "cublasSetStream_v2");
	b->set_workspace = (int (*)(void *, void *, size_t))dlsym(lib, "cublasSetWorkspace_v2");
	b->set_math_mode = (int (*)(void *, int))dlsym(lib, "cublasSetMathMode");
	b->gemm = (int (*)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int,
		const void *, void *, int, int, int, int))dlsym(lib, "cublasGemmEx");
	if (b->create && b->destroy && b->version && b->set_stream && b->set_workspace && b->set_math_mode && b->gemm)
		return 0;
	dlclose(lib);
	return "a function is missing";
}

static int blas_create(blas *b, void **h) { return b->create(h); }
static int blas_destroy(blas *b, void *h) { return b->destroy(h); }
static int blas_version(blas *b, void *h, int *v) { return b->version(h, v); }

static int blas_prepare(blas *b, void *h, void *stream, uintptr_t workspace, size_t bytes) {
	const int full_sums = 16; // parts of a product whose k is cut are added in float32, whatever the result is
	int r = b->set_stream(h, stream);
	if (!r)
		r = b->set_math_mode(h, full_sums);
	return r ? r : b->set_workspace(h, (void *)workspace, bytes);
}

static int blas_gemm(blas *b, void *h, int ta, int tb, int m, int n, int k, uintptr_t A, int lda, uintptr_t B, int ldb,
	float beta, uintptr_t C, int ldc, int c_type) {
	const int bf16 = 14, compute_32f = 68, algo = -1; // the same numbers in cuBLAS 11 to 13
	const float alpha = 1;
	return b->gemm(h, ta, tb, m, n, k, &alpha, (void *)A, bf16, lda, (void *)B, bf16, ldb, &beta, (void *)C, c_type, ldc, compute_32f, algo);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"unsafe"
)

// workspaceBytes is what cuBLAS is given to work in: NVIDIA's advice for Hopper. Being
// fixed memory, it lets products be recorded in graphs and keeps their bits the same.
const workspaceBytes = 32 << 20

// Blas multiplies matrices with NVIDIA's cuBLAS, on one stream.
type Blas struct {
	s         *Stream
	lib       C.blas
	handle    unsafe.Pointer
	workspace Ptr
	path      string
	version   int
}

// NewBlas opens cuBLAS for the stream: the library at path, or with "" the newest that the
// driver can run of those on the machine. The error says why there is none.
func (s *Stream) NewBlas(path string) (*Blas, error) {
	paths := []string{path}
	if path == "" {
		paths = blasPaths(s.d.info.Driver / 1000)
	}
	var why []error
	for _, p := range paths {
		b := &Blas{s: s, path: p}
		err := b.open()
		if err == nil {
			return b, nil
		}
		why = append(why, err)
	}
	return nil, fmt.Errorf("cuda: no cuBLAS for %v: %w", s.d, errors.Join(why...))
}

func (b *Blas) open() error {
	name := C.CString(b.path)
	defer C.free(unsafe.Pointer(name))
	if why := C.blas_open(&b.lib, name); why != nil {
		return errors.New(C.GoString(why))
	}
	if err := b.create(); err != nil {
		return err
	}
	workspace, err := b.s.d.Alloc(workspaceBytes)
	if err == nil {
		b.workspace = workspace
		err = b.prepare()
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return nil
}

func (b *Blas) create() error {
	if err := b.s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if status := C.blas_create(&b.lib, &b.handle); status != 0 {
		return fmt.Errorf("%s: cublasCreate: %w", b.path, blasStatus(status))
	}
	return nil
}

func (b *Blas) prepare() error {
	if err := b.s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	var version C.int
	if status := C.blas_version(&b.lib, b.handle, &version); status != 0 {
		return fmt.Errorf("%s: cublasGetVersion: %w", b.path, blasStatus(status))
	}
	b.version = int(version)
	if status := C.blas_prepare(&b.lib, b.handle, unsafe.Pointer(stream(b.s.s)), C.uintptr_t(b.workspace), workspaceBytes); status != 0 {
		return fmt.Errorf("%s: cublasSetStream, cublasSetMathMode, cublasSetWorkspace: %w", b.path, blasStatus(status))
	}
	return nil
}

// String names the library: "cuBLAS 12.4.5 (libcublas.so.12)".
func (b *Blas) String() string {
	return fmt.Sprintf("cuBLAS %d.%d.%d (%s)", b.version/10_000, b.version/100%100, b.version%100, b.path)
}

// Gemm sets c (m,n) to op(a)·op(b) + beta·c: a and b are bf16, c is bf16 or float32, sums
// are float32. All are row-major, ld being the values from one row to the next: op(a) is
// (m,k) and op(b) (k,n); with transA a is stored (k,m), with transB b is stored (n,k).
func (b *Blas) Gemm(transA, transB bool, m, n, k int, x Ptr, ldx int, y Ptr, ldy int, beta float32, c Ptr, ldc int, bf16 bool) error {
	if err := b.s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	kind := C.int(0) // float32
	if bf16 {
		kind = 14
	}
	// cuBLAS's matrices are column-major: it sees every one transposed, so cᵀ = op(b)ᵀ·op(a)ᵀ.
	status := C.blas_gemm(&b.lib, b.handle, transposed(transB), transposed(transA), C.int(n), C.int(m), C.int(k),
		C.uintptr_t(y), C.int(ldy), C.uintptr_t(x), C.int(ldx), C.float(beta), C.uintptr_t(c), C.int(ldc), kind)
	if status != 0 {
		return fmt.Errorf("cuda: %v: multiply (%d,%d)·(%d,%d) with %v: %w", b.s.d, m, k, k, n, b, blasStatus(status))
	}
	return nil
}

func transposed(t bool) C.int {
	if t {
		return 1
	}
	return 0
}

// Close gives the handle and its memory back.
func (b *Blas) Close() error {
	var failed error
	if err := b.s.d.enter(); err != nil {
		return err
	}
	if status := C.blas_destroy(&b.lib, b.handle); status != 0 {
		failed = fmt.Errorf("cuda: %v: close %v: %w", b.s.d, b, blasStatus(status))
	}
	runtime.UnlockOSThread()
	if b.workspace != 0 {
		failed = errors.Join(failed, b.s.d.Free(b.workspace, workspaceBytes))
	}
	return failed
}

// blasStatus turns what cuBLAS returned into an Error where it has a driver's meaning:
// memory that was not there, a kernel that failed.
func blasStatus(status C.int) error {
	switch status {
	case 3:
		return &Error{Code: 2, Text: "cuBLAS is out of memory"}
	case 13:
		return &Error{Code: 719, Text: "a kernel of cuBLAS failed"}
	}
	return fmt.Errorf("cuBLAS status %d", int(status))
}

// blasPaths lists where cuBLAS may be: first by name in the loader's path, then in the
// folders of toolkits and of Python's packages. A driver runs libraries up to its own
// major version.
func blasPaths(driverMajor int) []string {
	var paths []string
	for major := min(driverMajor, 13); major >= 11; major-- {
		soname := fmt.Sprintf("libcublas.so.%d", major)
		paths = append(paths, soname)
		for _, folder := range blasFolders() {
			// The pattern is well formed, so Glob cannot fail.
			found, _ := filepath.Glob(filepath.Join(folder, soname))
			slices.Sort(found)
			slices.Reverse(found)
			paths = append(paths, found...)
		}
	}
	return paths
}

func blasFolders() []string {
	folders := []string{"/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", "/opt/cuda/lib64"}
	prefixes := []string{"/usr", "/usr/local", "/opt/conda", "/opt/venv"}
	if who, err := user.Current(); err == nil {
		prefixes = append(prefixes, filepath.Join(who.HomeDir, ".local"))
	}
	if python, err := exec.LookPath("python3"); err == nil {
		prefixes = append(prefixes, filepath.Dir(filepath.Dir(python)))
	}
	for _, prefix := range prefixes {
		for _, packages := range []string{"site-packages", "dist-packages"} {
			folders = append(folders, filepath.Join(prefix, "lib/python3*", packages, "nvidia/*/lib"))
		}
	}
	return folders
}
