package strategy

import (
	"fmt"
	"strconv"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/optim"
)

// newNoLoCo is section 3 of NoLoCo, arXiv 2506.10911: a random pair averages what both have learnt
// and, under the inner steps, φ. With β = γ the mean of θ is all that the step needs.
func newNoLoCo(o Options) (Strategy, error) {
	var err error
	if limit := optim.NoLoCoGammaMax(o.OuterMomentum); o.Gamma >= limit {
		// The range is derived from the recursion of the replicas' variance; the upper end of NoLoCo's
		// eq. 74 equals it at α = 0.5 and is too loose above.
		err = &OptionError{[]string{"gamma", "outer_momentum"}, fmt.Sprintf(
			"NoLoCo is stable only for 0 < gamma < 2(1 - alpha^2): with sync.outer_momentum (alpha) = %s that is 0 < sync.gamma < %s, and sync.gamma is %s",
			text(o.OuterMomentum), strconv.FormatFloat(limit, 'g', 4, 64), text(o.Gamma))}
	}
	step := optim.NoLoCo{Alpha: float32(o.OuterMomentum), Beta: float32(o.Beta), Gamma: float32(o.Gamma)}
	s := Strategy{Vectors: []Spec{State(Slow), State(Momentum), Scratch(meanSlow)}, Learnt: progress}
	if o.FastOnly {
		s.Crossings = []Crossing{{Part: exchange.Delta, With: Pair, Vector: fast}}
		s.Outer = func(v *Vectors, in *Landing) {
			in.Mean(v, exchange.Delta, v.Grad)
			in.Apart(v.Fast, v.Grad)
			step.StepFast(v, v.Of(Slow), v.Of(Momentum), v.Grad)
		}
		return s, err
	}
	s.Crossings = []Crossing{Weights(Pair), Delta(Pair)}
	s.Outer = func(v *Vectors, in *Landing) {
		slow, mean := v.Of(Slow), v.Of(meanSlow)
		in.Mean(v, exchange.Delta, v.Grad)
		in.SlowMean(v, mean)
		in.Apart(slow, mean)
		step.Step(v, slow, v.Of(Momentum), v.Grad, mean)
	}
	return s, err
}

// progress is Δ ← θ − φ.
func progress(v *Vectors) { optim.Progress(v, v.Grad, v.Of(Slow), v.Fast) }

// fast lets θ itself cross.
func fast(v *Vectors) kernels.Buffer {
	v.Copy(v.Grad, v.Fast)
	return v.Grad
}

// SlowMean sets dst to the group's mean of φ, which is φ where nobody else was there.
func (l *Landing) SlowMean(v *Vectors, dst kernels.Buffer) {
	if len(l.Means[exchange.Slow]) == 0 {
		v.Copy(dst, v.Of(Slow))
	}
	l.Mean(v, exchange.Slow, dst)
}

// text is a number as the configuration writes it.
func text(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if x == float64(int64(x)) {
		s += ".0"
	}
	return s
}
