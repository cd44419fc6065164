package trainer

import "loco/kernels"

// Learner is one worker's model, data and inner optimiser. Vectors are flat and of
// length Parameters.
type Learner interface {
	Parameters() int
	// Err is what broke a device, or nil. Once it is not, no other method returns
	// anything of use.
	Err() error
	// Gradient trains on the worker's batch number step up to the gradient of the
	// mean token loss, and returns the summed loss in nats and its number of tokens. It
	// fails when the batch cannot be read.
	Gradient(step uint64) (lossSum float64, tokens int, err error)
	// Update takes one optimiser step from the gradient: step is the position in the
	// schedule, updates how often the moments were updated before. It returns the
	// gradient's norm before clipping, and changes nothing where that is not finite.
	Update(step, updates uint64) (gradNorm float64)
	// Evaluate returns the mean loss over the held-out batches, in nats per token.
	Evaluate() (float64, error)

	ReadGradient(dst []float32)
	WriteGradient(src []float32)
	ReadParams(dst []float32)
	WriteParams(src []float32)
	ReadMoments(m, v []float32)
	WriteMoments(m, v []float32)
}

// Near is a Learner whose parameters and gradient the trainer may work on where they are.
type Near interface {
	Learner
	// Vectors returns them and their device; a nil device: they are nowhere that the trainer can
	// work. The memory of the gradient is the trainer's between an Update and the next
	// Gradient.
	Vectors() (d Device, params, grads kernels.Buffer)
	// SpreadParams follows a change of the parameters, SpreadGradient one of the gradient: a
	// learner on several devices copies them to the others.
	SpreadParams()
	SpreadGradient()
}
