package model

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"

	"loco/kernels"
)

// fixture is what testdata/fixture.py writes.
type fixture struct {
	Config struct {
		Vocab, Layers, Width, Heads, FFN, Context int
		KVHeads                                   int     `json:"kv_heads"`
		RopeTheta                                 float64 `json:"rope_theta"`
		NormEps                                   float64 `json:"norm_eps"`
		Tied                                      bool
	}
	Batch int
	AdamW struct {
		LR, Beta1, Beta2, Eps, Clip float64
		WeightDecay                 float64 `json:"weight_decay"`
	}
	Tokens                      string
	Weights, Gradients, Trained map[string]string
	Logits                      string
	Losses                      []float64
	GradientNorms               []float64 `json:"gradient_norms"`
}

func readFixture(t *testing.T, name string) (fixture, Config) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	c := f.Config
	cfg := Config{
		Vocab: c.Vocab, Layers: c.Layers, Width: c.Width, Heads: c.Heads, KVHeads: c.KVHeads, FFN: c.FFN,
		Context: c.Context, RopeTheta: c.RopeTheta, NormEps: c.NormEps, InitStd: 0.02, Tied: c.Tied,
	}
	return f, cfg
}

// words decodes base64 of 32-bit little-endian words.
func words(t *testing.T, text string) []uint32 {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]uint32, len(raw)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return out
}

func floats(t *testing.T, text string) []float32 {
	t.Helper()
	var out []float32
	for _, w := range words(t, text) {
		out = append(out, math.Float32frombits(w))
	}
	return out
}

// arena lays named tensors out as a model's arena.
func arena(t *testing.T, cfg Config, tensors map[string]string) []float32 {
	t.Helper()
	var out []float32
	for _, tensor := range cfg.Layout() {
		values := floats(t, tensors[tensor.Name])
		if len(values) != tensor.Len {
			t.Fatalf("%s: the fixture has %d values, the layout %d", tensor.Name, len(values), tensor.Len)
		}
		out = append(out, values...)
	}
	if len(cfg.Layout()) != len(tensors) {
		t.Fatalf("the fixture has %d tensors, the layout %d", len(tensors), len(cfg.Layout()))
	}
	return out
}

// batch returns the inputs and targets of one step.
func (f *fixture) batch(t *testing.T, step int) (inputs, targets []int32) {
	t.Helper()
	row := f.Config.Context + 1
	all := words(t, f.Tokens)[step*f.Batch*row : (step+1)*f.Batch*row]
	for b := range f.Batch {
		for i := range f.Config.Context {
			inputs = append(inputs, int32(all[b*row+i]))
			targets = append(targets, int32(all[b*row+i+1]))
		}
	}
	return inputs, targets
}

// within says that got differs from want by at most tolerance. NaN is within nothing.
func within(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance }

// near reports the largest difference between two tensors, relative to the largest
// value of the second. It is NaN where one of either is.
func near(got, want []float32) float64 {
	worst, scale := 0.0, 0.0
	for i := range want {
		worst = math.Max(worst, math.Abs(float64(got[i])-float64(want[i])))
		scale = math.Max(scale, math.Abs(float64(want[i])))
	}
	return worst / scale
}

func TestAgreesWithPyTorch(t *testing.T) {
	// The fixture is computed in float64. The reference device differs from it by the
	// rounding of the results to float32, the CPU by that of every operation: sums
	// of up to 29 products, two blocks deep.
	tolerance := func(device string) float64 {
		if device == "reference" {
			return 2e-7
		}
		return 2e-5
	}
	for _, name := range []string{"fixture_tied.json", "fixture_untied.json"} {
		f, cfg := readFixture(t, name)
		for device, dev := range devices(t) {
			t.Run(name+"/"+device, func(t *testing.T) {
				m := newTrained(t, dev, cfg, f.Batch, arena(t, cfg, f.Weights))
				compareFirstStep(t, &f, m, tolerance(device))
				m = newTrained(t, dev, cfg, f.Batch, arena(t, cfg, f.Weights))
				compareTraining(t, &f, m, tolerance(device))
			})
		}
	}
}

func compareFirstStep(t *testing.T, f *fixture, m *Model, tolerance float64) {
	t.Helper()
	inputs, targets := f.batch(t, 0)
	want := floats(t, f.Logits) // (B, T, V)
	for b := range f.Batch {
		for i := range m.cfg.Context {
			row := b*m.cfg.Context + i
			got, err := m.Logits(inputs[b*m.cfg.Context : row+1])
			if err != nil {
				t.Fatal(err)
			}
			if worst := near(got, want[row*m.cfg.Vocab:(row+1)*m.cfg.Vocab]); !(worst <= tolerance) {
				t.Errorf("logits of sequence %d, position %d differ by %.2g", b, i, worst)
			}
		}
	}
	scale := 1 / float32(m.Rows())
	if loss := m.Loss(inputs, targets) / float64(m.Rows()); !within(loss/f.Losses[0], 1, tolerance) {
		t.Errorf("loss %v, want %v", loss, f.Losses[0])
	}
	m.ZeroGrad()
	m.Accumulate(inputs, targets, scale)
	got, gradients := download(m.dev, m.Grads()), arena(t, m.cfg, f.Gradients)
	for _, tensor := range m.cfg.Layout() {
		at := func(x []float32) []float32 { return x[tensor.Offset : tensor.Offset+tensor.Len] }
		if worst := near(at(got), at(gradients)); !(worst <= tolerance) {
			t.Errorf("gradient of %s differs by %.2g", tensor.Name, worst)
		}
	}
}

// compareTraining takes ten AdamW steps, clipped as clip_grad_norm_ does.
func compareTraining(t *testing.T, f *fixture, m *Model, tolerance float64) {
	t.Helper()
	a := f.AdamW
	for step := range f.Losses {
		inputs, targets := f.batch(t, step)
		m.ZeroGrad()
		loss := m.Accumulate(inputs, targets, 1/float32(m.Rows())) / float64(m.Rows())
		norm := math.Sqrt(m.dev.SquaredNorm(m.Grads()))
		if !within(loss/f.Losses[step], 1, 10*tolerance) || !within(norm/f.GradientNorms[step], 1, 10*tolerance) {
			t.Errorf("step %d: loss %v and gradient norm %v, want %v and %v", step, loss, norm, f.Losses[step], f.GradientNorms[step])
		}
		m.Update(kernels.AdamWStep{
			LR: float32(a.LR), Beta1: float32(a.Beta1), Beta2: float32(a.Beta2), Eps: float32(a.Eps), WeightDecay: float32(a.WeightDecay),
			Correction1: float32(1 - math.Pow(a.Beta1, float64(step+1))),
			Correction2: float32(1 - math.Pow(a.Beta2, float64(step+1))),
			GradScale:   float32(min(1, a.Clip/(norm+1e-6))),
		})
	}
	got, want := download(m.dev, m.Params()), arena(t, m.cfg, f.Trained)
	start := arena(t, m.cfg, f.Weights)
	for _, tensor := range m.cfg.Layout() {
		at := func(x []float32) []float32 { return x[tensor.Offset : tensor.Offset+tensor.Len] }
		if worst := near(at(got), at(want)); !(worst <= 10*tolerance) {
			t.Errorf("after ten steps %s differs by %.2g", tensor.Name, worst)
		}
		if moved := near(at(start), at(want)); !(moved >= 1e-3) {
			t.Errorf("%s moved by %.2g only: the test is blind to it", tensor.Name, moved)
		}
	}
}
