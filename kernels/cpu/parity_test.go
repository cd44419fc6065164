package cpu

import (
	"math"
	"testing"
)

// parityValues returns n values between guards of NaN, at an odd place in memory: a
// path that reads outside poisons its result, one that writes outside is found by
// sound. From some seeds on they have what is rare in training: infinities, NaN,
// zeros of both signs, subnormals, the largest and the smallest.
func parityValues(seed *uint64, n int, rare bool) (values []float32, sound func() bool) {
	const guard = 35
	all := make([]float32, n+2*guard)
	poison := math.Float32frombits(0x7fc0dead)
	for i := range all {
		all[i] = poison
	}
	values = all[guard : guard+n : guard+n]
	special := []float32{
		float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 0, float32(math.Copysign(0, -1)),
		math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-39, math.MaxFloat32, -math.MaxFloat32, 88.7, -103.9, 1,
	}
	for i := range values {
		*seed = *seed*6364136223846793005 + 1442695040888963407
		draw := *seed >> 33
		values[i] = (float32(draw%20011)/10005 - 1) * 3
		if rare && draw%11 == 0 {
			values[i] = special[int(draw/11)%len(special)]
		}
	}
	return values, func() bool {
		for i, v := range all {
			if (i < guard || i >= guard+n) && math.Float32bits(v) != math.Float32bits(poison) {
				return false
			}
		}
		return true
	}
}

// sameBits says whether two results are equal: of a NaN only that it is one, since the
// architectures choose its bits.
func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// parityCase is one function of a path on five slices and three scalars.
type parityCase struct {
	name string
	run  func(p *path, v [5][]float32, s [3]float32) float32
}

var parityCases = []parityCase{
	{"add", func(p *path, v [5][]float32, _ [3]float32) float32 { p.add(v[0], v[1]); return 0 }},
	{"scale", func(p *path, v [5][]float32, s [3]float32) float32 { p.scale(v[0], s[0]); return 0 }},
	{"axpby", func(p *path, v [5][]float32, s [3]float32) float32 { p.axpby(v[0], v[1], v[2], s[0], s[1]); return 0 }},
	{"axpby in place", func(p *path, v [5][]float32, s [3]float32) float32 {
		p.axpby(v[1], v[0], v[1], s[0], s[2])
		return 0
	}},
	{"axpbSum", func(p *path, v [5][]float32, s [3]float32) float32 {
		p.axpbSum(v[0], v[1], v[2], v[3], s[0], s[1], s[2])
		return 0
	}},
	{"axpbSum in place", func(p *path, v [5][]float32, s [3]float32) float32 {
		p.axpbSum(v[2], v[0], v[1], v[2], s[0], s[1], s[2])
		return 0
	}},
	{"dot", func(p *path, v [5][]float32, _ [3]float32) float32 { return p.dot(v[0], v[1]) }},
	{"expSum", func(p *path, v [5][]float32, s [3]float32) float32 { return p.expSum(v[0], v[1], s[0]) }},
	{"expSum in place", func(p *path, v [5][]float32, s [3]float32) float32 { return p.expSum(v[0], v[0], s[0]) }},
	{"scoreGrad", func(p *path, v [5][]float32, s [3]float32) float32 {
		p.scoreGrad(v[0], v[1], s[0], s[1], s[2])
		return 0
	}},
	{"normRow", func(p *path, v [5][]float32, s [3]float32) float32 { p.normRow(v[0], v[1], v[2], s[0]); return 0 }},
	{"normGradSum", func(p *path, v [5][]float32, s [3]float32) float32 {
		return p.normGradSum(v[0], v[1], v[2], v[3], s[0])
	}},
	{"normGrad", func(p *path, v [5][]float32, s [3]float32) float32 {
		p.normGrad(v[0], v[1], v[2], v[3], s[0], s[1])
		return 0
	}},
	{"rotate", func(p *path, v [5][]float32, _ [3]float32) float32 { p.rotate(v[0], v[1], v[2], v[3], -1); return 0 }},
	{"swiglu", func(p *path, v [5][]float32, _ [3]float32) float32 { p.swiglu(v[0], v[1], v[2]); return 0 }},
	{"swigluGrad", func(p *path, v [5][]float32, _ [3]float32) float32 {
		p.swigluGrad(v[0], v[1], v[2], v[3], v[4])
		return 0
	}},
	{"swigluGrad in place", func(p *path, v [5][]float32, _ [3]float32) float32 {
		p.swigluGrad(v[0], v[1], v[2], v[0], v[1])
		return 0
	}},
	{"adamw", func(p *path, v [5][]float32, _ [3]float32) float32 {
		p.adamw(v[0], v[1], v[2], v[3], &[10]float32{0.7, 0.9, 0.1, 0.95, 0.05, 1e-4, 1e-3, 0.3, 0.2, 1e-8})
		return 0
	}},
}

