package trainer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"loco/gossip/exchange"
)

// others is an exchange that is over before this worker comes, but in its turn.
type others struct {
	prompt
	every   uint64 // this worker's turn
	mean    float32
	weights map[uint64]float64 // of this worker's contributions that counted
	deltas  map[uint64]float32 // and their first values
}

func (o *others) Average(_ context.Context, round uint64, _ exchange.Part, v exchange.Vector, weight float64, _ exchange.Base) (exchange.Outcome, error) {
	return onFloats(v, func(vec []float32) (exchange.Outcome, error) {
		out := exchange.Outcome{Members: []int{1, 2}, Tokens: 80, Attempts: 1}
		mean := o.mean
		if o.every > 0 && round%o.every == o.every-1 {
			o.weights[round], o.deltas[round] = weight, vec[0]
			out.Members, out.Tokens = []int{0, 1, 2}, 80+weight
			mean = (o.mean*80 + vec[0]*float32(weight)) / (80 + float32(weight))
		}
		for i := range vec {
			vec[i] = mean
		}
		return out, nil
	})
}

func newOthers(every uint64) *others {
	return &others{every: every, mean: 0.01, weights: map[uint64]float64{}, deltas: map[uint64]float32{}}
}

// late makes a trainer whose every round is over after 2 of 4 steps.
func late(t *testing.T, cycle int, rounds uint64, o *others, events *[]*RoundEvent) *Trainer {
	t.Helper()
	cfg := diloco(4, rounds)
	cfg.SlowCycle = cycle
	var tr *Trainer
	tr = start(t, cfg, newQuadratic(5, drift(0)), Hooks{
		Average: hurried{Averager: o, over: func(round uint64, tokens float64) bool { return tokens == tr.runTokens && tr.step >= 4*round+2 }},
		Report: func(e any) {
			if r, ok := e.(*RoundEvent); ok {
				*events = append(*events, r)
			}
		},
	})
	return tr
}

// A worker that comes too late takes the others' result, and its steps are lost and
// counted, or carried until they are in a mean.
func TestLateStepsAreLostAndCounted(t *testing.T) {
	var events []*RoundEvent
	tr := late(t, 1, 3, newOthers(0), &events)
	run(t, tr)
	for _, e := range events {
		if e.LostTokens != 20 || e.CarriedTokens != 0 || e.Steps != 2 || e.Group != 2 {
			t.Errorf("round event %+v", e)
		}
	}
	if tr.lost != (given{6, 60}) || tr.contributed() != (given{}) {
		t.Errorf("%+v are lost of 6 steps and 60 tokens, %+v in means", tr.lost, tr.contributed())
	}
	q := newQuadratic(5, drift(0))
	tr.learner.ReadParams(q.theta)
	equal(t, "θ after a round", q.theta, values(tr.vectors.slow()))
}

func TestLateStepsAreCarried(t *testing.T) {
	var events []*RoundEvent
	o := newOthers(3)
	tr := late(t, 3, 6, o, &events)
	run(t, tr)
	if o.weights[2] != 60 || o.weights[5] != 60 {
		t.Errorf("weights %v, want 60 in each turn", o.weights)
	}
	for i, want := range []uint64{20, 40, 0, 20, 40, 0} {
		if e := events[i]; e.CarriedTokens != want || e.LostTokens != 0 {
			t.Errorf("round %d: %d tokens carried, want %d, and %d lost", e.Round, e.CarriedTokens, want, e.LostTokens)
		}
	}
	if tr.lost != (given{}) || tr.contributed() != (given{12, 120}) {
		t.Errorf("%+v lost, %+v in means", tr.lost, tr.contributed())
	}
	if d := tr.runTokens; d != 6*80+120 {
		t.Errorf("the state is of %v tokens, want %v", d, 6*80+120)
	}
}

