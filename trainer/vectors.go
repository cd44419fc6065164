package trainer

import (
	"crypto/sha256"
	"fmt"

	"loco/kernels"
	"loco/trainer/strategy"
)

// Device does the arithmetic of a round's vectors.
type Device = strategy.Device

// vectors are a round's vectors, on the device that computes with them. Where the learner
// lets the trainer at its own memory it is the learner's device, and of a round only what
// the workers exchange leaves it. Otherwise it is the host's, and θ or the gradient is
// copied to it and back.
type vectors struct {
	strategy.Vectors
	specs   []strategy.Spec
	learner Learner
	near    Near // nil: Fast and Grad are copies
}

// newVectors takes the memory of a strategy's vectors on the learner's device, or on host
// if the learner has none to offer, or not enough of it, or if far is asked for.
func newVectors(cfg *Config, s *strategy.Strategy, learner Learner) (*vectors, error) {
	n := learner.Parameters()
	if near, ok := learner.(Near); ok && !cfg.OuterOnHost {
		if d, fast, grad := near.Vectors(); d != nil {
			v := &vectors{Vectors: strategy.Vectors{Device: d, Fast: fast, Grad: grad}, specs: s.Vectors, learner: learner, near: near}
			if v.alloc(n) == nil {
				return v, nil
			}
		}
	}
	v := &vectors{Vectors: strategy.Vectors{Device: cfg.Host}, specs: s.Vectors, learner: learner}
	both, err := v.Alloc(2 * n)
	if err == nil {
		v.Fast, v.Grad = both.Slice(0, n), both.Slice(n, 2*n)
		err = v.alloc(n)
	}
	if err != nil {
		return nil, fmt.Errorf("trainer: vectors of %d parameters: %w", n, err)
	}
	return v, nil
}

// alloc takes the memory of the strategy's vectors in one piece: all of it is there, or nothing
// is taken.
func (v *vectors) alloc(n int) error {
	v.Named = map[string]kernels.Buffer{}
	if len(v.specs) == 0 {
		return nil
	}
	all, err := v.Alloc(len(v.specs) * n)
	if err != nil {
		return err
	}
	for i, s := range v.specs {
		v.Named[s.Name] = all.Slice(i*n, (i+1)*n)
	}
	return nil
}

// slow is φ; nil where the strategy has none.
func (v *vectors) slow() kernels.Buffer { return v.Of(strategy.Slow) }

// pull makes Fast the learner's θ, push the learner's θ Fast.
func (v *vectors) pull() {
	if v.near == nil {
		v.learner.ReadParams(kernels.HostValues(v.Fast))
	}
}

func (v *vectors) push() {
	if v.near == nil {
		v.learner.WriteParams(kernels.HostValues(v.Fast))
	} else {
		v.near.SpreadParams()
	}
}

// pullGradient and pushGradient do so with the gradient.
func (v *vectors) pullGradient() {
	if v.near == nil {
		v.learner.ReadGradient(kernels.HostValues(v.Grad))
	}
}

func (v *vectors) pushGradient() {
	if v.near == nil {
		v.learner.WriteGradient(kernels.HostValues(v.Grad))
	} else {
		v.near.SpreadGradient()
	}
}

// restart makes θ what φ is: an inner phase begins.
func (v *vectors) restart() {
	v.Copy(v.Fast, v.slow())
	v.push()
}

// sums are the digests of the vectors by which a state is known; of θ where there is no φ.
func (v *vectors) sums() map[string][32]byte {
	if v.slow() == nil {
		v.pull()
		return map[string][32]byte{strategy.Slow: v.digest(v.Fast)}
	}
	sums := map[string][32]byte{}
	for _, s := range v.specs {
		if s.Digest {
			sums[s.Name] = v.digest(v.Of(s.Name))
		}
	}
	return sums
}

func (v *vectors) digest(x kernels.Buffer) [32]byte {
	leaves := make([]byte, kernels.HashLen(x.Len()))
	v.Hash(leaves, x)
	return sha256.Sum256(leaves)
}
