package strategy_test

import (
	"fmt"

	"loco/trainer/strategy"
)

// What a strategy keeps, and what it lets cross.
func ExampleNew() {
	s, err := strategy.New("noloco", strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range s.Vectors {
		fmt.Printf("keeps %s: saved %v, shared %v\n", v.Name, v.Saved, v.Shared)
	}
	for _, c := range s.Crossings {
		fmt.Printf("part %d crosses with a pair: %v; under the whole round: %v\n", c.Part, c.With == strategy.Pair, c.Under == strategy.WholeRound)
	}
	_, err = strategy.New("noloco", strategy.Options{OuterMomentum: 0.9, Beta: 0.7, Gamma: 0.7})
	fmt.Println(err)
	// Output:
	// keeps slow: saved true, shared true
	// keeps momentum: saved true, shared true
	// keeps mean: saved false, shared false
	// part 1 crosses with a pair: true; under the whole round: true
	// part 0 crosses with a pair: true; under the whole round: false
	// gamma: NoLoCo is stable only for 0 < gamma < 2(1 - alpha^2): with sync.outer_momentum (alpha) = 0.9 that is 0 < sync.gamma < 0.38, and sync.gamma is 0.7
}
