// Package codec turns vectors of float32 into bytes for the wire and back.
//
// Three codecs, all little-endian, all free of state, allocation (beyond growing
// the destination) and randomness, so that the same values give the same bytes on
// every machine and a GPU can be held to them bit for bit.
//
// # Wire layout
//
// fp32, 4 bytes a value:
//
//	offset 4i   4  IEEE 754 binary32 of value i
//
// bf16, 2 bytes a value:
//
//	offset 2i   2  upper half of the binary32 of value i, rounded to nearest even;
//	               a finite value beyond the largest bf16 becomes ±0x7f7f
//
// int8, blocks of [Block] values, 260 bytes each; the last block may be shorter:
//
//	offset 260b      4  scale s of block b: binary32, +0 or a normal number whose
//	                    low 7 mantissa bits are 0
//	offset 260b+4    1  q of value 256b, two's complement, −127 … 127
//	offset 260b+4+j  1  q of value 256b+j
//
// # Arithmetic of int8
//
// Every operation is binary32, rounded to nearest even, in this order:
//
//	m = max |x| over the block
//	t = m / 127
//	s = t with its bit pattern rounded up to a multiple of 128
//	s = 0 if s < 2⁻¹²⁶;  s = min(s, the pattern 0x7c010200, i.e. 1.0078735·2¹²¹)
//	q = 0 if s = 0, else round-to-even(x / s), clamped to [−127, 127]
//	decoded = q·s
//
// A scale has at most 17 significant bits and |q| at most 7, so q·s is exact: it
// makes no difference whether a compiler or a GPU fuses it into an addition. It
// also makes coding idempotent: decoded values encode to the same bytes again. The
// error is at most s·(1/2 + 2⁻¹⁷), and a block is dropped to zero only where all of
// it is below 127·2⁻¹²⁶ ≈ 1.5e-36.
//
// Block scales follow Dettmers et al., 8-bit Optimizers via Block-wise Quantization
// (arXiv 2110.02861), section 2.1.
//
// # Differences from the paper
//
// The code book is linear, not dynamic, so that a sum needs no table; a block is 256
// values, not 2048; the scale is rounded up to 17 bits.
//
// # Sub-ranges
//
// The encoding of src[lo:hi] with lo a multiple of [Block] equals that range of the
// encoding of src, so a vector may be encoded in chunks, in any order.
package codec

import (
	"fmt"
	"math"
	"strings"
)

// Block is the number of values that share a scale, and the alignment at which a
// vector may be cut. Every codec accepts cuts at its multiples.
const Block = 256

// Codec encodes float32 vectors. Implementations hold no state and are safe for
// concurrent use.
type Codec interface {
	// Name is what configurations and metrics call the codec.
	Name() string
	// EncodedLen is the exact number of bytes of n encoded values, n ≥ 0.
	EncodedLen(n int) int
	// AppendEncode appends the encoding of src to dst. A non-finite value is refused
	// with its index, and dst is returned as it was.
	AppendEncode(dst []byte, src []float32) ([]byte, error)
	// Check returns the error that Decode of n values would.
	Check(n int, src []byte) error
	// Decode fills dst from src, whose length must be EncodedLen(len(dst)). Bytes
	// that the encoder never writes are refused, non-finite values and scales among
	// them, and dst is untouched then.
	Decode(dst []float32, src []byte) error
	// DecodeAdd sets dst[i] to dst[i] + round(weight·decoded[i]), both operations in
	// float32, with the checks of Decode.
	DecodeAdd(dst []float32, src []byte, weight float32) error
}

// Names lists what ByName accepts.
func Names() []string { return []string{"fp32", "bf16", "int8"} }

// ByName returns the codec of that name; an unknown one is an error that lists what
// is allowed.
func ByName(name string) (Codec, error) {
	switch name {
	case "fp32":
		return FP32{}, nil
	case "bf16":
		return BF16{}, nil
	case "int8":
		return Int8{}, nil
	}
	return nil, fmt.Errorf("codec %q: unknown, choose one of %s", name, strings.Join(Names(), ", "))
}

// exponent is the exponent field of binary32: all ones in infinities and NaNs.
const exponent = 0x7f800000

// exponentOne is the lowest bit of the exponent: added to a full exponent field it
// carries into the sign's place, which was cleared.
const exponentOne = 0x00800000

// finite returns the index of the first non-finite value, or −1.
func finite(src []float32) int {
	var carry uint32
	for _, x := range src {
		carry |= math.Float32bits(x)&exponent + exponentOne
	}
	if carry>>31 == 0 {
		return -1
	}
	for i, x := range src {
		if math.Float32bits(x)&exponent == exponent {
			return i
		}
	}
	return -1
}

func errInput(name string, src []float32, i int) error {
	return fmt.Errorf("codec %s: value %d of %d is %v: only finite values are encoded", name, i, len(src), src[i])
}

func checkLen(c Codec, n int, src []byte) error {
	if want := c.EncodedLen(n); len(src) != want {
		return fmt.Errorf("codec %s: %d bytes for %d values, want %d", c.Name(), len(src), n, want)
	}
	return nil
}

// grow returns dst lengthened by n bytes, whose contents are to be overwritten.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst[:len(dst)+n]
	}
	return append(dst, make([]byte, n)...)
}
