package model

import (
	"fmt"
	"iter"
	"slices"
)

// Logits returns the logits (Vocab) of the token that follows the last of tokens.
// Of more than Context tokens the last Context are seen. It fails on no tokens and
// on one outside the vocabulary. The result is overwritten by the next call. Work
// grows with the number of tokens, rounded up to a power of two.
func (m *Model) Logits(tokens []int32) ([]float32, error) {
	if err := m.checkPrompt(tokens); err != nil {
		return nil, err
	}
	tokens = tokens[max(0, len(tokens)-m.cfg.Context):]
	p := m.prefix(len(tokens))
	padded := m.prompt[:p.shape.Seq]
	clear(padded[copy(padded, tokens):]) // causal attention: what follows the last token is not seen by it
	m.dev.UploadTokens(p.tokens, padded)
	m.forward(p)
	m.finalNorm(p)
	m.dev.Linear(m.head.row, m.lastRow[len(tokens)-1], m.weights.head, nil, 1)
	m.dev.Download(m.logitsOfPrompt, m.head.row)
	return m.logitsOfPrompt, nil
}

func (m *Model) prefix(n int) *pass {
	for i := range m.prefixes {
		if m.prefixes[i].shape.Seq >= n {
			return &m.prefixes[i]
		}
	}
	return &m.prefixes[len(m.prefixes)-1]
}

func (m *Model) checkPrompt(tokens []int32) error {
	if len(tokens) == 0 {
		return fmt.Errorf("model: an empty prompt has no next token: give at least one token")
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= m.cfg.Vocab {
			return fmt.Errorf("model: token %d of the prompt is %d, the vocabulary has 0 to %d", i, t, m.cfg.Vocab-1)
		}
	}
	return nil
}

// Generate yields n tokens that continue prompt, each as soon as it is known. A
// temperature of 0 takes the most likely token, ties to the lowest; above it a
// token is drawn from softmax(logits/temperature) over the topK most likely, all of
// them if topK is 0. The draw depends on the logits, temperature, topK and seed
// alone. It fails, before the first token, on arguments out of range.
func (m *Model) Generate(prompt []int32, n int, temperature float64, topK int, seed uint64) (iter.Seq[int32], error) {
	if err := m.checkPrompt(prompt); err != nil {
		return nil, err
	}
	if !(temperature == 0 || temperature >= 1e-3 && temperature <= 1e3) {
		return nil, fmt.Errorf("model: temperature = %v, allowed are 0 and 0.001 to 1000", temperature)
	}
	if topK < 0 || n < 0 {
		return nil, fmt.Errorf("model: top-k = %d and n = %d, neither may be negative", topK, n)
	}
	s := newSampler(m.cfg.Vocab, temperature, topK, seed)
	history := make([]int32, 0, 2*m.cfg.Context)
	history = append(history, prompt[max(0, len(prompt)-m.cfg.Context):]...)
	return func(yield func(int32) bool) {
		for range n {
			logits, err := m.Logits(history)
			if err != nil {
				return // not reached: every token was checked or came from the vocabulary
			}
			next := s.draw(logits)
			if !yield(next) {
				return
			}
			if len(history) == cap(history) {
				history = history[:copy(history, history[m.cfg.Context:])]
			}
			history = append(history, next)
		}
	}, nil
}

// sampler draws tokens from logits.
type sampler struct {
	temperature float64
	topK        int
	random      random
	order       []int32 // tokens, most likely first where topK is used
	weight      []float64
}

func newSampler(vocab int, temperature float64, topK int, seed uint64) *sampler {
	if topK == 0 || topK > vocab {
		topK = vocab
	}
	return &sampler{
		temperature: temperature, topK: topK, random: stream(seed, "generate"),
		order: make([]int32, vocab), weight: make([]float64, topK),
	}
}

func (s *sampler) draw(logits []float32) int32 {
	best := int32(0)
	for i := range s.order {
		s.order[i] = int32(i)
		if logits[i] > logits[best] {
			best = int32(i)
		}
	}
	if s.temperature == 0 {
		return best
	}
	if s.topK < len(s.order) {
		slices.SortStableFunc(s.order, func(a, b int32) int {
			switch {
			case logits[a] > logits[b]:
				return -1
			case logits[a] < logits[b]:
				return 1
			}
			return 0
		})
	}
	sum := 0.0
	for i, token := range s.order[:s.topK] {
		// At most 0; below −700 the weight is nothing.
		x := max(-700, (float64(logits[token])-float64(logits[best]))/s.temperature)
		s.weight[i] = exp(x)
		sum += s.weight[i]
	}
	rest := s.random.Uniform() * sum
	for i, w := range s.weight {
		if rest -= w; rest < 0 {
			return s.order[i]
		}
	}
	return best // rounding left a crumb, or the logits are not numbers
}
