//go:build !cuda || !linux || !amd64

package cuda

import (
	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// OpenAll says that there is no CUDA in this binary.
func OpenAll([]int, kernels.Precision) ([]kernels.Device, kernels.Peers, error) {
	return nil, nil, driver.ErrWithout
}
