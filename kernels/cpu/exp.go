package cpu

import "math"

// Go's math.Exp and math.Log have different code, and bits, on different
// architectures. These have one definition.

const (
	expHigh  = 89         // e^89 overflows float32
	expLow   = -104       // e^−104 rounds to 0
	log2E    = 1.44269502 // 1/ln 2
	ln2High  = 0.693145751953125
	ln2Low   = 1.42860677e-06 // ln 2 − ln2High
	roundBit = 12582912       // 1.5·2²³: adding it rounds a float32 to an integer
	// e^r = 1 + r + r²·(0.5 + r·(expC1 + r·(expC2 + ...))) for |r| ≤ ln 2/2, with a
	// relative error below 8e-9 (Chebyshev fit).
	expC1 = 0.16666576
	expC2 = 0.041666556
	expC3 = 0.008363179
	expC4 = 0.0013926184
)

// exp32 returns e^x within 1.1 ulp, with every operation rounded to float32:
// x = n·ln 2 + r, e^x = 2^n·e^r. It overflows to +Inf and underflows through the
// subnormals to 0, and NaN gives NaN.
func exp32(x float32) float32 {
	if x > expHigh {
		x = expHigh
	}
	if x < expLow {
		x = expLow
	}
	shifted := float32(x*log2E) + roundBit
	n := shifted - roundBit
	r := x - float32(n*ln2High)
	r -= float32(n * ln2Low)
	q := expC3 + float32(r*expC4)
	q = expC2 + float32(r*q)
	q = expC1 + float32(r*q)
	q = 0.5 + float32(r*q)
	q = float32(float32(r*r)*q) + r
	q += 1
	// 2^n in two factors, because n runs from −150 to 128.
	i := math.Float32bits(shifted) - math.Float32bits(roundBit)
	half := uint32(int32(i) >> 1)
	return q * math.Float32frombits((half+127)<<23) * math.Float32frombits((i-half+127)<<23)
}

// log64 returns ln x for a positive, normal x, with a relative error below 1e-11:
// x = m·2^e, s = (m−1)/(m+1), ln x = e·ln 2 + 2·(s + s³/3 + s⁵/5 + ...). For +Inf and
// NaN it returns x.
func log64(x float64) float64 {
	if !(x <= math.MaxFloat64) {
		return x
	}
	bits := math.Float64bits(x)
	// The exponent of x/√½, so that m is in [√½, √2).
	e := int64(bits-math.Float64bits(math.Sqrt2/2)) >> 52
	m := math.Float64frombits(bits - uint64(e)<<52)
	s := (m - 1) / (m + 1)
	z := float64(s * s)
	p := 1.0/15 + float64(z*(1.0/17))
	p = 1.0/13 + float64(z*p)
	p = 1.0/11 + float64(z*p)
	p = 1.0/9 + float64(z*p)
	p = 1.0/7 + float64(z*p)
	p = 1.0/5 + float64(z*p)
	p = 1.0/3 + float64(z*p)
	p = 1 + float64(z*p)
	return float64(float64(e)*math.Ln2) + float64(2*float64(s*p))
}
