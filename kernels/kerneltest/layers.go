package kerneltest

import (
	"fmt"
	"math"

	"loco/kernels"
)

func layerCases(r rounding) []opCase {
	var cases []opCase
	for _, shape := range [][2]int{{1, 1}, {1, 64}, {3, 7}, {5, 130}, {64, 33}, {65, 16}, {130, 8}, {0, 4}} {
		cases = append(cases, normCase(r, shape[0], shape[1]), normBackwardCase(shape[0], shape[1]),
			swigluCase(r, shape[0], shape[1]), swigluBackwardCase(r, shape[0], shape[1], false),
			swigluBackwardCase(r, shape[0], shape[1], true))
	}
	for _, s := range []kernels.AttentionShape{
		{Batch: 1, Seq: 1, Heads: 1, KVHeads: 1, HeadDim: 2},
		{Batch: 2, Seq: 7, Heads: 4, KVHeads: 2, HeadDim: 6},
		{Batch: 2, Seq: 65, Heads: 2, KVHeads: 1, HeadDim: 16},
	} {
		cases = append(cases, ropeCase(r, s, false), ropeCase(r, s, true))
	}
	for _, shape := range [][3]int{{1, 1, 1}, {7, 5, 3}, {300, 16, 65}, {2, 256, 130}, {0, 4, 4}} {
		cases = append(cases, embeddingCase(shape[0], shape[1], shape[2]), embeddingBackwardCase(shape[0], shape[1], shape[2]))
	}
	for _, shape := range [][3]int{{0, 1, 1}, {0, 7, 5}, {3, 17, 256}, {1, 33, 130}, {5, 4, 1000}} {
		cases = append(cases, crossEntropyCase(r, shape[0], shape[1], shape[2]))
	}
	return cases
}

func normCase(r rounding, rows, width int) opCase {
	s := from(rows*1000 + width)
	const eps = 1e-5
	return r.keeps(opCase{
		name:     fmt.Sprintf("rmsnorm %dx%d", rows, width),
		operands: []operand{{"out", s.values(rows*width, 1)}, {"rstd", s.values(rows, 1)}, {"x", s.values(rows*width, 1)}, {"weight", s.values(width, 1)}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.RMSNorm(b[0], b[1], b[2], b[3], rows, width, eps)
		},
		// A sum of width squares errs by (width+1)·u, the mean and eps by 3u more; the
		// root halves that and the inverse adds 2u, the two products 2u.
		bound: func(_, out [][]float64) [][]float64 {
			share := 1.01 * u * (float64(width+4)/2 + 2)
			return [][]float64{relative(out[0], share+2.01*u), relative(out[1], share), nil, nil}
		},
	}, 0)
}

func normBackwardCase(rows, width int) opCase {
	s := from(rows*1000 + width + 1)
	rstd := s.values(rows, 0.5)
	for i := range rstd {
		rstd[i] = 1 + rstd[i]*rstd[i]
	}
	return opCase{
		name: fmt.Sprintf("rmsnorm backward %dx%d", rows, width),
		operands: []operand{
			{"dx", s.values(rows*width, 1)}, {"dweight", s.values(width, 1)}, {"dout", s.values(rows*width, 1)},
			{"x", s.values(rows*width, 1)}, {"weight", s.values(width, 1)}, {"rstd", rstd},
		},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.RMSNormBackward(b[0], b[1], b[2], b[3], b[4], b[5], rows, width)
		},
		// dx: g and x̂·mean are two and width+5 roundings off, then the difference,
		// rstd and the addition. dweight: two roundings a term, one for each of the
		// rows (and blocks) it is added to.
		bound: func(in, out [][]float64) [][]float64 {
			dx, dweight := relative(out[0], 2*u), relative(in[1], 2*u)
			for r := range rows {
				mean := 0.0
				for i := range width {
					k := r*width + i
					mean += math.Abs(in[2][k]*in[4][i]*in[3][k]*in[5][r]) / float64(width)
				}
				for i := range width {
					k := r*width + i
					g, normed := math.Abs(in[2][k]*in[4][i]), math.Abs(in[3][k]*in[5][r])
					dx[k] += 1.01 * u * in[5][r] * (5*g + float64(width+10)*normed*mean)
					dweight[i] += 1.01 * u * float64(rows+6) * math.Abs(in[2][k]) * normed
				}
			}
			return [][]float64{dx, dweight, nil, nil, nil, nil}
		},
	}
}

