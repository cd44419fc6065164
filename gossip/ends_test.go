package gossip

import (
	"context"
	"errors"
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
