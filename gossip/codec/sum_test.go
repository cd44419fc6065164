package codec

import (
	"bytes"
	"strings"
	"testing"
)

func TestCutIsTheEncodingOfTheRange(t *testing.T) {
	const n = 3*Block + 77
	x := gaussian(8, n)
	for _, c := range all(t) {
		if c.Block() != Block || !c.Fixed() || c.Down() != c {
			t.Errorf("%s: blocks of %d, fixed %v, down %v", c.Name(), c.Block(), c.Fixed(), c.Down())
		}
		whole := encode(t, c, x)
		for _, r := range [][2]int{{0, n}, {0, Block}, {Block, 3 * Block}, {2 * Block, n}, {3 * Block, n}, {0, 0}, {n, n}} {
			if got := c.Cut(whole, r[0], r[1]); !bytes.Equal(got, encode(t, c, x[r[0]:r[1]])) {
				t.Errorf("%s: the cut from %d to %d differs from the encoding of that range", c.Name(), r[0], r[1])
			}
		}
	}
}

// A sum begins at 0, whatever it held, and adds with two roundings in the order of calls.
func TestSumIsTheWeightedMean(t *testing.T) {
	for _, up := range all(t) {
		for _, down := range all(t) {
			sum := NewMean(up, down)
			for i, n := range []int{600, 40, 0, 601} {
				want := make([]float32, n)
				sum.Begin(n)
				for member, share := range []float32{0.25, 0.5, 0.3} {
					p := encode(t, up, gaussian(uint64(10*i+member), n))
					if err := sum.Add(p, share); err != nil {
						t.Fatal(err)
					}
					if err := up.DecodeAdd(want, p, share); err != nil {
						t.Fatal(err)
					}
				}
				got, err := sum.AppendResult([]byte("kept"))
				if err != nil || string(got[:4]) != "kept" || !bytes.Equal(got[4:], encode(t, down, want)) {
					t.Errorf("%s summed to %s, %d values: %v, or other bytes", up.Name(), down.Name(), n, err)
				}
			}
		}
		own := up.NewSum()
		own.Begin(3)
		if err := own.Add(encode(t, up, []float32{1, 2, 3}), 1); err != nil {
			t.Fatal(err)
		}
		want := make([]float32, 3)
		if err := up.Decode(want, encode(t, up, []float32{1, 2, 3})); err != nil {
			t.Fatal(err)
		}
		if got, err := own.AppendResult(nil); err != nil || !bytes.Equal(got, encode(t, up, want)) {
			t.Errorf("%s: the sum of one contribution is %x, %v", up.Name(), got, err)
		}
	}
}

func TestSumRefuses(t *testing.T) {
	sum := FP32.NewSum()
	sum.Begin(2)
	if err := sum.Add(make([]byte, 7), 1); err == nil || err.Error() != "codec fp32: 7 bytes for 2 values, want 8" {
		t.Errorf("error %v", err)
	}
	p := encode(t, FP32, []float32{1, 3e38})
	for range 2 {
		if err := sum.Add(p, 1); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := sum.AppendResult([]byte("x")); err == nil || string(got) != "x" || !strings.HasPrefix(err.Error(), "codec fp32: value 1 of 2 is +Inf") {
		t.Errorf("a sum that is not finite: %q, error %v", got, err)
	}
}
