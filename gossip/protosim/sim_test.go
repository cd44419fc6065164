package protosim

import (
	"bytes"
	"flag"
	"testing"
)

var schedules = flag.Uint64("schedules", 2000, "random schedules of TestRandomSchedules")

// TestRandomSchedules runs worlds of random faults. A seed that fails is replayed by
// loco bench chaos --strategy diloco --replay SEED.
func TestRandomSchedules(t *testing.T) {
	n := *schedules
	if testing.Short() {
		n /= 10
	}
	var total Report
	bad := 0
	for seed := range n {
		r := Run(Options{Seed: seed + 1})
		total.Events += r.Events
		total.Messages += r.Messages
		total.Rounds += r.Rounds
		total.Forks += r.Forks
		total.Crashes += r.Crashes
		total.Adopted += r.Adopted
		total.Resyncs += r.Resyncs
		total.Lost += r.Lost
		if r.Err != nil {
			t.Errorf("seed %d: %v", seed+1, r.Err)
			if bad++; bad > 10 {
				break
			}
		}
	}
	t.Logf("%d schedules: %d events, %d messages, %d rounds, %d commits of forked rounds, %d crashes, %d results adopted, %d states taken over with %d rounds lost",
		n, total.Events, total.Messages, total.Rounds, total.Forks, total.Crashes, total.Adopted, total.Resyncs, total.Lost)
	if min(total.Forks, total.Crashes, total.Adopted, total.Resyncs, int(total.Lost)) == 0 {
		t.Error("the faults do not reach all of the protocol")
	}
}

// The same seed replays the same run, event by event.
func TestSeedReplays(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var first, second bytes.Buffer
		Run(Options{Seed: seed, Trace: &first})
		Run(Options{Seed: seed, Trace: &second})
		if first.Len() == 0 || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("seed %d: the traces differ, of %d and %d bytes", seed, first.Len(), second.Len())
		}
	}
}
