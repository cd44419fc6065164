package gossip

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"loco/gossip/exchange"
	"loco/mesh/sim"
)

// After Close nothing is averaged, and nothing is under way twice.
func TestAverageAfterCloseAndTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, sim.Options{Seed: 1, Peers: 2}, "fp32", nil)
		defer c.close()
		bytes, err := mustCodec(t, "fp32").AppendEncode(nil, []float32{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		vec := exchange.Vector{Values: 2, Bytes: bytes}
		first := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := c.peers[0].Average(ctx, 1, exchange.Delta, vec, 1, exchange.Base{})
			first <- err
		}()
		synctest.Wait()
		if _, err := c.peers[0].Average(t.Context(), 1, exchange.Delta, vec, 1, exchange.Base{}); err == nil || err.Error() != "gossip: all-reduce: round 1: another Average is under way" {
			t.Errorf("a second Average: %v", err)
		}
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
		_ = c.peers[0].Close()
		if _, err := c.peers[0].Average(t.Context(), 1, exchange.Delta, vec, 1, exchange.Base{}); !errors.Is(err, errClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// What an exchange took is split by phases, each of which takes some time, and its bytes are counted both
// ways: what one sends the other receives.
func TestPhasesAndBytesOfAnExchange(t *testing.T) {
	const n = 1 << 18
	c := newCluster(t, sim.Options{Seed: 1, Peers: 2}, "int8", func(_ int, cfg *Config) { cfg.Quorum = 2 }) // both, however busy the machine
	defer c.close()
	var out [2]exchange.Outcome
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			var err error
			if out[i], err = averaged(context.Background(), c.peers[i], 1, exchange.Delta, vector(i, 1, n), 1, exchange.Base{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, o := range out {
		if s := o.Seconds; !(s.Wait >= 0 && s.Encode > 0 && s.Decode > 0 && s.Transfer >= 0) {
			t.Errorf("worker %d: %+v", i, s)
		}
		if o.BytesSent == 0 || o.BytesSent != out[1-i].BytesReceived {
			t.Errorf("worker %d sent %d bytes, the other received %d", i, o.BytesSent, out[1-i].BytesReceived)
		}
		if most := BytesPerRound(mustCodec(t, "int8"), n, 2); int64(o.BytesSent) < most || int64(o.BytesSent) > most+most/100 {
			t.Errorf("worker %d sent %d bytes, want %d and headers", i, o.BytesSent, most)
		}
	}
}

// What is no vector of the part's codec, no weight, or no part, is refused before anything is said.
func TestWhatIsNoContribution(t *testing.T) {
	net := sim.New(1)
	defer net.Close()
	cfg := Config{Mesh: net.Peer(0), Codec: mustCodec(t, "fp32"), StateCodec: mustCodec(t, "bf16"), Waits: Waits{Deadline: testDeadline, Grace: testGrace}}
	all, err := NewAllReduce(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	pairs, err := NewPairs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pairs.Close()
	good := exchange.Vector{Values: 2, Bytes: make([]byte, 8)}
	for want, c := range map[string]struct {
		part   exchange.Part
		vec    exchange.Vector
		weight float64
	}{
		"vector of 0 values, want 1 …":                  {vec: exchange.Vector{}, weight: 1},
		"vector of -1 values, want 1 …":                 {vec: exchange.Vector{Values: -1}, weight: 1},
		"vector of 2 values in 7 bytes, want 8 of fp32": {vec: exchange.Vector{Values: 2, Bytes: make([]byte, 7)}, weight: 1},
		"vector of 2 values in 9 bytes, want 8 of fp32": {vec: exchange.Vector{Values: 2, Bytes: make([]byte, 9)}, weight: 1},
		"weight is 0, want a positive":                  {vec: good, weight: 0},
		"weight is NaN, want a positive":                {vec: good, weight: math.NaN()},
	} {
		for name, a := range map[string]exchanger{"gossip: all-reduce: round 7: ": all, "gossip: pairs: round 7, part 0: ": pairs} {
			if _, err := a.Average(t.Context(), 7, c.part, c.vec, c.weight, exchange.Base{}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), name) {
				t.Errorf("%v, want one with %q", err, name+want)
			}
		}
	}
	if _, err := pairs.Average(t.Context(), 7, exchange.Parts, good, 1, exchange.Base{}); err == nil || err.Error() != "gossip: pairs: part 2 is unknown" {
		t.Error(err)
	}
	if _, err := pairs.Average(t.Context(), 7, exchange.Slow, good, 1, exchange.Base{}); err == nil || !strings.Contains(err.Error(), "part 1: vector of 2 values in 8 bytes, want 4 of bf16") {
		t.Error(err)
	}
	if pairs.Awaited(7) {
		t.Error("a pair waits for a late worker")
	}
	_ = pairs.Close()
	if _, err := pairs.Average(t.Context(), 7, exchange.Delta, good, 1, exchange.Base{}); !errors.Is(err, errClosed) {
		t.Errorf("pairs after Close: %v", err)
	}
}

// A worker that the others have finished a round without is told so between its averages, and one that
// carries steps is told when the others wait for it.
func TestRoundsThatAreOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, sim.Options{Seed: 1, Peers: 3}, "fp32", func(_ int, cfg *Config) { cfg.SlowCycle = 2 })
		defer c.close()
		late := c.peers[2]
		if late.Over(1, 0) || late.Awaited(1) {
			t.Error("a round is over that nobody has begun")
		}
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				if _, err := averaged(t.Context(), c.peers[i], 1, exchange.Delta, []float32{1, 2}, 1, exchange.Base{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if !late.Over(1, 0) || late.Over(2, 0) {
			t.Errorf("round 1 over: %v, round 2: %v", late.Over(1, 0), late.Over(2, 0))
		}
	})
}
