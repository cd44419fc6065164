package optim

import "testing"

// Rebase leaves what fast is beyond its base where it is: on values that round to
// nothing it is exact.
func TestRebase(t *testing.T) {
	fast, from, to := []float32{1, 5, -2}, []float32{0.5, 5, 1}, []float32{8, -3, 0.25}
	before := make([]float32, 3)
	pseudoGradient(before, from, fast)
	rebase(fast, from, to)
	for i, want := range []float32{8.5, -3, -2.75} {
		if fast[i] != want {
			t.Errorf("value %d is %v, want %v", i, fast[i], want)
		}
	}
	after := make([]float32, 3)
	pseudoGradient(after, to, fast)
	for i := range after {
		if after[i] != before[i] {
			t.Errorf("value %d of the pseudo-gradient is %v, was %v", i, after[i], before[i])
		}
	}
}
