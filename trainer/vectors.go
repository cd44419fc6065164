package trainer

import (
	"crypto/sha256"
	"fmt"

	"loco/gossip/exchange"
	"loco/kernels"
)

// Device does the arithmetic of a round's vectors.
type Device interface {
	kernels.Device
	kernels.Exchanger
}

// vectors are a round's vectors, on the device that computes with them. Where the learner
// lets the trainer at its own memory it is the learner's device, and of a round only what
// the workers exchange leaves it. Otherwise it is the host's, and θ or the gradient is
// copied to it and back.
type vectors struct {
	Device
	learner Learner
	near    Near // nil: fast and grad are copies

	fast, grad     kernels.Buffer // θ and the gradient, whose memory Δ takes
	slow, momentum kernels.Buffer // φ, δ; nil in ddp and alone
	mean           kernels.Buffer // noloco's mean φ
	before         kernels.Buffer // of a worker that carries its steps: φ before the round's end
}

// newVectors takes the memory of a strategy's vectors on the learner's device, or on host
// if the learner has none to offer, or not enough of it, or if far is asked for.
func newVectors(cfg *Config, learner Learner) (*vectors, error) {
	if near, ok := learner.(Near); ok && !cfg.OuterOnHost {
		if d, fast, grad := near.Vectors(); d != nil {
			v := &vectors{Device: d, learner: learner, near: near, fast: fast, grad: grad}
			if v.alloc(cfg, learner.Parameters()) == nil {
				return v, nil
			}
		}
	}
	n := learner.Parameters()
	v := &vectors{Device: cfg.Host, learner: learner}
	both, err := v.Alloc(2 * n)
	if err == nil {
		v.fast, v.grad = both.Slice(0, n), both.Slice(n, 2*n)
		err = v.alloc(cfg, n)
	}
	if err != nil {
		return nil, fmt.Errorf("trainer: vectors of %d parameters: %w", n, err)
	}
	return v, nil
}

// OuterVectors is how many vectors of the model's length a strategy keeps besides those of
// the inner optimizer.
func (c *Config) OuterVectors() int {
	switch {
	case c.Strategy == "noloco", c.Strategy == "diloco" && c.SlowCycle > 1:
		return 3
	case c.Strategy == "diloco":
		return 2
	}
	return 0
}

// alloc takes the memory of the outer state in one piece: all of it is there, or nothing
// is taken.
func (v *vectors) alloc(cfg *Config, n int) error {
	count := cfg.OuterVectors()
	if count == 0 {
		return nil
	}
	all, err := v.Alloc(count * n)
	if err != nil {
		return err
	}
	v.slow, v.momentum = all.Slice(0, n), all.Slice(n, 2*n)
	switch last := all.Slice((count-1)*n, count*n); {
	case cfg.Strategy == "noloco":
		v.mean = last
	case count == 3:
		v.before = last
	}
	return nil
}

// pull makes fast the learner's θ, push the learner's θ fast.
func (v *vectors) pull() {
	if v.near == nil {
		v.learner.ReadParams(kernels.HostValues(v.fast))
	}
}

func (v *vectors) push() {
	if v.near == nil {
		v.learner.WriteParams(kernels.HostValues(v.fast))
	} else {
		v.near.SpreadParams()
	}
}

// pullGradient and pushGradient do so with the gradient.
func (v *vectors) pullGradient() {
	if v.near == nil {
		v.learner.ReadGradient(kernels.HostValues(v.grad))
	}
}

func (v *vectors) pushGradient() {
	if v.near == nil {
		v.learner.WriteGradient(kernels.HostValues(v.grad))
	} else {
		v.near.SpreadGradient()
	}
}

// restart makes θ what φ is: an inner phase begins.
func (v *vectors) restart() {
	v.Copy(v.fast, v.slow)
	v.push()
}

// apply sets x to a mean; without terms x stays as it is.
func (v *vectors) apply(x kernels.Buffer, f kernels.Format, mean []exchange.Term) {
	if len(mean) == 1 && mean[0].Share == 1 {
		v.Decode(x, f, mean[0].Bytes)
		return
	}
	if len(mean) > 0 {
		v.Zero(x)
	}
	for _, term := range mean {
		v.DecodeAdd(x, f, term.Bytes, term.Share)
	}
}

// sums are the digests of φ and its momentum; of θ where there is no φ.
func (v *vectors) sums() (s sums) {
	if v.slow == nil {
		v.pull()
		return sums{slow: v.digest(v.fast)}
	}
	return sums{v.digest(v.slow), v.digest(v.momentum)}
}

func (v *vectors) digest(x kernels.Buffer) [32]byte {
	leaves := make([]byte, kernels.HashLen(x.Len()))
	v.Hash(leaves, x)
	return sha256.Sum256(leaves)
}
