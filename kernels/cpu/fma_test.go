package cpu

import (
	"math"
	"math/big"
	"testing"
)

// exactFuse returns a·b + c rounded once to float32, by unlimited arithmetic.
func exactFuse(a, b, c float32) float32 {
	x := new(big.Float).SetPrec(0).SetMode(big.ToNearestEven)
	x.SetPrec(1200).SetFloat64(float64(a))
	x.Mul(x, new(big.Float).SetPrec(1200).SetFloat64(float64(b)))
	x.Add(x, new(big.Float).SetPrec(1200).SetFloat64(float64(c)))
	f, _ := x.Float32()
	return f
}

func checkFuse(t *testing.T, a, b, c float32) {
	t.Helper()
	got := float32(fuse(float64(a)*float64(b), float64(c)))
	if want := exactFuse(a, b, c); got != want {
		t.Errorf("fuse(%v·%v + %v) = %v (%#x), want %v (%#x)", a, b, c, got, math.Float32bits(got), want, math.Float32bits(want))
	}
}

// hardFloats returns values whose products and sums come close to the middle between
// two float32 values: a few bits at both ends of the significand, at every exponent.
func hardFloats() []float32 {
	var values []float32
	for _, exponent := range []uint32{0, 1, 2, 12, 63, 75, 76, 100, 101, 102, 103, 125, 126, 127, 128, 129, 150, 151, 178, 252, 253, 254} {
		for _, significand := range []uint32{0, 1, 3, 0x200001, 0x3fffff, 0x400000, 0x400001, 0x7ffffe, 0x7fffff, 0x155555, 0x7ff000, 0x000fff} {
			values = append(values, math.Float32frombits(exponent<<23|significand))
		}
	}
	return values
}

func TestFuseRoundsOnce(t *testing.T) {
	values := hardFloats()
	s := uint64(1)
	next := func(n int) int {
		s = s*6364136223846793005 + 1442695040888963407
		return int(s>>33) % n
	}
	sign := func(x float32) float32 {
		if next(2) == 0 {
			return -x
		}
		return x
	}
	rounds := 400_000
	if testing.Short() {
		rounds = 40_000
	}
	for range rounds {
		a, b, c := values[next(len(values))], values[next(len(values))], values[next(len(values))]
		checkFuse(t, a, sign(b), sign(c))
		if t.Failed() {
			return
		}
	}
}

// TestFuseWhereTwoRoundingsDiffer builds sums that lie just beside the middle between
// two float32 values, nearer to it than float64 resolves. It also shows that plain
// float64 arithmetic fails there, so that the test cannot pass without the care.
func TestFuseWhereTwoRoundingsDiffer(t *testing.T) {
	differ := 0
	for exponent := -100; exponent <= 100; exponent += 5 {
		for _, odd := range []float64{1, 0x1p-1, 0x1.000002p0, 0x1.fffffep0} {
			for _, sign := range []float64{1, -1} {
				// a·b is half a unit in the last place of c and a little.
				c := float32(math.Ldexp(odd, exponent))
				half := math.Ldexp(1, exponent-24)
				if odd == 0x1p-1 {
					half /= 2
				}
				for _, little := range []float64{0x1p-23, -0x1p-23, -0x1p-24} {
					a := float32(1 + little)
					b := float32(half * sign)
					for _, small := range []float32{1, a} {
						checkFuse(t, small, b, c)
						checkFuse(t, -small, b, c)
						if float32(float64(small)*float64(b)+float64(c)) != exactFuse(small, b, c) {
							differ++
						}
					}
				}
			}
		}
	}
	// c a tiny value and a·b a middle: a·b = (1 + 2⁻¹²)(1 + 2⁻¹²) has 25 bits.
	a := float32(1 + 0x1p-12)
	for exponent := -149; exponent < -30; exponent++ {
		for _, c := range []float32{float32(math.Ldexp(1, exponent)), -float32(math.Ldexp(1, exponent))} {
			for _, b := range []float32{a, -a, a * 4, float32(1 - 0x1p-12)} {
				checkFuse(t, a, b, c)
				if float32(float64(a)*float64(b)+float64(c)) != exactFuse(a, b, c) {
					differ++
				}
			}
		}
	}
	if differ < 100 {
		t.Errorf("two roundings differ from one in %d cases, which is too few to test anything", differ)
	}
}

func TestFuseNotFinite(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct{ p, c, want float64 }{
		{inf, 1, inf}, {1, -inf, -inf}, {inf, inf, inf}, {math.MaxFloat32 * math.MaxFloat32, 1, inf}, {-1e60, 1, -inf}, {0, 0, 0},
	} {
		if got := fuse(c.p, c.c); got != c.want {
			t.Errorf("fuse(%v + %v) = %v, want %v", c.p, c.c, got, c.want)
		}
	}
	for _, c := range [][2]float64{{inf, -inf}, {nan, 1}, {1, nan}} {
		if got := fuse(c[0], c[1]); got == got {
			t.Errorf("fuse(%v + %v) = %v, want NaN", c[0], c[1], got)
		}
	}
	if got := fuse(-1e-60, 0); !(got == 0 && math.Signbit(got)) {
		t.Errorf("a product too small for float32 is %v, want -0", got)
	}
}

func FuzzFuse(f *testing.F) {
	f.Add(uint32(0x3f800800), uint32(0x3f800800), uint32(1))
	f.Add(uint32(0x3f800000), uint32(0x33800000), uint32(0x3f800001))
	f.Add(uint32(0x00000001), uint32(0x3f000000), uint32(0x80000001))
	f.Fuzz(func(t *testing.T, x, y, z uint32) {
		a, b, c := math.Float32frombits(x), math.Float32frombits(y), math.Float32frombits(z)
		for _, v := range []float32{a, b, c} {
			if v != v || math.IsInf(float64(v), 0) {
				return
			}
		}
		checkFuse(t, a, b, c)
	})
}
