package reference

import (
	"math"

	"loco/kernels"
)

func refDot(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

// Attention implements kernels.Device.
func (*Device) Attention(out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	kernels.CheckAttention(out, lse, qkv, s)
	o, ls, x := f64("attention", out), f64("attention", lse), f64("attention", qkv)
	for batch := range s.Batch {
		for h := range s.Heads {
			refAttentionHead(o, ls, x, s.Head(batch, h))
		}
	}
}

func refAttentionHead(out, lse, qkv []float64, w kernels.Head) {
	d := w.Shape.HeadDim
	scale := 1 / math.Sqrt(float64(d))
	scores := make([]float64, w.Shape.Seq)
	for t := range w.Shape.Seq {
		q := qkv[w.At(t, w.Q):][:d]
		highest := math.Inf(-1)
		for u := range t + 1 {
			scores[u] = refDot(q, qkv[w.At(u, w.K):][:d]) * scale
			highest = max(highest, scores[u])
		}
		sum := 0.0
		for _, score := range scores[:t+1] {
			sum += math.Exp(score - highest)
		}
		lse[w.Statistics+t] = highest + math.Log(sum)
		row := out[w.OutAt(t):][:d]
		clear(row)
		for u, score := range scores[:t+1] {
			p := math.Exp(score-highest) / sum
			for i, v := range qkv[w.At(u, w.V):][:d] {
				row[i] += p * v
			}
		}
	}
}

// AttentionBackward implements kernels.Device. With P the probabilities and
// D = Σ dout·out of a row (Dao et al., arXiv 2205.14135, Algorithm 4):
// dv = Pᵀ·dout, dS = P·(dout·vᵀ − D), dq = dS·k/√d, dk = dSᵀ·q/√d.
func (*Device) AttentionBackward(dqkv, delta, dout, out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	kernels.CheckAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
	const op = "attention backward"
	dx, dl, do := f64(op, dqkv), f64(op, delta), f64(op, dout)
	o, ls, x := f64(op, out), f64(op, lse), f64(op, qkv)
	clear(dx[:s.Rows()*s.QKVWidth()])
	for batch := range s.Batch {
		for h := range s.Heads {
			refAttentionHeadBackward(dx, dl, do, o, ls, x, s.Head(batch, h))
		}
	}
}

func refAttentionHeadBackward(dqkv, delta, dout, out, lse, qkv []float64, w kernels.Head) {
	d := w.Shape.HeadDim
	scale := 1 / math.Sqrt(float64(d))
	for t := range w.Shape.Seq {
		q, do := qkv[w.At(t, w.Q):][:d], dout[w.OutAt(t):][:d]
		dq := dqkv[w.At(t, w.Q):][:d]
		delta[w.Statistics+t] = refDot(do, out[w.OutAt(t):][:d])
		for u := range t + 1 {
			k, v := qkv[w.At(u, w.K):][:d], qkv[w.At(u, w.V):][:d]
			dk, dv := dqkv[w.At(u, w.K):][:d], dqkv[w.At(u, w.V):][:d]
			p := math.Exp(refDot(q, k)*scale - lse[w.Statistics+t])
			ds := p * (refDot(do, v) - delta[w.Statistics+t]) * scale
			for i := range d {
				dv[i] += p * do[i]
				dq[i] += ds * k[i]
				dk[i] += ds * q[i]
			}
		}
	}
}