func TestPathsAgree(t *testing.T) {
	for _, p := range assembly(t) {
		for _, c := range parityCases {
			for n := range 131 { // every tail
				checkParity(t, p, c, n, uint64(n), n%2 == 1)
			}
			checkParity(t, p, c, 1000, 7, true)
		}
	}
}

func FuzzPathsAgree(f *testing.F) {
	f.Add(uint8(0), uint16(5), uint64(1), false)
	f.Add(uint8(3), uint16(70), uint64(2), true)
	f.Fuzz(func(t *testing.T, which uint8, n uint16, seed uint64, rare bool) {
		for _, p := range assembly(t) {
			checkParity(t, p, parityCases[int(which)%len(parityCases)], int(n%300), seed, rare)
		}
	})
}

func checkParity(t *testing.T, p *path, c parityCase, n int, seed uint64, rare bool) {
	t.Helper()
	var got, want [5][]float32
	var sound [5]func() bool
	for i := range got {
		s := seed + uint64(i)<<20
		got[i], sound[i] = parityValues(&s, n, rare)
		s = seed + uint64(i)<<20
		want[i], _ = parityValues(&s, n, rare)
	}
	scalars := [3]float32{0.37, 1.25, -0.5}
	a, b := c.run(p, got, scalars), c.run(&plainPath, want, scalars)
	if !sameBits(a, b) {
		t.Errorf("%s on %s, %d values: result %v, plain Go has %v", c.name, p.name, n, a, b)
	}
	for i := range got {
		for k := range got[i] {
			if !sameBits(got[i][k], want[i][k]) {
				t.Errorf("%s on %s, %d values: value %d of operand %d is %v (%#x), plain Go has %v (%#x)", c.name, p.name, n, k, i,
					got[i][k], math.Float32bits(got[i][k]), want[i][k], math.Float32bits(want[i][k]))
				return
			}
		}
		if !sound[i]() {
			t.Errorf("%s on %s, %d values: wrote beside operand %d", c.name, p.name, n, i)
		}
	}
}

func TestLanesAgree(t *testing.T) {
	for _, p := range assembly(t) {
		for _, n := range []int{0, 1, 2, 5, 40} { // blocks of 32
			for _, rare := range []bool{false, true} {
				seed := uint64(n)
				x, _ := parityValues(&seed, n*lanes, rare)
				var got, want [lanes]float64
				for l := range got {
					got[l] = math.Sqrt(float64(l + 1))
				}
				want = got
				for i, f := range []func(*[lanes]float64, []float32){p.sumLanes, p.squareLanes} {
					[]func(*[lanes]float64, []float32){plainSumLanes, plainSquareLanes}[i](&want, x)
					f(&got, x)
					for l, v := range got {
						if math.Float64bits(v) != math.Float64bits(want[l]) && (v == v || want[l] == want[l]) {
							t.Fatalf("%s, %d values, squares %v: lane %d is %v, plain Go has %v", p.name, n*lanes, i == 1, l, v, want[l])
						}
					}
				}
			}
		}
	}
}

// TestGreatest has a test of its own: which of two zeros, and whether a NaN, is the
// greatest is left open.
func TestGreatest(t *testing.T) {
	for _, p := range allPaths() {
		for n := 1; n < 131; n++ {
			for at := range n {
				seed := uint64(n)
				x, _ := parityValues(&seed, n, false)
				for i := range x {
					x[i] -= 10 // no zero that a masked lane could add is the greatest
				}
				x[at] = -1.5
				if got := p.greatest(x); got != -1.5 {
					t.Fatalf("greatest on %s, %d values: %v, want value %d = -1.5", p.name, n, got, at)
				}
				if got := p.scaleGreatest(x, 0.5); got != -0.75 || x[at] != -0.75 {
					t.Fatalf("scaleGreatest on %s, %d values: %v and value %d = %v, want -0.75", p.name, n, got, at, x[at])
				}
			}
		}
	}
}

