package gossip

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/kernels"
	"loco/mesh"
	"loco/mesh/sim"
)

// toy is a worker's state: φ and momentum with an outer step, and no trainer.
type toy struct {
	mu       sync.Mutex
	length   int
	round    uint64
	tokens   float64
	phi, mom []float32
	past     []exchange.Mark
	ready    bool
	copies   int
}

func newToy(n int) *toy {
	t := &toy{length: n, phi: vector(77, 0, n), mom: make([]float32, n), ready: true}
	t.past = []exchange.Mark{{Round: 0, Digest: t.digest()}}
	return t
}

func sumOf(x []float32) [32]byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return kernels.Digest(b)
}

func toyRoot(round uint64, sums map[string][32]byte) [32]byte {
	b := binary.LittleEndian.AppendUint64(nil, round)
	phi, mom := sums["phi"], sums["mom"]
	return sha256.Sum256(append(append(b, phi[:]...), mom[:]...))
}

func (t *toy) digest() [32]byte {
	return toyRoot(t.round, map[string][32]byte{"phi": sumOf(t.phi), "mom": sumOf(t.mom)})
}

// apply is the outer step.
func (t *toy) apply(mean []float32, tokens float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, d := range mean {
		t.mom[i] = float32(0.9*t.mom[i]) + d
		t.phi[i] -= float32(0.1 * t.mom[i])
	}
	t.round++
	t.tokens += tokens
	t.past = append(t.past, exchange.Mark{Round: t.round, Digest: t.digest()})
}

func (t *toy) head() (exchange.Head, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return exchange.Head{Mark: exchange.Mark{Round: t.round, Digest: t.past[len(t.past)-1].Digest}, Step: 10 * t.round, Tokens: t.tokens, Past: slices.Clone(t.past)}, t.ready
}

func (t *toy) state() (exchange.State, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.copies++
	return exchange.State{Mark: exchange.Mark{Round: t.round, Digest: t.past[len(t.past)-1].Digest}, Tokens: t.tokens,
		Vectors: []exchange.Named{{Name: "phi", Data: slices.Clone(t.phi)}, {Name: "mom", Data: slices.Clone(t.mom)}}}, nil
}

func (t *toy) moments() (exchange.State, error) {
	return exchange.State{Mark: exchange.Mark{Round: t.round}, Updates: 7, Vectors: []exchange.Named{{Name: "m", Data: vector(1, 1, t.length)}, {Name: "v", Data: vector(2, 2, t.length)}}}, nil
}

// join takes over what was fetched and checks every digest that the group has said.
func (t *toy) join(tb testing.TB, c codec.Codec, f exchange.Fetched) {
	tb.Helper()
	if len(f.Vectors) > 0 {
		t.phi, t.mom, t.round, t.tokens = f.Vectors[0].Data, f.Vectors[1].Data, f.Round, f.Tokens
		t.past = []exchange.Mark{{Round: f.Round, Digest: t.digest()}}
	}
	for _, r := range f.Results {
		if r.Round != t.round {
			tb.Fatalf("a result of round %d is to be replayed in round %d", r.Round, t.round)
		}
		mean := make([]float32, t.length)
		if err := c.Decode(mean, r.Bytes); err != nil {
			tb.Fatal(err)
		}
		t.apply(mean, r.Tokens)
	}
	for _, m := range f.Past {
		if i := slices.IndexFunc(t.past, func(p exchange.Mark) bool { return p.Round == m.Round }); i >= 0 && t.past[i].Digest != m.Digest {
			tb.Fatalf("round %d has another digest than the group's", m.Round)
		}
	}
	t.ready = true
}

// toys is a cluster of toy workers.
type toys struct {
	*cluster
	toys  []*toy
	sent  []atomic.Int64
	codec codec.Codec
}

const toyLength = 400_000 // 3.2 MB: 13 chunks

