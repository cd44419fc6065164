package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/sim"
	"loco/trainer"
)

// The status is announced once a heartbeat, and at once where others wait for it.
func TestAnnouncements(t *testing.T) {
	for _, strategy := range []string{"diloco", "noloco"} {
		synctest.Test(t, func(t *testing.T) {
			cfg := testConfig(3)
			cfg.Trainer.Strategy = strategy
			m := newStage()
			var seen []any
			w := newTestWorker(t, cfg, m, Hooks{Report: func(event any) { seen = append(seen, event) }})
			said := func(what string, event any, want int) {
				t.Helper()
				before := len(m.said)
				w.report(event)
				if got := len(m.said) - before; got != want {
					t.Errorf("%s, %s: %d announcements, want %d", strategy, what, got, want)
				}
			}
			said("the first step", &trainer.StepEvent{}, 1)
			said("the next step", &trainer.StepEvent{}, 0)
			<-time.After(cfg.Heartbeat - time.Nanosecond)
			said("a step before the heartbeat", &trainer.StepEvent{}, 0)
			<-time.After(time.Nanosecond)
			said("a step after it", &trainer.StepEvent{}, 1)
			said("a round", &trainer.RoundEvent{}, map[string]int{"diloco": 0, "noloco": 1}[strategy])
			said("a resync", &trainer.ResyncEvent{}, 1)
			said("an evaluation", &trainer.EvalEvent{}, 0)
			if len(seen) != 7 || m.said[0].Worker != 3 {
				t.Errorf("%d events were passed on, announced %+v", len(seen), m.said[0])
			}
		})
	}
}

// The log names what an operator should know, once.
func TestLog(t *testing.T) {
	var text bytes.Buffer
	cfg := testConfig(0)
	cfg.Trainer.InnerTime = time.Minute
	var late []*LateEvent
	var exchanges int
	w := newTestWorker(t, cfg, newStage(), Hooks{Log: slog.New(slog.NewTextHandler(&text, nil)), Report: func(event any) {
		switch e := event.(type) {
		case *LateEvent:
			late = append(late, e)
		case *Exchanged:
			exchanges++
		}
	}})
	count := func(what string, want int) {
		t.Helper()
		if got := strings.Count(text.String(), what); got != want {
			t.Errorf("the log says %q %d times, want %d:\n%s", what, got, want, text.String())
		}
	}
	const bound, tooLate = "sync.inner_steps ended the inner steps", "this worker came too late"
	w.report(&trainer.RoundEvent{Round: 1, Steps: 39})
	count(bound, 0)
	w.report(&trainer.RoundEvent{Round: 2, Steps: 40, LostTokens: 1})
	w.report(&trainer.RoundEvent{Round: 3, Steps: 41, CarriedTokens: 1})
	count(bound, 1)
	count(tooLate, 1)
	w.report(&trainer.RoundEvent{Round: 4})
	w.report(&trainer.RoundEvent{Round: 5, CarriedTokens: 1})
	count(tooLate, 2)
	w.report(&trainer.RoundEvent{Round: 6, Digest: "0123456789abcdefXYZ"})
	count("digest=0123456789abcdef\n", 1)

	w.report(&trainer.ResyncEvent{Round: 6, Why: "because", LostSteps: 3})
	count("took over the others' state\" round=6 why=because lost_steps=3", 1)

	slow := []exchange.Late{{Worker: 2}}
	w.exchanged(6, exchange.Delta, exchange.Outcome{Members: []int{0}, Torn: true, Rejected: []string{"a", "b"}, Late: slow}, nil)
	count("nobody else was in the mean of this round\" round=7", 1)
	count("went on alone in doubt", 1)
	count("left out of a round\" round=7", 2)
	count("partner may have averaged\" round=7", 1)
	if len(late) != 1 || late[0].Round != 7 || late[0].Who != 2 || exchanges != 1 {
		t.Errorf("late %+v, %d exchanges", late, exchanges)
	}
	w.exchanged(7, exchange.Slow, exchange.Outcome{Members: []int{0}}, nil)
	w.exchanged(7, exchange.Delta, exchange.Outcome{Members: []int{0}}, errors.New("failed"))
	w.exchanged(7, exchange.Delta, exchange.Outcome{Members: []int{0, 1}, Behind: true}, nil)
	count("nobody else was in the mean", 1)
	if len(late) != 1 || exchanges != 4 {
		t.Errorf("late %+v, %d exchanges", late, exchanges)
	}
	w.exchanged(7, exchange.Delta, exchange.Outcome{Members: []int{0, 1}}, nil)
	if len(late) != 2 || late[1].Late {
		t.Errorf("late %+v", late)
	}
	w.cfg.Workers = 1
	w.exchanged(8, exchange.Delta, exchange.Outcome{Members: []int{0}}, nil)
	count("nobody else was in the mean", 1)
}

