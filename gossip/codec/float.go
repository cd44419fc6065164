package codec

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FP32 copies values as they are.
type FP32 struct{}

// Name returns "fp32".
func (FP32) Name() string { return "fp32" }

// EncodedLen is 4n.
func (FP32) EncodedLen(n int) int { return 4 * n }

// AppendEncode implements [Codec].
func (c FP32) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	if i := finite(src); i >= 0 {
		return dst, errInput("fp32", src, i)
	}
	at := len(dst)
	dst = grow(dst, 4*len(src))
	out := dst[at:]
	for ; len(src) >= 4 && len(out) >= 16; src, out = src[4:], out[16:] {
		binary.LittleEndian.PutUint32(out, math.Float32bits(src[0]))
		binary.LittleEndian.PutUint32(out[4:], math.Float32bits(src[1]))
		binary.LittleEndian.PutUint32(out[8:], math.Float32bits(src[2]))
		binary.LittleEndian.PutUint32(out[12:], math.Float32bits(src[3]))
	}
	for i, x := range src {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return dst, nil
}

// Check implements [Codec].
func (c FP32) Check(n int, src []byte) error {
	if err := checkLen(c, n, src); err != nil {
		return err
	}
	var carry uint64 // two values at a time
	rest := src
	for ; len(rest) >= 8; rest = rest[8:] {
		carry |= binary.LittleEndian.Uint64(rest)&(exponent<<32|exponent) + (exponentOne<<32 | exponentOne)
	}
	if carry&(1<<63|1<<31) == 0 && len(rest) == 0 {
		return nil
	}
	for i := range n {
		if binary.LittleEndian.Uint32(src[4*i:])&exponent == exponent {
			return fmt.Errorf("codec fp32: value %d of %d is not finite", i, n)
		}
	}
	return nil
}

// Decode implements [Codec].
func (c FP32) Decode(dst []float32, src []byte) error {
	if err := c.Check(len(dst), src); err != nil {
		return err
	}
	for ; len(dst) >= 4 && len(src) >= 16; dst, src = dst[4:], src[16:] { // without bounds checks
		dst[0] = math.Float32frombits(binary.LittleEndian.Uint32(src))
		dst[1] = math.Float32frombits(binary.LittleEndian.Uint32(src[4:]))
		dst[2] = math.Float32frombits(binary.LittleEndian.Uint32(src[8:]))
		dst[3] = math.Float32frombits(binary.LittleEndian.Uint32(src[12:]))
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
	return nil
}

// DecodeAdd implements [Codec].
func (c FP32) DecodeAdd(dst []float32, src []byte, weight float32) error {
	if err := c.Check(len(dst), src); err != nil {
		return err
	}
	for ; len(dst) >= 4 && len(src) >= 16; dst, src = dst[4:], src[16:] {
		dst[0] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src)))
		dst[1] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[4:])))
		dst[2] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[8:])))
		dst[3] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[12:])))
	}
	for i := range dst {
		dst[i] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])))
	}
	return nil
}

// BF16 keeps 8 bits of mantissa.
type BF16 struct{}

// bf16Max is the largest finite bf16.
const bf16Max = 0x7f7f

// Name returns "bf16".
func (BF16) Name() string { return "bf16" }

// EncodedLen is 2n.
func (BF16) EncodedLen(n int) int { return 2 * n }

// AppendEncode implements [Codec].
func (c BF16) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	if i := finite(src); i >= 0 {
		return dst, errInput("bf16", src, i)
	}
	at := len(dst)
	dst = grow(dst, 2*len(src))
	out := dst[at:]
	for i, x := range src {
		bits := math.Float32bits(x)
		h := uint16((bits + 0x7fff + bits>>16&1) >> 16)
		if h&0x7fff > bf16Max {
			h = h&0x8000 | bf16Max
		}
		binary.LittleEndian.PutUint16(out[2*i:], h)
	}
	return dst, nil
}

// Check implements [Codec].
func (c BF16) Check(n int, src []byte) error {
	if err := checkLen(c, n, src); err != nil {
		return err
	}
	for i := range n {
		if binary.LittleEndian.Uint16(src[2*i:])&0x7f80 == 0x7f80 {
			return fmt.Errorf("codec bf16: value %d of %d is not finite", i, n)
		}
	}
	return nil
}

// Decode implements [Codec].
func (c BF16) Decode(dst []float32, src []byte) error {
	if err := c.Check(len(dst), src); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
	return nil
}

// DecodeAdd implements [Codec].
func (c BF16) DecodeAdd(dst []float32, src []byte, weight float32) error {
	if err := c.Check(len(dst), src); err != nil {
		return err
	}
	for i := range dst {
		x := math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		dst[i] += float32(weight * x)
	}
	return nil
}