func newToys(t *testing.T, opts sim.Options, edit func(i int, c *Config)) *toys {
	k := &toys{sent: make([]atomic.Int64, opts.Peers), codec: mustCodec(t, "int8")}
	for range opts.Peers {
		k.toys = append(k.toys, newToy(toyLength))
	}
	k.cluster = newCluster(t, opts, "int8", func(i int, c *Config) {
		c.State, c.Moments, c.Head, c.StateRoot = k.toys[i].state, k.toys[i].moments, k.toys[i].head, toyRoot
		c.StateSent = func(n int) { k.sent[i].Add(int64(n)) }
		c.ReplayRounds, c.ReplayBytes = 4, 64<<20
		if edit != nil {
			edit(i, c)
		}
	})
	return k
}

// step is one round of the workers named.
func (k *toys) step(who []int) map[int]exchange.Outcome {
	var mu sync.Mutex
	var wg sync.WaitGroup
	outs := map[int]exchange.Outcome{}
	for _, i := range who {
		wg.Go(func() {
			head, _ := k.toys[i].head()
			vec := vector(i, head.Round%3, toyLength)
			out, err := averaged(context.Background(), k.peers[i], head.Round, exchange.Delta, vec, float64(i+1), exchange.Base{Digest: head.Digest, Tokens: head.Tokens})
			if err != nil {
				k.t.Errorf("worker %d: %v", i, err)
			} else if !out.Behind {
				k.toys[i].apply(vec, out.Tokens)
			}
			mu.Lock()
			outs[i] = out
			mu.Unlock()
		})
	}
	wg.Wait()
	return outs
}

// joining makes a worker one that holds nothing.
func (k *toys) joining(i int) {
	k.toys[i].ready = false
	k.net.Peer(i).Announce(mesh.Status{Worker: i})
	<-time.After(10 * time.Millisecond)
}

func (k *toys) same(t *testing.T, who ...int) {
	t.Helper()
	want, _ := k.toys[who[0]].head()
	for _, i := range who[1:] {
		if got, _ := k.toys[i].head(); got.Round != want.Round || got.Digest != want.Digest || got.Tokens != want.Tokens {
			t.Errorf("worker %d is in round %d with digest %x and %v tokens, worker %d in %d with %x and %v", i, got.Round, got.Digest[:4], got.Tokens, who[0], want.Round, want.Digest[:4], want.Tokens)
		}
	}
}

// All sources serve, each within its cap, and three are three times as fast as one.
func TestJoinerFetchesFromAllSourcesAtOnce(t *testing.T) {
	seconds := map[int]float64{}
	for _, sources := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			k := newToys(t, sim.Options{Peers: sources + 1, Latency: 5 * time.Millisecond}, func(_ int, c *Config) { c.StateUpload = 1 << 20 })
			defer k.close()
			k.joining(sources)
			k.step(upTo(sources))
			start := time.Now()
			f, err := k.peers[sources].FetchState(context.Background(), exchange.Want{})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(start).Seconds()
			for i := range sources {
				if got := float64(k.sent[i].Load()); got > 1.05*(1<<20)*took+stateBurst+256<<10 {
					t.Errorf("source %d sent %.0f bytes in %.2f s, its cap is %d a second", i, got, took, 1<<20)
				} else if got < 3.2e6/float64(sources)*0.6 {
					t.Errorf("source %d of %d sent %.0f bytes", i, sources, got)
				}
			}
			k.toys[sources].join(t, k.codec, f)
			k.same(t, upTo(sources+1)...)
			seconds[sources] = took
		})
	}
	t.Logf("3.2 MB at 1 MiB/s each: %.2f s from one source, %.2f s from three", seconds[1], seconds[3])
	if seconds[1] < 2.8 || seconds[3] > 0.5*seconds[1] {
		t.Errorf("%v seconds", seconds)
	}
}

// garbler changes a byte of the chunks that a peer serves.
type garbler struct {
	mesh.Mesh
	on *atomic.Bool
}

