package strategy

// newAlone is a worker that exchanges nothing.
func newAlone(Options) (Strategy, error) { return Strategy{}, nil }
