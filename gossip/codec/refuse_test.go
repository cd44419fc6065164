package codec

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"loco/kernels"
)

func TestNonFiniteInputIsRefusedByIndex(t *testing.T) {
	for _, c := range all(t) {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			for _, at := range []int{0, 1, 255, 256, 571, 599} {
				x := gaussian(1, 600)
				x[at] = float32(bad)
				got, err := c.AppendEncode([]byte("kept"), x)
				want := fmt.Sprintf("codec %s: value %d of 600 is %v: only finite values are encoded", c.Name(), at, bad)
				if err == nil || err.Error() != want {
					t.Errorf("error %v, want %s", err, want)
				}
				if string(got) != "kept" {
					t.Errorf("%s: the destination became %q", c.Name(), got)
				}
			}
		}
	}
}

// refused checks that nothing takes an encoding of n values, that each says why in the
// same words, and that the destination stays as it was.
func refused(t *testing.T, c Codec, n int, src []byte, want string) {
	t.Helper()
	dst := slices.Repeat([]float32{7}, n)
	for name, err := range map[string]error{"Check": c.Check(n, src), "Decode": c.Decode(dst, src), "DecodeAdd": c.DecodeAdd(dst, src, 1)} {
		if err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
	for i := range dst {
		if dst[i] != 7 {
			t.Fatalf("%s: value %d of the destination became %v", want, i, dst[i])
		}
	}
}

// A value that is no value of the format is named, wherever it lies.
func TestDecodersNameTheValue(t *testing.T) {
	const n = 600
	x := gaussian(1, n)
	for _, at := range []int{0, 1, 2, 127, 128, 255, 256, 383, 384, 571, 598, 599} {
		for _, bad := range []uint32{0x7f800000, 0xff800000, 0x7fc00000} {
			p := encode(t, FP32, x)
			binary.LittleEndian.PutUint32(p[4*at:], bad)
			refused(t, FP32, n, p, fmt.Sprintf("codec fp32: value %d of 600 is not finite", at))
			p = encode(t, BF16, x)
			binary.LittleEndian.PutUint16(p[2*at:], uint16(bad>>16))
			refused(t, BF16, n, p, fmt.Sprintf("codec bf16: value %d of 600 is not finite", at))
		}
		block, i := at/Block, at%Block
		p := encode(t, Int8, x)
		p[260*block+4+i] = 0x80
		refused(t, Int8, n, p, fmt.Sprintf("codec int8: value %d of block %d is -128, outside [-127, 127]", i, block))
		p = encode(t, Int4, x)
		half := (min(Block, n-Block*block) + 1) / 2
		if b := &p[132*block+4+i%half]; i < half {
			*b = *b&0xf0 | 0x08
		} else {
			*b = *b&0x0f | 0x80
		}
		refused(t, Int4, n, p, fmt.Sprintf("codec int4: value %d of block %d is -8, outside [-7, 7]", i, block))
	}
	// The first of several is named.
	p := encode(t, FP32, x)
	for _, at := range []int{300, 301, 500} {
		binary.LittleEndian.PutUint32(p[4*at:], 0x7fc00000)
	}
	refused(t, FP32, n, p, "codec fp32: value 300 of 600 is not finite")
}

func TestDecodersRefuse(t *testing.T) {
	le := func(bits uint32) []byte { return binary.LittleEndian.AppendUint32(nil, bits) }
	scale := func(codec, value string, bits uint32) string {
		return fmt.Sprintf("codec %s: block 0 has scale %s (%#08x): want 0 or a finite positive scale of 17 bits", codec, value, bits)
	}
	for _, c := range []struct {
		Codec
		n    int
		src  []byte
		want string
	}{
		{FP32, 2, make([]byte, 7), "codec fp32: 7 bytes for 2 values, want 8"},
		{BF16, 1, make([]byte, 3), "codec bf16: 3 bytes for 1 values, want 2"},
		{Int8, 256, make([]byte, 256), "codec int8: 256 bytes for 256 values, want 260"},
		{Int8, 257, make([]byte, 260), "codec int8: 260 bytes for 257 values, want 265"},
		{Int4, 256, make([]byte, 131), "codec int4: 131 bytes for 256 values, want 132"},
		{Int4, 3, make([]byte, 5), "codec int4: 5 bytes for 3 values, want 6"},
		{Int8, 1, append(le(0x7f800000), 1), scale("int8", "+Inf", 0x7f800000)},
		{Int8, 1, append(le(0x7fc00000), 1), scale("int8", "NaN", 0x7fc00000)},
		{Int8, 1, append(le(0x7c010200+128), 1), scale("int8", "2.679428e+36", 0x7c010280)},
		{Int8, 1, append(le(0xbf800000), 1), scale("int8", "-1", 0xbf800000)},
		{Int8, 1, append(le(0x80000000), 0), scale("int8", "-0", 0x80000000)},
		{Int8, 1, append(le(0x3f800001), 1), scale("int8", "1.0000001", 0x3f800001)},
		{Int8, 1, append(le(0x00000080), 1), scale("int8", "1.8e-43", 0x00000080)},
		{Int8, 1, []byte{0, 0, 0, 0, 1}, "codec int8: block 0 has scale 0 and values other than 0"},
		{Int8, 1, []byte{0, 0, 0, 0, 0x80}, "codec int8: block 0 has scale 0 and values other than 0"},
		{Int4, 1, append(le(0x7f800000), 1), scale("int4", "+Inf", 0x7f800000)},
		{Int4, 1, append(le(0x7e124900+128), 1), scale("int4", "4.861223e+37", 0x7e124980)},
		{Int4, 1, append(le(0xbf800000), 1), scale("int4", "-1", 0xbf800000)},
		{Int4, 1, append(le(0x3f800001), 1), scale("int4", "1.0000001", 0x3f800001)},
		{Int4, 1, append(le(0x00000080), 1), scale("int4", "1.8e-43", 0x00000080)},
		{Int4, 2, []byte{0, 0, 0, 0, 0x10}, "codec int4: block 0 has scale 0 and values other than 0"},
		{Int4, 3, append(le(0x3f800000), 1, 0x11), "codec int4: the last nibble of block 0 belongs to no value and is not 0"},
		{Int4, 3, append(le(0x3f800000), 1, 0x81), "codec int4: the last nibble of block 0 belongs to no value and is not 0"},
		// The second block, of one value or of three.
		{Int4, 259, append(make([]byte, 132), 0, 0, 0x80, 0x3f, 1, 0x81), "codec int4: the last nibble of block 1 belongs to no value and is not 0"},
		{Int4, 257, append(make([]byte, 132), 0, 0, 0x80, 0x3f, 0x31), "codec int4: the last nibble of block 1 belongs to no value and is not 0"},
		{Int8, 257, append(make([]byte, 260), 0, 0, 0, 0, 3), "codec int8: block 1 has scale 0 and values other than 0"},
	} {
		refused(t, c.Codec, c.n, c.src, c.want)
	}
}

// TestFormats holds each codec to its layout: what encodes in a device's memory takes it.
func TestFormats(t *testing.T) {
	want := map[string]kernels.Format{"fp32": kernels.FormatFP32, "bf16": kernels.FormatBF16, "int8": kernels.FormatInt8, "int4": kernels.FormatInt4}
	for _, c := range all(t) {
		if c.Format() != want[c.Name()] {
			t.Errorf("%s has format %v, want %v", c.Name(), c.Format(), want[c.Name()])
		}
		for _, n := range []int{0, 1, 2, 255, 256, 257, 511, 512, 513} {
			if got := c.EncodedLen(n); got != want[c.Name()].EncodedLen(n) {
				t.Errorf("%s: %d values take %d bytes", c.Name(), n, got)
			}
		}
	}
	if len(want) != len(Names()) {
		t.Errorf("%d codecs are tested of %v", len(want), Names())
	}
}

// Encoding into a slice with room neither allocates nor moves it.
func TestAppendEncodeUsesTheRoomThatThereIs(t *testing.T) {
	x := gaussian(2, 700)
	for _, c := range all(t) {
		want := encode(t, c, x)
		for _, spare := range []int{0, len(want), len(want) + 9} {
			dst := append(make([]byte, 0, 3+spare), "abc"...)
			got, err := c.AppendEncode(dst, x)
			if err != nil || string(got[:3]) != "abc" || !slices.Equal(got[3:], want) {
				t.Fatalf("%s behind 3 bytes, room for %d: %v, or other bytes", c.Name(), spare, err)
			}
			if moved := &got[0] != &dst[0]; moved != (spare < len(want)) {
				t.Errorf("%s: room for %d of %d bytes, moved: %v", c.Name(), spare, len(want), moved)
			}
		}
	}
}
