package kerneltest

import (
	"fmt"
	"math"

	"loco/kernels"
	"loco/kernels/reference"
)

func attentionCases(r rounding) []opCase {
	var cases []opCase
	shapes := []kernels.AttentionShape{
		{Batch: 1, Seq: 1, Heads: 1, KVHeads: 1, HeadDim: 1},
		{Batch: 2, Seq: 7, Heads: 2, KVHeads: 2, HeadDim: 5},
		{Batch: 1, Seq: 7, Heads: 4, KVHeads: 2, HeadDim: 16},
		{Batch: 2, Seq: 64, Heads: 4, KVHeads: 1, HeadDim: 8},
		{Batch: 1, Seq: 130, Heads: 2, KVHeads: 1, HeadDim: 32},
		{Batch: 1, Seq: 5, Heads: 3, KVHeads: 3, HeadDim: 2},
		{Batch: 0, Seq: 3, Heads: 1, KVHeads: 1, HeadDim: 4},
	}
	for _, s := range shapes {
		cases = append(cases, attentionCase(r, s), attentionBackwardCase(r, s))
	}
	return cases
}

func attentionName(op string, s kernels.AttentionShape) string {
	return fmt.Sprintf("%s B=%d T=%d H=%d KV=%d D=%d", op, s.Batch, s.Seq, s.Heads, s.KVHeads, s.HeadDim)
}

func attentionCase(r rounding, s kernels.AttentionShape) opCase {
	v := from(s.Seq*100 + s.HeadDim)
	return r.keeps(opCase{
		name: attentionName("attention", s),
		operands: []operand{
			{"out", v.values(s.Rows()*s.OutWidth(), 1)},
			{"lse", v.values(s.Rows()*s.Heads, 1)},
			{"qkv", v.values(s.Rows()*s.QKVWidth(), 1)},
		},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.Attention(b[0], b[1], b[2], s)
		},
		bound: func(in, out [][]float64) [][]float64 {
			b := newAttentionBound(r, s, in[2])
			return [][]float64{b.out(), b.lse(out[1]), nil}
		},
	}, 0)
}

// attentionBackwardCase takes out and lse from the reference, rounded to float32, as
// a training step would.
func attentionBackwardCase(r rounding, s kernels.AttentionShape) opCase {
	v := from(s.Seq*100 + s.HeadDim + 1)
	qkv := v.values(s.Rows()*s.QKVWidth(), 1)
	out, lse := referenceAttention(s, qkv)
	return r.keeps(opCase{
		name: attentionName("attention backward", s),
		operands: []operand{
			{"dqkv", v.values(len(qkv), 1)},
			{"delta", v.values(len(lse), 1)},
			{"dout", v.values(len(out), 1)},
			{"out", out}, {"lse", lse}, {"qkv", qkv},
		},
		run: func(d kernels.Device, b []kernels.Buffer, _ []kernels.Tokens) {
			d.AttentionBackward(b[0], b[1], b[2], b[3], b[4], b[5], s)
		},
		bound: func(in, _ [][]float64) [][]float64 {
			b := newAttentionBound(r, s, in[5])
			dqkv, delta := b.backward(in[2], in[3], in[4])
			return [][]float64{dqkv, delta, nil, nil, nil, nil}
		},
	}, 0)
}

func referenceAttention(s kernels.AttentionShape, qkv []float32) (out, lse []float32) {
	ref := reference.New()
	out, lse = make([]float32, s.Rows()*s.OutWidth()), make([]float32, s.Rows()*s.Heads)
	buffers := make([]kernels.Buffer, 3)
	for i, n := range []int{len(out), len(lse), len(qkv)} {
		b, err := ref.Alloc(n)
		if err != nil {
			panic(err) // sizes of this file's own cases
		}
		buffers[i] = b
	}
	ref.Upload(buffers[2], qkv)
	ref.Attention(buffers[0], buffers[1], buffers[2], s)
	ref.Download(out, buffers[0])
	ref.Download(lse, buffers[1])
	return out, lse
}

// attentionBound derives how far float32 attention may be from the exact result. Where
// operands of its products are rounded, each product is off by both: see twice.
type attentionBound struct {
	s     kernels.AttentionShape
	qkv   []float64
	twice float64 // 2r + r², r being the operands' unit roundoff
}

func newAttentionBound(r rounding, s kernels.AttentionShape, qkv []float64) attentionBound {
	return attentionBound{s, qkv, r.kept * (2 + r.kept)}
}

// row returns row t of head column col (in heads) of batch item b.
func (a attentionBound) row(b, t, col int) []float64 {
	return a.qkv[(b*a.s.Seq+t)*a.s.QKVWidth()+col*a.s.HeadDim:][:a.s.HeadDim]
}

func dot(x, y []float64) (sum, size float64) {
	for i := range x {
		sum += x[i] * y[i]
		size += math.Abs(x[i] * y[i])
	}
	return sum, size
}

// score returns a scaled score and its error: D products and additions, the scale,
// which is itself three roundings off, and the multiplication by it.
func (a attentionBound) score(b, h, t, u2 int) (score, err float64) {
	kv := h * a.s.KVHeads / a.s.Heads
	sum, size := dot(a.row(b, t, h), a.row(b, u2, a.s.Heads+kv))
	scale := 1 / math.Sqrt(float64(a.s.HeadDim))
	return sum * scale, 1.01 * (float64(a.s.HeadDim+5)*u + a.twice) * size * scale
}