func (g garbler) Handle(protocol string, h func(mesh.ID, mesh.Stream)) {
	if h == nil || protocol != stateID {
		g.Mesh.Handle(protocol, h)
		return
	}
	g.Mesh.Handle(protocol, func(from mesh.ID, s mesh.Stream) { h(from, &garbled{s, g.on}) })
}

type garbled struct {
	mesh.Stream
	on *atomic.Bool
}

// Write gives chunks another content with the right CRC, as a broken disk or memory would.
func (g *garbled) Write(b []byte) (int, error) {
	if g.on.Load() && transfer.Type(b[0]) == transfer.TypeChunk {
		payload := slices.Clone(b[5 : len(b)-4])
		payload[len(payload)/2] ^= 1
		if _, err := g.Stream.Write(transfer.AppendFrame(nil, transfer.TypeChunk, payload)); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	return g.Stream.Write(b)
}

// One source sends wrong chunks, one dies, one is cut off without a word: the fourth and the
// chunks that came make the state whole, and the joiner says which source was at fault.
func TestBadAndLostSourcesAreNamedAndReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var on atomic.Bool
		on.Store(true)
		k := newToys(t, sim.Options{Peers: 5, Latency: 5 * time.Millisecond, Bandwidth: 1 << 20}, func(i int, c *Config) {
			if i == 1 {
				c.Mesh = garbler{c.Mesh, &on}
			}
		})
		defer k.close()
		k.joining(4)
		k.step(upTo(4))
		time.AfterFunc(300*time.Millisecond, func() { k.net.Kill(0) })
		time.AfterFunc(400*time.Millisecond, func() { k.net.Pause(2) })
		f, err := k.peers[4].FetchState(context.Background(), exchange.Want{})
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(f.Blame, "\n")
		if !strings.Contains(all, "peer-001: sent chunk") || !strings.Contains(all, "wrong hash") || !strings.Contains(all, "peer-000") {
			t.Errorf("blamed %q", f.Blame)
		}
		k.toys[4].join(t, k.codec, f)
		k.same(t, 3, 4)
	})
}

// Rounds pass while a state is fetched, more of them than are kept anywhere: the joiner
// follows them, replays them to the group's bits, and is in the next round.
func TestJoinerOutlastsManyRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const joiner = 3
		k := newToys(t, sim.Options{Peers: 4, Latency: 5 * time.Millisecond}, func(_ int, c *Config) { c.StateUpload = 300_000 })
		defer k.close()
		k.joining(joiner)
		k.step(upTo(3))
		var f exchange.Fetched
		var err error
		fetched := make(chan struct{})
		go func() {
			defer close(fetched)
			f, err = k.peers[joiner].FetchState(context.Background(), exchange.Want{Moments: true})
		}()
		rounds := 0
		for done := false; !done; {
			select {
			case <-fetched:
				done = true
			case <-time.After(1500 * time.Millisecond):
				k.step(upTo(3))
				rounds++
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Results) < 5 { // more than are kept
			t.Fatalf("%d rounds passed and %d results were fetched", rounds, len(f.Results))
		}
		if f.Moments == nil || f.Moments.Updates != 7 || !sameBits(f.Moments.Vectors[1].Data, vector(2, 2, toyLength)) {
			t.Errorf("moments %+v", f.Moments)
		}
		k.toys[joiner].join(t, k.codec, f)
		// A round that was under way when the fetch ended is one more result to follow.
		if own, _ := k.toys[joiner].head(); own.Round < k.toys[0].round {
			f, err := k.peers[joiner].FetchState(context.Background(), exchange.Want{Own: exchange.Mark{Round: own.Round, Digest: own.Digest}, Length: toyLength})
			if err != nil {
				t.Fatal(err)
			}
			if len(f.Vectors) != 0 || len(f.Results) != 1 {
				t.Fatalf("%d vectors and %d results were fetched, want the one result", len(f.Vectors), len(f.Results))
			}
			k.toys[joiner].join(t, k.codec, f)
		}
		k.same(t, upTo(4)...)
		for i, y := range k.toys[:3] {
			if y.copies > 1 {
				t.Errorf("worker %d copied its state %d times", i, y.copies)
			}
			if n, b := len(k.peers[i].states.log.entries), k.peers[i].states.log.bytes; n > 4 || b > 64<<20 {
				t.Errorf("worker %d keeps %d results of %d bytes", i, n, b)
			}
		}
		k.net.Peer(joiner).Announce(mesh.Status{Worker: joiner, Ready: true})
		for i, out := range k.step(upTo(4)) {
			if len(out.Members) != 4 {
				t.Errorf("worker %d: members %v of the next round", i, out.Members)
			}
		}
		k.same(t, upTo(4)...)
	})
}

