// Package codec turns vectors of float32 into bytes for the wire and back.
//
// Four codecs, all little-endian, all free of state, allocation (beyond growing
// the destination) and randomness, so that the same values give the same bytes on
// every machine. The loops are in package kernels.
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
// int4, blocks of [Block] values, 132 bytes each; the last block may be shorter. A
// block of n values has h = ⌈n/2⌉ bytes of them, the first half in the low nibbles and
// the second in the high ones, so that a machine turns a row of bytes into two rows of
// neighbours:
//
//	offset 132b      4  scale s of block b, as in int8
//	offset 132b+4+j  1  bits 0 to 3: q of value 256b+j, two's complement, −7 … 7
//	                    bits 4 to 7: q of value 256b+h+j; 0 where n is odd and j = h−1
//
// # Arithmetic of int8 and int4
//
// Every operation is binary32, rounded to nearest even, in this order, with Q = 127
// in int8 and Q = 7 in int4:
//
//	m = max |x| over the block
//	t = m / Q
//	s = t with its bit pattern rounded up to a multiple of 128
//	s = 0 if s < 2⁻¹²⁶;  s = min(s, L), the largest scale whose Q·s is finite:
//	    L has the pattern 0x7c010200 in int8, i.e. 1.0078735·2¹²¹
//	    and               0x7e124900 in int4, i.e. 1.1428528·2¹²⁵
//	q = 0 if s = 0, else round-to-even(x / s), within [−Q, Q] as it comes
//	decoded = q·s
//
// A scale has at most 17 significant bits and |q| at most 7, so q·s is exact: it
// makes no difference whether a compiler or a GPU fuses it into an addition. It
// also makes coding idempotent: decoded values encode to the same bytes again. The
// error is at most s·(1/2 + 2⁻¹⁷), and a block is dropped to zero only where all of
// it is below Q·2⁻¹²⁶, 1.5e-36 in int8 and 8.2e-38 in int4.
//
// The 17 bits have another use: x/s is half an odd number or so far from one that the
// rounding of x/s does not reach it. So the two roundings of q are as one, and q may be
// computed without a division (kernels/cpu/_asm/codec.go has the proof).
//
// # What decoders refuse
//
// All that the encoder never writes: a length other than EncodedLen; in fp32 and bf16 a
// value that is not finite; in int8 and int4 a scale that is neither +0 nor a normal
// number up to L whose low 7 mantissa bits are 0, a q other than 0 under a scale of 0,
// q = −128 or q = −8, and a nibble other than 0 that belongs to no value. A refused
// encoding leaves the destination as it was. Therefore a decoder looks at all bytes before
// it writes the first value; a caller decodes a long vector in pieces that fit a cache.
//
// # What another implementation must match
//
// A GPU may order the work as it likes. It must write the same bytes: divisions of
// binary32 rounded to nearest even (or the detour above), subnormal numbers kept, in
// bf16 as in blocks around the smallest scale, and zero bytes where s = 0. Sums are
// dst + round(weight·decoded), two roundings, not a fused multiply-add. It must refuse
// what the section above lists. Where a sum is NaN, which NaN does not matter.
//
// Block scales follow Dettmers et al., 8-bit Optimizers via Block-wise Quantization
// (arXiv 2110.02861), section 2.1.
//
// # Differences from the paper
//
// The code book is linear, not dynamic, so that a sum needs no table; a block is 256
// values, not 2048; the scale is rounded up to 17 bits; int4 is as int8, of fewer bits.
//
// # Sub-ranges
//
// The encoding of src[lo:hi] with lo a multiple of [Block] equals that range of the
// encoding of src, so a vector may be encoded in chunks, in any order.
package codec

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"loco/kernels"
)

// Block is the number of values that share a scale, and the alignment at which a
// vector may be cut, of the codecs of this package.
const Block = kernels.CodecBlock

// Codec encodes float32 vectors, and says what a group's contributions become. Implementations
// hold no state and are safe for concurrent use.
type Codec interface {
	// Name is what configurations and metrics call the codec.
	Name() string
	// Format is the layout, for code that encodes or decodes in a device's memory.
	Format() kernels.Format
	// Block is the number of values at whose multiples a vector may be cut: the encoding of a
	// vector is the encodings of its blocks, one after another, and the last may be shorter.
	Block() int
	// EncodedLen is the number of bytes of n encoded values, n ≥ 0: the exact one where Fixed, else
	// the largest.
	EncodedLen(n int) int
	// Fixed says that every encoding of n values has EncodedLen(n) bytes.
	Fixed() bool
	// Cut returns the part of a sound encoding that has the values [lo, hi), whose ends are
	// multiples of Block or the vector's end.
	Cut(encoded []byte, lo, hi int) []byte
	// Down is the codec of what contributions become, which has the same Block: this one, or
	// another where results take another form than contributions.
	Down() Codec
	// NewSum returns a sum of contributions.
	NewSum() Sum
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

// Sum forms what a group's contributions become. It is used by one goroutine, again and again.
type Sum interface {
	// Begin starts with n values.
	Begin(n int)
	// Add takes in a member's contribution, an encoding of n values, and its share. A group's members
	// are added in one order everywhere. Bytes that are not sound are refused.
	Add(contribution []byte, share float32) error
	// AppendResult appends what the contributions become, in the codec's Down form. It fails where that
	// cannot be encoded because it is not finite.
	AppendResult(dst []byte) ([]byte, error)
}

// registered are the codecs that a configuration may name: each registers itself where it is declared.
var registered []Codec

// Names lists what ByName accepts.
func Names() []string {
	var names []string
	for _, c := range registered {
		names = append(names, c.Name())
	}
	return names
}

// ByName returns the codec of that name; an unknown one is an error that lists what
// is allowed.
func ByName(name string) (Codec, error) {
	for _, c := range registered {
		if c.Name() == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("codec %q: unknown, choose one of %s", name, strings.Join(Names(), ", "))
}

// exponent is the exponent field of binary32: all ones in infinities and NaNs.
const exponent = 0x7f800000

// notFinite returns the index of the first value that is not finite; there is one.
func notFinite(src []float32) int {
	return slices.IndexFunc(src, func(x float32) bool { return math.Float32bits(x)&exponent == exponent })
}
