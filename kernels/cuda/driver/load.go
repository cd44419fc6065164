//go:build cuda && linux && amd64

package driver

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"gorgonia.org/cu"

	"loco/kernels/cuda/driver/late"
)

// What this package and the kernels need.
const (
	driverMin  = 11040       // graphs are instantiated with a call of CUDA 11.4
	driverName = "470.57.02" // the first with it
	majorMin   = 8           // sm_80: bf16 tensor cores and asynchronous copies
)

const soname = "libcuda.so.1"

// libraryFolders are where a driver may lie outside the loader's path: WSL 2, the
// container runtime's mount, NixOS.
func libraryFolders() []string {
	return []string{"/usr/lib/wsl/lib", "/usr/local/nvidia/lib64", "/run/opengl-driver/lib", "/usr/lib64/nvidia"}
}

var loaded struct {
	sync.Mutex
	path string // that was bound
}

// Load binds the driver; "" searches the machine for it. Once one is bound, "" and its
// own path return nil, and another path an error: a process has one driver. The error
// says in one line why there is none to be had.
func Load(path string) error {
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.path != "" {
		if path == "" || path == loaded.path {
			return nil
		}
		return fmt.Errorf("cuda: load %s: this process already has the driver %s", path, loaded.path)
	}
	paths := []string{path}
	if path == "" {
		paths = []string{soname}
		for _, folder := range libraryFolders() {
			paths = append(paths, folder+"/"+soname)
		}
	}
	var first error
	for _, p := range paths {
		err := late.Open(p)
		if err == nil {
			err = checkVersion(cu.Version())
		}
		if err == nil {
			loaded.path = p
			return nil
		}
		var refused late.InitError
		if first == nil || errors.As(err, &refused) && !errors.As(first, &refused) {
			first = err
		}
	}
	return explain(first)
}

func checkVersion(version int) error {
	if version < driverMin {
		return fmt.Errorf("cuda: the NVIDIA driver is too old: it has CUDA %s; %s is needed, which is driver %s or newer",
			release(version), release(driverMin), driverName)
	}
	return nil
}

// explain turns the reason for which no driver was bound into one line.
func explain(err error) error {
	var code late.InitError
	switch {
	case !errors.As(err, &code):
		if strings.Contains(err.Error(), "too old") {
			return err
		}
		return fmt.Errorf("cuda: no NVIDIA driver on this machine: %w", err)
	case code == 34:
		return fmt.Errorf("cuda: %s is a toolkit's stub and no driver: install an NVIDIA driver, or take the stub out of the loader's path", soname)
	case code == 100:
		return errors.New("cuda: the NVIDIA driver finds no GPU (CUDA error 100)")
	case code == 803:
		return errors.New("cuda: the NVIDIA driver's library and its kernel module are of different versions: restart the machine (CUDA error 803)")
	case code == 35:
		return fmt.Errorf("cuda: the NVIDIA driver is too old (CUDA error 35): CUDA %s is needed, which is driver %s or newer", release(driverMin), driverName)
	default:
		return fmt.Errorf("cuda: the NVIDIA driver does not start: %w", err)
	}
}