// The copy is given back when nobody asks for it any more.
func TestServedStateIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newToys(t, sim.Options{Peers: 2}, nil)
		defer k.close()
		k.joining(1)
		if _, err := k.peers[1].FetchState(context.Background(), exchange.Want{Moments: true}); err != nil {
			t.Fatal(err)
		}
		s := k.peers[0].states
		count := func() int { s.mu.Lock(); defer s.mu.Unlock(); return len(s.held) }
		if n := count(); n != 2 {
			t.Fatalf("%d objects are held after a fetch, want the state and the moments", n)
		}
		<-time.After(testDeadline + time.Second)
		if n := count(); n != 0 {
			t.Errorf("%d objects are held after the deadline", n)
		}
	})
}

// A joiner that is stopped and started again goes on with what it had.
func TestFetchResumesAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		k := newToys(t, sim.Options{Peers: 3, Latency: 5 * time.Millisecond}, func(i int, c *Config) {
			c.StateUpload = 300_000
			if i == 2 {
				c.StateDir = dir
			}
		})
		defer k.close()
		k.joining(2)
		k.step(upTo(2))
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		defer cancel()
		if _, err := k.peers[2].FetchState(ctx, exchange.Want{}); err == nil {
			t.Fatal("fetched within the time that was given")
		}
		sent := k.sent[0].Load() + k.sent[1].Load()
		if sent < 1<<20 {
			t.Fatalf("only %d bytes had come", sent)
		}
		_ = k.peers[2].Close()
		k.net.Restart(2)
		k.net.Peer(2).Announce(mesh.Status{Worker: 2})
		k.peers[2] = k.make(2)
		k.step(upTo(2)) // the group went on meanwhile
		<-time.After(time.Second)
		damage(t, dir)
		f, err := k.peers[2].FetchState(context.Background(), exchange.Want{})
		if err != nil {
			t.Fatal(err)
		}
		const state = 8 * toyLength
		if total := k.sent[0].Load() + k.sent[1].Load(); total-sent > state-1<<19 {
			t.Errorf("%d bytes were sent before the restart and %d after it, of a state of %d", sent, total-sent, state)
		}
		k.toys[2].join(t, k.codec, f)
		k.same(t, upTo(3)...)
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// damage flips a bit of the first chunk that an interrupted fetch has left.
func damage(t *testing.T, dir string) {
	t.Helper()
	m, p := loadPartial(dir, transfer.State, 0, 1<<30)
	if p == nil {
		t.Fatal("nothing was left of the fetch")
	}
	defer p.close()
	first := -1
	p.scan(m, func(chunk int, _ []byte) {
		if first < 0 {
			first = chunk
		}
	})
	lo, _ := m.Span(first)
	var b [1]byte
	if _, err := p.file.ReadAt(b[:], p.base+int64(lo)); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 8
	if _, err := p.file.WriteAt(b[:], p.base+int64(lo)); err != nil {
		t.Fatal(err)
	}
}

