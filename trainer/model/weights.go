package model

import (
	"fmt"

	"loco/kernels"
)

// linears calls f with the first and the last tensor of each linear layer's weight, which
// lie next to each other, and its shape: the blocks' in order, then the head's.
func (c Config) linears(f func(first, last string, out, in int)) {
	for i := range c.Layers {
		block := fmt.Sprintf("model.layers.%d.", i)
		f(block+"self_attn.q_proj.weight", block+"self_attn.v_proj.weight", c.qkvWidth(), c.Width)
		f(block+"self_attn.o_proj.weight", block+"self_attn.o_proj.weight", c.Width, c.Width)
		f(block+"mlp.gate_proj.weight", block+"mlp.up_proj.weight", 2*c.FFN, c.Width)
		f(block+"mlp.down_proj.weight", block+"mlp.down_proj.weight", c.Width, c.FFN)
	}
	head := "lm_head.weight"
	if c.Tied {
		head = "model.embed_tokens.weight"
	}
	f(head, head, c.Vocab, c.Width)
}

// viewWeights cuts the arenas by the configuration's layout.
func (m *Model) viewWeights() error {
	at := make(map[string]Tensor)
	for _, t := range m.cfg.Layout() {
		at[t.Name] = t
	}
	var made []kernels.Weight
	var gradients []kernels.Buffer
	var failed error
	m.cfg.linears(func(first, last string, out, in int) {
		if failed != nil {
			return
		}
		lo, hi := at[first].Offset, at[last].Offset+at[last].Len
		w, err := m.dev.NewWeight(m.params.Slice(lo, hi), out, in, m.train)
		if err != nil {
			failed = fmt.Errorf("model: %s (%d, %d): %w", first, out, in, err)
			return
		}
		made = append(made, w)
		if !m.train {
			gradients = append(gradients, nil)
			return
		}
		x := matrix{w, m.grads.Slice(lo, hi), m.first.Slice(lo, hi), m.second.Slice(lo, hi)}
		m.matrices = append(m.matrices, x)
		gradients = append(gradients, x.grads)
	})
	if failed != nil {
		return failed
	}
	one := func(arena kernels.Buffer, name string) kernels.Buffer {
		if arena == nil {
			return nil
		}
		return arena.Slice(at[name].Offset, at[name].Offset+at[name].Len)
	}
	for i := range m.cfg.Layers {
		block := fmt.Sprintf("model.layers.%d.", i)
		norm1, norm2 := block+"input_layernorm.weight", block+"post_attention_layernorm.weight"
		w, g := made[4*i:], gradients[4*i:]
		m.weights.blocks = append(m.weights.blocks, blockWeights{one(m.params, norm1), w[0], w[1], one(m.params, norm2), w[2], w[3]})
		m.dW.blocks = append(m.dW.blocks, blockGrads{one(m.grads, norm1), g[0], g[1], one(m.grads, norm2), g[2], g[3]})
	}
	const table, norm = "model.embed_tokens.weight", "model.norm.weight"
	last := len(made) - 1
	m.weights.embed, m.weights.norm, m.weights.head = one(m.params, table), one(m.params, norm), made[last]
	m.dW.embed, m.dW.norm, m.dW.head = one(m.grads, table), one(m.grads, norm), gradients[last]
	if m.train {
		m.viewVectors(at[table])
	}
	return nil
}

func (m *Model) viewVectors(table Tensor) {
	cut := func(lo, hi int, decay bool) {
		m.vectors = append(m.vectors, vector{
			params: m.params.Slice(lo, hi), grads: m.grads.Slice(lo, hi),
			first: m.first.Slice(lo, hi), second: m.second.Slice(lo, hi), decay: decay,
		})
	}
	if !m.cfg.Tied {
		cut(table.Offset, table.Offset+table.Len, true)
	}
	total := m.cfg.Parameters()
	cut(total-int(m.cfg.normParameters()), total, false)
}
