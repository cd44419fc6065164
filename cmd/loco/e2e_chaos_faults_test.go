package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// What can happen to real workers.
type faultKind int

const (
	faultKill  faultKind = iota // kill -9, and started again with its folder
	faultWipe                   // kill -9, and started again without it
	faultPause                  // SIGSTOP, and SIGCONT
	faultCut                    // no packet passes between two sides
	faultDeaf                   // none passes from the others to one side
	faultMute                   // none passes from one side to the others
	faultKinds int       = iota
)

func (k faultKind) String() string {
	return [...]string{"kill -9", "kill -9 without its folder", "SIGSTOP", "cut off", "hears nobody", "nobody hears it"}[k]
}

// process says whether a fault befalls one worker's process, rather than the network.
func (k faultKind) process() bool { return k <= faultPause }

// fault strikes one worker, or the network between a side and the others.
type fault struct {
	kind     faultKind
	side     []int // ascending; one worker where the fault is a process's
	at, ends time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("%6.1f s, for %4.1f s: %v %s", f.at.Seconds(), (f.ends - f.at).Seconds(), f.side, f.kind)
}

// Times of faults: long enough that some outlast mesh.dead_after, and that rounds pass
// between them.
const (
	faultEvery    = 3 * time.Second // mean of what is added to faultApart between two beginnings
	faultApart    = 500 * time.Millisecond
	faultMean     = 3 * time.Second // mean of what is added to faultShortest
	faultShortest = 200 * time.Millisecond
	faultLongest  = 12 * time.Second
	faultDownMax  = 2 // processes that are down or stopped at a time
)

// drawFaults draws faults that begin and end within a time, in the order of their
// beginnings. At most faultDownMax processes are down at a time, so that some worker
// always holds the run's state.
func drawFaults(seed uint64, workers int, within time.Duration) []fault {
	rng := rand.New(rand.NewPCG(seed, 1))
	exp := func(mean time.Duration) time.Duration { return time.Duration(rng.ExpFloat64() * float64(mean)) }
	var faults []fault
	for at := exp(faultEvery); ; at += faultApart + exp(faultEvery) {
		f := fault{kind: faultKind(rng.IntN(faultKinds)), at: at}
		f.ends = at + min(faultShortest+exp(faultMean), faultLongest)
		f.side = rng.Perm(workers)[:1]
		if f.kind == faultCut && rng.IntN(2) == 0 {
			f.side = rng.Perm(workers)[:2]
		}
		slices.Sort(f.side)
		if at > within {
			return faults
		}
		if f.ends <= within && (!f.kind.process() || fits(faults, f)) {
			faults = append(faults, f)
		}
	}
}

// fits says whether a fault of a process may be added: it is the only one of its worker,
// and not too many are down. Two seconds are for starting again.
func fits(faults []fault, f fault) bool {
	const starts = 2 * time.Second
	down := 1
	for _, o := range faults {
		if o.kind.process() && f.at < o.ends+starts {
			if down++; o.side[0] == f.side[0] {
				return false
			}
		}
	}
	return down <= faultDownMax
}

func TestFaultsAreDrawnFromTheSeed(t *testing.T) {
	const workers, within = 5, 2 * time.Minute
	seen := map[faultKind]int{}
	for seed := range uint64(50) {
		faults := drawFaults(seed, workers, within)
		if fmt.Sprint(faults) != fmt.Sprint(drawFaults(seed, workers, within)) {
			t.Fatalf("seed %d draws different faults", seed)
		}
		if len(faults) < 10 {
			t.Errorf("seed %d draws %d faults in %v", seed, len(faults), within)
		}
		for i, f := range faults {
			seen[f.kind]++
			down := 0
			for _, o := range faults[:i+1] {
				if o.kind.process() && o.ends > f.at {
					down++
				}
			}
			if f.at < 0 || f.ends > within || f.ends <= f.at || f.ends-f.at > faultLongest || len(f.side) == 0 || len(f.side) > 2 || down > faultDownMax {
				t.Errorf("seed %d: %v, and %d are down", seed, f, down)
			}
		}
	}
	for k := range faultKinds {
		if seen[faultKind(k)] < 50 {
			t.Errorf("%v was drawn %d times in 50 schedules", faultKind(k), seen[faultKind(k)])
		}
	}
}