// A worker that was away for two rounds needs their results and no state. Of so few chunks
// nearly all are asked of a second source, some of a third: up to three results' bytes for
// each.
func TestOwnStateIsBroughtUpToDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newToys(t, sim.Options{Peers: 4, Latency: 5 * time.Millisecond}, nil)
		defer k.close()
		k.step(upTo(4))
		k.joining(3)
		k.step(upTo(3))
		k.step(upTo(3))
		own, _ := k.toys[3].head()
		f, err := k.peers[3].FetchState(context.Background(), exchange.Want{Own: exchange.Mark{Round: own.Round, Digest: own.Digest}, Length: toyLength})
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Vectors) > 0 || len(f.Results) != 2 || f.Bytes > 2*3*int64(k.codec.EncodedLen(toyLength)+1<<10) {
			t.Errorf("fetched %d vectors, %d results, %d bytes", len(f.Vectors), len(f.Results), f.Bytes)
		}
		k.toys[3].join(t, k.codec, f)
		k.same(t, upTo(4)...)
	})
}

// A worker whose bits are wrong is outvoted: it gets the others' state whatever its own,
// and serves nobody.
func TestWrongStateIsOutvoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newToys(t, sim.Options{Peers: 5, Latency: 5 * time.Millisecond}, nil)
		defer k.close()
		k.joining(4)
		k.step(upTo(4))
		bad := k.toys[0]
		bad.phi[5] += 1
		bad.past[len(bad.past)-1].Digest = bad.digest()
		f, err := k.peers[4].FetchState(context.Background(), exchange.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if k.sent[0].Load() > 0 {
			t.Error("the worker with the wrong bits served some")
		}
		k.toys[4].join(t, k.codec, f)
		k.same(t, 1, 4)
		own, _ := bad.head()
		f, err = k.peers[0].FetchState(context.Background(), exchange.Want{Own: exchange.Mark{Round: own.Round, Digest: own.Digest}, Length: toyLength})
		if err != nil {
			t.Fatal(err)
		}
		bad.join(t, k.codec, f)
		k.same(t, upTo(4)...)
	})
}

// A source whose vectors do not have the digest that it says is not taken.
func TestStateWithoutItsDigestIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newToys(t, sim.Options{Peers: 3, Latency: 5 * time.Millisecond}, nil)
		defer k.close()
		k.joining(2)
		k.step(upTo(2))
		k.toys[0].phi[5] += 1 // after the digest was formed
		f, err := k.peers[2].FetchState(context.Background(), exchange.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if k.sent[0].Load() > 0 {
			t.Error("the worker with the wrong bits served some")
		}
		k.toys[2].join(t, k.codec, f)
		k.same(t, 1, 2)
	})
}

func TestFetchStateWithoutASourceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, sim.Options{Peers: 3}, "fp32", nil)
		defer c.close()
		start := time.Now()
		if _, err := c.peers[2].FetchState(context.Background(), exchange.Want{}); err == nil || !strings.Contains(err.Error(), "worker 0 (peer-000)") {
			t.Errorf("error %v", err)
		}
		c.net.Pause(0)
		c.net.Pause(1)
		if _, err := c.peers[2].FetchState(context.Background(), exchange.Want{}); err == nil {
			t.Error("fetched from paused peers")
		}
		if took := time.Since(start); took > 3*testGrace {
			t.Errorf("took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		k := newToys(t, sim.Options{Peers: 2}, nil)
		defer k.close()
		k.joining(0)
		k.joining(1)
		if _, err := k.peers[1].FetchState(context.Background(), exchange.Want{}); !errors.Is(err, exchange.ErrNobody) {
			t.Errorf("error %v", err)
		}
	})
}

