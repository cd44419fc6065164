package bench

import (
	"fmt"

	"loco/kernels"
	"loco/trainer/model"
)

// Sizes are the shapes of a table of cases.
type Sizes struct {
	Linear    []Linear
	Attention []kernels.AttentionShape
	// Operations of layers work on Rows positions of Width, FFN or Vocab values, the
	// loss on LossRows of them at a time.
	Rows, Width, FFN, Vocab, LossRows int
	Parameters                        int // of the optimizer's and the norm's vectors
	Steps                             []Step
}

// Linear is a linear layer of In inputs and Out outputs at Rows positions.
type Linear struct{ Rows, Out, In int }

// Step is a training step on Batch sequences of a model's context.
type Step struct {
	Config model.Config
	Batch  int
	Extra  bool
}

func (s Step) shape() string {
	c := s.Config
	return fmt.Sprintf("%s L%d C%d H%d/%d F%d V%d T%d B%d", count(c.Parameters()), c.Layers, c.Width, c.Heads, c.KVHeads, c.FFN, c.Vocab, c.Context, s.Batch)
}

func count(n int) string {
	if n < 1e6 {
		return fmt.Sprintf("%.0fk", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1fM", float64(n)/1e6)
}

// ParametersDefault makes vectors that fit no cache but most machines.
const ParametersDefault = 32 << 20

// Standard are shapes of models that are trained on CPUs and on home machines.
// Vectors have the given number of parameters.
func Standard(parameters int) Sizes {
	return Sizes{
		Linear: []Linear{
			{1024, 1024, 1024}, {2048, 768, 768}, {2048, 3072, 768}, {4096, 2048, 256},
			{512, 32000, 512}, {64, 3072, 768}, {256, 384, 384}, {2048, 2048, 64},
		},
		Attention: []kernels.AttentionShape{
			{Batch: 8, Seq: 128, Heads: 4, KVHeads: 2, HeadDim: 32},
			{Batch: 8, Seq: 256, Heads: 6, KVHeads: 6, HeadDim: 64},
			{Batch: 1, Seq: 2048, Heads: 12, KVHeads: 4, HeadDim: 64},
		},
		Rows: 2048, Width: 768, FFN: 2048, Vocab: 32000, LossRows: 512,
		Parameters: parameters,
		Steps: []Step{
			{Config: llama(256, 2, 96, 3, 1, 256, 128), Batch: 8},
			{Config: model.Default(), Batch: 8},
			// As many parameters as GPT-2 of the same depth, width and vocabulary: three
			// matrices of FFN = 8/3·Width hold what two of 4·Width do.
			{Config: llama(4096, 6, 384, 6, 6, 1024, 256), Batch: 8},
			{Config: llama(50257, 12, 768, 12, 12, 2048, 64), Batch: 4, Extra: true},
		},
	}
}

func llama(vocab, layers, width, heads, kvHeads, ffn, context int) model.Config {
	c := model.Default()
	c.Vocab, c.Layers, c.Width, c.Heads, c.KVHeads, c.FFN, c.Context = vocab, layers, width, heads, kvHeads, ffn, context
	return c
}

// Cases returns the table for some sizes.
func Cases(s Sizes) []Case {
	var cases []Case
	for _, l := range s.Linear {
		cases = append(cases, linearCases(l)...)
	}
	for _, a := range s.Attention {
		cases = append(cases, attentionCases(a)...)
	}
	cases = append(cases, layerCases(s)...)
	cases = append(cases, vectorCases(s.Parameters)...)
	for _, step := range s.Steps {
		cases = append(cases, stepCase(step))
	}
	return cases
}
