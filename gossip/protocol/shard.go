package protocol

import "loco/gossip/codec"

const (
	// ChunkValues is the number of values in a full data frame, a multiple of
	// codec.Block: 64 KiB of int8, 256 KiB of fp32.
	ChunkValues = 1 << 16
	// LengthMax bounds the values of a vector.
	LengthMax = 1 << 40
)

// Span is the values [Lo, Hi) of a vector.
type Span struct{ Lo, Hi int }

// Shards cuts length values into n spans on boundaries of codec.Block: ⌈length/256⌉
// blocks, of which the first (blocks mod n) spans have one more than the others. A
// vector of fewer blocks than members leaves the last spans empty.
func Shards(length, n int) []Span {
	blocks := (length + codec.Block - 1) / codec.Block
	each, extra := blocks/n, blocks%n
	out := make([]Span, n)
	at := 0
	for s := range out {
		size := each
		if s < extra {
			size++
		}
		lo := at * codec.Block
		at += size
		out[s] = Span{min(lo, length), min(at*codec.Block, length)}
	}
	return out
}

// Chunks is the number of data frames of a span.
func (s Span) Chunks() int { return s.pieces(ChunkValues) }

// Chunk returns the values of data frame c of a span.
func (s Span) Chunk(c int) Span { return s.piece(c, ChunkValues) }

// pieces is the number of pieces of at most values values.
func (s Span) pieces(values int) int { return (s.Hi - s.Lo + values - 1) / values }

func (s Span) piece(c, values int) Span {
	lo := s.Lo + c*values
	return Span{lo, min(lo+values, s.Hi)}
}
