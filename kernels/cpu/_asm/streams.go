package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// streamTurn is the number of float32 that one turn of a stream takes.
const streamTurn = 128

// streams emits loops that do nothing but read or write memory: the rate to compare
// with those operations that wait for it.
func (s *isa) streams() {
	s.text("streamRead", "func(x []float32) float32")
	Doc("streamRead" + s.suffix + " returns the sum of x; see streams.")
	acc := s.vecs(8)
	for _, v := range acc {
		VXORPS(v, v, v)
	}
	s.stream(func(i int, at Mem) { VADDPS(at, acc[i%len(acc)], acc[i%len(acc)]) })
	s.returns(s.combine(acc, vaddps))
	end()

	s.text("streamUpdate", "func(x []float32)")
	Doc("streamUpdate" + s.suffix + " adds 1 to x; see streams.")
	one := s.inRegister(s.constant("one", 1))
	s.stream(func(_ int, at Mem) {
		v := s.vec()
		VADDPS(at, one, v)
		VMOVUPS(v, at)
	})
	end()

	s.text("streamWrite", "func(x []float32)")
	Doc("streamWrite" + s.suffix + " sets x to 1; see streams.")
	one = s.inRegister(s.constant("one", 1))
	s.stream(func(_ int, at Mem) { VMOVUPS(one, at) })
	end()

	s.text("streamWritePast", "func(x []float32)")
	Doc("streamWritePast" + s.suffix + " sets x to 1, past the caches; see streams.")
	one = s.inRegister(s.constant("one", 1))
	s.stream(func(_ int, at Mem) { VMOVNTPS(one, at) })
	SFENCE()
	end()
}

// stream emits a loop over x, which holds a multiple of streamTurn values; body
// handles register number i of a turn.
func (s *isa) stream(body func(i int, at Mem)) {
	x, n := pointer("x"), length("x")
	Label("turns")
	CMPQ(n, U32(streamTurn))
	JL(LabelRef("done"))
	for i := range streamTurn / s.lanes {
		body(i, at(x, 4*s.lanes*i))
	}
	ADDQ(I32(4*streamTurn), x)
	SUBQ(U32(streamTurn), n)
	JMP(LabelRef("turns"))
	Label("done")
}

func at(base reg.GPVirtual, disp int) Mem { return Mem{Base: base, Disp: disp} }
