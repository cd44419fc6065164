package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/protocol"
	"loco/mesh"
	"loco/mesh/sim"
)

// pairCluster is n pair exchangers over a simulated mesh.
type pairCluster struct {
	net   *sim.Net
	peers []*Pairs
}

func newPairCluster(t *testing.T, opts sim.Options, edit func(i int, c *Config)) *pairCluster {
	t.Helper()
	c := &pairCluster{net: sim.NewWith(opts)}
	for i := range opts.Peers {
		c.net.Peer(i).Announce(mesh.Status{Worker: i, Ready: true})
	}
	<-time.After(opts.Latency + time.Millisecond)
	for i := range opts.Peers {
		cfg := Config{Mesh: c.net.Peer(i), Worker: i, Waits: Waits{Deadline: testDeadline, Grace: testGrace, MaxLag: 1}, Seed: 11,
			Codec: mustCodec(t, "int8"), StateCodec: mustCodec(t, "bf16")}
		if edit != nil {
			edit(i, &cfg)
		}
		p, err := NewPairs(cfg)
		if err != nil {
			t.Fatal(err)
		}
		c.peers = append(c.peers, p)
	}
	return c
}

func (c *pairCluster) close() {
	for _, p := range c.peers {
		_ = p.Close()
	}
	c.net.Close()
}

func (c *pairCluster) average(round uint64, part exchange.Part, n int, who []int, before func(i int)) map[int]got {
	var mu sync.Mutex
	var wg sync.WaitGroup
	res := map[int]got{}
	for _, i := range who {
		wg.Go(func() {
			if before != nil {
				before(i)
			}
			vec := vector(i, round, n)
			out, err := averaged(context.Background(), c.peers[i], round, part, vec, float64(i+1), exchange.Base{})
			mu.Lock()
			res[i] = got{vec, out, err}
			mu.Unlock()
		})
	}
	wg.Wait()
	return res
}

// pairMean is the mean by its definition. The result is not encoded again.
func pairMean(t testing.TB, c codec.Codec, a, b int, round uint64, n int) []float32 {
	t.Helper()
	sum := make([]float32, n)
	for _, w := range []int{min(a, b), max(a, b)} {
		p, err := c.AppendEncode(nil, vector(w, round, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.DecodeAdd(sum, p, float32(float64(w+1)/float64(a+b+2))); err != nil {
			t.Fatal(err)
		}
	}
	return sum
}

// checkPairs holds each result to its own members, and says which workers were alone.
func checkPairs(t *testing.T, c codec.Codec, res map[int]got, round uint64, n int) (alone []int) {
	t.Helper()
	for i, g := range res {
		switch {
		case g.err != nil || g.out.Behind:
			t.Errorf("worker %d: error %v, behind %q", i, g.err, g.out.Why)
		case len(g.out.Members) == 1:
			alone = append(alone, i)
			if g.out.Members[0] != i || !sameBits(g.vec, vector(i, round, n)) {
				t.Errorf("worker %d is alone as %v, or its vector changed", i, g.out.Members)
			}
		case len(g.out.Members) != 2 || !slices.Contains(g.out.Members, i):
			t.Errorf("worker %d: members %v", i, g.out.Members)
		default:
			if !sameBits(g.vec, pairMean(t, c, g.out.Members[0], g.out.Members[1], round, n)) {
				t.Errorf("worker %d: its mean is not that of %v", i, g.out.Members)
			}
			if p, ok := res[g.out.Members[0]+g.out.Members[1]-i]; ok && len(p.out.Members) == 2 && !slices.Equal(p.out.Members, g.out.Members) {
				t.Errorf("worker %d averaged with %v, its partner with %v", i, g.out.Members, p.out.Members)
			}
		}
	}
	slices.Sort(alone)
	return alone
}

func TestPairsAverageByTheMatching(t *testing.T) {
	for n := 1; n <= 7; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newPairCluster(t, sim.Options{Peers: n, Latency: time.Millisecond}, nil)
				defer c.close()
				const length = 70_000
				for round := range uint64(3) {
					start := time.Now()
					res := c.average(round, exchange.Delta, length, upTo(n), nil)
					if alone := checkPairs(t, mustCodec(t, "int8"), res, round, length); len(alone) != n%2 {
						t.Errorf("round %d: %v are alone", round, alone)
					}
					for i, g := range res {
						partner, ok := protocol.Match(11, round, upTo(n), i)
						if ok != (len(g.out.Members) == 2) || ok && !slices.Contains(g.out.Members, partner) {
							t.Errorf("round %d: worker %d averaged over %v, the matching says %d, %v", round, i, g.out.Members, partner, ok)
						}
						if want := PairBytes(mustCodec(t, "int8"), length) + 2*protocol.HeaderLen; ok && (int64(g.out.BytesSent) != want || int64(g.out.BytesReceived) != want) {
							t.Errorf("worker %d sent %d and received %d bytes, want %d", i, g.out.BytesSent, g.out.BytesReceived, want)
						}
					}
					if took := time.Since(start); took >= testGrace {
						t.Errorf("took %v although nothing failed", took)
					}
				}
			})
		})
	}
}

