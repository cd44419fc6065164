package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"loco/kernels"
)

// Int8 is block-wise absmax quantisation to 8 bits; the package comment has its
// layout and its arithmetic.
type Int8 struct{}

var int8s = format{"int8", kernels.FormatInt8, func(b, _ int, block []byte) error {
	if err := unsoundScale("int8", kernels.FormatInt8, b, block); err != nil {
		return err
	}
	return fmt.Errorf("codec int8: value %d of block %d is -128, outside [-127, 127]", bytes.IndexByte(block[4:], 0x80), b)
}}

// Name returns "int8".
func (Int8) Name() string { return int8s.name }

// Format implements [Codec].
func (Int8) Format() kernels.Format { return int8s.layout }

// EncodedLen is n bytes and 4 more for every block of 256 values begun.
func (Int8) EncodedLen(n int) int { return int8s.layout.EncodedLen(n) }

// AppendEncode implements [Codec].
func (Int8) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	return int8s.appendEncode(dst, src)
}

// Check implements [Codec].
func (Int8) Check(n int, src []byte) error { return int8s.check(n, src) }

// Decode implements [Codec].
func (Int8) Decode(dst []float32, src []byte) error { return int8s.decode(dst, src) }

// DecodeAdd implements [Codec].
func (Int8) DecodeAdd(dst []float32, src []byte, weight float32) error {
	return int8s.decodeAdd(dst, src, weight)
}

// Int4 is block-wise absmax quantisation to 4 bits, two values in a byte; the package
// comment has its layout and its arithmetic.
type Int4 struct{}

var int4s = format{"int4", kernels.FormatInt4, func(b, n int, block []byte) error {
	if err := unsoundScale("int4", kernels.FormatInt4, b, block); err != nil {
		return err
	}
	half := len(block) - 4
	for i, q := range block[4:] {
		switch {
		case q&15 == 8:
			return fmt.Errorf("codec int4: value %d of block %d is -8, outside [-7, 7]", i, b)
		case q>>4 == 8 && b*Block+half+i < n:
			return fmt.Errorf("codec int4: value %d of block %d is -8, outside [-7, 7]", half+i, b)
		}
	}
	return fmt.Errorf("codec int4: the last nibble of block %d belongs to no value and is not 0", b)
}}

// Name returns "int4".
func (Int4) Name() string { return int4s.name }

// Format implements [Codec].
func (Int4) Format() kernels.Format { return int4s.layout }

// EncodedLen is 4 bytes for every block of 256 values begun and half a byte a value, rounded up in each block.
func (Int4) EncodedLen(n int) int { return int4s.layout.EncodedLen(n) }

// AppendEncode implements [Codec].
func (Int4) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	return int4s.appendEncode(dst, src)
}

// Check implements [Codec].
func (Int4) Check(n int, src []byte) error { return int4s.check(n, src) }

// Decode implements [Codec].
func (Int4) Decode(dst []float32, src []byte) error { return int4s.decode(dst, src) }

// DecodeAdd implements [Codec].
func (Int4) DecodeAdd(dst []float32, src []byte, weight float32) error {
	return int4s.decodeAdd(dst, src, weight)
}

// unsoundScale returns what is wrong with the scale of block b, or with values under a
// scale of 0; nil if nothing is.
func unsoundScale(name string, f kernels.Format, b int, block []byte) error {
	bits := binary.LittleEndian.Uint32(block)
	if !f.SoundScale(bits) {
		return fmt.Errorf("codec %s: block %d has scale %v (%#08x): want 0 or a finite positive scale of 17 bits",
			name, b, math.Float32frombits(bits), bits)
	}
	if bits == 0 {
		return fmt.Errorf("codec %s: block %d has scale 0 and values other than 0", name, b)
	}
	return nil
}
