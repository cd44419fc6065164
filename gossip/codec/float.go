package codec

import (
	"encoding/binary"
	"fmt"

	"loco/kernels"
)

// FP32 copies values as they are.
var FP32 = register("fp32", kernels.FormatFP32, func(b, n int, block []byte) error {
	return unsoundFloat("fp32", 4, b, n, block)
})

// BF16 keeps 8 bits of mantissa.
var BF16 = register("bf16", kernels.FormatBF16, func(b, n int, block []byte) error {
	return unsoundFloat("bf16", 2, b, n, block)
})

// unsoundFloat names the first value of block b that is not finite; there is one. A value
// has width bytes, and its exponent is in the last two.
func unsoundFloat(name string, width, b, n int, block []byte) error {
	const ones = exponent >> 16
	i := 0
	for binary.LittleEndian.Uint16(block[width*i+width-2:])&ones != ones {
		i++
	}
	return fmt.Errorf("codec %s: value %d of %d is not finite", name, b*Block+i, n)
}
