// Package model is Llama 3 (Dubey et al., arXiv 2407.21783, section 3.2) written
// against kernels.Device: RMSNorm before each block, rotary positions,
// grouped-query attention, SwiGLU, a tied or untied head. Forward and backward
// are written by hand, each backward beside its forward and in mirrored order.
//
// A model is one flat arena of float32: every matrix first, every norm weight at
// the end, so that AdamW is two calls, one with weight decay and one without, and
// so that a checkpoint, an all-reduce and an optimizer see one vector. [Config.Layout]
// names its parts as Hugging Face's Llama does.
//
// # Determinism
//
// Initial weights, rotary tables and sampling are computed here without the
// architecture's own mathematical functions, so they are the same bits on every
// machine. All else is a sequence of device operations that depends on the
// configuration alone.
package model

import (
	"fmt"
	"math"
)

// Config describes a Llama. The zero value is not valid; see Default.
type Config struct {
	Vocab   int // tokens in the vocabulary
	Layers  int // transformer blocks
	Width   int // length of a position's vector; Heads divides it
	Heads   int // query heads
	KVHeads int // key and value heads; divides Heads, fewer of them is grouped-query attention
	FFN     int // width of the gated feed-forward layer, usually 8/3 to 4 times Width
	Context int // positions in a training sequence, and the most that Logits looks back

	RopeTheta float64 // base of the rotary wavelengths; larger for longer contexts
	NormEps   float64 // added to the mean square in RMSNorm
	InitStd   float64 // standard deviation of initial weights

	Tied bool // the head is the embedding table; saves Vocab·Width parameters
	// Checkpoint keeps only the input of each block and computes the block again in
	// the backward pass: about a third more work for a small part of the memory.
	Checkpoint bool
}

// Default returns a model that a laptop's CPU trains in minutes.
func Default() Config {
	return Config{
		Vocab:     256, // bytes: no tokenizer to download
		Layers:    4,
		Width:     128,
		Heads:     4, // head dimension 32, the least that cuts well into vector registers
		KVHeads:   2,
		FFN:       384,
		Context:   128,
		RopeTheta: 10000, // Su et al.; Llama 3's 500000 is for contexts of 8192
		NormEps:   1e-5,
		InitStd:   0.02,
		Tied:      true,
	}
}

// Limits of a configuration. They are far above any model this could train and
// keep every product below 2^63.
const (
	vocabMax      = 1 << 24
	layersMax     = 1 << 10
	widthMax      = 1 << 17
	ffnMax        = 1 << 20
	contextMax    = 1 << 20
	parametersMax = 1 << 40
	microBatchMax = 1 << 16
)

// HeadDim is the width of one attention head.
func (c Config) HeadDim() int { return c.Width / c.Heads }

// qkvWidth is the width of the packed projections: queries, keys, values.
func (c Config) qkvWidth() int { return (c.Heads + 2*c.KVHeads) * c.HeadDim() }

// Validate returns an error that names the first field that is out of range, its
// value and what is allowed.
func (c Config) Validate() error {
	for _, f := range []struct {
		name            string
		value, min, max int
	}{
		{"vocab", c.Vocab, 2, vocabMax},
		{"layers", c.Layers, 1, layersMax},
		{"width", c.Width, 2, widthMax},
		{"heads", c.Heads, 1, c.Width},
		{"kv_heads", c.KVHeads, 1, c.Heads},
		{"ffn", c.FFN, 1, ffnMax},
		{"context", c.Context, 1, contextMax},
	} {
		if f.value < f.min || f.value > f.max {
			return fmt.Errorf("model: %s = %d, allowed are %d to %d", f.name, f.value, f.min, f.max)
		}
	}
	if c.Width%c.Heads != 0 {
		return fmt.Errorf("model: heads = %d does not divide width = %d", c.Heads, c.Width)
	}
	if c.Heads%c.KVHeads != 0 {
		return fmt.Errorf("model: kv_heads = %d does not divide heads = %d", c.KVHeads, c.Heads)
	}
	if c.HeadDim()%2 != 0 {
		return fmt.Errorf("model: width = %d over heads = %d gives head dimension %d, which must be even: rotary positions turn pairs of values", c.Width, c.Heads, c.HeadDim())
	}
	for _, f := range []struct {
		name            string
		value, min, max float64
	}{
		{"rope_theta", c.RopeTheta, 1, 1e12},
		{"norm_eps", c.NormEps, 1e-30, 1e-1},
		{"init_std", c.InitStd, 1e-30, 10},
	} {
		if !(f.value >= f.min && f.value <= f.max) { // NaN fails too
			return fmt.Errorf("model: %s = %v, allowed are %v to %v", f.name, f.value, f.min, f.max)
		}
	}
	if n := c.matrixParameters() + c.normParameters(); n > parametersMax || n > math.MaxInt {
		return fmt.Errorf("model: %d parameters, at most %d are allowed: lower layers, width, ffn or vocab", n, min(int64(parametersMax), math.MaxInt))
	}
	return nil
}

// Parameters is the number of trained values. The configuration must be valid.
func (c Config) Parameters() int { return int(c.matrixParameters() + c.normParameters()) }

// blockParameters is the number of matrix values of one block.
func (c Config) blockParameters() int64 {
	w := int64(c.Width)
	attention := w*int64(c.qkvWidth()) + w*w
	return attention + 3*w*int64(c.FFN)
}

func (c Config) matrixParameters() int64 {
	table := int64(c.Vocab) * int64(c.Width)
	n := table + int64(c.Layers)*c.blockParameters()
	if !c.Tied {
		n += table
	}
	return n
}

func (c Config) normParameters() int64 { return int64(2*c.Layers+1) * int64(c.Width) }

// FLOPsPerToken is the number of floating-point operations that forward and
// backward of one token in a sequence of seq cost: 6 for each weight of a matmul
// (the embedding's look-up is none, the head is one), and for causal attention, in
// which a position sees (seq+1)/2 on average, two products of 2·Width operations
// for each position seen, three times over (Kaplan et al., arXiv 2001.08361,
// section 2.1). What Checkpoint computes again is not counted.
func (c Config) FLOPsPerToken(seq int) float64 {
	matmul := float64(c.Layers)*float64(c.blockParameters()) + float64(c.Vocab)*float64(c.Width)
	attention := float64(c.Layers) * 6 * float64(seq+1) * float64(c.Width)
	return 6*matmul + attention
}
