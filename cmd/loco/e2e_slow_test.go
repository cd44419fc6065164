//go:build unix

package main

import (
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"loco/trainer"
)

// throttle lets a process run for a quarter of the time, in slices far shorter than a
// round, until the test ends it.
func throttle(t *testing.T, pid int) (release func()) {
	t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		slice := time.NewTicker(10 * time.Millisecond)
		defer slice.Stop()
		defer syscall.Kill(pid, syscall.SIGCONT)
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-slice.C:
			}
			switch n % 4 {
			case 0:
				syscall.Kill(pid, syscall.SIGCONT)
			case 1:
				if syscall.Kill(pid, syscall.SIGSTOP) != nil {
					return // it ended
				}
			}
		}
	})
	release = sync.OnceFunc(func() { close(done); wg.Wait() })
	t.Cleanup(release)
	return release
}

// slowRun runs three workers of which the last is throttled from its first round on.
func slowRun(t *testing.T, sets ...string) (dir string, rounds [3][]trainer.RoundEvent) {
	t.Helper()
	dir = t.TempDir()
	p := startLoco(t, append([]string{"run", "--workers", "3", "--dir", dir}, small(t, sets...)...)...)
	p.line("round 1/")
	release := throttle(t, workerPID(t, dir, 2))
	p.line("round 12/")
	release()
	p.wait(0)
	for k := range rounds {
		rounds[k] = roundsOf(t, dir, k)
		for _, r := range rounds[k] {
			t.Logf("worker %d round %d: %v with %d steps, %d tokens carried, %d lost; inner %.2f s, wait %.2f s", k, r.Round, r.Members, r.Steps, r.CarriedTokens, r.LostTokens, r.Seconds.Inner, r.Seconds.Wait)
		}
	}
	return dir, rounds
}

// With an inner time a worker with a quarter of a processor is in the rounds of the others,
// with the steps that it has time for.
func TestE2EInnerTimeMixesASlowWorker(t *testing.T) {
	dir, rounds := slowRun(t, "run.rounds=12", "sync.inner_steps=100000", "sync.inner_time=1s", "inner.schedule=constant")
	s := summaryOf(t, dir)
	if !s.Complete || !s.DigestEqual || s.Rounds != 12 {
		t.Fatalf("summary %+v", s)
	}
	together, steps := 0, [3]uint64{}
	for i := 2; i < 11; i++ {
		if slices.Equal(rounds[0][i].Members, []int{0, 1, 2}) {
			together++
		}
		for k := range rounds {
			steps[k] += rounds[k][i].Steps
		}
	}
	if together < 7 {
		t.Errorf("%d of 9 rounds have all three workers", together)
	}
	if fast := min(steps[0], steps[1]); 10*steps[2] > 6*fast || steps[2] < 9 {
		t.Errorf("steps of the workers: %v, want far fewer of the last", steps)
	}
	if last := rounds[2][len(rounds[2])-1]; last.Step != 1200000 {
		t.Errorf("the last round ends at step %d of the schedule", last.Step)
	}
}

// With equal steps it is named, not waited for, and contributes to every third round.
func TestE2ESlowWorkerIsNamedAndContributesInALongerCycle(t *testing.T) {
	dir, rounds := slowRun(t, "run.rounds=20", "sync.inner_steps=800", "sync.grace=2s", "sync.grace_min=200ms", "sync.slow_cycle=3")
	s := summaryOf(t, dir)
	if !s.Complete || !s.DigestEqual || s.Rounds != 20 {
		t.Fatalf("summary %+v", s)
	}
	if !logged(t, dir, "", "a worker is late in most rounds") {
		t.Error("the slow worker is not named in any log")
	}
	carried, in := 0, 0
	for _, r := range rounds[2] {
		if r.CarriedTokens > 0 {
			carried++
		}
		if slices.Contains(r.Members, 2) {
			in++
		}
	}
	if carried < 4 || in < 4 {
		t.Errorf("the slow worker carried its steps through %d rounds, and is in the mean of %d", carried, in)
	}
}
