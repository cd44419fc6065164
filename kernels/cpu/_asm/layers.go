package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// layers emits the rows of RMSNorm, RoPE and SwiGLU.
func (s *isa) layers() {
	s.normRow()
	s.normGradSum()
	s.normGrad()
	s.rotate()
	s.swiglu()
	s.swigluGrad()
}

func (s *isa) normRow() {
	s.text("normRow", "func(out, x, w []float32, rstd float32)")
	Doc("normRow" + s.suffix + " sets out to x·rstd·w.")
	out, x, w, n := pointer("out"), pointer("x"), pointer("w"), length("x")
	rstd := s.scalar("rstd")
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		v, weight := s.vec(), s.vec()
		s.load(at(x), k, v)
		s.load(at(w), k, weight)
		VMULPS(rstd, v, v)
		VMULPS(weight, v, v)
		s.store(v, k, at(out))
	})
	end()
}

func (s *isa) normGradSum() {
	s.text("normGradSum", "func(dweight, dout, x, w []float32, rstd float32) float32")
	Doc("normGradSum" + s.suffix + " adds dout·x·rstd to dweight and returns the sum of dout·w·x·rstd in the tree of the lanes.")
	dweight, dout, x, w, n := pointer("dweight"), pointer("dout"), pointer("x"), pointer("w"), length("x")
	rstd := s.scalar("rstd")
	acc := s.zeros()
	s.each(n, func(i int, k *mask, at func(reg.GPVirtual) Mem) {
		normed, grad, old, t := s.vec(), s.vec(), s.vec(), s.vec()
		s.load(at(x), k, normed)
		VMULPS(rstd, normed, normed)
		s.load(at(dout), k, grad)
		VMULPS(normed, grad, t)
		s.load(at(dweight), k, old)
		VADDPS(t, old, old)
		s.store(old, k, at(dweight))
		s.load(at(w), k, t)
		VMULPS(t, grad, grad)
		VMULPS(normed, grad, grad)
		s.accumulate(grad, acc[i], k)
	})
	s.returns(s.combine(acc, vaddps))
	end()
}

func (s *isa) normGrad() {
	s.text("normGrad", "func(dx, dout, x, w []float32, rstd, mean float32)")
	Doc("normGrad" + s.suffix + " adds rstd·(dout·w − x·rstd·mean) to dx.")
	dx, dout, x, w, n := pointer("dx"), pointer("dout"), pointer("x"), pointer("w"), length("x")
	rstd, mean := s.scalar("rstd"), s.scalar("mean")
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		grad, t, old := s.vec(), s.vec(), s.vec()
		s.load(at(dout), k, grad)
		s.load(at(w), k, t)
		VMULPS(t, grad, grad)
		s.load(at(x), k, t)
		VMULPS(rstd, t, t)
		VMULPS(mean, t, t)
		VSUBPS(t, grad, grad)
		VMULPS(rstd, grad, grad)
		s.load(at(dx), k, old)
		VADDPS(grad, old, old)
		s.store(old, k, at(dx))
	})
	end()
}

func (s *isa) rotate() {
	s.text("rotate", "func(lo, hi, cos, sin []float32, sign float32)")
	Doc("rotate" + s.suffix + " turns the pairs (lo, hi) by angles of which it has cos and sin.")
	lo, hi, cos, sin, n := pointer("lo"), pointer("hi"), pointer("cos"), pointer("sin"), length("lo")
	sign := s.scalar("sign")
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		a, b, c, d, t, u := s.vec(), s.vec(), s.vec(), s.vec(), s.vec(), s.vec()
		s.load(at(lo), k, a)
		s.load(at(hi), k, b)
		s.load(at(cos), k, c)
		s.load(at(sin), k, d)
		VMULPS(sign, d, d)
		VMULPS(c, a, t)
		VMULPS(d, b, u)
		VSUBPS(u, t, t)
		s.store(t, k, at(lo))
		VMULPS(c, b, b)
		VMULPS(d, a, a)
		VADDPS(a, b, b)
		s.store(b, k, at(hi))
	})
	end()
}

// sigmoid emits 1/(1 + e^−x).
func (s *isa) sigmoid(e *exponential, minusOne Op, x reg.VecVirtual) reg.VecVirtual {
	v := s.vec()
	VMULPS(minusOne, x, v)
	v = e.of(v)
	VADDPS(e.one, v, v)
	VDIVPS(v, s.inRegister(e.one), v)
	return v
}

func (s *isa) swiglu() {
	s.text("swiglu", "func(out, gate, up []float32)")
	Doc("swiglu" + s.suffix + " sets out to gate·sigmoid(gate)·up.")
	out, gate, up, n := pointer("out"), pointer("gate"), pointer("up"), length("gate")
	e, minusOne := s.exponential(), s.constant("minusOne", -1)
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		g, u := s.vec(), s.vec()
		s.load(at(gate), k, g)
		sigma := s.sigmoid(e, minusOne, g)
		VMULPS(sigma, g, g)
		s.load(at(up), k, u)
		VMULPS(u, g, g)
		s.store(g, k, at(out))
	})
	end()
}

