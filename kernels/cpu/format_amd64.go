//go:build !noasm

package cpu

import (
	"unsafe"

	"loco/kernels"
)

var avx512Formats = [kernels.FormatCount]blockRuns{
	kernels.FormatFP32: {fp32EncodeAVX512, fp32SoundAVX512, fp32DecodeAVX512, fp32DecodeAddAVX512},
	kernels.FormatBF16: {bf16EncodeAVX512, bf16SoundAVX512, bf16DecodeAVX512, bf16DecodeAddAVX512},
	kernels.FormatInt8: {encodeInt8AVX512, int8SoundAVX512, int8DecodeAVX512, int8DecodeAddAVX512},
	kernels.FormatInt4: {int4EncodeAVX512, int4SoundAVX512, int4DecodeAVX512, int4DecodeAddAVX512},
}

var avx2Formats = [kernels.FormatCount]blockRuns{
	kernels.FormatFP32: {fp32EncodeAVX2, fp32SoundAVX2, fp32DecodeAVX2, fp32DecodeAddAVX2},
	kernels.FormatBF16: {bf16EncodeAVX2, bf16SoundAVX2, bf16DecodeAVX2, bf16DecodeAddAVX2},
	kernels.FormatInt8: {encodeInt8AVX2, int8SoundAVX2, int8DecodeAVX2, int8DecodeAddAVX2},
	kernels.FormatInt4: {int4EncodeAVX2, int4SoundAVX2, int4DecodeAVX2, int4DecodeAddAVX2},
}

func encodeInt8AVX512(dst []byte, src []float32) int { return encodeInt8(true, dst, src) }
func encodeInt8AVX2(dst []byte, src []float32) int   { return encodeInt8(false, dst, src) }

const (
	int8BlockBytes = 4 + kernels.CodecBlock
	// stagedBlocks are so many that their bytes are whole lines of 64.
	stagedBlocks = 16
	// pastCachesMin is the number of bytes from which on they are stored past the caches:
	// their beginning would have left the caches anyway before it is read, and a line that is
	// written whole need not be read first. Chunks for the wire are far below.
	pastCachesMin = 16 << 20
)

// encodeInt8 encodes whole blocks, many of them past the caches.
func encodeInt8(wide bool, dst []byte, src []float32) int {
	if len(dst) < pastCachesMin {
		return int8EncodeOn(wide, dst, src)
	}
	return encodeInt8Past(wide, dst, src)
}

// encodeInt8Past encodes whole blocks by way of a stage: blocks do not begin at lines, and
// a line that is stored past the caches must be stored at once.
func encodeInt8Past(wide bool, dst []byte, src []float32) int {
	misplaced := int(uintptr(unsafe.Pointer(unsafe.SliceData(dst))) % 64)
	if misplaced%4 != 0 { // no block begins at a line
		return int8EncodeOn(wide, dst, src)
	}
	// A block has 4 bytes more than whole lines.
	head := (64 - misplaced) / 4 % stagedBlocks
	blocks := int8EncodeOn(wide, dst[:head*int8BlockBytes], src[:head*kernels.CodecBlock])
	if blocks < head {
		return blocks
	}
	var stage [stagedBlocks * int8BlockBytes]byte
	for (blocks+stagedBlocks)*kernels.CodecBlock <= len(src) {
		from, to := blocks*kernels.CodecBlock, blocks*int8BlockBytes
		if int8EncodeOn(wide, stage[:], src[from:from+stagedBlocks*kernels.CodecBlock]) < stagedBlocks {
			break // the caller looks for the block from here on
		}
		if wide {
			storePastAVX512(dst[to:to+len(stage)], stage[:])
		} else {
			storePastAVX2(dst[to:to+len(stage)], stage[:])
		}
		blocks += stagedBlocks
	}
	storeFence()
	return blocks + int8EncodeOn(wide, dst[blocks*int8BlockBytes:], src[blocks*kernels.CodecBlock:])
}

func int8EncodeOn(wide bool, dst []byte, src []float32) int {
	if wide {
		return int8EncodeAVX512(dst, src)
	}
	return int8EncodeAVX2(dst, src)
}
