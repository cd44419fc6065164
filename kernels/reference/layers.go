package reference

import (
	"math"

	"loco/kernels"
)

// MatMul implements kernels.Device.
func (*Device) MatMul(c, a, b kernels.Buffer, m, n, k int, transA, transB, accumulate bool) {
	kernels.CheckMatMul(c, a, b, m, n, k)
	cc, aa, bb := f64("matmul", c), f64("matmul", a), f64("matmul", b)
	aRow, aCol := k, 1 // strides of op(a)
	if transA {
		aRow, aCol = 1, m
	}
	bRow, bCol := n, 1 // strides of op(b)
	if transB {
		bRow, bCol = 1, k
	}
	for i := range m {
		for j := range n {
			sum := 0.0
			for p := range k {
				sum += aa[i*aRow+p*aCol] * bb[p*bRow+j*bCol]
			}
			if accumulate {
				sum += cc[i*n+j]
			}
			cc[i*n+j] = sum
		}
	}
}

// RMSNorm implements kernels.Device.
func (*Device) RMSNorm(out, rstd, x, weight kernels.Buffer, rows, width int, eps float32) {
	kernels.CheckRMSNorm(out, rstd, x, weight, rows, width)
	o, rs, xx, w := f64("rmsnorm", out), f64("rmsnorm", rstd), f64("rmsnorm", x), f64("rmsnorm", weight)
	for r := range rows {
		row := xx[r*width : (r+1)*width]
		sum := 0.0
		for _, v := range row {
			sum += v * v
		}
		rs[r] = 1 / math.Sqrt(sum/float64(width)+float64(eps))
		for i, v := range row {
			o[r*width+i] = v * rs[r] * w[i]
		}
	}
}

// RMSNormBackward implements kernels.Device. With x̂ = x·rstd and g = dout·weight:
// dweight += Σ_rows dout·x̂, and dx += rstd·(g − x̂·mean(g·x̂)).
func (*Device) RMSNormBackward(dx, dweight, dout, x, weight, rstd kernels.Buffer, rows, width int) {
	kernels.CheckRMSNormBackward(dx, dweight, dout, x, weight, rstd, rows, width)
	const op = "rmsnorm backward"
	dxx, dw, do := f64(op, dx), f64(op, dweight), f64(op, dout)
	xx, w, rs := f64(op, x), f64(op, weight), f64(op, rstd)
	for r := range rows {
		dot := 0.0
		for i := r * width; i < (r+1)*width; i++ {
			dot += do[i] * w[i-r*width] * xx[i] * rs[r]
		}
		mean := dot / float64(width)
		for i := r * width; i < (r+1)*width; i++ {
			normed := xx[i] * rs[r]
			dxx[i] += rs[r] * (do[i]*w[i-r*width] - normed*mean)
			dw[i-r*width] += do[i] * normed
		}
	}
}

// RoPE implements kernels.Device.
func (*Device) RoPE(qkv, cos, sin kernels.Buffer, s kernels.AttentionShape, inverse bool) {
	kernels.CheckRoPE(qkv, cos, sin, s)
	v, cc, ss := f64("rope", qkv), f64("rope", cos), f64("rope", sin)
	half := s.HeadDim / 2
	sign := 1.0
	if inverse {
		sign = -1
	}
	for r := range s.Rows() {
		t := r % s.Seq
		for h := range s.Heads + s.KVHeads {
			head := v[r*s.QKVWidth()+h*s.HeadDim:]
			for i := range half {
				c, sn := cc[t*half+i], sign*ss[t*half+i]
				lo, hi := head[i], head[i+half]
				head[i] = lo*c - hi*sn
				head[i+half] = hi*c + lo*sn
			}
		}
	}
}

// SwiGLU implements kernels.Device.
func (*Device) SwiGLU(out, gateUp kernels.Buffer, rows, width int) {
	kernels.CheckSwiGLU(out, gateUp, rows, width)
	o, gu := f64("swiglu", out), f64("swiglu", gateUp)
	for r := range rows {
		for i := range width {
			gate, up := gu[2*r*width+i], gu[(2*r+1)*width+i]
			o[r*width+i] = gate / (1 + math.Exp(-gate)) * up
		}
	}
}

// SwiGLUBackward implements kernels.Device. With σ = 1/(1+e^−gate):
// dgate = dout·up·σ·(1 + gate·(1−σ)), dup = dout·gate·σ.
func (*Device) SwiGLUBackward(dgateUp, dout, gateUp kernels.Buffer, rows, width int) {
	kernels.CheckSwiGLUBackward(dgateUp, dout, gateUp, rows, width)
	const op = "swiglu backward"
	dgu, do, gu := f64(op, dgateUp), f64(op, dout), f64(op, gateUp)
	for r := range rows {
		for i := range width {
			g, u := 2*r*width+i, (2*r+1)*width+i
			gate, up, d := gu[g], gu[u], do[r*width+i]
			sigma := 1 / (1 + math.Exp(-gate))
			dgu[g] = d * up * sigma * (1 + gate*(1-sigma))
			dgu[u] = d * gate * sigma
		}
	}
}

// Embedding implements kernels.Device.
func (*Device) Embedding(out, table kernels.Buffer, tokens kernels.Tokens, vocab, width int) {
	ids := refIDs("embedding", tokens)
	kernels.CheckEmbedding("embedding", out, table, ids, vocab, width)
	o, t := f64("embedding", out), f64("embedding", table)
	for r, id := range ids {
		copy(o[r*width:(r+1)*width], t[int(id)*width:])
	}
}

// EmbeddingBackward implements kernels.Device.
func (*Device) EmbeddingBackward(dtable, dout kernels.Buffer, tokens kernels.Tokens, vocab, width int) {
	const op = "embedding backward"
	ids := refIDs(op, tokens)
	kernels.CheckEmbedding(op, dout, dtable, ids, vocab, width)
	dt, do := f64(op, dtable), f64(op, dout)
	for r, id := range ids {
		for i := range width {
			dt[int(id)*width+i] += do[r*width+i]
		}
	}
}

// CrossEntropy implements kernels.Device.
func (*Device) CrossEntropy(losses, logits kernels.Buffer, targets kernels.Tokens, first, rows, vocab int, scale float32) {
	const op = "cross-entropy"
	ids := refIDs(op, targets)
	kernels.CheckCrossEntropy(losses, logits, ids, first, rows, vocab)
	ls, lg := f64(op, losses), f64(op, logits)
	for r := range rows {
		row, target := lg[r*vocab:(r+1)*vocab], ids[first+r]
		if target < 0 {
			clear(row)
			ls[first+r] = 0
			continue
		}
		highest := math.Inf(-1)
		for _, v := range row {
			highest = max(highest, v)
		}
		sum := 0.0
		for _, v := range row {
			sum += math.Exp(v - highest)
		}
		ls[first+r] = math.Log(sum) - (row[target] - highest)
		for i, v := range row {
			row[i] = float64(scale) * math.Exp(v-highest) / sum
		}
		row[target] -= float64(scale)
	}
}
