package main

import (
	"bytes"
	"fmt"
	"strings"
)

// block is the number of float32 that one turn of an elementwise loop takes, and the
// number of lanes of a reduction: eight registers of four.
const (
	block = 32
	width = 4
)

// gp is a general register.
type gp int

func (r gp) String() string { return fmt.Sprintf("R%d", int(r)) }

// F names a register as loads and stores do, as one of its arrangements: V3.S4.
func (v vec) F() string              { return fmt.Sprintf("F%d", int(v)) }
func (v vec) as(shape string) string { return fmt.Sprintf("V%d.%s", int(v), shape) }

// file is the assembly and the Go declarations that are written.
type file struct {
	text, stubs bytes.Buffer
	*fn
}

// fn is the function being written.
type fn struct {
	offsets map[string]int // of the parameters and, as ret, the result
	vecs    int            // registers given out
	gps     int
	labels  int
}

// suffix ends the name of every function.
const suffix = "NEON"

// function begins a function. Its parameters are as in Go: "x, y []float32, n int".
func (f *file) function(name, params, result, doc string) {
	name += suffix
	f.fn = &fn{offsets: map[string]int{}}
	size := 0
	var names []string
	for part := range strings.SplitSeq(params, ", ") {
		field, kind, typed := strings.Cut(part, " ")
		names = append(names, field)
		if !typed {
			continue
		}
		for _, n := range names {
			size = f.place(n, kind, size)
		}
		names = nil
	}
	if result != "" {
		size = (size + 7) &^ 7
		size = f.place("ret", result, size)
		result = " " + result
	}
	signature := fmt.Sprintf("func %s(%s)%s", name, params, result)
	fmt.Fprintf(&f.stubs, "\n// %s %s\n//\n//go:noescape\n%s\n", name, doc, signature)
	fmt.Fprintf(&f.text, "\n// %s\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", signature, name, size)
}

// place gives a parameter its offset and returns where the next may begin.
func (f *file) place(name, kind string, at int) int {
	if kind == "float32" {
		f.offsets[name] = at
		return at + 4
	}
	at = (at + 7) &^ 7
	if kind != "[]float32" {
		f.offsets[name] = at
		return at + 8
	}
	f.offsets[name+"_base"], f.offsets[name+"_len"] = at, at+8
	return at + 24
}

// op writes one instruction.
func (f *file) op(name string, operands ...any) {
	var words []string
	for _, o := range operands {
		words = append(words, fmt.Sprint(o))
	}
	fmt.Fprintf(&f.text, "\t%-7s %s\n", name, strings.Join(words, ", "))
}

// word writes an instruction that Go's assembler lacks: d ← op(n, m).
func (f *file) word(op *opcode, d vec, inputs ...vec) {
	if len(inputs) != op.inputs {
		panic(fmt.Sprintf("%s takes %d registers, not %d", op.name, op.inputs, len(inputs)))
	}
	f.encoded(encode(op, d, inputs[0], inputs[len(inputs)-1], 0))
}

// fuse writes d ← d + n·m[lane].
func (f *file) fuse(d, n, m vec, lane int) { f.encoded(encode(fmla, d, n, m, lane)) }

func (f *file) encoded(word uint32, text string) {
	fmt.Fprintf(&f.text, "\tWORD    $0x%08x // %s\n", word, text)
}

func (f *file) ret() { f.text.WriteString("\tRET\n") }

// name returns a new label; label puts one here.
func (f *file) name(what string) string {
	f.labels++
	return fmt.Sprintf("%s%d", what, f.labels)
}

func (f *file) label(name string) { fmt.Fprintf(&f.text, "\n%s:\n", name) }

// vec and gp return a register that nothing else uses, vecsOf and gpsOf several. scope
// gives back at its end those that body took.
func (f *file) vec() vec {
	if f.vecs == 32 {
		panic("no vector register is left")
	}
	f.vecs++
	return vec(f.vecs - 1)
}

func (f *file) vecsOf(n int) []vec {
	v := make([]vec, n)
	for i := range v {
		v[i] = f.vec()
	}
	return v
}

func (f *file) gp() gp {
	f.gps++
	if f.gps == 19 {
		f.gps++ // R18 is the platform's
	}
	if f.gps > 27 {
		panic("no general register is left") // R27 is the assembler's, R28 Go's
	}
	return gp(f.gps - 1)
}

func (f *file) gpsOf(n int) []gp {
	r := make([]gp, n)
	for i := range r {
		r[i] = f.gp()
	}
	return r
}

func (f *file) scope(body func()) {
	vecs, gps := f.vecs, f.gps
	body()
	f.vecs, f.gps = vecs, gps
}

// arg is the place of a parameter.
func (f *file) arg(name string) string {
	at, ok := f.offsets[name]
	if !ok {
		panic("no parameter " + name)
	}
	return fmt.Sprintf("%s+%d(FP)", name, at)
}

// param loads an integer or pointer, scalar fills a register with a float32.
func (f *file) param(name string) gp {
	r := f.gp()
	f.op("MOVD", f.arg(name), r)
	return r
}

func (f *file) scalar(name string) vec {
	v := f.vec()
	f.op("FMOVS", f.arg(name), v.F())
	f.op("VDUP", v.as("S[0]"), v.as("S4"))
	return v
}

// slices loads the bases of slices and the length of the first.
func (f *file) slices(names ...string) (bases []gp, n gp) {
	for _, name := range names {
		bases = append(bases, f.param(name+"_base"))
	}
	return bases, f.param(names[0] + "_len")
}

func (f *file) zero(v vec) { f.op("VEOR", v.as("B16"), v.as("B16"), v.as("B16")) }

func (f *file) zeros(n int) []vec {
	v := f.vecsOf(n)
	for _, r := range v {
		f.zero(r)
	}
	return v
}

// at is memory: disp bytes after a base.
func at(base gp, disp int) string {
	if disp == 0 {
		return fmt.Sprintf("(%s)", base)
	}
	return fmt.Sprintf("%d(%s)", disp, base)
}

func imm(n int) string { return fmt.Sprintf("$%d", n) }

// pair is two registers in a load or store.
func pair(a, b vec) string { return fmt.Sprintf("(%s, %s)", a.F(), b.F()) }