// NoLoCo's replicas differ: a joiner takes one's, and goes on with it after a restart.
func TestJoinerOfPairsTakesOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		net := sim.NewWith(sim.Options{Peers: 4, Latency: 5 * time.Millisecond})
		defer net.Close()
		var sent [4]atomic.Int64
		var peers []*Pairs
		var all []*toy
		for i := range 4 {
			y := newToy(toyLength)
			y.apply(vector(i, 3, toyLength), 0) // its own
			y.round = 5 + uint64(i%2)
			y.past = []exchange.Mark{{Round: y.round, Digest: y.digest()}}
			y.ready = i < 3
			all = append(all, y)
			net.Peer(i).Announce(mesh.Status{Worker: i, Ready: i < 3, Round: y.round})
			cfg := Config{Mesh: net.Peer(i), Worker: i, Codec: mustCodec(t, "int8"), Waits: Waits{Deadline: testDeadline, Grace: testGrace},
				State: y.state, Head: y.head, StateRoot: toyRoot, Serving: Serving{StateUpload: 1 << 20}, StateSent: func(n int) { sent[i].Add(int64(n)) }}
			if i == 3 {
				cfg.StateDir = dir
			}
			p, err := NewPairs(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			peers = append(peers, p)
		}
		<-time.After(20 * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		defer cancel()
		if _, err := peers[3].FetchState(ctx, exchange.Want{}); err == nil {
			t.Fatal("fetched within the time that was given")
		}
		all[1].round = 9 // the source went on
		all[1].past = append(all[1].past, exchange.Mark{Round: 9, Digest: all[1].digest()})
		f, err := peers[3].FetchState(context.Background(), exchange.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if f.Round != 6 || f.GroupRound != 9 || !sameBits(f.Vectors[0].Data, all[1].phi) {
			t.Errorf("fetched round %d of worker 1, the furthest on, which is in %d", f.Round, f.GroupRound)
		}
		if total := sent[1].Load(); total > 8*toyLength+1<<20 {
			t.Errorf("%d bytes were sent of a state of %d", total, 8*toyLength)
		}
	})
}

func TestResultLogIsBoundedAndConsecutive(t *testing.T) {
	l := resultLog{roundsMax: 3, bytesMax: 100}
	add := func(round uint64, n int) { l.add(exchange.Result{Round: round, Bytes: make([]byte, n)}) }
	check := func(what string, head, oldest uint64, entries int) {
		t.Helper()
		h := exchange.Head{Mark: exchange.Mark{Round: head}}
		for r := range head {
			h.Past = append(h.Past, exchange.Mark{Round: r})
		}
		if got := l.oldest(h); got != oldest || len(l.entries) != entries || l.bytes > 100 {
			t.Errorf("%s: oldest %d, %d entries of %d bytes, want %d and %d", what, got, len(l.entries), l.bytes, oldest, entries)
		}
	}
	check("empty", 7, 7, 0)
	for r := range uint64(5) {
		add(r, 10)
	}
	check("five of three", 5, 2, 3)
	check("the last is not applied yet", 4, 2, 3)
	check("a result is missing", 6, 6, 3)
	add(5, 85)
	check("bytes", 6, 4, 2)
	add(5, 20)
	check("a round again", 6, 4, 2)
	add(7, 20)
	check("a gap", 8, 7, 1)
	add(9, 20)
	check("a gap behind the only one", 10, 9, 1)
	add(7, 20)
	check("an older round", 8, 7, 1)
	if got := l.oldest(exchange.Head{Mark: exchange.Mark{Round: 8}, Past: []exchange.Mark{{Round: 7, Digest: [32]byte{1}}}}); got != 8 {
		t.Errorf("a result of another lineage is served to a worker in round %d of this one", got)
	}
	add(8, 101)
	check("too large", 9, 9, 0)
	l.reset([]exchange.Result{{Round: 3, Bytes: make([]byte, 5)}})
	check("reset", 4, 3, 1)
}

func FuzzPartialHead(f *testing.F) {
	o := describeResult(exchange.Result{Round: 3, Bytes: []byte("result")})
	f.Add(append(binary.LittleEndian.AppendUint32(nil, uint32(len(o.raw))), o.raw...))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := readPartialHead(bytes.NewReader(p), 1<<20)
		if err == nil && !bytes.HasPrefix(p[4:], m.Append(nil)) {
			t.Fatalf("%x came back as %x", p, m.Append(nil))
		}
	})
}

