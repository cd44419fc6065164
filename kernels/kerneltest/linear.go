package kerneltest

import (
	"fmt"
	"math"

	"loco/kernels"
)

func linearCases(r rounding) []opCase {
	var cases []opCase
	for _, shape := range [][3]int{ // rows, outputs, inputs
		{1, 1, 1}, {1, 2, 3}, {3, 5, 2}, {7, 8, 9}, {16, 16, 16}, {33, 34, 65}, {2, 64, 31}, {64, 130, 33}, {130, 6, 129}, {37, 70, 300}, {0, 4, 4},
	} {
		rows, out, in := shape[0], shape[1], shape[2]
		cases = append(cases, linearCase(r, rows, out, in, false), linearCase(r, rows, out, in, true), projectCase(r, rows, out, in),
			linearBackwardCase(r, rows, out, in), updateWeightCase(r, rows, out, in))
		if out%2 == 0 {
			cases = append(cases, linearSwiGLUCase(r, rows, out/2, in))
		}
	}
	return cases
}

// weightOf makes the weight of a case. Memory that is not there would be a device's bug.
func weightOf(d kernels.Device, params kernels.Buffer, out, in int) kernels.Weight {
	w, err := d.NewWeight(params, out, in, true)
	if err != nil {
		panic(err)
	}
	return w
}

// products returns Σ|x·w| for each output of x (rows, in) times Wᵀ (in, out).
func products(x, w []float64, rows, out, in int) []float64 {
	sums := make([]float64, rows*out)
	for i := range rows {
		for o := range out {
			for p := range in {
				sums[i*out+o] += math.Abs(x[i*in+p] * w[o*in+p])
			}
		}
	}
	return sums
}

func linearCase(r rounding, rows, out, in int, residual bool) opCase {
	s := from(uint64(rows)<<40 + uint64(out)<<20 + uint64(in) + 1)
	return opCase{
		name:     fmt.Sprintf("linear %d rows %d to %d residual=%v", rows, in, out, residual),
		operands: []operand{{"y", s.values(rows*out, 1)}, {"x", s.values(rows*in, 1)}, {"w", s.values(out*in, 1)}, {"residual", s.values(rows*out, 1)}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			var add kernels.Buffer
			if residual {
				add = b[3]
			}
			d.Linear(b[0], b[1], weightOf(d, b[2], out, in), add, rows)
		},
		bound: func(before, _ [][]float64) [][]float64 {
			bound := products(before[1], before[2], rows, out, in)
			for i, sum := range bound {
				first := 0.0
				if residual {
					first = math.Abs(before[3][i])
				}
				bound[i] = r.product(in, sum, first)
			}
			return [][]float64{bound, nil, nil, nil}
		},
	}
}

func projectCase(r rounding, rows, out, in int) opCase {
	c := linearCase(r, rows, out, in, false)
	c.name = fmt.Sprintf("project %d rows %d to %d", rows, in, out)
	c.run = func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
		d.Project(b[0], b[1], weightOf(d, b[2], out, in), rows)
	}
	return r.keeps(c, 0)
}

func linearSwiGLUCase(r rounding, rows, width, in int) opCase {
	s := from(uint64(rows)<<40 + uint64(width)<<20 + uint64(in) + 2)
	out := 2 * width
	return r.keeps(opCase{
		name:     fmt.Sprintf("linear swiglu %d rows %d to %d", rows, in, width),
		operands: []operand{{"out", s.values(rows*width, 1)}, {"gateUp", s.values(rows*out, 1)}, {"x", s.values(rows*in, 1)}, {"w", s.values(out*in, 0.3)}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.LinearSwiGLU(b[0], b[1], b[2], weightOf(d, b[3], out, in), rows)
		},
		// The slope of silu is at most 1.1, so an error e of the gate and f of up put
		// silu(gate)·up off by 1.1·e·(|up| + f) + |silu(gate)|·f, beside what SwiGLU's own
		// roundings do: see swigluCase, for values as far off.
		bound: func(before, after [][]float64) [][]float64 {
			both := products(before[2], before[3], rows, out, in)
			for i, sum := range both {
				both[i] = r.product(in, sum, 0)
				both[i] += r.kept * (math.Abs(after[1][i]) + both[i])
			}
			result := make([]float64, rows*width)
			for i := range result {
				at := i/width*out + i%width
				gate, up, e, f := after[1][at], after[1][at+width], both[at], both[at+width]
				silu := math.Abs(gate) / (1 + math.Exp(-gate))
				result[i] = 1.1*e*(math.Abs(up)+f) + silu*f + swigluShare*u*(silu+1.1*e)*(math.Abs(up)+f) + tiny
			}
			return [][]float64{result, both, nil, nil}
		},
	}, 0)
}

