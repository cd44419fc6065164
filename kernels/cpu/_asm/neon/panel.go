package main

import "fmt"

// columns are the registers that hold some columns of a row: whole ones, or one with
// the two or the one that are left over, whose other lanes are 0 and stay unused.
type columns struct {
	count int    // of columns
	regs  int    // of registers
	move  string // instruction that loads or stores one
}

// widths take apart any number of columns up to a panel's.
var widths = []columns{{16, 4, "FMOVQ"}, {8, 2, "FMOVQ"}, {4, 1, "FMOVQ"}, {2, 1, "FMOVD"}, {1, 1, "FMOVS"}}

// maxRows is the number of rows of the largest tile. With 16 columns its sums take 24
// registers; 6 hold a, four values of each row, and 2 take turns with b.
const maxRows = 6

// load returns up to two registers of a row at base, from register first on.
func (w columns) load(f *file, base gp, first int) []vec {
	v := f.vecsOf(min(2, w.regs-first))
	if len(v) == 2 {
		f.op("FLDPQ", at(base, 16*first), pair(v[0], v[1]))
	} else {
		f.op(w.move, at(base, 16*first), v[0].F())
	}
	return v
}

// store writes a row, or loads it if into is set.
func (w columns) store(f *file, row []vec, base gp, into bool) {
	for v := 0; v < w.regs; v += 2 {
		name, memory, registers := w.move, at(base, 16*v), row[v].F()
		if v+1 < w.regs {
			name, registers = "FSTPQ", pair(row[v], row[v+1])
		}
		if !into {
			f.op(name, registers, memory)
			continue
		}
		if name == "FSTPQ" {
			name = "FLDPQ"
		}
		f.op(name, memory, registers)
	}
}

// multiply writes one value of k: the row of b at base, times the lane of each row's
// register of a, added to the sums from row first to last.
func (w columns) multiply(f *file, sums [][]vec, a func(row int) vec, first, last, lane int, base gp) {
	for v := 0; v < w.regs; v += 2 {
		f.scope(func() {
			b := w.load(f, base, v)
			for i := first; i <= last; i++ {
				for s := range b {
					f.fuse(sums[i][v+s], b[s], a(i), lane)
				}
			}
		})
	}
}

// panel holds the registers of a product.
type panel struct {
	*file
	columns
	c, cRow, a, aRow, aCol, b, bRow gp // c, a and b of the tile
	first                           gp // c of these columns
	m                               gp // rows that are left
	rows                            []gp
	sums                            [][]vec
}

const (
	modeAdd   = 1
	modeChain = 2
)

// panel writes c = a·b for at most 16 columns and any number of rows. Strides arrive
// in bytes.
func (f *file) panel() {
	f.function("panel", "c *float32, cRow int, a *float32, aRow, aCol int, b *float32, bRow, m, n, k, mode int, next *float32", "",
		"computes up to 16 columns of a product; see path.panel. It prefetches nothing.")
	p := &panel{file: f}
	p.first, p.cRow, p.aRow, p.aCol = f.param("c"), f.param("cRow"), f.param("aRow"), f.param("aCol")
	p.b, p.bRow = f.param("b"), f.param("bRow")
	p.c, p.a, p.m = f.gp(), f.gp(), f.gp()
	p.rows = f.gpsOf(maxRows)
	strided := f.name("strided")
	f.op("CMP", "$4", p.aCol)
	f.op("BNE", strided)
	p.all(true)
	f.label(strided)
	p.all(false)
}

// all writes the tiles of every width; along says that the values of a row of a are
// next to each other.
func (p *panel) all(along bool) {
	for _, w := range widths {
		p.columns = w
		skip := p.name("skip")
		p.scope(func() {
			n := p.param("n")
			if w.count == 16 {
				p.op("CMP", imm(16), n)
				p.op("BLT", skip)
				return
			}
			p.op("TST", imm(w.count), n)
			p.op("BEQ", skip)
		})
		p.op("MOVD", p.first, p.c)
		p.op("MOVD", p.arg("a"), p.a)
		p.op("MOVD", p.arg("m"), p.m)
		for _, rows := range []int{6, 4, 2, 1} {
			loop, next := p.name("tile"), p.name("next")
			p.label(loop)
			p.op("CMP", imm(rows), p.m)
			p.op("BLT", next)
			p.scope(func() { p.tile(rows, along) })
			p.op("SUB", imm(rows), p.m)
			p.op("B", loop)
			p.label(next)
		}
		p.op("ADD", imm(4*w.count), p.first)
		p.op("ADD", imm(4*w.count), p.b)
		p.label(skip)
	}
	p.ret()
}

