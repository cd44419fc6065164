package cpu

import "math"

// A sum of products is one chain of fused multiply-adds: s ← a·b + s, rounded once.
// Vector units do that in one instruction. Here float64 stands in: the product of two
// float32 values is exact in float64, and the sum is then rounded to 53 bits and again
// to 24. Two roundings differ from one only where the first lands on the middle
// between two float32 values, which fuse therefore looks for.

// fuse returns p + c rounded once to float32, where p is the exact product of two
// float32 values and c a float32 value. It is short enough to be inlined.
func fuse(p, c float64) float64 {
	s := p + c
	// The middle between two float32 values, normal or not, has 25 significant bits
	// at most, so the low 28 of float64's 53 are zero.
	if b := math.Float64bits(s); b<<36 == 0 {
		// Knuth's two-sum: p + c = s + rest exactly. Where the sum is not exact, a
		// neighbour of s lies on the right side of the middle.
		back := s - p
		if rest := (p - (s - back)) + (c - back); rest > 0 || rest < 0 {
			s = math.Float64frombits(b + 1 - (b^math.Float64bits(rest))>>63<<1)
		}
	}
	return float64(float32(s))
}
