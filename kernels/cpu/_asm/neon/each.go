package main

import "fmt"

// lanes is one register's worth of the loop of each: register v of its block, at disp
// bytes after the bases. In a part only the first n mod 4 values, 1 to 3, exist.
type lanes struct {
	*file
	v, disp int
	part    bool
	n       gp
	mask    vec // of a part, where the loop reduces
}

// each writes a loop over n values of the arrays at bases: a block a turn, then the
// registers that are full, then the part of one. It changes bases and n. A loop that
// reduces gives value i to lane i mod 32 and has a mask for its part.
func (f *file) each(bases []gp, n gp, reduces bool, body func(l *lanes)) {
	blocks, rest, done := f.name("blocks"), f.name("rest"), f.name("done")
	run := func(l lanes) {
		l.file, l.n = f, n
		f.scope(func() { body(&l) })
	}
	advance := func(values int) {
		for _, b := range bases {
			f.op("ADD", imm(4*values), b)
		}
		f.op("SUB", imm(values), n)
	}
	f.label(blocks)
	f.op("CMP", imm(block), n)
	f.op("BLT", rest)
	for v := range block / width {
		run(lanes{v: v, disp: 4 * width * v})
	}
	advance(block)
	f.op("B", blocks)
	if !reduces {
		part := f.name("part")
		f.label(rest)
		f.op("CMP", imm(width), n)
		f.op("BLT", part)
		run(lanes{})
		advance(width)
		f.op("B", rest)
		f.label(part)
		f.op("CBZ", n, done)
		run(lanes{part: true})
		f.label(done)
		return
	}
	f.label(rest)
	f.op("CBZ", n, done)
	mask := f.partMask(n)
	var parts [block / width]string
	for v := range parts {
		parts[v] = f.name("part")
		if v < len(parts)-1 { // fewer than a block are left
			f.op("CMP", imm(width*(v+1)), n)
			f.op("BLT", parts[v])
			run(lanes{v: v, disp: 4 * width * v})
		}
	}
	for v := len(parts) - 1; v >= 0; v-- {
		f.label(parts[v])
		f.op("CMP", imm(width*v), n)
		f.op("BEQ", done)
		run(lanes{v: v, disp: 4 * width * v, part: true, mask: mask})
		if v > 0 {
			f.op("B", done)
		}
	}
	f.label(done)
}

// partMasks holds the mask of 1 to 3 lanes that many words before its middle.
var partMasks = []uint32{0, ^uint32(0), ^uint32(0), ^uint32(0), 0, 0, 0, 0}

// partMask returns a register with ones in the first n mod 4 lanes.
func (f *file) partMask(n gp) vec {
	mask := f.vec()
	f.scope(func() {
		table, skip := f.gp(), f.gp()
		f.op("MOVD", "$neonMasks<>(SB)", table)
		f.op("AND", imm(width-1), n, skip)
		f.op("SUB", fmt.Sprintf("%s<<2", skip), table)
		f.op("FMOVQ", at(table, 4*width), mask.F())
	})
	return mask
}

// load reads the lanes of a register at base; those that do not exist are 0.
func (l *lanes) load(base gp) vec {
	v := l.vec()
	if !l.part {
		l.op("FMOVQ", at(base, l.disp), v.F())
		return v
	}
	one, loaded := l.name("one"), l.name("loaded")
	l.op("TBZ", imm(1), l.n, one)
	l.op("FMOVD", at(base, l.disp), v.F())
	l.op("TBZ", imm(0), l.n, loaded)
	l.scope(func() {
		third := l.vec()
		l.op("FMOVS", at(base, l.disp+8), third.F())
		l.op("VMOV", third.as("S[0]"), v.as("S[2]"))
	})
	l.op("B", loaded)
	l.label(one)
	l.op("FMOVS", at(base, l.disp), v.F())
	l.label(loaded)
	return v
}

// store writes the lanes that exist.
func (l *lanes) store(v vec, base gp) {
	if !l.part {
		l.op("FMOVQ", v.F(), at(base, l.disp))
		return
	}
	one, stored := l.name("one"), l.name("stored")
	l.op("TBZ", imm(1), l.n, one)
	l.op("FMOVD", v.F(), at(base, l.disp))
	l.op("TBZ", imm(0), l.n, stored)
	l.scope(func() {
		third := l.vec()
		l.op("VDUP", v.as("S[2]"), third.as("S4"))
		l.op("FMOVS", third.F(), at(base, l.disp+8))
	})
	l.op("B", stored)
	l.label(one)
	l.op("FMOVS", v.F(), at(base, l.disp))
	l.label(stored)
}

// accumulate adds the lanes of v that exist to acc. It changes v.
func (l *lanes) accumulate(v, acc vec) {
	if l.part {
		l.op("VAND", l.mask.as("B16"), v.as("B16"), v.as("B16"))
	}
	l.word(fadd, acc, acc, v)
}

// combine joins the lanes of v with op by halves, the tree of every reduction, and
// stores the one that is left as the result.
func (f *file) combine(v []vec, op *opcode) {
	for n := len(v) / 2; n > 0; n /= 2 {
		for i := range n {
			f.word(op, v[i], v[i], v[i+n])
		}
	}
	high := v[1]
	f.op("VEXT", imm(8), v[0].as("B16"), v[0].as("B16"), high.as("B16"))
	f.word(op, v[0], v[0], high)
	f.op("VDUP", v[0].as("S[1]"), high.as("S4"))
	f.word(op, v[0], v[0], high)
	f.op("FMOVS", v[0].F(), f.arg("ret"))
	f.ret()
}