// checkProduct runs one product, and one square on the diagonal, with sums that go on
// from c, are added to it, or begin at 0, and with rows apart.
func checkProduct(t *testing.T, p *path, m, n, k, mode int, transposed bool, seed uint64, rare bool) {
	t.Helper()
	const gap = 3
	cRow, bRow := n+gap, n+gap
	aRow, aCol := k+gap, 1
	if transposed {
		aRow, aCol = 1, m+gap
	}
	make2 := func() (x product, w []float32, sound func() bool) {
		s := seed
		c, soundC := parityValues(&s, m*cRow, rare)
		x = product{c: c, cRow: cRow, aRow: aRow, aCol: aCol, bRow: bRow, m: m, n: n, k: k, mode: mode}
		x.a, _ = parityValues(&s, m*(k+gap)+k*(m+gap), rare)
		x.b, _ = parityValues(&s, max(k, m)*bRow, rare)
		w, _ = parityValues(&s, 16*16, rare)
		return x, w, soundC
	}
	got, gw, sound := make2()
	want, ww, _ := make2()
	compare := func(what string) {
		for i := range got.c {
			if !sameBits(got.c[i], want.c[i]) {
				t.Fatalf("%s on %s, m=%d n=%d k=%d mode=%d transposed=%v: value %d is %v, plain Go has %v", what, p.name, m, n, k, mode, transposed, i, got.c[i], want.c[i])
			}
		}
		if !sound() {
			t.Fatalf("%s on %s, m=%d n=%d k=%d: wrote beside c", what, p.name, m, n, k)
		}
	}
	p.product(&got, nil)
	plainPath.product(&want, nil)
	compare("product")
	count := min(m, p.rows)
	p.diagonal(got.c, cRow, gw, 16, got.b, bRow, count, n, transposed)
	plainPath.diagonal(want.c, cRow, ww, 16, want.b, bRow, count, n, transposed)
	compare("diagonal")
}

func TestProductsAgree(t *testing.T) {
	for _, p := range assembly(t) {
		for m := range 28 {
			for _, n := range []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 50} {
				for _, k := range []int{0, 1, 3, 4, 5, 9} {
					checkProduct(t, p, m, n, k, (m+n+k)%3, (m+k)%2 == 0, uint64(m*n), false)
				}
			}
		}
		for n := range 70 { // every tail of the columns, in every mode
			for mode := range 3 {
				checkProduct(t, p, 13, n, 5, mode, false, uint64(n), n%5 == 0)
				checkProduct(t, p, 13, n, 5, mode, true, uint64(n), n%5 == 0)
			}
		}
	}
}

func FuzzProductsAgree(f *testing.F) {
	f.Add(uint8(12), uint8(32), uint8(7), uint8(0), uint64(1), false)
	f.Add(uint8(7), uint8(17), uint8(30), uint8(5), uint64(1), true)
	f.Fuzz(func(t *testing.T, m, n, k, form uint8, seed uint64, rare bool) {
		for _, p := range assembly(t) {
			checkProduct(t, p, int(m%40), int(n%80), int(k%50), int(form>>1)%3, form&1 != 0, seed, rare)
		}
	})
}

func TestTurn(t *testing.T) {
	for _, p := range allPaths() {
		for _, n := range []int{0, 1, 7, 8, 9, 16, 33, 48} {
			for _, k := range []int{0, 1, 8, 15, 16, 17, 40} {
				seed := uint64(n*100 + k)
				src, _ := parityValues(&seed, n*(k+3), false)
				dst, sound := parityValues(&seed, k*(n+2), false)
				before := append([]float32(nil), dst...)
				p.turn(dst, n+2, src, k+3, n, k)
				for l := range k {
					for i := range n + 2 {
						want := before[l*(n+2)+i]
						if i < n {
							want = src[i*(k+3)+l]
						}
						if dst[l*(n+2)+i] != want {
							t.Fatalf("turn on %s, %dx%d: value (%d, %d) is %v, want %v", p.name, n, k, l, i, dst[l*(n+2)+i], want)
						}
					}
				}
				if !sound() {
					t.Errorf("turn on %s, %dx%d: wrote beside dst", p.name, n, k)
				}
			}
		}
	}
}
