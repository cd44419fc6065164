package strategy

// Options are the keys of the table [sync] that outer steps read. The tags are the
// configuration's: the name of the key, its bounds and its documentation.
type Options struct {
	OuterLR       float64 `toml:"outer_lr" range:"(0..10]" doc:"Learning rate of the outer step: Nesterov's of DiLoCo and GlobalM1, eta of GASLoC. Default 0.7, gasloc 1."`
	OuterMomentum float64 `toml:"outer_momentum" range:"0..1)" doc:"Momentum of the outer step: DiLoCo's and GlobalM1's, NoLoCo's alpha, GASLoC's gamma. Default 0.9, noloco and gasloc 0.5."`
	Beta          float64 `toml:"beta" range:"(0..2]" doc:"NoLoCo: weight of the pair's mean pseudo-gradient. With beta = gamma a pair exchanges one vector instead of two. Default 0.7."`
	Gamma         float64 `toml:"gamma" range:"(0..2)" doc:"NoLoCo: pull towards the pair's mean weights, stable only below 2(1 - outer_momentum^2). GASLoC: its alpha, the same pull on what both have learnt, stable only for outer_momentum^2 < 1 - gamma/2. Default 0.7."`
	SlowCycle     int     `toml:"slow_cycle" range:"1..1000" doc:"DiLoCo: rounds that a worker which comes too late trains for one contribution. It takes over the rounds in between with its own steps on top, and brings all of them in every slow_cycle-th round, where it ends its inner steps once half of the others are ready. After two turns that it misses its steps are lost. 1: steps that come too late are lost at once, and counted. Where workers are unequal inner_time is the better choice."`
	// FastOnly lets a pair of noloco with β = γ exchange θ alone. It is no key: the wire format decides,
	// because rounding θ costs more than rounding Δ.
	FastOnly bool `toml:"-"`
}

// OptionError says that options contradict each other or a strategy's edge of stability.
type OptionError struct {
	Keys []string // of the table [sync]; what is wrong with the first
	Why  string
}

func (e *OptionError) Error() string { return e.Keys[0] + ": " + e.Why }
