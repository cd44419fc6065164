package strategy

// newGlobalM1 is the variant GlobalM1 of Factored Gossip DiLoCo, arXiv 2606.22768: W1 is the mean
// over everybody, W2 is the identity. Everybody averages φ under the inner steps, so that nothing is
// waited for when they are done, and each worker takes a Nesterov step along its own Δ from the mean:
//
//	Δ = φ − θ
//	b ← μ·b + Δ
//	φ ← mean φ − η·(Δ + μ·b)
//
// # Differences from the paper
//
// The order of the update is reconstructed from a survey, because the paper could not be read: the
// mean of φ that a round began with replaces φ, and then the step is taken. The outer momentum is a
// worker's own; the variant that averages it too has periodic loss spikes.
func newGlobalM1(o Options) (Strategy, error) {
	return Strategy{
		Vectors:   []Spec{State(Slow), State(Momentum), Scratch(meanSlow)},
		Learnt:    pseudoGradient,
		Crossings: []Crossing{Weights(Everybody)},
		Outer: func(v *Vectors, in *Landing) {
			slow, mean := v.Of(Slow), v.Of(meanSlow)
			in.SlowMean(v, mean)
			in.Apart(slow, mean)
			v.Copy(slow, mean)
			o.nesterov().Step(v, slow, v.Of(Momentum), v.Grad)
		},
		Traits: Traits{Own: true},
	}, nil
}
