package model

import (
	"math"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/reference"
)

// small is a model in which every kind of tensor has its own shape: two query
// heads share a key-value head.
func small(tied bool) Config {
	return Config{Vocab: 13, Layers: 2, Width: 8, Heads: 4, KVHeads: 2, FFN: 10, Context: 5, RopeTheta: 100, NormEps: 1e-5, InitStd: 0.3, Tied: tied}
}

// batchOf returns fixed tokens and the targets that follow them.
func batchOf(cfg Config, sequences int, seed uint64) (inputs, targets []int32) {
	r := stream(seed, "test batch")
	for range sequences {
		row := make([]int32, cfg.Context+1)
		for i := range row {
			row[i] = int32(r.Next() % uint64(cfg.Vocab))
		}
		inputs = append(inputs, row[:cfg.Context]...)
		targets = append(targets, row[1:]...)
	}
	return inputs, targets
}

// perturbed returns initial parameters with norms away from 1, so that a gradient
// that ignores them is seen.
func perturbed(cfg Config, seed uint64) []float32 {
	params := cfg.Init(seed)
	r := stream(seed, "test norms")
	for _, t := range cfg.Layout() {
		if !t.Decay {
			for i := range t.Len {
				params[t.Offset+i] += float32(r.Uniform() - 0.5)
			}
		}
	}
	return params
}

func newTrained(t testing.TB, dev kernels.Device, cfg Config, batch int, params []float32) *Model {
	t.Helper()
	m, err := New(dev, cfg, batch)
	if err != nil {
		t.Fatal(err)
	}
	dev.Upload(m.Params(), params)
	return m
}

func download(dev kernels.Device, b kernels.Buffer) []float32 {
	out := make([]float32, b.Len())
	dev.Download(out, b)
	return out
}

// Central differences on the float64 reference, of every parameter.
func TestGradientIsTheSlopeOfTheLoss(t *testing.T) {
	for _, tied := range []bool{true, false} {
		cfg := small(tied)
		const batch = 2
		const step = 1.0 / 1024
		params := perturbed(cfg, 1)
		for i, x := range params {
			params[i] = float32(math.Round(float64(x)/step)) * step // so that x ± step is exact
		}
		inputs, targets := batchOf(cfg, batch, 2)
		targets[3] = -1 // one position is left out
		scale := float32(1) / 8

		dev := reference.New()
		m := newTrained(t, dev, cfg, batch, params)
		m.ZeroGrad()
		m.Accumulate(inputs, targets, scale)
		grads := download(dev, m.Grads())

		for _, tensor := range cfg.Layout() {
			worst := 0.0
			for i := tensor.Offset; i < tensor.Offset+tensor.Len; i++ {
				at := func(x float32) float64 {
					saved := params[i]
					params[i] = x
					dev.Upload(m.Params(), params)
					params[i] = saved
					return m.Loss(inputs, targets) * float64(scale)
				}
				// Two steps, extrapolated: the error is of fourth order.
				slope := func(h float32) float64 {
					return (at(params[i]+h) - at(params[i]-h)) / (2 * float64(h))
				}
				want := (4*slope(step) - slope(2*step)) / 3
				// The gradient comes rounded to float32.
				worst = max(worst, math.Abs(want-float64(grads[i]))-6e-8*math.Abs(want))
			}
			// What is left is step⁴ = 10⁻¹² times a fifth derivative.
			if !(worst <= 1e-8) {
				t.Errorf("tied=%v: %s differs from the slope of the loss by up to %.2g", tied, tensor.Name, worst)
			}
			if !(norm(grads[tensor.Offset:tensor.Offset+tensor.Len]) >= 1e-4) {
				t.Errorf("tied=%v: %s has no gradient: the test is blind to it", tied, tensor.Name)
			}
		}
	}
}