func ropeCase(r rounding, s kernels.AttentionShape, inverse bool) opCase {
	v := from(s.Seq)
	half := s.HeadDim / 2
	cos, sin := make([]float32, (s.Seq+2)*half), make([]float32, (s.Seq+2)*half)
	for i := range cos {
		cos[i], sin[i] = float32(math.Cos(float64(i))), float32(math.Sin(float64(i)))
	}
	return r.keeps(opCase{
		name:     fmt.Sprintf("%s inverse=%v", attentionName("rope", s), inverse),
		operands: []operand{{"qkv", v.values(s.Rows()*s.QKVWidth(), 1)}, {"cos", cos}, {"sin", sin}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.RoPE(b[0], b[1], b[2], s, inverse)
		},
		// Two products and a sum: 2u·(|a·cos| + |b·sin|), where |cos| and |sin| are at
		// most 1. The values' columns do not change at all.
		bound: func(in, _ [][]float64) [][]float64 {
			bound := make([]float64, len(in[0]))
			for i := range bound {
				column := i % s.QKVWidth()
				if column >= (s.Heads+s.KVHeads)*s.HeadDim {
					continue
				}
				pair := i + half
				if column%s.HeadDim >= half {
					pair = i - half
				}
				bound[i] = 2.01 * u * (math.Abs(in[0][i]) + math.Abs(in[0][pair]))
			}
			return [][]float64{bound, nil, nil}
		},
	}, 0)
}

// swigluShare is the error of SwiGLU in units of u.
const swigluShare = 7.1

func swigluCase(r rounding, rows, width int) opCase {
	s := from(rows*1000 + width + 2)
	return r.keeps(opCase{
		name:     fmt.Sprintf("swiglu %dx%d", rows, width),
		operands: []operand{{"out", s.values(rows*width, 1)}, {"gateUp", s.values(2*rows*width, 4)}},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.SwiGLU(b[0], b[1], rows, width)
		},
		// exp is 3u off, the sum and the quotient add 2u, the products 2u.
		bound: func(_, out [][]float64) [][]float64 {
			return [][]float64{relative(out[0], swigluShare*u), nil}
		},
	}, 0)
}

func swigluBackwardCase(r rounding, rows, width int, inPlace bool) opCase {
	s := from(rows*1000 + width + 3)
	gateUp := operand{"gateUp", s.values(2*rows*width, 4)}
	operands := []operand{{"dout", s.values(rows*width, 1)}, gateUp}
	if !inPlace {
		operands = append(operands, operand{"dgateUp", s.values(2*rows*width, 1)})
	}
	return r.keeps(opCase{
		name:     fmt.Sprintf("swiglu backward %dx%d inPlace=%v", rows, width, inPlace),
		operands: operands,
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.SwiGLUBackward(b[len(b)-1], b[0], b[1], rows, width)
		},
		// σ is 5u off; 1−σ errs by 6u absolutely, which gate multiplies; four products.
		bound: func(in, out [][]float64) [][]float64 {
			bound := relative(out[len(out)-1], 8*u)
			for r := range rows {
				for i := range width {
					gate, up := in[1][2*r*width+i], in[1][(2*r+1)*width+i]
					sigma := 1 / (1 + math.Exp(-gate))
					bound[2*r*width+i] += 1.01 * math.Abs(in[0][r*width+i]*up) * sigma * (1 + math.Abs(gate)) * 12 * u
				}
			}
			if inPlace {
				return [][]float64{nil, bound}
			}
			return [][]float64{nil, nil, bound}
		},
	}, len(operands)-1)
}

