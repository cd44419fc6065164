package model

import "loco/kernels"

// scratch is what the backward pass writes and no block keeps.
type scratch struct {
	dx    kernels.Buffer // (R, C) gradient of the residual stream
	dh    kernels.Buffer // (R, C) of a norm's output, then of attention's
	dqkv  kernels.Buffer // (R, Q)
	delta kernels.Buffer // (B, Heads, T)
}

func buildScratch(a *allocator, cfg Config, rows int) scratch {
	return scratch{
		dx: a.shared(rows, cfg.Width), dh: a.operand(rows, cfg.Width),
		dqkv: a.operand(rows, cfg.qkvWidth()), delta: a.floats(rows, cfg.Heads),
	}
}

// blockForward sets out to the residual stream in after one block, and keeps in a
// what the backward needs. out may be in.
//
//	mid = in + attention(rope(norm1(in)·Wqkvᵀ))·Woᵀ
//	out = mid + swiglu(norm2(mid)·Wguᵀ)·Wdownᵀ
func (m *Model) blockForward(s kernels.AttentionShape, w *blockWeights, a *activations, in, out kernels.Buffer) {
	d, rows, width, eps := m.dev, s.Rows(), m.cfg.Width, float32(m.cfg.NormEps)

	d.RMSNorm(a.h1, a.rstd1, in, w.norm1, rows, width, eps)
	d.Project(a.qkv, a.h1, w.qkv, rows)
	d.RoPE(a.qkv, m.cos, m.sin, s, false)
	d.Attention(a.att, a.lse, a.qkv, s)
	d.Linear(a.mid, a.att, w.o, in, rows)

	d.RMSNorm(a.h2, a.rstd2, a.mid, w.norm2, rows, width, eps)
	d.LinearSwiGLU(a.act, a.gateUp, a.h2, w.gateUp, rows)
	d.Linear(out, a.act, w.down, a.mid, rows)
}

// blockBackward turns the gradient of the block's output, in scratch.dx, into that
// of its input, and adds to dw the gradients of its weights, or begins them. For y = x·Wᵀ they are
// dx = dy·W and dW = dyᵀ·x. The residual connections need no line: dx stays where
// it is and each half adds to it.
func (m *Model) blockBackward(s kernels.AttentionShape, w *blockWeights, dw *blockGrads, a *activations, in kernels.Buffer) {
	d, rows, width, ffn := m.dev, s.Rows(), m.cfg.Width, m.cfg.FFN
	dx, dh, dqkv := m.scratch.dx, m.scratch.dh, m.scratch.dqkv
	dact, dgateUp := a.act, a.gateUp // in place: both are spent once dw.down is

	d.MatMul(dw.down, dx, a.act, width, ffn, rows, true, false, m.begun)
	d.LinearBackward(dact, dx, w.down, rows)
	d.SwiGLUBackward(dgateUp, dact, a.gateUp, rows, ffn)
	d.MatMul(dw.gateUp, dgateUp, a.h2, 2*ffn, width, rows, true, false, m.begun)
	d.LinearBackward(dh, dgateUp, w.gateUp, rows)
	d.RMSNormBackward(dx, dw.norm2, dh, a.mid, w.norm2, a.rstd2, rows, width)

	d.MatMul(dw.o, dx, a.att, width, width, rows, true, false, m.begun)
	d.LinearBackward(dh, dx, w.o, rows)
	d.AttentionBackward(dqkv, m.scratch.delta, dh, a.att, a.lse, a.qkv, s)
	d.RoPE(dqkv, m.cos, m.sin, s, true)
	d.MatMul(dw.qkv, dqkv, a.h1, s.QKVWidth(), width, rows, true, false, m.begun)
	d.LinearBackward(dh, dqkv, w.qkv, rows)
	d.RMSNormBackward(dx, dw.norm1, dh, in, w.norm1, a.rstd1, rows, width)
}
