//go:build cuda && linux && amd64

package cuda

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/kerneltest"
)

// hard returns n values of every kind that a codec meets: magnitudes from subnormal to the
// largest, blocks of zeros, halves of a step.
func hard(n int, seed uint32) []float32 {
	v := make([]float32, n)
	for i := range v {
		seed = seed*1664525 + 1013904223
		switch i / 256 % 6 {
		case 0:
			v[i] = float32(int32(seed)) / (1 << 31)
		case 1:
			v[i] = math.Float32frombits(seed&0x807fffff | (seed>>8&0xff)<<23&0x7f000000) // any exponent
		case 2:
			v[i] = math.Float32frombits(seed & 0x80ffffff) // around the smallest scale
		case 3:
			v[i] = float32(int(seed>>24)-128) * 0.5
		case 4:
			v[i] = 0
		case 5:
			v[i] = math.Float32frombits(seed&0x80000000 | 0x7f7fff00 | seed>>8&0xff)
		}
	}
	return v
}

func upload(t testing.TB, d kernels.Device, v []float32) kernels.Buffer {
	t.Helper()
	b, err := d.Alloc(len(v))
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(b, v)
	return b
}

func download(d kernels.Device, b kernels.Buffer) []float32 {
	v := make([]float32, b.Len())
	d.Download(v, b)
	return v
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v (%08x), the CPU's %v (%08x)", what, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

var formats = map[string]kernels.Format{"fp32": kernels.FormatFP32, "bf16": kernels.FormatBF16, "int8": kernels.FormatInt8, "int4": kernels.FormatInt4}

// The device's bytes, decoded values and sums are the CPU's.
func TestCodecHasTheCPUsBits(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	for name, f := range formats {
		for _, n := range []int{0, 1, 2, 255, 256, 257, 1000, 256 * 24, 256*17 + 131} {
			what := fmt.Sprintf("%s of %d", name, n)
			v := hard(n, uint32(n)+7)
			want, got := make([]byte, f.EncodedLen(n)), make([]byte, f.EncodedLen(n))
			if k := f.Encode(want, v); k != n {
				t.Fatalf("%s: the CPU encodes %d", what, k)
			}
			whole := upload(t, d, append([]float32{9, 9, 9}, v...))
			if k := d.Encode(got, f, whole.Slice(3, n+3)); k != n {
				t.Errorf("%s: encoded %d", what, k)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: byte %d differs", what, firstDifference(got, want))
			}
			decoded, sum := make([]float32, n), hard(n, 3)
			back := whole.Slice(3, n+3)
			d.Decode(back, f, want)
			f.Decode(decoded, want)
			sameBits(t, what+" decoded", download(d, back), decoded)
			to := upload(t, d, sum)
			d.DecodeAdd(to, f, want, 0.3)
			f.DecodeAdd(sum, want, 0.3)
			sameBits(t, what+" added", download(d, to), sum)
		}
	}
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// Vectors of more than one piece pass through the pinned slots in turn.
func TestCodecOfManyPieces(t *testing.T) {
	d := device(t, kernels.FP32)
	defer d.Close()
	f := kernels.FormatFP32 // the largest encoding: the fewest values to a piece
	n := 5*pieceValues(f) + 1000
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	b := upload(t, d, v)
	got := make([]byte, f.EncodedLen(n))
	if k := d.Encode(got, f, b); k != n {
		t.Fatalf("encoded %d of %d: %v", k, n, d.Err())
	}
	if !bytes.Equal(got, bytesOf(v)) {
		t.Fatalf("byte %d differs", firstDifference(got, bytesOf(v)))
	}
	d.DecodeAdd(b, f, got, 1)
	for i, x := range download(d, b) {
		if x != 2*float32(i) {
			t.Fatalf("value %d is %v", i, x)
		}
	}
	v[4*pieceValues(f)+700] = float32(math.Inf(-1))
	d.Upload(b, v)
	if k, want := d.Encode(got, f, b), 4*pieceValues(f)+512; k != want {
		t.Errorf("encode stops at %d, want the block at %d", k, want)
	}
}

func TestEncodeFindsTheFirstBadBlock(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	for name, f := range formats {
		v := hard(2000, 5)
		v[700], v[1500] = float32(math.NaN()), float32(math.Inf(1))
		dst := make([]byte, f.EncodedLen(len(v)))
		if k := d.Encode(dst, f, upload(t, d, v)); k != 512 {
			t.Errorf("%s: encode stops at %d, want 512", name, k)
		}
	}
}

func TestAxpby(t *testing.T) {
	d := device(t, kernels.BF16)
	defer d.Close()
	kerneltest.CheckAxpby(t, d)
}

// FuzzCodec compares the device's bytes with the CPU's for values of any bits.
func FuzzCodec(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 255, 255, 127, 127, 1, 0, 0, 0}, uint8(2))
	f.Add(make([]byte, 1040), uint8(3))
	f.Fuzz(func(t *testing.T, raw []byte, which uint8) {
		d, format := device(t, kernels.FP32), kernels.Format(which%4)
		defer d.Close()
		v := make([]float32, len(raw)/4)
		copy(bytesOf(v), raw)
		want, got := make([]byte, format.EncodedLen(len(v))), make([]byte, format.EncodedLen(len(v)))
		b := upload(t, d, v)
		k := format.Encode(want, v)
		if at := d.Encode(got, format, b); at != k {
			t.Fatalf("encoded %d, the CPU %d", at, k)
		}
		if k == len(v) && !bytes.Equal(got, want) {
			t.Fatalf("byte %d differs", firstDifference(got, want))
		}
		if k < len(v) {
			return
		}
		sum := make([]float32, len(v))
		d.Zero(b)
		d.DecodeAdd(b, format, want, -1.5)
		format.DecodeAdd(sum, want, -1.5)
		sameBits(t, "sum", download(d, b), sum)
	})
}