func embeddingCase(tokens, vocab, width int) opCase {
	s := from(tokens*1000 + width)
	return opCase{
		name:     fmt.Sprintf("embedding %d of %dx%d", tokens, vocab, width),
		operands: []operand{{"out", s.values(tokens*width, 1)}, {"table", s.values(vocab*width, 1)}},
		tokens:   [][]int32{s.ids(tokens, vocab)},
		run: func(d kernels.Device, b []kernels.Buffer, k []kernels.Tokens) {
			d.Embedding(b[0], b[1], k[0], vocab, width)
		},
		bound: func(in, _ [][]float64) [][]float64 { // a copy
			return [][]float64{make([]float64, len(in[0])), nil}
		},
	}
}

func embeddingBackwardCase(tokens, vocab, width int) opCase {
	s := from(tokens*1000 + width + 1)
	ids := s.ids(tokens, vocab)
	return opCase{
		name:     fmt.Sprintf("embedding backward %d of %dx%d", tokens, vocab, width),
		operands: []operand{{"dtable", s.values(vocab*width, 1)}, {"dout", s.values(tokens*width, 1)}},
		tokens:   [][]int32{ids},
		run: func(d kernels.Device, b []kernels.Buffer, k []kernels.Tokens) {
			d.EmbeddingBackward(b[0], b[1], k[0], vocab, width)
		},
		// One rounding for each time the token occurs.
		bound: func(in, _ [][]float64) [][]float64 {
			size, count := magnitude(in[0]), make([]float64, vocab)
			for r, id := range ids {
				count[id]++
				for i := range width {
					size[int(id)*width+i] += math.Abs(in[1][r*width+i])
				}
			}
			for i := range size {
				size[i] *= 1.01 * u * count[i/width]
			}
			return [][]float64{size, nil}
		},
	}
}

func crossEntropyCase(r rounding, first, rows, vocab int) opCase {
	s := from(rows*1000 + vocab)
	const scale = 0.37
	targets := s.ids(first+rows+2, vocab)
	targets[first] = -1
	if rows > 6 {
		targets[first+5] = -100
	}
	return r.keeps(opCase{
		name:     fmt.Sprintf("cross-entropy %d rows of %d from %d", rows, vocab, first),
		operands: []operand{{"losses", s.values(first+rows+2, 1)}, {"logits", s.values(rows*vocab, 3)}},
		tokens:   [][]int32{targets},
		run: func(d kernels.Device, b []kernels.Buffer, k []kernels.Tokens) {
			d.CrossEntropy(b[0], b[1], k[0], first, rows, vocab, scale)
		},
		// With x = logit − max, rounded to u·|x|, exp is |x|u + 3u off; the sum adds
		// vocab·u and the quotient, scale and difference 4u. Values outside
		// losses[first:first+rows] do not change.
		bound: func(in, out [][]float64) [][]float64 {
			losses, logits := make([]float64, len(in[0])), make([]float64, len(in[1]))
			for r := range rows {
				row := in[1][r*vocab:][:vocab]
				if targets[first+r] < 0 {
					continue
				}
				lowest, highest := math.Inf(1), math.Inf(-1)
				for _, v := range row {
					highest = max(highest, v)
					if !math.IsInf(v, -1) { // else it is 0 without any rounding
						lowest = min(lowest, v)
					}
				}
				spread := highest - lowest
				rel := 1.01 * u * (2*spread + float64(vocab) + 12)
				losses[first+r] = rel + 2*u*math.Abs(out[0][first+r])
				for i := range row {
					k := r*vocab + i
					onehot := 0.0
					if int(targets[first+r]) == i {
						onehot = scale
					}
					logits[k] = (math.Abs(out[1][k])+onehot)*rel + 2*u*onehot + tiny
				}
			}
			return [][]float64{losses, logits}
		},
	}, 1)
}
