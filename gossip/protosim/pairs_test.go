package protosim

import (
	"bytes"
	"flag"
	"testing"
)

var (
	scaleTable = flag.Bool("scale", false, "print the table of TestScaleTable")
	scaleAll   = flag.Int("scale-allreduce", 256, "most workers of an all-reduce in TestScaleTable")
)

// TestScaleTable prints the table of docs/results.md. What the all-reduce's state machine
// does for its messages grows with the cube of the workers, so that it stops at 256.
func TestScaleTable(t *testing.T) {
	if !*scaleTable {
		t.Skip("takes a minute or two: -scale")
	}
	for _, o := range []ScaleOptions{
		{Pairs: true, Workers: 8}, {Pairs: true, Workers: 64}, {Pairs: true, Workers: 64, Die: 0.01},
		{Pairs: true, Workers: 512}, {Pairs: true, Workers: 512, Die: 0.01}, {Workers: 8}, {Workers: 64}, {Workers: *scaleAll},
	} {
		o.Chunks, o.Rounds, o.Seed = 512, 2, 1
		r, err := Scale(o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		t.Logf("pairs %v, %d workers, %.0f %% die: mean %.2f s, median %.2f s, p99 %.2f s; %.2f messages of %.0f bytes, %.2f MB in all; %.1f %% alone",
			o.Pairs, o.Workers, 100*o.Die, r.Mean.Seconds(), r.Median.Seconds(), r.P99.Seconds(), r.Messages, r.Control, r.Bytes/1e6, 100*r.Alone)
	}
}

var pairSchedules = flag.Uint64("pair-schedules", 1000, "random schedules of TestRandomPairSchedules")

// TestRandomPairSchedules runs worlds of pairs with random faults. A seed that fails is
// replayed by loco bench chaos --strategy noloco --replay SEED.
func TestRandomPairSchedules(t *testing.T) {
	n := *pairSchedules
	if testing.Short() {
		n /= 10
	}
	var total Report
	var unsettled, of [2]uint64 // of the worlds of short and of long transfers
	bad := 0
	for seed := range n {
		r := Run(Options{Seed: seed + 1, Pairs: true})
		total.Events += r.Events
		total.Messages += r.Messages
		total.Pairs.Averaged += r.Pairs.Averaged
		total.Pairs.Alone += r.Pairs.Alone
		total.Pairs.Torn += r.Pairs.Torn
		total.Pairs.OneSided += r.Pairs.OneSided
		long := boolean(r.Long)
		of[long]++
		if r.Pairs.Excess > 0 {
			unsettled[long]++
			total.Pairs.Excess += r.Pairs.Excess
		}
		if r.Err != nil {
			t.Errorf("seed %d, %d workers: %v", seed+1, r.Workers, r.Err)
			if bad++; bad > 10 {
				break
			}
		}
	}
	t.Logf("%d schedules: %d events, %d messages, %+v, %d of %d not settled within 2 rounds", n, total.Events, total.Messages, total.Pairs, unsettled, of)
	// Where transfers are long the pairs of a round end it as far apart as their lines differ.
	if 50*unsettled[0] > of[0] || 4*unsettled[1] > of[1] {
		t.Errorf("in %d of %d schedules somebody is alone who is not the odd one, 2 rounds after the faults ended", unsettled, of)
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

// What a pair exchange costs a worker does not depend on how many there are, nor where one
// in a hundred dies. NoLoCo, arXiv 2506.10911, section 3.
func TestPairsCostTheSameForAnyNumberOfWorkers(t *testing.T) {
	many := 512
	if testing.Short() {
		many = 128
	}
	measure := func(n int, die float64, rounds uint64) ScaleReport {
		r, err := Scale(ScaleOptions{Pairs: true, Workers: n, Rounds: rounds, Chunks: 8, Die: die, Seed: 1})
		if err != nil {
			t.Fatalf("%d workers: %v", n, err)
		}
		t.Logf("%d workers, %.0f %% die: %.2f messages and %.0f bytes a worker and round, %.1f %% alone, median %v, p99 %v",
			n, 100*die, r.Messages, r.Bytes, 100*r.Alone, r.Median, r.P99)
		return r
	}
	few := measure(8, 0, 50) // as many Averages as of many in few rounds
	for _, die := range []float64{0, 0.01} {
		r := measure(many, die, 2)
		if r.Messages > 1.1*few.Messages || r.Bytes > 1.1*few.Bytes || r.Bytes < 0.9*few.Bytes || r.Mean > few.Mean*11/10 {
			t.Errorf("%d workers, %.0f %% die: %+v, 8 workers: %+v", many, 100*die, r, few)
		}
		if r.Alone > 0.1 {
			t.Errorf("%d workers, %.0f %% die: %.0f %% of the Averages have no partner", many, 100*die, 100*r.Alone)
		}
	}
}

// The all-reduce runs in the same worlds, for comparison.
func TestScaleRunsTheAllReduce(t *testing.T) {
	r, err := Scale(ScaleOptions{Workers: 8, Rounds: 2, Chunks: 8, Seed: 1})
	if err != nil || r.Bytes < 1.7*8*scaleChunkBytes || r.Bytes > 1.8*8*scaleChunkBytes+r.Control {
		t.Errorf("%+v, %v, want 2·7/8 vectors of %d bytes a round", r, err, 8*scaleChunkBytes)
	}
	if _, err := Scale(ScaleOptions{Workers: 2, Rounds: 0, Chunks: 1, Seed: 1}); err == nil {
		t.Error("no rounds are measured, and nobody says so")
	}
}

// One of five and of eight workers is four times slower: without a barrier the others lose next to
// nothing by it.
func TestSlowWorkerCostsPairsLittle(t *testing.T) {
	for _, workers := range []int{5, 6, 8, 9} {
		r, err := Scale(ScaleOptions{Pairs: true, Workers: workers, Chunks: 60, Rounds: 60, Slow: 4, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d workers: the fast spend %.1f %% of the time in inner steps, alone in %.1f %% of %.1f rounds; the slow one %.1f %%, alone in %.1f %% of %.1f",
			workers, 100*r.Fast.Compute, 100*r.Fast.Alone, r.Fast.Rounds, 100*r.Last.Compute, 100*r.Last.Alone, r.Last.Rounds)
		odd := float64(workers%2) / float64(workers)
		if r.Fast.Compute < 0.90 || r.Fast.Alone > odd+0.03 || r.Last.Alone > odd+0.06 || r.Last.Rounds < 58 {
			t.Errorf("%d workers: the fast %+v, the slow one %+v", workers, r.Fast, r.Last)
		}
	}
}
