package clustertest

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
)

var (
	schedules = flag.Int("schedules", 0, "random schedules to run; 0: a default")
	first     = flag.Uint64("first", 1, "seed of the first of them")
)

// TestRandomSchedules lets real trainers live through random faults. A failure prints
// its seed and what happened last; -first SEED -schedules 1 runs it again.
func TestRandomSchedules(t *testing.T) {
	n := *schedules
	if n == 0 {
		n = 40
		if testing.Short() {
			n = 5
		}
	}
	rounds, restarts := 0, 0
	for seed := *first; seed < *first+uint64(n); seed++ {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, draw(seed))
				w.net = newSimNet(seed, w.params)
				w.run(w.schedule())
				rounds, restarts = rounds+w.check.rounds, restarts+w.check.restarts
			})
		}) {
			return
		}
	}
	t.Logf("%d schedules, %d results applied, %d processes started again", n, rounds, restarts)
}
