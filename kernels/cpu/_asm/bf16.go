package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of this file work on bf16 values in pairs: a 32-bit word holds two
// values that follow each other along k, the first in its low half.

// half emits the kernels of bf16 products. The one for VDPBF16PS is panel with another
// instruction: it takes a pair where panel takes a value.
func (s *isa) half() {
	h := *s
	h.suffix, h.pairs = "Half", true
	h.panel()
	h.peak()
	s.roundRow()
	s.pairRows()
	tiles()
	peakTiles()
}

// roundPair emits the rounding of two registers of float32 to one of bf16, low's
// values first. It emits VPADDD, which encodeHalf replaces.
func roundPair(high, low, dst reg.VecVirtual) { VPADDD(low, high, dst) }

// halfFunctions are the functions in which encodeHalf replaces instructions.
var halfFunctions = regexp.MustCompile(`^TEXT ·(panelHalf|peakHalf|roundRow|pairRows)`)

var vectorLine = regexp.MustCompile(`^\t(VFMADD231PS|VPADDD)\s+Z(\d+), Z(\d+), Z(\d+)$`)

// encodeHalf replaces the placeholders in the assembly that Generate wrote by the
// instructions of AVX512_BF16, which neither avo nor Go's assembler knows.
func encodeHalf(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	inside := false
	for i, line := range lines {
		if strings.HasPrefix(line, "TEXT ") {
			inside = halfFunctions.MatchString(line)
		}
		m := vectorLine.FindStringSubmatch(line)
		if !inside || m == nil {
			continue
		}
		var r [3]int
		for j := range r {
			if r[j], err = strconv.Atoi(m[2+j]); err != nil {
				return err
			}
		}
		op, prefix, name := byte(0x52), byte(2), "VDPBF16PS"
		if m[1] == "VPADDD" {
			op, prefix, name = 0x72, 3, "VCVTNE2PS2BF16"
		}
		var b strings.Builder
		for j, v := range evex(prefix, op, r[2], r[1], r[0]) {
			if j > 0 {
				b.WriteString("; ")
			}
			fmt.Fprintf(&b, "BYTE $0x%02x", v)
		}
		lines[i] = fmt.Sprintf("\t%s // %s Z%d, Z%d, Z%d", b.String(), name, r[0], r[1], r[2])
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644)
}

// evex returns the bytes of an instruction of 512 bits in map 0F38, W0, with three
// registers: destination, first source, second source.
func evex(prefix, op byte, dst, first, second int) []byte {
	not := func(bit int) byte { return byte(^bit & 1) }
	return []byte{
		0x62,
		not(dst>>3)<<7 | not(second>>4)<<6 | not(second>>3)<<5 | not(dst>>4)<<4 | 2,
		byte(^first&15)<<3 | 4 | prefix,
		2<<5 | not(first>>4)<<3,
		op,
		0xC0 | byte(dst&7)<<3 | byte(second&7),
	}
}

// roundRow emits the rounding of a row of float32 to bf16, with zeros up to a multiple
// of 32 values.
func (s *isa) roundRow() {
	TEXT("roundRow", NOSPLIT, "func(dst *float32, src *float32, n int)")
	Pragma("noescape")
	Doc("roundRow rounds n values to bf16 and adds zeros up to a multiple of 32.")
	dst, src, n := param("dst"), param("src"), param("n")
	Label("whole")
	CMPQ(n, U8(32))
	JL(LabelRef("rest"))
	low, high := s.vec(), s.vec()
	VMOVUPS(Mem{Base: src}, low)
	VMOVUPS(Mem{Base: src, Disp: 64}, high)
	roundPair(high, low, low)
	VMOVUPS(low, Mem{Base: dst})
	ADDQ(I32(128), src)
	ADDQ(I32(64), dst)
	SUBQ(U8(32), n)
	JMP(LabelRef("whole"))
	Label("rest")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	k := s.masks(n)
	s.load(Mem{Base: src}, k[0], low)
	s.load(Mem{Base: src, Disp: 64}, k[1], high)
	roundPair(high, low, low)
	VMOVUPS(low, Mem{Base: dst})
	Label("done")
	end()
}

