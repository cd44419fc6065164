package cpu_test

import (
	"bytes"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/kerneltest"
)

// Sums of vectors have the bits of their definition on every path, at any number of threads.
func TestAxpby(t *testing.T) {
	for _, path := range cpu.Paths() {
		for _, threads := range []int{1, 3} {
			d := deviceOn(t, threads, path)
			kerneltest.CheckAxpby(t, d)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A device's codec is its format's, at any number of threads, and an update of a weight's
// parameters by it is noticed.
func TestExchangerEncodesAndDecodes(t *testing.T) {
	for _, threads := range []int{1, 3} {
		for _, n := range []int{1, 700, 16384, 50_001} {
			for _, f := range []kernels.Format{kernels.FormatFP32, kernels.FormatBF16, kernels.FormatInt8, kernels.FormatInt4} {
				encodesAndDecodes(t, threads, n, f)
			}
		}
	}
}

func encodesAndDecodes(t *testing.T, threads, n int, f kernels.Format) {
	t.Helper()
	d, err := cpu.New(threads, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%977-300) / 77
	}
	x, err := d.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(x, v)
	want, got := make([]byte, f.EncodedLen(n)), make([]byte, f.EncodedLen(n))
	if k := f.Encode(want, v); k != n || d.Encode(got, f, x) != n || !bytes.Equal(got, want) {
		t.Fatalf("%d threads, format %v: encoded %d of %d values to other bytes", threads, f, k, n)
	}
	f.Decode(v, want)
	f.DecodeAdd(v, want, 0.5)
	d.Decode(x, f, want)
	d.DecodeAdd(x, f, want, 0.5)
	back := make([]float32, n)
	d.Download(back, x)
	for i := range back {
		if back[i] != v[i] {
			t.Fatalf("%d threads, format %v: value %d of %d is %v, want %v", threads, f, i, n, back[i], v[i])
		}
	}
	for _, at := range []int{n - 1, n / 2, n / 3} { // the first of those that are bad counts
		back[at] = float32(math.NaN())
		d.Upload(x, back)
		if got, want := d.Encode(got, f, x), f.Encode(want, back); got != want {
			t.Errorf("%d threads, format %v: %d of %d values are encoded before the one at %d, want %d", threads, f, got, n, at, want)
		}
	}
}
