package kernels

import "math"

// A sum of products is one chain of fused multiply-adds: s ← a·b + s, rounded once.
// Vector units do that in one instruction. Here float64 stands in: the product of two
// float32 values is exact in float64, and the sum is then rounded to 53 bits and again
// to 24. Two roundings differ from one only where the first lands on the middle
// between two float32 values, which fuse therefore looks for.

// fuse returns p + c rounded once to float32, where p is the exact product of two
// float32 values and c a float32 value.
func fuse(p, c float64) float64 {
	s := p + c
	// The middle between two float32 values, normal or not, has 25 significant bits
	// at most, so the low 28 of float64's 53 are zero.
	if math.Float64bits(s)<<36 == 0 {
		s = unround(s, p, c)
	}
	return float64(float32(s))
}

// unround returns a float64 on the same side of every middle as the exact p + c, of
// which s is the rounded sum: s itself where it is exact, else its neighbour towards
// the exact sum.
func unround(s, p, c float64) float64 {
	// Knuth's two-sum: p + c = s + rest exactly.
	back := s - p
	rest := (p - (s - back)) + (c - back)
	switch {
	case rest > 0:
		return math.Nextafter(s, math.Inf(1))
	case rest < 0:
		return math.Nextafter(s, math.Inf(-1))
	}
	return s // exact, or not finite
}
