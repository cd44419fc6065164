package protosim

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"loco/gossip/protocol"
)

// state is what workers agree on: a toy φ, one value a block.
type state struct {
	round  uint64
	tokens float64 // of the lineage
	phi    []float64
	id     [32]byte
	parent *state   // that a round was applied to
	from   []uint64 // the contributions of that round
	mean   [32]byte // the hash of what was applied
}

func genesis(blocks int) *state {
	s := &state{phi: make([]float64, blocks)}
	s.seal()
	return s
}

func (s *state) String() string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%d/%x of %.0f tokens", s.round, s.id[:3], s.tokens)
}

// seal computes the digest.
func (s *state) seal() {
	var h hasher
	h.add(s.round)
	for _, x := range s.phi {
		h.add(math.Float64bits(x))
	}
	s.id = h.sum()
}

func (s *state) clone() *state {
	c := *s
	c.phi = slices.Clone(s.phi)
	return &c
}

// apply is the outer step.
func (s *state) apply(result []*piece, tokens float64) *state {
	n := &state{round: s.round + 1, tokens: s.tokens + tokens, phi: slices.Clone(s.phi), parent: s}
	if len(result) > 0 && result[0] != nil {
		n.from = result[0].from
	}
	for b, p := range result {
		n.phi[b] -= 0.7 * p.value
	}
	n.seal()
	return n
}

// mix is the outer step of a strategy whose replicas differ.
func (s *state) mix(result []*piece, tokens float64) *state {
	n := s.apply(result, tokens)
	n.mean = hashOf(result)
	return n
}

// took says that s is a state of a round, or follows from one, to which a mean was applied.
func (s *state) took(round uint64, mean [32]byte) bool {
	from := s.at(round)
	return from != nil && from.round == round && from.mean == mean
}

// at is the state of a round that s descends from, s itself included; nil: none.
func (s *state) at(round uint64) *state {
	for s != nil && s.round > round {
		s = s.parent
	}
	return s
}

// descends says that s is a state of a round, or follows from it.
func (s *state) descends(round uint64, id [32]byte) bool {
	from := s.at(round)
	return from != nil && from.round == round && from.id == id
}

// fork is the newest state that both descend from; nil: none.
func (s *state) fork(o *state) *state {
	for s != nil && o != nil && s.id != o.id {
		if s.round >= o.round {
			s = s.parent
		} else {
			o = o.parent
		}
	}
	if o == nil {
		return nil
	}
	return s
}

// hasher is 128 bits of mixing: collisions are no matter of a simulation.
type hasher struct{ a, b uint64 }

func (h *hasher) add(x uint64) {
	h.a = (h.a ^ x ^ 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h.a ^= h.a >> 29
	h.b = (h.b + x + h.a) * 0x94d049bb133111eb
	h.b ^= h.b >> 31
}

func (h *hasher) sum() (s [32]byte) {
	binary.LittleEndian.PutUint64(s[:], h.a)
	binary.LittleEndian.PutUint64(s[8:], h.b)
	return s
}

// piece is one block of a vector with where it comes from.
type piece struct {
	value float64
	from  []uint64 // contributions in it, as often as they were added
}

func hashOf(result []*piece) [32]byte {
	var h hasher
	for _, p := range result {
		if p == nil {
			h.add(7)
			continue
		}
		h.add(math.Float64bits(p.value))
	}
	return h.sum()
}

// contribution is what a worker brought to a round.
type contribution struct {
	id     uint64
	node   int
	by     *roundProc // of an all-reduce: the process
	seen   bool       // in a mean, by it
	lost   bool       // with a state that the process gave up
	round  uint64
	base   [32]byte
	part   protocol.Part // of a pair's round
	weight float64
	vec    []*piece

	steps    []uint64 // of a flight: the inner steps in it
	residual uint64   // and the contribution whose rounding error it carries
}

// contribute makes a worker's vector for its round, and registers it.
func (w *world) contribute(node int, s *state) *contribution {
	w.ids++
	c := &contribution{id: w.ids, node: node, round: s.round, base: s.id, weight: float64(50 + w.rng.IntN(100))}
	for _, x := range s.phi {
		target := float64(node)
		c.vec = append(c.vec, &piece{0.1*(x-target) + w.rng.NormFloat64(), []uint64{c.id}})
	}
	w.check.contributions[c.id] = c
	return c
}
