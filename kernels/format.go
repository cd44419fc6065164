package kernels

// CodecBlock is the number of values in a block: those of int8 and int4 share a scale.
const CodecBlock = 256

// A Format is a layout of encoded values. The package comment of gossip/codec has the
// layouts and their arithmetic to the bit. A Format's methods are loops in plain Go, which
// define it; package cpu has faster ones that give the same bits.
//
// They run on the caller's goroutine and allocate nothing. A slice of the wrong length is
// a caller's bug: they panic.
type Format uint8

// The formats.
const (
	FormatFP32 Format = iota
	FormatBF16
	FormatInt8
	FormatInt4
	FormatCount // how many there are
)

// blockFormat defines a format by what is done to a block of n values, 1 ≤ n ≤ CodecBlock.
type blockFormat struct {
	// bytes is the length of the encoding.
	bytes func(n int) int
	// encode fills dst and says whether all values are finite; if not, dst holds anything.
	encode func(dst []byte, src []float32) bool
	// sound says whether encode could have written src.
	sound func(n int, src []byte) bool
	// decode and decodeAdd take sound bytes.
	decode    func(dst []float32, src []byte)
	decodeAdd func(dst []float32, src []byte, weight float32)
}

var blockFormats = [FormatCount]blockFormat{
	FormatFP32: {fp32Bytes, plainFP32Encode, plainFP32Sound, plainFP32Decode, plainFP32DecodeAdd},
	FormatBF16: {bf16Bytes, plainBF16Encode, plainBF16Sound, plainBF16Decode, plainBF16DecodeAdd},
	FormatInt8: {int8Bytes, plainInt8Encode, plainInt8Sound, plainInt8Decode, plainInt8DecodeAdd},
	FormatInt4: {int4Bytes, plainInt4Encode, plainInt4Sound, plainInt4Decode, plainInt4DecodeAdd},
}

// EncodedLen is the number of bytes of n encoded values, n ≥ 0.
func (f Format) EncodedLen(n int) int {
	bytes := n / CodecBlock * blockFormats[f].bytes(CodecBlock)
	if rest := n % CodecBlock; rest > 0 {
		bytes += blockFormats[f].bytes(rest)
	}
	return bytes
}

// Encode fills dst, EncodedLen(len(src)) bytes, and returns len(src). Where values are
// not finite it returns the index at which the first block that holds one begins, and
// dst holds anything.
func (f Format) Encode(dst []byte, src []float32) int {
	CheckSame("encode", "dst", len(dst), f.EncodedLen(len(src)))
	b := &blockFormats[f]
	for lo := 0; lo < len(src); lo += CodecBlock {
		block := src[lo:min(lo+CodecBlock, len(src))]
		bytes := b.bytes(len(block))
		if !b.encode(dst[:bytes], block) {
			return lo
		}
		dst = dst[bytes:]
	}
	return len(src)
}

// Check returns the index of the first block of n encoded values that Encode never
// writes, or −1.
func (f Format) Check(n int, src []byte) int {
	CheckSame("check", "src", len(src), f.EncodedLen(n))
	b := &blockFormats[f]
	for lo := 0; lo < n; lo += CodecBlock {
		values := min(CodecBlock, n-lo)
		bytes := b.bytes(values)
		if !b.sound(values, src[:bytes]) {
			return lo / CodecBlock
		}
		src = src[bytes:]
	}
	return -1
}

// Decode fills dst from src, which Check has found sound.
func (f Format) Decode(dst []float32, src []byte) {
	CheckSame("decode", "src", len(src), f.EncodedLen(len(dst)))
	b := &blockFormats[f]
	for len(dst) > 0 {
		n := min(CodecBlock, len(dst))
		bytes := b.bytes(n)
		b.decode(dst[:n], src[:bytes])
		dst, src = dst[n:], src[bytes:]
	}
}

// DecodeAdd sets dst[i] to dst[i] + round(weight·decoded[i]), both operations in
// float32. Check has found src sound.
func (f Format) DecodeAdd(dst []float32, src []byte, weight float32) {
	CheckSame("decode-add", "src", len(src), f.EncodedLen(len(dst)))
	b := &blockFormats[f]
	for len(dst) > 0 {
		n := min(CodecBlock, len(dst))
		bytes := b.bytes(n)
		b.decodeAdd(dst[:n], src[:bytes], weight)
		dst, src = dst[n:], src[bytes:]
	}
}
