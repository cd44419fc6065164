package strategy

// newDDP is data-parallel training: everybody averages the gradient of every step, and the inner
// optimizer takes the same step from it.
func newDDP(Options) (Strategy, error) {
	return Strategy{
		Crossings: []Crossing{Delta(Everybody)},
		Traits:    Traits{Equal: true, EveryStep: true, Moments: true},
	}, nil
}
