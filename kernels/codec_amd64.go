//go:build !noasm

package kernels

var avx512Formats = [formatCount]blockRuns{
	FormatFP32: {fp32EncodeAVX512, fp32SoundAVX512, fp32DecodeAVX512, fp32DecodeAddAVX512},
	FormatBF16: {bf16EncodeAVX512, bf16SoundAVX512, bf16DecodeAVX512, bf16DecodeAddAVX512},
	FormatInt8: {int8EncodeAVX512, int8SoundAVX512, int8DecodeAVX512, int8DecodeAddAVX512},
	FormatInt4: {int4EncodeAVX512, int4SoundAVX512, int4DecodeAVX512, int4DecodeAddAVX512},
}

var avx2Formats = [formatCount]blockRuns{
	FormatFP32: {fp32EncodeAVX2, fp32SoundAVX2, fp32DecodeAVX2, fp32DecodeAddAVX2},
	FormatBF16: {bf16EncodeAVX2, bf16SoundAVX2, bf16DecodeAVX2, bf16DecodeAddAVX2},
	FormatInt8: {int8EncodeAVX2, int8SoundAVX2, int8DecodeAVX2, int8DecodeAddAVX2},
	FormatInt4: {int4EncodeAVX2, int4SoundAVX2, int4DecodeAVX2, int4DecodeAddAVX2},
}
