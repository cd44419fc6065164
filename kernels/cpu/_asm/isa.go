package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is one register width.
type isa struct {
	suffix string
	lanes  int
	wide   bool // AVX-512: 32 registers, mask registers
	pairs  bool // products of pairs of bf16 values: see bf16.go
}

func avx512() *isa { return &isa{suffix: "AVX512", lanes: 16, wide: true} }

func avx2() *isa { return &isa{suffix: "AVX2", lanes: 8} }

// text begins a function of this width; it returns its name.
func (s *isa) text(name, signature string) {
	TEXT(name+s.suffix, NOSPLIT, signature)
	Pragma("noescape")
}

// end ends a function. Upper halves left dirty would slow every float of Go's own
// code after it.
func end() {
	VZEROUPPER()
	RET()
}

// vec returns a new register of the full width.
func (s *isa) vec() reg.VecVirtual {
	if s.wide {
		return ZMM()
	}
	return YMM()
}

// vecs returns n new registers.
func (s *isa) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = s.vec()
	}
	return v
}

// perBlock is the number of registers that hold a block.
func (s *isa) perBlock() int { return block / s.lanes }

// copies are 8 copies of a constant, so that a 32-byte operand can be read from them.
var copies = map[uint32]Mem{}

func constantBits(bits uint32, name string) Mem {
	m, ok := copies[bits]
	if !ok {
		m = GLOBL(name, RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(bits))
		}
		copies[bits] = m
	}
	return m
}

// constant returns an operand of copies of a constant: a register where there are
// many, else memory. Call it before the loop.
func (s *isa) constant(name string, x float32) Op {
	return s.constantOf(name, math.Float32bits(x))
}

func (s *isa) constantOf(name string, bits uint32) Op {
	m := constantBits(bits, name)
	if !s.wide {
		return m
	}
	v := s.vec()
	VBROADCASTSS(m, v)
	return v
}

// scalar returns a register full of a float32 parameter.
func (s *isa) scalar(name string) reg.VecVirtual {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := s.vec()
	VBROADCASTSS(p.Addr, v)
	return v
}

// mask selects the lanes of one register that lie before the end of a row; nil is all.
type mask struct {
	k reg.OpmaskVirtual // AVX-512
	y Mem               // AVX2: a row of the table
}

// load reads a register; lanes that the mask leaves out are 0.
func (s *isa) load(m Mem, k *mask, v reg.VecVirtual) {
	switch {
	case k == nil:
		VMOVUPS(m, v)
	case s.wide:
		VMOVUPS_Z(m, k.k, v)
	default:
		t := YMM()
		VMOVUPS(k.y, t)
		VMASKMOVPS(m, t, v)
	}
}

// store writes a register's lanes that the mask selects.
func (s *isa) store(v reg.VecVirtual, k *mask, m Mem) {
	switch {
	case k == nil:
		VMOVUPS(v, m)
	case s.wide:
		VMOVUPS(v, k.k, m)
	default:
		t := YMM()
		VMOVUPS(k.y, t)
		VMASKMOVPS(v, t, m)
	}
}

var tailTable Mem
var tailMade bool

// tails is 32 words of ones and 32 of zeros.
func tails() Mem {
	if !tailMade {
		tailTable = GLOBL("tails", RODATA|NOPTR)
		for i := range 2 * block {
			bits := uint32(0xffffffff)
			if i >= block {
				bits = 0
			}
			DATA(4*i, U32(bits))
		}
		tailMade = true
	}
	return tailTable
}

// masks returns the masks of a block of which n values exist, 0 < n < 32. It changes n.
func (s *isa) masks(n reg.GPVirtual) []*mask {
	out := make([]*mask, s.perBlock())
	if s.wide {
		bits := GP64()
		MOVQ(I64(-1), bits)
		BZHIQ(n, bits, bits)
		for i := range out {
			k := K()
			KMOVW(bits.As32(), k)
			out[i] = &mask{k: k}
			SHRQ(U8(16), bits)
		}
		return out
	}
	base := GP64()
	LEAQ(tails(), base)
	NEGQ(n)
	LEAQ(Mem{Base: base, Index: n, Scale: 4, Disp: 4 * block}, base)
	for i := range out {
		out[i] = &mask{y: Mem{Base: base, Disp: 32 * i}}
	}
	return out
}

// each emits a loop over n values, a block a turn, and then the rest under masks.
// body handles one register's worth, number v of its block; at gives its place in an
// array that begins at base.
func (s *isa) each(n reg.GPVirtual, body func(v int, k *mask, at func(base reg.GPVirtual) Mem)) {
	off := GP64()
	XORQ(off, off)
	place := func(v int) func(reg.GPVirtual) Mem {
		return func(base reg.GPVirtual) Mem {
			return Mem{Base: base, Index: off, Scale: 1, Disp: 4 * s.lanes * v}
		}
	}
	Label("blocks")
	CMPQ(n, U32(block))
	JL(LabelRef("rest"))
	for v := range s.perBlock() {
		body(v, nil, place(v))
	}
	ADDQ(I32(4*block), off)
	SUBQ(U32(block), n)
	JMP(LabelRef("blocks"))
	Label("rest")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	count := GP64()
	MOVQ(n, count)
	for v, k := range s.masks(count) {
		if v > 0 {
			CMPQ(n, U8(uint8(s.lanes*v)))
			JLE(LabelRef("done"))
		}
		body(v, k, place(v))
	}
	Label("done")
}

// combine sets to v[i] ← op(v[i], v[j]) in the order of the lanes' tree, until one
// float32 is left in the low lane of v[0].
func (s *isa) combine(v []reg.VecVirtual, op func(a, b, dst Op)) reg.VecVirtual {
	for n := len(v) / 2; n > 0; n /= 2 {
		for i := range n {
			op(v[i+n], v[i], v[i])
		}
	}
	y := v[0]
	if s.wide {
		high := YMM()
		VEXTRACTF64X4(U8(1), v[0], high)
		op(high, v[0].AsY(), v[0].AsY())
	}
	x, high := y.AsX(), XMM()
	VEXTRACTF128(U8(1), y.AsY(), high)
	op(high, x, x)
	VMOVHLPS(x, x, high)
	op(high, x, x)
	VMOVSHDUP(x, high)
	op(high, x, x)
	return y
}

// param loads an integer or pointer parameter.
func param(name string) reg.GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}
