package protocol

import (
	"math"
	"strings"
	"testing"
	"time"

	"loco/mesh"
)

// refused checks that an error names what it is about.
func refused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v, want %q in it", what, err, want)
	}
}

// Every check of a header is behind its CRC, which is right here.
func TestHeadersRefused(t *testing.T) {
	sound := Header{Type: TypeReady, Worker: 7, Count: 3}
	for _, c := range []struct {
		want string
		at   int
		v    []byte
	}{
		{`magic "Loco"`, 0, []byte{'L'}},
		{"frame version 3, this program reads 2", 4, []byte{3}},
		{"frame type 9 is unknown", 5, []byte{9}},
		{"part 2 and flags 0", 6, []byte{2}},
		{"part 0 and flags 1", 7, []byte{1}},
		{"worker number 65536, at most 65535", 32, []byte{0, 0, 1}},
		{"announces 65537 values, at most 65536", 36, []byte{1, 0, 1}},
		{"announces 262145 bytes, at most 262144", 40, []byte{1, 0, 4}},
	} {
		p := AppendHeader(nil, sound, nil)
		copy(p[c.at:], c.v)
		_, err := ParseHeader(appendCRC(p[:HeaderLen-4]))
		refused(t, c.want, err, c.want)
	}
	p := AppendHeader(nil, sound, nil)
	for n := range p {
		bad := append([]byte(nil), p...)
		bad[n] ^= 1
		if n >= 4 {
			_, err := ParseHeader(bad)
			refused(t, "a flipped bit", err, "header CRC")
		}
	}
	_, err := ParseHeader(p[:HeaderLen-1])
	refused(t, "a short header", err, "header of 51 bytes, want 52")
	edge := Header{Type: TypeContribution, Part: 1, Worker: WorkerMax, Count: ChunkValues}
	if h, err := ParseHeader(AppendHeader(nil, edge, make([]byte, dataMax))); err != nil || h.Worker != WorkerMax || h.Length != dataMax {
		t.Errorf("a header at all limits comes back as %+v, %v", h, err)
	}
}

func TestWeightsRefused(t *testing.T) {
	for _, w := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1), 2 * math.MaxFloat32} {
		if err := CheckWeight(w); err == nil {
			t.Errorf("weight %v is taken", w)
		}
	}
	for _, w := range []float64{math.SmallestNonzeroFloat64, 1, math.MaxFloat32} {
		if err := CheckWeight(w); err != nil {
			t.Errorf("weight %v: %v", w, err)
		}
	}
}

func ledgerOfThree(now time.Time) *Ledger {
	p := Plan{Round: 5, Number: 9, Self: 1, Length: 3 * 512, Total: 10}
	for k := range 3 {
		p.Members = append(p.Members, GroupMember{Worker: k, ID: mesh.ID([]string{"w0", "w1", "w2"}[k]), Weight: float64(2 + k)})
	}
	p.Total = 9
	return NewLedger(now, p, 256, 256)
}

// A data frame is of its attempt, of a member, and of a chunk that its sender has a part in.
func TestLedgerRefuses(t *testing.T) {
	now := time.Unix(1e6, 0)
	contribution := Header{Type: TypeContribution, Round: 5, Attempt: 9, Shard: 1, Chunk: 1, Count: 256}
	l := ledgerOfThree(now)
	for _, c := range []struct {
		want   string
		from   mesh.ID
		change func(*Header)
	}{
		{"from worker 0, which is not in it", "w3", func(*Header) {}},
		{"from worker 2, which is not in it", "w0", func(h *Header) { h.Worker = 2 }},
		{"shard 3, chunk 1, which do not exist", "w0", func(h *Header) { h.Shard = 3 }},
		{"shard 1, chunk 2, which do not exist", "w0", func(h *Header) { h.Chunk = 2 }},
		{"255 values of shard 1, chunk 1, want 256", "w0", func(h *Header) { h.Count = 255 }},
		{"result of shard 1, which belongs to another", "w0", func(h *Header) { h.Type = TypeResult }},
		{"contribution to shard 2, which belongs to another", "w0", func(h *Header) { h.Shard = 2 }},
	} {
		h := contribution
		c.change(&h)
		take, err := l.Accept(now, c.from, h)
		refused(t, string(c.from), err, c.want)
		if take.Use {
			t.Errorf("%s: it is used", c.want)
		}
	}
	take, err := l.Accept(now, "w0", contribution)
	if want := (Take{true, 0, Span{768, 1024}}); err != nil || take != want {
		t.Errorf("a sound frame is taken as %+v, %v, want %+v", take, err, want)
	}
	if h := contribution; !l.For(h) {
		t.Error("a frame of the attempt is not for it")
	}
	for _, change := range []func(*Header){func(h *Header) { h.Round = 4 }, func(h *Header) { h.Attempt = 8 }} {
		h := contribution
		if change(&h); l.For(h) {
			t.Errorf("a frame of round %d, attempt %d is for round 5, attempt 9", h.Round, h.Attempt)
		}
	}
	for k, want := range []float32{float32(2.0 / 9), float32(3.0 / 9), float32(4.0 / 9)} {
		if got := l.Share(k); got != want {
			t.Errorf("member %d has a share of %v, want %v", k, got, want)
		}
	}
}

