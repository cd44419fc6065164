package gossip

import (
	"context"
	"encoding/binary"
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

// tap sees every frame that a peer writes before it goes out, and may change it.
type tap struct {
	mesh.Mesh
	see func(t protocol.Type, frame []byte)
}

type tapStream struct {
	mesh.Stream
	see func(t protocol.Type, frame []byte)
}

func (m tap) Open(ctx context.Context, to mesh.ID, protocol string) (mesh.Stream, error) {
	s, err := m.Mesh.Open(ctx, to, protocol)
	if err != nil || strings.HasPrefix(protocol, stateID) {
		return s, err
	}
	return &tapStream{s, m.see}, nil
}

func (s *tapStream) Write(b []byte) (int, error) {
	if len(b) >= protocol.HeaderLen && string(b[:4]) == "loco" {
		b = slices.Clone(b)
		s.see(protocol.Type(b[5]), b)
	}
	return s.Stream.Write(b)
}

// tapped makes a cluster one of whose peers is tapped.
func tapped(t *testing.T, opts sim.Options, codecName string, victim int, see func(c *cluster, t protocol.Type, frame []byte)) *cluster {
	t.Helper()
	var c *cluster
	var mu sync.Mutex
	c = newCluster(t, opts, codecName, func(i int, cfg *Config) {
		if i == victim {
			cfg.Mesh = tap{cfg.Mesh, func(t protocol.Type, frame []byte) {
				mu.Lock()
				defer mu.Unlock()
				see(c, t, frame)
			}}
		}
	})
	return c
}

// without returns 0 … n−1 but for one.
func without(n, one int) []int {
	return slices.DeleteFunc(upTo(n), func(i int) bool { return i == one })
}

func only(res map[int]got, who []int) map[int]got {
	out := map[int]got{}
	for _, i := range who {
		out[i] = res[i]
	}
	return out
}

func TestKilledInEachPhase(t *testing.T) {
	const n, length = 4, 270_000
	for _, c := range []struct {
		phase  string
		victim int
		at     protocol.Type
		nth    int
		inMean bool // the victim's vector is in the survivors' mean
	}{
		{"member before its ready", 2, protocol.TypeReady, 1, false},
		{"coordinator before its ready", 0, protocol.TypeReady, 1, false},
		{"coordinator while it sends the group", 0, protocol.TypeGroup, 1, false},
		{"coordinator after one group", 0, protocol.TypeGroup, 2, false},
		{"member after the group", 2, protocol.TypeContribution, 1, false},
		{"coordinator after the group", 0, protocol.TypeContribution, 1, false},
		{"member amid its contributions", 2, protocol.TypeContribution, 4, false},
		{"member at its first result", 1, protocol.TypeResult, 1, false},
		{"member amid its results", 2, protocol.TypeResult, 4, false},
		{"coordinator amid its results", 0, protocol.TypeResult, 4, false},
		{"member before its done", 3, protocol.TypeDone, 1, true},
		{"coordinator before any commit", 0, protocol.TypeCommit, 1, true},
		{"coordinator after one commit", 0, protocol.TypeCommit, 2, true},
	} {
		t.Run(c.phase, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen := 0
				k := tapped(t, sim.Options{Peers: n, Latency: 5 * time.Millisecond, Bandwidth: 10 << 20}, "int8", c.victim,
					func(k *cluster, typ protocol.Type, _ []byte) {
						if typ == c.at {
							if seen++; seen == c.nth {
								k.net.Kill(c.victim)
							}
						}
					})
				defer k.close()
				start := time.Now()
				res := k.average(7, length, upTo(n), nil)
				if seen < c.nth {
					t.Fatal("the fault did not happen")
				}
				for i, g := range res {
					if g.err != nil && i != c.victim {
						t.Fatalf("worker %d: %v", i, g.err)
					}
				}
				survivors := only(res, without(n, c.victim))
				members := without(n, c.victim)
				if slices.Contains(survivors[members[0]].out.Members, c.victim) {
					if !c.inMean {
						t.Error("the victim's vector is in the mean")
					}
					members = upTo(n)
				}
				checkAveraged(t, mustCodec(t, "int8"), survivors, 7, length, members)
				// Cut off, the victim may end up alone, but not in silence.
				v := res[c.victim]
				if !sameBits(v.vec, vector(c.victim, 7, length)) && !slices.Equal(v.out.Members, upTo(n)) && !slices.Equal(v.out.Members, []int{c.victim}) {
					t.Errorf("the victim changed its vector and says that it averaged over %v", v.out.Members)
				}
				if took := time.Since(start); took > 2*testDeadline {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestBadPeerIsNamedAndLeftOut(t *testing.T) {
	const n, length, bad = 4, 20_000, 2
	rewrite := func(frame []byte, at int, v uint32) {
		binary.LittleEndian.PutUint32(frame[at:], v)
		binary.LittleEndian.PutUint32(frame[48:], protocol.Checksum(frame[:48]))
	}
	for name, spoil := range map[string]func(frame []byte){
		"garbage":                 func(f []byte) { copy(f, strings.Repeat("x", protocol.HeaderLen)) },
		"bad header CRC":          func(f []byte) { f[9] ^= 1 },
		"bad payload CRC":         func(f []byte) { rewrite(f, 44, 12345) },
		"oversized":               func(f []byte) { rewrite(f, 40, 1<<31) },
		"too many values":         func(f []byte) { rewrite(f, 36, protocol.ChunkValues+1) },
		"another count of values": func(f []byte) { rewrite(f, 36, 17) },
		"unknown shard":           func(f []byte) { rewrite(f, 24, 99) },
		"another's shard":         func(f []byte) { rewrite(f, 24, bad) },
		"unknown chunk":           func(f []byte) { rewrite(f, 28, 7) },
		"another worker's number": func(f []byte) { rewrite(f, 32, 1) },
	} {
		for _, typ := range []protocol.Type{protocol.TypeContribution, protocol.TypeResult} {
			if typ == protocol.TypeResult && name == "another's shard" {
				continue // a result's shard is its sender's
			}
			t.Run(fmt.Sprintf("%s/%d", name, typ), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := tapped(t, sim.Options{Peers: n, Latency: time.Millisecond}, "int8", bad, func(_ *cluster, got protocol.Type, f []byte) {
						if got == typ {
							spoil(f)
						}
					})
					defer k.close()
					res := k.average(1, length, upTo(n), nil)
					good := without(n, bad)
					checkAveraged(t, mustCodec(t, "int8"), only(res, good), 1, length, good)
					for _, i := range good {
						if !strings.Contains(strings.Join(res[i].out.Rejected, "\n"), "worker 2 (peer-002)") {
							t.Errorf("worker %d rejected %q, which does not name the peer", i, res[i].out.Rejected)
						}
					}
				})
			})
		}
	}
}

// poison is a codec whose encodings hold what no decoder takes.
type poison struct{ codec.Codec }

func (p poison) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	at := len(dst)
	dst, err := p.Codec.AppendEncode(dst, src)
	for i := range min(4, len(dst)-at) { // a NaN in fp32 and bf16, a NaN scale in int8
		dst[at+i] = 0xff
	}
	return dst, err
}

func TestNonFiniteContentIsRefused(t *testing.T) {
	const n, length, bad = 3, 5000, 1
	for _, name := range []string{"fp32", "bf16", "int8"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newCluster(t, sim.Options{Peers: n}, name, func(i int, cfg *Config) {
					if i == bad {
						cfg.Codec = poison{cfg.Codec}
					}
				})
				defer k.close()
				res := k.average(1, length, upTo(n), nil)
				good := without(n, bad)
				checkAveraged(t, mustCodec(t, name), only(res, good), 1, length, good)
				// The round may be over for the other before the news gets there.
				if coordinator := res[good[0]].out; !strings.Contains(strings.Join(coordinator.Rejected, "\n"), "peer-001") {
					t.Errorf("worker %d rejected %q", good[0], coordinator.Rejected)
				}
			})
		})
	}
}

