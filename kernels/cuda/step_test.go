//go:build cuda && linux && amd64

package cuda

import (
	"math"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/kerneltest"
)

// After the first step neither the host allocates nor the device's arena grows.
func TestStepAllocatesNothing(t *testing.T) {
	for _, precision := range []kernels.Precision{kernels.FP32, kernels.BF16} {
		d := device(t, precision)
		step, _ := kerneltest.Step(t, d)
		step()
		taken := d.Taken()
		used := d.slabs[len(d.slabs)-1].used
		if n := testing.AllocsPerRun(2, step); n != 0 {
			t.Errorf("%s: a step allocates %v times", precision, n)
		}
		if d.Taken() != taken || d.slabs[len(d.slabs)-1].used != used {
			t.Errorf("%s: the arena grew after the first step", precision)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// In bf16 the activations that feed products exist as halves alone.
func TestActivationsTakeTwoBytes(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	const rows, width = 64, 128
	x, w, rstd := upload(t, d, make([]float32, rows*width)), upload(t, d, make([]float32, width)), upload(t, d, make([]float32, rows))
	out, err := d.Alloc(rows * width)
	if err != nil {
		t.Fatal(err)
	}
	d.RMSNorm(out, rstd, x, w, rows, width, 1e-5)
	weight, err := d.NewWeight(upload(t, d, make([]float32, 8*width)), 8, width, true)
	if err != nil {
		t.Fatal(err)
	}
	d.Linear(d.mustAlloc(t, rows*8), out, weight, nil, rows)
	m := out.(*buffer).home
	if m.at[halves] == 0 || m.at[floats] != 0 {
		t.Errorf("the norm's output has halves at %#x and floats at %#x, want halves alone", m.at[halves], m.at[floats])
	}
}

func (d *Device) mustAlloc(t *testing.T, n int) kernels.Buffer {
	t.Helper()
	b, err := d.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A part of a buffer that is in halves, written as floats, leaves the rest as it was, and
// reading across both converts what is missing.
func TestFormsOfPartsOfABuffer(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	const n = 64
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	x, out := upload(t, d, ones), d.mustAlloc(t, n)
	w, rstd := upload(t, d, ones), d.mustAlloc(t, 4)
	d.RMSNorm(out.Slice(16, 48), rstd, x.Slice(16, 48), w.Slice(0, 16), 2, 16, 0) // 1 in halves
	d.Upload(out.Slice(40, 44), []float32{5, 6, 7, 8})
	d.Scale(out.Slice(20, 24), 3)
	got := download(d, out)
	for i, v := range got {
		want := float32(0)
		switch {
		case i >= 40 && i < 44:
			want = float32(i - 35)
		case i >= 20 && i < 24:
			want = 3
		case i >= 16 && i < 48:
			want = 1
		}
		if v != want {
			t.Errorf("value %d is %v, want %v", i, v, want)
		}
	}
}

func TestFirstErrorStays(t *testing.T) {
	d, err := open(0, kernels.BF16, noBlas)
	if noDevice != "" {
		t.Skip(noDevice)
	}
	if err != nil {
		t.Fatal(err)
	}
	free, _, err := d.driver.Memory()
	if err != nil {
		t.Fatal(err)
	}
	d.limit = math.MaxInt64 // as if another program took the memory afterwards
	b, err := d.Alloc(int(free / 2))
	if err != nil {
		t.Fatal(err)
	}
	d.Zero(b)
	if err := d.Err(); err == nil || !strings.Contains(err.Error(), "allocate") {
		t.Fatalf("error %v, want that of an allocation", err)
	}
	first := d.Err()
	if _, err := d.Alloc(10); err == nil {
		t.Error("Alloc after an error succeeds")
	}
	if x := d.Sum(b); !math.IsNaN(x) {
		t.Errorf("the sum after an error is %v", x)
	}
	got := []float32{1, 2}
	d.Download(got, b.Slice(0, 2))
	if !math.IsNaN(float64(got[0])) || !math.IsNaN(float64(got[1])) {
		t.Errorf("downloaded %v after an error", got)
	}
	if d.Err() != first {
		t.Errorf("error %v took the place of %v", d.Err(), first)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenNamesWhatItCannotDo(t *testing.T) {
	if noDevice != "" {
		t.Skip(noDevice)
	}
	for want, f := range map[string]func() error{
		"there is no device 9": func() error { _, err := Open(9, kernels.BF16); return err },
		`precision "int3"`:     func() error { _, err := Open(0, "int3"); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	d := device(t, kernels.BF16)
	defer d.Close()
	if _, err := d.Alloc(int(d.limit)); err == nil || !strings.Contains(err.Error(), "bytes are free") {
		t.Errorf("error %v, want one that says how many bytes are free", err)
	}
	defer func() {
		if r, _ := recover().(string); !strings.Contains(r, "head dimension is 300") || !strings.Contains(r, "256") {
			t.Errorf("panic %q, want one that names the head dimension and the limit", r)
		}
	}()
	s := kernels.AttentionShape{Batch: 1, Seq: 1, Heads: 1, KVHeads: 1, HeadDim: 300}
	d.Attention(d.mustAlloc(t, 300), d.mustAlloc(t, 1), d.mustAlloc(t, 900), s)
}

func TestSpans(t *testing.T) {
	const n = 40
	var s spans
	var want [n]bool
	seed := uint32(1)
	for range 3000 {
		seed = seed*1664525 + 1013904223
		lo := int(seed>>8) % n
		hi := lo + int(seed>>20)%(n-lo+1)
		put := seed>>31 == 0
		if put {
			s.add(lo, hi)
		} else {
			s.remove(lo, hi)
		}
		for i := lo; i < hi; i++ {
			want[i] = put
		}
		for i := range n {
			if s.covers(i, i+1) != want[i] {
				t.Fatalf("after %v of [%d, %d): %d is in %v: %v, want %v", put, lo, hi, i, s, s.covers(i, i+1), want[i])
			}
		}
		for i := range s {
			if s[i].lo >= s[i].hi || i > 0 && s[i-1].hi >= s[i].lo {
				t.Fatalf("%v has spans that are empty or touch", s)
			}
		}
		gapLo, gapHi := s.gap(3, n-2)
		for i := 3; i < n-2; i++ {
			if !want[i] && gapLo > i || i >= gapLo && i < gapHi && want[i] {
				t.Fatalf("the first gap of %v is [%d, %d)", s, gapLo, gapHi)
			}
		}
	}
}