// A chunk is full once, when each member has contributed, and the result complete once.
func TestLedgerCounts(t *testing.T) {
	l := ledgerOfThree(time.Unix(1e6, 0))
	for k, want := range []bool{false, false, true} {
		if fresh, full := l.Contribute(k, 1); !fresh || full != want {
			t.Errorf("contribution %d: fresh %v, full %v", k, fresh, full)
		}
		if fresh, full := l.Contribute(k, 1); fresh || full {
			t.Errorf("contribution %d again: fresh %v, full %v", k, fresh, full)
		}
	}
	n := 0
	for shard := range 3 {
		for chunk := range l.Chunks(shard) {
			n++
			if l.Has(shard, chunk) {
				t.Errorf("shard %d, chunk %d is here before it came", shard, chunk)
			}
			if complete := l.Arrived(shard, chunk); complete != (n == 6) {
				t.Errorf("complete after %d of 6 chunks: %v", n, complete)
			}
			if l.Arrived(shard, chunk) || !l.Has(shard, chunk) {
				t.Errorf("shard %d, chunk %d counts twice, or not", shard, chunk)
			}
		}
	}
	if n != 6 {
		t.Errorf("%d chunks, want 6", n)
	}
}

// A silent member is named after grace, an owner that sends no result after twice as long, and the
// source of a download after grace.
func TestLedgerStalls(t *testing.T) {
	const grace = 4 * time.Second
	began := time.Unix(1e6, 0)
	for _, c := range []struct {
		name  string
		set   func(l *Ledger)
		after time.Duration
		who   mesh.ID
	}{
		{"nobody has sent anything", func(*Ledger) {}, grace, "w0"},
		{"not yet", func(*Ledger) {}, grace - 1, ""},
		{"one has sent its vector", func(l *Ledger) { l.Contribute(0, 0); l.Contribute(0, 1) }, grace, "w2"},
		{"all have", func(l *Ledger) {
			for k := range 3 {
				l.Contribute(k, 0)
				l.Contribute(k, 1)
			}
		}, 2*grace - 1, ""},
		{"all have, and no result", func(l *Ledger) {
			for k := range 3 {
				l.Contribute(k, 0)
				l.Contribute(k, 1)
			}
		}, 2 * grace, "w0"},
		{"everything is here", func(l *Ledger) {
			for s := range 3 {
				l.Arrived(s, 0)
				l.Arrived(s, 1)
			}
		}, time.Hour, ""},
	} {
		l := ledgerOfThree(began)
		c.set(l)
		if who, why := l.Stalled(began.Add(c.after), grace); who != c.who || (why == "") != (c.who == "") {
			t.Errorf("%s: names %q (%s), want %q", c.name, who, why, c.who)
		}
	}
	l := NewLedger(began, Plan{Round: 5, Number: 9, Self: -1, Source: "w7", Length: 512}, 256, 256)
	for after, want := range map[time.Duration]mesh.ID{grace - 1: "", grace: "w7"} {
		if who, _ := l.Stalled(began.Add(after), grace); who != want {
			t.Errorf("a download that is silent for %v names %q, want %q", after, who, want)
		}
	}
	h := Header{Type: TypeResult, Round: 5, Attempt: 9, Count: 256}
	if take, err := l.Accept(began.Add(grace), "w7", h); err != nil || !take.Use {
		t.Errorf("the source's frame is taken as %+v, %v", take, err)
	}
	if who, _ := l.Stalled(began.Add(2*grace-1), grace); who != "" {
		t.Errorf("a source that has just sent is named %q", who)
	}
	for from, typ := range map[mesh.ID]Type{"w6": TypeResult, "w7": TypeContribution} {
		h.Type = typ
		if take, err := l.Accept(began, from, h); err != nil || take.Use {
			t.Errorf("a download takes type %d of %s: %+v, %v", typ, from, take, err)
		}
	}
}

