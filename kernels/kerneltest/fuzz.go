package kerneltest

import (
	"testing"

	"loco/kernels"
)

// CheckMatMul compares one matmul of random values, on a device of that precision, with
// the reference: what a fuzz target calls with the sizes it finds.
func CheckMatMul(t *testing.T, d kernels.Device, precision kernels.Precision, m, n, k int, transA, transB, accumulate bool) {
	t.Helper()
	check(t, d, matMulCase(roundingOf(precision), m, n, k, transA, transB, accumulate))
}

// CheckAttention compares attention of one shape, forward and backward, with the
// reference.
func CheckAttention(t *testing.T, d kernels.Device, s kernels.AttentionShape) {
	t.Helper()
	check(t, d, attentionCase(rounding{}, s))
	check(t, d, attentionBackwardCase(rounding{}, s))
}

// CheckAttentionKept is CheckAttention for a device of [RunKept].
func CheckAttentionKept(t *testing.T, d kernels.Device, s kernels.AttentionShape) {
	t.Helper()
	check(t, d, attentionCase(keptRounding, s))
	check(t, d, attentionBackwardCase(keptRounding, s))
}
