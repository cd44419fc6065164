package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Formats for the wire, on runs of whole blocks of 256 values. What they compute is
// defined by plain Go in kernels/format_*.go.
//
// A quantised value is round-to-even(round(x/s)), but to divide every value would cost
// more time than all the rest. There is one division a block: hi = round(1/s), and lo,
// what is missing from it, so that hi + lo = (1 + e)/s with |e| < 2⁻⁴⁷. A value becomes
// y = round(x·hi + round(x·lo)), in a multiplication and a fused multiply-add. It is
// rounded to the same integer as x/s, because s = σ·2^j, 1 ≤ σ < 2, has 17 significant
// bits. Let c = m·2^k, 1 ≤ m < 2, be the half of an odd number next to x/s; c ≤ 253/2.
//
//   - Where x/s = c, y is much less than half of c's last place away from c before it is
//     rounded, and c is a float32: y = c, as round(x/s) is.
//   - Else x and c·s are multiples of 2^(k+j−23), since k ≤ 6, so that x/s and c are at
//     least 2^(k−23)/σ apart: more than 2^(k−24)·(1 + 2⁻¹⁷), half of c's last place and
//     more than y's error beyond it. So y does not reach c and stays on the side of x/s.
//     (Where σ = m = 1 numbers below c·s are twice as dense, and those below c as well.)
//
// Above s = 2^108 lo loses bits, because it is subnormal: there the kernel divides.
const divideAbove = (108 + 127) << 23

const (
	wireBlock    = 256
	scaleMin     = 0x00800000
	int8ScaleMax = 0x7c010200
	int4ScaleMax = 0x7e124900
)

// codecs emits the functions of all formats.
func (s *isa) codecs() {
	s.fp32()
	s.bf16()
	s.encodeScaled("int8Encode", 127, int8ScaleMax, s.storeInt8)
	s.encodeScaled("int4Encode", 7, int4ScaleMax, s.storeInt4)
	s.int8Sound()
	s.int4Sound()
	s.decodeScaled("int8Decode", 1)
	s.decodeScaled("int4Decode", 2)
	s.pastCaches()
	s.codecStreams()
}

// at is register v of a row of values of the given size in bytes.
func (s *isa) at(base reg.GPVirtual, v, size int) Mem {
	return Mem{Base: base, Disp: v * s.lanes * size}
}

// inBlock is the number of registers that hold a block of float32.
func (s *isa) inBlock() int { return wireBlock / s.lanes }

// prefetch asks for a row of bytes that is some way further on, for the second-level
// cache, and for one that is nearer, for the first. A block's values depend on its
// scale, so a processor runs out of places for unfinished instructions before it has
// asked for enough memory by itself.
func prefetch(base reg.GPVirtual, bytes int) {
	const near, far = 512, 3072
	for at := 0; at < bytes; at += 64 {
		PREFETCHT0(Mem{Base: base, Disp: near + at})
		PREFETCHT1(Mem{Base: base, Disp: far + at})
	}
}

// blockCount is the number of blocks in a slice of float32.
func blockCount(slice string) reg.GPVirtual {
	n := length(slice)
	SHRQ(U8(8), n)
	return n
}

// eachBlock emits a loop over count blocks, of which body advances the pointers.
func eachBlock(count reg.GPVirtual, body func()) {
	Label("blocks")
	TESTQ(count, count)
	JZ(LabelRef("done"))
	body()
	DECQ(count)
	JMP(LabelRef("blocks"))
	Label("done")
}

func vpmaxud(a, b, dst Op) { VPMAXUD(a, b, dst) }
func vpminsb(a, b, dst Op) { VPMINSB(a, b, dst) }
func vorps(a, b, dst Op)   { VORPS(a, b, dst) }

// low combines v until 32 bits are left.
func (s *isa) low(v []reg.VecVirtual, op func(a, b, dst Op)) reg.GPVirtual {
	r := GP32()
	VMOVD(s.combine(v, op).AsX(), r)
	return r
}

