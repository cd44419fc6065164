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
	b, bRow, bRow3       reg.GPVirtual
	c, cRow              reg.GPVirtual
	aStart, bStart, next Mem
	m, k, mode           Mem
	masks                []*mask // of the columns; nil where a register is full
	along                bool    // the values of a row of a are next to each other
}

// nextLines is the number of cache lines that a turn of four k asks for of what the
// next call will read, which is further away than the second-level cache.
const nextLines = 2

const panelSignature = "func(c *float32, cRow int, a *float32, aRow int, aCol int, b *float32, bRow int, m int, n int, k int, mode int, next *float32)"

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
		aStart: argument("a"), bStart: argument("b"), next: argument("next"),
		m: argument("m"), k: argument("k"), mode: argument("mode"),
	}
	n := param("n")
	o.c, o.cRow = param("c"), param("cRow")
	o.aRow, o.aCol = param("aRow"), param("aCol")
	o.bRow = param("bRow")
	o.aRow3 = GP64()
	LEAQ(Mem{Base: o.aRow, Index: o.aRow, Scale: 2}, o.aRow3)

	o.along = true
	o.bRow3 = GP64()
	LEAQ(Mem{Base: o.bRow, Index: o.bRow, Scale: 2}, o.bRow3)
	if s.pairs { // rows of pairs are always packed
		s.columns(o, "along", n)
		return
	}
	CMPQ(o.aCol, U8(4))
	JNE(LabelRef("strided"))
	s.columns(o, "along", n)
	Label("strided")
	o.along = false
	s.columns(o, "strided", n)
}

// columns emits the tiles for a whole panel of columns and for a part of one.
func (s *isa) columns(o *operands, name string, n reg.GPVirtual) {
	part := name + "part"
	if s.wide {
		CMPQ(n, U8(16))
		JLE(LabelRef(part))
		rest := GP64()
		MOVQ(n, rest)
		SUBQ(U8(16), rest)
		o.masks = []*mask{nil, {k: columnMask(rest)}}
		s.tiles(o, name, 12, 8, 4, 2, 1)
		end()
		Label(part)
		o.masks = []*mask{{k: columnMask(n)}}
		s.tiles(o, part, 12, 8, 4, 2, 1)
		end()
		return
	}
	CMPQ(n, U8(16))
	JL(LabelRef(part))
	o.masks = []*mask{nil, nil}
	s.tiles(o, name, 6, 4, 2, 1)
	end()
	Label(part)
	o.masks = s.masks(n)[:2]
	// The masks' registers leave room for four rows.
	s.tiles(o, part, 4, 2, 1)
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
	if rows > 4 {
		o.prefetch(s, rows)
	}
	bases := o.rowBases(rows)
	pb, k := GP64(), GP64()
	MOVQ(o.bStart, pb)
	MOVQ(o.k, k)
	if o.along {
		o.unrolled(s, name, acc, bases, pb, k)
	} else {
		Label(name + "k")
		o.step(s, acc, bases, Mem{Base: pb}, 0)
		for _, base := range bases {
			ADDQ(o.aCol, base)
		}
		ADDQ(o.bRow, pb)
		DECQ(k)
		JNZ(LabelRef(name + "k"))
	}
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

// unrolled emits the loop over k four at a time: scalar additions compete with the
// fused multiply-adds for two of the ports.
func (o *operands) unrolled(s *isa, name string, acc [][]reg.VecVirtual, bases []reg.GPVirtual, pb, k reg.GPVirtual) {
	rows := []Mem{
		{Base: pb}, {Base: pb, Index: o.bRow, Scale: 1}, {Base: pb, Index: o.bRow, Scale: 2}, {Base: pb, Index: o.bRow3, Scale: 1},
	}
	ahead := GP64()
	MOVQ(o.next, ahead)
	SUBQ(U8(4), k)
	JL(LabelRef(name + "rest"))
	Label(name + "four")
	for u, row := range rows {
		if u < nextLines {
			PREFETCHT1(Mem{Base: ahead, Disp: 64 * u})
		}
		o.step(s, acc, bases, row, 4*u)
	}
	ADDQ(U8(64*nextLines), ahead)
	for _, base := range bases {
		ADDQ(U8(16), base)
	}
	LEAQ(Mem{Base: pb, Index: o.bRow, Scale: 4}, pb)
	SUBQ(U8(4), k)
	JGE(LabelRef(name + "four"))
	Label(name + "rest")
	MOVQ(ahead, o.next)
	ADDQ(U8(4), k)
	JZ(LabelRef(name + "summed"))
	Label(name + "k")
	o.step(s, acc, bases, rows[0], 0)
	for _, base := range bases {
		ADDQ(U8(4), base)
	}
	ADDQ(o.bRow, pb)
	DECQ(k)
	JNZ(LabelRef(name + "k"))
	Label(name + "summed")
}

// step emits one k: row is its row of b, disp its place after the bases of a.
func (o *operands) step(s *isa, acc [][]reg.VecVirtual, bases []reg.GPVirtual, row Mem, disp int) {
	columns := s.vecs(len(o.masks))
	for v, k := range o.masks {
		at := row
		at.Disp = 4 * s.lanes * v
		s.load(at, k, columns[v])
	}
	for i := range acc {
		factor := s.vec()
		at := o.rowAt(bases, i)
		at.Disp = disp
		VBROADCASTSS(at, factor)
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

// prefetch asks for the lines of c that the tile is to write.
func (o *operands) prefetch(s *isa, rows int) {
	row := GP64()
	MOVQ(o.c, row)
	for i := range rows {
		for v := 0; v < len(o.masks)*s.lanes; v += 16 {
			PREFETCHT0(Mem{Base: row, Disp: 4 * v})
		}
		if i < rows-1 {
			ADDQ(o.cRow, row)
		}
	}
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
