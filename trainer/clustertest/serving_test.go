package clustertest

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/trainer"
)

// pace is what the members of a run do while a state is served: when each inner step ended, and
// each round.
type pace struct {
	mu     sync.Mutex
	steps  map[*process][]moment
	rounds map[*process][]moment
}

type moment struct {
	at    time.Time
	round uint64
}

func (a *pace) watch(p *process, event any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch e := event.(type) {
	case *trainer.StepEvent:
		a.steps[p] = append(a.steps[p], moment{time.Now(), e.Round})
	case *trainer.RoundEvent:
		a.rounds[p] = append(a.rounds[p], moment{time.Now(), e.Round})
	}
}

// longest returns the longest two of the times between events of a process, or between those of
// one round, that ended in a span.
func longest(events []moment, sameRound bool, from, to time.Time) (first, second time.Duration) {
	for i := 1; i < len(events); i++ {
		if now := events[i]; now.at.After(from) && !now.at.After(to) && (!sameRound || events[i-1].round == now.round) {
			switch d := now.at.Sub(events[i-1].at); {
			case d > first:
				first, second = d, first
			case d > second:
				second = d
			}
		}
	}
	return first, second
}

// While a worker without a disk fetches the state of a run, which takes several rounds, the
// others' inner steps follow each other as before, and so do their rounds, but for the one or
// two that wait for the joiner when it says that it is coming.
func TestMembersTrainOnWhileAStateIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet(2)
		p.workers, p.quorum, p.faults, p.saveEvery, p.codec = 4, 0, 1, 1, "int8"
		p.parameters, p.upload, p.inner, p.step = 40_000, 64<<10, 4, 300*time.Millisecond
		p.up, p.down, p.link.Bandwidth, p.link.Latency = 0, 0, 4<<20, 20*time.Millisecond
		w := newWorld(t, 2, p)
		w.net = newSimNet(2, p)
		a := &pace{steps: map[*process][]moment{}, rounds: map[*process][]moment{}}
		w.watch = a.watch
		const joiner = 3
		var begin, gone, comes, in time.Time
		w.run(func() {
			<-time.After(10 * time.Second)
			begin = time.Now()
			<-time.After(10 * time.Second)
			gone = time.Now()
			w.kill(w.process(joiner), 10*time.Second)
			w.wipe(joiner)
			<-time.After(9 * time.Second)
			comes = time.Now()
			for q := w.process(joiner); (q == nil || !q.begun.Load()) && time.Since(comes) < time.Minute; q = w.process(joiner) {
				<-time.After(50 * time.Millisecond)
			}
			in = time.Now()
			<-time.After(5 * time.Second)
		})
		rounds := 0
		for i := range joiner {
			for q, steps := range a.steps {
				if q.index != i {
					continue
				}
				if d, _ := longest(steps, true, comes, in); d != p.step {
					t.Errorf("w%d: an inner step took %v while a state was served, want %v", i, d, p.step)
				}
				before, _ := longest(a.rounds[q], false, begin, gone)
				most, second := longest(a.rounds[q], false, comes, in.Add(5*time.Second))
				if limit := before + before/4; most > limit+p.grace || second > limit+p.grace {
					t.Errorf("w%d: rounds of %v and %v while a state was served, %v before: at most %v more are allowed", i, most, second, before, p.grace)
				}
				served, _ := longest(a.rounds[q], false, comes, in.Add(-3*before))
				if limit := before + before/4; served > limit {
					t.Errorf("w%d: a round of %v while a state was served, %v before", i, served, before)
				}
				for _, m := range a.rounds[q] {
					if m.at.After(comes) && m.at.Before(in) {
						rounds++
					}
				}
				t.Logf("w%d: rounds of %v before, %v while the state was served, %v and %v at the joiner's entry", i, before, served, most, second)
			}
		}
		if rounds < 3*joiner {
			t.Errorf("%d rounds of three workers passed in the %v of the join: this says nothing", rounds, in.Sub(comes))
		}
	})
}
