package trainer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"loco/gossip/exchange"
	"loco/trainer/strategy"
)

// recorder keeps the mean of each round, as the log of results does.
type recorder struct {
	Averager
	means []exchange.Result
}

func (r *recorder) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, w float64, from exchange.Base) (exchange.Outcome, error) {
	out, err := r.Averager.Average(ctx, round, part, vec, w, from)
	out.Tokens = w
	r.means = append(r.means, exchange.Result{Round: round, Tokens: w, Bytes: out.Mean[0].Bytes})
	return out, err
}

// A state of round 2 and the means of rounds 2 to 4 lead to the state of round 5, to the
// bit: with vectors that were fetched, and from a worker's own state.
func TestReplayLeadsToTheGroupsState(t *testing.T) {
	for _, strategy := range []string{"diloco", "ddp"} {
		cfg := diloco(3, 9)
		if cfg.Strategy = strategy; strategy == "ddp" {
			cfg.InnerSteps = 1
		}
		rec := &recorder{Averager: newExact(1).worker(0)}
		source := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: rec})
		var own Snapshot
		var shared exchange.State
		for _, until := range []uint64{2, 5} {
			source.cfg.StopAfter = until
			if err := source.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			if until == 2 {
				var err error
				if shared, err = source.Share(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := source.Capture(t.Context(), &own); err != nil {
					t.Fatal(err)
				}
			}
		}
		fetched := exchange.Fetched{State: shared, Results: rec.means[2:], Past: source.Head().Past, GroupRound: 5, GroupStep: 5*cfg.InnerSteps + 1}
		q := newQuadratic(5, drift(0))
		joiner := start(t, cfg, q, Hooks{Average: newExact(1).worker(0)})
		if err := joiner.Join(&fetched); err != nil {
			t.Fatalf("%s: %v", strategy, err)
		}
		away := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
		if err := away.Restore(&own); err != nil {
			t.Fatal(err)
		}
		since := exchange.Fetched{State: exchange.State{Mark: away.Head().Mark}, Results: rec.means[2:], Past: source.Head().Past, GroupStep: fetched.GroupStep}
		if err := away.Join(&since); err != nil {
			t.Fatalf("%s: %v", strategy, err)
		}
		want := source.Head()
		for name, tr := range map[string]*Trainer{"joiner": joiner, "away": away} {
			h := tr.Head()
			if h.Round != 5 || h.Digest != want.Digest || h.Tokens != want.Tokens || !slices.Equal(momentum(tr), momentum(source)) {
				t.Errorf("%s, %s: round %d, digest equal %v, %v tokens of %v", strategy, name, h.Round, h.Digest == want.Digest, h.Tokens, want.Tokens)
			}
			if wantStep := min(fetched.GroupStep, 6*cfg.InnerSteps-1); h.Step != wantStep {
				t.Errorf("%s, %s: begins at step %d, want the group's place %d", strategy, name, h.Step, wantStep)
			}
			if i := slices.IndexFunc(h.Past, func(m exchange.Mark) bool { return m.Round == 4 }); i < 0 || h.Past[i].Digest != want.Past[4].Digest {
				t.Errorf("%s, %s does not know the states on the way", strategy, name)
			}
		}
		if strategy == "ddp" && (!slices.Equal(q.m, source.learner.(*quadratic).m) || q.v[0] != 5) {
			t.Errorf("the replay left other moments than the group's")
		}
		fetched.Results = slices.Concat(rec.means[2:3], rec.means[2:4]) // a wrong mean
		if err := joiner.Join(&fetched); err == nil || !strings.Contains(err.Error(), "after a replay") {
			t.Errorf("%s: a wrong replay: %v", strategy, err)
		}
		since.Digest[0]++
		if err := away.Join(&since); err == nil {
			t.Errorf("%s: went on from a state that it does not have", strategy)
		}
	}
}

// A joiner of noloco takes its place beside its source, which went on meanwhile.
func TestNoLoCoJoinerGoesWhereItsSourceIs(t *testing.T) {
	cfg := Config{Strategy: "noloco", Rounds: 20, InnerSteps: 3, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7}}
	source := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	s := fetchedFrom(t, source)
	s.GroupRound, s.GroupStep = 7, 22
	tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	if err := tr.Join(s); err != nil {
		t.Fatal(err)
	}
	if h := tr.Head(); h.Round != 7 || h.Step != 22 || !slices.Equal(values(tr.vectors.slow()), values(source.vectors.slow())) {
		t.Errorf("round %d, step %d", h.Round, h.Step)
	}
}