// pairRows emits the rounding of rows to bf16, two rows to one of pairs.
func (s *isa) pairRows() {
	order := GLOBL("pairOrder", RODATA|NOPTR)
	for i := range 32 {
		DATA(2*i, U16(uint16(i/2+i%2*16)))
	}
	TEXT("pairRows", NOSPLIT, "func(dst *float32, dstPanel int, src *float32, srcRow int, pairs int, n int)")
	Pragma("noescape")
	Doc("pairRows rounds 2·pairs rows of n values to bf16 and packs them as pairs in panels of 32 columns, dstPanel bytes apart, with zeros after column n.")
	dst, dstPanel := param("dst"), param("dstPanel")
	src, srcRow := param("src"), param("srcRow")
	pairs, n := param("pairs"), param("n")
	table := s.vec()
	VMOVUPS(order, table)
	rest := GP64()
	MOVQ(n, rest)
	ANDQ(U8(31), rest)
	k := s.masks(rest)
	below, in, out, columns := GP64(), GP64(), GP64(), GP64()
	two := func(half int, k *mask) {
		low, high := s.vec(), s.vec()
		s.load(Mem{Base: in, Disp: 64 * half}, k, low)
		s.load(Mem{Base: below, Disp: 64 * half}, k, high)
		roundPair(high, low, low)
		VPERMW(low, table, low)
		VMOVUPS(low, Mem{Base: out, Disp: 64 * half})
	}
	Label("pair")
	MOVQ(src, in)
	LEAQ(Mem{Base: src, Index: srcRow, Scale: 1}, below)
	MOVQ(dst, out)
	MOVQ(n, columns)
	Label("panel")
	CMPQ(columns, U8(32))
	JL(LabelRef("part"))
	two(0, nil)
	two(1, nil)
	ADDQ(I32(128), in)
	ADDQ(I32(128), below)
	ADDQ(dstPanel, out)
	SUBQ(U8(32), columns)
	JMP(LabelRef("panel"))
	Label("part")
	TESTQ(columns, columns)
	JZ(LabelRef("next"))
	two(0, k[0])
	two(1, k[1])
	Label("next")
	LEAQ(Mem{Base: src, Index: srcRow, Scale: 2}, src)
	ADDQ(I32(128), dst)
	DECQ(pairs)
	JNZ(LabelRef("pair"))
	end()
}

// raw emits bytes of machine code.
func raw(code ...byte) {
	for _, b := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}})
	}
}

// The registers of tiles: the instructions are encoded by hand, so they are fixed.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
)

// tileMemory emits TILELOADD (prefix 3) or TILESTORED (prefix 2) between a tile and
// rows at base, stride bytes apart.
func tileMemory(prefix byte, tile, base, stride int) {
	not := func(bit int) byte { return byte(^bit & 1) }
	raw(0xC4, 1<<7|not(stride>>3)<<6|not(base>>3)<<5|2, 0x78|prefix, 0x4B, byte(tile)<<3|4, byte(stride&7)<<3|byte(base&7))
}

func tileLoad(tile, base, stride int)  { tileMemory(3, tile, base, stride) }
func tileStore(tile, base, stride int) { tileMemory(2, tile, base, stride) }

// tileZero emits TILEZERO.
func tileZero(tile int) { raw(0xC4, 0xE2, 0x7B, 0x49, 0xC0|byte(tile)<<3) }

// tileDot emits TDPBF16PS: sum += a·b.
func tileDot(sum, a, b int) {
	raw(0xC4, 0xE2, byte(^b&15)<<3|2, 0x5C, 0xC0|byte(sum)<<3|byte(a))
}

// tiles emits the product of AMX: tiles 0 to 3 are sums, 4 and 5 rows of a, 6 and 7
// columns of b.
func tiles() {
	TEXT("tilesAMX", NOSPLIT, "func(shape *[66]byte, c *float32, cRow int, a *float32, aRow int, b *float32, count int, k int, mode int, next *float32)")
	Pragma("noescape")
	Doc("tilesAMX computes count blocks of 32 rows, or one of shape.rows, and up to 32 columns of a product of k·32 bf16 values; see path.half.")
	load := func(name string, r reg.GPPhysical) { Load(Param(name), r) }
	load("shape", reg.R11)
	load("c", reg.RAX)
	load("cRow", reg.RCX)
	load("a", reg.RDX)
	load("aRow", reg.RBX)
	load("count", reg.R8)
	load("next", reg.R12)
	raw(0xC4, 0xC2, 0x78, 0x49, 0x03) // LDTILECFG (R11)
	MOVQ(I32(128), reg.RDI)           // bytes of a panel's row
	tall, wide := Mem{Base: reg.R11, Disp: 64}, Mem{Base: reg.R11, Disp: 65}
	CMPB(tall, U8(0))
	JE(LabelRef("low"))
	CMPB(wide, U8(0))
	JE(LabelRef("tallNarrow"))
	tileLoop("whole", true, true)
	Label("tallNarrow")
	tileLoop("narrow", true, false)
	Label("low")
	CMPB(wide, U8(0))
	JE(LabelRef("lowNarrow"))
	tileLoop("flat", false, true)
	Label("lowNarrow")
	tileLoop("small", false, false)
}

