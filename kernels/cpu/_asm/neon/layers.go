package main

// layers writes the rows of RMSNorm, RoPE and SwiGLU, and of the backward passes.
func (f *file) layers() {
	f.scoreGrad()
	f.normRow()
	f.normGradSum()
	f.normGrad()
	f.rotate()
	f.swiglu()
	f.swigluGrad()
}

func (f *file) scoreGrad() {
	f.function("scoreGrad", "p, grad []float32, factor, lse, delta float32", "",
		"turns scores into probabilities and their gradients into scores'; see path.scoreGrad.")
	p, n := f.slices("p", "grad")
	factor, lse, delta, e := f.scalar("factor"), f.scalar("lse"), f.scalar("delta"), f.exponential()
	f.each(p, n, false, func(l *lanes) {
		v := l.load(p[0])
		l.word(fmul, v, v, factor)
		l.word(fsub, v, v, lse)
		e.of(v)
		l.store(v, p[0])
		g := l.load(p[1])
		l.word(fsub, g, g, delta)
		l.word(fmul, g, v, g)
		l.word(fmul, g, g, factor)
		l.store(g, p[1])
	})
	f.ret()
}

func (f *file) normRow() {
	f.function("normRow", "out, x, w []float32, rstd float32", "", "sets out to x·rstd·w.")
	p, n := f.slices("out", "x", "w")
	rstd := f.scalar("rstd")
	f.each(p, n, false, func(l *lanes) {
		v, w := l.load(p[1]), l.load(p[2])
		l.word(fmul, v, v, rstd)
		l.word(fmul, v, v, w)
		l.store(v, p[0])
	})
	f.ret()
}

func (f *file) normGradSum() {
	f.function("normGradSum", "dweight, dout, x, w []float32, rstd float32", "float32",
		"adds dout·x·rstd to dweight and returns the sum of dout·w·x·rstd in the tree of the lanes.")
	p, n := f.slices("dweight", "dout", "x", "w")
	rstd, sums := f.scalar("rstd"), f.zeros(block/width)
	f.each(p, n, true, func(l *lanes) {
		normed, grad, old, t := l.load(p[2]), l.load(p[1]), l.load(p[0]), l.vec()
		l.word(fmul, normed, normed, rstd)
		l.word(fmul, t, grad, normed)
		l.word(fadd, old, old, t)
		l.store(old, p[0])
		w := l.load(p[3])
		l.word(fmul, grad, grad, w)
		l.word(fmul, grad, grad, normed)
		l.accumulate(grad, sums[l.v])
	})
	f.combine(sums, fadd)
}

func (f *file) normGrad() {
	f.function("normGrad", "dx, dout, x, w []float32, rstd, mean float32", "", "adds rstd·(dout·w − x·rstd·mean) to dx.")
	p, n := f.slices("dx", "dout", "x", "w")
	rstd, mean := f.scalar("rstd"), f.scalar("mean")
	f.each(p, n, false, func(l *lanes) {
		grad, w, x, old := l.load(p[1]), l.load(p[3]), l.load(p[2]), l.load(p[0])
		l.word(fmul, grad, grad, w)
		l.word(fmul, x, x, rstd)
		l.word(fmul, x, x, mean)
		l.word(fsub, grad, grad, x)
		l.word(fmul, grad, grad, rstd)
		l.word(fadd, old, old, grad)
		l.store(old, p[0])
	})
	f.ret()
}

func (f *file) rotate() {
	f.function("rotate", "lo, hi, cos, sin []float32, sign float32", "",
		"turns the pairs (lo, hi) by angles of which it has cos and sin.")
	p, n := f.slices("lo", "hi", "cos", "sin")
	sign := f.scalar("sign")
	f.each(p, n, false, func(l *lanes) {
		a, b, c, s := l.load(p[0]), l.load(p[1]), l.load(p[2]), l.load(p[3])
		t, u := l.vec(), l.vec()
		l.word(fmul, s, s, sign)
		l.word(fmul, t, a, c)
		l.word(fmul, u, b, s)
		l.word(fsub, t, t, u)
		l.store(t, p[0])
		l.word(fmul, b, b, c)
		l.word(fmul, a, a, s)
		l.word(fadd, b, b, a)
		l.store(b, p[1])
	})
	f.ret()
}

// sigmoid returns 1/(1 + e^−x).
func (l *lanes) sigmoid(e *exponential, x vec) vec {
	v := l.vec()
	l.word(fneg, v, x)
	e.of(v)
	l.word(fadd, v, v, e.one)
	l.word(fdiv, v, e.one, v)
	return v
}