func TestSilentPeers(t *testing.T) {
	const n, length = 4, 100_000
	for _, c := range []struct {
		name  string
		fault func(k *cluster)
		who   []int // run Average
		named bool
	}{
		{"alive but never ready", func(*cluster) {}, []int{0, 1, 3}, false},
		{"its data vanish", func(k *cluster) { k.net.Blackhole(2, dataID+allReduceID, true) }, upTo(n), true},
		{"paused", func(k *cluster) { k.net.Pause(2) }, upTo(n), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newCluster(t, sim.Options{Peers: n}, "fp32", nil)
				defer k.close()
				c.fault(k)
				res := k.average(1, length, c.who, nil)
				good := without(n, 2)
				checkAveraged(t, mustCodec(t, "fp32"), only(res, good), 1, length, good)
				if c.named && !strings.Contains(strings.Join(res[0].out.Rejected, "\n"), "peer-002): silent") {
					t.Errorf("rejected %q", res[0].out.Rejected)
				}
				if g, ok := res[2]; ok && g.err == nil && !g.out.Behind && !slices.Equal(g.out.Members, good) && !slices.Equal(g.out.Members, []int{2}) {
					t.Errorf("worker 2 averaged over %v", g.out.Members)
				}
			})
		})
	}
}

func TestLateMemberAdoptsTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, sim.Options{Peers: 4, Latency: time.Millisecond}, "int8", nil)
		defer k.close()
		res := k.average(3, 400_000, upTo(4), func(i int) {
			if i == 1 {
				<-time.After(3 * testGrace)
			}
		})
		checkAveraged(t, mustCodec(t, "int8"), res, 3, 400_000, []int{0, 2, 3})
	})
}

