package cpu

import (
	"fmt"

	"loco/kernels"
)

// A half is one way to multiply bf16 values. Values lie in pairs along k, a pair in a
// 32-bit word, and rows of words are padded with zeros to a multiple of halfWords.
//
// Both round sums to float32 after each product and take subnormal values for zero,
// but not in the same order, so that their bits differ: VDPBF16PS adds the product of a
// pair's second values to the sum, then that of the first; AMX forms, for each 32 values
// of k, the sums of the first and of the second products from zero, and adds their sum.
type half struct {
	name string
	// product has the contract of path.panel, k counting words; it needs aCol = 4.
	// Its mode is productSet or productChain.
	product func(c *float32, cRow int, a *float32, aRow, aCol int, b *float32, bRow, m, n, k, mode int, next *float32)
	// round packs a row of n values, pairs packs 2·count rows in panels: see the
	// assembly's roundRow and pairRows.
	round func(dst, src *float32, n int)
	pairs func(dst *float32, dstPanel int, src *float32, srcRow, count, n int)
	// faster says whether it multiplies faster than the path's float32.
	faster bool
	// peak does turns·peakFlop operations.
	peak     func(turns int)
	peakFlop int
}

// halfWords is the number of words to which rows of pairs are padded: AMX's depth.
const halfWords = 16

// chooseHalf returns what a precision asks for: nil for float32.
func chooseHalf(precision kernels.Precision, all []*half) (*half, error) {
	switch precision {
	case kernels.FP32:
		return nil, nil
	case kernels.Auto:
		if len(all) > 0 && all[0].faster {
			return all[0], nil
		}
		return nil, nil
	case kernels.BF16:
		if len(all) == 0 {
			return nil, fmt.Errorf("kernels: precision bf16 needs a processor with AMX-BF16 or AVX512_BF16, and a build with assembly: choose fp32 or auto")
		}
		return all[0], nil
	}
	return nil, fmt.Errorf("kernels: precision %q: unknown, choose one of %s, %s, %s", precision, kernels.Auto, kernels.FP32, kernels.BF16)
}
