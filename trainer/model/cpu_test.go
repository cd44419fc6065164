package model

import (
	"fmt"
	"slices"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/reference"
)

// devices are the reference and the CPU at one thread and at two.
func devices(t testing.TB) map[string]kernels.Device {
	t.Helper()
	all := map[string]kernels.Device{"reference": reference.New()}
	for threads := 1; threads <= 2; threads++ {
		all[fmt.Sprintf("cpu%d", threads)] = newCPU(t, threads)
	}
	return all
}

func newCPU(t testing.TB, threads int) kernels.Device {
	t.Helper()
	dev, err := cpu.New(threads, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// medium is large enough that a CPU cuts its work for two threads.
func medium() Config {
	cfg := Default()
	cfg.Layers, cfg.Context, cfg.FFN = 1, 48, 256
	return cfg
}

func trainStep(m *Model, inputs, targets []int32, step int) float64 {
	m.ZeroGrad()
	loss := m.Accumulate(inputs, targets, 1/float32(m.Rows()))
	c := float32(step)
	m.Update(kernels.AdamWStep{LR: 0.002, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: c / (c + 9), Correction2: c / (c + 19), GradScale: 1})
	return loss
}

func TestThreadsChangeNoBit(t *testing.T) {
	cfg := medium()
	var params [2][]float32
	var losses [2][]float64
	for i := range params {
		dev := newCPU(t, i+1)
		m := newTrained(t, dev, cfg, 2, cfg.Init(1))
		for step := 1; step <= 5; step++ {
			inputs, targets := batchOf(cfg, 2, uint64(step))
			losses[i] = append(losses[i], trainStep(m, inputs, targets, step))
		}
		params[i] = download(dev, m.Params())
	}
	if !slices.Equal(losses[0], losses[1]) || !slices.Equal(params[0], params[1]) {
		t.Errorf("losses with one thread %v, with two %v; parameters equal: %v", losses[0], losses[1], slices.Equal(params[0], params[1]))
	}
	if slices.Equal(params[0], cfg.Init(1)) {
		t.Error("five steps changed no parameter")
	}
}

func TestTrainingStepAllocatesNothing(t *testing.T) {
	cfg := small(true)
	for _, checkpoint := range []bool{false, true} {
		cfg.Checkpoint = checkpoint
		m := newTrained(t, newCPU(t, 2), cfg, 2, cfg.Init(1))
		inputs, targets := batchOf(cfg, 2, 1)
		if n := testing.AllocsPerRun(10, func() { trainStep(m, inputs, targets, 1) }); n != 0 {
			t.Errorf("checkpoint=%v: a training step allocates %v times, want 0", checkpoint, n)
		}
		if n := testing.AllocsPerRun(10, func() { m.Loss(inputs, targets) }); n != 0 {
			t.Errorf("checkpoint=%v: an evaluation allocates %v times, want 0", checkpoint, n)
		}
	}
}

func BenchmarkTrainingStep(b *testing.B) {
	cfg := Default()
	const batch = 8
	dev := newCPU(b, 2)
	m := newTrained(b, dev, cfg, batch, cfg.Init(1))
	inputs, targets := batchOf(cfg, batch, 1)
	for b.Loop() {
		trainStep(m, inputs, targets, 1)
	}
	seconds := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(float64(m.Rows())/seconds, "tokens/s")
	b.ReportMetric(float64(m.Rows())*cfg.FLOPsPerToken(cfg.Context)/seconds/1e9, "GFLOP/s")
	b.ReportMetric(0, "ns/op")
}
