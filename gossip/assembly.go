package gossip

import (
	"iter"

	"loco/gossip/codec"
	"loco/gossip/protocol"
)

// assembly puts an encoding together from its chunks, in whatever order they come. Each lies where it
// would if all before it were as long as they can be, so that nothing moves while others read.
type assembly struct {
	codec codec.Codec
	bytes []byte
	lens  map[int]int // of chunks by their first value; nil where the codec's rate is fixed
}

// newAssembly has room for so many values, in old if that is large enough.
func newAssembly(c codec.Codec, values int, old []byte) *assembly {
	a := &assembly{codec: c}
	n := c.EncodedLen(values)
	if cap(old) < n {
		old = make([]byte, n)
	}
	a.bytes = old[:n]
	if !c.Fixed() {
		a.lens = map[int]int{}
	}
	return a
}

// room is where the chunk that has the values s goes.
func (a *assembly) room(s protocol.Span) []byte {
	lo := a.codec.EncodedLen(s.Lo)
	hi := lo + a.codec.EncodedLen(s.Hi-s.Lo)
	return a.bytes[lo:hi:hi]
}

// placed says that a chunk of so many bytes is in its room.
func (a *assembly) placed(s protocol.Span, bytes int) {
	if a.lens != nil {
		a.lens[s.Lo] = bytes
	}
}

// chunk is one that is placed.
func (a *assembly) chunk(s protocol.Span) []byte {
	room := a.room(s)
	if a.lens != nil {
		return room[:a.lens[s.Lo]]
	}
	return room
}

// whole is the encoding, of chunks in the order of their values that are all placed.
func (a *assembly) whole(chunks iter.Seq[protocol.Span]) []byte {
	if a.lens == nil {
		return a.bytes
	}
	var packed []byte
	for s := range chunks {
		packed = append(packed, a.chunk(s)...)
	}
	return packed
}

// fits says that so many bytes can be an encoding of n values.
func fits(c codec.Codec, n, bytes int) bool {
	most := c.EncodedLen(n)
	return bytes == most || bytes < most && !c.Fixed()
}