// four are four zeroed registers, so that chains of operations overlap.
func (s *isa) four() []reg.VecVirtual {
	v := s.vecs(4)
	for _, r := range v {
		VXORPS(r, r, r)
	}
	return v
}

func returnBool(yes bool) {
	r := GP8()
	b := 0
	if yes {
		b = 1
	}
	MOVB(I8(b), r)
	Store(r, ReturnIndex(0))
}

// and sets dst to a and b; a may be in memory.
func (s *isa) and(a, b, dst Op) { VANDPS(a, b, dst) }

var orders = map[string]Mem{}

// orderTable is a constant of n numbers, of 64 or 32 bits.
func orderTable(name string, quads bool, numbers ...int) Mem {
	m, ok := orders[name]
	if !ok {
		m = GLOBL(name, RODATA|NOPTR)
		for i, x := range numbers {
			if quads {
				DATA(8*i, U64(x))
			} else {
				DATA(4*i, U32(x))
			}
		}
		orders[name] = m
	}
	return m
}

// quadOrder puts the quads of two registers of float32 packed to words in order. Packing
// works in lanes of 128 bits: lane l holds quad l of the first, then of the second.
func quadOrder() Mem {
	return orderTable("quadOrder", true, 0, 2, 4, 6, 1, 3, 5, 7)
}