func TestPartsRunAtOnceWithTheSamePartner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPairCluster(t, sim.Options{Peers: 6, Latency: 3 * time.Millisecond, Bandwidth: 1 << 20}, nil)
		defer c.close()
		var slow, delta map[int]got
		var wg sync.WaitGroup
		wg.Go(func() { slow = c.average(4, exchange.Slow, 70_000, upTo(6), nil) })
		wg.Go(func() {
			delta = c.average(4, exchange.Delta, 70_000, upTo(6), func(i int) { <-time.After(time.Duration(i*10) * time.Millisecond) })
		})
		wg.Wait()
		checkPairs(t, mustCodec(t, "bf16"), slow, 4, 70_000)
		checkPairs(t, mustCodec(t, "int8"), delta, 4, 70_000)
		for i := range 6 {
			if !slices.Equal(slow[i].out.Members, delta[i].out.Members) || len(slow[i].out.Members) != 2 {
				t.Errorf("worker %d: %v for φ, %v for Δ", i, slow[i].out.Members, delta[i].out.Members)
			}
		}
	})
}

// matched returns a round in which a and b are partners.
func matchedRound(n, a, b int) uint64 {
	for round := uint64(0); ; round++ {
		if p, ok := protocol.Match(11, round, upTo(n), a); ok && p == b {
			return round
		}
	}
}

func TestDeadPartnersAreReplaced(t *testing.T) {
	for _, kill := range [][]int{{2}, {0, 3}, {1, 4, 5}} {
		t.Run(fmt.Sprint(kill), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n, length = 6, 10_000
				c := newPairCluster(t, sim.Options{Peers: n, Latency: time.Millisecond}, nil)
				defer c.close()
				for _, i := range kill {
					c.net.Kill(i)
				}
				var who []int
				for i := range n {
					if !slices.Contains(kill, i) {
						who = append(who, i)
					}
				}
				for round := range uint64(6) {
					start := time.Now()
					res := c.average(round, exchange.Delta, length, who, nil)
					alone := checkPairs(t, mustCodec(t, "int8"), res, round, length)
					if len(alone) > n%2+len(kill) || len(alone)%2 != len(who)%2 {
						t.Errorf("round %d: %v of %v are alone", round, alone, who)
					}
					if took := time.Since(start); took > testDeadline {
						t.Errorf("took %v", took)
					}
				}
			})
		})
	}
}

func TestTwoLonelyWorkersFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, length = 4, 1000
		round := matchedRound(n, 0, 1) // so 2 and 3 are partners too
		c := newPairCluster(t, sim.Options{Peers: n, Detection: time.Hour}, nil)
		defer c.close()
		c.net.Pause(1)
		c.net.Pause(3)
		res := c.average(round, exchange.Delta, length, []int{0, 2}, nil)
		if alone := checkPairs(t, mustCodec(t, "int8"), res, round, length); len(alone) != 0 {
			t.Errorf("%v are alone, want 0 and 2 together", alone)
		}
	})
}

func TestPairWithASilentOrBadPartner(t *testing.T) {
	for _, name := range []string{"silent", "garbage", "non-finite"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newPairCluster(t, sim.Options{Peers: 2, Detection: time.Hour}, func(i int, cfg *Config) {
					if i == 1 && name == "non-finite" {
						cfg.Codec = poison{cfg.Codec}
					}
				})
				defer c.close()
				switch name {
				case "silent":
					c.net.Blackhole(1, dataID+pairsID, true)
				case "garbage":
					c.net.Corrupt(1, dataID+pairsID)
				}
				start := time.Now()
				res := c.average(1, exchange.Delta, 1000, []int{0, 1}, nil)
				if !slices.Equal(res[0].out.Members, []int{0}) || !sameBits(res[0].vec, vector(0, 1, 1000)) {
					t.Errorf("worker 0 averaged over %v", res[0].out.Members)
				}
				if !strings.Contains(strings.Join(res[0].out.Rejected, "\n"), "worker 1 (peer-001)") {
					t.Errorf("rejected %q", res[0].out.Rejected)
				}
				if took := time.Since(start); took > testDeadline+testGrace {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// A line that is slow one way holds an exchange up for as long as it takes, and is nobody's
// fault: not the partner's, which has sent everything, nor that of its owner, which still sends.
func TestPairOverUnequalLines(t *testing.T) {
	for slow := range 2 {
		for _, way := range []string{"up", "down"} {
			t.Run(fmt.Sprintf("%d %s", slow, way), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const length, rate = 10 * protocol.ChunkValues, 120_000 // 0.55 s a chunk
					// What is under way on a line holds up the messages behind it: no more than a chunk.
					c := newPairCluster(t, sim.Options{Peers: 2, Latency: time.Millisecond, Detection: time.Hour, Buffer: protocol.ChunkValues}, func(_ int, cfg *Config) {
						cfg.Deadline = 30 * time.Second
					})
					defer c.close()
					if way == "up" {
						c.net.SetAccess(slow, rate, 20*rate)
					} else {
						c.net.SetAccess(slow, 20*rate, rate)
					}
					start := time.Now()
					res := c.average(1, exchange.Delta, length, []int{0, 1}, nil)
					if alone := checkPairs(t, mustCodec(t, "int8"), res, 1, length); len(alone) > 0 {
						t.Errorf("%v are alone", alone)
					}
					for i, g := range res {
						if len(g.out.Rejected) > 0 || g.out.Attempts != 1 {
							t.Errorf("worker %d made %d attempts and rejected %q", i, g.out.Attempts, g.out.Rejected)
						}
					}
					if took := time.Since(start); took < 2*testGrace {
						t.Errorf("took %v, which tests nothing", took)
					}
				})
			})
		}
	}
}

