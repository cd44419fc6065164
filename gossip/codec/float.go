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
	for i, x := range src {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return dst, nil
}

func (c FP32) check(dst []float32, src []byte) error {
	if err := checkLen(c, dst, src); err != nil {
		return err
	}
	for i := range dst {
		if binary.LittleEndian.Uint32(src[4*i:])&exponent == exponent {
			return fmt.Errorf("codec fp32: value %d of %d is not finite", i, len(dst))
		}
	}
	return nil
}

// Decode implements [Codec].
func (c FP32) Decode(dst []float32, src []byte) error {
	if err := c.check(dst, src); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
	return nil
}

// DecodeAdd implements [Codec].
func (c FP32) DecodeAdd(dst []float32, src []byte, weight float32) error {
	if err := c.check(dst, src); err != nil {
		return err
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

func (c BF16) check(dst []float32, src []byte) error {
	if err := checkLen(c, dst, src); err != nil {
		return err
	}
	for i := range dst {
		if binary.LittleEndian.Uint16(src[2*i:])&0x7f80 == 0x7f80 {
			return fmt.Errorf("codec bf16: value %d of %d is not finite", i, len(dst))
		}
	}
	return nil
}

// Decode implements [Codec].
func (c BF16) Decode(dst []float32, src []byte) error {
	if err := c.check(dst, src); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
	return nil
}

// DecodeAdd implements [Codec].
func (c BF16) DecodeAdd(dst []float32, src []byte, weight float32) error {
	if err := c.check(dst, src); err != nil {
		return err
	}
	for i := range dst {
		x := math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		dst[i] += float32(weight * x)
	}
	return nil
}
