package kernels

import (
	"encoding/binary"
	"math"
)

// Blocks of fp32 and bf16, whose layouts are in the package comment of gossip/codec.
// Blocks mean nothing to them; they have them so that all formats are treated alike.

// exponentBits is the exponent field of binary32: all ones in infinities and NaNs.
// exponentOne is its lowest bit: added to a full field it carries into the sign's place.
const (
	exponentBits = 0x7f800000
	exponentOne  = 0x00800000
)

// bf16Max is the largest finite bf16.
const bf16Max = 0x7f7f

func fp32Bytes(n int) int { return 4 * n }

func plainFP32Encode(dst []byte, src []float32) bool {
	var carry uint32
	for ; len(src) >= 4 && len(dst) >= 16; src, dst = src[4:], dst[16:] { // without bounds checks
		a, b, c, d := math.Float32bits(src[0]), math.Float32bits(src[1]), math.Float32bits(src[2]), math.Float32bits(src[3])
		carry |= (a&exponentBits + exponentOne) | (b&exponentBits + exponentOne)
		carry |= (c&exponentBits + exponentOne) | (d&exponentBits + exponentOne)
		binary.LittleEndian.PutUint32(dst, a)
		binary.LittleEndian.PutUint32(dst[4:], b)
		binary.LittleEndian.PutUint32(dst[8:], c)
		binary.LittleEndian.PutUint32(dst[12:], d)
	}
	for i, x := range src {
		carry |= math.Float32bits(x)&exponentBits + exponentOne
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
	return carry>>31 == 0
}

func plainFP32Sound(n int, src []byte) bool {
	var carry uint32
	for i := range n {
		carry |= binary.LittleEndian.Uint32(src[4*i:])&exponentBits + exponentOne
	}
	return carry>>31 == 0
}

func plainFP32Decode(dst []float32, src []byte) {
	for ; len(dst) >= 4 && len(src) >= 16; dst, src = dst[4:], src[16:] {
		dst[0] = math.Float32frombits(binary.LittleEndian.Uint32(src))
		dst[1] = math.Float32frombits(binary.LittleEndian.Uint32(src[4:]))
		dst[2] = math.Float32frombits(binary.LittleEndian.Uint32(src[8:]))
		dst[3] = math.Float32frombits(binary.LittleEndian.Uint32(src[12:]))
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func plainFP32DecodeAdd(dst []float32, src []byte, weight float32) {
	for ; len(dst) >= 4 && len(src) >= 16; dst, src = dst[4:], src[16:] {
		dst[0] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src)))
		dst[1] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[4:])))
		dst[2] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[8:])))
		dst[3] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[12:])))
	}
	for i := range dst {
		dst[i] += float32(weight * math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])))
	}
}

func bf16Bytes(n int) int { return 2 * n }

func plainBF16Encode(dst []byte, src []float32) bool {
	var carry uint32
	for i, x := range src {
		bits := math.Float32bits(x)
		carry |= bits&exponentBits + exponentOne
		h := uint16((bits + 0x7fff + bits>>16&1) >> 16)
		if h&0x7fff > bf16Max {
			h = h&0x8000 | bf16Max
		}
		binary.LittleEndian.PutUint16(dst[2*i:], h)
	}
	return carry>>31 == 0
}

func plainBF16Sound(n int, src []byte) bool {
	var carry uint32
	for i := range n {
		carry |= uint32(binary.LittleEndian.Uint16(src[2*i:]))<<16&exponentBits + exponentOne
	}
	return carry>>31 == 0
}

func plainBF16Decode(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

func plainBF16DecodeAdd(dst []float32, src []byte, weight float32) {
	for i := range dst {
		dst[i] += float32(weight * math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:]))<<16))
	}
}