func TestBehind(t *testing.T) {
	average := func(k *cluster, i int, round uint64, digest byte) (exchange.Outcome, []float32, error) {
		vec := vector(i, round, 1000)
		out, err := averaged(context.Background(), k.peers[i], round, exchange.Delta, vec, 1, exchange.Base{Digest: [32]byte{digest}})
		return out, vec, err
	}
	for _, c := range []struct {
		name   string
		rounds [4]uint64
		digest [4]byte
		behind []int
	}{
		{"an older round", [4]uint64{5, 5, 4, 5}, [4]byte{1, 1, 1, 1}, []int{2}},
		{"the coordinator in an older round", [4]uint64{4, 5, 5, 5}, [4]byte{1, 1, 1, 1}, []int{0}},
		{"another state", [4]uint64{5, 5, 5, 5}, [4]byte{1, 1, 1, 9}, []int{3}},
		{"the coordinator in another state", [4]uint64{5, 5, 5, 5}, [4]byte{9, 1, 1, 1}, []int{0}},
		{"a tie goes to the coordinator", [4]uint64{5, 5, 5, 5}, [4]byte{1, 1, 9, 9}, []int{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newCluster(t, sim.Options{Peers: 4, Latency: time.Millisecond}, "fp32", nil)
				defer k.close()
				var wg sync.WaitGroup
				for i := range 4 {
					wg.Go(func() {
						out, vec, err := average(k, i, c.rounds[i], c.digest[i])
						if err != nil {
							t.Errorf("worker %d: %v", i, err)
						}
						if want := slices.Contains(c.behind, i); out.Behind != want {
							t.Errorf("worker %d: behind %v (%q), members %v", i, out.Behind, out.Why, out.Members)
						}
						if out.Behind && (out.Why == "" || !sameBits(vec, vector(i, c.rounds[i], 1000))) {
							t.Errorf("worker %d is behind with a changed vector or no reason", i)
						}
						if !out.Behind && len(out.Members) != 4-len(c.behind) {
							t.Errorf("worker %d: members %v", i, out.Members)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestPartitionedSidesGoOnAndMeetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, sim.Options{Peers: 5}, "fp32", nil)
		defer k.close()
		k.net.Partition([]int{0, 1}, []int{2, 3, 4})
		res := k.average(1, 1000, upTo(5), nil)
		checkAveraged(t, mustCodec(t, "fp32"), only(res, []int{0, 1}), 1, 1000, []int{0, 1})
		checkAveraged(t, mustCodec(t, "fp32"), only(res, []int{2, 3, 4}), 1, 1000, []int{2, 3, 4})
		k.net.Partition()
		<-time.After(time.Millisecond)
		res = k.average(2, 1000, upTo(5), nil)
		checkAveraged(t, mustCodec(t, "fp32"), res, 2, 1000, upTo(5))
	})
}

func TestNobodyReadyIsAnErrorNotALocalStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, sim.Options{Peers: 4}, "fp32", nil)
		defer k.close()
		start := time.Now()
		res := k.average(1, 100, []int{0}, nil)
		if res[0].err == nil || !sameBits(res[0].vec, vector(0, 1, 100)) {
			t.Errorf("error %v, members %v", res[0].err, res[0].out.Members)
		}
		if took := time.Since(start); took > testDeadline+testGrace {
			t.Errorf("took %v", took)
		}
	})
}

func TestContextAndCloseEndAnAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, sim.Options{Peers: 2}, "fp32", nil)
		defer k.close()
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := averaged(ctx, k.peers[0], 1, exchange.Delta, []float32{1}, 1, exchange.Base{}); err == nil {
			t.Error("no error after the context ended")
		}
		time.AfterFunc(time.Second, func() { _ = k.peers[0].Close() })
		if _, err := averaged(context.Background(), k.peers[0], 1, exchange.Delta, []float32{1}, 1, exchange.Base{}); err == nil {
			t.Error("no error after Close")
		}
	})
}

// TestRandomSchedules runs rounds under random latencies, delays, kills and pauses.
// What commits must be the mean of what it says, and the same for all that commit it.
func TestRandomSchedules(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		if !t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomSchedule(t, seed) })
		}) {
			return
		}
	}
}

func randomSchedule(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 99))
	n, length := 2+r.IntN(5), 1+r.IntN(2000)
	k := newCluster(t, sim.Options{Peers: n, Latency: time.Duration(r.IntN(20)) * time.Millisecond,
		Bandwidth: 1 << (14 + r.IntN(8)), Detection: time.Duration(1+r.IntN(3000)) * time.Millisecond}, []string{"fp32", "bf16", "int8"}[r.IntN(3)], nil)
	defer k.close()
	dead := map[int]bool{}
	for range r.IntN(n) {
		i, at := r.IntN(n), time.Duration(r.IntN(400))*time.Millisecond
		if dead[i] || len(dead) == n-1 {
			continue
		}
		if dead[i] = true; r.IntN(3) > 0 {
			time.AfterFunc(at, func() { k.net.Kill(i) })
		} else {
			time.AfterFunc(at, func() { k.net.Pause(i) })
		}
	}
	delays := make([]time.Duration, n)
	for i := range delays {
		delays[i] = time.Duration(r.IntN(300)) * time.Millisecond
	}
	start := time.Now()
	res := k.average(1, length, upTo(n), func(i int) { <-time.After(delays[i]) })
	if took := time.Since(start); took > testDeadline+10*testGrace {
		t.Errorf("took %v", took)
	}
	var first *got
	for i := range n {
		g := res[i]
		switch {
		case dead[i]:
			continue
		case g.err != nil || g.out.Behind:
			t.Errorf("worker %d: error %v, behind %q", i, g.err, g.out.Why)
			continue
		case first == nil:
			first = &g
		}
		if !slices.Equal(g.out.Members, first.out.Members) || !sameBits(g.vec, first.vec) {
			t.Errorf("worker %d has members %v, another %v; equal bits: %v; rejected %v and %v", i, g.out.Members, first.out.Members, sameBits(g.vec, first.vec), g.out.Rejected, first.out.Rejected)
		}
		if !sameBits(g.vec, expected(t, k.peers[0].cfg.Codec, g.out.Members, 1, length)) {
			t.Errorf("worker %d: its mean is not that of %v", i, g.out.Members)
		}
	}
}
