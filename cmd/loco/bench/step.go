package bench

import (
	"math"
	"slices"

	"loco/kernels"
	"loco/optim"
	"loco/trainer/model"
)

// stepCase is a whole training step: gradient, its norm, AdamW. Its work is what
// model.Config.FLOPsPerToken counts: six operations for each weight of a matrix and token,
// and causal attention's; what a step computes beside these counts as time only.
func stepCase(s Step) Case {
	cfg := s.Config
	tokens := s.Batch * cfg.Context
	return Case{
		Kernel: "training step", Shape: s.shape(), Limit: multiplications(), Extra: s.Extra,
		Work: cfg.FLOPsPerToken(cfg.Context) * float64(tokens), Tokens: tokens,
		Memory: cfg.Memory(s.Batch).Total(),
		Setup: func(dev kernels.Device) (func(), error) {
			t, err := newTraining(dev, cfg, s.Batch)
			if err != nil {
				return nil, err
			}
			return t.step, nil
		},
	}
}

// training is a model at work on one batch of random tokens.
type training struct {
	dev             kernels.Device
	m               *model.Model
	adamw           optim.AdamW
	inputs, targets []int32
	steps           uint64
}

func newTraining(dev kernels.Device, cfg model.Config, batch int) (*training, error) {
	m, err := model.New(dev, cfg, batch)
	if err != nil {
		return nil, err
	}
	layout := cfg.Layout()
	norms := slices.IndexFunc(layout, func(t model.Tensor) bool { return !t.Decay })
	matrices, vectors := m.Params().Slice(0, layout[norms].Offset), m.Params().Slice(layout[norms].Offset, cfg.Parameters())
	fill(dev, matrices, float32(cfg.InitStd*math.Sqrt(3))) // uniform, of that deviation
	ones := make([]float32, vectors.Len())
	for i := range ones {
		ones[i] = 1
	}
	dev.Upload(vectors, ones)
	tokens := ids(m.Rows()+1, cfg.Vocab)
	return &training{
		dev: dev, m: m, inputs: tokens[:m.Rows()], targets: tokens[1:],
		adamw: optim.AdamW{LR: 1e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1, Schedule: optim.Schedule{Kind: "constant"}},
	}, nil
}

func (t *training) step() {
	t.m.ZeroGrad()
	t.m.Accumulate(t.inputs, t.targets, 1/float32(t.m.Rows()))
	norm := math.Sqrt(t.dev.SquaredNorm(t.m.Grads()))
	t.m.Update(t.adamw.Step(norm, t.steps, t.steps))
	t.steps++
}
