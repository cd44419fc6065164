package protosim

import (
	"bytes"
	"flag"
	"testing"
)

var flightSchedules = flag.Uint64("flight-schedules", 500, "random schedules of TestRandomFlightSchedules")

// TestRandomFlightSchedules runs worlds of random faults whose exchanges are in flight over several
// inner steps, half of them with replicas that differ.
func TestRandomFlightSchedules(t *testing.T) {
	n := *flightSchedules
	if testing.Short() {
		n /= 10
	}
	var total Report
	bad := 0
	for seed := range n {
		r := Run(Options{Seed: seed + 1, Flights: true})
		total.Events += r.Events
		total.Messages += r.Messages
		total.Forks += r.Forks
		total.Crashes += r.Crashes
		total.Adopted += r.Adopted
		total.Resyncs += r.Resyncs
		total.Landings += r.Landings
		total.LeftOut += r.LeftOut
		total.Resumed += r.Resumed
		if r.Err != nil {
			t.Errorf("seed %d: %v", seed+1, r.Err)
			if bad++; bad > 10 {
				break
			}
		}
	}
	t.Logf("%d schedules: %d events, %d messages, %d landings, %d of them without the own contribution, %d flights resumed, %d crashes, %d results adopted, %d states taken over, %d commits of forked rounds",
		n, total.Events, total.Messages, total.Landings, total.LeftOut, total.Resumed, total.Crashes, total.Adopted, total.Resyncs, total.Forks)
	if min(total.Forks, total.Crashes, total.Adopted, total.Resyncs, total.Landings, total.LeftOut, total.Resumed) == 0 {
		t.Error("the faults do not reach all of the protocol")
	}
}

// TestFoundFlightSchedules runs the worlds that hunts through more than 500 schedules have failed in.
func TestFoundFlightSchedules(t *testing.T) {
	for seed, what := range map[uint64]string{
		8452: "what a flight loses that a new process has begun again is counted once by each process",
		9423: "a new process is called into the attempt that its former self was in, before it is ready",
		9860: "the same, and it enters the attempt before a copy of the result comes",
	} {
		if r := Run(Options{Seed: seed, Flights: true}); r.Err != nil {
			t.Errorf("seed %d: %s: %v", seed, what, r.Err)
		}
	}
}

// The same seed replays the same flights, event by event.
func TestFlightSeedReplays(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		var first, second bytes.Buffer
		Run(Options{Seed: seed, Flights: true, Trace: &first})
		Run(Options{Seed: seed, Flights: true, Trace: &second})
		if first.Len() == 0 || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("seed %d: the traces differ, of %d and %d bytes", seed, first.Len(), second.Len())
		}
	}
}
