package optim

import "fmt"

// PseudoGradient sets delta to slow − fast, DiLoCo's Δ = φ − θ (arXiv 2311.08105,
// Algorithm 1, line 12): it points uphill, so the outer optimiser descends along it.
// All three have one length.
func PseudoGradient(delta, slow, fast []float32) {
	sameLength("PseudoGradient", len(delta), len(slow), len(fast))
	for i := range delta {
		delta[i] = slow[i] - fast[i]
	}
}

// Progress sets delta to fast − slow, NoLoCo's Δ = θ − φ (arXiv 2506.10911,
// equation 1): the opposite sign of [PseudoGradient].
func Progress(delta, slow, fast []float32) { PseudoGradient(delta, fast, slow) }

// Rebase sets fast to to + (fast − from): what a worker learnt on top of the slow weights
// from is put on top of the slow weights to. Its pseudo-gradient to − fast stays what it
// was, but for rounding. All three have one length.
func Rebase(fast, from, to []float32) {
	sameLength("Rebase", len(fast), len(from), len(to))
	for i := range fast {
		fast[i] = to[i] + (fast[i] - from[i])
	}
}

// Nesterov is DiLoCo's outer optimiser, exactly PyTorch's SGD(nesterov=True) with
// no dampening and no weight decay.
type Nesterov struct {
	LR       float32 // η, 0.7 in the paper
	Momentum float32 // μ, 0.9 in the paper
}

// Step takes one outer step from the group's mean pseudo-gradient (arXiv
// 2311.08105, Algorithm 1, line 14):
//
//	b ← μ·b + Δ
//	φ ← φ − η·(Δ + μ·b)
//
// b must be zero before the first step, which makes b = Δ then, as PyTorch has it.
func (o Nesterov) Step(slow, b, delta []float32) {
	sameLength("Nesterov.Step", len(slow), len(b), len(delta))
	for i, d := range delta {
		b[i] = float32(o.Momentum*b[i]) + d
		slow[i] -= float32(o.LR * (d + float32(o.Momentum*b[i])))
	}
}

// NoLoCo is the outer optimiser of NoLoCo: heavy-ball momentum with a term that
// pulls a replica towards its group.
type NoLoCo struct {
	Alpha float32 // α, momentum, 0.5 in the paper
	Beta  float32 // β, step along the group's mean progress, 0.7 in the paper
	Gamma float32 // γ, pull towards the group's mean φ, 0.7 in the paper's code
}

// Step takes one outer step (arXiv 2506.10911, equations 2 and 3 with the sign of
// the appendix):
//
//	δ ← α·δ + β·mean Δ − γ·(φ − mean φ)
//	φ ← φ + δ
//
// meanDelta and meanSlow are means over the group, this replica included. A
// replica that is alone passes its own φ as meanSlow, and the γ term is zero.
func (o NoLoCo) Step(slow, momentum, meanDelta, meanSlow []float32) {
	sameLength("NoLoCo.Step", len(slow), len(momentum), len(meanDelta), len(meanSlow))
	for i := range slow {
		pull := float32(o.Gamma * (slow[i] - meanSlow[i]))
		momentum[i] = float32(o.Alpha*momentum[i]) + float32(o.Beta*meanDelta[i]) - pull
		slow[i] += momentum[i]
	}
}

// StepFast is Step for β = γ, which needs only the group's mean of θ and so half
// the bytes: β·mean Δ + γ·(mean φ − φ) = β·(mean θ − φ). It uses Beta alone.
func (o NoLoCo) StepFast(slow, momentum, meanFast []float32) {
	sameLength("NoLoCo.StepFast", len(slow), len(momentum), len(meanFast))
	for i := range slow {
		momentum[i] = float32(o.Alpha*momentum[i]) + float32(o.Beta*(meanFast[i]-slow[i]))
		slow[i] += momentum[i]
	}
}

// NoLoCoGammaMax is the edge of stability of γ under random pairs for momentum α:
// the disagreement of the replicas stays bounded if and only if
// 0 < γ < 2·(1 − α²). For 0 ≤ α < 1.
func NoLoCoGammaMax(alpha float64) float64 { return 2 * (1 - alpha*alpha) }

func sameLength(op string, lengths ...int) {
	for _, n := range lengths[1:] {
		if n != lengths[0] {
			panic(fmt.Sprintf("optim: %s: vectors of lengths %v", op, lengths))
		}
	}
}
