package kernels

import "math"

// headViews gives the rows of one query head and of the key-value head it reads.
type headViews struct {
	s          AttentionShape
	base       int // first row of the batch item, in values
	q, k, v    int // column of the head in a row
	out        int // first row and column of the head in an output
	statistics int // first of the head's Seq values in (B, Heads, T)
}

func (s AttentionShape) head(batch, h int) headViews {
	kv := h * s.KVHeads / s.Heads
	return headViews{
		s:          s,
		base:       batch * s.Seq * s.QKVWidth(),
		q:          h * s.HeadDim,
		k:          (s.Heads + kv) * s.HeadDim,
		v:          (s.Heads + s.KVHeads + kv) * s.HeadDim,
		out:        batch*s.Seq*s.OutWidth() + h*s.HeadDim,
		statistics: (batch*s.Heads + h) * s.Seq,
	}
}

// at is the index in qkv of row t of the column that begins at col.
func (w headViews) at(t, col int) int { return w.base + t*w.s.QKVWidth() + col }

// outAt is the index in out of row t.
func (w headViews) outAt(t int) int { return w.out + t*w.s.OutWidth() }

func refDot(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

// Attention implements Device.
func (*Reference) Attention(out, lse, qkv Buffer, s AttentionShape) {
	checkAttention(out, lse, qkv, s)
	o, ls, x := f64("attention", out), f64("attention", lse), f64("attention", qkv)
	for batch := range s.Batch {
		for h := range s.Heads {
			refAttentionHead(o, ls, x, s.head(batch, h))
		}
	}
}

func refAttentionHead(out, lse, qkv []float64, w headViews) {
	d := w.s.HeadDim
	scale := 1 / math.Sqrt(float64(d))
	scores := make([]float64, w.s.Seq)
	for t := range w.s.Seq {
		q := qkv[w.at(t, w.q):][:d]
		highest := math.Inf(-1)
		for u := range t + 1 {
			scores[u] = refDot(q, qkv[w.at(u, w.k):][:d]) * scale
			highest = max(highest, scores[u])
		}
		sum := 0.0
		for _, score := range scores[:t+1] {
			sum += math.Exp(score - highest)
		}
		lse[w.statistics+t] = highest + math.Log(sum)
		row := out[w.outAt(t):][:d]
		clear(row)
		for u, score := range scores[:t+1] {
			p := math.Exp(score-highest) / sum
			for i, v := range qkv[w.at(u, w.v):][:d] {
				row[i] += p * v
			}
		}
	}
}

// AttentionBackward implements Device. With P the probabilities and
// D = Σ dout·out of a row (Dao et al., arXiv 2205.14135, Algorithm 4):
// dv = Pᵀ·dout, dS = P·(dout·vᵀ − D), dq = dS·k/√d, dk = dSᵀ·q/√d.
func (*Reference) AttentionBackward(dqkv, delta, dout, out, lse, qkv Buffer, s AttentionShape) {
	checkAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
	const op = "attention backward"
	dx, dl, do := f64(op, dqkv), f64(op, delta), f64(op, dout)
	o, ls, x := f64(op, out), f64(op, lse), f64(op, qkv)
	clear(dx[:s.Rows()*s.QKVWidth()])
	for batch := range s.Batch {
		for h := range s.Heads {
			refAttentionHeadBackward(dx, dl, do, o, ls, x, s.head(batch, h))
		}
	}
}

func refAttentionHeadBackward(dqkv, delta, dout, out, lse, qkv []float64, w headViews) {
	d := w.s.HeadDim
	scale := 1 / math.Sqrt(float64(d))
	for t := range w.s.Seq {
		q, do := qkv[w.at(t, w.q):][:d], dout[w.outAt(t):][:d]
		dq := dqkv[w.at(t, w.q):][:d]
		delta[w.statistics+t] = refDot(do, out[w.outAt(t):][:d])
		for u := range t + 1 {
			k, v := qkv[w.at(u, w.k):][:d], qkv[w.at(u, w.v):][:d]
			dk, dv := dqkv[w.at(u, w.k):][:d], dqkv[w.at(u, w.v):][:d]
			p := math.Exp(refDot(q, k)*scale - lse[w.statistics+t])
			ds := p * (refDot(do, v) - delta[w.statistics+t]) * scale
			for i := range d {
				dv[i] += p * do[i]
				dq[i] += ds * k[i]
				dk[i] += ds * q[i]
			}
		}
	}
}
