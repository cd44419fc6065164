package trainer

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"loco/gossip/exchange"
)

// fakeClock moves only when a learner takes a step, or evaluates.
type fakeClock struct{ at time.Time }

func (c *fakeClock) now() time.Time       { return c.at }
func (c *fakeClock) pass(d time.Duration) { c.at = c.at.Add(d) }
func newFakeClock() *fakeClock            { return &fakeClock{time.Unix(1000, 0)} }

// timed is a quadratic whose steps take time, and which notes the batches it read.
func timed(c *fakeClock, step time.Duration) (*quadratic, *[]uint64) {
	q := newQuadratic(5, drift(0))
	var read []uint64
	q.onStep = func(batch uint64) {
		c.pass(step)
		read = append(read, batch)
	}
	return q, &read
}

// weighing notes the weights that a worker brings, and takes time of its own.
type weighing struct {
	prompt
	clock   *fakeClock
	takes   time.Duration
	weights []float64
	members []int
}

func (a *weighing) Average(_ context.Context, _ uint64, _ exchange.Part, _ exchange.Vector, weight float64, _ exchange.Base) (exchange.Outcome, error) {
	a.weights = append(a.weights, weight)
	a.clock.pass(a.takes)
	return exchange.Outcome{Members: a.members, Tokens: weight, Attempts: 1, Seconds: exchange.Seconds{Transfer: a.takes.Seconds()}}, nil
}

func upTo(n uint64) (all []uint64) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// With an inner time a round is as long for a slow worker as for a fast one, and their
// contributions weigh what they trained. Every round is as wide in the schedule, and no
// batch is left out.
func TestInnerTimeMixesSlowAndFast(t *testing.T) {
	for _, tc := range []struct {
		step  time.Duration
		steps uint64
	}{{time.Second, 20}, {4 * time.Second, 5}, {3 * time.Second, 7}, {9 * time.Second, 2}, {90 * time.Second, 1}, {time.Second / 10, 100}} {
		clock := newFakeClock()
		q, read := timed(clock, tc.step)
		exchange := &weighing{clock: clock, takes: 7 * time.Second, members: []int{0}}
		cfg := diloco(100, 3)
		cfg.InnerTime = 20 * time.Second
		var rounds []*RoundEvent
		tr := start(t, cfg, q, Hooks{Average: exchange, Now: clock.now, Report: func(e any) {
			switch e := e.(type) {
			case *RoundEvent:
				rounds = append(rounds, e)
			case *StepEvent:
				if e.Step <= e.Round*100 || e.Step > e.Round*100+tc.steps {
					t.Errorf("step of %v: at %d of the schedule in round %d", tc.step, e.Step, e.Round)
				}
			}
		}})
		tr.cfg.StopAfter = 2 // the end would evaluate
		if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		if want := float64(10 * tc.steps); !slices.Equal(exchange.weights, []float64{want, want}) {
			t.Errorf("steps of %v: weights %v, want %v", tc.step, exchange.weights, want)
		}
		if !slices.Equal(*read, upTo(2*tc.steps)) {
			t.Errorf("steps of %v: read the batches %v", tc.step, *read)
		}
		if r := rounds[1]; r.Step != 200 || r.Steps != tc.steps || r.RunTokens != float64(20*tc.steps) {
			t.Errorf("steps of %v: the second round is %+v", tc.step, r)
		}
	}
}

// An evaluation takes from the time of the round that it delays.
func TestEvaluationIsPartOfTheInnerTime(t *testing.T) {
	clock := newFakeClock()
	q, _ := timed(clock, time.Second)
	exchange := &weighing{clock: clock, members: []int{0}}
	cfg := diloco(100, 3)
	cfg.InnerTime, cfg.EvalEvery = 20*time.Second, 2
	slow := evaluating{q, func() { clock.pass(8 * time.Second) }}
	run(t, start(t, cfg, slow, Hooks{Average: exchange, Now: clock.now}))
	if want := []float64{200, 200, 110}; !slices.Equal(exchange.weights, want) {
		t.Errorf("weights %v, want %v", exchange.weights, want)
	}
}

type evaluating struct {
	*quadratic
	before func()
}

func (e evaluating) Evaluate() (float64, error) {
	e.before()
	return e.quadratic.Evaluate()
}

