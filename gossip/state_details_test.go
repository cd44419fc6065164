package gossip

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/mesh"
	"loco/mesh/sim"
)

// near is a cluster of toys that are close to each other.
func near(t *testing.T, peers int, edit func(i int, c *Config)) *toys {
	return newToys(t, sim.Options{Peers: peers, Latency: time.Millisecond}, edit)
}

// Once most members have answered the others get a quarter of Grace; where most are silent, all of it.
func TestHowLongASurveyWaits(t *testing.T) {
	for silent, want := range map[int]time.Duration{0: 0, 1: testGrace / 4, 2: testGrace, 4: testGrace} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k := near(t, 5, nil) // a joiner and four members
			defer k.close()
			for i := range silent {
				k.net.Peer(1+i).Handle(stateID, func(mesh.ID, mesh.Stream) { <-ctx.Done() })
			}
			ss := k.peers[0].states.newSessions(ctx)
			defer ss.close()
			f := &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}}
			members := f.members()
			if len(members) != 4 {
				t.Fatalf("%d members", len(members))
			}
			began := time.Now()
			voices, err := f.survey(members, transfer.Ask{})
			if took := time.Since(began); len(voices) != 4-silent || took < want || took > want+testGrace/10 {
				t.Errorf("%d silent: %d answers in %v, want %v; %v", silent, len(voices), took, want, err)
			}
			if (err == nil) != (silent < 4) || silent == 4 && !strings.Contains(err.Error(), "4 members did not answer within") {
				t.Errorf("%d silent: %v", silent, err)
			}
			cancel()
		})
	}
}

// An answer that comes in that quarter does not begin it again.
func TestASurveyWaitsOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		k := near(t, 6, nil)
		defer k.close()
		k.net.Peer(1).Handle(stateID, func(mesh.ID, mesh.Stream) { <-ctx.Done() })
		k.net.Peer(2).Handle(stateID, func(_ mesh.ID, s mesh.Stream) {
			<-time.After(testGrace / 8)
			s.Reset()
		})
		ss := k.peers[0].states.newSessions(ctx)
		defer ss.close()
		f := &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}}
		began := time.Now()
		voices, err := f.survey(f.members(), transfer.Ask{})
		if took := time.Since(began); len(voices) != 3 || took < testGrace/4 || took > testGrace/4+testGrace/20 {
			t.Errorf("%d answers in %v; %v", len(voices), took, err)
		}
		cancel()
	})
}

// A worker that goes on from its own state is given moments beside the results, if it wants any.
func TestMomentsForOnesOwnState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := near(t, 3, nil)
		defer k.close()
		k.step(upTo(3))
		k.joining(0)
		k.step([]int{1, 2})
		own := mustHead(k.toys[0])
		for _, moments := range []bool{true, false} {
			f, err := k.peers[0].FetchState(context.Background(), exchange.Want{Own: own.Mark, Length: toyLength, Moments: moments})
			if err != nil || len(f.Vectors) != 0 || len(f.Results) != 1 || (f.Moments != nil) != moments {
				t.Errorf("moments %v: %d vectors, %d results, moments %v; %v", moments, len(f.Vectors), len(f.Results), f.Moments != nil, err)
			}
		}
	})
}

// What a fetch lacked is counted from where it was, and it knows how many rounds are kept.
func TestCatchUpCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := near(t, 3, nil)
		defer k.close()
		others := []int{1, 2}
		k.joining(0)
		for range 3 {
			k.step(others)
		}
		ss := k.peers[0].states.newSessions(t.Context())
		defer ss.close()
		head, _ := k.toys[1].head()
		f := &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}, base: head.Past[1], next: 1}
		for _, want := range []uint64{2, 0} {
			lacking, err := f.catchUp(t.Context(), transfer.Ask{})
			if err != nil || lacking != want || f.next != 3 || f.kept != 3 || len(f.fetched.Results) != 2 {
				t.Errorf("%d were lacking, want %d; next %d, %d kept, %d results, %v", lacking, want, f.next, f.kept, len(f.fetched.Results), err)
			}
		}
		// Results of a lineage that the members are not of any more are of no use.
		f = &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}, base: exchange.Mark{Round: 1, Digest: [32]byte{9}}, next: 1}
		if _, err := f.catchUp(t.Context(), transfer.Ask{}); !errors.Is(err, errForked) {
			t.Errorf("another lineage: %v", err)
		}
		f = &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}, base: exchange.Mark{Round: 4, Digest: [32]byte{9}}, next: 4}
		if _, err := f.catchUp(t.Context(), transfer.Ask{}); !errors.Is(err, errForked) {
			t.Errorf("a later round than that of the members: %v", err)
		}
		// So are results that nobody keeps.
		for range 6 {
			k.step(others)
		}
		f = &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}, base: head.Past[1], next: 1}
		if _, err := f.catchUp(t.Context(), transfer.Ask{}); !errors.Is(err, errMoved) || !strings.Contains(err.Error(), "round 1: ") {
			t.Errorf("results that are gone: %v", err)
		}
		if f.kept = 0; k.peers[1].states.log.oldest(mustHead(k.toys[1])) != 5 {
			t.Errorf("the oldest result that is kept is of round %d", k.peers[1].states.log.oldest(mustHead(k.toys[1])))
		}
		f = &fetching{sessions: ss, distrusts: map[mesh.ID]bool{}, base: mustHead(k.toys[1]).Past[6], next: 6}
		if lacking, err := f.catchUp(t.Context(), transfer.Ask{}); err != nil || lacking != 3 || f.kept != 4 {
			t.Errorf("%d lacking, %d kept, %v", lacking, f.kept, err)
		}
	})
}

