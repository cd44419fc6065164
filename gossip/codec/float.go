package codec

import (
	"encoding/binary"
	"fmt"

	"loco/kernels"
)

// FP32 copies values as they are.
type FP32 struct{}

var fp32 = format{"fp32", kernels.FormatFP32, func(b, n int, block []byte) error {
	return unsoundFloat("fp32", 4, b, n, block)
}}

// Name returns "fp32".
func (FP32) Name() string { return fp32.name }

// Format implements [Codec].
func (FP32) Format() kernels.Format { return fp32.layout }

// EncodedLen is 4n.
func (FP32) EncodedLen(n int) int { return fp32.layout.EncodedLen(n) }

// AppendEncode implements [Codec].
func (FP32) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	return fp32.appendEncode(dst, src)
}

// Check implements [Codec].
func (FP32) Check(n int, src []byte) error { return fp32.check(n, src) }

// Decode implements [Codec].
func (FP32) Decode(dst []float32, src []byte) error { return fp32.decode(dst, src) }

// DecodeAdd implements [Codec].
func (FP32) DecodeAdd(dst []float32, src []byte, weight float32) error {
	return fp32.decodeAdd(dst, src, weight)
}

// BF16 keeps 8 bits of mantissa.
type BF16 struct{}

var bf16 = format{"bf16", kernels.FormatBF16, func(b, n int, block []byte) error {
	return unsoundFloat("bf16", 2, b, n, block)
}}

// Name returns "bf16".
func (BF16) Name() string { return bf16.name }

// Format implements [Codec].
func (BF16) Format() kernels.Format { return bf16.layout }

// EncodedLen is 2n.
func (BF16) EncodedLen(n int) int { return bf16.layout.EncodedLen(n) }

// AppendEncode implements [Codec].
func (BF16) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	return bf16.appendEncode(dst, src)
}

// Check implements [Codec].
func (BF16) Check(n int, src []byte) error { return bf16.check(n, src) }

// Decode implements [Codec].
func (BF16) Decode(dst []float32, src []byte) error { return bf16.decode(dst, src) }

// DecodeAdd implements [Codec].
func (BF16) DecodeAdd(dst []float32, src []byte, weight float32) error {
	return bf16.decodeAdd(dst, src, weight)
}

// unsoundFloat names the first value of block b that is not finite; there is one. A value
// has width bytes, and its exponent is in the last two.
func unsoundFloat(name string, width, b, n int, block []byte) error {
	const ones = exponent >> 16
	i := 0
	for binary.LittleEndian.Uint16(block[width*i+width-2:])&ones != ones {
		i++
	}
	return fmt.Errorf("codec %s: value %d of %d is not finite", name, b*Block+i, n)
}
