package config_test

import (
	"fmt"

	"loco/worker/config"
)

// The defaults with two keys set, as --set does it. Keys that follow the strategy have followed.
func ExampleLoad() {
	c, err := config.Load("", []string{"sync.strategy=noloco", "run.workers=8"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Run.Workers, c.Sync.OuterMomentum, c.Sync.Deadline)
	_, err = config.Load("", []string{"sync.gamma=3"})
	fmt.Println(err)
	// Output:
	// 8 0.5 1m0s
	// --set: sync.gamma = 3.0: must be above 0 and below 2
}
