package codec

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Int8 is block-wise absmax quantisation to 8 bits; the package comment has its
// layout and its arithmetic.
type Int8 struct{}

const (
	// qMax is the largest magnitude of a quantised value.
	qMax = 127
	// scaleLow are the mantissa bits that are 0 in every scale.
	scaleLow = 0x7f
	// scaleMin is the bit pattern of 2⁻¹²⁶, the smallest normal number.
	scaleMin = 0x00800000
	// scaleMax is the bit pattern of the largest scale whose product with 127 is
	// finite.
	scaleMax = 0x7c010200
	// roundBias is 1.5·2²³: adding it to |y| < 2²² leaves round-to-even(y) in the low
	// bits of the sum.
	roundBias = 12582912
	// roundBiasBits is the bit pattern of roundBias.
	roundBiasBits = 0x4b400000
)

// Name returns "int8".
func (Int8) Name() string { return "int8" }

// EncodedLen is n bytes and 4 more for every block of 256 values begun.
func (Int8) EncodedLen(n int) int { return n + 4*((n+Block-1)/Block) }

// AppendEncode implements [Codec].
func (c Int8) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	at := len(dst)
	dst = grow(dst, c.EncodedLen(len(src)))
	out := dst[at:]
	for lo := 0; lo < len(src); lo += Block {
		block := src[lo:min(lo+Block, len(src))]
		max := maxBits(block)
		if max >= exponent {
			return dst[:at], errInput("int8", src, lo+finite(block))
		}
		scale := scaleFor(max)
		binary.LittleEndian.PutUint32(out, math.Float32bits(scale))
		quantise(out[4:4+len(block)], block, scale)
		out = out[4+len(block):]
	}
	return dst, nil
}

// maxBits returns the largest bit pattern of |x|, which orders as |x| does.
func maxBits(block []float32) uint32 {
	var a, b uint32 // two chains, so that the maxima overlap
	i := 0
	for ; i+1 < len(block); i += 2 {
		a = max(a, math.Float32bits(block[i])&^(1<<31))
		b = max(b, math.Float32bits(block[i+1])&^(1<<31))
	}
	if i < len(block) {
		a = max(a, math.Float32bits(block[i])&^(1<<31))
	}
	return max(a, b)
}

// scaleFor returns the scale of a block whose largest magnitude has these bits.
func scaleFor(maxBits uint32) float32 {
	bits := math.Float32bits(math.Float32frombits(maxBits) / qMax)
	bits = (bits + scaleLow) &^ scaleLow
	if bits < scaleMin {
		return 0
	}
	return math.Float32frombits(min(bits, scaleMax))
}

// quantise sets out[i] to round-to-even(block[i]/scale), or to 0 where scale is 0.
func quantise(out []byte, block []float32, scale float32) {
	if scale == 0 {
		clear(out)
		return
	}
	out = out[:len(block)]
	for i, x := range block {
		// |x| ≤ 127·scale·(1 + 2⁻¹⁶), so the rounded quotient is within ±127 already.
		y := x / scale
		out[i] = byte(math.Float32bits(y+roundBias) - roundBiasBits)
	}
}

// Check implements [Codec]: it refuses what AppendEncode never writes.
func (c Int8) Check(n int, src []byte) error {
	if err := checkLen(c, n, src); err != nil {
		return err
	}
	for b := 0; len(src) > 0; b++ {
		bits := binary.LittleEndian.Uint32(src)
		if bits != 0 && (bits < scaleMin || bits > scaleMax || bits&scaleLow != 0) {
			return fmt.Errorf("codec int8: block %d has scale %v (%#08x): want 0 or a finite positive scale of 17 bits",
				b, math.Float32frombits(bits), bits)
		}
		n := min(Block, len(src)-4)
		if bits == 0 && !zero(src[4:4+n]) {
			return fmt.Errorf("codec int8: block %d has scale 0 and values other than 0", b)
		}
		if i := indexMinus128(src[4 : 4+n]); i >= 0 {
			return fmt.Errorf("codec int8: value %d of block %d is -128, outside [-127, 127]", i, b)
		}
		src = src[4+n:]
	}
	return nil
}

func zero(p []byte) bool {
	for _, q := range p {
		if q != 0 {
			return false
		}
	}
	return true
}

// indexMinus128 returns the index of the first byte 0x80, or −1.
func indexMinus128(p []byte) int {
	const low, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(p); i += 8 {
		// Some byte of v is zero where some byte of p is 0x80.
		v := binary.LittleEndian.Uint64(p[i:]) ^ high
		if (v-low)&^v&high != 0 {
			break
		}
	}
	for ; i < len(p); i++ {
		if p[i] == 0x80 {
			return i
		}
	}
	return -1
}

// Decode implements [Codec].
func (c Int8) Decode(dst []float32, src []byte) error {
	if err := c.Check(len(dst), src); err != nil {
		return err
	}
	for len(dst) > 0 {
		n := min(Block, len(dst))
		scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
		for i, q := range src[4 : 4+n] {
			dst[i] = float32(int8(q)) * scale
		}
		dst, src = dst[n:], src[4+n:]
	}
	return nil
}

// DecodeAdd implements [Codec].
func (c Int8) DecodeAdd(dst []float32, src []byte, weight float32) error {
	if err := c.Check(len(dst), src); err != nil {
		return err
	}
	for len(dst) > 0 {
		n := min(Block, len(dst))
		scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
		for i, q := range src[4 : 4+n] {
			x := float32(int8(q)) * scale // exact
			dst[i] += float32(weight * x)
		}
		dst, src = dst[n:], src[4+n:]
	}
	return nil
}
