package optim

import (
	"math"
	"testing"
)

// near fails the test unless got is within tolerance of want. A NaN never is.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %v, want %v within %v", what, got, want, tolerance)
	}
}
