package kernels

// packedRows is the number of rows of a weight, or of its columns, that a CPU packs together.
const packedRows = 32

// WeightBytes is the most memory that NewWeight takes on a CPU of any kind, besides
// the parameters.
func WeightBytes(out, in int, trained bool) int64 {
	up := func(n int) int64 { return int64(pieces(n, packedRows)) * packedRows }
	n := 4 * max(up(out)*int64(in), up(out)*up(in)/2)
	if trained {
		n += 4 * max(int64(out)*up(in), up(out)*up(in)/2)
	}
	return n
}