// fetched answers a fetch.
type fetched struct {
	averager
	want  exchange.Want
	state exchange.Fetched
	err   error
}

func (f *fetched) FetchState(_ context.Context, want exchange.Want) (exchange.Fetched, error) {
	f.want = want
	return f.state, f.err
}
func (f *fetched) Close() error { return nil }

// A fetch says what this worker lacks, and is reported whatever comes of it.
func TestFetch(t *testing.T) {
	for _, c := range []struct {
		strategy     string
		fetchMoments bool
		want         bool
	}{{"diloco", true, true}, {"diloco", false, false}, {"ddp", true, false}, {"noloco", true, true}} {
		cfg := testConfig(0)
		cfg.Trainer.Strategy, cfg.FetchMoments = c.strategy, c.fetchMoments
		var text bytes.Buffer
		var seen []*Fetched
		w := newTestWorker(t, cfg, newStage(), Hooks{Log: slog.New(slog.NewTextHandler(&text, nil)), Report: func(event any) { seen = append(seen, event.(*Fetched)) }})
		w.Close()
		f := &fetched{state: exchange.Fetched{Bytes: 9, Blame: []string{"a liar"}}}
		w.averager = f
		st, err := w.fetch(t.Context())
		if err != nil || st.Bytes != 9 || len(seen) != 1 || seen[0].State.Bytes != 9 || seen[0].Err != nil || !strings.Contains(text.String(), "a liar") || !strings.Contains(text.String(), "fetched the run's state\" round=0 results=0 group_round=0 bytes=9") {
			t.Errorf("%+v, %v, reported %+v: %s", st, err, seen, text.String())
		}
		if f.want.Moments != c.want || f.want.Length != 300 || f.want.Own.Digest == [32]byte{} {
			t.Errorf("%+v wants %+v", c, f.want)
		}
		f.err = exchange.ErrNobody
		if st, err := w.fetch(t.Context()); st != nil || !errors.Is(err, exchange.ErrNobody) || len(seen) != 2 || !errors.Is(seen[1].Err, exchange.ErrNobody) {
			t.Errorf("%+v, %v, reported %d", st, err, len(seen))
		}
	}
}

// Joiners get a copy of the state from the time on that this worker has it.
func TestSharer(t *testing.T) {
	w := newTestWorker(t, testConfig(0), newStage(), Hooks{})
	if _, ok := w.sharer.head(); ok {
		t.Error("a worker that has not entered says where it stands")
	}
	for _, f := range []func() (exchange.State, error){w.sharer.share, w.sharer.moments} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), "does not hold the run's state") {
			t.Errorf("a worker that has not entered shares its state: %v", err)
		}
	}
	w.sharer.trainer.Store(w.trainer)
	head, ok := w.sharer.head()
	st, err := w.sharer.share()
	if err != nil || !ok || st.Digest != head.Digest || st.Digest != w.Trainer().Head().Digest || len(st.Vectors) != 2 || len(st.Vectors[0].Data) != 300 {
		t.Errorf("%+v shares %+v, %v", head, st, err)
	}
	if st, err := w.sharer.moments(); err != nil || len(st.Vectors) != 2 || len(st.Vectors[0].Data) != 300 {
		t.Errorf("moments %+v, %v", st, err)
	}
}

// What a worker is given is checked before anything is opened.
func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"a strategy":   {func(c *Config) { c.Trainer.Strategy = "none" }, "worker: "},
		"a grace":      {func(c *Config) { c.Gossip.Grace = 0 }, "Grace"},
		"no rounds":    {func(c *Config) { c.Trainer.Rounds = 0 }, "rounds"},
		"no codec":     {func(c *Config) { c.Gossip.Codec = nil }, "Codec"},
		"one of alone": {func(c *Config) { c.Trainer.Strategy, c.Trainer.InnerSteps = "alone", 0 }, "inner steps"},
	} {
		cfg := testConfig(0)
		c.change(&cfg)
		w, err := New(cfg, newStage(), newToy(0), Hooks{})
		if w != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// counted counts what passes.
type counted struct {
	trainer.Averager
	n atomic.Int64 // two parts of a round cross at once
}

func (c *counted) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	c.n.Add(1)
	return c.Averager.Average(ctx, round, part, vec, weight, from)
}

