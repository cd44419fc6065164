package model

import "loco/kernels"

// prefixMin is the shortest sequence that Logits computes; shorter prompts are
// padded to it, longer ones to the next of its doublings.
const prefixMin = 16

func (c Config) shape(batch, seq int) kernels.AttentionShape {
	return kernels.AttentionShape{Batch: batch, Seq: seq, Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim()}
}

// pass is one shape of batch and the memory that a forward over it writes.
type pass struct {
	shape  kernels.AttentionShape
	tokens kernels.Tokens
	// x[l] is the residual stream that enters block l, x[Layers] the one that leaves
	// the last. Without training all are one buffer.
	x []kernels.Buffer // Layers+1 of (R, C)
	// acts[l] is what block l keeps for its backward. With Checkpoint, or without
	// training, all blocks share one.
	acts []*activations
}

// activations are the values inside one block.
type activations struct {
	rstd1  kernels.Buffer // (R)
	h1     kernels.Buffer // (R, C) input of attention
	qkv    kernels.Buffer // (R, Q) rotated
	att    kernels.Buffer // (R, C)
	lse    kernels.Buffer // (B, Heads, T)
	mid    kernels.Buffer // (R, C) residual stream between the block's halves
	rstd2  kernels.Buffer // (R)
	h2     kernels.Buffer // (R, C) input of the feed-forward layer
	gateUp kernels.Buffer // (R, 2F); its gradient in backward
	act    kernels.Buffer // (R, F) silu(gate)·up; its gradient in backward
}

func buildActivations(a *allocator, cfg Config, rows int) *activations {
	return &activations{
		rstd1: a.floats(rows), h1: a.operand(rows, cfg.Width),
		qkv: a.operand(rows, cfg.qkvWidth()), att: a.operand(rows, cfg.Width), lse: a.floats(rows, cfg.Heads),
		mid: a.floats(rows, cfg.Width), rstd2: a.floats(rows), h2: a.operand(rows, cfg.Width),
		gateUp: a.operand(rows, 2*cfg.FFN), act: a.operand(rows, cfg.FFN),
	}
}

func buildPass(a *allocator, cfg Config, batch int, train bool) pass {
	rows := batch * cfg.Context
	p := pass{shape: cfg.shape(batch, cfg.Context), tokens: a.tokens(rows)}
	p.x = append(p.x, a.floats(rows, cfg.Width))
	for l := range cfg.Layers {
		if train {
			p.x = append(p.x, a.floats(rows, cfg.Width))
		} else {
			p.x = append(p.x, p.x[0])
		}
		if l == 0 || train && !cfg.Checkpoint {
			p.acts = append(p.acts, buildActivations(a, cfg, rows))
		} else {
			p.acts = append(p.acts, p.acts[0])
		}
	}
	return p
}

// borrow makes p use the start of another pass's memory, one buffer for the whole
// residual stream.
func (p *pass) borrow(from *pass, cfg Config) {
	n := p.shape.Rows() * cfg.Width
	x := from.x[0].Slice(0, n)
	acts := *from.acts[0]
	acts.mid = acts.mid.Slice(0, n)
	p.x = []kernels.Buffer{x}
	for range cfg.Layers {
		p.x = append(p.x, x)
		p.acts = append(p.acts, &acts)
	}
}

// forward computes the residual stream that leaves the last block.
func (m *Model) forward(p *pass) {
	m.dev.Embedding(p.x[0], m.weights.embed, p.tokens, m.cfg.Vocab, m.cfg.Width)
	for l := range m.weights.blocks {
		m.blockForward(p.shape, &m.weights.blocks[l], p.acts[l], p.x[l], p.x[l+1])
	}
}

// backward takes the gradient of the stream that leaves the last block, which
// scratch.dx holds, down to the embedding table.
func (m *Model) backward(p *pass) {
	for l := len(m.weights.blocks) - 1; l >= 0; l-- {
		w, acts, in := &m.weights.blocks[l], p.acts[l], p.x[l]
		if m.cfg.Checkpoint {
			m.blockForward(p.shape, w, acts, in, p.x[l+1])
		}
		m.blockBackward(p.shape, w, &m.dW.blocks[l], acts, in)
	}
	m.dev.EmbeddingBackward(m.dW.embed, m.scratch.dx, p.tokens, m.cfg.Vocab, m.cfg.Width)
}