// tileLoop emits the loops for blocks of one or two tiles of rows (tall) and of
// columns (wide).
func tileLoop(name string, tall, wide bool) {
	sums := []struct{ tile, a, b int }{{0, 4, 6}}
	if wide {
		sums = append(sums, struct{ tile, a, b int }{1, 4, 7})
	}
	if tall {
		sums = append(sums, struct{ tile, a, b int }{2, 5, 6})
	}
	if tall && wide {
		sums = append(sums, struct{ tile, a, b int }{3, 5, 7})
	}
	below := func(base, row reg.GPPhysical, dst reg.GPPhysical) { // 16 rows further
		MOVQ(row, dst)
		SHLQ(U8(4), dst)
		ADDQ(base, dst)
	}
	each := func(move func(tile, base, stride int)) {
		MOVQ(reg.RAX, reg.R9)
		move(0, r9, rcx)
		if wide {
			ADDQ(U8(64), reg.R9)
			move(1, r9, rcx)
		}
		if tall {
			below(reg.RAX, reg.RCX, reg.R9)
			move(2, r9, rcx)
			if wide {
				ADDQ(U8(64), reg.R9)
				move(3, r9, rcx)
			}
		}
	}
	Label(name + "Block")
	CMPQ(argument("mode"), U8(modeChain))
	JEQ(LabelRef(name + "Chain"))
	for _, s := range sums {
		tileZero(s.tile)
	}
	JMP(LabelRef(name + "Begin"))
	Label(name + "Chain")
	each(tileLoad)
	Label(name + "Begin")
	MOVQ(argument("b"), reg.RSI)
	MOVQ(argument("k"), reg.R10)
	MOVQ(reg.RDX, reg.R9)
	below(reg.RDX, reg.RBX, reg.R11)
	Label(name + "K")
	for i := range 4 {
		PREFETCHT1(Mem{Base: reg.R12, Disp: 64 * i})
	}
	ADDQ(I32(256), reg.R12)
	tileLoad(6, rsi, rdi)
	tileLoad(4, r9, rbx)
	tileDot(0, 4, 6)
	if wide {
		ADDQ(U8(64), reg.RSI)
		tileLoad(7, rsi, rdi)
		tileDot(1, 4, 7)
	}
	if tall {
		tileLoad(5, r11, rbx)
		tileDot(2, 5, 6)
		if wide {
			tileDot(3, 5, 7)
		}
	}
	if wide {
		ADDQ(I32(2048-64), reg.RSI)
	} else {
		ADDQ(I32(2048), reg.RSI)
	}
	ADDQ(U8(64), reg.R9)
	ADDQ(U8(64), reg.R11)
	DECQ(reg.R10)
	JNZ(LabelRef(name + "K"))
	each(tileStore)
	// The next 32 rows.
	MOVQ(reg.RCX, reg.R9)
	SHLQ(U8(5), reg.R9)
	ADDQ(reg.R9, reg.RAX)
	MOVQ(reg.RBX, reg.R9)
	SHLQ(U8(5), reg.R9)
	ADDQ(reg.R9, reg.RDX)
	DECQ(reg.R8)
	JNZ(LabelRef(name + "Block"))
	raw(0xC4, 0xE2, 0x78, 0x49, 0xC0) // TILERELEASE
	end()
}

// peakTiles emits a loop of nothing but products of tiles.
func peakTiles() {
	TEXT("peakAMX", NOSPLIT, "func(shape *[66]byte, turns int)")
	Pragma("noescape")
	Doc("peakAMX does four products of tiles of zeros a turn.")
	Load(Param("shape"), reg.R11)
	Load(Param("turns"), reg.R10)
	raw(0xC4, 0xC2, 0x78, 0x49, 0x03) // LDTILECFG (R11): all tiles are zero after it
	Label("turn")
	tileDot(0, 4, 6)
	tileDot(1, 4, 7)
	tileDot(2, 5, 6)
	tileDot(3, 5, 7)
	DECQ(reg.R10)
	JNZ(LabelRef("turn"))
	raw(0xC4, 0xE2, 0x78, 0x49, 0xC0) // TILERELEASE
	end()
}
