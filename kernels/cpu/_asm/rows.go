package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func pointer(slice string) reg.GPVirtual {
	r := GP64()
	Load(Param(slice).Base(), r)
	return r
}

func length(slice string) reg.GPVirtual {
	r := GP64()
	Load(Param(slice).Len(), r)
	return r
}

// returns stores the low lane of v as the result.
func (s *isa) returns(v reg.VecVirtual) {
	result, err := ReturnIndex(0).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSS(v.AsX(), result.Addr)
}

// inRegister returns a register that holds op.
func (s *isa) inRegister(op Op) reg.VecVirtual {
	if v, ok := op.(reg.VecVirtual); ok {
		return v
	}
	v := s.vec()
	VMOVUPS(op, v)
	return v
}

// accumulate adds v to the lanes of acc that the mask selects.
func (s *isa) accumulate(v, acc reg.VecVirtual, k *mask) {
	switch {
	case k == nil:
		VADDPS(v, acc, acc)
	case s.wide:
		VADDPS(v, acc, k.k, acc)
	default:
		t := s.vec()
		VANDPS(k.y, v, t)
		VADDPS(t, acc, acc)
	}
}

func (s *isa) zeros() []reg.VecVirtual {
	acc := s.vecs(s.perBlock())
	for _, v := range acc {
		VXORPS(v, v, v)
	}
	return acc
}

func vaddps(a, b, dst Op) { VADDPS(a, b, dst) }
func vmaxps(a, b, dst Op) { VMAXPS(a, b, dst) }

// elementwise emits the operations on whole vectors.
func (s *isa) elementwise() {
	s.text("add", "func(dst, x []float32)")
	Doc("add" + s.suffix + " adds x to dst.")
	dst, x, n := pointer("dst"), pointer("x"), length("dst")
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		a, b := s.vec(), s.vec()
		s.load(at(dst), k, a)
		s.load(at(x), k, b)
		VADDPS(b, a, a)
		s.store(a, k, at(dst))
	})
	end()

	s.text("scale", "func(x []float32, factor float32)")
	Doc("scale" + s.suffix + " multiplies x by factor.")
	x, n = pointer("x"), length("x")
	factor := s.scalar("factor")
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		v := s.vec()
		s.load(at(x), k, v)
		VMULPS(factor, v, v)
		s.store(v, k, at(x))
	})
	end()

	s.axpby(false)
	s.axpby(true)
}

// axpby emits the sum of two vectors with factors; with nested set the second is itself
// such a sum, of which only the second has a factor.
func (s *isa) axpby(nested bool) {
	if nested {
		s.text("axpbSum", "func(dst, x, y, z []float32, a, b, c float32)")
		Doc("axpbSum" + s.suffix + " sets dst to a·x + b·(y + c·z), each operation rounded. dst may be an operand.")
	} else {
		s.text("axpby", "func(dst, x, y []float32, a, b float32)")
		Doc("axpby" + s.suffix + " sets dst to a·x + b·y, each operation rounded. dst may be an operand.")
	}
	dst, x, y, n := pointer("dst"), pointer("x"), pointer("y"), length("dst")
	a, b := s.scalar("a"), s.scalar("b")
	var z reg.GPVirtual
	var c reg.VecVirtual
	if nested {
		z, c = pointer("z"), s.scalar("c")
	}
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		u, v := s.vec(), s.vec()
		s.load(at(x), k, u)
		s.load(at(y), k, v)
		if nested {
			w := s.vec()
			s.load(at(z), k, w)
			VMULPS(c, w, w)
			VADDPS(w, v, v)
		}
		VMULPS(a, u, u)
		VMULPS(b, v, v)
		VADDPS(v, u, u)
		s.store(u, k, at(dst))
	})
	end()
}

// rows emits the operations that reduce a row.
func (s *isa) rows() {
	s.dot()
	s.greatest(false)
	s.greatest(true)
	s.expSum()
	s.scoreGrad()
}

func (s *isa) dot() {
	s.text("dot", "func(x, y []float32) float32")
	Doc("dot" + s.suffix + " returns the sum of x·y in the tree of the lanes.")
	x, y, n := pointer("x"), pointer("y"), length("x")
	acc := s.zeros()
	s.each(n, func(v int, k *mask, at func(reg.GPVirtual) Mem) {
		a, b := s.vec(), s.vec()
		s.load(at(x), k, a)
		s.load(at(y), k, b)
		VMULPS(b, a, a)
		s.accumulate(a, acc[v], k)
	})
	s.returns(s.combine(acc, vaddps))
	end()
}