// Two workers train together: the whole life of each.
func TestTwoWorkers(t *testing.T) {
	for _, name := range []string{"diloco", "noloco", "ddp", "alone"} {
		synctest.Test(t, func(t *testing.T) {
			net := sim.NewWith(sim.Options{Peers: 2, Latency: time.Millisecond})
			defer net.Close()
			var digests [2]string
			ended := make(chan error, 2)
			var wraps [2]*counted
			var clocks [2]int
			for k := range 2 {
				go func() {
					cfg := testConfig(k)
					cfg.Trainer.Strategy = name
					w, err := New(cfg, net.Peer(k), newToy(k), Hooks{
						Wrap: func(inner trainer.Averager) trainer.Averager {
							wraps[k] = &counted{Averager: inner}
							return wraps[k]
						},
						Now: func() time.Time { clocks[k]++; return time.Now() },
					})
					if err == nil {
						err = w.Enter(t.Context())
					}
					if err == nil {
						err = w.Train(t.Context(), nil)
						w.Depart(t.Context(), true)
						digests[k] = w.Trainer().SlowDigest()
						err = errors.Join(err, w.Close())
					}
					ended <- err
				}()
			}
			if err := errors.Join(<-ended, <-ended); err != nil {
				t.Fatal(err)
			}
			if equal := digests[0] == digests[1]; equal != (name != "alone") {
				t.Errorf("%s: digests %q", name, digests)
			}
			want := map[string]string{"diloco": "5", "noloco": "10", "ddp": "200", "alone": "none"}[name]
			for k, c := range wraps {
				got := "none"
				if c != nil {
					got = fmt.Sprint(c.n.Load())
				}
				if got != want || clocks[k] == 0 {
					t.Errorf("%s: worker %d averaged %s times, want %s; its clock was asked %d times", name, k, got, want, clocks[k])
				}
			}
			time.Sleep(time.Second) // virtual: both have heard the last word
			if members, _ := net.Peer(0).View(); len(members) != 2 || !members[0].Done || !members[1].Done || members[1].State != mesh.Alive {
				t.Errorf("%s: %+v", name, members)
			}
		})
	}
}

// The exchange is given what only a worker knows.
func TestExchangeConfig(t *testing.T) {
	for name, c := range map[string]struct {
		vectors int64 // that a joiner may fetch
		moments bool  // are served beside the state
		unequal bool
	}{"diloco": {4, true, false}, "ddp": {4, false, false}, "noloco": {5, true, true}, "globalm1": {5, true, true}} {
		cfg := testConfig(7)
		cfg.Trainer.Strategy = name
		sent := 0
		w := newTestWorker(t, cfg, newStage(), Hooks{Sent: func(n int) { sent += n }})
		g := w.exchangeConfig()
		g.StateSent(5)
		if bound := 64 + 4*c.vectors*300 + 1<<16; g.Worker != 7 || g.Unequal != c.unequal || (g.Moments != nil) != c.moments || g.MaxState != bound || sent != 5 || g.StateRoot == nil || w.sharer.wait != cfg.Gossip.Deadline {
			t.Errorf("%s: %+v", name, g)
		}
		cfg.Gossip.MaxState = 9999
		if g := newTestWorker(t, cfg, newStage(), Hooks{}).exchangeConfig(); g.MaxState != 9999 {
			t.Errorf("%s: the bound that was given becomes %d", name, g.MaxState)
		}
	}
}

// A worker that comes into a run under way takes over its state, says so, and ends with it.
func TestAWorkerJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := sim.NewWith(sim.Options{Peers: 2, Latency: time.Millisecond})
		defer net.Close()
		join := make(chan struct{})
		var resync *trainer.ResyncEvent
		begun := uint64(0)
		var digests [2]string
		ended := make(chan error, 2)
		live := func(k int, report func(any), begin func(uint64) error) {
			cfg := testConfig(k)
			cfg.Trainer.InnerSteps, cfg.JoinTimeout = 4, 2*time.Second
			w, err := New(cfg, net.Peer(k), newToy(k), Hooks{Begin: begin, Report: func(event any) {
				if _, ok := event.(*trainer.StepEvent); ok {
					time.Sleep(time.Second) // virtual
				}
				report(event)
			}})
			if err == nil {
				err = w.Enter(t.Context())
			}
			if err == nil {
				err = w.Train(t.Context(), nil)
				w.Depart(t.Context(), err == nil)
				digests[k] = w.Trainer().SlowDigest()
				err = errors.Join(err, w.Close())
			}
			ended <- err
		}
		go live(0, func(event any) {
			if e, ok := event.(*trainer.RoundEvent); ok && e.Round == 2 {
				close(join)
			}
		}, nil)
		<-join
		go live(1, func(event any) {
			if e, ok := event.(*trainer.ResyncEvent); ok && resync == nil {
				resync = e
			}
		}, func(round uint64) error { begun = round; return nil })
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Fatal(err)
		}
		if resync == nil || resync.Why != Joining || resync.Round != begun || begun < 1 || digests[0] != digests[1] {
			t.Errorf("%+v, begun in round %d; digests %q", resync, begun, digests)
		}
	})
}