// A run with an inner time that stops after any step, and waits for an hour, takes the
// same steps as one that does not stop, from the same data at the same rates.
func TestResumeWithInnerTime(t *testing.T) {
	for _, step := range []time.Duration{time.Second, 3 * time.Second} {
		cfg := diloco(100, 3)
		cfg.InnerTime = 10 * time.Second
		clock := newFakeClock()
		q, read := timed(clock, step)
		want := start(t, cfg, q, Hooks{Average: newExact(1).worker(0), Now: clock.now})
		run(t, want)
		for at := range len(*read) {
			clock := newFakeClock()
			stop := make(chan struct{})
			half, _ := timed(clock, step)
			pass, n := half.onStep, 0
			half.onStep = func(batch uint64) {
				if pass(batch); n == at {
					close(stop)
				}
				n++
			}
			var saved Snapshot
			hooks := Hooks{Average: newExact(1).worker(0), Now: clock.now, Save: func(_ context.Context, capture func(*Snapshot) error) error { return capture(&saved) }}
			if err := start(t, cfg, half, hooks).Run(t.Context(), stop); err != nil && !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			clock.pass(time.Hour)
			again, _ := timed(clock, step)
			hooks.Average = newExact(1).worker(0)
			tr := start(t, cfg, again, hooks)
			clock.pass(time.Hour)
			if err := tr.Restore(&saved); err != nil {
				t.Fatal(err)
			}
			clock.pass(time.Hour)
			run(t, tr)
			if tr.stateDigest != want.stateDigest || tr.batch != want.batch || tr.tokens != want.tokens || tr.updates != want.updates {
				t.Fatalf("steps of %v, stopped in step %d: %d batches, %d tokens; want %d, %d and the same state", step, at, tr.batch, tr.tokens, want.batch, want.tokens)
			}
		}
	}
}

// A joiner ends its first round when the others do, though it came in the middle.
func TestJoinerTakesOverTheClock(t *testing.T) {
	source := newFakeClock()
	sq, _ := timed(source, time.Second)
	var shared *exchange.Fetched
	var tr *Trainer
	pass := sq.onStep
	sq.onStep = func(batch uint64) {
		if pass(batch); batch == 25 {
			shared = &exchange.Fetched{State: tr.shared(), GroupStep: tr.step, GroupSince: tr.roundTime()}
		}
	}
	cfg := diloco(100, 3)
	cfg.InnerTime = 20 * time.Second
	tr = start(t, cfg, sq, Hooks{Average: newExact(1).worker(0), Now: source.now})
	run(t, tr)
	if shared.GroupSince != 6*time.Second {
		t.Fatalf("the source says that its round began %v ago, want 6s", shared.GroupSince)
	}
	clock := newFakeClock()
	q, _ := timed(clock, 2*time.Second)
	exchange := &weighing{clock: clock, members: []int{1}}
	cfg.Worker = 1
	joiner := start(t, cfg, q, Hooks{Average: exchange, Now: clock.now})
	if err := joiner.Join(shared); err != nil {
		t.Fatal(err)
	}
	run(t, joiner)
	if want := []float64{70, 100}; !slices.Equal(exchange.weights, want) {
		t.Fatalf("weights %v, want %v", exchange.weights, want)
	}
}

// A round's rate does not depend on how many steps it had.
func TestRatesFollowTheRounds(t *testing.T) {
	clock := newFakeClock()
	q, _ := timed(clock, 4*time.Second)
	cfg := diloco(100, 4)
	cfg.InnerTime = 20 * time.Second
	cfg.InnerLR = func(step, _ uint64) float64 { return float64(step) }
	var rates []float64
	tr := start(t, cfg, q, Hooks{Average: newExact(1).worker(0), Now: clock.now, Report: func(e any) {
		if r, ok := e.(*RoundEvent); ok {
			rates = append(rates, r.LR)
		}
	}})
	run(t, tr)
	if want := []float64{4, 104, 204, 304}; !slices.Equal(rates, want) {
		t.Errorf("the rates of the last steps are %v, want %v", rates, want)
	}
}

func TestInnerTimeIsNotForDDP(t *testing.T) {
	cfg := Config{Strategy: "ddp", Rounds: 1, InnerSteps: 1, InnerTime: time.Second}
	if _, err := New(cfg, newQuadratic(1, drift(0)), Hooks{Average: newExact(1).worker(0)}); err == nil {
		t.Error("ddp with an inner time is accepted")
	}
	if cfg.InnerTime = time.Duration(math.MinInt64); cfg.InnerTime < 0 {
		cfg.Strategy = "diloco"
		if _, err := New(cfg, newQuadratic(1, drift(0)), Hooks{Average: newExact(1).worker(0)}); err == nil {
			t.Error("a negative inner time is accepted")
		}
	}
}
