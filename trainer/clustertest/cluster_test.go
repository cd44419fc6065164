package clustertest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh/sim"
)

var (
	schedules = flag.Int("schedules", 0, "random schedules to run; 0: a default")
	first     = flag.Uint64("first", 1, "seed of the first of them")
)

// TestRandomSchedules lets real trainers live through random faults. A failure prints
// its seed and what happened last; -first SEED -schedules 1 runs it again.
func TestRandomSchedules(t *testing.T) {
	random(t, 120, 12, draw)
}

// TestRandomSchedulesOfPairs is the same for NoLoCo, whose workers are no replicas.
func TestRandomSchedulesOfPairs(t *testing.T) {
	random(t, 20, 4, pairs)
}

// pairs draws a world of NoLoCo.
func pairs(seed uint64) params {
	p := plain(seed)
	p.strategy, p.quorum, p.maxLag = "noloco", 0, int(seed%3)
	p.rate, p.tail = 0.03, 25
	r := rand.New(rand.NewPCG(seed, 0xc2))
	if r.IntN(8) == 0 {
		p.innerTime, p.inner = time.Duration(p.inner)*p.step, 2*p.inner
	}
	return p.joins(r)
}

// TestRandomSchedulesOfGASLoC is the same for the other strategy of pairs.
func TestRandomSchedulesOfGASLoC(t *testing.T) {
	random(t, 8, 2, func(seed uint64) params {
		p := pairs(seed)
		p.strategy = "gasloc"
		return p
	})
}

// TestRandomSchedulesOfGlobalM1 is the same where everybody averages replicas that differ, under the
// inner steps.
func TestRandomSchedulesOfGlobalM1(t *testing.T) {
	random(t, 16, 4, func(seed uint64) params {
		p := plain(seed)
		p.strategy, p.quorum, p.cycle, p.codec = "globalm1", 0, 1, "fp32"
		p.rate, p.tail = 0.03, 25
		return p.joins(rand.New(rand.NewPCG(seed, 0xc3)))
	})
}

// TestRandomSchedulesOverLibp2p is some of the first over libp2p.
func TestRandomSchedulesOverLibp2p(t *testing.T) { overLibp2p(t, 2, 1, draw) }

// TestRandomSchedulesOfPairsOverLibp2p is the same for NoLoCo.
func TestRandomSchedulesOfPairsOverLibp2p(t *testing.T) { overLibp2p(t, 1, 1, pairs) }

func overLibp2p(t *testing.T, all, few int, draw func(seed uint64) params) {
	over(t, all, few, func(seed uint64) params {
		p := draw(seed)
		p.detection = 8 * time.Second // libp2p's own, as p2pNet configures it
		return p
	}, func(t *testing.T, seed uint64, p params) network { return newP2PNet(seed, p, t.TempDir()) })
}

func random(t *testing.T, all, few int, draw func(seed uint64) params) {
	over(t, all, few, draw, func(_ *testing.T, seed uint64, p params) network { return newSimNet(seed, p) })
}

// over runs schedules from -first on, as many as -schedules says, or else all or few.
func over(t *testing.T, all, few int, draw func(seed uint64) params, net func(*testing.T, uint64, params) network) {
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
				w.net = net(t, seed, w.params)
				w.run(w.schedule())
				sum.add(w.check.tally)
			})
		}) {
			return
		}
	}
	t.Logf("%d schedules: %+v", n, sum)
	if n >= 40 && (sum.results == 0 || sum.restarts == 0 || sum.resyncs == 0 || 10*sum.unknown > sum.resyncs) {
		t.Error("the schedules are too tame to say anything")
	}
}

func (a *tally) add(b tally) {
	a.results += b.results
	a.restarts += b.restarts
	a.resyncs += b.resyncs
	a.lostRounds += b.lostRounds
	a.unknown += b.unknown
	a.carried += b.carried
	a.forks += b.forks
	a.gaveUp += b.gaveUp
}

// TestWorkersOverLibp2p is five workers over the real libp2p mesh: the handshakes, streams,
// heartbeats and keep-alives that a run has, in virtual time.
func TestWorkersOverLibp2p(t *testing.T) {
	base := params{
		workers: 5, parameters: 2000, strategy: "diloco", codec: "int8", grace: 2 * time.Second, deadline: 40 * time.Second,
		join: 15 * time.Second, detection: 8 * time.Second, inner: 4, step: 500 * time.Millisecond, saveEvery: 1, tail: 14, rate: 0.15,
		link: sim.Link{Latency: 30 * time.Millisecond, Bandwidth: 4 << 20, Jitter: 0.3}, faults: 1,
	}
	wait := func(d time.Duration) { <-time.After(d) }
	for name, faults := range map[string]func(w *world){
		"calm": func(w *world) { wait(20 * time.Second) },
		"crash": func(w *world) {
			wait(10 * time.Second)
			w.kill(w.process(1), 8*time.Second)
			wait(15 * time.Second)
			w.kill(w.process(0), 100*time.Millisecond)
			w.wipe(0)
			wait(15 * time.Second)
		},
		"pause": func(w *world) {
			wait(10 * time.Second)
			w.standStill(2, 3*time.Second)
			wait(5 * time.Second)
			w.standStill(0, 20*time.Second)
			wait(5 * time.Second)
		},
		"partition": func(w *world) {
			wait(10 * time.Second)
			w.cut(20*time.Second, func(a, b int) bool { return (a < 2) != (b < 2) })
			wait(10 * time.Second)
			w.cut(10*time.Second, func(a, b int) bool { return a == 4 && b == 0 })
		},
		"leave": func(w *world) {
			wait(10 * time.Second)
			w.process(3).quit()
			wait(15 * time.Second)
		},
	} {
		if testing.Short() && name != "crash" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := base
				if name == "calm" {
					p.faults = 0
				}
				w := newWorld(t, 1, p)
				w.net = newP2PNet(1, p, t.TempDir())
				w.run(func() { faults(w) })
				t.Logf("%+v in %v", w.check.tally, time.Since(w.begun))
			})
		})
	}
}
