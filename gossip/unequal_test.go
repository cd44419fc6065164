package gossip

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
	"loco/gossip/protocol"
	"loco/mesh/sim"
)

// Replicas that differ average their weights: members need not hold one state, and agree on the bytes
// of the mean all the same. The part has a codec of its own. While the caller trains on, a straggler
// within the slack costs nobody anything, and is in the mean.
func TestReplicasThatDifferAverage(t *testing.T) {
	const n = 70_000
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, sim.Options{Seed: 1, Peers: 4}, "int8", func(_ int, cfg *Config) {
			cfg.Unequal, cfg.Part, cfg.StateCodec = true, exchange.Slow, mustCodec(t, "bf16")
			cfg.GraceMin = testGrace / 4
		})
		defer c.close()
		members := []int{0, 1, 2, 3}
		for round := uint64(1); round <= 3; round++ {
			var mu sync.Mutex
			var wg sync.WaitGroup
			res := map[int]got{}
			for _, i := range members {
				wg.Go(func() {
					if i == 3 {
						<-time.After(3 * testGrace) // later than anybody would wait without a slack
					}
					encoded, err := mustCodec(t, "bf16").AppendEncode(nil, vector(i, round, n))
					if err != nil {
						t.Error(err)
						return
					}
					out, err := c.peers[i].Average(context.Background(), round, exchange.Slow,
						exchange.Vector{Values: n, Bytes: encoded, Slack: 10 * testGrace}, float64(i+1), exchange.Base{Digest: [32]byte{byte(i), byte(round)}, Tokens: float64(100 * i)})
					mu.Lock()
					res[i] = got{nil, out, err}
					mu.Unlock()
				})
			}
			wg.Wait()
			want, err := mustCodec(t, "bf16").AppendEncode(nil, expected(t, mustCodec(t, "bf16"), members, round, n))
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range res {
				if g.err != nil || !slices.Equal(g.out.Members, members) || g.out.Behind || len(g.out.Mean) != 1 {
					t.Fatalf("round %d, worker %d: %+v, %v", round, i, g.out, g.err)
				}
				if !slices.Equal(g.out.Mean[0].Bytes, want) {
					t.Errorf("round %d, worker %d: another mean than that of all", round, i)
				}
			}
		}
		out, err := c.peers[0].Average(context.Background(), 4, exchange.Delta, exchange.Vector{Values: 1, Bytes: []byte{0, 0, 0, 0, 0}}, 1, exchange.Base{})
		if err == nil || !strings.Contains(err.Error(), "part 0, this one averages part 1") {
			t.Errorf("another part: %+v, %v", out, err)
		}
	})
}

// A worker in an earlier round than the others is told that it is behind, and takes the state of one
// member, whatever the others hold.
func TestJoinerOfReplicasThatDiffer(t *testing.T) {
	const n = 1000
	synctest.Test(t, func(t *testing.T) {
		replicas := make([]*toy, 3)
		for i := range replicas {
			replicas[i] = newToy(n)
			replicas[i].apply(vector(i, 9, n), 0) // each its own
			replicas[i].apply(vector(i, 8, n), 0)
		}
		c := newCluster(t, sim.Options{Seed: 1, Peers: 4}, "fp32", func(i int, cfg *Config) {
			cfg.Unequal, cfg.Part, cfg.StateRoot = true, exchange.Slow, toyRoot
			if i < len(replicas) {
				cfg.State, cfg.Head = replicas[i].state, replicas[i].head
			}
		})
		defer c.close()
		var wg sync.WaitGroup
		for _, round := range []uint64{2, 3} {
			for i := range replicas {
				wg.Go(func() {
					if _, err := averaged(context.Background(), c.peers[i], round, exchange.Slow, vector(i, round, n), 1, exchange.Base{Digest: [32]byte{byte(i)}}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		behind := make(chan exchange.Outcome, 1)
		go func() {
			out, err := averaged(context.Background(), c.peers[3], 0, exchange.Slow, vector(3, 0, n), 1, exchange.Base{})
			if err != nil {
				t.Error(err)
			}
			behind <- out
		}()
		for i := range replicas {
			wg.Go(func() {
				_, _ = averaged(context.Background(), c.peers[i], 4, exchange.Slow, vector(i, 4, n), 1, exchange.Base{Digest: [32]byte{byte(i)}})
			})
		}
		if out := <-behind; !out.Behind {
			t.Errorf("a worker in round 0 beside those in round 4: %+v", out)
		}
		wg.Wait()
		f, err := c.peers[3].FetchState(context.Background(), exchange.Want{})
		if err != nil || len(f.Vectors) != 2 || len(f.Results) != 0 {
			t.Fatalf("%d vectors and %d results, %v", len(f.Vectors), len(f.Results), err)
		}
		if !slices.ContainsFunc(replicas, func(r *toy) bool { return slices.Equal(r.phi, f.Vectors[0].Data) }) {
			t.Error("the state is no member's")
		}
	})
}

// A frame of another part is its sender's mistake.
func TestFramesOfAnotherPartAreRefused(t *testing.T) {
	net := sim.New(1)
	defer net.Close()
	a, err := NewAllReduce(Config{Mesh: net.Peer(0), Codec: mustCodec(t, "fp32"), Waits: Waits{Deadline: testDeadline, Grace: testGrace}, Part: exchange.Slow})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, kind := range []protocol.Type{protocol.TypeContribution, protocol.TypeResult, protocol.TypeReady} {
		if _, err := a.onFrame("a peer", protocol.Header{Type: kind, Part: exchange.Delta}, nil); err == nil || !strings.Contains(err.Error(), "is of part 0, this all-reduce averages part 1") {
			t.Errorf("frame type %d: %v", kind, err)
		}
	}
}