func norm(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

func TestCheckpointingChangesNoBit(t *testing.T) {
	for name, dev := range devices(t) {
		cfg := small(false)
		params := perturbed(cfg, 3)
		inputs, targets := batchOf(cfg, 2, 4)
		var grads [2][]float32
		var loss [2]float64
		for i, checkpoint := range []bool{false, true} {
			cfg.Checkpoint = checkpoint
			m := newTrained(t, dev, cfg, 2, params)
			m.ZeroGrad()
			loss[i] = m.Accumulate(inputs, targets, 0.1)
			grads[i] = download(dev, m.Grads())
		}
		if loss[0] != loss[1] || !slices.Equal(grads[0], grads[1]) {
			t.Errorf("%s: losses %v, gradients equal: %v; want both equal to the bit", name, loss, slices.Equal(grads[0], grads[1]))
		}
	}
}

func TestMicroBatchesAddUpToTheBatch(t *testing.T) {
	for name, dev := range devices(t) {
		cfg := small(true)
		params := perturbed(cfg, 5)
		inputs, targets := batchOf(cfg, 4, 6)
		scale := 1 / float32(len(inputs))

		whole := newTrained(t, dev, cfg, 4, params)
		whole.ZeroGrad()
		lossWhole := whole.Accumulate(inputs, targets, scale)
		want := download(dev, whole.Grads())

		halves := newTrained(t, dev, cfg, 2, params)
		halves.ZeroGrad()
		n := halves.Rows()
		loss := halves.Accumulate(inputs[:n], targets[:n], scale) + halves.Accumulate(inputs[n:], targets[n:], scale)
		got := download(dev, halves.Grads())

		if !within(loss, lossWhole, 1e-5*lossWhole) {
			t.Errorf("%s: loss %v in two micro-batches, %v in one", name, loss, lossWhole)
		}
		for i := range want {
			if !within(float64(got[i]), float64(want[i]), 1e-6) {
				t.Fatalf("%s: gradient %d is %v in two micro-batches, %v in one", name, i, got[i], want[i])
			}
		}
		for _, tied := range []bool{true, false} { // a gradient begun anew is the first one
			cfg := small(tied)
			m := newTrained(t, dev, cfg, 4, perturbed(cfg, 5))
			var gradients [2][]float32
			for i := range gradients {
				m.ZeroGrad()
				m.Accumulate(inputs, targets, scale)
				gradients[i] = download(dev, m.Grads())
			}
			if !slices.Equal(gradients[0], gradients[1]) {
				t.Errorf("%s, tied=%v: after ZeroGrad the gradient of the same batch differs", name, tied)
			}
		}
	}
}

// A chunk of the head that does not divide the rows gives what one chunk gives.
func TestHeadWorksInChunks(t *testing.T) {
	cfg := small(true)
	cfg.Context = 140 // 20 sequences are chunks of 2048 and 752 rows, 10 are one of 1400
	cfg.Layers, cfg.Width, cfg.Heads, cfg.KVHeads = 1, 2, 1, 1
	dev := reference.New()
	params := cfg.Init(1)
	inputs, targets := batchOf(cfg, 20, 2)
	m := newTrained(t, dev, cfg, 20, params)
	if n := len(m.head.chunks); n != 2 {
		t.Fatalf("%d chunks, want 2", n)
	}
	m.ZeroGrad()
	loss := m.Accumulate(inputs, targets, 1)

	one := newTrained(t, dev, cfg, 10, params)
	one.ZeroGrad()
	want := one.Accumulate(inputs[:1400], targets[:1400], 1) + one.Accumulate(inputs[1400:], targets[1400:], 1)
	if !within(loss, want, 1e-9*want) {
		t.Errorf("loss %v, want %v", loss, want)
	}
	got, all := download(dev, m.Grads()), download(dev, one.Grads())
	for i := range got {
		if !within(float64(got[i]), float64(all[i]), 1e-5) {
			t.Fatalf("gradient %d is %v, want %v", i, got[i], all[i])
		}
	}
}

func TestLossAtStartIsThatOfAGuess(t *testing.T) {
	for _, tied := range []bool{true, false} {
		cfg := Default()
		cfg.Tied, cfg.Layers, cfg.Context = tied, 2, 32
		dev := reference.New()
		m, err := NewInference(dev, cfg, 2)
		if err != nil {
			t.Fatal(err)
		}
		dev.Upload(m.Params(), cfg.Init(7))
		inputs, targets := batchOf(cfg, 2, 8)
		loss := m.Loss(inputs, targets) / float64(m.Rows())
		if want := math.Log(256); !within(loss, want, 0.1) {
			t.Errorf("tied=%v: loss at start %v, want about %v", tied, loss, want)
		}
	}
}

func TestUpdateDecaysMatricesOnly(t *testing.T) {
	cfg := small(false)
	dev := reference.New()
	params := perturbed(cfg, 9)
	m := newTrained(t, dev, cfg, 1, params)
	m.ZeroGrad() // with a gradient of 0 decay is all that moves
	m.Update(kernels.AdamWStep{LR: 0.5, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.5, Correction1: 0.1, Correction2: 0.05, GradScale: 1})
	got := download(dev, m.Params())
	for _, tensor := range cfg.Layout() {
		for i := tensor.Offset; i < tensor.Offset+tensor.Len; i++ {
			want := params[i]
			if tensor.Decay {
				want *= 0.75
			}
			if !within(float64(got[i]), float64(want), 1e-6) {
				t.Fatalf("%s: %v became %v, want %v", tensor.Name, params[i], got[i], want)
			}
		}
	}
}

func TestMemoryIsWhatIsAllocated(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		cfg := small(true)
		cfg.Layers, cfg.Checkpoint = 5, checkpoint
		dev := &counting{Device: reference.New()}
		if _, err := New(dev, cfg, 3); err != nil {
			t.Fatal(err)
		}
		if got := exceptPacked(cfg.Memory(3)); got != 4*dev.values {
			t.Errorf("checkpoint=%v: Memory says %d bytes, New took %d", checkpoint, got, 4*dev.values)
		}
		dev.values = 0
		if _, err := NewInference(dev, cfg, 3); err != nil {
			t.Fatal(err)
		}
		if got := exceptPacked(cfg.InferenceMemory(3)); got != 4*dev.values {
			t.Errorf("checkpoint=%v: InferenceMemory says %d bytes, NewInference took %d", checkpoint, got, 4*dev.values)
		}
	}
	plain, saving := small(true), small(true)
	plain.Layers, saving.Layers, saving.Checkpoint = 8, 8, true
	if a, b := plain.Memory(4).Activations, saving.Memory(4).Activations; b*3 > a {
		t.Errorf("activations take %d bytes with checkpointing, %d without: want less than a third", b, a)
	}
}