// tile writes one tile of count rows and leaves c and a at the next.
func (p *panel) tile(count int, along bool) {
	p.sums = nil
	for range count {
		p.sums = append(p.sums, p.vecsOf(p.regs))
	}
	p.begin()
	p.op("MOVD", p.a, p.rows[0])
	for i := 1; i < count; i++ {
		p.op("ADD", p.aRow, p.rows[i-1], p.rows[i])
	}
	p.op("ADD", p.aRow, p.rows[count-1], p.a)
	p.scope(func() {
		b, k, factors := p.gp(), p.gp(), p.vecsOf(count)
		p.op("MOVD", p.b, b)
		p.op("MOVD", p.arg("k"), k)
		if along {
			p.depthAlong(b, k, factors)
		} else {
			p.depthStrided(b, k, factors)
		}
	})
	p.finish()
}

// begin sets the sums to 0 or, in a chain, to what c holds.
func (p *panel) begin() {
	p.scope(func() {
		mode, row := p.gp(), p.gp()
		chain, begun := p.name("chain"), p.name("begun")
		p.op("MOVD", p.arg("mode"), mode)
		p.op("CMP", imm(modeChain), mode)
		p.op("BEQ", chain)
		for _, sums := range p.sums {
			for _, v := range sums {
				p.zero(v)
			}
		}
		p.op("B", begun)
		p.label(chain)
		p.op("MOVD", p.c, row)
		for i, sums := range p.sums {
			p.store(p.file, sums, row, true)
			if i < len(p.sums)-1 {
				p.op("ADD", p.cRow, row)
			}
		}
		p.label(begun)
	})
}

// depthAlong writes the loop over k, four at a time: one load has four values of a
// row of a, of which each multiplication picks its lane.
func (p *panel) depthAlong(b, k gp, factors []vec) {
	four, rest, one, summed := p.name("four"), p.name("rest"), p.name("one"), p.name("summed")
	factor := func(row int) vec { return factors[row] }
	p.op("SUBS", "$4", k)
	p.op("BLT", rest)
	p.label(four)
	for i, v := range factors {
		p.op("FMOVQ.P", at(p.rows[i], 16), v.F())
	}
	for lane := range 4 {
		p.multiply(p.file, p.sums, factor, 0, len(p.sums)-1, lane, b)
		p.op("ADD", p.bRow, b)
	}
	p.op("SUBS", "$4", k)
	p.op("BGE", four)
	p.label(rest)
	p.op("ADDS", "$4", k)
	p.op("BEQ", summed)
	p.label(one)
	for i, v := range factors {
		p.op("FMOVS.P", at(p.rows[i], 4), v.F())
	}
	p.multiply(p.file, p.sums, factor, 0, len(p.sums)-1, 0, b)
	p.op("ADD", p.bRow, b)
	p.op("SUBS", "$1", k)
	p.op("BNE", one)
	p.label(summed)
}

// depthStrided writes the loop over k for values of a that lie apart.
func (p *panel) depthStrided(b, k gp, factors []vec) {
	step, offset := p.name("step"), p.gp()
	p.op("MOVD", "$0", offset)
	p.label(step)
	for i, v := range factors {
		p.op("FMOVS", fmt.Sprintf("(%s)(%s)", p.rows[i], offset), v.F())
	}
	p.multiply(p.file, p.sums, func(row int) vec { return factors[row] }, 0, len(p.sums)-1, 0, b)
	p.op("ADD", p.aCol, offset)
	p.op("ADD", p.bRow, b)
	p.op("SUBS", "$1", k)
	p.op("BNE", step)
}

// finish stores the sums, after adding what c holds in the mode that asks for it.
func (p *panel) finish() {
	p.scope(func() {
		mode, row := p.gp(), p.gp()
		stored := p.name("store")
		p.op("MOVD", p.arg("mode"), mode)
		p.op("CMP", imm(modeAdd), mode)
		p.op("BNE", stored)
		p.op("MOVD", p.c, row)
		for i, sums := range p.sums {
			for v := 0; v < p.regs; v += 2 {
				p.scope(func() {
					for s, old := range p.load(p.file, row, v) {
						p.word(fadd, sums[v+s], old, sums[v+s])
					}
				})
			}
			if i < len(p.sums)-1 {
				p.op("ADD", p.cRow, row)
			}
		}
		p.label(stored)
	})
	for _, sums := range p.sums {
		p.store(p.file, sums, p.c, false)
		p.op("ADD", p.cRow, p.c)
	}
}

// peak writes loops of nothing but fused multiply-adds: the rate to compare with.
func (f *file) peak() {
	f.function("peak", "turns int", "", "does 24 fused multiply-adds on whole registers a turn.")
	turns, sums, factor, turn := f.param("turns"), f.zeros(24), f.vec(), f.name("turn")
	f.zero(factor)
	f.label(turn)
	for _, v := range sums {
		f.fuse(v, factor, factor, 0)
	}
	f.op("SUBS", "$1", turns)
	f.op("BNE", turn)
	f.ret()
}
