package kernels_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"loco/kernels"
)

var formats = []struct {
	name string
	f    kernels.Format
	q    int // largest magnitude of a quantised value, 0 where there is none
}{{"fp32", kernels.FormatFP32, 0}, {"bf16", kernels.FormatBF16, 0}, {"int8", kernels.FormatInt8, 127}, {"int4", kernels.FormatInt4, 7}}

// formatValues returns n finite values, a kind to a block: like numbers, any magnitude, any
// bits, zeros of both signs, values around the smallest scales, and the largest.
func formatValues(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		bits := r.Uint32()
		switch i / kernels.CodecBlock % 6 {
		case 0:
			x[i] = float32(r.NormFloat64())
			continue
		case 1:
			bits = bits&0x87ffffff | uint32(i/kernels.CodecBlock%30)<<27
		case 3:
			bits &= 1 << 31
		case 4:
			bits &= 0x84ffffff
		case 5:
			bits = bits&0x80ffffff | 0x7e000000
		}
		if bits&0x7f800000 == 0x7f800000 {
			bits &^= 0x00800000
		}
		x[i] = math.Float32frombits(bits)
	}
	return x
}

func encode(t *testing.T, f kernels.Format, x []float32) []byte {
	t.Helper()
	b := make([]byte, f.EncodedLen(len(x)))
	if n := f.Encode(b, x); n != len(x) {
		t.Fatalf("%d of %d values are encoded", n, len(x))
	}
	return b
}

func TestEncodedLengths(t *testing.T) {
	for n, want := range map[int][4]int{
		0: {0, 0, 0, 0}, 1: {4, 2, 5, 5}, 2: {8, 4, 6, 5}, 255: {1020, 510, 259, 132}, 256: {1024, 512, 260, 132},
		257: {1028, 514, 265, 137}, 1000: {4000, 2000, 1016, 516},
	} {
		for i, f := range formats {
			if got := f.f.EncodedLen(n); got != want[i] {
				t.Errorf("%s: %d values are %d bytes, want %d", f.name, n, got, want[i])
			}
		}
	}
}

// The bytes and the sums of every format, by their hash: other machines and versions must
// agree on them.
func TestFormatsArePinned(t *testing.T) {
	for i, want := range []uint64{0xb3b6347dca897e59, 0x230c42d231eb56fd, 0x59127e49d52a0ae9, 0x17621cc04970aa1e} {
		h := fnv.New64a()
		for n := range 3 {
			x := formatValues([]int{40*kernels.CodecBlock + 77, 1, 255}[n], uint64(n))
			b := encode(t, formats[i].f, x)
			h.Write(b)
			sum := formatValues(len(x), 9)
			formats[i].f.DecodeAdd(sum, b, 0.3)
			for _, v := range sum {
				h.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
			}
		}
		if got := h.Sum64(); got != want {
			t.Errorf("%s: the hash is %#x, want %#x", formats[i].name, got, want)
		}
	}
}

// Decoded values encode to the same bytes, and are as near to what was encoded as the
// format allows: exact, the nearest bf16, or within half a scale and what its 17 bits add.
func TestFormatsGoThereAndBack(t *testing.T) {
	for _, f := range formats {
		for _, n := range []int{0, 1, 2, 255, 256, 257, 12*kernels.CodecBlock + 3} {
			x := formatValues(n, uint64(n))
			b := encode(t, f.f, x)
			if at := f.f.Check(n, b); at != -1 {
				t.Fatalf("%s, %d values: block %d of what was encoded is refused", f.name, n, at)
			}
			y := make([]float32, n)
			f.f.Decode(y, b)
			if again := encode(t, f.f, y); !bytes.Equal(again, b) {
				t.Fatalf("%s, %d values: the decoded values have another encoding", f.name, n)
			}
			for i := range x {
				if off, most := math.Abs(float64(x[i])-float64(y[i])), formatError(f.f, f.q, x, i); !(off <= most) {
					t.Fatalf("%s, %d values: value %d = %v comes back as %v, off by %g, allowed is %g", f.name, n, i, x[i], y[i], off, most)
				}
			}
		}
	}
}