// greatest emits the maximum of a row, which it first scales if scaled is set.
func (s *isa) greatest(scaled bool) {
	if scaled {
		s.text("scaleGreatest", "func(x []float32, factor float32) float32")
		Doc("scaleGreatest" + s.suffix + " multiplies x, which is not empty, by factor and returns its maximum.")
	} else {
		s.text("greatest", "func(x []float32) float32")
		Doc("greatest" + s.suffix + " returns the maximum of x, which is not empty.")
	}
	x, n := pointer("x"), length("x")
	fill := s.vec()
	VBROADCASTSS(Mem{Base: x}, fill)
	var factor reg.VecVirtual
	if scaled {
		factor = s.scalar("factor")
		VMULPS(factor, fill, fill)
	}
	acc := s.vecs(s.perBlock())
	for _, v := range acc {
		VMOVUPS(fill, v)
	}
	s.each(n, func(i int, k *mask, at func(reg.GPVirtual) Mem) {
		v := s.vec()
		s.load(at(x), k, v)
		if scaled {
			VMULPS(factor, v, v)
			s.store(v, k, at(x))
		}
		if k != nil && !s.wide {
			only := s.vec()
			VMOVUPS(k.y, only)
			VBLENDVPS(only, v, fill, v)
		}
		if k != nil && s.wide {
			VMAXPS(v, acc[i], k.k, acc[i])
		} else {
			VMAXPS(v, acc[i], acc[i])
		}
	})
	s.returns(s.combine(acc, vmaxps))
	end()
}

// exponential holds the constants of exp32, which it computes operation for operation.
type exponential struct {
	s                                        *isa
	high, low, log2E, round, ln2High, ln2Low Op
	c1, c2, c3, c4, half, one, bias          Op
}

func (s *isa) exponential() *exponential {
	return &exponential{
		s:       s,
		high:    s.constant("expHigh", 89),
		low:     s.constant("expLow", -104),
		log2E:   s.constant("log2E", 1.44269502),
		round:   s.constant("roundBit", 12582912),
		ln2High: s.constant("ln2High", 0.693145751953125),
		ln2Low:  s.constant("ln2Low", 1.42860677e-06),
		c1:      s.constant("expC1", 0.16666576),
		c2:      s.constant("expC2", 0.041666556),
		c3:      s.constant("expC3", 0.008363179),
		c4:      s.constant("expC4", 0.0013926184),
		half:    s.constant("half", 0.5),
		one:     s.constant("one", 1),
		bias:    s.constantOf("bias", 127),
	}
}

// of emits e^x.
func (e *exponential) of(x reg.VecVirtual) reg.VecVirtual {
	s := e.s
	y, t, shifted, n, r, q := s.vec(), s.vec(), s.vec(), s.vec(), s.vec(), s.vec()
	// The operand that comes first here is the result where one is NaN.
	VMINPS(x, s.inRegister(e.high), y)
	VMAXPS(y, s.inRegister(e.low), y)
	VMULPS(e.log2E, y, shifted)
	VADDPS(e.round, shifted, shifted)
	VSUBPS(e.round, shifted, n)
	VMULPS(e.ln2High, n, t)
	VSUBPS(t, y, r)
	VMULPS(e.ln2Low, n, t)
	VSUBPS(t, r, r)
	VMULPS(e.c4, r, q)
	for _, c := range []Op{e.c3, e.c2, e.c1} {
		VADDPS(c, q, q)
		VMULPS(q, r, q)
	}
	VADDPS(e.half, q, q)
	VMULPS(r, r, t)
	VMULPS(q, t, q)
	VADDPS(r, q, q)
	VADDPS(e.one, q, q)
	whole, lower := s.vec(), s.vec()
	VPSUBD(e.round, shifted, whole)
	VPSRAD(U8(1), whole, lower)
	VPSUBD(lower, whole, whole)
	VPADDD(e.bias, lower, lower)
	VPSLLD(U8(23), lower, lower)
	VMULPS(lower, q, q)
	VPADDD(e.bias, whole, whole)
	VPSLLD(U8(23), whole, whole)
	VMULPS(whole, q, q)
	return q
}

func (s *isa) expSum() {
	s.text("expSum", "func(dst, x []float32, shift float32) float32")
	Doc("expSum" + s.suffix + " sets dst to e^(x − shift) and returns its sum in the tree of the lanes.")
	dst, x, n := pointer("dst"), pointer("x"), length("x")
	shift := s.scalar("shift")
	e := s.exponential()
	acc := s.zeros()
	s.each(n, func(i int, k *mask, at func(reg.GPVirtual) Mem) {
		v := s.vec()
		s.load(at(x), k, v)
		VSUBPS(shift, v, v)
		v = e.of(v)
		s.store(v, k, at(dst))
		s.accumulate(v, acc[i], k)
	})
	s.returns(s.combine(acc, vaddps))
	end()
}

func (s *isa) scoreGrad() {
	s.text("scoreGrad", "func(p, grad []float32, factor, lse, delta float32)")
	Doc("scoreGrad" + s.suffix + " turns scores into probabilities and their gradients into scores'; see path.scoreGrad.")
	p, grad, n := pointer("p"), pointer("grad"), length("p")
	factor, lse, delta := s.scalar("factor"), s.scalar("lse"), s.scalar("delta")
	e := s.exponential()
	s.each(n, func(_ int, k *mask, at func(reg.GPVirtual) Mem) {
		v, g := s.vec(), s.vec()
		s.load(at(p), k, v)
		VMULPS(factor, v, v)
		VSUBPS(lse, v, v)
		v = e.of(v)
		s.store(v, k, at(p))
		s.load(at(grad), k, g)
		VSUBPS(delta, g, g)
		VMULPS(g, v, g)
		VMULPS(factor, g, g)
		s.store(g, k, at(grad))
	})
	end()
}
