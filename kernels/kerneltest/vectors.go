package kerneltest

import (
	"fmt"
	"math"
	"testing"

	"loco/kernels"
)

// lengths straddle vector widths, the chunk of 4096 and a task's block.
func lengths() []int { return []int{0, 1, 7, 16, 33, 4095, 4097, 16384, 40001} }

func vectorCases() []opCase {
	var cases []opCase
	for _, n := range lengths() {
		s := from(n)
		two := []operand{{"dst", s.values(n, 1)}, {"x", s.values(n, 1)}}
		one := two[:1]
		cases = append(cases,
			opCase{fmt.Sprintf("zero %d", n), one, nil, func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) { d.Zero(b[0]) },
				func(in, _ [][]float64) [][]float64 { return [][]float64{make([]float64, n)} }},
			opCase{fmt.Sprintf("copy %d", n), two, nil, func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) { d.Copy(b[0], b[1]) },
				func(in, _ [][]float64) [][]float64 { return [][]float64{make([]float64, n), nil} }},
			opCase{fmt.Sprintf("add %d", n), two, nil, func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) { d.Add(b[0], b[1]) },
				func(_, out [][]float64) [][]float64 { return [][]float64{relative(out[0], u), nil} }},
			opCase{fmt.Sprintf("scale %d", n), one, nil, func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) { d.Scale(b[0], 0.3) },
				func(_, out [][]float64) [][]float64 { return [][]float64{relative(out[0], u)} }},
			adamWCase(n, 1), adamWCase(n, 1000))
	}
	return cases
}

func adamWConfig(step int) kernels.AdamWStep {
	return kernels.AdamWStep{
		LR: 3e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, GradScale: 0.7,
		Correction1: float32(1 - math.Pow(0.9, float64(step))), Correction2: float32(1 - math.Pow(0.95, float64(step))),
	}
}

func adamWCase(n, step int) opCase {
	s := from(n + step)
	v := s.values(n, 0.1)
	for i := range v {
		v[i] *= v[i]
	}
	config := adamWConfig(step)
	return opCase{
		name:     fmt.Sprintf("adamw %d values, step %d", n, step),
		operands: []operand{{"p", s.values(n, 1)}, {"g", s.values(n, 0.1)}, {"m", s.values(n, 0.1)}, {"v", v}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.AdamW(b[0], b[1], b[2], b[3], config)
		},
		// m: three roundings of (1−β₁)·g' and two of β₁·m; v: five and two. The update
		// adds the root's half of v's error and six operations; p is rounded twice.
		bound: func(in, out [][]float64) [][]float64 {
			p, m, v := make([]float64, n), make([]float64, n), make([]float64, n)
			for i := range n {
				g := math.Abs(in[1][i] * 0.7)
				m[i] = 1.01*u*(2*math.Abs(0.9*in[2][i])+4*0.1*g) + tiny
				v[i] = 1.01*u*(2*0.95*in[3][i]+6*0.05*g*g) + tiny
				root := math.Sqrt(out[3][i]/float64(config.Correction2)) + 1e-8
				update := 3e-4 / float64(config.Correction1) / root
				p[i] = 1.01*(update*m[i]+update*math.Abs(out[2][i])*11*u+3*u*math.Abs(in[0][i])) + tiny
			}
			return [][]float64{p, nil, m, v}
		},
	}
}

// checkSums holds Sum and SquaredNorm to their tree, which leaves them no rounding to
// choose: the results are equal, not near.
func checkSums(t *testing.T, d kernels.Device) {
	for _, n := range lengths() {
		s := from(n)
		x := s.values(n, 1)
		b, err := d.Alloc(n + 2)
		if err != nil {
			t.Fatal(err)
		}
		view := b.Slice(1, n+1)
		d.Upload(view, x)
		var sum, squares float64
		for lo := 0; lo < n; lo += 4096 {
			var lanes, laneSquares [32]float64
			for i, v := range x[lo:min(lo+4096, n)] {
				lanes[i%32] += float64(v)
				laneSquares[i%32] += float64(float64(v) * float64(v))
			}
			for half := 16; half > 0; half /= 2 {
				for l := range half {
					lanes[l] += lanes[l+half]
					laneSquares[l] += laneSquares[l+half]
				}
			}
			sum += lanes[0]
			squares += laneSquares[0]
		}
		if got := d.Sum(view); got != sum {
			t.Errorf("sum of %d values = %v, want %v", n, got, sum)
		}
		if got := d.SquaredNorm(view); got != squares {
			t.Errorf("squared norm of %d values = %v, want %v", n, got, squares)
		}
	}
}
