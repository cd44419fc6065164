package reference_test

import (
	"testing"

	"loco/kernels"
	"loco/kernels/kerneltest"
	"loco/kernels/reference"
)

// The reference has no other to be compared with; what this tests of it are memory, shapes
// and sums.
func TestConformance(t *testing.T) {
	kerneltest.Run(t, kernels.FP32, func(*testing.T) kernels.Device { return reference.New() })
}
