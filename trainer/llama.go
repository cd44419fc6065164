package trainer

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"loco/kernels"
	"loco/optim"
	"loco/trainer/data"
	"loco/trainer/model"
)

// Llama is the Learner of a worker: the model, its batches and AdamW, on one device or on
// several of one machine. Of several, each holds the whole model and trains an equal share
// of every batch; the gradients are summed in every inner step, so the replicas stay the
// same to the bit, and the outside sees one worker.
type Llama struct {
	replicas []Replica
	peers    kernels.Peers // nil with one replica
	adamw    optim.AdamW
	sampler  *data.Sampler
	heldout  *data.Heldout

	inputs, targets []int32   // (batch, context)
	evaluated       [][]int32 // of each replica, inputs and targets, (2, micro-batch, context)
	losses          []float64
	params, grads   []kernels.Buffer // of each replica
}

// Replica is a model and the device that it is on.
type Replica struct {
	Device kernels.Device
	Model  *model.Model
}

// NewLlama prepares a learner that trains batch sequences a step, in micro-batches of
// the models' size. The replicas hold the same parameters; peers sums their gradients,
// and may be nil when there is one. The sampler yields batches of that size, heldout
// micro-batches.
func NewLlama(replicas []Replica, peers kernels.Peers, adamw optim.AdamW, sampler *data.Sampler, batch int, heldout *data.Heldout) (*Llama, error) {
	first := replicas[0].Model
	if batch < 1 || batch%(first.MicroBatch()*len(replicas)) != 0 {
		return nil, fmt.Errorf("trainer: batch = %d is not a multiple of micro-batch = %d on each of %d devices", batch, first.MicroBatch(), len(replicas))
	}
	if err := adamw.Schedule.Validate(); err != nil {
		return nil, err
	}
	n := batch * first.Config().Context
	l := &Llama{
		replicas: replicas, peers: peers, adamw: adamw, sampler: sampler, heldout: heldout,
		inputs: make([]int32, n), targets: make([]int32, n),
		losses: make([]float64, batch/first.MicroBatch()),
	}
	for _, r := range replicas {
		l.params = append(l.params, r.Model.Params())
		l.grads = append(l.grads, r.Model.Grads())
		l.evaluated = append(l.evaluated, make([]int32, 2*first.Rows()))
	}
	return l, nil
}

// Parameters is the length of every vector.
func (l *Llama) Parameters() int { return l.replicas[0].Model.Params().Len() }

// Err is what broke a device: one whose operations can fail keeps its first error.
func (l *Llama) Err() error {
	var broken []error
	for _, r := range l.replicas {
		if d, ok := r.Device.(interface{ Err() error }); ok {
			broken = append(broken, d.Err())
		}
	}
	return errors.Join(broken...)
}

// each runs f for every replica, at the same time.
func (l *Llama) each(f func(k int, r Replica)) {
	var others sync.WaitGroup
	for k, r := range l.replicas[1:] {
		others.Go(func() { f(k+1, r) })
	}
	f(0, l.replicas[0])
	others.Wait()
}

// Gradient runs forward and backward over batch number step. Replica k trains the
// micro-batches k, k+n, k+2n, ... of n replicas.
func (l *Llama) Gradient(step uint64) (lossSum float64, tokens int, err error) {
	if err := l.sampler.Batch(step, l.inputs, l.targets); err != nil {
		return 0, 0, err
	}
	n := len(l.inputs)
	scale := float32(1 / float64(n))
	l.each(func(k int, r Replica) {
		r.Model.ZeroGrad()
		for i := k; i < len(l.losses); i += len(l.replicas) {
			lo, hi := i*r.Model.Rows(), (i+1)*r.Model.Rows()
			l.losses[i] = r.Model.Accumulate(l.inputs[lo:hi], l.targets[lo:hi], scale)
		}
	})
	if len(l.replicas) > 1 {
		l.peers.ReduceScatter(l.grads)
		l.peers.AllGather(l.grads)
	}
	for _, loss := range l.losses {
		lossSum += loss
	}
	return lossSum, n, nil
}

// Update takes one AdamW step from the gradient, the same on every replica.
func (l *Llama) Update(step, updates uint64) (gradNorm float64) {
	gradNorm = math.Sqrt(l.replicas[0].Device.SquaredNorm(l.grads[0]))
	if !math.IsNaN(gradNorm) && !math.IsInf(gradNorm, 0) {
		s := l.adamw.Step(gradNorm, step, updates)
		l.each(func(_ int, r Replica) { r.Model.Update(s) })
	}
	return gradNorm
}

// Evaluate returns the mean held-out loss of the present parameters: the same bits on any
// number of replicas, which take the batches in turns.
func (l *Llama) Evaluate() (float64, error) {
	sum, tokens, rows := 0.0, 0, l.replicas[0].Model.Rows()
	for at := 0; at < l.heldout.Batches(); at += len(l.replicas) {
		turn := l.evaluated[:min(len(l.replicas), l.heldout.Batches()-at)]
		for k, t := range turn {
			n, err := l.heldout.Batch(at+k, t[:rows], t[rows:])
			if err != nil {
				return 0, err
			}
			tokens += n
		}
		losses := make([]float64, len(turn))
		l.each(func(k int, r Replica) {
			if k < len(turn) {
				losses[k] = r.Model.Loss(turn[k][:rows], turn[k][rows:])
			}
		})
		for _, loss := range losses {
			sum += loss
		}
	}
	return sum / float64(tokens), nil
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

// Vectors implements Near: those of the first replica.
func (l *Llama) Vectors() (d Device, params, grads kernels.Buffer) {
	d, _ = l.replicas[0].Device.(Device)
	return d, l.replicas[0].Model.Params(), l.grads[0]
}

// SpreadParams implements Near.
func (l *Llama) SpreadParams() {
	if len(l.replicas) > 1 {
		l.peers.Broadcast(l.params)
	}
}

// SpreadGradient implements Near.
func (l *Llama) SpreadGradient() {
	if len(l.replicas) > 1 {
		l.peers.Broadcast(l.grads)
	}
}

// ReadGradient copies the gradient to dst.
func (l *Llama) ReadGradient(dst []float32) { l.replicas[0].Device.Download(dst, l.grads[0]) }

// WriteGradient replaces the gradient.
func (l *Llama) WriteGradient(src []float32) {
	l.each(func(k int, r Replica) { r.Device.Upload(l.grads[k], src) })
}

// ReadParams copies θ to dst.
func (l *Llama) ReadParams(dst []float32) {
	l.replicas[0].Device.Download(dst, l.replicas[0].Model.Params())
}

// WriteParams replaces θ.
func (l *Llama) WriteParams(src []float32) {
	l.each(func(_ int, r Replica) { r.Device.Upload(r.Model.Params(), src) })
}

// ReadMoments copies AdamW's moments.
func (l *Llama) ReadMoments(m, v []float32) {
	first, second := l.replicas[0].Model.Moments()
	l.replicas[0].Device.Download(m, first)
	l.replicas[0].Device.Download(v, second)
}

// WriteMoments replaces AdamW's moments.
func (l *Llama) WriteMoments(m, v []float32) {
	l.each(func(_ int, r Replica) {
		first, second := r.Model.Moments()
		r.Device.Upload(first, m)
		r.Device.Upload(second, v)
	})
}
