package kernels_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"loco/kernels"
)

// The lanes join by halves: no other order has this sum, since 2⁵³ + 1 is 2⁵³.
func TestSumsJoinByHalves(t *testing.T) {
	var join func(s []float64) float64
	join = func(s []float64) float64 {
		if len(s) == 1 {
			return s[0]
		}
		var half []float64
		for l := range len(s) / 2 {
			half = append(half, s[l]+s[l+len(s)/2])
		}
		return join(half)
	}
	for seed := range 200 {
		var s [kernels.SumLanes]float64
		for l := range s {
			s[l] = []float64{1, 1 << 53, -(1 << 53), 3}[(seed*7+l*l*5+l)%4]
		}
		want := join(s[:])
		if got := kernels.JoinSums(&s); got != want {
			t.Fatalf("seed %d: the sum is %v, want %v", seed, got, want)
		}
	}
}

// Leaves are hashed one by one, the last as long as it is.
func TestHashesOfLeaves(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 3*4096 + 5} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		var want []byte
		for lo := 0; lo < n; lo += 4 * kernels.HashLeaf {
			sum := sha256.Sum256(b[lo:min(lo+4*kernels.HashLeaf, n)])
			want = append(want, sum[:]...)
		}
		got := make([]byte, len(want))
		kernels.HashLeaves(got, b)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %x, want %x", n, got, want)
		}
		if n%4 == 0 && kernels.HashLen(n/4) != len(want) {
			t.Errorf("%d values have %d bytes of hashes, want %d", n/4, kernels.HashLen(n/4), len(want))
		}
	}
	if message := panicOf(func() { kernels.HashLeaves(make([]byte, 32), make([]byte, 4097)) }); !strings.Contains(message, "hash leaves: dst has 32 values, the shape needs 64") {
		t.Errorf("panic %q", message)
	}
}

// inHost is a Buffer in the host's memory.
type inHost struct {
	values
	memory []float32
}

func (b inHost) HostValues() []float32 { return b.memory }

func TestHostValuesAreOfBuffersInTheHost(t *testing.T) {
	memory := make([]float32, 3)
	if got := kernels.HostValues(inHost{3, memory}); len(got) != 3 || &got[0] != &memory[0] {
		t.Error("a buffer in the host's memory does not give it")
	}
	if got := kernels.HostValues(values(3)); got != nil {
		t.Errorf("a buffer elsewhere gives %v", got)
	}
}

// The bound is that of panels of float32, one for each product that a step needs.
func TestWeightBytes(t *testing.T) {
	for _, c := range []struct {
		out, in int
		trained bool
		want    int64
	}{
		{64, 100, false, 4 * 64 * 100}, {64, 100, true, 4 * (64*100 + 64*128)}, {65, 100, false, 4 * 96 * 100},
		{1, 1, false, 4 * 32 * 32 / 2}, {1, 1, true, 2 * 4 * 32 * 32 / 2}, {40, 3, true, 4 * (64*32/2 + 40*32)},
	} {
		if got := kernels.WeightBytes(c.out, c.in, c.trained); got != c.want {
			t.Errorf("%d outputs of %d inputs, trained %v: %d bytes, want %d", c.out, c.in, c.trained, got, c.want)
		}
	}
}
