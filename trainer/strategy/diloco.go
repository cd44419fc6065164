package strategy

import (
	"loco/gossip/exchange"
	"loco/optim"
)

// Names of vectors that more than one strategy has.
const (
	Momentum = "momentum"
	before   = "before" // φ before the round's end, of a worker that carries its steps
	meanSlow = "mean"   // the group's mean of φ
)

// newDiLoCo is Algorithm 1 of DiLoCo, arXiv 2311.08105: everybody averages the pseudo-gradient, and
// takes the same Nesterov step from it.
func newDiLoCo(o Options) (Strategy, error) {
	s := Strategy{
		Vectors:   []Spec{State(Slow), State(Momentum)},
		Learnt:    pseudoGradient,
		Crossings: []Crossing{Delta(Everybody)},
		Traits:    Traits{Equal: true, Carries: o.SlowCycle > 1},
	}
	if s.Carries {
		s.Vectors = append(s.Vectors, Scratch(before))
	}
	s.Outer = func(v *Vectors, in *Landing) {
		in.Mean(v, exchange.Delta, v.Grad)
		o.nesterov().Step(v, v.Of(Slow), v.Of(Momentum), v.Grad) // φ ← OuterOpt(φ, mean Δ)
	}
	return s, nil
}

// pseudoGradient is Δ ← φ − θ.
func pseudoGradient(v *Vectors) { optim.PseudoGradient(v, v.Grad, v.Of(Slow), v.Fast) }

func (o Options) nesterov() optim.Nesterov {
	return optim.Nesterov{LR: float32(o.OuterLR), Momentum: float32(o.OuterMomentum)}
}

// Keep remembers φ of a worker that carries its steps over the round's end, and Rebase puts them on
// top of what φ has become: θ ← φ + (θ − φ before).
func (v *Vectors) Keep() { v.Copy(v.Of(before), v.Of(Slow)) }

// Rebase is Keep's other half.
func (v *Vectors) Rebase() { optim.Rebase(v, v.Fast, v.Of(before), v.Of(Slow)) }
