package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose emits the transposition of squares of as many rows as a register has
// lanes: square after square along the rows of src, down the rows of dst.
func (s *isa) transpose() {
	s.text("transpose", "func(dst *float32, dstRow int, src *float32, srcRow int, squares int)")
	Doc("transpose" + s.suffix + " transposes squares; see path.transpose.")
	dst, dstRow := param("dst"), param("dstRow")
	src, srcRow := param("src"), param("srcRow")
	squares := param("squares")
	row := GP64()
	Label("square")
	TESTQ(squares, squares)
	JZ(LabelRef("done"))
	MOVQ(src, row)
	in := s.vecs(s.lanes)
	for _, v := range in {
		VMOVUPS(Mem{Base: row}, v)
		ADDQ(srcRow, row)
	}
	out := s.quads(in)
	if s.wide {
		out = s.joinFour(out)
	} else {
		out = s.joinTwo(out)
	}
	for _, v := range out {
		VMOVUPS(v, Mem{Base: dst})
		ADDQ(dstRow, dst)
	}
	ADDQ(U32(4*uint32(s.lanes)), src)
	DECQ(squares)
	JMP(LabelRef("square"))
	Label("done")
	end()
}

// quads transposes 4×4 squares within each 128-bit lane: the lane l of result 4g+c
// holds column 4l+c of rows 4g to 4g+3.
func (s *isa) quads(in []reg.VecVirtual) []reg.VecVirtual {
	out := make([]reg.VecVirtual, 0, len(in))
	for g := 0; g < len(in); g += 4 {
		low01, high01, low23, high23 := s.vec(), s.vec(), s.vec(), s.vec()
		VUNPCKLPS(in[g+1], in[g], low01)
		VUNPCKHPS(in[g+1], in[g], high01)
		VUNPCKLPS(in[g+3], in[g+2], low23)
		VUNPCKHPS(in[g+3], in[g+2], high23)
		c := s.vecs(4)
		VUNPCKLPD(low23, low01, c[0])
		VUNPCKHPD(low23, low01, c[1])
		VUNPCKLPD(high23, high01, c[2])
		VUNPCKHPD(high23, high01, c[3])
		out = append(out, c...)
	}
	return out
}

// joinTwo joins the lanes of two groups of rows: AVX2's 8×8.
func (s *isa) joinTwo(q []reg.VecVirtual) []reg.VecVirtual {
	out := make([]reg.VecVirtual, 8)
	for c := range 4 {
		out[c], out[4+c] = s.vec(), s.vec()
		VPERM2F128(U8(0x20), q[4+c], q[c], out[c])
		VPERM2F128(U8(0x31), q[4+c], q[c], out[4+c])
	}
	return out
}

// joinFour joins the lanes of four groups of rows: AVX-512's 16×16.
func (s *isa) joinFour(q []reg.VecVirtual) []reg.VecVirtual {
	out := make([]reg.VecVirtual, 16)
	for c := range 4 {
		even01, odd01, even23, odd23 := s.vec(), s.vec(), s.vec(), s.vec()
		VSHUFF32X4(U8(0x88), q[4+c], q[c], even01)
		VSHUFF32X4(U8(0xdd), q[4+c], q[c], odd01)
		VSHUFF32X4(U8(0x88), q[12+c], q[8+c], even23)
		VSHUFF32X4(U8(0xdd), q[12+c], q[8+c], odd23)
		for l, pair := range [][2]reg.VecVirtual{{even01, even23}, {odd01, odd23}} {
			out[4*l+c], out[8+4*l+c] = s.vec(), s.vec()
			VSHUFF32X4(U8(0x88), pair[1], pair[0], out[4*l+c])
			VSHUFF32X4(U8(0xdd), pair[1], pair[0], out[8+4*l+c])
		}
	}
	return out
}
