package protocol

const (
	// ChunkValues is the most values of a data frame: 64 KiB of int8, 256 KiB of fp32. A full one has as
	// many as are a multiple of the codec's block.
	ChunkValues = 1 << 16
	// LengthMax bounds the values of a vector.
	LengthMax = 1 << 40
)

// Span is the values [Lo, Hi) of a vector.
type Span struct{ Lo, Hi int }

// Shards cuts length values into n spans on boundaries of a codec's block: ⌈length/block⌉
// blocks, of which the first (blocks mod n) spans have one more than the others. A
// vector of fewer blocks than members leaves the last spans empty.
func Shards(length, n, block int) []Span {
	blocks := (length + block - 1) / block
	each, extra := blocks/n, blocks%n
	out := make([]Span, n)
	at := 0
	for s := range out {
		size := each
		if s < extra {
			size++
		}
		lo := at * block
		at += size
		out[s] = Span{min(lo, length), min(at*block, length)}
	}
	return out
}

// Chunks is the number of chunks of at most so many values.
func (s Span) Chunks(values int) int { return (s.Hi - s.Lo + values - 1) / values }

// Chunk is the values of chunk c.
func (s Span) Chunk(c, values int) Span {
	lo := s.Lo + c*values
	return Span{lo, min(lo+values, s.Hi)}
}
