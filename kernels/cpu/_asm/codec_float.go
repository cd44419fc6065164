package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// notFinite watches values: zero times one that is not finite is NaN, which stays.
type notFinite struct {
	zero reg.VecVirtual
	sums []reg.VecVirtual
}

func (s *isa) notFinite() *notFinite {
	zero := s.vec()
	VXORPS(zero, zero, zero)
	return &notFinite{zero, s.four()}
}

func (w *notFinite) watch(i int, value Op) {
	VFMADD231PS(value, w.zero, w.sums[i%len(w.sums)])
}

// found jumps where a value was not finite.
func (w *notFinite) found(s *isa, label string) {
	x := s.combine(w.sums, vaddps).AsX()
	VUCOMISS(x, x)
	JPS(LabelRef(label))
}

func (s *isa) fp32() {
	s.text("fp32Encode", "func(dst []byte, src []float32) int")
	Doc("fp32Encode" + s.suffix + " copies src to dst and returns the number of blocks, or 0 where a value is not finite.")
	dst, src, n := pointer("dst"), pointer("src"), blockCount("src")
	blocks := GP64()
	MOVQ(n, blocks)
	w := s.notFinite()
	eachBlock(n, func() {
		for v := range s.inBlock() {
			t := s.vec()
			VMOVUPS(s.at(src, v, 4), t)
			w.watch(v, t)
			VMOVUPS(t, s.at(dst, v, 4))
		}
		ADDQ(I32(4*wireBlock), src)
		ADDQ(I32(4*wireBlock), dst)
	})
	s.returnBlocks(w, blocks)

	s.text("fp32Sound", "func(src []byte) bool")
	Doc("fp32Sound" + s.suffix + " says whether all values are finite.")
	src, n = pointer("src"), length("src")
	SHRQ(U8(10), n)
	w = s.notFinite()
	eachBlock(n, func() {
		for v := range s.inBlock() {
			w.watch(v, s.at(src, v, 4))
		}
		ADDQ(I32(4*wireBlock), src)
	})
	w.found(s, "bad")
	s.verdict()

	s.decode("fp32Decode", 4*wireBlock, func(src reg.GPVirtual, v int) reg.VecVirtual {
		t := s.vec()
		VMOVUPS(s.at(src, v, 4), t)
		return t
	})
}

// returnBlocks ends an encoder that knows only at the end whether all was finite.
func (s *isa) returnBlocks(w *notFinite, blocks reg.GPVirtual) {
	w.found(s, "bad")
	Store(blocks, ReturnIndex(0))
	end()
	Label("bad")
	XORQ(blocks, blocks)
	Store(blocks, ReturnIndex(0))
	end()
}

// verdict ends a function that returns true, or false from the label bad.
func (s *isa) verdict() {
	returnBool(true)
	end()
	Label("bad")
	returnBool(false)
	end()
}

// decode emits a decoder and one that adds: values makes register v of a block.
func (s *isa) decode(name string, blockBytes int, values func(src reg.GPVirtual, v int) reg.VecVirtual) {
	for _, add := range []bool{false, true} {
		dst, src, n, weight := s.decodeHead(name, add)
		eachBlock(n, func() {
			prefetch(dst, 4*wireBlock)
			for v := range s.inBlock() {
				s.put(values(src, v), weight, s.at(dst, v, 4))
			}
			ADDQ(I32(blockBytes), src)
			ADDQ(I32(4*wireBlock), dst)
		})
		end()
	}
}

func (s *isa) decodeHead(name string, add bool) (dst, src, n reg.GPVirtual, weight reg.VecVirtual) {
	if add {
		s.text(name+"Add", "func(dst []float32, src []byte, weight float32)")
		Doc(name + "Add" + s.suffix + " adds round(weight·decoded) to dst.")
		weight = s.scalar("weight")
	} else {
		s.text(name, "func(dst []float32, src []byte)")
		Doc(name + s.suffix + " fills dst.")
	}
	return pointer("dst"), pointer("src"), blockCount("dst"), weight
}

// put stores v, or adds round(weight·v) where there is a weight.
func (s *isa) put(v, weight reg.VecVirtual, to Mem) {
	if weight != nil {
		VMULPS(weight, v, v)
		VADDPS(to, v, v)
	}
	VMOVUPS(v, to)
}

func (s *isa) bf16() {
	s.text("bf16Encode", "func(dst []byte, src []float32) int")
	Doc("bf16Encode" + s.suffix + " rounds src to dst and returns the number of blocks, or 0 where a value is not finite.")
	dst, src, n := pointer("dst"), pointer("src"), blockCount("src")
	blocks := GP64()
	MOVQ(n, blocks)
	w := s.notFinite()
	one := s.inRegister(s.constantOf("oneBits", 1))
	half := s.inRegister(s.constantOf("bf16Half", 0x7fff))
	// What was rounded up to an infinity: the positive one is the only word above the
	// largest bf16 as a signed number, the negative one as an unsigned one.
	largest := s.inRegister(s.constantOf("bf16Largest", 0x7f7f7f7f))
	smallest := s.inRegister(s.constantOf("bf16Smallest", 0xff7fff7f))
	var order reg.VecVirtual
	if s.wide {
		order = s.vec()
		VMOVUPS(quadOrder(), order)
	}
	eachBlock(n, func() {
		prefetch(src, 4*wireBlock)
		for v := 0; v < s.inBlock(); v += 2 {
			var words [2]reg.VecVirtual
			for i := range words {
				x, t := s.vec(), s.vec()
				VMOVUPS(s.at(src, v+i, 4), x)
				w.watch(v+i, x)
				VPSRLD(U8(16), x, t)
				s.and(one, t, t)
				VPADDD(half, x, x)
				VPADDD(t, x, x)
				VPSRLD(U8(16), x, x)
				words[i] = x
			}
			t := words[0]
			VPACKUSDW(words[1], t, t)
			VPMINSW(largest, t, t)
			VPMINUW(smallest, t, t)
			if s.wide {
				VPERMQ(t, order, t)
			} else {
				VPERMQ(U8(0xd8), t, t)
			}
			VMOVUPS(t, s.at(dst, v, 2))
		}
		ADDQ(I32(4*wireBlock), src)
		ADDQ(I32(2*wireBlock), dst)
	})
	s.returnBlocks(w, blocks)

	s.text("bf16Sound", "func(src []byte) bool")
	Doc("bf16Sound" + s.suffix + " says whether all values are finite.")
	src, n = pointer("src"), length("src")
	SHRQ(U8(9), n)
	exponent := s.inRegister(s.constantOf("bf16Exponent", 0x7f807f80))
	lowest := s.inRegister(s.constantOf("bf16ExponentOne", 0x00800080))
	acc := s.four() // a full exponent carries into the sign's place
	eachBlock(n, func() {
		for v := range s.inBlock() / 2 {
			t := s.vec()
			s.and(s.at(src, 2*v, 2), exponent, t)
			VPADDW(lowest, t, t)
			VORPS(t, acc[v%4], acc[v%4])
		}
		ADDQ(I32(2*wireBlock), src)
	})
	TESTL(I32(-0x7fff8000), s.low(acc, vorps)) // 0x80008000
	JNZ(LabelRef("bad"))
	s.verdict()

	s.decode("bf16Decode", 2*wireBlock, func(src reg.GPVirtual, v int) reg.VecVirtual {
		t := s.vec()
		VPMOVZXWD(s.at(src, v, 2), t)
		VPSLLD(U8(16), t, t)
		return t
	})
}
