package kernels

const (
	// SumLanes is the number of partial sums of a chunk in [Device].Sum and SquaredNorm:
	// value i goes to lane i mod SumLanes.
	SumLanes = 32
	// SumChunk is the number of values that Sum and SquaredNorm add in the lanes before the
	// next chunk begins.
	SumChunk = 4096
)

// JoinSums returns the sum of the lanes of a chunk, which it changes, in the tree that
// [Device].SquaredNorm describes.
func JoinSums(s *[SumLanes]float64) float64 {
	for half := SumLanes / 2; half > 0; half /= 2 {
		for l := range half {
			s[l] += s[l+half]
		}
	}
	return s[0]
}
