package model

import "fmt"

// Tensor is a named part of the parameter arena.
type Tensor struct {
	Name   string // as in Hugging Face's Llama
	Shape  []int  // a linear layer's weight is (out, in), row-major
	Offset int    // of its first value in the arena
	Len    int    // values, the product of Shape
	Decay  bool   // AdamW's weight decay applies: true for matrices, false for norms
}

// Layout lists the tensors in the order of the arena. Query, key and value weights
// are adjacent, and so are gate and up, so that one matmul reads all of them. Norm
// weights come last: the first tensor without Decay starts where decay ends.
func (c Config) Layout() []Tensor {
	l := layout{tensors: make([]Tensor, 0, 9*c.Layers+3)}
	kv := c.KVHeads * c.HeadDim()
	l.add("model.embed_tokens.weight", c.Vocab, c.Width)
	for i := range c.Layers {
		block := fmt.Sprintf("model.layers.%d.", i)
		l.add(block+"self_attn.q_proj.weight", c.Width, c.Width)
		l.add(block+"self_attn.k_proj.weight", kv, c.Width)
		l.add(block+"self_attn.v_proj.weight", kv, c.Width)
		l.add(block+"self_attn.o_proj.weight", c.Width, c.Width)
		l.add(block+"mlp.gate_proj.weight", c.FFN, c.Width)
		l.add(block+"mlp.up_proj.weight", c.FFN, c.Width)
		l.add(block+"mlp.down_proj.weight", c.Width, c.FFN)
	}
	if !c.Tied {
		l.add("lm_head.weight", c.Vocab, c.Width)
	}
	for i := range c.Layers {
		block := fmt.Sprintf("model.layers.%d.", i)
		l.add(block+"input_layernorm.weight", c.Width)
		l.add(block+"post_attention_layernorm.weight", c.Width)
	}
	l.add("model.norm.weight", c.Width)
	return l.tensors
}

type layout struct {
	tensors []Tensor
	offset  int
}

func (l *layout) add(name string, shape ...int) {
	n := 1
	for _, s := range shape {
		n *= s
	}
	l.tensors = append(l.tensors, Tensor{Name: name, Shape: shape, Offset: l.offset, Len: n, Decay: len(shape) > 1})
	l.offset += n
}