// What is carried is what the steps changed: the others' rounds in between do not.
func TestRebaseKeepsThePseudoGradient(t *testing.T) {
	var events []*RoundEvent
	o := newOthers(2)
	tr := late(t, 2, 2, o, &events)
	q := tr.learner.(*quadratic)
	sum, last := float32(0), q.theta[0]
	tr.hooks.Report = func(e any) {
		switch e.(type) {
		case *StepEvent:
			sum += q.theta[0] - last
			last = q.theta[0]
		case *RoundEvent:
			last = q.theta[0] // the outer step is not this worker's
		}
	}
	run(t, tr)
	if got := o.deltas[1]; got+sum > 1e-6 || got+sum < -1e-6 || sum == 0 {
		t.Errorf("contributed Δ = %v, the steps moved the parameter by %v", got, sum)
	}
}

// Steps that missed two turns are given up, and those that are too late for the last round.
func TestLateStepsAreGivenUp(t *testing.T) {
	var events []*RoundEvent
	tr := late(t, 2, 6, newOthers(0), &events)
	run(t, tr)
	for i, want := range []uint64{0, 0, 0, 0, 100, 20} {
		if events[i].LostTokens != want {
			t.Errorf("round %d: %d tokens lost, want %d", i+1, events[i].LostTokens, want)
		}
	}
	if tr.pending != (pending{}) {
		t.Errorf("%+v is still carried", tr.pending)
	}
}

// A worker that carries steps ends its inner phase when the others wait for it.
func TestCarrierComesWhenItIsAwaited(t *testing.T) {
	o := newOthers(1)
	cfg := diloco(4, 2)
	cfg.SlowCycle = 2
	asked := 0
	tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: hurried{Averager: o, awaited: func(uint64) bool { asked++; return true }}})
	run(t, tr)
	if asked != 0 || o.weights[0] != 40 {
		t.Fatalf("asked %d times though it was never late, weights %v", asked, o.weights)
	}
	tr = start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: hurried{Averager: newOthers(2), awaited: func(uint64) bool { return true }}})
	run(t, tr)
	if w := tr.hooks.Average.(hurried).Averager.(*others).weights; w[1] != 50 {
		t.Fatalf("weights %v, want 4 steps of the first round and 1 of the second: 50", w)
	}
}

// Stopping and going on keeps what is carried.
func TestResumeOfACarrier(t *testing.T) {
	var events []*RoundEvent
	want := late(t, 3, 6, newOthers(3), &events)
	run(t, want)
	for at := uint64(1); at < 6; at++ {
		var saved Snapshot
		first := late(t, 3, 6, newOthers(3), &events)
		first.cfg.StopAfter = at
		first.hooks.Save = func(_ context.Context, capture func(*Snapshot) error) error { return capture(&saved) }
		if err := first.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		o := newOthers(3)
		second := late(t, 3, 6, o, &events)
		if err := second.Restore(&saved); err != nil {
			t.Fatal(err)
		}
		run(t, second)
		if second.stateDigest != want.stateDigest || o.weights[5] != 60 {
			t.Fatalf("stopped after round %d: another state, or weights %v", at, o.weights)
		}
	}
}

