package main

import "fmt"

// vec is a vector register, V0 to V31.
type vec int

// Go's assembler knows few of the floating-point instructions on vectors. The others
// are written as words, all by way of encode.

// opcode is an instruction that encode knows: the bits that do not depend on its
// registers, and what its registers hold.
type opcode struct {
	name   string
	bits   uint32
	d      string // arrangement of the result
	n      string // arrangement of the operands
	inputs int    // 1: n; 2: n and m
	byLane bool   // m stands for one of its lanes
	suffix string // of the text
}

var (
	fadd   = &opcode{name: "fadd", bits: 0x4e20d400, d: "4s", n: "4s", inputs: 2}
	fsub   = &opcode{name: "fsub", bits: 0x4ea0d400, d: "4s", n: "4s", inputs: 2}
	fmul   = &opcode{name: "fmul", bits: 0x6e20dc00, d: "4s", n: "4s", inputs: 2}
	fdiv   = &opcode{name: "fdiv", bits: 0x6e20fc00, d: "4s", n: "4s", inputs: 2}
	fmin   = &opcode{name: "fmin", bits: 0x4ea0f400, d: "4s", n: "4s", inputs: 2}
	fmax   = &opcode{name: "fmax", bits: 0x4e20f400, d: "4s", n: "4s", inputs: 2}
	fmaxnm = &opcode{name: "fmaxnm", bits: 0x4e20c400, d: "4s", n: "4s", inputs: 2} // a number rather than NaN
	fneg   = &opcode{name: "fneg", bits: 0x6ea0f800, d: "4s", n: "4s", inputs: 1}
	fsqrt  = &opcode{name: "fsqrt", bits: 0x6ea1f800, d: "4s", n: "4s", inputs: 1}
	// fmla adds n times one lane of m to d, rounded once.
	fmla = &opcode{name: "fmla", bits: 0x4f801000, d: "4s", n: "4s", inputs: 2, byLane: true}
	// halve shifts integers right by one, keeping their sign.
	halve = &opcode{name: "sshr", bits: 0x4f3f0400, d: "4s", n: "4s", inputs: 1, suffix: ", #1"}
	// lowDoubles and highDoubles convert half a register of float32 to float64.
	lowDoubles  = &opcode{name: "fcvtl", bits: 0x0e617800, d: "2d", n: "2s", inputs: 1}
	highDoubles = &opcode{name: "fcvtl2", bits: 0x4e617800, d: "2d", n: "4s", inputs: 1}
	addDoubles  = &opcode{name: "fadd", bits: 0x4e60d400, d: "2d", n: "2d", inputs: 2}
	mulDoubles  = &opcode{name: "fmul", bits: 0x6e60dc00, d: "2d", n: "2d", inputs: 2}
)

// encode returns the word of d ← op(n, m), m at the given lane for an instruction by
// lane, and its text in ARM's own syntax. An instruction of one input has no m.
func encode(op *opcode, d, n, m vec, lane int) (word uint32, text string) {
	for _, v := range []vec{d, n, m} {
		if v < 0 || v > 31 {
			panic(fmt.Sprintf("%s: there is no register v%d", op.name, v))
		}
	}
	if lane < 0 || lane > 3 || lane > 0 && !op.byLane {
		panic(fmt.Sprintf("%s: no lane %d", op.name, lane))
	}
	word = op.bits | uint32(d) | uint32(n)<<5
	text = fmt.Sprintf("%s v%d.%s, v%d.%s", op.name, d, op.d, n, op.n)
	if op.inputs == 2 {
		word |= uint32(m) << 16
		if op.byLane {
			word |= uint32(lane&1)<<21 | uint32(lane>>1)<<11
			text += fmt.Sprintf(", v%d.s[%d]", m, lane)
		} else {
			text += fmt.Sprintf(", v%d.%s", m, op.n)
		}
	}
	return word, text + op.suffix
}
