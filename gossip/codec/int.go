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
var Int8 = register("int8", kernels.FormatInt8, func(b, _ int, block []byte) error {
	if err := unsoundScale("int8", kernels.FormatInt8, b, block); err != nil {
		return err
	}
	return fmt.Errorf("codec int8: value %d of block %d is -128, outside [-127, 127]", bytes.IndexByte(block[4:], 0x80), b)
})

// Int4 is block-wise absmax quantisation to 4 bits, two values in a byte; the package
// comment has its layout and its arithmetic.
var Int4 = register("int4", kernels.FormatInt4, func(b, n int, block []byte) error {
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
})

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
