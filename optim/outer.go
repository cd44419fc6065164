package optim

import "loco/kernels"

// PseudoGradient sets delta to slow − fast, DiLoCo's Δ = φ − θ (arXiv 2311.08105, Algorithm 1,
// line 12): it points uphill, so the outer optimiser descends along it. All three have one
// length and are on one device; delta may be one of the others.
func PseudoGradient(on kernels.Exchanger, delta, slow, fast kernels.Buffer) {
	on.Axpby(delta, 1, slow, -1, fast)
}

// Progress sets delta to fast − slow, NoLoCo's Δ = θ − φ (arXiv 2506.10911,
// equation 1): the opposite sign of [PseudoGradient].
func Progress(on kernels.Exchanger, delta, slow, fast kernels.Buffer) {
	on.Axpby(delta, 1, fast, -1, slow)
}

// Rebase sets fast to to + (fast − from): what a worker learnt on top of the slow weights
// from is put on top of the slow weights to. Its pseudo-gradient to − fast stays what it
// was, but for rounding. All three have one length.
func Rebase(on kernels.Exchanger, fast, from, to kernels.Buffer) {
	on.AxpbSum(fast, 1, to, 1, fast, -1, from)
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
func (o Nesterov) Step(on kernels.Exchanger, slow, b, delta kernels.Buffer) {
	on.Axpby(b, o.Momentum, b, 1, delta)
	on.AxpbSum(slow, 1, slow, -o.LR, delta, o.Momentum, b)
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
func (o NoLoCo) Step(on kernels.Exchanger, slow, momentum, meanDelta, meanSlow kernels.Buffer) {
	on.Axpby(momentum, o.Alpha, momentum, o.Beta, meanDelta)
	on.AxpbSum(momentum, 1, momentum, -o.Gamma, slow, -1, meanSlow)
	on.Axpby(slow, 1, slow, 1, momentum)
}

// StepFast is Step for β = γ, which needs only the group's mean of θ and so half
// the bytes: β·mean Δ + γ·(mean φ − φ) = β·(mean θ − φ). It uses Beta alone.
func (o NoLoCo) StepFast(on kernels.Exchanger, slow, momentum, meanFast kernels.Buffer) {
	on.AxpbSum(momentum, o.Alpha, momentum, o.Beta, meanFast, -1, slow)
	on.Axpby(slow, 1, slow, 1, momentum)
}

// NoLoCoGammaMax is the edge of stability of γ under random pairs for momentum α:
// the disagreement of the replicas stays bounded if and only if
// 0 < γ < 2·(1 − α²). For 0 ≤ α < 1.
func NoLoCoGammaMax(alpha float64) float64 { return 2 * (1 - alpha*alpha) }
