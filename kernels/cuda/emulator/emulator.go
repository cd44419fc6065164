// Package emulator builds a stand-in for the NVIDIA driver's library that runs the kernels of
// kernels/cuda/src on the CPU, so that everything from the Device down to each line of a kernel
// is tested where there is no GPU.
//
// The library has the driver's calls that package driver makes (host/driver.cc), two devices,
// and the kernels compiled by a C++ compiler (host/cpu.h), a block's threads being fibers
// (host/fibers.cc), streams queues (host/streams.cc). It finds a kernel only if the PTX that a GPU would run has it with as many
// parameters. Copies to shared memory happen as late as the kernel allows, shared memory begins
// as NaNs, one warp runs ahead until it must wait for the others, a stream may be as far behind
// another as events allow, and a barrier or an operation of a warp that not all threads reach is
// an error.
//
// What it cannot show: whether the driver compiles the PTX, the memory model, registers, speed,
// and the last bits of approximate functions.
package emulator

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Options say how to build the library.
type Options struct {
	// Sanitize compiles with AddressSanitizer, which a process that loads the library must have
	// been started with: LD_PRELOAD it, see Sanitizer.
	Sanitize bool
	// Sources is a folder laid out as kernels/cuda, whose sources are compiled instead of this
	// tree's: tests plant bugs in a copy.
	Sources string
}

// ErrNoCompiler means that this machine has no g++.
var ErrNoCompiler = errors.New("emulator: g++ is not installed")

// Build compiles the stand-in into a folder and returns its path. It takes some seconds.
func Build(ctx context.Context, folder string, o Options) (string, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("emulator: the fibers are written for linux on amd64, not %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	compiler, err := exec.LookPath("g++")
	if err != nil {
		return "", ErrNoCompiler
	}
	if o.Sources == "" {
		_, file, _, _ := runtime.Caller(0)
		o.Sources = filepath.Dir(filepath.Dir(file))
	}
	library := filepath.Join(folder, "libcuda.so.1")
	args := []string{
		"-std=c++20", "-O2", "-march=native", "-ffp-contract=off", "-fPIC", "-shared", "-fvisibility=hidden",
		"-Wall", "-Werror", "-Wno-unknown-pragmas", "-DGPU_EMULATED", "-o", library,
	}
	if o.Sanitize {
		args = append(args, "-fsanitize=address", "-g")
	}
	for _, name := range []string{"driver.cc", "streams.cc", "fibers.cc", "warp.cc"} {
		args = append(args, filepath.Join(o.Sources, "emulator", "host", name))
	}
	if out, err := exec.CommandContext(ctx, compiler, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("emulator: compile the kernels for the CPU: %w\n%s", err, out)
	}
	return library, nil
}

// Sanitizer is the path of the compiler's AddressSanitizer library.
func Sanitizer(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "g++", "-print-file-name=libasan.so").Output()
	if err != nil {
		return "", fmt.Errorf("emulator: find libasan.so: %w", err)
	}
	path := strings.TrimSpace(string(out))
	if !filepath.IsAbs(path) {
		return "", errors.New("emulator: libasan.so is not installed")
	}
	return path, nil
}
