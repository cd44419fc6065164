package codec

import (
	"encoding/binary"
	"fmt"

	"loco/kernels"
)

// FP32 copies values as they are.
type FP32 struct{}

var fp32 = format{"fp32", kernels.FormatFP32, func(b, n int, block []byte) error {
	i := 0
	for i*4+4 < len(block) && binary.LittleEndian.Uint32(block[4*i:])&exponent != exponent {
		i++
	}
	return fmt.Errorf("codec fp32: value %d of %d is not finite", b*Block+i, n)
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
	i := 0
	for i*2+2 < len(block) && binary.LittleEndian.Uint16(block[2*i:])&(exponent>>16) != exponent>>16 {
		i++
	}
	return fmt.Errorf("codec bf16: value %d of %d is not finite", b*Block+i, n)
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