// formatError is how far value i may be off.
func formatError(f kernels.Format, q int, x []float32, i int) float64 {
	switch f {
	case kernels.FormatFP32:
		return 0
	case kernels.FormatBF16:
		_, exponent := math.Frexp(math.Abs(float64(x[i])))
		if math.Abs(float64(x[i])) > 0x1.fep127 {
			return 0x1p120 // the largest bf16 takes what is beyond it
		}
		return math.Ldexp(1, max(exponent, -125)-9) // half a unit of 8 significant bits
	}
	greatest := 0.0
	for _, v := range x[i/kernels.CodecBlock*kernels.CodecBlock : min((i/kernels.CodecBlock+1)*kernels.CodecBlock, len(x))] {
		greatest = max(greatest, math.Abs(float64(v)))
	}
	scale := greatest / float64(q) * (1 + 0x1p-16)
	if greatest/float64(q) < 0x1p-126 {
		return greatest
	}
	return scale * (0.5 + 0x1p-16)
}

// bf16 rounds to the nearest, a tie to the even one, and keeps what is finite so.
func TestBF16Rounds(t *testing.T) {
	for bits, want := range map[uint32]uint16{
		0x3f800000: 0x3f80, 0x3f807fff: 0x3f80, 0x3f808000: 0x3f80, 0x3f808001: 0x3f81, 0x3f818000: 0x3f82, 0x3f817fff: 0x3f81,
		0xbf818000: 0xbf82, 0x80000000: 0x8000, 0x00000001: 0, 0x00008001: 1, 0x00018000: 2, 0x3fffffff: 0x4000,
		0x7f7f7fff: 0x7f7f, 0x7f7f8000: 0x7f7f, 0x7f7fffff: 0x7f7f, 0xff7fffff: 0xff7f,
	} {
		b := encode(t, kernels.FormatBF16, []float32{math.Float32frombits(bits)})
		if got := binary.LittleEndian.Uint16(b); got != want {
			t.Errorf("%#08x becomes %#04x, want %#04x", bits, got, want)
		}
	}
}

// A sum is rounded after the product and after the addition.
func TestDecodeAddRoundsTwice(t *testing.T) {
	for _, f := range formats {
		n := 3*kernels.CodecBlock + 5
		b := encode(t, f.f, formatValues(n, 4))
		y, sum := make([]float32, n), formatValues(n, 5)
		f.f.Decode(y, b)
		for i, v := range y {
			product, _ := new(big.Float).Mul(big.NewFloat(float64(v)), big.NewFloat(float64(float32(0.3)))).Float32()
			y[i] = sum[i] + product
		}
		f.f.DecodeAdd(sum, b, 0.3)
		for i := range sum {
			if math.Float32bits(sum[i]) != math.Float32bits(y[i]) {
				t.Fatalf("%s: sum %d is %v, want %v", f.name, i, sum[i], y[i])
			}
		}
	}
}

// What is not finite stops the encoder at the block that holds it, wherever it is there.
func TestNotFiniteIsNotEncoded(t *testing.T) {
	bad := []uint32{0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff, 0x7fffffff}
	for _, f := range formats {
		n := 2*kernels.CodecBlock + 43
		x := make([]float32, n)
		b := make([]byte, f.f.EncodedLen(n))
		for i := range x {
			x[i] = math.Float32frombits(bad[i%len(bad)])
			if got, want := f.f.Encode(b, x), i/kernels.CodecBlock*kernels.CodecBlock; got != want {
				t.Fatalf("%s: with value %d = %v the encoder stops at %d, want %d", f.name, i, x[i], got, want)
			}
			x[i] = 1
		}
	}
}

