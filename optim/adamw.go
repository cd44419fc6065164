package optim

import (
	"math"

	"loco/kernels"
)

// AdamW is the inner optimiser with its gradient clipping.
type AdamW struct {
	LR          float64 // peak learning rate
	Beta1       float64
	Beta2       float64
	Eps         float64
	WeightDecay float64 // decoupled; only on tensors that decay
	Clip        float64 // largest global gradient norm; 0 = no clipping
	Schedule    Schedule
	// Rewarm is the number of updates in which the rate rises again where the moments are
	// younger than the schedule: of a worker that joined later with fresh ones. Their
	// second moment is of few gradients then, and the steps are as long as they are wrong.
	Rewarm int
}

// Rate is the learning rate of schedule step step, counted from 0, for moments that have
// seen so many updates.
func (a AdamW) Rate(step, updates uint64) float64 {
	rate := a.LR * a.Schedule.At(step)
	if updates < step && updates < uint64(a.Rewarm) {
		rate *= float64(updates+1) / float64(a.Rewarm)
	}
	return rate
}

// Step resolves the scalars of AdamW step number updates+1 for a gradient of norm
// gradNorm, with the learning rate of schedule step step. updates and step differ
// for a worker that joined later with fresh moments.
func (a AdamW) Step(gradNorm float64, step, updates uint64) kernels.AdamWStep {
	t := float64(updates + 1)
	return kernels.AdamWStep{
		LR:    float32(a.Rate(step, updates)),
		Beta1: float32(a.Beta1), Beta2: float32(a.Beta2), Eps: float32(a.Eps),
		WeightDecay: float32(a.WeightDecay),
		Correction1: float32(1 - math.Pow(a.Beta1, t)),
		Correction2: float32(1 - math.Pow(a.Beta2, t)),
		GradScale:   float32(clipScale(gradNorm, a.Clip)),
	}
}

// clipScale is min(1, clip/(norm + 1e-6)), as PyTorch's clip_grad_norm_ has it.
func clipScale(norm, clip float64) float64 {
	if clip <= 0 {
		return 1
	}
	return min(1, clip/(norm+1e-6))
}