// Inner moments are taken over with the number of their updates, and stay where none came.
func TestJoinersMoments(t *testing.T) {
	source := start(t, diloco(4, 9), newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	source.cfg.StopAfter = 2
	if err := source.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	s := fetchedFrom(t, source)
	moments, err := source.ShareMoments(t.Context())
	if err != nil || moments.Updates != 8 {
		t.Fatalf("%d updates, %v", moments.Updates, err)
	}
	q := newQuadratic(5, drift(0))
	fresh := start(t, diloco(4, 9), q, Hooks{Average: newExact(1).worker(0)})
	if err := fresh.Join(s); err != nil || fresh.Updates() != 0 || q.v[0] != 0 {
		t.Errorf("fresh: %d updates, %v", fresh.Updates(), err)
	}
	s.Moments = &moments
	if err := fresh.Join(s); err != nil || fresh.Updates() != 8 || q.v[0] != 8 || !slices.Equal(q.m, exchange.Find(moments.Vectors, MomentM)) {
		t.Errorf("fetched: %d updates, %v", fresh.Updates(), err)
	}
	moments.Vectors[1].Data = moments.Vectors[1].Data[:3]
	if err := fresh.Join(s); err == nil {
		t.Error("took over moments of another length")
	}
}

// A state beyond the run's end is refused, and so are vectors of another model.
func TestJoinRefuses(t *testing.T) {
	source := start(t, diloco(4, 9), newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	trainTo(t, source, 3)
	for want, spoil := range map[string]func(f *exchange.Fetched){
		"state of round 10, the run has 9":               func(f *exchange.Fetched) { f.Round = 10 },
		`3 values of vector "momentum" for 5 parameters`: func(f *exchange.Fetched) { f.Vectors[1].Data = f.Vectors[1].Data[:3] },
		`0 values of vector "slow" for 5 parameters`:     func(f *exchange.Fetched) { f.Vectors[0].Name = "other" },
		"its source says":                                func(f *exchange.Fetched) { f.Digest[0]++ },
		"shared state of round 3 has moments of 5 and 0 values for": func(f *exchange.Fetched) {
			f.Moments = &exchange.State{Mark: f.Mark, Vectors: named(MomentM, make([]float32, 5))}
		},
	} {
		f := fetchedFrom(t, source)
		spoil(f)
		tr := start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
		if err := tr.Join(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	source.cfg.StopAfter = 9
	if err := source.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	last := fetchedFrom(t, source)
	last.GroupRound, last.GroupStep = 9, 36
	if err := start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)}).Join(last); err != nil {
		t.Errorf("the state that the run ends with: %v", err)
	}
	ddp := Config{Strategy: "ddp", Rounds: 9, InnerSteps: 1}
	source = start(t, ddp, newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	trainTo(t, source, 3)
	f := fetchedFrom(t, source)
	f.Vectors = f.Vectors[:1]
	if err := start(t, ddp, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)}).Join(f); err == nil || !strings.Contains(err.Error(), "without the moments") {
		t.Errorf("ddp without the moments: %v", err)
	}
	for want, r := range map[string]exchange.Result{
		"its mean has 3 bytes, want 20":                  {Bytes: make([]byte, 3)},
		"block 0 of its mean is nothing that is encoded": {Bytes: []byte{19: 0x7f, 18: 0xff}},
	} {
		f := fetchedFrom(t, source)
		f.Results = []exchange.Result{r}
		if err := start(t, ddp, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)}).Join(f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	pairs := Config{Strategy: "noloco", Rounds: 9, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7}}
	source = start(t, pairs, newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	f = fetchedFrom(t, source)
	f.Results = []exchange.Result{{Bytes: make([]byte, 20)}}
	if err := start(t, pairs, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)}).Join(f); err == nil || !strings.Contains(err.Error(), `strategy "noloco" has no rounds to replay`) {
		t.Errorf("pairs with results: %v", err)
	}
}
