package main

import (
	"bytes"
	"testing"
)

// TestEncode compares with words that another assembler (LLVM's) made of the texts:
// every instruction, registers of every bit, every lane.
func TestEncode(t *testing.T) {
	for _, c := range []struct {
		op      *opcode
		d, n, m vec
		lane    int
		word    uint32
		text    string
	}{
		{fadd, 0, 1, 2, 0, 0x4e22d420, "fadd v0.4s, v1.4s, v2.4s"},
		{fsub, 31, 30, 29, 0, 0x4ebdd7df, "fsub v31.4s, v30.4s, v29.4s"},
		{fmul, 7, 8, 16, 0, 0x6e30dd07, "fmul v7.4s, v8.4s, v16.4s"},
		{fdiv, 17, 0, 31, 0, 0x6e3ffc11, "fdiv v17.4s, v0.4s, v31.4s"},
		{fmin, 3, 3, 24, 0, 0x4eb8f463, "fmin v3.4s, v3.4s, v24.4s"},
		{fmax, 3, 3, 25, 0, 0x4e39f463, "fmax v3.4s, v3.4s, v25.4s"},
		{fmaxnm, 12, 13, 14, 0, 0x4e2ec5ac, "fmaxnm v12.4s, v13.4s, v14.4s"},
		{fneg, 9, 10, 0, 0, 0x6ea0f949, "fneg v9.4s, v10.4s"},
		{fneg, 9, 10, 31, 0, 0x6ea0f949, "fneg v9.4s, v10.4s"}, // m is not read
		{fsqrt, 22, 21, 0, 0, 0x6ea1fab6, "fsqrt v22.4s, v21.4s"},
		{halve, 5, 27, 0, 0, 0x4f3f0765, "sshr v5.4s, v27.4s, #1"},
		{lowDoubles, 16, 18, 0, 0, 0x0e617a50, "fcvtl v16.2d, v18.2s"},
		{highDoubles, 19, 18, 0, 0, 0x4e617a53, "fcvtl2 v19.2d, v18.4s"},
		{addDoubles, 1, 30, 15, 0, 0x4e6fd7c1, "fadd v1.2d, v30.2d, v15.2d"},
		{mulDoubles, 20, 20, 11, 0, 0x6e6bde94, "fmul v20.2d, v20.2d, v11.2d"},
		{fmla, 0, 30, 24, 0, 0x4f9813c0, "fmla v0.4s, v30.4s, v24.s[0]"},
		{fmla, 23, 31, 29, 1, 0x4fbd13f7, "fmla v23.4s, v31.4s, v29.s[1]"},
		{fmla, 15, 1, 16, 2, 0x4f90182f, "fmla v15.4s, v1.4s, v16.s[2]"},
		{fmla, 31, 31, 31, 3, 0x4fbf1bff, "fmla v31.4s, v31.4s, v31.s[3]"},
		{fmla, 8, 2, 15, 3, 0x4faf1848, "fmla v8.4s, v2.4s, v15.s[3]"},
	} {
		word, text := encode(c.op, c.d, c.n, c.m, c.lane)
		if word != c.word || text != c.text {
			t.Errorf("encode gives %#08x // %s, want %#08x // %s", word, text, c.word, c.text)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, call := range map[string]func(){
		"a register after the last":      func() { encode(fadd, 32, 0, 0, 0) },
		"a register before the first":    func() { encode(fadd, 0, -1, 0, 0) },
		"a lane after the last":          func() { encode(fmla, 0, 0, 0, 4) },
		"a lane of an instruction of 4s": func() { encode(fadd, 0, 0, 0, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is encoded", name)
				}
			}()
			call()
		}()
	}
}

// TestRegistersRunOut shows that a kernel that wants too many registers is no output.
func TestRegistersRunOut(t *testing.T) {
	for name, take := range map[string]func(*file){
		"vector":  func(f *file) { f.vecsOf(33) },
		"general": func(f *file) { f.gpsOf(28) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("there are more %s registers than the machine has", name)
				}
			}()
			take(&file{fn: &fn{}})
		}()
	}
	f := &file{fn: &fn{}}
	for _, r := range f.gpsOf(26) {
		if r == 18 || r > 26 {
			t.Errorf("%s is given out, which belongs to the system or to Go", r)
		}
	}
}

func TestGenerateIsRepeatable(t *testing.T) {
	a, b := generate(), generate()
	if !bytes.Equal(a.text.Bytes(), b.text.Bytes()) || !bytes.Equal(a.stubs.Bytes(), b.stubs.Bytes()) {
		t.Error("two runs write different files")
	}
}
