package cpu

import "loco/kernels"

// blockRuns are a path's functions for one format on any number of whole blocks. They
// are nil in plain Go.
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

// Encode is f.Encode on the path that [New] takes, and so for those below. They run on
// the caller's goroutine and allocate nothing.
func Encode(f kernels.Format, dst []byte, src []float32) int { return codecPath.encode(f, dst, src) }

// Check is f.Check.
func Check(f kernels.Format, n int, src []byte) int { return codecPath.check(f, n, src) }

// Decode is f.Decode.
func Decode(f kernels.Format, dst []float32, src []byte) { codecPath.decode(f, dst, src) }

// DecodeAdd is f.DecodeAdd.
func DecodeAdd(f kernels.Format, dst []float32, src []byte, weight float32) {
	codecPath.decodeAdd(f, dst, src, weight)
}

func (p *path) encode(f kernels.Format, dst []byte, src []float32) int {
	kernels.CheckSame("encode", "dst", len(dst), f.EncodedLen(len(src)))
	done := 0
	if run := p.formats[f].encode; run != nil {
		whole := len(src) / kernels.CodecBlock * kernels.CodecBlock
		done = kernels.CodecBlock * run(dst[:f.EncodedLen(whole)], src[:whole])
	}
	return done + f.Encode(dst[f.EncodedLen(done):], src[done:])
}

func (p *path) check(f kernels.Format, n int, src []byte) int {
	kernels.CheckSame("check", "src", len(src), f.EncodedLen(n))
	done := 0
	if run := p.formats[f].sound; run != nil {
		if whole := n / kernels.CodecBlock * kernels.CodecBlock; run(src[:f.EncodedLen(whole)]) {
			done = whole
		}
	}
	block := f.Check(n-done, src[f.EncodedLen(done):])
	if block >= 0 {
		block += done / kernels.CodecBlock
	}
	return block
}

func (p *path) decode(f kernels.Format, dst []float32, src []byte) {
	kernels.CheckSame("decode", "src", len(src), f.EncodedLen(len(dst)))
	if run := p.formats[f].decode; run != nil {
		whole := len(dst) / kernels.CodecBlock * kernels.CodecBlock
		run(dst[:whole], src[:f.EncodedLen(whole)])
		dst, src = dst[whole:], src[f.EncodedLen(whole):]
	}
	f.Decode(dst, src)
}

func (p *path) decodeAdd(f kernels.Format, dst []float32, src []byte, weight float32) {
	kernels.CheckSame("decode-add", "src", len(src), f.EncodedLen(len(dst)))
	if run := p.formats[f].decodeAdd; run != nil {
		whole := len(dst) / kernels.CodecBlock * kernels.CodecBlock
		run(dst[:whole], src[:f.EncodedLen(whole)], weight)
		dst, src = dst[whole:], src[f.EncodedLen(whole):]
	}
	f.DecodeAdd(dst, src, weight)
}
