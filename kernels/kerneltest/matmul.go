package kerneltest

import (
	"fmt"
	"math"

	"loco/kernels"
)

func matMulCases(r rounding) []opCase {
	var cases []opCase
	shapes := [][3]int{
		{1, 1, 1}, {1, 2, 3}, {2, 1, 7}, {3, 5, 2}, {4, 4, 4}, {5, 3, 1}, {7, 9, 11},
		{16, 16, 16}, {33, 17, 65}, {64, 48, 32}, {65, 130, 31}, {1, 256, 64}, {130, 2, 129},
		{5, 7, 0}, {0, 3, 4}, {3, 0, 4},
	}
	for _, shape := range shapes {
		for form := range 8 {
			cases = append(cases, matMulCase(r, shape[0], shape[1], shape[2], form&1 != 0, form&2 != 0, form&4 != 0))
		}
	}
	return cases
}

func matMulCase(r rounding, m, n, k int, transA, transB, accumulate bool) opCase {
	s := from(uint64(m)<<40 + uint64(n)<<20 + uint64(k))
	return opCase{
		name:     fmt.Sprintf("matmul %dx%dx%d transA=%v transB=%v accumulate=%v", m, n, k, transA, transB, accumulate),
		operands: []operand{{"c", s.values(m*n, 1)}, {"a", s.values(m*k, 1)}, {"b", s.values(k*n, 1)}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.MatMul(b[0], b[1], b[2], m, n, k, transA, transB, accumulate)
		},
		bound: func(in, _ [][]float64) [][]float64 {
			bound := make([]float64, m*n)
			first := func(i int) float64 {
				if accumulate {
					return math.Abs(in[0][i])
				}
				return 0
			}
			for i := range m {
				for j := range n {
					sum := 0.0
					for p := range k {
						ia, ib := i*k+p, p*n+j
						if transA {
							ia = p*m + i
						}
						if transB {
							ib = j*k + p
						}
						sum += math.Abs(in[1][ia] * in[2][ib])
					}
					bound[i*n+j] = r.product(k, sum, first(i*n+j))
				}
			}
			return [][]float64{bound, nil, nil}
		},
	}
}
