// Package splitmix is the generator splitmix64 (Steele, Lea, Flood: Fast splittable
// pseudorandom number generators, OOPSLA 2014, figure 16).
//
// It is for choices that have to follow from a seed on every machine and in every
// release: initial weights, the order of the data, matchings, test cases. It is no source
// of secrets.
package splitmix

import "math/bits"

// Gamma is the odd constant by which a Source steps: 2⁶⁴ over the golden ratio.
const Gamma = 0x9e3779b97f4a7c15

// Source is a stream of numbers. Its value is its seed at first, and its state later.
type Source uint64

// Next returns 64 random bits.
func (s *Source) Next() uint64 {
	*s += Gamma
	return Mix(uint64(*s))
}

// Uniform returns a multiple of 2⁻⁵³ in [0, 1).
func (s *Source) Uniform() float64 { return float64(s.Next()>>11) / (1 << 53) }

// Mix is a bijection of 64-bit numbers in which every bit of the input moves every bit of
// the output.
func Mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Below maps 64 random bits to [0, n). It is uniform up to n·2⁻⁶⁴.
func Below(random, n uint64) uint64 {
	high, _ := bits.Mul64(random, n)
	return high
}
