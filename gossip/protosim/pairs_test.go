package protosim

import (
	"bytes"
	"flag"
	"testing"
)

var pairSchedules = flag.Uint64("pair-schedules", 1000, "random schedules of TestRandomPairSchedules")

// TestRandomPairSchedules runs worlds of pairs with random faults. A seed that fails is
// replayed by loco bench chaos --strategy noloco --replay SEED.
func TestRandomPairSchedules(t *testing.T) {
	n := *pairSchedules
	if testing.Short() {
		n /= 10
	}
	var total Report
	bad, unsettled := 0, uint64(0)
	for seed := range n {
		r := Run(Options{Seed: seed + 1, Pairs: true})
		total.Events += r.Events
		total.Messages += r.Messages
		total.Pairs.Averaged += r.Pairs.Averaged
		total.Pairs.Alone += r.Pairs.Alone
		total.Pairs.Torn += r.Pairs.Torn
		total.Pairs.OneSided += r.Pairs.OneSided
		if r.Pairs.Excess > 0 {
			unsettled++
			total.Pairs.Excess += r.Pairs.Excess
		}
		if r.Err != nil {
			t.Errorf("seed %d, %d workers: %v", seed+1, r.Workers, r.Err)
			if bad++; bad > 10 {
				break
			}
		}
	}
	t.Logf("%d schedules: %d events, %d messages, %+v, %d not settled within 2 rounds", n, total.Events, total.Messages, total.Pairs, unsettled)
	if 25*unsettled > n {
		t.Errorf("in %d of %d schedules somebody is alone who is not the odd one, 2 rounds after the faults ended", unsettled, n)
	}
	if total.Pairs.OneSided == 0 || total.Pairs.OneSided == total.Pairs.Torn {
		t.Errorf("%+v: the faults do not reach both ends of a doubt", total.Pairs)
	}
}

// The same seed replays the same run of pairs, event by event.
func TestPairSeedReplays(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var first, second bytes.Buffer
		Run(Options{Seed: seed, Pairs: true, Trace: &first})
		Run(Options{Seed: seed, Pairs: true, Trace: &second})
		if first.Len() == 0 || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Fatalf("seed %d: the traces differ, of %d and %d bytes", seed, first.Len(), second.Len())
		}
	}
}
