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
	random(t, 300, 12, func(seed uint64) params { return draw(seed) })
}

// TestRandomSchedulesOfPairs is the same for NoLoCo, whose workers are no replicas.
func TestRandomSchedulesOfPairs(t *testing.T) {
	random(t, 60, 5, func(seed uint64) params {
		p := draw(seed)
		p.strategy, p.quorum, p.maxLag = "noloco", 0, int(seed%3)
		p.rate, p.tail = 0.03, 25
		return p
	})
}

// random runs schedules from -first on, as many as -schedules says, or else all or few.
func random(t *testing.T, all, few int, draw func(seed uint64) params) {
	n := *schedules
	if n == 0 {
		n = all
		if testing.Short() {
			n = few
		}
	}
	var sum tally
	for seed := *first; seed < *first+uint64(n); seed++ {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed, draw(seed))
				w.net = newSimNet(seed, w.params)
				w.run(w.schedule())
				sum.add(w.check.tally)
			})
		}) {
			return
		}
	}
	t.Logf("%d schedules: %+v", n, sum)
	if n >= 40 && (sum.results == 0 || sum.restarts == 0 || sum.resyncs == 0) {
		t.Error("the schedules are too tame to say anything")
	}
}

func (a *tally) add(b tally) {
	a.results += b.results
	a.restarts += b.restarts
	a.resyncs += b.resyncs
	a.forks += b.forks
	a.gaveUp += b.gaveUp
}
