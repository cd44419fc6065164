// Package optim holds the optimisers of low-communication training: the inner
// AdamW with its clipping and schedules, and the outer steps of DiLoCo and NoLoCo.
//
// Everything is a pure function of vectors and step numbers. The inner optimiser is
// one operation of a [kernels.Device]. The outer steps, once a round, are equations
// over the sums of vectors of a [kernels.Exchanger].
//
// Symbols: θ inner (fast) weights, φ outer (slow) weights, Δ pseudo-gradient,
// δ outer momentum, H inner steps per round.
//
//   - DiLoCo: Douillard et al., arXiv 2311.08105, Algorithm 1.
//   - NoLoCo: Kolehmainen et al., arXiv 2506.10911, equations 1 to 3.
//   - AdamW: Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2.
//
// # Differences from the papers
//
// Equation 2 of NoLoCo prints a minus before β; with Δ = θ − φ of equation 1 that
// walks uphill. The paper's appendix (equation 32) and its published code have a
// plus, and so has this package.
//
// The admissible range of γ in the paper (equation 74) is sufficient but neither
// bound is the edge of stability. [NoLoCoGammaMax] is the exact one for pairs.
package optim
