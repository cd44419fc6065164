package kernels

// AttentionBackward implements Device. It computes what [Reference.AttentionBackward]
// states; the gradients of keys and values add query heads and then rows in ascending
// order.
func (d *CPU) AttentionBackward(dqkv, delta, dout, out, lse, qkv Buffer, s AttentionShape) {
	checkAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
	const op = "attention backward"
	j := &d.attention
	j.backward = true
	j.dqkv, j.delta, j.dout = f32(op, dqkv), f32(op, delta), f32(op, dout)
	j.out, j.lse, j.qkv = f32(op, out), f32(op, lse), f32(op, qkv)
	d.runAttention(s)
}

// panelBackward computes dq of up to tileRows rows of one head and adds what they
// give to dk and dv.
func (j *attentionJob) panelBackward(w *attentionScratch, head headViews, row int) {
	d, count := j.s.HeadDim, min(tileRows, j.s.Seq-row)
	packA(w.queries, j.qkv[head.at(row, head.q):], count, d, j.s.QKVWidth(), 1)
	w.products(w.scores, w.queries, w.keys, row+count, j.scale)
	packA(w.queries, j.dout[head.outAt(row):], count, d, j.s.OutWidth(), 1)
	w.products(w.grads, w.queries, w.values, row+count, 1)
	for r := range count {
		t := row + r
		delta := dotLanes(j.dout[head.outAt(t):][:d], j.out[head.outAt(t):][:d])
		j.delta[head.statistics+t] = delta
		p := w.scores[r*w.width:][:t+1]
		expOf(p, p, j.lse[head.statistics+t])
		ds := w.grads[r*w.width:][:len(p)]
		for u, v := range p {
			ds[u] = float32(v*(ds[u]-delta)) * j.scale
		}
	}
	w.combine(j.dqkv[head.at(row, head.q):], w.grads, w.rows, j.qkv[head.at(row, head.k):], head.s, j.s.QKVWidth(), row, count)
	j.scatter(head.at(0, head.v), w.scores, w.width, j.dout[head.outAt(row):], j.s.OutWidth(), row, count)
	j.scatter(head.at(0, head.k), w.grads, w.width, j.qkv[head.at(row, head.q):], j.s.QKVWidth(), row, count)
}

// scatter adds weightsᵀ·x to the rows (T, D) of dqkv that begin at base: x is count
// rows, stride apart, and row r of weights, width apart, ends at row+r.
func (j *attentionJob) scatter(base int, weights []float32, width int, x []float32, stride, row, count int) {
	d, step := j.s.HeadDim, j.s.QKVWidth()
	whole := 0
	if count == tileRows {
		whole = row
		x0, x1 := x[:d], x[stride:][:d]
		x2, x3 := x[2*stride:][:d], x[3*stride:][:d]
		w0, w1 := weights[:row], weights[width:][:row]
		w2, w3 := weights[2*width:][:row], weights[3*width:][:row]
		for u := range w0 {
			addFour(j.dqkv[base+u*step:][:d], w0[u], w1[u], w2[u], w3[u], x0, x1, x2, x3)
		}
	}
	for u := whole; u < row+count; u++ {
		dst := j.dqkv[base+u*step:][:d]
		for r := max(0, u-row); r < count; r++ {
			factor := weights[r*width+u]
			for i, v := range x[r*stride:][:len(dst)] {
				dst[i] += float32(factor * v)
			}
		}
	}
}

// addFour adds a·x0, then b·x1, c·x2 and e·x3 to dst.
func addFour(dst []float32, a, b, c, e float32, x0, x1, x2, x3 []float32) {
	x0, x1, x2, x3 = x0[:len(dst)], x1[:len(dst)], x2[:len(dst)], x3[:len(dst)]
	for i, v := range dst {
		v += float32(a * x0[i])
		v += float32(b * x1[i])
		v += float32(c * x2[i])
		v += float32(e * x3[i])
		dst[i] = v
	}
}