func (s *isa) swigluGrad() {
	s.text("swigluGrad", "func(dgate, dup, dout, gate, up []float32)")
	Doc("swigluGrad" + s.suffix + " sets the gradients of gate and up, which may replace them.")
	dgate, dup, dout := pointer("dgate"), pointer("dup"), pointer("dout")
	gate, up, n := pointer("gate"), pointer("up"), length("gate")
	e, minusOne := s.exponential(), s.constant("minusOne", -1)
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		g, u, d, t := s.vec(), s.vec(), s.vec(), s.vec()
		s.load(at(gate), k, g)
		sigma := s.sigmoid(e, minusOne, g)
		s.load(at(up), k, u)
		s.load(at(dout), k, d)
		VMULPS(u, d, u) // dout·up
		VSUBPS(sigma, s.inRegister(e.one), t)
		VMULPS(g, t, t)
		VADDPS(e.one, t, t)
		VMULPS(t, sigma, t)
		VMULPS(t, u, t)
		s.store(t, k, at(dgate))
		VMULPS(sigma, g, g) // silu
		VMULPS(g, d, d)
		s.store(d, k, at(dup))
	})
	end()
}

// sumsAhead is how far ahead of the additions memory is asked for, in bytes.
const sumsAhead = 2048

// sums emits the lanes of Sum and SquaredNorm.
func (s *isa) sums() {
	for _, square := range []bool{false, true} {
		name := "sumLanes"
		if square {
			name = "squareLanes"
		}
		s.text(name, "func(lanes *[32]float64, x []float32)")
		Doc(name + s.suffix + " adds the values of x, whose number is a multiple of 32, or their squares, to the lanes.")
		lanes, x, n := param("lanes"), pointer("x"), length("x")
		width := s.lanes / 2
		acc := s.vecs(block / width)
		for i, v := range acc {
			VMOVUPS(Mem{Base: lanes, Disp: 8 * width * i}, v)
		}
		Label("blocks")
		CMPQ(n, U32(block))
		JL(LabelRef("done"))
		for line := range 4 * block / 64 { // the next chunk's, which are other calls
			PREFETCHT0(Mem{Base: x, Disp: sumsAhead + 64*line})
		}
		for i := range acc {
			v := s.vec()
			VCVTPS2PD(Mem{Base: x, Disp: 4 * width * i}, v)
			if square {
				VMULPD(v, v, v)
			}
			VADDPD(v, acc[i], acc[i])
		}
		ADDQ(I32(4*block), x)
		SUBQ(U32(block), n)
		JMP(LabelRef("blocks"))
		Label("done")
		for i, v := range acc {
			VMOVUPS(v, Mem{Base: lanes, Disp: 8 * width * i})
		}
		end()
	}
}

func (s *isa) adamw() {
	s.text("adamw", "func(p, g, m, v []float32, c *[10]float32)")
	Doc("adamw" + s.suffix + " is one AdamW step; c holds the constants in the order of adamwJob.constants.")
	p, g, m, v, n := pointer("p"), pointer("g"), pointer("m"), pointer("v"), length("p")
	base := param("c")
	value := func(i int) reg.VecVirtual {
		r := s.vec()
		VBROADCASTSS(Mem{Base: base, Disp: 4 * i}, r)
		return r
	}
	operand := value
	var kept []reg.VecVirtual
	if s.wide { // there are registers to keep them in
		for i := range 10 {
			kept = append(kept, value(i))
		}
		operand = func(i int) reg.VecVirtual { return kept[i] }
	}
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		grad, mean, square, w, t := s.vec(), s.vec(), s.vec(), s.vec(), s.vec()
		s.load(at(g), k, grad)
		VMULPS(operand(0), grad, grad)
		s.load(at(m), k, mean)
		VMULPS(operand(1), mean, mean)
		VMULPS(operand(2), grad, t)
		VADDPS(t, mean, mean)
		s.store(mean, k, at(m))
		VMULPS(grad, grad, grad)
		s.load(at(v), k, square)
		VMULPS(operand(3), square, square)
		VMULPS(operand(4), grad, t)
		VADDPS(t, square, square)
		s.store(square, k, at(v))
		s.load(at(p), k, w)
		VMULPS(operand(5), w, t)
		VSUBPS(t, w, w)
		VDIVPS(operand(7), mean, mean)
		VMULPS(operand(6), mean, mean)
		VDIVPS(operand(8), square, square)
		VSQRTPS(square, square)
		VADDPS(operand(9), square, square)
		VDIVPS(square, mean, mean)
		VSUBPS(mean, w, w)
		s.store(w, k, at(p))
	})
	end()
}

// peak emits loops of nothing but fused multiply-adds: the rate to compare with.
func (s *isa) peak() {
	s.text("peak", "func(turns int)")
	Doc("peak" + s.suffix + " does 12 fused multiply-adds on whole registers a turn.")
	turns := param("turns")
	acc, factor := s.vecs(12), s.vec()
	for _, v := range append(acc, factor) {
		VXORPS(v, v, v)
	}
	Label("turn")
	for _, v := range acc {
		VFMADD231PS(factor, factor, v)
	}
	DECQ(turns)
	JNZ(LabelRef("turn"))
	end()
}