func mustHead(t *toy) exchange.Head {
	h, _ := t.head()
	return h
}

// A copy of the state is given back when nobody asks for it during Deadline, and StateHold after it was
// made in any case.
func TestHowLongACopyIsHeld(t *testing.T) {
	const deadline, hold = time.Minute, 90 * time.Second
	for _, asked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			k := near(t, 2, func(_ int, c *Config) { c.Deadline, c.StateHold = deadline, hold })
			defer k.close()
			s := k.peers[1].states
			held := func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.held[transfer.State] != nil
			}
			take := func() {
				if _, err := s.take(k.net.Peer(0).Self(), transfer.Take{Kind: transfer.State}); err != nil {
					t.Error(err)
				}
			}
			take()
			s.mu.Lock()
			o := s.held[transfer.State]
			s.mu.Unlock()
			if o == nil {
				t.Fatal("no copy is held")
			}
			<-time.After(deadline - time.Second)
			if asked {
				o.use(k.net.Peer(0).Self())
			}
			if !held() {
				t.Error("given back before its time")
			}
			<-time.After(2 * time.Second)
			if held() != asked {
				t.Errorf("asked for %v: held %v after the deadline", asked, held())
			}
			<-time.After(hold - deadline)
			if held() {
				t.Error("held longer than a copy may be")
			}
		})
	}
}

// An all-reduce that waits through several deadlines says so, and its phases, bytes and attempts are those
// of all of them.
func TestWaitsThroughDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, sim.Options{Seed: 1, Peers: 3}, "fp32", func(_ int, cfg *Config) {
			cfg.Deadline, cfg.Deadlines, cfg.Quorum = 10*time.Second, 3, 3
		})
		defer c.close()
		began := time.Now()
		type ended struct {
			out exchange.Outcome
			err error
		}
		early := make(chan ended, 1)
		go func() {
			out, err := averaged(context.Background(), c.peers[0], 1, exchange.Delta, []float32{1}, 1, exchange.Base{})
			early <- ended{out, err}
		}()
		<-time.After(25 * time.Second) // in its third deadline
		for i := 1; i < 3; i++ {
			go func() {
				_, _ = averaged(context.Background(), c.peers[i], 1, exchange.Delta, []float32{1}, 1, exchange.Base{})
			}()
		}
		e := <-early
		if e.err != nil || len(e.out.Members) != 3 || e.out.Attempts != 1 {
			t.Fatalf("%+v, %v", e.out, e.err)
		}
		s, wall := e.out.Seconds, time.Since(began).Seconds()
		if sum := s.Wait + s.Encode + s.Transfer + s.Decode; !(sum > wall-0.01 && sum < wall+0.01) || !(s.Wait > 24.9) {
			t.Errorf("%+v of %v s", s, wall)
		}
		// A fourth deadline is not waited for.
		began = time.Now()
		if _, err := averaged(context.Background(), c.peers[0], 2, exchange.Delta, []float32{1}, 1, exchange.Base{}); !errors.Is(err, ErrDeadline) || time.Since(began) < 30*time.Second || time.Since(began) > 31*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A joiner whose state is served is expected in the round after it, and waited for.
func TestServedJoinerIsExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := near(t, 3, nil)
		defer k.close()
		k.joining(2)
		k.step([]int{0, 1})
		f, err := k.peers[2].FetchState(context.Background(), exchange.Want{})
		if err != nil {
			t.Fatal(err)
		}
		k.toys[2].join(t, k.codec, f)
		k.net.Peer(2).Announce(mesh.Status{Worker: 2, Ready: true})
		<-time.After(10 * time.Millisecond)
		outs := k.step([]int{0, 1, 2})
		for i, o := range outs {
			if !slices.Equal(o.Members, []int{0, 1, 2}) {
				t.Errorf("worker %d: the mean is of %v", i, o.Members)
			}
		}
		k.same(t, 0, 1, 2)
	})
}

// Where values overflow the mean, the member that holds the largest is named.
func TestLargestContributionIsNamed(t *testing.T) {
	fp32 := mustCodec(t, "fp32")
	encode := func(x ...float32) []byte {
		b, err := fp32.AppendEncode(nil, x)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := &reduction{codec: fp32}
	for want, slots := range [][][]byte{
		{encode(1, -9), encode(2, 3), encode(8, 8)}, {encode(1, 2), encode(2, -7), encode(3, 3)}, {encode(1, 2), encode(2, 3), encode(0, 4)},
	} {
		if got := r.largest(slots, 2); got != want {
			t.Errorf("%v: member %d, want %d", slots, got, want)
		}
	}
	if got := r.largest([][]byte{encode(1, 2), {1, 2, 3}, encode(5, 5)}, 2); got != 1 {
		t.Errorf("bytes that do not decode: member %d", got)
	}
}

// What a joiner is given for what it asks, and what it is refused.
func TestWhatAJoinerIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := near(t, 3, nil)
		defer k.close()
		k.step([]int{0, 1, 2})
		s, a, b := k.peers[0].states, mesh.ID("a joiner"), mesh.ID("another")
		refused := func(from mesh.ID, ask transfer.Take, want string) {
			t.Helper()
			if o, err := s.take(from, ask); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("round %d, %v; want an error with %q", o.Round, err, want)
			}
		}
		head := mustHead(k.toys[0])
		exact := transfer.Take{Kind: transfer.State, Exact: true, Round: head.Round, Digest: head.Digest}
		refused(a, transfer.Take{Kind: transfer.Result, Exact: true, Round: 7}, "the result of round 7 is not kept here any more")
		if o, err := s.take(a, transfer.Take{Kind: transfer.Result, Exact: true, Round: 0}); err != nil || o.Round != 0 || o.Tokens != 6 {
			t.Errorf("the result of round 0: round %d, %v", o.Round, err)
		}
		other := exact
		other.Round++
		refused(a, other, "round 1 starts from another state than round 2")
		other = exact
		other.Digest[0]++
		refused(a, other, "round 1 starts from state")
		first, err := s.take(a, exact)
		if err != nil || first.Round != 1 || first.Digest != head.Digest || k.toys[0].copies != 1 {
			t.Fatalf("round %d, %v after %d copies", first.Round, err, k.toys[0].copies)
		}
		if again, err := s.take(b, exact); err != nil || again != first || k.toys[0].copies != 1 {
			t.Errorf("another joiner is not given the same copy: %v, %d copies", err, k.toys[0].copies)
		}
		// The copy is of an older round now, from which results lead on: it will do.
		k.step([]int{0, 1, 2})
		if again, err := s.take(b, transfer.Take{Kind: transfer.State}); err != nil || again != first {
			t.Errorf("a copy that results bring up to date: %v", err)
		}
		// A copy of the present round is not made while somebody works on that one, but after it.
		head = mustHead(k.toys[0])
		now := transfer.Take{Kind: transfer.State, Exact: true, Round: head.Round, Digest: head.Digest}
		refused(b, now, "the state of another round is being served; ask again later")
		<-time.After(2 * testGrace)
		if next, err := s.take(b, now); err != nil || next == first || next.Round != 2 {
			t.Errorf("round %d, %v", next.Round, err)
		}
		// Moments need not be new, and nobody is refused for them.
		m, err := s.take(a, transfer.Take{Kind: transfer.Moments})
		if err != nil || m.Updates != 7 {
			t.Fatalf("%d updates, %v", m.Updates, err)
		}
		k.step([]int{0, 1, 2})
		if again, err := s.take(b, transfer.Take{Kind: transfer.Moments}); err != nil || again != m {
			t.Errorf("moments are copied again: %v", err)
		}
		s.cfg.Moments = nil
		s.mu.Lock()
		clear(s.held)
		s.mu.Unlock()
		refused(a, transfer.Take{Kind: transfer.Moments}, "this worker serves none")
		k.toys[0].ready = false
		refused(a, transfer.Take{Kind: transfer.State}, "does not hold the run's state yet")
	})
}