// byteOrder puts the dwords of four registers packed to bytes in order: lane l holds
// dword l of each.
func (s *isa) byteOrder() Mem {
	if s.wide {
		return orderTable("byteOrderAVX512", false, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
	}
	return orderTable("byteOrderAVX2", false, 0, 4, 1, 5, 2, 6, 3, 7)
}

// quotient sets y to x over the block's scale.
type quotient func(x Mem, y reg.VecVirtual)

// bytes quantises four registers from number v on to as many bytes.
func (s *isa) bytes(src reg.GPVirtual, v int, q quotient, order reg.VecVirtual) reg.VecVirtual {
	y := s.vecs(4)
	for i := range y {
		q(s.at(src, v+i, 4), y[i])
		VCVTPS2DQ(y[i], y[i])
	}
	VPACKSSDW(y[1], y[0], y[0])
	VPACKSSDW(y[3], y[2], y[2])
	VPACKSSWB(y[2], y[0], y[0])
	VPERMD(y[0], order, y[0])
	return y[0]
}

// storeInt8 quantises a block to 256 bytes.
func (s *isa) storeInt8(dst, src reg.GPVirtual, order reg.VecVirtual) (blockBytes int, store func(q quotient)) {
	return 4 + wireBlock, func(q quotient) {
		for v := 0; v < s.inBlock(); v += 4 {
			VMOVUPS(s.bytes(src, v, q, order), s.at(dst, v, 1).Offset(4))
		}
	}
}

// storeInt4 quantises a block to 128 bytes: the first half of the block lies in the low
// nibbles.
func (s *isa) storeInt4(dst, src reg.GPVirtual, order reg.VecVirtual) (blockBytes int, store func(q quotient)) {
	nibble := s.inRegister(s.constantOf("lowNibbles", 0x0f0f0f0f))
	return 4 + wireBlock/2, func(q quotient) {
		half := s.inBlock() / 2
		for v := 0; v < half; v += 4 {
			low, high := s.bytes(src, v, q, order), s.bytes(src, half+v, q, order)
			s.and(nibble, low, low)
			s.and(nibble, high, high)
			VPSLLD(U8(4), high, high)
			VORPS(low, high, high)
			VMOVUPS(high, s.at(dst, v, 1).Offset(4))
		}
	}
}

// encodeScaled emits an encoder of blocks with a scale.
func (s *isa) encodeScaled(name string, qMax float32, scaleMax uint32,
	storer func(dst, src reg.GPVirtual, order reg.VecVirtual) (int, func(quotient))) {
	s.text(name, "func(dst []byte, src []float32) int")
	Doc(name + s.suffix + " encodes blocks and returns their number, less where it stopped at one with a value that is not finite.")
	dst, src, n := pointer("dst"), pointer("src"), blockCount("src")
	blocks := GP64()
	MOVQ(n, blocks)
	abs := s.inRegister(s.constantOf("allButSign", 0x7fffffff))
	order := s.vec()
	VMOVUPS(s.byteOrder(), order)
	one, limit := XMM(), GP32()
	VMOVSS(constantBits(math.Float32bits(1), "one"), one)
	MOVL(U32(scaleMax), limit)
	blockBytes, store := storer(dst, src, order)
	hi, lo := s.vec(), s.vec()

	eachBlock(n, func() {
		prefetch(src, 4*wireBlock)
		greatest, x := s.blockGreatest(src, abs)
		CMPL(greatest, U32(0x7f800000))
		JAE(LabelRef("done"))
		scale := XMM()
		VDIVSS(constantBits(math.Float32bits(qMax), name+"Max"), x, scale)
		bits := GP32()
		VMOVD(scale, bits)
		ADDL(U8(0x7f), bits)
		ANDL(I8(-0x80), bits)
		CMPL(bits, U32(scaleMin))
		JB(LabelRef("zero"))
		CMPL(bits, limit)
		CMOVLHI(limit, bits)
		MOVL(bits, Mem{Base: dst})
		VMOVD(bits, scale)
		CMPL(bits, U32(divideAbove))
		JA(LabelRef("divide"))
		rest, recip := XMM(), XMM()
		VDIVSS(scale, one, recip)
		VMOVAPS(one, rest)
		VFNMADD231SS(recip, scale, rest)
		VMULSS(recip, rest, rest)
		VBROADCASTSS(recip, hi)
		VBROADCASTSS(rest, lo)
		store(func(x Mem, y reg.VecVirtual) {
			VMULPS(x, lo, y)
			VFMADD231PS(x, hi, y)
		})
		JMP(LabelRef("next"))

		Label("divide")
		VBROADCASTSS(scale, hi)
		store(func(x Mem, y reg.VecVirtual) {
			VMOVUPS(x, y)
			VDIVPS(hi, y, y)
		})
		JMP(LabelRef("next"))

		Label("zero")
		XORL(bits, bits)
		MOVL(bits, Mem{Base: dst})
		VXORPS(hi, hi, hi)
		for at := 4; at < blockBytes; at += 4 * s.lanes {
			VMOVUPS(hi, Mem{Base: dst, Disp: at})
		}
		Label("next")
		ADDQ(I32(4*wireBlock), src)
		ADDQ(I32(blockBytes), dst)
	})
	SUBQ(n, blocks)
	Store(blocks, ReturnIndex(0))
	end()
}

// blockGreatest returns the largest |x| of a block, as bits and in the low lane.
func (s *isa) blockGreatest(src reg.GPVirtual, abs reg.VecVirtual) (reg.GPVirtual, Op) {
	acc := s.vecs(4)
	for v := range s.inBlock() {
		if v < 4 {
			s.and(s.at(src, v, 4), abs, acc[v])
			continue
		}
		t := s.vec()
		s.and(s.at(src, v, 4), abs, t)
		VPMAXUD(t, acc[v%4], acc[v%4])
	}
	x := s.combine(acc, vpmaxud).AsX()
	bits := GP32()
	VMOVD(x, bits)
	return bits, x
}

// eachCoded emits a loop over the blocks of src, each with a sound scale, or else it
// jumps to bad. body sees the values of a block whose scale is not 0; one whose scale is
// 0 must hold nothing else.
func (s *isa) eachCoded(blockBytes int, scaleMax uint32, body func(q func(v int) Mem)) {
	src, n := pointer("src"), length("src")
	vectors := (blockBytes - 4) / (4 * s.lanes)
	q := func(v int) Mem { return s.at(src, v, 4).Offset(4) }
	Label("blocks")
	CMPQ(n, U32(blockBytes))
	JL(LabelRef("done"))
	bits, past := GP32(), GP32()
	MOVL(Mem{Base: src}, bits)
	TESTL(bits, bits)
	JZ(LabelRef("zero"))
	TESTL(U32(0x7f), bits)
	JNZ(LabelRef("bad"))
	LEAL(Mem{Base: bits, Disp: -scaleMin}, past)
	CMPL(past, U32(scaleMax-scaleMin))
	JA(LabelRef("bad"))
	body(q)
	Label("next")
	ADDQ(I32(blockBytes), src)
	SUBQ(I32(blockBytes), n)
	JMP(LabelRef("blocks"))
	Label("zero")
	any := s.four()
	for v := range vectors {
		VORPS(q(v), any[v%4], any[v%4])
	}
	got := s.low(any, vorps)
	TESTL(got, got)
	JZ(LabelRef("next"))
	JMP(LabelRef("bad"))
	Label("done")
}

// noMinus128 jumps to bad where a byte of smallest is −128, and returns.
func (s *isa) noMinus128(smallest []reg.VecVirtual) {
	t, u := s.low(smallest, vpminsb), GP32()
	XORL(U32(0x80808080), t) // a byte is 0 where it was −128
	LEAL(Mem{Base: t, Disp: -0x01010101}, u)
	NOTL(t)
	ANDL(t, u)
	TESTL(U32(0x80808080), u)
	JNZ(LabelRef("bad"))
	s.verdict()
}

func (s *isa) int8Sound() {
	s.text("int8Sound", "func(src []byte) bool")
	Doc("int8Sound" + s.suffix + " says whether an encoder can have written all blocks.")
	smallest := s.four()
	s.eachCoded(4+wireBlock, int8ScaleMax, func(q func(v int) Mem) {
		for v := range s.inBlock() / 4 {
			VPMINSB(q(v), smallest[v%4], smallest[v%4])
		}
	})
	s.noMinus128(smallest)
}

func (s *isa) int4Sound() {
	s.text("int4Sound", "func(src []byte) bool")
	Doc("int4Sound" + s.suffix + " says whether an encoder can have written all blocks.")
	smallest := s.four()
	nibble := s.inRegister(s.constantOf("highNibbles", 0xf0f0f0f0))
	s.eachCoded(4+wireBlock/2, int4ScaleMax, func(q func(v int) Mem) {
		for v := range s.inBlock() / 8 {
			low, high := s.vec(), s.vec()
			VMOVUPS(q(v), low)
			s.and(nibble, low, high)
			VPMINSB(high, smallest[2*v%4], smallest[2*v%4])
			VPSLLD(U8(4), low, low)
			s.and(nibble, low, low)
			VPMINSB(low, smallest[(2*v+1)%4], smallest[(2*v+1)%4])
		}
	})
	s.noMinus128(smallest) // a nibble of −8 at the upper end of a byte
}

// decodeScaled emits the decoders of blocks with a scale, of which each byte holds one
// value or two.
func (s *isa) decodeScaled(name string, perByte int) {
	blockBytes := 4 + wireBlock/perByte
	for _, add := range []bool{false, true} {
		dst, src, n, weight := s.decodeHead(name, add)
		scale := s.vec()
		put := func(v int, q reg.VecVirtual) {
			VCVTDQ2PS(q, q)
			VMULPS(scale, q, q)
			s.put(q, weight, s.at(dst, v, 4))
		}
		eachBlock(n, func() {
			prefetch(dst, 4*wireBlock)
			VBROADCASTSS(Mem{Base: src}, scale)
			for v := range s.inBlock() / perByte {
				q := s.vec()
				VPMOVSXBD(s.at(src, v, 1).Offset(4), q)
				if perByte == 2 {
					high := s.vec()
					VPSRAD(U8(4), q, high)
					put(s.inBlock()/2+v, high)
					VPSLLD(U8(28), q, q)
					VPSRAD(U8(28), q, q)
				}
				put(v, q)
			}
			ADDQ(I32(blockBytes), src)
			ADDQ(I32(4*wireBlock), dst)
		})
		end()
	}
}
