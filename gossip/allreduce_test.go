package gossip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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

// cluster is n all-reducers over a simulated mesh.
type cluster struct {
	t     *testing.T
	net   *sim.Net
	peers []*AllReduce
	edit  func(i int, c *Config)
}

const (
	testGrace    = 2 * time.Second
	testDeadline = 60 * time.Second
)

func mustCodec(t testing.TB, name string) codec.Codec {
	t.Helper()
	c, err := codec.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newCluster(t *testing.T, opts sim.Options, codecName string, edit func(i int, c *Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, net: sim.NewWith(opts), edit: func(i int, cfg *Config) {
		cfg.Codec = mustCodec(t, codecName)
		if edit != nil {
			edit(i, cfg)
		}
	}}
	for i := range opts.Peers {
		c.net.Peer(i).Announce(mesh.Status{Worker: i, Ready: true})
	}
	<-time.After(opts.Latency + time.Millisecond)
	for i := range opts.Peers {
		c.peers = append(c.peers, c.make(i))
	}
	return c
}

func (c *cluster) make(i int) *AllReduce {
	cfg := Config{Mesh: c.net.Peer(i), Worker: i, Waits: Waits{Deadline: testDeadline, Grace: testGrace}}
	c.edit(i, &cfg)
	a, err := NewAllReduce(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *cluster) close() {
	for _, p := range c.peers {
		_ = p.Close()
	}
	c.net.Close()
}

// exchanger is an AllReduce or a Pairs.
type exchanger interface {
	Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error)
	codecs(part exchange.Part) codec.Codec
}

func (a *AllReduce) codecs(part exchange.Part) codec.Codec { return a.cfg.codecOf(part) }
func (p *Pairs) codecs(part exchange.Part) codec.Codec     { return p.cfg.codecOf(part) }

// averaged encodes vec, averages it and applies the mean to it.
func averaged(ctx context.Context, a exchanger, round uint64, part exchange.Part, vec []float32, weight float64, from exchange.Base) (exchange.Outcome, error) {
	encoded, err := a.codecs(part).AppendEncode(nil, vec)
	if err != nil {
		return exchange.Outcome{}, err
	}
	out, err := a.Average(ctx, round, part, exchange.Vector{Values: len(vec), Bytes: encoded}, weight, from)
	if len(out.Mean) > 0 {
		clear(vec)
	}
	for _, term := range out.Mean {
		err = errors.Join(err, a.codecs(part).DecodeAdd(vec, term.Bytes, term.Share))
	}
	return out, err
}

// got is what one Average returned.
type got struct {
	vec []float32
	out exchange.Outcome
	err error
}

// vector is the deterministic vector of a worker in a round.
func vector(worker int, round uint64, n int) []float32 {
	key := [3]uint64{uint64(worker), round, uint64(n)}
	if x, ok := vectors.Load(key); ok {
		return slices.Clone(x.([]float32))
	}
	r := rand.New(rand.NewPCG(uint64(worker), round))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	vectors.Store(key, x)
	return slices.Clone(x)
}

// vectors remembers them, because the race detector makes drawing them slow.
var vectors sync.Map

// average runs one round on the peers named and returns what each got.
func (c *cluster) average(round uint64, n int, who []int, before func(i int)) map[int]got {
	var mu sync.Mutex
	var wg sync.WaitGroup
	res := map[int]got{}
	for _, i := range who {
		wg.Go(func() {
			if before != nil {
				before(i)
			}
			vec := vector(i, round, n)
			out, err := averaged(context.Background(), c.peers[i], round, exchange.Delta, vec, float64(i+1), exchange.Base{Digest: [32]byte{byte(round)}})
			mu.Lock()
			res[i] = got{vec, out, err}
			mu.Unlock()
		})
	}
	wg.Wait()
	return res
}

// expected is the mean by its definition, through the codec.
func expected(t testing.TB, c codec.Codec, members []int, round uint64, n int) []float32 {
	t.Helper()
	total := 0.0
	for _, w := range members {
		total += float64(w + 1)
	}
	sum := make([]float32, n)
	for _, w := range members {
		p, err := c.AppendEncode(nil, vector(w, round, n))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.DecodeAdd(sum, p, float32(float64(w+1)/total)); err != nil {
			t.Fatal(err)
		}
	}
	p, err := c.AppendEncode(nil, sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Decode(sum, p); err != nil {
		t.Fatal(err)
	}
	return sum
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func upTo(n int) []int {
	var out []int
	for i := range n {
		out = append(out, i)
	}
	return out
}

// checkAveraged holds each result to the mean of its members and all to one another.
func checkAveraged(t *testing.T, c codec.Codec, res map[int]got, round uint64, n int, members []int) {
	t.Helper()
	want := expected(t, c, members, round, n)
	for i, g := range res {
		if g.err != nil || g.out.Behind {
			t.Errorf("worker %d: error %v, behind %v (%s)", i, g.err, g.out.Behind, g.out.Why)
			continue
		}
		if !slices.Equal(g.out.Members, members) {
			t.Errorf("worker %d: members %v, want %v (rejected %v)", i, g.out.Members, members, g.out.Rejected)
			continue
		}
		if !sameBits(g.vec, want) {
			t.Errorf("worker %d: its mean differs from the definition's", i)
		}
	}
}

func TestEverybodyGetsTheSameMean(t *testing.T) {
	for _, name := range codec.Names() {
		for n := 1; n <= 9; n++ {
			for _, length := range []int{1, 257, 5000, 300_000} {
				if length == 300_000 && n != 4 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d workers/%d values", name, n, length), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := newCluster(t, sim.Options{Peers: n}, name, nil)
						defer c.close()
						for round := range uint64(2) {
							res := c.average(round, length, upTo(n), nil)
							checkAveraged(t, mustCodec(t, name), res, round, length, upTo(n))
							var sent int64
							for i, g := range res {
								if g.out.Attempts != 1 {
									t.Errorf("worker %d took %d attempts", i, g.out.Attempts)
								}
								frames := 0
								for s, r := range protocol.Shards(length, n, codec.Block) {
									if s == i {
										frames += (n - 1) * r.Chunks(protocol.ChunkValues)
									} else {
										frames += r.Chunks(protocol.ChunkValues)
									}
								}
								want := AllReduceBytes(mustCodec(t, name), length, n, i) + int64(frames*protocol.HeaderLen)
								if n == 1 {
									want = 0
								}
								if int64(g.out.BytesSent) != want {
									t.Errorf("worker %d sent %d bytes, the formula says %d", i, g.out.BytesSent, want)
								}
								sent += int64(g.out.BytesSent) - int64(g.out.BytesReceived)
							}
							if sent != 0 {
								t.Errorf("%d more bytes were sent than received", sent)
							}
						}
					})
				})
			}
		}
	}
}

