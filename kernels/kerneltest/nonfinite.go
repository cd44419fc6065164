package kerneltest

import (
	"fmt"
	"math"

	"loco/kernels"
)

// nonFiniteCases put a NaN or an infinity into one operand of each operation: what
// depends on it must not be finite afterwards, and what does not (an earlier row of
// causal attention, another row of a matmul) must not notice.
func nonFiniteCases(r rounding) []opCase {
	var cases []opCase
	s := kernels.AttentionShape{Batch: 2, Seq: 11, Heads: 4, KVHeads: 2, HeadDim: 6}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, form := range []int{0, 1, 2, 5} {
			c := matMulCase(r, 6, 5, 7, form&1 != 0, form&2 != 0, form&4 != 0)
			cases = append(cases, poisoned(c, 1, 9, bad), poisoned(c, 2, 9, bad))
		}
		attention, rows := attentionCase(r, s), s.QKVWidth()
		columns := []int{1, s.Heads*s.HeadDim + 1, (s.Heads + s.KVHeads) * s.HeadDim}
		if r.kept != 0 {
			columns = columns[:2] // tensor cores multiply a value that a row does not see with 0: a NaN
		}
		for _, column := range columns {
			cases = append(cases, poisoned(attention, 2, 6*rows+column, bad))
		}
		cases = append(cases,
			poisoned(normCase(r, 3, 9), 2, 12, bad),
			poisoned(swigluCase(r, 3, 9), 1, 12, bad),
			poisoned(embeddingBackwardCase(7, 5, 3), 1, 4, bad),
			poisoned(adamWCase(33, 1), 1, 5, bad),
			poisoned(crossEntropyCase(r, 1, 9, 13), 1, 3*13+2, bad),
			poisoned(crossEntropyCase(r, 1, 9, 13), 1, 4, bad), // of the ignored row
		)
	}
	return cases
}

// poisoned returns c with one value of one operand replaced. Where the exact result
// stays finite the bound of the sound case is no guide, so it is derived again.
func poisoned(c opCase, which, index int, bad float32) opCase {
	operands := append([]operand(nil), c.operands...)
	data := append([]float32(nil), operands[which].data...)
	data[index] = bad
	operands[which].data = data
	c.operands = operands
	c.name = fmt.Sprintf("%s with %s[%d] = %v", c.name, operands[which].name, index, bad)
	return c
}