func linearBackwardCase(r rounding, rows, out, in int) opCase {
	s := from(uint64(rows)<<40 + uint64(out)<<20 + uint64(in) + 3)
	return r.keeps(opCase{
		name:     fmt.Sprintf("linear backward %d rows %d to %d", rows, out, in),
		operands: []operand{{"dx", s.values(rows*in, 1)}, {"dy", s.values(rows*out, 1)}, {"w", s.values(out*in, 1)}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.LinearBackward(b[0], b[1], weightOf(d, b[2], out, in), rows)
		},
		bound: func(before, _ [][]float64) [][]float64 {
			bound := make([]float64, rows*in)
			for i := range rows {
				for p := range in {
					sum := 0.0
					for o := range out {
						sum += math.Abs(before[1][i*out+o] * before[2][o*in+p])
					}
					bound[i*in+p] = r.product(out, sum, 0)
				}
			}
			return [][]float64{bound, nil, nil}
		},
	}, 0)
}

// updateWeightCase updates a weight that was used before, and uses it after: forward,
// backward, and after the parameters were replaced by other means. What it has must
// always be the parameters'.
func updateWeightCase(r rounding, rows, out, in int) opCase {
	n := out * in
	c := adamWCase(n, 3)
	forward, backward := linearCase(r, rows, out, in, false), linearBackwardCase(rounding{operands: r.operands}, rows, out, in)
	x, dy := forward.operands[1], backward.operands[1]
	again := linearCase(r, rows, out, in, true).operands[2].data
	step := adamWConfig(3)
	operands := append(append([]operand(nil), c.operands...),
		operand{"y", make([]float32, rows*out)}, x, operand{"dx", make([]float32, rows*in)}, dy, operand{"replaced", again}, operand{"y of replaced", make([]float32, rows*out)})
	return r.keeps(opCase{
		name:     fmt.Sprintf("update weight %d rows %d to %d", rows, in, out),
		operands: operands,
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			w := weightOf(d, b[0], out, in)
			d.Linear(b[4], b[5], w, nil, rows) // packs it
			d.UpdateWeight(w, b[1], b[2], b[3], step)
			d.Linear(b[4], b[5], w, nil, rows)
			d.LinearBackward(b[6], b[7], w, rows)
			other := weightOf(d, b[8], out, in)
			d.Linear(b[9], b[5], other, nil, rows)
			d.Scale(b[8], 0.5)
			d.Linear(b[9], b[5], other, nil, rows)
		},
		// The products' bounds hold for the updated parameters, which are off by their own.
		bound: func(before, after [][]float64) [][]float64 {
			bounds := c.bound(before[:4], after[:4])
			off := bounds[0]
			with := func(p []float64, sign float64) []float64 {
				q := make([]float64, n)
				for i := range q {
					q[i] = math.Abs(p[i]) + sign*off[i]
				}
				return q
			}
			wide := with(after[0], 1)
			y := forward.bound([][]float64{nil, before[5], wide, nil}, nil)[0]
			for i, e := range products(before[5], off, rows, out, in) {
				y[i] += e
			}
			dx := backward.bound([][]float64{nil, before[7], wide}, nil)[0]
			for i := range rows {
				for p := range in {
					for o := range out {
						dx[i*in+p] += math.Abs(before[7][i*out+o]) * off[o*in+p]
					}
				}
			}
			replaced := forward.bound([][]float64{nil, before[5], after[8], nil}, nil)[0]
			return append(bounds, y, nil, dx, nil, relative(after[8], u), replaced)
		},
	}, 6)
}
