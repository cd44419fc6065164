package trainer

import (
	"context"
	"fmt"
	"math"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/optim"
)

// average exchanges x with the others. The state does not change meanwhile, so CaptureShared
// may have it: a joiner need not wait for an exchange.
func (t *Trainer) average(ctx context.Context, x kernels.Buffer, f kernels.Format, weight float64) (exchange.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return exchange.Outcome{}, err // a stop in the last step: where the others have left already, it would average alone
	}
	if err := t.mirror.check(t.round, t.sums); err != nil {
		return exchange.Outcome{}, err
	}
	began := t.hooks.Now()
	vec, err := t.encode(exchange.Delta, f, x)
	if err != nil {
		return exchange.Outcome{}, err
	}
	encoded := t.hooks.Now().Sub(began).Seconds()
	t.unlock()
	defer func() { t.sem <- struct{}{} }()
	out, err := t.hooks.Average.Average(ctx, t.round, exchange.Delta, vec, weight, exchange.Base{Digest: t.stateDigest, Tokens: t.runTokens})
	out.Seconds.Encode += encoded
	return out, err
}

// encode returns what of x crosses the network. The bytes are the trainer's, until the
// round after the next: the mirror may still read them in the next.
func (t *Trainer) encode(part exchange.Part, f kernels.Format, x kernels.Buffer) (exchange.Vector, error) {
	own := &t.encoded[part][t.round%2]
	if t.mirror == nil {
		own = &t.encoded[part][0]
	}
	if n := f.EncodedLen(x.Len()); len(*own) != n {
		*own = make([]byte, n)
	}
	n := t.vectors.Encode(*own, f, x)
	if err := t.broken(); err != nil {
		return exchange.Vector{}, err
	}
	if n < x.Len() {
		return exchange.Vector{}, fmt.Errorf("trainer: round %d, step %d: the contribution is not finite from about parameter %d on: %w; a smaller inner.lr helps", t.round, t.step, n, ErrDiverged)
	}
	return exchange.Vector{Values: x.Len(), Bytes: *own}, nil
}

// outerStep is diloco's, from the mean pseudo-gradient.
func (t *Trainer) outerStep(delta []exchange.Term) {
	step := func(v *vectors) {
		v.apply(v.grad, t.cfg.Format, delta)
		optim.Nesterov{LR: float32(t.cfg.OuterLR), Momentum: float32(t.cfg.OuterMomentum)}.Step(v, v.slow, v.momentum, v.grad)
	}
	step(t.vectors)
	t.mirror.follow(step)
}

// outerPair is noloco's, from the means of Δ (or of θ) and of φ. It returns an estimate of
// the replicas' spread from the vector of which so many members have the mean.
func (t *Trainer) outerPair(delta, slow []exchange.Term, members int) (std *float64) {
	means := func(v *vectors) (own, mean kernels.Buffer) {
		v.apply(v.grad, t.cfg.Format, delta)
		if t.cfg.FastOnly {
			return v.fast, v.grad
		}
		if len(slow) == 0 {
			v.Copy(v.mean, v.slow)
		}
		v.apply(v.mean, t.cfg.StateFormat, slow)
		return v.slow, v.mean
	}
	step := func(v *vectors) {
		o := optim.NoLoCo{Alpha: float32(t.cfg.OuterMomentum), Beta: float32(t.cfg.Beta), Gamma: float32(t.cfg.Gamma)}
		if t.cfg.FastOnly {
			o.StepFast(v, v.slow, v.momentum, v.grad)
		} else {
			o.Step(v, v.slow, v.momentum, v.grad, v.mean)
		}
	}
	v := t.vectors
	own, mean := means(v)
	if members > 1 {
		v.Axpby(v.fast, 1, own, -1, mean) // φ takes θ's place anyway
		std = replicaStd(v.SquaredNorm(v.fast), v.fast.Len(), members)
	}
	step(v)
	if len(delta) == 0 { // its own Δ is nowhere but here
		t.mirror.refresh(v)
	} else {
		t.mirror.follow(func(m *vectors) { means(m); step(m) })
	}
	return std
}

// replicaStd estimates the standard deviation of a parameter across replicas from one
// group's members: squares is Σ(x − x̄)² over the n values of one of them. Averaged over
// pairs it is unbiased in the variance: E Σ(xᵢ − x̄)²·m/(m−1) for m members.
func replicaStd(squares float64, n, members int) *float64 {
	m := float64(members)
	std := math.Sqrt(squares / float64(n) * m / (m - 1))
	return &std
}
