package cpu

import (
	"math"
	"testing"
)

// ulp is the distance between the float32 values at x.
func ulp(x float64) float64 {
	_, e := math.Frexp(x)
	return math.Ldexp(1, max(e-24, -149))
}

func TestExpIsWithinOneAndATenthUlp(t *testing.T) {
	worst := 0.0
	at := func(x float32) {
		want := math.Exp(float64(x))
		if want > math.MaxFloat32 {
			return
		}
		worst = max(worst, math.Abs(float64(exp32(x))-want)/ulp(want))
	}
	for i := range 400_000 {
		at(-104 + float32(i)*(193.0/400_000))
		at((float32(i) - 200_000) * 1e-5)
		at((float32(i) - 200_000) * 1e-12)
	}
	if !(worst <= 1.1) {
		t.Errorf("error of %.3f ulp, want at most 1.1", worst)
	}
	t.Logf("greatest error %.3f ulp", worst)
}

func TestExpAtTheEdges(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct{ x, want float32 }{
		{0, 1}, {float32(math.Copysign(0, -1)), 1}, {inf, inf}, {-inf, 0}, {89, inf}, {1e30, inf}, {-104, 0}, {-1e30, 0},
		{-103.5, math.SmallestNonzeroFloat32}, {math.SmallestNonzeroFloat32, 1},
	} {
		if got := exp32(c.x); got != c.want {
			t.Errorf("exp(%v) = %v, want %v", c.x, got, c.want)
		}
	}
	if got := exp32(float32(math.NaN())); got == got {
		t.Errorf("exp(NaN) = %v", got)
	}
}

// TestExpBits pins the function to the bit: its values are part of what makes a run
// replayable on another machine.
func TestExpBits(t *testing.T) {
	hash := uint64(14695981039346656037)
	for i := range 20_000 {
		bits := math.Float32bits(exp32(float32(i-11_000) * 0.0091))
		hash = (hash ^ uint64(bits)) * 1099511628211
	}
	if want := uint64(0x549f17ca9481bc83); hash != want {
		t.Errorf("hash of 20,000 values is %#x, want %#x", hash, want)
	}
}

func TestLog(t *testing.T) {
	for i := range 200_000 {
		x := math.Exp(float64(i)*0.002 - 80)
		got, want := log64(x), math.Log(x)
		if !(math.Abs(got-want) <= 1e-11*math.Abs(want)+1e-15) {
			t.Fatalf("log(%v) = %v, want %v", x, got, want)
		}
	}
	if got := log64(1); got != 0 {
		t.Errorf("log(1) = %v, want 0", got)
	}
	if got := log64(math.Inf(1)); !math.IsInf(got, 1) {
		t.Errorf("log(+Inf) = %v", got)
	}
	if got := log64(math.NaN()); got == got {
		t.Errorf("log(NaN) = %v", got)
	}
}

func BenchmarkExp(b *testing.B) {
	x, y := make([]float32, 1024), make([]float32, 1024)
	for i := range x {
		x[i] = float32(i) * -0.01
	}
	for b.Loop() {
		plainExpSum(y, x, 0.5)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/value")
}
