package cpu

import "loco/kernels"

// AttentionBackward implements kernels.Device. It computes what [Reference.AttentionBackward]
// states. Each gradient is one chain: a query's over the keys, a key's and a value's
// over the query heads that read them and then the rows, in ascending order.
func (d *Device) AttentionBackward(dqkv, delta, dout, out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	kernels.CheckAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
	const op = "attention backward"
	j := &d.attention
	j.backward = true
	j.dqkv, j.delta, j.dout = d.written(op, dqkv), d.written(op, delta), f32(op, dout)
	j.out, j.lse, j.qkv = f32(op, out), f32(op, lse), f32(op, qkv)
	d.runAttention(s)
}

// panelBackward computes dq of count rows of one head and adds what they give to dk
// and dv.
func (j *attentionJob) panelBackward(w *attentionScratch, head kernels.Head, row, count int) {
	d, stride, outStride := j.s.HeadDim, j.s.QKVWidth(), j.s.OutWidth()
	queries, dout := j.qkv[head.At(row, head.Q):], j.dout[head.OutAt(row):]
	j.products(w.scores, w.width, queries, stride, w.keys, row, count)
	j.products(w.grads, w.width, dout, outStride, w.values, row, count)
	out, lse, delta := j.out[head.OutAt(row):], j.lse[head.Statistics+row:][:count], j.delta[head.Statistics+row:][:count]
	for r := range count {
		delta[r] = j.dot(dout[r*outStride:][:d], out[r*outStride:][:d])
		seen := row + r + 1
		j.scoreGrad(w.scores[r*w.width:][:seen], w.grads[r*w.width:][:seen], j.factor, lse[r], delta[r])
	}
	j.combine(j.dqkv[head.At(row, head.Q):], stride, w.grads, w.width, j.qkv[head.At(0, head.K):], row, count)
	j.scatter(j.dqkv[head.At(0, head.V):], w.scores, w.width, dout, outStride, row, count)
	j.scatter(j.dqkv[head.At(0, head.K):], w.grads, w.width, queries, stride, row, count)
}

// scatter adds weightsᵀ·x to the rows (T, D) of a head in dqkv: x is count rows, xRow
// apart, and row r of weights, width apart, ends at row+r.
func (j *attentionJob) scatter(dst, weights []float32, width int, x []float32, xRow, row, count int) {
	d, stride := j.s.HeadDim, j.s.QKVWidth()
	sums := product{
		c: dst, cRow: stride,
		a: weights, aRow: 1, aCol: width,
		b: x, bRow: xRow,
		m: row, n: d, k: count, mode: productChain,
	}
	j.product(&sums, nil)
	for r := 0; r < count; r += j.rows {
		rows := min(j.rows, count-r)
		j.diagonal(dst[(row+r)*stride:], stride, weights[r*width+row+r:], width, x[r*xRow:], xRow, rows, d, true)
		if rest := r + rows; rest < count {
			sums.c, sums.a, sums.b = dst[(row+r)*stride:], weights[rest*width+row+r:], x[rest*xRow:]
			sums.m, sums.k = rows, count-rest
			j.product(&sums, nil)
		}
	}
}
