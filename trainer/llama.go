package trainer

import (
	"fmt"
	"math"

	"loco/kernels"
	"loco/optim"
	"loco/trainer/data"
	"loco/trainer/model"
)

// Llama is the Learner of a worker: the model, its batches and AdamW.
type Llama struct {
	dev     kernels.Device
	model   *model.Model
	adamw   optim.AdamW
	sampler *data.Sampler
	heldout *data.Heldout

	inputs, targets         []int32 // (batch, context)
	evalInputs, evalTargets []int32 // (micro-batch, context)
}

// NewLlama prepares a learner that trains batch sequences a step, in micro-batches of
// the model's size. The sampler yields batches of that size, heldout micro-batches.
func NewLlama(dev kernels.Device, m *model.Model, adamw optim.AdamW, sampler *data.Sampler, batch int, heldout *data.Heldout) (*Llama, error) {
	if batch < 1 || batch%m.MicroBatch() != 0 {
		return nil, fmt.Errorf("trainer: batch = %d is not a multiple of micro-batch = %d", batch, m.MicroBatch())
	}
	if err := adamw.Schedule.Validate(); err != nil {
		return nil, err
	}
	n := batch * m.Config().Context
	return &Llama{
		dev: dev, model: m, adamw: adamw, sampler: sampler, heldout: heldout,
		inputs: make([]int32, n), targets: make([]int32, n),
		evalInputs: make([]int32, m.Rows()), evalTargets: make([]int32, m.Rows()),
	}, nil
}

// Parameters is the length of every vector.
func (l *Llama) Parameters() int { return l.model.Params().Len() }

// Err is what broke the device: one whose operations can fail keeps its first error.
func (l *Llama) Err() error {
	if d, ok := l.dev.(interface{ Err() error }); ok {
		return d.Err()
	}
	return nil
}

// Gradient runs forward and backward over batch number step.
func (l *Llama) Gradient(step uint64) (lossSum float64, tokens int, err error) {
	if err := l.sampler.Batch(step, l.inputs, l.targets); err != nil {
		return 0, 0, err
	}
	l.model.ZeroGrad()
	n := len(l.inputs)
	scale := float32(1 / float64(n))
	for at := 0; at < n; at += l.model.Rows() {
		lossSum += l.model.Accumulate(l.inputs[at:at+l.model.Rows()], l.targets[at:at+l.model.Rows()], scale)
	}
	return lossSum, n, nil
}

// Update takes one AdamW step from the gradient.
func (l *Llama) Update(step, updates uint64) (gradNorm float64) {
	gradNorm = math.Sqrt(l.dev.SquaredNorm(l.model.Grads()))
	if !math.IsNaN(gradNorm) && !math.IsInf(gradNorm, 0) {
		l.model.Update(l.adamw.Step(gradNorm, step, updates))
	}
	return gradNorm
}

// Evaluate returns the mean held-out loss of the present parameters.
func (l *Llama) Evaluate() (float64, error) {
	return Loss(l.model, l.heldout, l.evalInputs, l.evalTargets)
}

// Loss is the mean loss of a model over held-out batches, in nats per token. inputs
// and targets are scratch of the model's Rows.
func Loss(m *model.Model, heldout *data.Heldout, inputs, targets []int32) (float64, error) {
	sum, tokens := 0.0, 0
	for i := range heldout.Batches() {
		n, err := heldout.Batch(i, inputs, targets)
		if err != nil {
			return 0, err
		}
		sum += m.Loss(inputs, targets)
		tokens += n
	}
	return sum / float64(tokens), nil
}

// ReadGradient copies the gradient to dst.
func (l *Llama) ReadGradient(dst []float32) { l.dev.Download(dst, l.model.Grads()) }

// WriteGradient replaces the gradient.
func (l *Llama) WriteGradient(src []float32) { l.dev.Upload(l.model.Grads(), src) }

// ReadParams copies θ to dst.
func (l *Llama) ReadParams(dst []float32) { l.dev.Download(dst, l.model.Params()) }

// WriteParams replaces θ.
func (l *Llama) WriteParams(src []float32) { l.dev.Upload(l.model.Params(), src) }

// ReadMoments copies AdamW's moments.
func (l *Llama) ReadMoments(m, v []float32) {
	first, second := l.model.Moments()
	l.dev.Download(m, first)
	l.dev.Download(v, second)
}

// WriteMoments replaces AdamW's moments.
func (l *Llama) WriteMoments(m, v []float32) {
	first, second := l.model.Moments()
	l.dev.Upload(first, m)
	l.dev.Upload(second, v)
}