// BenchmarkAllReduce is a ddp step: 1 MB of fp32 among 4 members in one process,
// over pipes in memory.
func BenchmarkAllReduce(b *testing.B) {
	const n, length = 4, 1 << 18
	for _, name := range []string{"fp32", "int8"} {
		b.Run(name, func(b *testing.B) {
			net := sim.New(n)
			defer net.Close()
			var peers []*AllReduce
			for i := range n {
				net.Peer(i).Announce(mesh.Status{Worker: i, Ready: true})
			}
			for i := range n {
				for alive := 0; alive < n; { // every view shows everybody
					members, changed := net.Peer(i).View()
					alive = 0
					for _, m := range members {
						if m.State == mesh.Alive {
							alive++
						}
					}
					if alive < n {
						<-changed
					}
				}
				a, err := NewAllReduce(Config{Mesh: net.Peer(i), Worker: i, Codec: mustCodec(b, name), Waits: Waits{Deadline: time.Minute, Grace: 10 * time.Second}})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = a.Close() }()
				peers = append(peers, a)
			}
			var vecs [n][]float32
			for i := range vecs {
				vecs[i] = vector(i, 1, length)
			}
			b.SetBytes(4 * length)
			round := uint64(0)
			for b.Loop() {
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						out, err := averaged(context.Background(), peers[i], round, exchange.Delta, vecs[i], 1, exchange.Base{})
						if err != nil || len(out.Members) != n {
							b.Errorf("worker %d: members %v, error %v", i, out.Members, err)
						}
					})
				}
				wg.Wait()
				round++
			}
		})
	}
}
