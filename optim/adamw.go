package optim

import (
	"fmt"
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
}

// Range is a contiguous part of the parameter arena that is decayed, or is not.
type Range struct {
	Lo, Hi int
	Decay  bool
}

// arenaRange holds views of the arena for one range, made once at start.
type arenaRange struct {
	params, grads, m, v kernels.Buffer
	decay               bool
}

// Inner runs AdamW over a parameter arena on a device.
type Inner struct {
	AdamW
	dev    kernels.Device
	grads  kernels.Buffer
	ranges []arenaRange
}

// NewInner prepares AdamW for an arena. params, grads, m and v have one length,
// which the ranges must cover exactly, in order.
func NewInner(cfg AdamW, dev kernels.Device, params, grads, m, v kernels.Buffer, ranges []Range) (*Inner, error) {
	if err := cfg.Schedule.Validate(); err != nil {
		return nil, err
	}
	in := &Inner{AdamW: cfg, dev: dev, grads: grads}
	next := 0
	for _, r := range ranges {
		if r.Lo != next || r.Hi < r.Lo || r.Hi > params.Len() {
			return nil, fmt.Errorf("optim: range [%d, %d) after %d in an arena of %d parameters", r.Lo, r.Hi, next, params.Len())
		}
		next = r.Hi
		if r.Lo == r.Hi {
			continue
		}
		in.ranges = append(in.ranges, arenaRange{
			params: params.Slice(r.Lo, r.Hi), grads: grads.Slice(r.Lo, r.Hi),
			m: m.Slice(r.Lo, r.Hi), v: v.Slice(r.Lo, r.Hi), decay: r.Decay,
		})
	}
	if next != params.Len() {
		return nil, fmt.Errorf("optim: ranges end at %d in an arena of %d parameters", next, params.Len())
	}
	return in, nil
}

// Step clips the gradient to the norm Clip and takes AdamW step number updates+1
// with the learning rate of schedule step step. The two differ for a worker that
// joined later with fresh moments. It returns the gradient's norm before clipping;
// where that is not finite nothing is changed.
func (in *Inner) Step(step, updates uint64) (gradNorm float64) {
	gradNorm = math.Sqrt(in.dev.SquaredNorm(in.grads))
	if math.IsNaN(gradNorm) || math.IsInf(gradNorm, 0) {
		return gradNorm
	}
	t := float64(updates + 1)
	s := kernels.AdamWStep{
		LR:    float32(in.LR * in.Schedule.At(step)),
		Beta1: float32(in.Beta1), Beta2: float32(in.Beta2), Eps: float32(in.Eps),
		Correction1: float32(1 - math.Pow(in.Beta1, t)),
		Correction2: float32(1 - math.Pow(in.Beta2, t)),
		GradScale:   float32(clipScale(gradNorm, in.Clip)),
	}
	for _, r := range in.ranges {
		s.WeightDecay = 0
		if r.decay {
			s.WeightDecay = float32(in.WeightDecay)
		}
		in.dev.AdamW(r.params, r.grads, r.m, r.v, s)
	}
	return gradNorm
}

// clipScale is min(1, clip/(norm + 1e-6)), as PyTorch's clip_grad_norm_ has it.
func clipScale(norm, clip float64) float64 {
	if clip <= 0 {
		return 1
	}
	return min(1, clip/(norm+1e-6))
}
