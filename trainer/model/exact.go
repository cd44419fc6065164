package model

import (
	"math"

	"loco/kernels/splitmix"
)

// The functions of this file give the same bits on every machine, which math's do
// not: some architectures have assembly of their own for them, and where the
// compiler may fuse a product and a sum (arm64) it does. Every product that is
// added is therefore rounded by a conversion, and nothing but exactly rounded
// operations is used. They are accurate to a few units in the last place, far
// below the float32 they end in.

// ln returns the natural logarithm of x > 0.
func ln(x float64) float64 {
	mantissa, exponent := math.Frexp(x)
	if mantissa < math.Sqrt2/2 {
		mantissa *= 2
		exponent--
	}
	// ln m = 2·artanh((m−1)/(m+1)); the argument is at most 0.172, so the term of
	// power 25 is below 2⁻⁶⁰ of the first.
	t := (mantissa - 1) / (mantissa + 1)
	t2 := t * t
	sum := 0.0
	for power := 25; power >= 1; power -= 2 {
		sum = float64(sum*t2) + 1/float64(power)
	}
	return float64(2*t*sum) + float64(float64(exponent)*math.Ln2)
}

// exp returns e to the power x, for |x| < 700.
func exp(x float64) float64 {
	// ln 2 in two parts, the first with trailing zeros so that k·ln2High is exact.
	const (
		ln2High = 6.93147180369123816490e-01
		ln2Low  = 1.90821492927058770002e-10
	)
	k := math.RoundToEven(x / math.Ln2)
	r := float64(x-float64(k*ln2High)) - float64(k*ln2Low) // |r| ≤ 0.347
	sum := 1.0
	for n := 16; n >= 1; n-- {
		sum = float64(sum*r/float64(n)) + 1
	}
	return math.Ldexp(sum, int(k))
}

// cosSin returns the cosine and sine of x, for 0 ≤ x < 2^20.
func cosSin(x float64) (c, s float64) {
	// π/2 in three parts; the first two have 33 significant bits, so their products
	// with k < 2^20 are exact.
	const (
		part1 = 1.57079632673412561417e+00
		part2 = 6.07710050630396597660e-11
		part3 = 2.02226624879595063154e-21
	)
	k := math.RoundToEven(x / (math.Pi / 2))
	r := float64(x-float64(k*part1)) - float64(k*part2)
	r -= float64(k * part3)
	r2 := r * r // |r| ≤ π/4
	c, s = 1, 1
	for n := 18.0; n >= 2; n -= 2 {
		c = 1 - float64(c*r2/((n-1)*n))
		s = 1 - float64(s*r2/(n*(n+1)))
	}
	s *= r
	switch int64(k) % 4 {
	case 1:
		return -s, c
	case 2:
		return -c, -s
	case 3:
		return s, -c
	}
	return c, s
}

// random is a stream of numbers from a seed.
type random struct{ splitmix.Source }

// normalPair returns two independent standard normal numbers (Marsaglia's polar
// method: a point of the unit disc, its angle kept and its radius replaced).
func (r *random) normalPair() (float64, float64) {
	for {
		x, y := 2*r.Uniform()-1, 2*r.Uniform()-1
		square := float64(x*x) + float64(y*y)
		if square > 0 && square < 1 {
			f := math.Sqrt(-2 * ln(square) / square)
			return x * f, y * f
		}
	}
}

// stream starts the random numbers of one purpose of one seed: FNV-1a over the
// name, scrambled together with the seed.
func stream(seed uint64, name string) random {
	hash := uint64(14695981039346656037)
	for i := range len(name) {
		hash = (hash ^ uint64(name[i])) * 1099511628211
	}
	scrambled := splitmix.Source(seed)
	return random{splitmix.Source(scrambled.Next() ^ hash)}
}