// each calls f for every head and row.
func (a attentionBound) each(f func(b, h, t int)) {
	for b := range a.s.Batch {
		for h := range a.s.Heads {
			for t := range a.s.Seq {
				f(b, h, t)
			}
		}
	}
}

// probabilities returns row t's probabilities and the relative error of each: that of
// its exponent twice over (once in the numerator, at worst once in the sum), the
// rounding of score − maximum, 2u for each exponential, and one u for each addition
// of the sum and each operation after it.
func (a attentionBound) probabilities(b, h, t int) (p, rel []float64) {
	p, rel = make([]float64, t+1), make([]float64, t+1)
	highest, worst := math.Inf(-1), 0.0
	for k := range p {
		s, err := a.score(b, h, t, k)
		p[k] = s
		if !math.IsInf(s, -1) { // else its probability is 0 without any rounding
			highest, worst = max(highest, s), max(worst, err)
		}
	}
	sum, spread := 0.0, 0.0
	for k, s := range p {
		if !math.IsInf(s, -1) {
			spread = max(spread, highest-s)
		}
		p[k] = math.Exp(s - highest)
		sum += p[k]
	}
	for k := range p {
		p[k] /= sum
		rel[k] = 1.01 * (2*worst + 2*spread*u + float64(t+1+8)*u)
	}
	return p, rel
}

// out bounds Σ p·v: the errors of p, and T+2 roundings of the sum.
func (a attentionBound) out() []float64 {
	bound := make([]float64, a.s.Rows()*a.s.OutWidth())
	a.each(func(b, h, t int) {
		p, rel := a.probabilities(b, h, t)
		row := bound[(b*a.s.Seq+t)*a.s.OutWidth()+h*a.s.HeadDim:][:a.s.HeadDim]
		kv := h * a.s.KVHeads / a.s.Heads
		for k := range p {
			for i, v := range a.row(b, k, a.s.Heads+a.s.KVHeads+kv) {
				row[i] += p[k] * math.Abs(v) * (rel[k] + float64(t+3)*u + a.twice)
			}
		}
		for i := range row {
			row[i] += tiny
		}
	})
	return bound
}

// lse bounds the log-sum-exp: an error of a score enters once, a relative error of
// the sum is an absolute one of its logarithm, and the result is rounded.
func (a attentionBound) lse(lse []float64) []float64 {
	bound := make([]float64, len(lse))
	a.each(func(b, h, t int) {
		_, rel := a.probabilities(b, h, t)
		i := (b*a.s.Heads+h)*a.s.Seq + t
		bound[i] = rel[0] + 4*u*math.Abs(lse[i]) + tiny
	})
	return bound
}

// backward bounds the gradients and delta. Here p = e^(score − lse) with lse given, so
// its relative error is that of the score, of the subtraction and of exp. With
// ds = p·(dp − delta)·scale, an error of ds comes from p, dp (D+1 roundings) and delta
// (D+1 roundings); the sums add a rounding for each term, at most T·(heads a group).
func (a attentionBound) backward(dout, out, lse []float64) (dqkv, delta []float64) {
	s := a.s
	d, group := s.HeadDim, s.Heads/s.KVHeads
	dqkv, delta = make([]float64, len(a.qkv)), make([]float64, len(lse))
	scale := 1 / math.Sqrt(float64(d))
	sums := float64(s.Seq*group+4)*u + a.twice // p and ds are operands, too
	a.each(func(b, h, t int) {
		kv := h / group
		at := (b*s.Heads+h)*s.Seq + t
		do := dout[(b*s.Seq+t)*s.OutWidth()+h*d:][:d]
		own, ownSize := dot(do, out[(b*s.Seq+t)*s.OutWidth()+h*d:][:d])
		delta[at] = 1.01*float64(d+1)*u*ownSize + tiny
		grad := func(t, col int) []float64 { return dqkv[(b*s.Seq+t)*s.QKVWidth()+col*d:][:d] }
		for k := range t + 1 {
			score, scoreErr := a.score(b, h, t, k)
			p := math.Exp(score - lse[at])
			rel := 1.01 * (scoreErr + 4*u + u*math.Abs(score-lse[at]))
			dp, dpSize := dot(do, a.row(b, k, s.Heads+s.KVHeads+kv))
			ds := math.Abs(p * (dp - own) * scale)
			dsErr := ds*(rel+8*u) + p*scale*1.01*((float64(d+1)*u+a.twice)*dpSize+delta[at])
			q, key := a.row(b, t, h), a.row(b, k, s.Heads+kv)
			for i := range d {
				grad(t, h)[i] += math.Abs(key[i])*(dsErr+ds*sums) + tiny
				grad(k, s.Heads+kv)[i] += math.Abs(q[i])*(dsErr+ds*sums) + tiny
				grad(k, s.Heads+s.KVHeads+kv)[i] += p*math.Abs(do[i])*(rel+sums) + tiny
			}
		}
	})
	return dqkv, delta
}
