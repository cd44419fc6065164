package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// operands are the registers of a product of matrices. Counts that a tile's loop does
// not use stay in the arguments' memory, where they are updated.
type operands struct {
	a, aRow, aRow3, aCol reg.GPVirtual
	b, bRow              reg.GPVirtual
	c, cRow              reg.GPVirtual
	aStart, bStart       Mem
	m, k, mode           Mem
	masks                []*mask // of the columns; nil where a register is full
}

const panelSignature = "func(c *float32, cRow int, a *float32, aRow int, aCol int, b *float32, bRow int, m int, n int, k int, mode int)"

func argument(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// maxRows is the number of rows of the largest tile, whose sums fill the registers.
func (s *isa) maxRows() int {
	if s.wide {
		return 12
	}
	return 6
}

// panel emits c = a·b for at most two registers' worth of columns and any number of
// rows: tiles of the most rows that are left. Strides arrive in bytes.
func (s *isa) panel() {
	s.text("panel", panelSignature)
	Doc("panel" + s.suffix + " computes up to " + map[bool]string{true: "32", false: "16"}[s.wide] + " columns of a product; see path.panel.")
	o := &operands{
		aStart: argument("a"), bStart: argument("b"),
		m: argument("m"), k: argument("k"), mode: argument("mode"),
	}
	n := param("n")
	o.c, o.cRow = param("c"), param("cRow")
	o.aRow, o.aCol = param("aRow"), param("aCol")
	o.bRow = param("bRow")
	o.aRow3 = GP64()
	LEAQ(Mem{Base: o.aRow, Index: o.aRow, Scale: 2}, o.aRow3)

	if s.wide {
		narrow := "narrow"
		CMPQ(n, U8(16))
		JLE(LabelRef(narrow))
		SUBQ(U8(16), n)
		o.masks = []*mask{nil, {k: columnMask(n)}}
		s.tiles(o, "wide", 12, 8, 4, 2, 1)
		end()
		Label(narrow)
		o.masks = []*mask{{k: columnMask(n)}}
		s.tiles(o, "narrow", 12, 8, 4, 2, 1)
		end()
		return
	}
	CMPQ(n, U8(16))
	JL(LabelRef("part"))
	o.masks = []*mask{nil, nil}
	s.tiles(o, "whole", 6, 4, 2, 1)
	end()
	Label("part")
	o.masks = s.masks(n)[:2]
	// Only now: two mask registers leave room for four rows.
	s.tiles(o, "part", 4, 2, 1)
	end()
}

// columnMask returns a mask of the first n (1 to 16) lanes.
func columnMask(n reg.GPVirtual) reg.OpmaskVirtual {
	bits, k := GP32(), K()
	MOVL(I32(-1), bits)
	BZHIL(n.As32(), bits, bits)
	KMOVW(bits, k)
	return k
}

// tiles emits loops over the rows: tiles of the first size while they fit, then of
// each smaller one.
func (s *isa) tiles(o *operands, name string, sizes ...int) {
	for _, rows := range sizes {
		loop, next := fmt.Sprintf("%s%d", name, rows), fmt.Sprintf("%s%dend", name, rows)
		Label(loop)
		CMPQ(o.m, U8(uint8(rows)))
		JLT(LabelRef(next))
		s.tile(o, loop, rows)
		SUBQ(U8(uint8(rows)), o.m)
		JMP(LabelRef(loop))
		Label(next)
	}
}

// tile emits the product of one tile.
func (s *isa) tile(o *operands, name string, rows int) {
	acc := make([][]reg.VecVirtual, rows)
	for i := range acc {
		acc[i] = s.vecs(len(o.masks))
		for _, v := range acc[i] {
			VXORPS(v, v, v)
		}
	}
	o.chain(s, name, acc)
	bases := o.rowBases(rows)
	pb, k := GP64(), GP64()
	MOVQ(o.bStart, pb)
	MOVQ(o.k, k)
	step := func() {
		o.step(s, acc, bases, pb)
		for _, base := range bases {
			ADDQ(o.aCol, base)
		}
		ADDQ(o.bRow, pb)
	}
	Label(name + "k")
	step()
	DECQ(k)
	JNZ(LabelRef(name + "k"))
	o.finish(s, name, acc)
	// The next tile's rows.
	next := GP64()
	MOVQ(o.aStart, next)
	for i := rows; i > 0; {
		n := min(i, 8)
		for n&(n-1) != 0 {
			n--
		}
		LEAQ(Mem{Base: next, Index: o.aRow, Scale: uint8(n)}, next)
		i -= n
	}
	MOVQ(next, o.aStart)
}

// rowBases returns pointers to rows 0, 4 and 8 of the tile.
func (o *operands) rowBases(rows int) []reg.GPVirtual {
	bases := []reg.GPVirtual{GP64()}
	MOVQ(o.aStart, bases[0])
	for i := 4; i < rows; i += 4 {
		base := GP64()
		LEAQ(Mem{Base: bases[len(bases)-1], Index: o.aRow, Scale: 4}, base)
		bases = append(bases, base)
	}
	return bases
}

// rowAt is the operand of one row of a at the current k.
func (o *operands) rowAt(bases []reg.GPVirtual, i int) Mem {
	m := Mem{Base: bases[i/4]}
	switch i % 4 {
	case 1:
		m.Index, m.Scale = o.aRow, 1
	case 2:
		m.Index, m.Scale = o.aRow, 2
	case 3:
		m.Index, m.Scale = o.aRow3, 1
	}
	return m
}

// step emits one k.
func (o *operands) step(s *isa, acc [][]reg.VecVirtual, bases []reg.GPVirtual, pb reg.GPVirtual) {
	columns := s.vecs(len(o.masks))
	for v, k := range o.masks {
		s.load(Mem{Base: pb, Disp: 4 * s.lanes * v}, k, columns[v])
	}
	for i := range acc {
		factor := s.vec()
		VBROADCASTSS(o.rowAt(bases, i), factor)
		for v := range columns {
			VFMADD231PS(factor, columns[v], acc[i][v])
		}
	}
}

// chain makes the sums go on from c in the mode that asks for it.
func (o *operands) chain(s *isa, name string, acc [][]reg.VecVirtual) {
	CMPQ(o.mode, U8(modeChain))
	JNE(LabelRef(name + "fresh"))
	row := GP64()
	MOVQ(o.c, row)
	for i := range acc {
		for v, k := range o.masks {
			s.load(Mem{Base: row, Disp: 4 * s.lanes * v}, k, acc[i][v])
		}
		if i < len(acc)-1 {
			ADDQ(o.cRow, row)
		}
	}
	Label(name + "fresh")
}

const (
	modeAdd   = 1
	modeChain = 2
)

// finish stores the tile, after adding what c holds in the mode that asks for it, and
// leaves c at the next tile's rows.
func (o *operands) finish(s *isa, name string, acc [][]reg.VecVirtual) {
	CMPQ(o.mode, U8(modeAdd))
	JNE(LabelRef(name + "store"))
	row := GP64()
	MOVQ(o.c, row)
	for i := range acc {
		for v, k := range o.masks {
			old := s.vec()
			s.load(Mem{Base: row, Disp: 4 * s.lanes * v}, k, old)
			VADDPS(old, acc[i][v], acc[i][v])
		}
		if i < len(acc)-1 {
			ADDQ(o.cRow, row)
		}
	}
	Label(name + "store")
	for i := range acc {
		for v, k := range o.masks {
			s.store(acc[i][v], k, Mem{Base: o.c, Disp: 4 * s.lanes * v})
		}
		ADDQ(o.cRow, o.c)
	}
}
