// Package kerneltest holds every kernels.Device to what device.go says, by comparing
// each operation with the float64 reference.
//
// A tolerance is never tuned: each case derives, beside the operation, how far
// float32 arithmetic may be from the exact result, from u = 2⁻²⁴, the number of
// roundings on the way to a value, and the magnitudes that were rounded.
package kerneltest

import (
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/reference"
	"loco/kernels/splitmix"
)

// u is the unit roundoff of float32: one operation errs by at most u relatively.
const u = 1.0 / (1 << 24)

// tiny covers results that are subnormal in float32.
const tiny = 1e-37

// rounding is what a device rounds to bf16 besides.
type rounding struct {
	operands float64 // unit roundoff of the operands of products; 0 where they are multiplied as they are
	kept     float64 // of attention's operands, and of results that feed products
}

// bf16Roundoff is the unit roundoff of bf16, which has 8 significant bits.
const bf16Roundoff = 1.0 / (1 << 8)

func roundingOf(precision kernels.Precision) rounding {
	if precision == kernels.BF16 {
		return rounding{operands: bf16Roundoff}
	}
	return rounding{}
}

// product bounds the error of a sum of k products and one more summand: sum is Σ|aᵢbᵢ|,
// first the magnitude of the summand that the sum begins with or that is added last.
// Rounded operands put each product off by 2r + r²; the first product and the first
// summand meet k+2 roundings. The factor 1.01 stands for the terms in u².
func (r rounding) product(k int, sum, first float64) float64 {
	return 1.01*(float64(k+2)*u*(sum+first)+r.operands*(2+r.operands)*sum) + tiny
}

// keeps allows the rounding of results that a device keeps in bf16: those of c's operands
// which.
func (r rounding) keeps(c opCase, which ...int) opCase {
	if r.kept == 0 {
		return c
	}
	exact := c.bound
	c.bound = func(in, out [][]float64) [][]float64 {
		bounds := exact(in, out)
		for _, i := range which {
			for k := range bounds[i] {
				bounds[i][k] += r.kept * (math.Abs(out[i][k]) + bounds[i][k])
			}
		}
		return bounds
	}
	return c
}

// operand is one buffer of an operation, read, written or both.
type operand struct {
	name string
	data []float32 // before the operation
}

// opCase is one call of one operation.
type opCase struct {
	name     string
	operands []operand
	tokens   [][]int32
	run      func(d kernels.Device, b []kernels.Buffer, k []kernels.Tokens)
	// bound returns the absolute error allowed for each value of each operand, given
	// the operands before and after the operation in float64. A nil entry is an
	// operand that the operation must leave as it was.
	bound func(in, out [][]float64) [][]float64
}

// Run runs the suite against devices that open makes, which multiply in the given
// precision, FP32 or BF16; it closes each.
func Run(t *testing.T, precision kernels.Precision, open func(t *testing.T) kernels.Device) {
	t.Helper()
	run(t, roundingOf(precision), open)
}

// RunKept is Run for devices that multiply in BF16 and also round to it what attention reads
// and the results that feed products: those of RMSNorm, RoPE, Attention and its backward pass,
// SwiGLU and its backward pass, Project, LinearSwiGLU, LinearBackward and CrossEntropy's gradient.
func RunKept(t *testing.T, open func(t *testing.T) kernels.Device) {
	t.Helper()
	run(t, keptRounding, open)
}

var keptRounding = rounding{operands: bf16Roundoff, kept: bf16Roundoff}

func run(t *testing.T, p rounding, open func(t *testing.T) kernels.Device) {
	t.Helper()
	for _, group := range []struct {
		name  string
		cases []opCase
	}{
		{"matmul", matMulCases(p)},
		{"linear", linearCases(p)},
		{"attention", attentionCases(p)},
		{"layers", layerCases(p)},
		{"vectors", vectorCases()},
		{"nonfinite", nonFiniteCases(p)},
	} {
		t.Run(group.name, func(t *testing.T) {
			d := opened(t, open)
			for _, c := range group.cases {
				check(t, d, c)
			}
		})
	}
	t.Run("sums", func(t *testing.T) { checkSums(t, opened(t, open)) })
	t.Run("memory", func(t *testing.T) { checkMemory(t, opened(t, open)) })
	t.Run("shapes", func(t *testing.T) { checkShapes(t, opened(t, open)) })
}

func opened(t *testing.T, open func(t *testing.T) kernels.Device) kernels.Device {
	t.Helper()
	d := open(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", d.Name(), err)
		}
	})
	return d
}

// guard is what lies before, between and after the operands: a NaN that poisons what
// reads it and changes when something writes it.
var guard = math.Float32frombits(0x7fc0dead)

const guardLen = 19 // odd, so that views begin at every alignment

