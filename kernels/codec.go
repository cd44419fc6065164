package kernels

// CodecBlock is the number of values in a block: those of int8 and int4 share a scale.
const CodecBlock = 256

// A Format is a layout of encoded values. The package comment of gossip/codec has the
// layouts and their arithmetic to the bit; this package has the loops: in plain Go,
// which define them, and on amd64 in assembly that gives the same bits.
//
// A Format's methods run on the caller's goroutine and allocate nothing. They take the
// path that [NewCPU] takes. A slice of the wrong length is a caller's bug: they panic.
type Format uint8

// The formats.
const (
	FormatFP32 Format = iota
	FormatBF16
	FormatInt8
	FormatInt4
	formatCount
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

var blockFormats = [formatCount]blockFormat{
	FormatFP32: {fp32Bytes, plainFP32Encode, plainFP32Sound, plainFP32Decode, plainFP32DecodeAdd},
	FormatBF16: {bf16Bytes, plainBF16Encode, plainBF16Sound, plainBF16Decode, plainBF16DecodeAdd},
	FormatInt8: {int8Bytes, plainInt8Encode, plainInt8Sound, plainInt8Decode, plainInt8DecodeAdd},
	FormatInt4: {int4Bytes, plainInt4Encode, plainInt4Sound, plainInt4Decode, plainInt4DecodeAdd},
}

// blockRuns are a path's functions for one format on any number of whole blocks. They
// are nil in plain Go, which takes one block after the other.
type blockRuns struct {
	// encode returns a number of leading blocks that are encoded. A block with a value
	// that is not finite is not among them; those before it may be missing, too.
	encode func(dst []byte, src []float32) int
	// sound says whether all blocks are.
	sound     func(src []byte) bool
	decode    func(dst []float32, src []byte)
	decodeAdd func(dst []float32, src []byte, weight float32)
}

// codecPath is what Formats compute with.
var codecPath = allPaths()[0]

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
func (f Format) Encode(dst []byte, src []float32) int { return codecPath.encode(f, dst, src) }

// Check returns the index of the first block of n encoded values that Encode never
// writes, or −1.
func (f Format) Check(n int, src []byte) int { return codecPath.check(f, n, src) }

// Decode fills dst from src, which Check has found sound.
func (f Format) Decode(dst []float32, src []byte) { codecPath.decode(f, dst, src) }

// DecodeAdd sets dst[i] to dst[i] + round(weight·decoded[i]), both operations in
// float32. Check has found src sound.
func (f Format) DecodeAdd(dst []float32, src []byte, weight float32) {
	codecPath.decodeAdd(f, dst, src, weight)
}

func (p *path) encode(f Format, dst []byte, src []float32) int {
	same("encode", "dst", len(dst), f.EncodedLen(len(src)))
	b, done := &blockFormats[f], 0
	size := b.bytes(CodecBlock)
	if run := p.formats[f].encode; run != nil {
		whole := len(src) / CodecBlock
		done = run(dst[:whole*size], src[:whole*CodecBlock])
	}
	for lo := done * CodecBlock; lo < len(src); lo += CodecBlock {
		block := src[lo:min(lo+CodecBlock, len(src))]
		at := lo / CodecBlock * size
		if !b.encode(dst[at:at+b.bytes(len(block))], block) {
			return lo
		}
	}
	return len(src)
}

func (p *path) check(f Format, n int, src []byte) int {
	same("check", "src", len(src), f.EncodedLen(n))
	b, done := &blockFormats[f], 0
	size := b.bytes(CodecBlock)
	if run := p.formats[f].sound; run != nil {
		if whole := n / CodecBlock; run(src[:whole*size]) {
			done = whole
		}
	}
	for lo := done * CodecBlock; lo < n; lo += CodecBlock {
		values, at := min(CodecBlock, n-lo), lo/CodecBlock*size
		if !b.sound(values, src[at:at+b.bytes(values)]) {
			return lo / CodecBlock
		}
	}
	return -1
}

func (p *path) decode(f Format, dst []float32, src []byte) {
	same("decode", "src", len(src), f.EncodedLen(len(dst)))
	b := &blockFormats[f]
	size := b.bytes(CodecBlock)
	if run := p.formats[f].decode; run != nil {
		whole := len(dst) / CodecBlock
		run(dst[:whole*CodecBlock], src[:whole*size])
		dst, src = dst[whole*CodecBlock:], src[whole*size:]
	}
	for len(dst) > 0 {
		n := min(CodecBlock, len(dst))
		bytes := b.bytes(n)
		b.decode(dst[:n], src[:bytes])
		dst, src = dst[n:], src[bytes:]
	}
}

func (p *path) decodeAdd(f Format, dst []float32, src []byte, weight float32) {
	same("decode-add", "src", len(src), f.EncodedLen(len(dst)))
	b := &blockFormats[f]
	size := b.bytes(CodecBlock)
	if run := p.formats[f].decodeAdd; run != nil {
		whole := len(dst) / CodecBlock
		run(dst[:whole*CodecBlock], src[:whole*size], weight)
		dst, src = dst[whole*CodecBlock:], src[whole*size:]
	}
	for len(dst) > 0 {
		n := min(CodecBlock, len(dst))
		bytes := b.bytes(n)
		b.decodeAdd(dst[:n], src[:bytes], weight)
		dst, src = dst[n:], src[bytes:]
	}
}
