package kernels

import (
	"encoding/binary"
	"math"
)

// Blocks of int8 and int4, whose layout and arithmetic are in the package comment of
// gossip/codec. What is here is the definition; the assembly need not divide: see
// kernels/cpu/_asm/codec.go for why it gives the same.

const (
	// int8Max and int4Max are the largest magnitudes of quantised values.
	int8Max, int4Max = 127, 7
	// scaleLow are the mantissa bits that are 0 in every scale.
	scaleLow = 0x7f
	// scaleMin is the bit pattern of 2⁻¹²⁶, the smallest normal number.
	scaleMin = 0x00800000
	// int8ScaleMax and int4ScaleMax are the bit patterns of the largest scales whose
	// products with int8Max and int4Max are finite.
	int8ScaleMax, int4ScaleMax = 0x7c010200, 0x7e124900
	// roundBias is 1.5·2²³: adding it to |y| < 2²² leaves round-to-even(y) in the low
	// bits of the sum. roundBiasBits is its bit pattern.
	roundBias     = 12582912
	roundBiasBits = 0x4b400000
)

// SoundScale says whether bits may stand for a scale: +0 or a normal number, not above
// the format's largest, of 17 significant bits. fp32 and bf16 have no scales.
func (f Format) SoundScale(bits uint32) bool {
	largest := uint32(int8ScaleMax)
	if f == FormatInt4 {
		largest = int4ScaleMax
	}
	return bits == 0 || scaleMin <= bits && bits <= largest && bits&scaleLow == 0
}

// greatestBits returns the largest bit pattern of |x|, which orders as |x| does.
func greatestBits(block []float32) uint32 {
	var a, b uint32 // two chains, so that the maxima overlap
	for ; len(block) >= 2; block = block[2:] {
		a = max(a, math.Float32bits(block[0])&^(1<<31))
		b = max(b, math.Float32bits(block[1])&^(1<<31))
	}
	for _, x := range block {
		a = max(a, math.Float32bits(x)&^(1<<31))
	}
	return max(a, b)
}

// scaleFor returns the scale of a block whose largest magnitude has these bits.
func scaleFor(greatest uint32, qMax float32, scaleMax uint32) float32 {
	bits := math.Float32bits(math.Float32frombits(greatest) / qMax)
	bits = (bits + scaleLow) &^ scaleLow
	if bits < scaleMin {
		return 0
	}
	return math.Float32frombits(min(bits, scaleMax))
}

// quantised returns round-to-even(x/scale) in the low bits of two's complement. With
// the scale of x's block it is within ±qMax: |x| ≤ qMax·scale·(1 + 2⁻¹⁶).
func quantised(x, scale float32) uint32 {
	y := x / scale
	return math.Float32bits(y+roundBias) - roundBiasBits
}

// putScale writes the scale of a block before its values and returns it; false means
// that a value is not finite.
func putScale(dst []byte, src []float32, qMax float32, scaleMax uint32) (float32, bool) {
	greatest := greatestBits(src)
	if greatest >= exponentBits {
		return 0, false
	}
	scale := scaleFor(greatest, qMax, scaleMax)
	binary.LittleEndian.PutUint32(dst, math.Float32bits(scale))
	return scale, true
}

func int8Bytes(n int) int { return 4 + n }

func plainInt8Encode(dst []byte, src []float32) bool {
	scale, finite := putScale(dst, src, int8Max, int8ScaleMax)
	q := dst[4:]
	switch {
	case !finite:
		return false
	case scale == 0:
		clear(q)
	default:
		q = q[:len(src)]
		for i, x := range src {
			q[i] = byte(quantised(x, scale))
		}
	}
	return true
}

func plainInt8Sound(n int, src []byte) bool {
	bits := binary.LittleEndian.Uint32(src)
	if !FormatInt8.SoundScale(bits) {
		return false
	}
	var any byte
	for _, q := range src[4 : 4+n] {
		if q == 0x80 {
			return false
		}
		any |= q
	}
	return bits != 0 || any == 0
}

func plainInt8Decode(dst []float32, src []byte) {
	scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
	for i, q := range src[4 : 4+len(dst)] {
		dst[i] = float32(int8(q)) * scale
	}
}

func plainInt8DecodeAdd(dst []float32, src []byte, weight float32) {
	scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
	for i, q := range src[4 : 4+len(dst)] {
		x := float32(int8(q)) * scale // exact
		dst[i] += float32(weight * x)
	}
}

func int4Bytes(n int) int { return 4 + (n+1)/2 }

func plainInt4Encode(dst []byte, src []float32) bool {
	scale, finite := putScale(dst, src, int4Max, int4ScaleMax)
	q := dst[4:]
	switch {
	case !finite:
		return false
	case scale == 0:
		clear(q)
	default:
		half := (len(src) + 1) / 2
		low, high := src[:half], src[half:]
		for i, x := range low {
			q[i] = byte(quantised(x, scale) & 15)
		}
		for i, x := range high {
			q[i] |= byte(quantised(x, scale) << 4)
		}
	}
	return true
}

func plainInt4Sound(n int, src []byte) bool {
	bits := binary.LittleEndian.Uint32(src)
	if !FormatInt4.SoundScale(bits) {
		return false
	}
	q := src[4 : 4+(n+1)/2]
	var any byte
	for _, b := range q {
		if b&15 == 8 || b>>4 == 8 {
			return false
		}
		any |= b
	}
	if n%2 == 1 && q[len(q)-1]>>4 != 0 {
		return false
	}
	return bits != 0 || any == 0
}

// lowNibble and highNibble are the two's complement values in a byte.
func lowNibble(b byte) float32  { return float32(int8(b<<4) >> 4) }
func highNibble(b byte) float32 { return float32(int8(b) >> 4) }

func plainInt4Decode(dst []float32, src []byte) {
	scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
	half := (len(dst) + 1) / 2
	low, high := dst[:half], dst[half:]
	q := src[4 : 4+half]
	for i := range low {
		low[i] = lowNibble(q[i]) * scale
	}
	for i := range high {
		high[i] = highNibble(q[i]) * scale
	}
}

func plainInt4DecodeAdd(dst []float32, src []byte, weight float32) {
	scale := math.Float32frombits(binary.LittleEndian.Uint32(src))
	half := (len(dst) + 1) / 2
	low, high := dst[:half], dst[half:]
	q := src[4 : 4+half]
	for i := range low {
		x := lowNibble(q[i]) * scale // exact
		low[i] += float32(weight * x)
	}
	for i := range high {
		x := highNibble(q[i]) * scale
		high[i] += float32(weight * x)
	}
}
