package main

import (
	"fmt"
	"math"
)

// elementwise writes the operations on whole vectors.
func (f *file) elementwise() {
	f.function("add", "dst, x []float32", "", "adds x to dst.")
	p, n := f.slices("dst", "x")
	f.each(p, n, false, func(l *lanes) {
		a, b := l.load(p[0]), l.load(p[1])
		l.word(fadd, a, a, b)
		l.store(a, p[0])
	})
	f.ret()

	f.function("scale", "x []float32, factor float32", "", "multiplies x by factor.")
	x, n := f.slices("x")
	factor := f.scalar("factor")
	f.each(x, n, false, func(l *lanes) {
		v := l.load(x[0])
		l.word(fmul, v, v, factor)
		l.store(v, x[0])
	})
	f.ret()

	f.function("axpby", "dst, x, y []float32, a, b float32", "", "sets dst to a·x + b·y, each operation rounded. dst may be an operand.")
	p, n = f.slices("dst", "x", "y")
	a, b := f.scalar("a"), f.scalar("b")
	f.each(p, n, false, func(l *lanes) {
		u, v := l.load(p[1]), l.load(p[2])
		l.word(fmul, u, u, a)
		l.word(fmul, v, v, b)
		l.word(fadd, u, u, v)
		l.store(u, p[0])
	})
	f.ret()

	f.function("axpbSum", "dst, x, y, z []float32, a, b, c float32", "", "sets dst to a·x + b·(y + c·z), each operation rounded. dst may be an operand.")
	p, n = f.slices("dst", "x", "y", "z")
	a, b, c := f.scalar("a"), f.scalar("b"), f.scalar("c")
	f.each(p, n, false, func(l *lanes) {
		u, v, w := l.load(p[1]), l.load(p[2]), l.load(p[3])
		l.word(fmul, w, w, c)
		l.word(fadd, v, v, w)
		l.word(fmul, u, u, a)
		l.word(fmul, v, v, b)
		l.word(fadd, u, u, v)
		l.store(u, p[0])
	})
	f.ret()
}

// reductions writes the operations that reduce a row.
func (f *file) reductions() {
	f.dot()
	f.greatest("greatest", "x []float32", "returns the maximum of x, which is not empty.", false)
	f.greatest("scaleGreatest", "x []float32, factor float32", "multiplies x, which is not empty, by factor and returns its maximum.", true)
	f.expSum()
}

func (f *file) dot() {
	f.function("dot", "x, y []float32", "float32", "returns the sum of x·y in the tree of the lanes.")
	p, n := f.slices("x", "y")
	sums := f.zeros(block / width)
	f.each(p, n, true, func(l *lanes) {
		a, b := l.load(p[0]), l.load(p[1])
		l.word(fmul, a, a, b)
		l.accumulate(a, sums[l.v])
	})
	f.combine(sums, fadd)
}

func (f *file) greatest(name, params, doc string, scaled bool) {
	f.function(name, params, "float32", doc)
	x, n := f.slices("x")
	// The first value fills the lanes that have none.
	fill := f.vec()
	f.op("VLD1R", at(x[0], 0), fmt.Sprintf("[%s]", fill.as("S4")))
	var factor vec
	if scaled {
		factor = f.scalar("factor")
		f.word(fmul, fill, fill, factor)
	}
	highest := f.vecsOf(block / width)
	for _, v := range highest {
		f.op("VORR", fill.as("B16"), fill.as("B16"), v.as("B16"))
	}
	f.each(x, n, true, func(l *lanes) {
		v := l.load(x[0])
		if scaled {
			l.word(fmul, v, v, factor)
			l.store(v, x[0])
		}
		if l.part {
			l.op("VBIF", l.mask.as("B16"), fill.as("B16"), v.as("B16"))
		}
		l.word(fmaxnm, highest[l.v], highest[l.v], v)
	})
	f.combine(highest, fmaxnm)
}

// exponential holds the constants of exp32, which of computes operation for operation.
type exponential struct {
	*file
	high, low, log2E, round, ln2High, ln2Low, c4, c3, c2, c1, half, one, bias vec
}

// exponentConstants are exp32's in the order of exponential's registers.
var exponentConstants = []uint32{
	math.Float32bits(89), math.Float32bits(-104), math.Float32bits(1.44269502), math.Float32bits(12582912),
	math.Float32bits(0.693145751953125), math.Float32bits(1.42860677e-06),
	math.Float32bits(0.0013926184), math.Float32bits(0.008363179), math.Float32bits(0.041666556), math.Float32bits(0.16666576),
	math.Float32bits(0.5), math.Float32bits(1), 127,
}

// exponential loads the constants.
func (f *file) exponential() *exponential {
	table, v := f.gp(), f.vecsOf(len(exponentConstants))
	f.op("MOVD", "$neonExp<>(SB)", table)
	f.constants(table, v)
	return &exponential{f, v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12]}
}

// constants fills each register with one of the words at table, which it moves on.
func (f *file) constants(table gp, v []vec) {
	for _, r := range v {
		f.op("VLD1R.P", at(table, 4), fmt.Sprintf("[%s]", r.as("S4")))
	}
}

// of replaces x by e^x.
func (e *exponential) of(x vec) {
	e.scope(func() {
		shifted, t, q := e.vec(), e.vec(), e.vec()
		e.word(fmin, x, x, e.high)
		e.word(fmax, x, x, e.low)
		e.word(fmul, shifted, x, e.log2E)
		e.word(fadd, shifted, shifted, e.round)
		n := q
		e.word(fsub, n, shifted, e.round)
		e.word(fmul, t, n, e.ln2High)
		e.word(fsub, x, x, t)
		e.word(fmul, t, n, e.ln2Low)
		e.word(fsub, x, x, t) // r
		e.word(fmul, q, x, e.c4)
		for _, c := range []vec{e.c3, e.c2, e.c1} {
			e.word(fadd, q, q, c)
			e.word(fmul, q, q, x)
		}
		e.word(fadd, q, q, e.half)
		e.word(fmul, t, x, x)
		e.word(fmul, q, q, t)
		e.word(fadd, q, q, x)
		e.word(fadd, x, q, e.one)
		// 2^n in two factors.
		whole, lower := shifted, t
		e.op("VSUB", e.round.as("S4"), shifted.as("S4"), whole.as("S4"))
		e.word(halve, lower, whole)
		e.op("VSUB", lower.as("S4"), whole.as("S4"), whole.as("S4"))
		for _, i := range []vec{lower, whole} {
			e.op("VADD", e.bias.as("S4"), i.as("S4"), i.as("S4"))
			e.op("VSHL", "$23", i.as("S4"), i.as("S4"))
			e.word(fmul, x, x, i)
		}
	})
}

func (f *file) expSum() {
	f.function("expSum", "dst, x []float32, shift float32", "float32",
		"sets dst to e^(x − shift) and returns its sum in the tree of the lanes.")
	p, n := f.slices("dst", "x")
	shift, e, sums := f.scalar("shift"), f.exponential(), f.zeros(block/width)
	f.each(p, n, true, func(l *lanes) {
		v := l.load(p[1])
		l.word(fsub, v, v, shift)
		e.of(v)
		l.store(v, p[0])
		l.accumulate(v, sums[l.v])
	})
	f.combine(sums, fadd)
}