// A file that holds another object, or nothing that can be read, is begun anew.
func TestForeignPartialFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	o, other := describeResult(exchange.Result{Round: 3, Bytes: []byte("result")}), describeResult(exchange.Result{Round: 3, Bytes: []byte("another")})
	path := partialPath(dir, transfer.Result, 3)
	for name, content := range map[string][]byte{"garbage": []byte("garbage that is no manifest"), "nothing": nil,
		"another object": slices.Concat(binary.LittleEndian.AppendUint32(nil, uint32(len(other.raw))), other.raw, []byte("another"))} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPartial(dir, o, 1<<20)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		whole := 0
		p.scan(o.Manifest, func(int, []byte) { whole++ })
		if err := p.write(o.Manifest, 0, []byte("result")); err != nil || whole != 0 {
			t.Errorf("%s: %d chunks were whole, %v", name, whole, err)
		}
		p.close()
		if m, again := loadPartial(dir, transfer.Result, 3, 1<<20); again == nil || m.ID() != o.id {
			t.Errorf("%s: what was written is not there", name)
		} else {
			again.scan(m, func(_ int, b []byte) { whole += len(b) })
			again.close()
		}
		if whole != len("result") {
			t.Errorf("%s: %d bytes came back", name, whole)
		}
	}
}

// TestRandomJoins fetches under random caps and lengths of rounds while sources die, pause or
// send wrong chunks between rounds. The joiner ends with the bits of the members that are left.
func TestRandomJoins(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { randomJoin(t, seed) }) }) {
			return
		}
	}
}

func randomJoin(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 44))
	n := 2 + r.IntN(4)
	every := time.Duration(600+r.IntN(3000)) * time.Millisecond
	// One source alone can give more than the results of the rounds.
	upload := int64(toyLength / every.Seconds() * (1.2 + 4*r.Float64()))
	var on atomic.Bool
	on.Store(r.IntN(2) == 0)
	k := newToys(t, sim.Options{Peers: n + 1, Latency: time.Duration(r.IntN(40)) * time.Millisecond}, func(i int, c *Config) {
		c.StateUpload = upload
		if i == 1 {
			c.Mesh = garbler{c.Mesh, &on}
		}
	})
	defer k.close()
	k.joining(n)
	live := upTo(n)
	k.step(live)
	var f exchange.Fetched
	var err error
	fetched := make(chan struct{})
	go func() {
		defer close(fetched)
		f, err = k.peers[n].FetchState(context.Background(), exchange.Want{Moments: r.IntN(2) == 0})
	}()
	for done := false; !done; {
		select {
		case <-fetched:
			done = true
		case <-time.After(every):
			if victim := live[r.IntN(len(live))]; r.IntN(4) == 0 && len(live) > 1 && (victim != 0 || !on.Load()) {
				live = slices.DeleteFunc(live, func(i int) bool { return i == victim })
				if r.IntN(2) == 0 {
					k.net.Kill(victim)
				} else {
					k.net.Pause(victim)
				}
			}
			k.step(live)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	k.toys[n].join(t, k.codec, f)
	k.same(t, live...)
	group, _ := k.toys[live[0]].head()
	own, _ := k.toys[n].head()
	// A round may have ended between the last question and now: its Commit is still told.
	if own.Round+1 < group.Round || own.Digest != group.Past[own.Round].Digest {
		t.Errorf("the joiner is in round %d with digest %x, the group in %d and was then at %x", own.Round, own.Digest[:4], group.Round, group.Past[own.Round].Digest[:4])
	}
	for _, i := range live {
		if y := k.toys[i]; y.copies > int(y.round)+1 {
			t.Errorf("worker %d copied its state %d times in %d rounds", i, y.copies, y.round)
		}
	}
}
