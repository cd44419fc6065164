package bench

import (
	"fmt"

	"loco/kernels"
	"loco/kernels/cpu"
)

// stream returns a case that waits for memory, on arrays of n values.
func stream(kernel, shape string, n int, mix cpu.Mix, setup func(o *operands) func()) Case {
	bytes := 4 * int64(n) * int64(mix.Arrays())
	return Case{
		Kernel: kernel, Shape: shape, Limit: memory(mix, bytes), Memory: bytes,
		Work: 4 * float64(n) * float64(mix.Moves()),
		Setup: func(dev kernels.Device) (func(), error) {
			o := operands{dev: dev}
			call := setup(&o)
			return call, o.err
		},
	}
}

// layerCases are the operations between products.
func layerCases(s Sizes) []Case {
	shape := fmt.Sprintf("%dx%d", s.Rows, s.Width)
	n := s.Rows * s.Width
	cases := []Case{
		stream("RMSNorm", shape, n, cpu.Mix{Read: 1, Write: 1}, func(o *operands) func() {
			out, rstd, x, w := o.values(n), o.values(s.Rows), o.values(n), o.values(s.Width)
			return func() { o.dev.RMSNorm(out, rstd, x, w, s.Rows, s.Width, 1e-5) }
		}),
		stream("RMSNorm backward", shape, n, cpu.Mix{Read: 2, Update: 1}, func(o *operands) func() {
			dx, dw, dout := o.values(n), o.values(s.Width), o.values(n)
			x, w, rstd := o.values(n), o.values(s.Width), o.values(s.Rows)
			return func() { o.dev.RMSNormBackward(dx, dw, dout, x, w, rstd, s.Rows, s.Width) }
		}),
	}
	for _, a := range s.Attention {
		cases = append(cases, ropeCase(a))
	}
	shape = fmt.Sprintf("%dx%d", s.Rows, s.FFN)
	wide := s.Rows * s.FFN
	return append(cases,
		stream("SwiGLU", shape, wide, cpu.Mix{Read: 2, Write: 1}, func(o *operands) func() {
			out, gateUp := o.values(wide), o.values(2*wide)
			return func() { o.dev.SwiGLU(out, gateUp, s.Rows, s.FFN) }
		}),
		stream("SwiGLU backward", shape, wide, cpu.Mix{Read: 3, Write: 2}, func(o *operands) func() {
			dgateUp, dout, gateUp := o.values(2*wide), o.values(wide), o.values(2*wide)
			return func() { o.dev.SwiGLUBackward(dgateUp, dout, gateUp, s.Rows, s.FFN) }
		}),
		lossCase(s),
		stream("embedding gradient", fmt.Sprintf("%dx%d V%d", s.Rows, s.Width, s.Vocab), n, cpu.Mix{Read: 1, Update: 1}, func(o *operands) func() {
			table, dout, tokens := o.values(s.Vocab*s.Width), o.values(n), o.tokens(s.Rows, s.Vocab)
			return func() { o.dev.EmbeddingBackward(table, dout, tokens, s.Vocab, s.Width) }
		}),
	)
}

// ropeCase turns queries and keys, which lie between values that are not touched. Every
// angle is that of the triangle of 3, 4 and 5: whatever the number of calls, values stay
// as large as they were, far from those that processors are slow with.
func ropeCase(a kernels.AttentionShape) Case {
	shape := fmt.Sprintf("B%d T%d H%d/%d D%d", a.Batch, a.Seq, a.Heads, a.KVHeads, a.HeadDim)
	turned := a.Rows() * (a.Heads + a.KVHeads) * a.HeadDim
	return stream("RoPE", shape, turned, cpu.Mix{Update: 1}, func(o *operands) func() {
		qkv, cos, sin := o.values(a.Rows()*a.QKVWidth()), o.all(a.Seq*a.HeadDim/2, 0.6), o.all(a.Seq*a.HeadDim/2, 0.8)
		return func() { o.dev.RoPE(qkv, cos, sin, a, false) }
	})
}

// lossCase replaces logits by their gradients, again and again: what is there does not
// change how long it takes.
func lossCase(s Sizes) Case {
	return stream("cross-entropy", fmt.Sprintf("%dx%d", s.LossRows, s.Vocab), s.LossRows*s.Vocab, cpu.Mix{Update: 1}, func(o *operands) func() {
		losses, logits, targets := o.values(s.LossRows), o.values(s.LossRows*s.Vocab), o.tokens(s.LossRows, s.Vocab)
		return func() { o.dev.CrossEntropy(losses, logits, targets, 0, s.LossRows, s.Vocab, 1) }
	})
}

// vectorCases are the operations on all parameters.
func vectorCases(n int) []Case {
	shape := count(n)
	return []Case{
		stream("AdamW", shape, n, cpu.Mix{Read: 1, Update: 3}, func(o *operands) func() {
			p, g, m, v := o.values(n), o.values(n), o.zeros(n), o.zeros(n)
			step := kernels.AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 1, Correction2: 1, GradScale: 1}
			return func() { o.dev.AdamW(p, g, m, v, step) }
		}),
		stream("squared norm", shape, n, cpu.Mix{Read: 1}, func(o *operands) func() {
			x := o.values(n)
			return func() { o.dev.SquaredNorm(x) }
		}),
		stream("add", shape, n, cpu.Mix{Read: 1, Update: 1}, func(o *operands) func() {
			dst, x := o.values(n), o.values(n)
			return func() { o.dev.Add(dst, x) }
		}),
	}
}