// A worker that is whole rounds behind carries its steps to the state that it fetches,
// if that follows from its own; else they are lost and counted.
func TestBehindCarriesWhereTheLineageIsItsOwn(t *testing.T) {
	source := start(t, diloco(4, 9), newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	source.cfg.StopAfter = 3
	if err := source.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		cycle         int
		past          bool
		carried, lost uint64
	}{{2, true, 40, 0}, {1, true, 0, 40}, {2, false, 0, 40}} {
		shared := fetchedFrom(t, source)
		if !tc.past {
			shared.Past = shared.Past[2:]
		}
		q := newQuadratic(5, drift(0))
		var event *ResyncEvent
		cfg := diloco(4, 9)
		cfg.SlowCycle = tc.cycle
		tr := start(t, cfg, q, Hooks{
			Average: behindOnce{newExact(1).worker(0), new(bool)},
			Fetch:   func(context.Context) (*exchange.Fetched, error) { return shared, nil },
			Report: func(e any) {
				if r, ok := e.(*ResyncEvent); ok {
					event = r
				}
			},
		})
		before := append([]float32(nil), q.theta...)
		if err := tr.oneRound(lockedContext(t, tr)); err != nil {
			t.Fatal(err)
		}
		if event == nil || event.CarriedTokens != tc.carried || event.LostTokens != tc.lost || tr.pending.tokens != tc.carried || tr.round != 3 {
			t.Fatalf("cycle %d: resync event %+v, pending %+v", tc.cycle, event, tr.pending)
		}
		if moved := q.theta[0] != values(tr.vectors.slow())[0]; moved != (tc.carried > 0) {
			t.Errorf("cycle %d: θ %v beside φ %v, it began from %v", tc.cycle, q.theta[0], values(tr.vectors.slow())[0], before[0])
		}
	}
}

// What the mean has of this worker's number may be of its former process: the steps of this one are
// lost then, and not carried, because those of a checkpoint may be the same.
func TestStepsBesideAFormerProcessAreLost(t *testing.T) {
	clock := newFakeClock()
	q, _ := timed(clock, time.Second)
	var rounds []*RoundEvent
	cfg := diloco(20, 4)
	cfg.SlowCycle = 4
	tr := start(t, cfg, q, Hooks{Now: clock.now, Average: former{&weighing{clock: clock, members: []int{0, 1}}}, Report: func(e any) {
		if e, ok := e.(*RoundEvent); ok {
			rounds = append(rounds, e)
		}
	}})
	tr.cfg.StopAfter = 1
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	if r := rounds[0]; r.LostTokens != 200 || r.CarriedTokens != 0 || r.Steps != 20 {
		t.Errorf("round %+v, want all its steps lost", r)
	}
	if tr.contributed() != (given{}) {
		t.Errorf("%+v counts as contributed", tr.contributed())
	}
}

// former is an exchange whose mean has the vector of a process before this one.
type former struct{ *weighing }

func (f former) Average(ctx context.Context, round uint64, part exchange.Part, v exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	out, err := f.weighing.Average(ctx, round, part, v, weight, from)
	out.Former = true
	return out, err
}

// A worker that had to fetch the others' result begins the next round where they are by then: with
// whole phases it would be as late in every round.
func TestLateWorkerCatchesUpWithTheOthers(t *testing.T) {
	for _, c := range []struct {
		name      string
		innerTime time.Duration
		takes     time.Duration
		members   []int
		cycle     int
		want      []float64 // tokens of 10 a step
	}{
		{"equal steps", 0, 7 * time.Second, []int{1, 2}, 1, []float64{200, 130, 130}},
		{"an inner time", 20 * time.Second, 7 * time.Second, []int{1, 2}, 1, []float64{200, 130, 130}},
		{"longer than a phase", 0, 50 * time.Second, []int{1, 2}, 1, []float64{200, 10, 10}},
		{"in the mean", 0, 7 * time.Second, []int{0, 1, 2}, 1, []float64{200, 200, 200}},
		{"carried", 0, 7 * time.Second, []int{1, 2}, 4, []float64{200, 400, 600}},
	} {
		clock := newFakeClock()
		q, _ := timed(clock, time.Second)
		exchange := &weighing{clock: clock, takes: c.takes, members: c.members}
		cfg := diloco(20, 4)
		cfg.InnerTime, cfg.SlowCycle = c.innerTime, c.cycle
		tr := start(t, cfg, q, Hooks{Average: exchange, Now: clock.now})
		tr.cfg.StopAfter = 3 // the end would evaluate
		if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		if !slices.Equal(exchange.weights, c.want) {
			t.Errorf("%s: weights %v, want %v", c.name, exchange.weights, c.want)
		}
	}
}