func TestPairLedgerRefuses(t *testing.T) {
	now := time.Unix(1e6, 0)
	l := NewPairLedger(now, Exchange{PeerWorker: 1, PeerRound: 5, Own: 1, Other: 3}, 0, 3*256+10, 256)
	for _, c := range []struct {
		want string
		h    Header
	}{
		{"shard 0, chunk 4, which do not exist", Header{Round: 5, Worker: 1, Chunk: 4, Count: 256}},
		{"shard 1, chunk 0, which do not exist", Header{Round: 5, Worker: 1, Shard: 1, Count: 256}},
		{"worker 2, round 5 in an exchange with worker 1, round 5", Header{Round: 5, Worker: 2, Count: 256}},
		{"worker 1, round 4 in an exchange with worker 1, round 5", Header{Round: 4, Worker: 1, Count: 256}},
		{"256 values of chunk 3, want 10", Header{Round: 5, Worker: 1, Chunk: 3, Count: 256}},
	} {
		fresh, err := l.Accept(now, c.h)
		if refused(t, c.want, err, c.want); fresh {
			t.Errorf("%s: it is fresh", c.want)
		}
	}
	for range 3 {
		l.Sent()
	}
	for chunk := range 4 {
		complete := l.Arrived(chunk)
		if again := l.Arrived(chunk); complete || again {
			t.Errorf("complete with chunk %d, and one of the own to be sent", chunk)
		}
	}
	if !l.Sent() {
		t.Error("not complete with everything here and sent")
	}
	if got, want := l.Halves(), [2]Half{{true, 0.25}, {false, 0.75}}; got != want {
		t.Errorf("the mean is of %v, want %v", got, want)
	}
	l = NewPairLedger(now, Exchange{PeerWorker: 1, Own: 1, Other: 3}, 2, 256, 256)
	if got, want := l.Halves(), [2]Half{{false, 0.75}, {true, 0.25}}; got != want {
		t.Errorf("the higher worker's mean is of %v, want %v", got, want)
	}
}

// A group that is none of its sender's, or lacks something, is refused, and its sender is left out.
func TestGroupsRefused(t *testing.T) {
	sound := func() group {
		g := group{source: 0}
		for k, id := range []mesh.ID{"w0", "w1", "w2"} {
			g.members = append(g.members, GroupMember{Worker: k, ID: id, Weight: 1, voter: true})
		}
		return g
	}
	for _, c := range []struct {
		want   string
		number uint64
		change func(*group)
	}{
		{"", attemptNumber(1, 0, 9), func(*group) {}},
		{"does not coordinate", attemptNumber(1, 2, 9), func(*group) {}},
		{"another weight or number", attemptNumber(1, 0, 9), func(g *group) { g.members[1].Weight = 2 }},
		{"another weight or number", attemptNumber(1, 0, 9), func(g *group) { g.members[1].Worker = 5 }},
		{"without the source", attemptNumber(1, 0, 9), func(g *group) { g.source = 3 }},
		{"for a quorum of 4", attemptNumber(1, 0, 9), func(g *group) { g.members[2].voter = false }},
		{"begins try 4097", attemptNumber(triesMax+1, 0, 9), func(*group) {}},
	} {
		k := newClocked(t, 3, RoundsConfig{Quorum: 4})
		k.m.Worker, k.m.Self, k.m.own.worker, k.m.own.id = 1, k.ids[1], 1, k.ids[1]
		k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
		k.m.Take()
		g := sound()
		c.change(&g)
		k.m.Receive(k.now, "w0", Envelope{Round: 7, Attempt: c.number}, g)
		if c.want == "" {
			if k.m.attempt == nil || len(k.m.observed) > 0 {
				t.Errorf("a sound group: attempt %v, blames %v", k.m.attempt, k.m.observed)
			}
			continue
		}
		if why := k.m.observed["w0"]; k.m.attempt != nil || !strings.Contains(why, c.want) {
			t.Errorf("want %q: attempt %v, blames %v", c.want, k.m.attempt, k.m.observed)
		}
	}
}

