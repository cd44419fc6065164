package gossip

import "loco/gossip/codec"

const (
	// chunkValues is the number of values in a full data frame, a multiple of
	// codec.Block: 64 KiB of int8, 256 KiB of fp32.
	chunkValues = 1 << 16
	// lengthMax bounds the values of a vector.
	lengthMax = 1 << 40
)

// span is the values [lo, hi) of a vector.
type span struct{ lo, hi int }

// shards cuts length values into n spans on boundaries of codec.Block: ⌈length/256⌉
// blocks, of which the first (blocks mod n) spans have one more than the others. A
// vector of fewer blocks than members leaves the last spans empty.
func shards(length, n int) []span {
	blocks := (length + codec.Block - 1) / codec.Block
	each, extra := blocks/n, blocks%n
	out := make([]span, n)
	at := 0
	for s := range out {
		size := each
		if s < extra {
			size++
		}
		lo := at * codec.Block
		at += size
		out[s] = span{min(lo, length), min(at*codec.Block, length)}
	}
	return out
}

// chunks is the number of data frames of a span.
func (s span) chunks() int { return (s.hi - s.lo + chunkValues - 1) / chunkValues }

// chunk returns the values of data frame c of a span.
func (s span) chunk(c int) span {
	lo := s.lo + c*chunkValues
	return span{lo, min(lo+chunkValues, s.hi)}
}
