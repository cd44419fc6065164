package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// triangle emits the square on the diagonal of causal attention, whose sums go on from
// c: row i of c takes rows 0 to i of x or, transposed, row u takes rows u to count−1.
func (s *isa) triangle(transposed bool) {
	name := "triangle"
	if transposed {
		name = "triangleT"
	}
	s.text(name, "func(c *float32, cRow int, w *float32, wRow int, x *float32, xRow int, count int, n int)")
	Doc(name + s.suffix + " computes the square on the diagonal of causal attention; see path." + name + ".")
	n := param("n")
	o := &operands{}
	o.c, o.cRow = param("c"), param("cRow")
	o.aRow = param("wRow")
	o.b, o.bRow = param("x"), param("xRow")
	o.aStart = argument("w")
	count := param("count")
	o.aRow3 = GP64()
	LEAQ(Mem{Base: o.aRow, Index: o.aRow, Scale: 2}, o.aRow3)
	if !s.wide {
		CMPQ(n, U8(16))
		JL(LabelRef("part"))
		o.masks = []*mask{nil, nil}
		s.triangleBody(o, "whole", count, transposed)
		end()
		Label("part")
		o.masks = s.masks(n)[:2]
		s.triangleBody(o, "part", count, transposed)
		end()
		return
	}
	CMPQ(n, U8(16))
	JLE(LabelRef("narrow"))
	SUBQ(U8(16), n)
	o.masks = []*mask{nil, {k: columnMask(n)}}
	s.triangleBody(o, "wide", count, transposed)
	end()
	Label("narrow")
	o.masks = []*mask{{k: columnMask(n)}}
	s.triangleBody(o, "narrow", count, transposed)
	end()
}

func (s *isa) triangleBody(o *operands, name string, count reg.GPVirtual, transposed bool) {
	acc := make([][]reg.VecVirtual, s.maxRows())
	for i := range acc {
		acc[i] = s.vecs(len(o.masks))
		for _, v := range acc[i] {
			VXORPS(v, v, v)
		}
	}
	s.triangleRows(o, name+"load", count, acc, func(m Mem, k *mask, v reg.VecVirtual) { s.load(m, k, v) })
	bases := o.rowBases(len(acc))
	for p := range acc {
		CMPQ(count, U8(uint8(p+1)))
		JL(LabelRef(name + "store"))
		columns := s.vecs(len(o.masks))
		for v, k := range o.masks {
			s.load(Mem{Base: o.b, Disp: 4 * s.lanes * v}, k, columns[v])
		}
		first, last := p, len(acc)-1
		if transposed {
			first, last = 0, p
		}
		for i := first; i <= last; i++ {
			m := o.rowAt(bases, i)
			m.Disp = 4 * p
			if transposed {
				m = Mem{Base: bases[0], Disp: 4 * i}
			}
			factor := s.vec()
			VBROADCASTSS(m, factor)
			for v := range columns {
				VFMADD231PS(factor, columns[v], acc[i][v])
			}
		}
		if transposed {
			ADDQ(o.aRow, bases[0])
		}
		ADDQ(o.bRow, o.b)
	}
	Label(name + "store")
	s.triangleRows(o, name+"stored", count, acc, func(m Mem, k *mask, v reg.VecVirtual) { s.store(v, k, m) })
}

// triangleRows moves count rows between c and the registers.
func (s *isa) triangleRows(o *operands, done string, count reg.GPVirtual, acc [][]reg.VecVirtual, move func(Mem, *mask, reg.VecVirtual)) {
	row := GP64()
	MOVQ(o.c, row)
	for i := range acc {
		CMPQ(count, U8(uint8(i+1)))
		JL(LabelRef(done))
		for v, k := range o.masks {
			move(Mem{Base: row, Disp: 4 * s.lanes * v}, k, acc[i][v])
		}
		ADDQ(o.cRow, row)
	}
	Label(done)
}