// said lists what the machine says to a peer.
func (k *clocked) said(to mesh.ID) (out []Message) {
	for _, a := range k.m.Take() {
		if a.Send != nil && a.Send.To == to {
			out = append(out, a.Send.Msg)
		}
	}
	return out
}

// A caller that gives up is heard of by all, and at once where no attempt is under way.
func TestAbortIsSaid(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
	k.m.Take()
	k.m.Abort()
	if got := k.said("w2"); k.m.active || len(got) != 1 || got[0] != Message(withdraw{}) {
		t.Errorf("it says %v, active %v", got, k.m.active)
	}
	k = newClocked(t, 3, RoundsConfig{})
	number := k.begins(0)
	if k.m.Abort(); !k.m.active {
		t.Error("it leaves an attempt whose result others may hold")
	}
	k.m.Complete(k.now, number, [32]byte{1})
	for worker, id := range k.ids[1:] {
		k.m.Receive(k.now, id, Envelope{Round: 7, Attempt: number, Worker: worker + 1}, done{[32]byte{1}})
	}
	if k.m.active || k.m.kept.attempt != number {
		t.Error("the attempt does not come to its end")
	}
}

// A peer in a round that is over here is told what became of it: the result, as long as that is kept,
// and then that it is behind.
func TestPeersInOldRoundsAreAnswered(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	k.round(0, 0)
	k.round(1, 0)
	k.m.Take()
	for round, kind := range []Type{TypeBehind, TypeCommit} {
		for _, msg := range []Message{done{}, group{}, want{}} {
			k.m.Receive(k.now, "w1", Envelope{Round: uint64(round), Attempt: 3, Worker: 1}, msg)
			got := k.said("w1")
			if len(got) != 1 || got[0].Kind() != kind {
				t.Errorf("%T of round %d is answered by %v, want type %d", msg, round, got, kind)
			}
		}
	}
}

// A result is kept under the number of the attempt that formed it, if it is that of the attempt at
// hand and has the hash that was announced.
func TestResultsAreKeptUnderTheirAttempt(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	number := k.begins(1)
	if formed, ok := k.m.Keeps(number, [32]byte{7}); !ok || formed != number {
		t.Errorf("the result of attempt %d is kept as that of %d: %v", number, formed, ok)
	}
	if _, ok := k.m.Keeps(number+1, [32]byte{7}); ok {
		t.Error("the result of another attempt is kept")
	}
	k.m.attempt.group.adopt = held{attempt: 5, hash: [32]byte{8}}
	for hash, want := range map[byte]bool{7: false, 8: true} {
		if formed, ok := k.m.Keeps(number, [32]byte{hash}); ok != want || ok && formed != 5 {
			t.Errorf("an adopted result of hash %d is kept as that of attempt %d: %v", hash, formed, ok)
		}
	}
	k.m.Close(nil)
	if _, ok := k.m.Keeps(number, [32]byte{8}); ok {
		t.Error("a result is kept though no attempt is under way")
	}
}

// What a peer committed in an earlier round is forgotten.
func TestOldCommitsAreForgotten(t *testing.T) {
	k := newClocked(t, 3, RoundsConfig{})
	k.m.commits["w1"] = committed{round: 4}
	k.m.Start(k.now, 7, Start{Tokens: 1, Weight: 1, Length: 256})
	if len(k.m.commits) != 0 {
		t.Errorf("%d commits of earlier rounds are remembered", len(k.m.commits))
	}
}
