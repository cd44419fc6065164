//go:build cuda && linux && amd64

package cuda

import (
	"testing"

	"loco/kernels"
	"loco/kernels/kerneltest"
)

func TestConformanceFP32(t *testing.T) {
	kerneltest.Run(t, kernels.FP32, func(t *testing.T) kernels.Device { return device(t, kernels.FP32) })
}
