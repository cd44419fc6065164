package strategy

import (
	"fmt"

	"loco/gossip/exchange"
	"loco/kernels"
)

// What crosses is a state and no small difference, so it is not rounded by default.
var gaslocDefaults = map[string]any{"codec": "fp32", "outer_lr": 1.0, "outer_momentum": 0.5}

// lag is y of the round before, less φ.
const lag = "lag"

// newGASLoC is GASLoC, arXiv 2606.11081, over random pairs: accelerated gossip on what each worker
// has reached. Of a pair i, j with the step η, the pull α and the momentum γ
//
//	y = φ + η·(θ − φ)
//	φ ← y − (α/2)·(yᵢ − yⱼ) + γ·(y − y before)
//
// where the first round has no y before. The pull is α times the distance from the pair's mean of y,
// which is all that crosses.
//
// # Differences from the paper
//
// The formulas are from a survey. The edge of stability, γ² < 1 − α/2, is derived from the second
// moments of the disagreement under random pairs. What is kept is y − φ instead of y, so that zeros
// are a worker that has not moved.
func newGASLoC(o Options) (Strategy, error) {
	var err error
	if edge := 1 - o.Gamma/2; o.OuterMomentum*o.OuterMomentum >= edge {
		err = &OptionError{[]string{"outer_momentum", "gamma"}, fmt.Sprintf(
			"GASLoC is stable only for outer_momentum^2 < 1 - gamma/2: with sync.gamma = %s that is below %.4g, and sync.outer_momentum^2 is %.4g",
			text(o.Gamma), edge, o.OuterMomentum*o.OuterMomentum)}
	}
	eta, alpha, gamma := float32(o.OuterLR), float32(o.Gamma), float32(o.OuterMomentum)
	reached := func(v *Vectors, y kernels.Buffer) { v.Axpby(y, eta, v.Fast, 1-eta, v.Of(Slow)) }
	return Strategy{
		Vectors: []Spec{State(Slow), State(lag)},
		Learnt:  progress,
		Crossings: []Crossing{{Part: exchange.Delta, With: Pair, Vector: func(v *Vectors) kernels.Buffer {
			reached(v, v.Grad)
			return v.Grad
		}}},
		Outer: func(v *Vectors, in *Landing) {
			slow, change, y, mean := v.Of(Slow), v.Of(lag), v.Fast, v.Grad
			reached(v, y)
			in.Mean(v, exchange.Delta, mean)
			if v.Round == 0 {
				v.Axpby(change, 1, y, -1, slow)
			}
			v.AxpbSum(change, 1, y, -1, slow, 1, change) // y − y before
			v.AxpbSum(slow, 1, y, -alpha, y, -1, mean)
			v.Axpby(slow, 1, slow, gamma, change)
			v.Axpby(change, 1, y, -1, slow)
			in.Apart(y, mean)
		},
		Traits: Traits{Own: true},
	}, err
}
