package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// copyPanels emits the packing of rows: two registers' worth of columns a panel.
func (s *isa) copyPanels() {
	s.text("copyPanels", "func(dst *float32, dstPanel int, src *float32, srcRow int, rows int, panels int)")
	Doc("copyPanels" + s.suffix + " copies rows to whole panels; see path.copyPanels.")
	dst, dstPanel := param("dst"), param("dstPanel")
	src, srcRow := param("src"), param("srcRow")
	rows, panels := param("rows"), param("panels")
	in, out, left := GP64(), GP64(), GP64()
	width := 4 * s.lanes
	Label("row")
	MOVQ(src, in)
	MOVQ(dst, out)
	MOVQ(panels, left)
	Label("panel")
	a, b := s.vec(), s.vec()
	VMOVUPS(Mem{Base: in}, a)
	VMOVUPS(Mem{Base: in, Disp: width}, b)
	VMOVUPS(a, Mem{Base: out})
	VMOVUPS(b, Mem{Base: out, Disp: width})
	ADDQ(I32(2*width), in)
	ADDQ(dstPanel, out)
	DECQ(left)
	JNZ(LabelRef("panel"))
	ADDQ(srcRow, src)
	ADDQ(I32(2*width), dst)
	DECQ(rows)
	JNZ(LabelRef("row"))
	end()
}