// exceptPacked is what the model itself allocates.
func exceptPacked(m Memory) int64 { return m.Total() - m.Packed }

// TestMemoryCoversTheCPU compares the estimate with what a CPU takes, packed weights
// included.
func TestMemoryCoversTheCPU(t *testing.T) {
	for _, tied := range []bool{true, false} {
		cfg := small(tied)
		dev, err := cpu.New(1, kernels.FP32)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(dev, cfg, 2); err != nil {
			t.Fatal(err)
		}
		need := cfg.Memory(2)
		if got := dev.Allocated(); got > need.Total() || got <= exceptPacked(need) {
			t.Errorf("tied=%v: the model takes %d bytes of the CPU, Memory says %d, of which %d are packed weights", tied, got, need.Total(), need.Packed)
		}
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	}
}

// counting counts the values that a model allocates, and fails after limit.
type counting struct {
	*reference.Device
	values, limit int64
}

func (c *counting) Alloc(n int) (kernels.Buffer, error) {
	c.values += int64(n)
	if c.limit > 0 && c.values > c.limit {
		return nil, errNoMemory
	}
	return c.Device.Alloc(n)
}

func (c *counting) AllocTokens(n int) (kernels.Tokens, error) {
	c.values += int64(n)
	return c.Device.AllocTokens(n)
}

type noMemory struct{}

func (noMemory) Error() string { return "no memory" }

var errNoMemory = noMemory{}

func TestNewReportsADeviceThatIsFull(t *testing.T) {
	cfg := small(true)
	for _, limit := range []int64{1, int64(cfg.Parameters()), int64(4*cfg.Parameters() + 100)} {
		_, err := New(&counting{Device: reference.New(), limit: limit}, cfg, 1)
		if err == nil || !strings.Contains(err.Error(), "no memory") {
			t.Errorf("limit %d: error %v", limit, err)
		}
	}
}