// arena is one buffer that holds a case's operands as views between guards.
type arena struct {
	whole  kernels.Buffer
	views  []kernels.Buffer
	starts []int
	before []float32
	tokens []kernels.Tokens
}

func newArena(t testing.TB, d kernels.Device, c opCase) arena {
	t.Helper()
	var a arena
	for _, o := range c.operands {
		a.before = append(a.before, guards()...)
		a.starts = append(a.starts, len(a.before))
		a.before = append(a.before, o.data...)
	}
	a.before = append(a.before, guards()...)
	whole, err := d.Alloc(len(a.before))
	if err != nil {
		t.Fatalf("alloc of %d values: %v", len(a.before), err)
	}
	d.Upload(whole, a.before)
	a.whole = whole
	for i, o := range c.operands {
		a.views = append(a.views, whole.Slice(a.starts[i], a.starts[i]+len(o.data)))
	}
	for _, ids := range c.tokens {
		k, err := d.AllocTokens(len(ids))
		if err != nil {
			t.Fatalf("alloc of %d tokens: %v", len(ids), err)
		}
		d.UploadTokens(k, ids)
		a.tokens = append(a.tokens, k)
	}
	return a
}

func guards() []float32 {
	g := make([]float32, guardLen)
	for i := range g {
		g[i] = guard
	}
	return g
}

// after runs the case on d and returns the whole arena.
func after(t testing.TB, d kernels.Device, c opCase) ([]float32, arena) {
	t.Helper()
	a := newArena(t, d, c)
	c.run(d, a.views, a.tokens)
	got := make([]float32, len(a.before))
	d.Download(got, a.whole)
	return got, a
}

// exact runs the case on the reference and returns its operands before and after.
func exact(t testing.TB, c opCase) (in, out [][]float64) {
	t.Helper()
	ref := reference.New()
	a := newArena(t, ref, c)
	c.run(ref, a.views, a.tokens)
	for i, o := range c.operands {
		before := make([]float64, len(o.data))
		for k, v := range o.data {
			before[k] = float64(v)
		}
		result := make([]float64, len(o.data))
		ref.DownloadFloat64(result, a.views[i])
		in, out = append(in, before), append(out, result)
	}
	return in, out
}

// check runs one case on d and compares it with the reference.
func check(t testing.TB, d kernels.Device, c opCase) {
	t.Helper()
	in, want := exact(t, c)
	bounds := c.bound(in, want)
	all, a := after(t, d, c)
	touched := make([]bool, len(all))
	for i, o := range c.operands {
		got := all[a.starts[i]:][:len(o.data)]
		if bounds[i] == nil {
			continue
		}
		for k := range got {
			touched[a.starts[i]+k] = true
		}
		if k := firstOutside(got, want[i], bounds[i]); k >= 0 {
			t.Errorf("%s: %s[%d] = %v, want %v ± %.3g", c.name, o.name, k, got[k], want[i][k], bounds[i][k])
		}
	}
	for i, v := range all {
		if !touched[i] && math.Float32bits(v) != math.Float32bits(a.before[i]) {
			t.Errorf("%s: value %d of the memory, which is no output, changed from %v to %v", c.name, i, a.before[i], v)
			return
		}
	}
}

// firstOutside returns the index of the first value outside its bound, or −1. Where
// the exact result is not finite the device's must not be either; which of NaN and
// infinity may depend on the order of the arithmetic.
func firstOutside(got []float32, want, bound []float64) int {
	for k, g := range got {
		value := float64(g)
		if !finite(want[k]) || math.Abs(want[k]) > math.MaxFloat32 {
			if finite(value) {
				return k
			}
			continue
		}
		if !(math.Abs(value-want[k]) <= bound[k]) {
			return k
		}
	}
	return -1
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// source makes the cases, which are the same on every run.
type source struct{ splitmix.Source }

func from[T int | uint64](seed T) source { return source{splitmix.Source(seed)} }

// values returns n values, roughly normal, with the given standard deviation.
func (s *source) values(n int, deviation float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		sum := 0.0
		for range 4 {
			sum += s.Uniform() - 0.5
		}
		v[i] = float32(sum * math.Sqrt(3) * deviation)
	}
	return v
}

// ids returns n token ids below vocab.
func (s *source) ids(n, vocab int) []int32 {
	k := make([]int32, n)
	for i := range k {
		k[i] = int32(s.Next() % uint64(vocab))
	}
	return k
}

// magnitude returns |x|.
func magnitude(x []float64) []float64 {
	m := make([]float64, len(x))
	for i, v := range x {
		m[i] = math.Abs(v)
	}
	return m
}

// relative bounds each value by share·|value|.
func relative(x []float64, share float64) []float64 {
	b := make([]float64, len(x))
	for i, v := range x {
		b[i] = share*math.Abs(v) + tiny
	}
	return b
}
