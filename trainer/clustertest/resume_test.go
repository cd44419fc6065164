package clustertest

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// quiet is a world in which nothing goes wrong.
func quiet(seed uint64) params {
	p := plain(seed)
	p.faults, p.link.Jitter, p.link.Loss = 0, min(p.link.Jitter, 0.3), 0
	return p
}

// Workers that are all stopped, in the middle of whatever they do, and go on from their
// disks, go through the same states as if they had never stopped.
func TestResumeEqualsNeverHavingStopped(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 3
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			states := func(stops int) (by map[uint64]string, restarts int) {
				synctest.Test(t, func(t *testing.T) {
					r := rand.New(rand.NewPCG(seed, 0xe5))
					w := newWorld(t, seed, quiet(seed))
					w.net = newSimNet(seed, w.params)
					w.run(func() {
						for range stops {
							<-time.After(5*time.Second + time.Duration(r.Int64N(int64(10*time.Second))))
							w.stopAll(10 * time.Second)
							<-time.After(12 * time.Second) // all have stopped and begun anew
						}
					})
					by, restarts = w.check.states, w.check.tally.restarts
				})
				return by, restarts
			}
			want, _ := states(0)
			got, restarts := states(4)
			if restarts == 0 || len(want) < 10 || len(got) < len(want) {
				t.Fatalf("%d restarts, %d and %d rounds: this says nothing", restarts, len(want), len(got))
			}
			for round := range uint64(len(want)) {
				if g, w := got[round+1], want[round+1]; g != w {
					t.Fatalf("after round %d φ is %.8s with stops, %.8s without", round+1, g, w)
				}
			}
		})
	}
}

// stopAll asks all processes at once to save and leave, and starts none for a while.
func (w *world) stopAll(down time.Duration) {
	for i := range w.slots {
		w.mu.Lock()
		w.slots[i].hold = time.Now().Add(down)
		w.mu.Unlock()
		if p := w.process(i); p != nil {
			p.quit()
		}
	}
}

// What workers hold does not grow with the rounds that failed.
func TestMemoryIsGivenBack(t *testing.T) {
	if testing.Short() {
		t.Skip("a vector of some size takes seconds")
	}
	synctest.Test(t, func(t *testing.T) {
		p := plain(3)
		p.workers, p.quorum, p.parameters, p.codec, p.faults, p.saveEvery = 4, 0, 40_000, "int8", 40, 2
		p.inner, p.step, p.until, p.detection = 2, 400*time.Millisecond, 200*time.Second, time.Second
		p.up, p.down, p.link.Bandwidth = 0, 0, 8<<20
		w := newWorld(t, 3, p)
		w.check.history = 25
		w.net = newSimNet(3, p)
		vectors := func() float64 { // held by a worker, on average
			runtime.GC()
			runtime.GC() // pools keep things for one collection
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc) / float64(4*p.parameters*p.workers)
		}
		faults := w.schedule()
		var before, after float64
		w.run(func() {
			done := make(chan struct{})
			<-time.After(40 * time.Second)
			before = vectors()
			go func() { faults(); close(done) }()
			<-done
			<-time.After(60 * time.Second) // longer than anything that is left of a round may stay
			after = vectors()
		})
		t.Logf("%+v; vectors a worker before the faults %.1f, after %.1f", w.check.tally, before, after)
		if w.check.tally.results < 50*p.workers || w.check.tally.restarts < 5 {
			t.Error("too little happened to say anything")
		}
		if after > before+3 || after > 30 {
			t.Errorf("a worker holds %.1f vectors after the faults, %.1f before", after, before)
		}
	})
}
