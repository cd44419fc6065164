package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/reference"
)

func TestModelSaysWhatItIs(t *testing.T) {
	cfg := small(true)
	dev := reference.New()
	m := newTrained(t, dev, cfg, 3, cfg.Init(1))
	first, second := m.Moments()
	if m.Config() != cfg || m.MicroBatch() != 3 || m.Rows() != 15 || m.Memory() != cfg.Memory(3) {
		t.Errorf("%+v, micro-batch %d, %d rows, %+v", m.Config(), m.MicroBatch(), m.Rows(), m.Memory())
	}
	for name, b := range map[string]kernels.Buffer{"parameters": m.Params(), "gradients": m.Grads(), "first": first, "second": second} {
		if b.Len() != cfg.Parameters() {
			t.Errorf("%s: %d values of %d", name, b.Len(), cfg.Parameters())
		}
	}
	i, err := NewInference(dev, cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	if first, second := i.Moments(); i.Grads() != nil || first != nil || second != nil || i.Memory() != cfg.InferenceMemory(1) {
		t.Error("a model for inference has gradients or moments")
	}
}

func panicOf(f func()) (said string) {
	defer func() { said = fmt.Sprint(recover()) }()
	f()
	return ""
}

func TestBatchesOfTheWrongSizePanic(t *testing.T) {
	cfg := small(true)
	m := newTrained(t, reference.New(), cfg, 2, cfg.Init(1))
	right := make([]int32, 10)
	for _, n := range []int{0, 9, 11} {
		wrong := make([]int32, n)
		for _, c := range []struct {
			in, out []int32
		}{{wrong, right}, {right, wrong}} {
			want := fmt.Sprintf("model: %d inputs and %d targets, micro-batch = 2 of context = 5 needs 10 of each", len(c.in), len(c.out))
			for name, f := range map[string]func(){"Loss": func() { m.Loss(c.in, c.out) }, "Accumulate": func() { m.Accumulate(c.in, c.out, 1) }} {
				if got := panicOf(f); got != want {
					t.Errorf("%s panics with %q, want %q", name, got, want)
				}
			}
		}
	}
	i := newInference(t, cfg)
	if got := panicOf(func() { i.Accumulate(right[:5], right[:5], 1) }); got != "model: Accumulate on a model made by NewInference" {
		t.Errorf("training without gradients panics with %q", got)
	}
}

// A rehearsal changes no weight and no moment, and the step after it is the first one.
func TestRehearsalChangesNothing(t *testing.T) {
	for name, dev := range devices(t) {
		cfg := small(true)
		params := perturbed(cfg, 2)
		inputs, targets := batchOf(cfg, 2, 3)
		var after [2][]float32
		for i := range after {
			m := newTrained(t, dev, cfg, 2, params)
			if i == 1 {
				m.Rehearse()
				if got := download(dev, m.Params()); !slices.Equal(got, params) {
					t.Errorf("%s: a rehearsal changed the weights", name)
				}
				first, second := m.Moments()
				for _, b := range []kernels.Buffer{first, second} {
					if got := download(dev, b); norm(got) != 0 {
						t.Errorf("%s: a rehearsal left moments of norm %v", name, norm(got))
					}
				}
			}
			trainStep(m, inputs, targets, 1)
			trainStep(m, inputs, targets, 2)
			after[i] = download(dev, m.Params())
		}
		if !slices.Equal(after[0], after[1]) {
			t.Errorf("%s: training after a rehearsal differs", name)
		}
		if slices.Equal(after[0], params) {
			t.Errorf("%s: training changed nothing", name)
		}
	}
}

// watched counts what a rehearsal runs.
type watched struct {
	*reference.Device
	calls map[string]int
}

func (w *watched) SquaredNorm(x kernels.Buffer) float64 {
	w.calls["norm"]++
	return w.Device.SquaredNorm(x)
}

func (w *watched) AdamW(p, g, m, v kernels.Buffer, s kernels.AdamWStep) {
	w.calls["adamw"]++
	w.Device.AdamW(p, g, m, v, s)
}

func (w *watched) UpdateWeight(x kernels.Weight, g, m, v kernels.Buffer, s kernels.AdamWStep) {
	w.calls["update"]++
	w.Device.UpdateWeight(x, g, m, v, s)
}

func (w *watched) CrossEntropy(losses, logits kernels.Buffer, targets kernels.Tokens, first, rows, vocab int, scale float32) {
	w.calls["loss"]++
	w.Device.CrossEntropy(losses, logits, targets, first, rows, vocab, scale)
}

// What a rehearsal leaves out is loaded in the first step instead.
func TestRehearsalRunsAWholeStep(t *testing.T) {
	for _, tied := range []bool{true, false} {
		cfg := small(tied)
		dev := &watched{reference.New(), map[string]int{}}
		m := newTrained(t, dev, cfg, 1, cfg.Init(1))
		m.Rehearse()
		want := map[string]int{"norm": 1, "adamw": 1, "update": 9, "loss": 1}
		if !tied {
			want["adamw"] = 2 // the table too, which is no head then
		}
		for name, n := range want {
			if dev.calls[name] != n {
				t.Errorf("tied=%v: %s ran %d times, want %d", tied, name, dev.calls[name], n)
			}
		}
	}
}

// full is a device without room for the weights or for tokens.
type full struct {
	*reference.Device
	tokens, weights int // how many it makes
}

var errFull = errors.New("no room")

func (f *full) AllocTokens(n int) (kernels.Tokens, error) {
	if f.tokens--; f.tokens < 0 {
		return nil, errFull
	}
	return f.Device.AllocTokens(n)
}

func (f *full) NewWeight(b kernels.Buffer, out, in int, train bool) (kernels.Weight, error) {
	if f.weights--; f.weights < 0 {
		return nil, errFull
	}
	return f.Device.NewWeight(b, out, in, train)
}

func TestNewNamesWhatHasNoRoom(t *testing.T) {
	cfg := small(false)
	for _, c := range []struct {
		tokens, weights int
		want            string
	}{
		{0, 100, "model: 10 tokens: no room"},
		{1, 100, "model: 5 tokens: no room"},
		{2, 100, "model: 10 tokens: no room"},
		{100, 0, "model: model.layers.0.self_attn.q_proj.weight (16, 8): no room"},
		{100, 2, "model: model.layers.0.mlp.gate_proj.weight (20, 8): no room"},
		{100, 7, "model: model.layers.1.mlp.down_proj.weight (8, 10): no room"},
		{100, 8, "model: lm_head.weight (13, 8): no room"},
	} {
		_, err := New(&full{reference.New(), c.tokens, c.weights}, cfg, 2)
		if !errors.Is(err, errFull) || err.Error() != c.want {
			t.Errorf("room for %d and %d: error %v, want %s", c.tokens, c.weights, err, c.want)
		}
	}
	if _, err := New(&full{reference.New(), 100, 9}, cfg, 2); err != nil {
		t.Error(err)
	}
	_, err := New(&counting{Device: reference.New(), limit: int64(cfg.Parameters()) + 7}, cfg, 1)
	if want := fmt.Sprintf("model: %d bytes after %d: no memory", 4*cfg.Parameters(), 4*cfg.Parameters()); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestGenerateStopsWhenItIsToldTo(t *testing.T) {
	m := newInference(t, small(true))
	for _, n := range []int{0, 1, 5} {
		if got := collect(t, m, []int32{1}, n, 1, 0, 1); len(got) != n {
			t.Errorf("%d tokens, want %d", len(got), n)
		}
	}
	tokens, err := m.Generate([]int32{1, 2}, 100, 0, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for range tokens {
		if got++; got == 3 {
			break
		}
	}
	if got != 3 {
		t.Errorf("%d tokens came, the third was to be the last", got)
	}
	for _, temperature := range []float64{0, 1e-3, 1e3} {
		if _, err := m.Generate([]int32{0, 12}, 1, temperature, 13, 1); err != nil {
			t.Error(err)
		}
	}
	for _, temperature := range []float64{0.99e-3, 1.001e3, -1e-9} {
		want := fmt.Sprintf("model: temperature = %v, allowed are 0 and 0.001 to 1000", temperature)
		if _, err := m.Generate([]int32{1}, 1, temperature, 0, 1); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	for tokens, want := range map[string]string{
		"":      "model: an empty prompt has no next token: give at least one token",
		"\x00*": "model: token 1 of the prompt is 42, the vocabulary has 0 to 12",
	} {
		var prompt []int32
		for _, b := range tokens {
			prompt = append(prompt, b)
		}
		if _, err := m.Logits(prompt); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		if _, err := m.Generate(prompt, 1, 0, 0, 0); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// Prompts are padded to a power of two, to the context at most.
func TestPrefixesAscend(t *testing.T) {
	cfg := small(true)
	for context, want := range map[int][]int{1: {1}, 16: {16}, 17: {16, 17}, 40: {16, 32, 40}, 64: {16, 32, 64}} {
		cfg.Context = context
		m := newInference(t, cfg)
		var got []int
		for _, p := range m.prefixes {
			got = append(got, p.shape.Seq)
		}
		if !slices.Equal(got, want) {
			t.Errorf("context %d: prefixes of %v, want %v", context, got, want)
		}
		for n := 1; n <= context; n++ {
			i, _ := slices.BinarySearch(want, n)
			if p := m.prefix(n); p.shape.Seq != want[i] || p.shape.Batch != 1 {
				t.Errorf("context %d: %d tokens take a prefix of %d, want %d", context, n, p.shape.Seq, want[i])
			}
		}
	}
}

func TestDrawOfTheMostLikely(t *testing.T) {
	for _, c := range []struct {
		logits      []float32
		temperature float64
		topK        int
		want        int32
	}{
		{[]float32{0, 2, 1, 2}, 0, 0, 1}, // of equals the first
		{[]float32{3, 2, 1}, 0, 2, 0},
		{[]float32{0, 5, 1, 5}, 1, 1, 1},
		{[]float32{-1e30, -1e30, 0}, 1, 0, 2},
		{[]float32{0, 1000, 0}, 1, 0, 1},
		{[]float32{0, 1000, 0}, 1, 7, 1}, // more than there are
	} {
		for seed := range uint64(20) {
			s := newSampler(len(c.logits), c.temperature, c.topK, seed)
			if got := s.draw(c.logits); got != c.want {
				t.Errorf("%v at temperature %v, top-k %d: token %d, want %d", c.logits, c.temperature, c.topK, got, c.want)
			}
		}
	}
	// The draws of a seed are pinned: a text is the same everywhere.
	s := newSampler(5, 1.5, 3, 9)
	var b strings.Builder
	for range 30 {
		fmt.Fprint(&b, s.draw([]float32{1, -2, 0.5, 3, 0}))
	}
	if got, want := b.String(), "333303330033333033003323332233"; got != want {
		t.Errorf("drew %s, want %s", got, want)
	}
}