func TestPartnersMayBeRoundsApart(t *testing.T) {
	for lag, want := range map[int]int{0: 1, 1: 2} {
		t.Run(fmt.Sprint(lag), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newPairCluster(t, sim.Options{Peers: 2}, func(_ int, cfg *Config) { cfg.MaxLag = lag })
				defer c.close()
				var wg sync.WaitGroup
				for i, round := range []uint64{8, 9} {
					wg.Go(func() {
						out, err := averaged(context.Background(), c.peers[i], round, exchange.Delta, vector(i, 1, 10), 1, exchange.Base{})
						if err != nil || len(out.Members) != want {
							t.Errorf("worker %d: members %v, error %v", i, out.Members, err)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestRandomPairSchedules(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomPairSchedule(t, seed) })
		}) {
			return
		}
	}
}

func randomPairSchedule(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	n, length := 2+r.IntN(6), 1+r.IntN(2000)
	c := newPairCluster(t, sim.Options{Peers: n, Latency: time.Duration(r.IntN(20)) * time.Millisecond,
		Bandwidth: 1 << (14 + r.IntN(8)), Detection: time.Duration(1+r.IntN(3000)) * time.Millisecond}, nil)
	defer c.close()
	dead := map[int]bool{}
	for range r.IntN(n) {
		i, at := r.IntN(n), time.Duration(r.IntN(400))*time.Millisecond
		dead[i] = true
		time.AfterFunc(at, func() { c.net.Kill(i) })
	}
	delays := make([]time.Duration, n)
	for i := range delays {
		delays[i] = time.Duration(r.IntN(300)) * time.Millisecond
	}
	start := time.Now()
	res := c.average(seed, exchange.Delta, length, upTo(n), func(i int) { <-time.After(delays[i]) })
	if took := time.Since(start); took > testDeadline+testGrace {
		t.Errorf("took %v", took)
	}
	checkPairs(t, mustCodec(t, "int8"), res, seed, length)
}

// One side has said that it holds everything, and does not hear the same of the other: it
// asks until it is answered, or goes on alone at the deadline and says that the exchange may
// be one-sided.
func TestPairInDoubt(t *testing.T) {
	for name, lasts := range map[string]time.Duration{"answered": 2 * testGrace, "unanswered": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const length = 1000
				c := newPairCluster(t, sim.Options{Peers: 2, Latency: 20 * time.Millisecond, Detection: time.Hour}, nil)
				defer c.close()
				// With the opening of their streams Offer and Accept take 120 ms, the vector of worker 0
				// 60 ms more: what worker 1 says then is lost.
				time.AfterFunc(150*time.Millisecond, func() { c.net.Blackhole(1, controlID+pairsID, true) })
				time.AfterFunc(lasts, func() { c.net.Blackhole(1, controlID+pairsID, false) })
				start := time.Now()
				res := c.average(1, exchange.Delta, length, []int{0, 1}, nil)
				if took := time.Since(start); took > testDeadline+testGrace {
					t.Errorf("took %v", took)
				}
				alone := checkPairs(t, mustCodec(t, "int8"), res, 1, length)
				if res[1].out.Torn || len(res[1].out.Members) != 2 {
					t.Errorf("worker 1, which was told everything: %+v", res[1].out)
				}
				if torn := name == "unanswered"; res[0].out.Torn != torn || slices.Contains(alone, 0) != torn {
					t.Errorf("worker 0: %+v", res[0].out)
				}
			})
		})
	}
}

func TestPairsOverWhenMostHaveFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPairCluster(t, sim.Options{Peers: 4, Latency: time.Millisecond}, nil)
		defer c.close()
		for i, want := range []bool{false, true} { // one of three, then two, have finished round 4
			c.net.Peer(i + 1).Announce(mesh.Status{Worker: i + 1, Ready: true, Round: 5})
			<-time.After(time.Second)
			c.peers[0].Over(4, 0)
			<-time.After(testGrace)
			if got := c.peers[0].Over(4, 0); got != want {
				t.Errorf("%d of 3 others have finished the round: over %v", i+1, got)
			}
		}
		if c.peers[0].Over(5, 0) {
			t.Error("a round that nobody has finished is over")
		}
	})
}
