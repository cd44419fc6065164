package cpu

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
)

// roundHalf is bf16 as the processor rounds to it: to nearest even, subnormal values to
// zero.
func roundHalf(x float32) uint16 {
	bits := math.Float32bits(x)
	switch {
	case x != x:
		return uint16(bits>>16) | 0x40
	case bits&0x7f800000 == 0:
		return uint16(bits >> 16 & 0x8000)
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// flush is what products of bf16 do with subnormal sums.
func flush(x float32) float32 {
	if bits := math.Float32bits(x); bits&0x7f800000 == 0 {
		return math.Float32frombits(bits & 0x80000000)
	}
	return x
}

func halves32(word float32) (first, second float64) {
	bits := math.Float32bits(word)
	return float64(math.Float32frombits(bits << 16)), float64(math.Float32frombits(bits &^ 0xffff))
}

// plainHalf computes one output of a half's product in the order that half states.
func plainHalf(name string, a, b []float32, bRow, j int, sum float32) float32 {
	if name == "AVX512_BF16" {
		for p, word := range a {
			a1, a2 := halves32(word)
			b1, b2 := halves32(b[p*bRow+j])
			sum = flush(float32(fuse(a2*b2, float64(sum))))
			sum = flush(float32(fuse(a1*b1, float64(sum))))
		}
		return sum
	}
	for ; len(a) > 0; a, b = a[halfWords:], b[min(halfWords*bRow, len(b)):] {
		var first, second float32
		for p, word := range a[:halfWords] {
			a1, a2 := halves32(word)
			b1, b2 := halves32(b[p*bRow+j])
			first = flush(float32(fuse(a1*b1, float64(first))))
			second = flush(float32(fuse(a2*b2, float64(second))))
		}
		sum = flush(sum + flush(first+second))
	}
	return sum
}

// randomPairs returns n words of two bf16 values; rare ones make products and sums
// subnormal.
func randomPairs(seed *uint64, n int, rare bool) []float32 {
	values, _ := parityValues(seed, 2*n, false)
	words := make([]float32, n)
	for i := range words {
		first, second := values[2*i], values[2*i+1]
		if rare && i%7 == 0 {
			first, second = first*1e-19, second*1e-19
		}
		words[i] = math.Float32frombits(uint32(roundHalf(first)) | uint32(roundHalf(second))<<16)
	}
	return words
}

// eachHalf runs f for every way to multiply bf16 that this processor has. qemu-user has
// none, so that only a processor with AVX512_BF16 or AMX tests them.
func eachHalf(t *testing.T, f func(t *testing.T, h *half)) {
	t.Helper()
	all := halves()
	if len(all) == 0 {
		t.Skip("this processor, or this build, multiplies no bf16")
	}
	for _, h := range all {
		t.Run(h.name, func(t *testing.T) { f(t, h) })
	}
}

// TestBF16Products compares the products of bf16 with plain Go, to the bit: all rows
// and columns of tiles, sums that begin at 0 and that go on.
func TestBF16Products(t *testing.T) {
	eachHalf(t, func(t *testing.T, h *half) {
		check := func(m, n, words, mode int, rare bool) {
			t.Helper()
			seed := uint64(m*1000 + n*10 + words)
			aRow, bRow, cRow := words+rowGap, 32, n+3
			a, b := randomPairs(&seed, m*aRow, rare), randomPairs(&seed, words*bRow, rare)
			c, sound := parityValues(&seed, m*cRow, false)
			if rare {
				for i := range c {
					c[i] *= 1e-38
				}
			}
			before := append([]float32(nil), c...)
			x := product{c: c, cRow: cRow, a: a, aRow: aRow, aCol: 1, b: b, bRow: bRow, m: m, n: n, k: words, mode: mode}
			avx := allPaths()[0]
			avx.product(&x, h)
			for i := range m {
				for j := range cRow {
					got, want := c[i*cRow+j], before[i*cRow+j]
					if j < n {
						start := float32(0)
						if mode == productChain {
							start = flush(want)
						}
						want = plainHalf(h.name, a[i*aRow:][:words], b, bRow, j, start)
					}
					if math.Float32bits(got) != math.Float32bits(want) {
						t.Fatalf("%s, m=%d n=%d words=%d mode=%d: value (%d, %d) is %v, plain Go has %v", h.name, m, n, words, mode, i, j, got, want)
					}
				}
			}
			if !sound() {
				t.Fatalf("%s, m=%d n=%d words=%d: wrote beside c", h.name, m, n, words)
			}
		}
		for m := 1; m <= 70; m++ {
			check(m, 1+m*7%32, halfWords*(1+m%3), 2*(m%2), m%5 == 0)
		}
		for n := 1; n <= 32; n++ {
			check(33, n, halfWords, productSet, false)
			check(13, n, 2*halfWords, productChain, n%4 == 0)
		}
	})
}

// TestBF16Packing compares packed operands of all shapes of tails with their values
// rounded one by one.
func TestBF16Packing(t *testing.T) {
	eachHalf(t, func(t *testing.T, h *half) {
		p := packing{allPaths()[0], h}
		at := func(src []float32, row, col, n, k, stride int) uint32 { // of (n, k)
			if row >= n || col >= k {
				return 0
			}
			return uint32(roundHalf(src[row*stride+col]))
		}
		for _, n := range []int{1, 2, 15, 16, 17, 31, 32, 33, 70, 129} {
			for _, k := range []int{1, 2, 3, 31, 32, 33, 34, 63, 64, 97} {
				seed := uint64(n*1000 + k)
				words := p.words(k)
				tmp := make([]float32, p.scratch(k))
				for i := range tmp {
					tmp[i] = float32(math.NaN())
				}
				const gap = 3
				long, _ := parityValues(&seed, n*(k+gap), true)
				tall, _ := parityValues(&seed, k*(n+gap), true)
				check := func(what string, word func(i, j int) float32, value func(col, k int) uint32) {
					for i := range n {
						for w := range words {
							if got, want := math.Float32bits(word(i, w)), value(i, 2*w)|value(i, 2*w+1)<<16; got != want {
								t.Fatalf("%s %s n=%d k=%d: column %d has %#08x at word %d, want %#08x", h.name, what, n, k, i, got, w, want)
							}
						}
					}
				}
				fromLong := func(i, l int) uint32 { return at(long, i, l, n, k, k+gap) }
				fromTall := func(i, l int) uint32 { return at(tall, l, i, k, n, n+gap) }
				panels, sound := parityValues(&seed, p.packed(n, k), false)
				inPanel := func(i, w int) float32 { return panels[i/p.cols*p.cols*words+w*p.cols+i%p.cols] }
				p.transposed(panels, long, k+gap, n, k, tmp)
				check("transposed", inPanel, fromLong)
				p.straight(panels, words, tall, n+gap, n, k)
				check("straight", inPanel, fromTall)
				rows, soundRows := parityValues(&seed, n*(words+gap)+p.cols, false)
				inRow := func(i, w int) float32 { return rows[i*(words+gap)+w] }
				p.rows(rows, words+gap, long, k+gap, n, k, false, tmp)
				check("rows", inRow, fromLong)
				p.rows(rows, words+gap, tall, n+gap, n, k, true, tmp)
				check("rows of columns", inRow, fromTall)
				if !sound() || !soundRows() {
					t.Fatalf("%s n=%d k=%d: wrote beside the packed operand", h.name, n, k)
				}
			}
		}
	})
}

// TestPrecisionIsChosen holds halves and New to what the system says of the CPU.
func TestPrecisionIsChosen(t *testing.T) {
	var want []string
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil && runtime.GOARCH == "amd64" && builtWithAssembly {
		_, flags, _ := strings.Cut(string(text), "\nflags")
		flags, _, _ = strings.Cut(flags, "\n")
		has := func(name string) bool { return slices.Contains(strings.Fields(flags), name) }
		if has("amx_tile") && has("amx_bf16") {
			want = append(want, "AMX")
		}
		if has("avx512_bf16") {
			want = append(want, "AVX512_BF16")
		}
	} else {
		t.Skip("no /proc/cpuinfo of an amd64 CPU, or built without assembly")
	}
	var have []string
	for _, h := range halves() {
		have = append(have, h.name)
	}
	if !slices.Equal(have, want) {
		t.Errorf("bf16 is multiplied by %v, this CPU has %v", have, want)
	}
}

func TestChooseHalf(t *testing.T) {
	fast, slow := &half{name: "fast", faster: true}, &half{name: "slow"}
	for _, c := range []struct {
		precision kernels.Precision
		have      []*half
		want      *half
		err       string
	}{
		{kernels.Auto, nil, nil, ""},
		{kernels.Auto, []*half{fast, slow}, fast, ""},
		{kernels.Auto, []*half{slow}, nil, ""},
		{kernels.FP32, []*half{fast}, nil, ""},
		{kernels.BF16, []*half{slow}, slow, ""},
		{kernels.BF16, nil, nil, "choose fp32 or auto"},
		{"fp8", []*half{fast}, nil, `"fp8"`},
	} {
		got, err := chooseHalf(c.precision, c.have)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s of %d ways: %v, %v", c.precision, len(c.have), got, err)
		}
	}
}

// TestRoundedRowsFollowTheirValues uses the output of RMSNorm and LinearSwiGLU in a
// product, changes it, and uses it again: each product must be that of the values of its
// moment, which a copy without rounded rows tells.
func TestRoundedRowsFollowTheirValues(t *testing.T) {
	const rows, width, ffn = 37, 50, 22
	eachHalf(t, func(t *testing.T, h *half) {
		d, err := newDevice(2, allPaths()[0], h)
		if err != nil {
			t.Fatal(err)
		}
		seed := uint64(1)
		alloc := func(n int) kernels.Buffer {
			b, err := d.Alloc(n)
			if err != nil {
				t.Fatal(err)
			}
			values, _ := parityValues(&seed, n, false)
			d.Upload(b, values)
			return b
		}
		weight := func(out, in int) kernels.Weight {
			w, err := d.NewWeight(alloc(out*in), out, in, false)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		both := alloc(2 * rows * width)
		x, y := alloc(rows*width), both.Slice(rows*width, 2*rows*width)
		norm, rstd, gateUp := alloc(width), alloc(rows), alloc(rows*2*ffn)
		act, out, copied := alloc(rows*ffn), [2]kernels.Buffer{alloc(rows * width), alloc(rows * width)}, alloc(rows*width)
		first, up, down := weight(width, width), weight(2*ffn, width), weight(width, ffn)
		check := func(what string, in kernels.Buffer, w kernels.Weight) {
			t.Helper()
			n := in.Len()
			d.Linear(out[0], in, w, nil, rows)
			d.Copy(copied.Slice(0, n), in)
			d.Linear(out[1], copied, w, nil, rows)
			got, want := f32("test", out[0]), f32("test", out[1])
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s, %s: value %d is %v, of the copied rows %v", h.name, what, i, got[i], want[i])
				}
			}
		}
		d.RMSNorm(y, rstd, x, norm, rows, width, 1e-5)
		if d.roundedOf(y, rows, width) == nil {
			t.Fatalf("%s: RMSNorm kept no rounded rows", h.name)
		}
		check("norm", y, first)
		d.LinearSwiGLU(act, gateUp, y, up, rows)
		if d.roundedOf(act, rows, ffn) == nil || d.roundedOf(y, rows, width) == nil {
			t.Fatalf("%s: LinearSwiGLU kept no rounded rows, or spoiled its input's", h.name)
		}
		var gated [2][]float32
		for i, in := range []kernels.Buffer{y, copied} {
			d.Copy(copied, y)
			d.LinearSwiGLU(act, gateUp, in, up, rows)
			gated[i] = append(slices.Clone(f32("test", gateUp)), f32("test", act)...)
		}
		if !slices.Equal(gated[0], gated[1]) {
			t.Fatalf("%s: LinearSwiGLU of rounded rows is not that of the rows", h.name)
		}
		check("swiglu", act, down)
		d.Scale(both.Slice(2*rows*width-1, 2*rows*width), 3) // the last value of y, by another view
		check("norm, one value changed", y, first)
		d.Add(act, act)
		check("swiglu, doubled", act, down)
		d.RMSNorm(x, rstd, y, norm, rows, width, 1e-5)
		d.RMSNorm(y, rstd, x, norm, rows, width, 1e-5)
		check("norm, twice", x, first)
		check("norm, in place of another", y, first)
		d.Upload(y, make([]float32, rows*width))
		check("uploaded", y, first)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}