func (f *file) swiglu() {
	f.function("swiglu", "out, gate, up []float32", "", "sets out to gate·sigmoid(gate)·up.")
	p, n := f.slices("out", "gate", "up")
	e := f.exponential()
	f.each(p, n, false, func(l *lanes) {
		g := l.load(p[1])
		l.word(fmul, g, g, l.sigmoid(e, g))
		u := l.load(p[2])
		l.word(fmul, g, g, u)
		l.store(g, p[0])
	})
	f.ret()
}

func (f *file) swigluGrad() {
	f.function("swigluGrad", "dgate, dup, dout, gate, up []float32", "", "sets the gradients of gate and up, which may replace them.")
	p, n := f.slices("dgate", "dup", "dout", "gate", "up")
	e := f.exponential()
	f.each(p, n, false, func(l *lanes) {
		g := l.load(p[3])
		sigma := l.sigmoid(e, g)
		u, d, t := l.load(p[4]), l.load(p[2]), l.vec()
		l.word(fmul, u, d, u) // dout·up
		l.word(fsub, t, e.one, sigma)
		l.word(fmul, t, g, t)
		l.word(fadd, t, e.one, t)
		l.word(fmul, t, sigma, t)
		l.word(fmul, t, u, t)
		l.store(t, p[0])
		l.word(fmul, g, g, sigma) // silu
		l.word(fmul, d, d, g)
		l.store(d, p[1])
	})
	f.ret()
}

// sums writes the lanes of Sum and SquaredNorm.
func (f *file) sums() {
	f.laneSums("sumLanes", "adds the values of x, whose number is a multiple of 32, to the lanes.", false)
	f.laneSums("squareLanes", "adds the squares of x, whose number is a multiple of 32, to the lanes.", true)
}

func (f *file) laneSums(name, doc string, square bool) {
	f.function(name, "lanes *[32]float64, x []float32", "", doc)
	lanes, x, n := f.param("lanes"), f.param("x_base"), f.param("x_len")
	blocks, done := f.name("blocks"), f.name("done")
	sums := f.vecsOf(block / 2)
	for i := 0; i < len(sums); i += 2 {
		f.op("FLDPQ", at(lanes, 16*i), pair(sums[i], sums[i+1]))
	}
	f.label(blocks)
	f.op("CMP", imm(block), n)
	f.op("BLT", done)
	for i := 0; i < len(sums); i += 2 {
		f.scope(func() {
			four, low, high := f.vec(), f.vec(), f.vec()
			f.op("FMOVQ", at(x, 8*i), four.F())
			f.word(lowDoubles, low, four)
			f.word(highDoubles, high, four)
			for j, v := range []vec{low, high} {
				if square {
					f.word(mulDoubles, v, v, v)
				}
				f.word(addDoubles, sums[i+j], sums[i+j], v)
			}
		})
	}
	f.op("ADD", imm(4*block), x)
	f.op("SUB", imm(block), n)
	f.op("B", blocks)
	f.label(done)
	for i := 0; i < len(sums); i += 2 {
		f.op("FSTPQ", pair(sums[i], sums[i+1]), at(lanes, 16*i))
	}
	f.ret()
}

func (f *file) adamw() {
	f.function("adamw", "p, g, m, v []float32, c *[10]float32", "",
		"is one AdamW step; c holds the constants in the order of adamwJob.constants.")
	p, n := f.slices("p", "g", "m", "v")
	c := f.vecsOf(10)
	f.constants(f.param("c"), c)
	f.each(p, n, false, func(l *lanes) {
		grad, mean, square, w, t := l.load(p[1]), l.load(p[2]), l.load(p[3]), l.load(p[0]), l.vec()
		l.word(fmul, grad, grad, c[0])
		l.word(fmul, mean, mean, c[1])
		l.word(fmul, t, grad, c[2])
		l.word(fadd, mean, mean, t)
		l.store(mean, p[2])
		l.word(fmul, grad, grad, grad)
		l.word(fmul, square, square, c[3])
		l.word(fmul, t, grad, c[4])
		l.word(fadd, square, square, t)
		l.store(square, p[3])
		l.word(fmul, t, w, c[5])
		l.word(fsub, w, w, t)
		l.word(fdiv, mean, mean, c[7])
		l.word(fmul, mean, mean, c[6])
		l.word(fdiv, square, square, c[8])
		l.word(fsqrt, square, square)
		l.word(fadd, square, square, c[9])
		l.word(fdiv, mean, mean, square)
		l.word(fsub, w, w, mean)
		l.store(w, p[0])
	})
	f.ret()
}
