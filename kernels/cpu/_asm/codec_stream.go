package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pastCaches emits what encoders of vectors larger than caches store with.
func (s *isa) pastCaches() {
	s.text("storePast", "func(dst, src []byte)")
	Doc("storePast" + s.suffix + " copies whole lines of 64 bytes to a multiple of 64, past the caches. storeFence is to follow.")
	dst, src, n := pointer("dst"), pointer("src"), length("src")
	Label("lines")
	CMPQ(n, U8(64))
	JL(LabelRef("done"))
	for at := 0; at < 64; at += 4 * s.lanes {
		t := s.vec()
		VMOVUPS(Mem{Base: src, Disp: at}, t)
		VMOVNTPS(t, Mem{Base: dst, Disp: at})
	}
	ADDQ(U8(64), src)
	ADDQ(U8(64), dst)
	SUBQ(U8(64), n)
	JMP(LabelRef("lines"))
	Label("done")
	end()
	if !s.wide {
		return
	}
	TEXT("storeFence", NOSPLIT, "func()")
	Doc("storeFence makes what was stored past the caches visible before what is stored after it.")
	SFENCE()
	RET()
}

// streams emit what the codec of int8 is measured against: loops that touch the same
// memory and do nothing else.
func (s *isa) codecStreams() {
	s.streamEncode("streamEncode", 4, func(v reg.VecVirtual, m Mem) { VMOVUPS(v, m) })
	Doc("streamEncode" + s.suffix + " reads blocks of float32 and writes as many bytes as their int8 has.")
	s.streamEncode("streamEncodePast", 0, func(v reg.VecVirtual, m Mem) { VMOVNTPS(v, m) })
	Doc("streamEncodePast" + s.suffix + " is streamEncode past the caches to a multiple of 64; it leaves out the scales.")

	s.text("streamAdd", "func(dst []float32, src []byte)")
	Doc("streamAdd" + s.suffix + " reads the int8 of blocks, and reads and writes their float32.")
	dst, src, n := pointer("dst"), pointer("src"), blockCount("dst")
	eachBlock(n, func() {
		t := s.vec()
		VMOVSS(Mem{Base: src}, t.AsX())
		for v := range s.inBlock() {
			if v%4 == 0 {
				VMOVUPS(s.at(src, v/4, 4).Offset(4), t)
			}
			x := s.vec()
			VMOVUPS(s.at(dst, v, 4), x)
			VMOVUPS(x, s.at(dst, v, 4))
		}
		ADDQ(I32(4+wireBlock), src)
		ADDQ(I32(4*wireBlock), dst)
	})
	end()
}

func (s *isa) streamEncode(name string, header int, store func(v reg.VecVirtual, m Mem)) {
	s.text(name, "func(dst []byte, src []float32)")
	dst, src, n := pointer("dst"), pointer("src"), blockCount("src")
	eachBlock(n, func() {
		for v := range s.inBlock() {
			t := s.vec()
			VMOVUPS(s.at(src, v, 4), t)
			if v%4 == 0 {
				store(t, s.at(dst, v/4, 4).Offset(header))
			}
			if v == 0 && header > 0 {
				VMOVSS(t.AsX(), Mem{Base: dst})
			}
		}
		ADDQ(I32(4*wireBlock), src)
		ADDQ(I32(header+wireBlock), dst)
	})
	end()
}
