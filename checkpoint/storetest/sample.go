package storetest

import (
	"fmt"
	"math"
	"strings"

	"loco/checkpoint"
)

// Sample is a state whose values depend on round and step alone, with bits that a careless
// copy would change.
func Sample(round, step uint64) *checkpoint.State {
	odd := []float32{
		0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, math.MaxFloat32, float32(math.Inf(-1)),
		math.Float32frombits(0x7fc12345), math.Float32frombits(0xff812345), math.Float32frombits(0x007fffff), float32(round), float32(step),
	}
	return &checkpoint.State{
		Round: round, Step: step, Tokens: math.MaxUint64 - round, Worker: 3,
		Model:   []checkpoint.Vector{{Name: "a<b>&\"ü", Shape: []int{5, 2}, Data: odd}, {Name: "norm", Shape: []int{2}, Data: odd[8:]}},
		Vectors: []checkpoint.Vector{{Name: "empty", Shape: []int{0, 7}}, {Name: "scalar", Data: odd[9:]}},
		Meta:    map[string]string{"strategy": "noloco", "quote": "\"<\n\u2028"},
	}
}

// bits is a state as text in which equal bits are equal.
func bits(s *checkpoint.State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %d %d %q", s.Round, s.Step, s.Tokens, s.Worker, fmt.Sprint(s.Meta))
	for _, list := range [][]checkpoint.Vector{s.Model, s.Vectors} {
		for _, v := range list {
			fmt.Fprintf(&b, "\n%q %v", v.Name, append([]int{}, v.Shape...))
			for _, x := range v.Data {
				fmt.Fprintf(&b, " %x", math.Float32bits(x))
			}
		}
	}
	return b.String()
}
