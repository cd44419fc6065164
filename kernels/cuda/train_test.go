//go:build cuda && linux && amd64

package cuda

import (
	"math"
	"slices"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer/model"
)

// tiny is a model whose products have tails: of rows, of columns, and in the head of the 8 values
// that are copied at once.
func tiny() model.Config {
	c := model.Default()
	c.Vocab, c.Layers, c.Width, c.Heads, c.KVHeads, c.FFN, c.Context = 30, 2, 64, 4, 2, 104, 40
	return c
}

// train returns the losses of steps steps on a language in which the next token follows from
// the last. A batch is so many micro-batches.
func train(t *testing.T, dev kernels.Device, cfg model.Config, batch, micro, steps int) []float64 {
	t.Helper()
	m, err := model.New(dev, cfg, batch/micro)
	if err != nil {
		t.Fatal(err)
	}
	dev.Upload(m.Params(), cfg.Init(7))
	rows := micro * m.Rows()
	inputs, targets := make([]int32, rows), make([]int32, rows)
	state := uint32(1)
	var losses []float64
	for step := 1; step <= steps; step++ {
		for i := range inputs {
			if i%cfg.Context == 0 {
				state = state*1664525 + 1013904223
				inputs[i] = int32(state>>16) % int32(cfg.Vocab)
			} else {
				inputs[i] = targets[i-1]
			}
			targets[i] = (7*inputs[i] + 3) % int32(cfg.Vocab)
		}
		m.ZeroGrad()
		loss := 0.0
		for at := 0; at < rows; at += m.Rows() {
			loss += m.Accumulate(inputs[at:at+m.Rows()], targets[at:at+m.Rows()], 1/float32(rows))
		}
		c := float32(step)
		m.Update(kernels.AdamWStep{LR: 0.003, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: c / (c + 9), Correction2: c / (c + 19), GradScale: 1})
		losses = append(losses, loss/float64(rows))
	}
	return losses
}

// lossTolerance is how far a step's loss in bf16 may be from the CPU's in float32, in nats: twice
// what 20 steps made of the roundings where the loss rose and fell again on its way.
// lossToleranceFP32 is that of float32 with another order of sums.
const (
	lossTolerance     = 0.05
	lossToleranceFP32 = 1e-5
)

func TestTrainingFollowsTheCPU(t *testing.T) {
	const steps = 20
	cpu, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	checkpoint := tiny()
	checkpoint.Checkpoint = true
	untied := tiny()
	untied.Tied = false
	for _, c := range []struct {
		name      string
		cfg       model.Config
		micro     int
		precision kernels.Precision
		tolerance float64
	}{
		{"bf16", tiny(), 1, kernels.BF16, lossTolerance},
		{"bf16 with checkpoints", checkpoint, 1, kernels.BF16, lossTolerance},
		{"bf16 untied in micro-batches", untied, 2, kernels.BF16, lossTolerance},
		{"fp32 in micro-batches", tiny(), 2, kernels.FP32, lossToleranceFP32},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := device(t, c.precision)
			got, want := train(t, d, c.cfg, 2, c.micro, steps), train(t, cpu, c.cfg, 2, c.micro, steps)
			worst := 0.0
			for i := range want {
				worst = max(worst, math.Abs(got[i]-want[i]))
				if !(math.Abs(got[i]-want[i]) <= c.tolerance) {
					t.Errorf("step %d: loss %.6f, the CPU's is %.6f", i+1, got[i], want[i])
				}
			}
			if want[steps-1] > want[0]-0.3 {
				t.Errorf("the CPU's loss went from %.3f to %.3f: this model learns nothing that could differ", want[0], want[steps-1])
			}
			t.Logf("losses %.4f to %.4f, at most %.2g from the CPU's; arena %d bytes", got[0], got[steps-1], worst, d.Taken())
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A model takes of a device what it says: as few bytes, and what operations use while they run.
func TestMemoryIsWhatIsTaken(t *testing.T) {
	const spare = 256 << 10
	for _, precision := range []kernels.Precision{kernels.FP32, kernels.BF16} {
		for _, checkpoint := range []bool{false, true} {
			cfg := tiny()
			cfg.FFN, cfg.Vocab, cfg.Checkpoint = 256, 300, checkpoint
			d := device(t, precision)
			d.slabBytes = 0
			m, err := model.New(d, cfg, 3)
			if err != nil {
				t.Fatal(err)
			}
			d.Upload(m.Params(), cfg.Init(1))
			m.Rehearse()
			need := m.Memory().Total() - m.Memory().Packed
			if precision == kernels.BF16 {
				need = m.Memory().Halves()
			}
			if got := d.Taken(); got < need || got > need+spare {
				t.Errorf("%s, checkpoint=%v: %d bytes are taken, Memory says %d", precision, checkpoint, got, need)
			}
			taken, params := d.Taken(), download(d, m.Params())
			if !slices.Equal(params, cfg.Init(1)) {
				t.Errorf("%s: the rehearsal changed the parameters", precision)
			}
			first, second := m.Moments()
			for _, v := range append(download(d, first), download(d, second)...) {
				if v != 0 {
					t.Fatalf("%s: the rehearsal left a moment of %v", precision, v)
				}
			}
			m.ZeroGrad()
			m.Accumulate(make([]int32, m.Rows()), make([]int32, m.Rows()), 1)
			m.Update(kernels.AdamWStep{LR: 1, Eps: 1, Correction1: 1, Correction2: 1, GradScale: 1})
			if d.Taken() != taken {
				t.Errorf("%s: the first step took %d bytes more than its rehearsal", precision, d.Taken()-taken)
			}
		}
	}
}

// A model without training works on prefixes of its buffers, whose forms change with every
// length.
func TestLogitsFollowTheCPU(t *testing.T) {
	cfg := tiny()
	cpu, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	for _, c := range []struct {
		precision kernels.Precision
		tolerance float64
	}{{kernels.FP32, 1e-5}, {kernels.BF16, 0.03}} {
		d := device(t, c.precision)
		var logits [2][][]float32
		for i, dev := range []kernels.Device{cpu, d} {
			m, err := model.NewInference(dev, cfg, 1)
			if err != nil {
				t.Fatal(err)
			}
			dev.Upload(m.Params(), cfg.Init(3))
			for _, n := range []int{1, 17, 40, 5} {
				tokens := make([]int32, n)
				for k := range tokens {
					tokens[k] = int32(k*7) % int32(cfg.Vocab)
				}
				l, err := m.Logits(tokens)
				if err != nil {
					t.Fatal(err)
				}
				logits[i] = append(logits[i], append([]float32(nil), l...))
			}
		}
		for k := range logits[0] {
			for i, want := range logits[0][k] {
				if got := logits[1][k][i]; !(math.Abs(float64(got-want)) <= c.tolerance) {
					t.Errorf("%s, prompt %d: logit %d is %v, the CPU's %v", c.precision, k, i, got, want)
				}
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
