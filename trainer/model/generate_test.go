package model

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/reference"
)

// newInference returns a model of small with perturbed weights.
func newInference(t testing.TB, cfg Config) *Model {
	t.Helper()
	dev := reference.New()
	m, err := NewInference(dev, cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	dev.Upload(m.Params(), perturbed(cfg, 1))
	return m
}

// The loss of a token, computed from Logits over what precedes it, is the one that
// Loss computes for all positions at once: nothing looks ahead, padding is not seen.
func TestLogitsAgreeWithLoss(t *testing.T) {
	cfg := small(true)
	cfg.Context = 40 // prefixes of 16, 32 and 40
	m := newInference(t, cfg)
	inputs, targets := batchOf(cfg, 1, 2)
	sum := 0.0
	for i := range inputs {
		logits, err := m.Logits(inputs[:i+1])
		if err != nil {
			t.Fatal(err)
		}
		total := 0.0
		for _, x := range logits {
			total += math.Exp(float64(x))
		}
		sum += math.Log(total) - float64(logits[targets[i]])
	}
	if want := m.Loss(inputs, targets); !within(sum, want, 1e-5) {
		t.Errorf("losses of single positions add up to %v, Loss says %v", sum, want)
	}
}

func TestLogitsSeeTheLastContextTokens(t *testing.T) {
	cfg := small(true)
	m := newInference(t, cfg)
	long := []int32{1, 2, 3, 4, 5, 6, 7, 8}
	a, err := m.Logits(long)
	if err != nil {
		t.Fatal(err)
	}
	a = slices.Clone(a)
	b, err := m.Logits(long[3:])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a, b) {
		t.Errorf("logits after 8 tokens %v, after the last 5 %v", a, b)
	}
}

func collect(t *testing.T, m *Model, prompt []int32, n int, temperature float64, topK int, seed uint64) []int32 {
	t.Helper()
	tokens, err := m.Generate(prompt, n, temperature, topK, seed)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(tokens)
}

func TestGenerate(t *testing.T) {
	cfg := small(true)
	m := newInference(t, cfg)
	prompt := []int32{3, 1}
	const n = 24 // past the context several times

	greedy := collect(t, m, prompt, n, 0, 0, 1)
	if len(greedy) != n {
		t.Fatalf("%d tokens, want %d", len(greedy), n)
	}
	history := slices.Clone(prompt)
	for i, token := range greedy {
		logits, err := m.Logits(history)
		if err != nil {
			t.Fatal(err)
		}
		if best := slices.Index(logits, slices.Max(logits)); int(token) != best {
			t.Fatalf("token %d is %d, the most likely is %d", i, token, best)
		}
		history = append(history, token)
	}
	if got := collect(t, m, prompt, n, 5, 1, 2); !slices.Equal(got, greedy) {
		t.Errorf("top-k 1 gives %v, want the greedy %v", got, greedy)
	}
	a, b := collect(t, m, prompt, n, 1, 0, 3), collect(t, m, prompt, n, 1, 0, 3)
	if !slices.Equal(a, b) {
		t.Errorf("one seed gives %v and %v", a, b)
	}
	if c := collect(t, m, prompt, n, 1, 0, 4); slices.Equal(a, c) {
		t.Error("two seeds give one text")
	}
}

// Frequencies of 20000 draws against softmax, within five standard errors.
func TestSamplerFollowsSoftmax(t *testing.T) {
	logits := []float32{1, -2, 0.5, 3, 0}
	for _, topK := range []int{0, 3} {
		const draws, temperature = 20000, 1.5
		s := newSampler(len(logits), temperature, topK, 9)
		count := make([]float64, len(logits))
		for range draws {
			count[s.draw(logits)]++
		}
		sum := 0.0
		p := make([]float64, len(logits))
		for i, x := range logits {
			if topK == 0 || i == 3 || i == 0 || i == 2 { // the three largest
				p[i] = math.Exp(float64(x) / temperature)
			}
			sum += p[i]
		}
		for i := range p {
			want := p[i] / sum * draws
			if !within(count[i], want, 5*math.Sqrt(want)) {
				t.Errorf("top-k %d: token %d drawn %v times, want about %.0f", topK, i, count[i], want)
			}
		}
	}
	s := newSampler(2, 1, 0, 1)
	if got := s.draw([]float32{float32(math.NaN()), 1}); got < 0 || got > 1 {
		t.Errorf("logits that are not numbers give token %d", got)
	}
}

func TestGenerateRefusesBadArguments(t *testing.T) {
	m := newInference(t, small(true))
	for _, c := range []struct {
		prompt      []int32
		n           int
		temperature float64
		topK        int
		want        string
	}{
		{nil, 1, 1, 0, "empty prompt"},
		{[]int32{0, 13}, 1, 1, 0, "token 1 of the prompt is 13"},
		{[]int32{-1}, 1, 1, 0, "token 0 of the prompt is -1"},
		{[]int32{1}, 1, -1, 0, "temperature = -1"},
		{[]int32{1}, 1, math.NaN(), 0, "temperature = NaN"},
		{[]int32{1}, 1, 1, -1, "top-k = -1"},
		{[]int32{1}, -1, 1, 0, "n = -1"},
	} {
		if _, err := m.Generate(c.prompt, c.n, c.temperature, c.topK, 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
}

// A model trained for a few steps on one sequence says it by heart.
func Example() {
	cfg := Default()
	cfg.Layers, cfg.Width, cfg.FFN, cfg.Context = 1, 32, 64, 16
	dev := reference.New()
	m, err := New(dev, cfg, 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	dev.Upload(m.Params(), cfg.Init(1))
	text := "loco trains one m"
	inputs, targets := make([]int32, 16), make([]int32, 16)
	for i := range inputs {
		inputs[i], targets[i] = int32(text[i]), int32(text[i+1])
	}
	c1, c2 := float32(1), float32(1)
	for range 40 {
		m.ZeroGrad()
		m.Accumulate(inputs, targets, 1.0/16)
		c1, c2 = c1*0.9, c2*0.95
		m.Update(kernels.AdamWStep{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 1 - c1, Correction2: 1 - c2, GradScale: 1})
	}
	tokens, err := m.Generate([]int32{'l', 'o'}, 15, 0, 0, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print("lo")
	for token := range tokens {
		fmt.Print(string(rune(token)))
	}
	// Output: loco trains one m
}
