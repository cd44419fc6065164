package kernels_test

import (
	"testing"

	"loco/kernels"
	"loco/kernels/kerneltest"
)

func cpu(t testing.TB, threads int) *kernels.CPU {
	t.Helper()
	d, err := kernels.NewCPU(threads)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	t.Run("reference", func(t *testing.T) {
		kerneltest.Run(t, func(*testing.T) kernels.Device { return kernels.NewReference() })
	})
	t.Run("cpu 1 thread", func(t *testing.T) {
		kerneltest.Run(t, func(t *testing.T) kernels.Device { return cpu(t, 1) })
	})
	t.Run("cpu 3 threads", func(t *testing.T) {
		kerneltest.Run(t, func(t *testing.T) kernels.Device { return cpu(t, 3) })
	})
}

func TestSameBitsAtAnyThreadCount(t *testing.T) {
	kerneltest.SameBits(t, cpu(t, 1), cpu(t, 2), cpu(t, 3), cpu(t, 8))
}
