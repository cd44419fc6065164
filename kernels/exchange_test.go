package kernels_test

import (
	"bytes"
	"math"
	"testing"

	"loco/kernels"
	"loco/optim"
)

// The outer steps on a device are package optim's, to the bit, at any number of threads.
func TestExchangerHasOptimsBits(t *testing.T) {
	const n = 100_003
	random := func(seed uint32) []float32 {
		v := make([]float32, n)
		for i := range v {
			seed = seed*1664525 + 1013904223
			v[i] = float32(int32(seed)) / (1 << 30)
		}
		return v
	}
	nesterov, noloco := optim.Nesterov{LR: 0.7, Momentum: 0.9}, optim.NoLoCo{Alpha: 0.5, Beta: 0.7, Gamma: 0.6}
	want := [][]float32{random(1), random(2), random(3), random(4)}
	optim.PseudoGradient(want[2], want[0], want[3])
	nesterov.Step(want[0], want[1], want[2])
	noloco.Step(want[0], want[1], want[2], want[3])
	noloco.StepFast(want[0], want[1], want[3])
	optim.Rebase(want[3], want[2], want[0])
	for _, threads := range []int{1, 3} {
		d, err := kernels.NewCPU(threads, kernels.FP32)
		if err != nil {
			t.Fatal(err)
		}
		var b []kernels.Buffer
		for i := range want {
			x, err := d.Alloc(n)
			if err != nil {
				t.Fatal(err)
			}
			d.Upload(x, random(uint32(i+1)))
			b = append(b, x)
		}
		d.Difference(b[2], b[0], b[3])
		d.Nesterov(b[0], b[1], b[2], 0.7, 0.9)
		d.NoLoCo(b[0], b[1], b[2], b[3], 0.5, 0.7, 0.6)
		d.NoLoCoFast(b[0], b[1], b[3], 0.5, 0.7)
		d.Rebase(b[3], b[2], b[0])
		got := make([]float32, n)
		for k := range want {
			d.Download(got, b[k])
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[k][i]) {
					t.Fatalf("%d threads: operand %d, value %d is %v, want %v", threads, k, i, got[i], want[k][i])
				}
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A device's codec is its format's, and an update of a weight's parameters by it is noticed.
func TestExchangerEncodesAndDecodes(t *testing.T) {
	d, err := kernels.NewCPU(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const n = 700
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i-300) / 77
	}
	x, err := d.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(x, v)
	f := kernels.FormatInt8
	want, got := make([]byte, f.EncodedLen(n)), make([]byte, f.EncodedLen(n))
	if k := f.Encode(want, v); k != n || d.Encode(got, f, x) != n || !bytes.Equal(got, want) {
		t.Fatalf("encoded %d of %d values to other bytes", k, n)
	}
	f.Decode(v, want)
	f.DecodeAdd(v, want, 0.5)
	d.Decode(x, f, want)
	d.DecodeAdd(x, f, want, 0.5)
	back := make([]float32, n)
	d.Download(back, x)
	for i := range back {
		if back[i] != v[i] {
			t.Fatalf("value %d is %v, want %v", i, back[i], v[i])
		}
	}
}