// Check refuses, by its block, every value and every scale that no encoder writes.
func TestUnsoundBytesAreRefused(t *testing.T) {
	for _, f := range formats {
		n := 2*kernels.CodecBlock + 41
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(i%15) - 7
		}
		b := encode(t, f.f, x)
		size, header := f.f.EncodedLen(kernels.CodecBlock), 0
		refuse := func(at int, put []byte) {
			t.Helper()
			old := bytes.Clone(b)
			copy(b[at:], put)
			if got, want := f.f.Check(n, b), at/size; got != want {
				t.Fatalf("%s: %x at byte %d: check says block %d, want %d", f.name, put, at, got, want)
			}
			b = old
		}
		values := map[kernels.Format][][]byte{
			kernels.FormatFP32: {{0, 0, 0x80, 0x7f}, {1, 2, 0x83, 0xff}}, kernels.FormatBF16: {{0x80, 0x7f}, {0xff, 0xff}},
			kernels.FormatInt8: {{0x80}}, kernels.FormatInt4: {{0x08}, {0x80}, {0x18}, {0x81}, {0x88}},
		}[f.f]
		if f.q > 0 {
			header = 4
		}
		for block := 0; block*size < len(b); block++ {
			lo, hi := block*size, min((block+1)*size, len(b))
			if f.q > 0 {
				for _, bits := range []uint32{0x7f800000, 0x7fc00000, 0x80000000, 0xbf800000, 0x80, 0x007fff80, 0x3f800001, 0x3f800040, 0} {
					refuse(lo, binary.LittleEndian.AppendUint32(nil, bits))
				}
			}
			for at := lo + header; at < hi; at += len(values[0]) {
				refuse(at, values[at%len(values)])
			}
		}
		if f.f == kernels.FormatInt4 {
			refuse(len(b)-1, []byte{0x10}) // a nibble that belongs to no value
		}
		if got := f.f.Check(n, b); got != -1 {
			t.Errorf("%s: sound bytes: check says block %d", f.name, got)
		}
	}
}

func TestScalesThatAreSound(t *testing.T) {
	for _, c := range []struct {
		bits       uint32
		int8, int4 bool
	}{
		{0, true, true}, {0x80000000, false, false}, {0x007fff80, false, false}, {0x00800000, true, true}, {0x00800080, true, true},
		{0x00800001, false, false}, {0x00800040, false, false}, {0x3f800000, true, true}, {0xbf800000, false, false},
		{0x7c010200, true, true}, {0x7c010280, false, true}, {0x7e124900, false, true}, {0x7e124980, false, false},
		{0x7f800000, false, false}, {0x7fc00000, false, false},
	} {
		if got := kernels.FormatInt8.SoundScale(c.bits); got != c.int8 {
			t.Errorf("int8: scale %#08x is sound: %v, want %v", c.bits, got, c.int8)
		}
		if got := kernels.FormatInt4.SoundScale(c.bits); got != c.int4 {
			t.Errorf("int4: scale %#08x is sound: %v, want %v", c.bits, got, c.int4)
		}
	}
}

// Slices of a wrong length are refused, by the operation and both sizes.
func TestFormatsRefuseOtherLengths(t *testing.T) {
	f, x := kernels.FormatInt8, make([]float32, 300)
	for _, length := range []int{f.EncodedLen(300) - 1, f.EncodedLen(300) + 1} {
		b := make([]byte, length)
		for op, call := range map[string]func(){
			"encode": func() { f.Encode(b, x) }, "check": func() { f.Check(300, b) },
			"decode": func() { f.Decode(x, b) }, "decode-add": func() { f.DecodeAdd(x, b, 1) },
		} {
			operand := "src"
			if op == "encode" {
				operand = "dst"
			}
			if got, want := panicOf(call), fmt.Sprintf("kernels: %s: %s has %d values, the shape needs 308", op, operand, length); got != want {
				t.Errorf("panic %q, want %q", got, want)
			}
		}
	}
}

// A vector in int8: a byte a value, and 4 a block for its scale.
func ExampleFormat() {
	x := []float32{1, -0.5, 0.25, 0}
	f := kernels.FormatInt8
	wire := make([]byte, f.EncodedLen(len(x)))
	f.Encode(wire, x)
	if f.Check(len(x), wire) >= 0 {
		fmt.Println("no encoder wrote this")
	}
	f.Decode(x, wire)
	fmt.Println(len(wire), "bytes:", x)
	// Output: 8 bytes: [1.0000147 -0.49607027 0.2519722 0]
}
