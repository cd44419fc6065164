package trainer

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/optim"
	"loco/trainer/strategy"
)

// overlapped is DiLoCo whose pseudo-gradient flies under the last tau inner steps of a round; what is
// learnt meanwhile is put on top of the result. With tau = 0 it is DiLoCo.
func overlapped(tau uint64) strategy.Strategy {
	const begun = "begun" // θ when the exchange began
	step := optim.Nesterov{LR: 0.7, Momentum: 0.9}
	s := strategy.Strategy{
		Name:    "overlapped",
		Vectors: []strategy.Spec{strategy.State(strategy.Slow), strategy.State(strategy.Momentum), strategy.Scratch(begun)},
		Outer: func(v *strategy.Vectors, in *strategy.Landing) {
			in.Mean(v, exchange.Delta, v.Grad)
			step.Step(v, v.Of(strategy.Slow), v.Of(strategy.Momentum), v.Grad)
		},
		Traits: strategy.Traits{Equal: true},
	}
	s.Crossings = []strategy.Crossing{{Part: exchange.Delta, Under: tau, Vector: func(v *strategy.Vectors) kernels.Buffer {
		optim.PseudoGradient(v, v.Grad, v.Of(strategy.Slow), v.Fast)
		v.Copy(v.Of(begun), v.Fast)
		return v.Grad
	}}}
	if tau > 0 {
		s.Resume = func(v *strategy.Vectors) { optim.Rebase(v, v.Fast, v.Of(begun), v.Of(strategy.Slow)) }
	}
	return s
}

// flying is an averager that says when each exchange begins and waits until it is let land.
type flying struct {
	Averager
	begun func(round uint64, part exchange.Part, slack time.Duration)
	land  chan struct{} // nil: at once
}

func (f *flying) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, w float64, from exchange.Base) (exchange.Outcome, error) {
	if f.begun != nil {
		f.begun(round, part, vec.Slack)
	}
	if f.land != nil {
		select {
		case <-f.land:
		case <-ctx.Done():
			return exchange.Outcome{}, context.Cause(ctx)
		}
	}
	return f.Averager.Average(ctx, round, part, vec, w, from)
}

// An exchange begins so many inner steps before the round's end as it flies under, in every round, says
// how long it is not waited for, and lands before the next begins.
func TestCrossingsBeginInTheirTime(t *testing.T) {
	for _, tau := range []uint64{0, 1, 3, 7} {
		clock := newFakeClock()
		q, _ := timed(clock, time.Second)
		var tr *Trainer
		var mu sync.Mutex
		var began []uint64
		var slacks []time.Duration
		spy := &flying{Averager: newExact(1).worker(0), begun: func(_ uint64, _ exchange.Part, slack time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			slacks = append(slacks, slack)
		}}
		cfg := diloco(8, 3)
		inner := overlapped(tau)
		fill := inner.Crossings[0].Vector
		inner.Crossings[0].Vector = func(v *strategy.Vectors) kernels.Buffer {
			began = append(began, tr.step)
			if len(tr.flights) > 0 {
				t.Errorf("tau %d: an exchange begins at step %d while another flies", tau, tr.step)
			}
			return fill(v)
		}
		var err error
		if tr, err = newTrainer(cfg, inner, q, Hooks{Average: spy, Now: clock.now}); err != nil {
			t.Fatal(err)
		}
		run(t, tr)
		under := tau
		if want := []uint64{8 - under, 16 - under, 24 - under}; !slices.Equal(began, want) {
			t.Errorf("tau %d: exchanges begin at steps %v, want %v", tau, began, want)
		}
		if last := slacks[len(slacks)-1]; last != time.Duration(under)*time.Second {
			t.Errorf("tau %d: the exchange is not waited for during %v, want %d s", tau, last, under)
		}
		if len(tr.flights) > 0 {
			t.Errorf("tau %d: %d exchanges fly after the end", tau, len(tr.flights))
		}
	}
}

// What is learnt cannot fly under a whole round, in the first of which it would be nothing.
func TestWhatIsLearntFliesUnderLessThanARound(t *testing.T) {
	for _, tau := range []uint64{8, strategy.WholeRound} {
		if _, err := newTrainer(diloco(8, 3), overlapped(tau), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)}); err == nil || !strings.Contains(err.Error(), "fewer than those") {
			t.Errorf("tau %d: %v", tau, err)
		}
	}
}

// What is learnt while an exchange flies is contributed in the next round, with its tokens, and every
// step counts once.
func TestStepsInFlightCountInTheNextRound(t *testing.T) {
	var weights []float64
	spy := averagerOf(func(_ context.Context, _ uint64, _ exchange.Part, v exchange.Vector) (exchange.Outcome, error) {
		return exchange.Outcome{Members: []int{0}, Attempts: 1, Mean: []exchange.Term{{Bytes: slices.Clone(v.Bytes), Share: 1}}}, nil
	})
	var events []*RoundEvent
	tr, err := newTrainer(diloco(8, 4), overlapped(3), newQuadratic(5, drift(0)), Hooks{Average: weigher{spy, &weights}, Report: func(e any) {
		if r, ok := e.(*RoundEvent); ok {
			events = append(events, r)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, tr)
	if want := []float64{50, 80, 80, 80}; !slices.Equal(weights, want) {
		t.Errorf("contributions weigh %v, want %v", weights, want)
	}
	steps := tr.pending.steps
	for _, e := range events {
		steps += e.Steps
	}
	if steps != 32 || tr.pending.steps != 3 || tr.contributed().steps != 29 {
		t.Errorf("%d steps counted of 32, %d at hand, %d contributed", steps, tr.pending.steps, tr.contributed().steps)
	}
}

// weigher notes the weights of contributions.
type weigher struct {
	Averager
	weights *[]float64
}

func (w weigher) Average(ctx context.Context, round uint64, part exchange.Part, v exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	*w.weights = append(*w.weights, weight)
	return w.Averager.Average(ctx, round, part, v, weight, from)
}

// With tau = 0 the overlapped strategy is DiLoCo to the bit; with more, replicas are equal after every
// landing though each went on from its own θ meanwhile.
func TestOverlappedReplicasAreEqual(t *testing.T) {
	plain, _ := together(t, 3, diloco(6, 5), drift)
	for _, tau := range []uint64{0, 2, 5} {
		net := newExact(3)
		var mu sync.Mutex
		digests := map[uint64]map[string]bool{}
		qs := make([]*quadratic, 3)
		var wg sync.WaitGroup
		for k := range qs {
			cfg := diloco(6, 5)
			cfg.Worker = k
			qs[k] = newQuadratic(5, drift(k))
			tr, err := newTrainer(cfg, overlapped(tau), qs[k], Hooks{Average: net.worker(k), Report: func(e any) {
				if r, ok := e.(*RoundEvent); ok {
					mu.Lock()
					defer mu.Unlock()
					if digests[r.Round] == nil {
						digests[r.Round] = map[string]bool{}
					}
					digests[r.Round][r.Digest] = true
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { run(t, tr) })
		}
		wg.Wait()
		for r := uint64(1); r <= 5; r++ {
			if len(digests[r]) != 1 {
				t.Errorf("tau %d: round %d has %d digests", tau, r, len(digests[r]))
			}
		}
		if tau == 0 {
			equal(t, "tau 0", qs[0].theta, plain[0].theta)
		}
	}
}

// A stop amid a round withdraws what flies, and the round goes on from there: where the group is the
// same it ends in the state of a run that never stopped.
func TestStopWithAnExchangeInFlight(t *testing.T) {
	for _, name := range []string{"noloco", "globalm1"} {
		cfg := Config{Strategy: name, Rounds: 4, InnerSteps: 5, Options: strategy.Options{OuterLR: 0.7, OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
		want := newQuadratic(5, drift(0))
		never := start(t, cfg, want, Hooks{Average: newExact(1).worker(0)})
		run(t, never)
		synctest.Test(t, func(t *testing.T) {
			var saved Snapshot
			stop := make(chan struct{})
			q := newQuadratic(5, drift(0))
			q.onStep = func(step uint64) {
				if step == 7 {
					close(stop)
					synctest.Wait() // until Run has heard of it
				}
			}
			held := &flying{Averager: newExact(1).worker(0)}
			tr := start(t, cfg, q, Hooks{Average: held, Save: func(_ context.Context, capture func(*Snapshot) error) error { return capture(&saved) }})
			tr.hooks.Report = func(e any) {
				if r, ok := e.(*RoundEvent); ok && r.Round == 1 {
					held.land = make(chan struct{}) // the next one does not land by itself
				}
			}
			if err := tr.Run(t.Context(), stop); !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			if saved.Round != 1 || saved.RoundSteps != 3 || len(tr.flights) > 0 {
				t.Fatalf("%s: saved in round %d with %d steps, %d exchanges fly", name, saved.Round, saved.RoundSteps, len(tr.flights))
			}
			again := newQuadratic(5, drift(0))
			second := start(t, cfg, again, Hooks{Average: newExact(1).worker(0)})
			if err := second.Restore(&saved); err != nil {
				t.Fatal(err)
			}
			run(t, second)
			equal(t, name, again.theta, want.theta)
			if second.stateDigest != never.stateDigest {
				t.Errorf("%s: the state differs from that of a run that never stopped", name)
			}
		})
	}
}

// A worker that is told that it is behind withdraws from what else flies, and begins it anew in the
// round that it takes over.
func TestResyncWithdrawsWhatFlies(t *testing.T) {
	cfg := Config{Strategy: "noloco", Rounds: 9, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
	synctest.Test(t, func(t *testing.T) {
		source := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
		trainTo(t, source, 3)
		var rounds []uint64 // of φ's exchanges
		withdrawn := 0
		told := false
		av := averagerOf(func(ctx context.Context, round uint64, part exchange.Part, v exchange.Vector) (exchange.Outcome, error) {
			if part == exchange.Slow {
				rounds = append(rounds, round)
				if round == 0 {
					<-ctx.Done()
					withdrawn++
					return exchange.Outcome{}, context.Cause(ctx)
				}
				return exchange.Outcome{Members: []int{0}, Attempts: 1}, nil
			}
			if !told {
				told = true
				return exchange.Outcome{Behind: true, Why: "a test"}, nil
			}
			return exchange.Outcome{Members: []int{0}, Attempts: 1}, nil
		})
		tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: av, Fetch: func(context.Context) (*exchange.Fetched, error) {
			f := fetchedFrom(t, source)
			f.GroupRound = 3
			return f, nil
		}})
		trainTo(t, tr, 5)
		if withdrawn != 1 || !slices.Equal(rounds, []uint64{0, 3, 4}) {
			t.Errorf("%d exchanges withdrawn, φ crosses in rounds %v, want 1 and 0, 3, 4", withdrawn, rounds)
		}
	})
}

// averagerOf is an averager made of a function.
type averagerOf func(ctx context.Context, round uint64, part exchange.Part, v exchange.Vector) (exchange.Outcome, error)

func (averagerOf) Over(uint64, float64) bool { return false }
func (averagerOf) Awaited(uint64) bool       { return false }

func (f averagerOf) Average(ctx context.Context, round uint64, part exchange.Part, v exchange.Vector, _ float64, _ exchange.Base) (exchange.Outcome, error) {
	return f(ctx, round, part, v)
}

// With its own part in flight a worker trains on when the others have finished the round: the mean
// comes to it. Without, it stops.
func TestFlightIsNotHurried(t *testing.T) {
	for name, want := range map[string]uint64{"globalm1": 8, "diloco": 2} {
		cfg := diloco(4, 2)
		cfg.Strategy = name
		q := newQuadratic(5, drift(0))
		var steps uint64
		tr := start(t, cfg, q, Hooks{Average: hurried{Averager: newExact(1).worker(0), over: func(uint64, float64) bool { return true }}, Report: func(e any) {
			if _, ok := e.(*StepEvent); ok {
				steps++
			}
		}})
		run(t, tr)
		if steps != want {
			t.Errorf("%s: %d steps, want %d", name, steps, want)
		}
	}
}

// Residuals are saved and are no joiner's: a strategy declares a vector, and checkpoints, states for
// joiners and digests follow.
func TestDeclaredVectors(t *testing.T) {
	row := overlapped(0)
	row.Vectors = append(row.Vectors, strategy.Residual("error"))
	outer := row.Outer
	row.Outer = func(v *strategy.Vectors, in *strategy.Landing) {
		v.Axpby(v.Of("error"), 0.5, v.Of("error"), 1, v.Grad)
		outer(v, in)
	}
	cfg := diloco(4, 6)
	make := func(q *quadratic) *Trainer {
		tr, err := newTrainer(cfg, row, q, Hooks{Average: newExact(1).worker(0)})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	names := func(vectors []exchange.Named) (names []string) {
		for _, v := range vectors {
			names = append(names, v.Name)
		}
		return names
	}
	q := newQuadratic(5, drift(0))
	tr := make(q)
	trainTo(t, tr, 3)
	var s Snapshot
	if err := tr.Capture(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	if got := names(s.Vectors); !slices.Equal(got, []string{strategy.Slow, strategy.Momentum, "error", MomentM, MomentV}) {
		t.Errorf("saved are %v", got)
	}
	shared, err := tr.Share(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := names(shared.Vectors); !slices.Equal(got, []string{strategy.Slow, strategy.Momentum}) {
		t.Errorf("shared are %v", got)
	}
	again := make(newQuadratic(5, drift(0)))
	if err := again.Restore(&s); err != nil {
		t.Fatal(err)
	}
	equal(t, "the residual", values(again.vectors.Of("error")), s.Vector("error"))
	if slices.Max(s.Vector("error")) == 0 || again.stateDigest != tr.stateDigest {
		t.Errorf("the residual is %v, digests equal %v", s.Vector("error"), again.stateDigest == tr.stateDigest)
	}
	s.Vectors = slices.DeleteFunc(slices.Clone(s.Vectors), func(v exchange.Named) bool { return v.Name == "error" })
	if err := make(newQuadratic(5, drift(0))).Restore(&s); err == nil {
		t.Error("a checkpoint without the residual is taken")
	}
	joiner := make(newQuadratic(5, drift(1)))
	if err := joiner.Join(&exchange.Fetched{State: shared, Past: tr.Head().Past}); err != nil || joiner.stateDigest != tr.stateDigest {
		t.Errorf("a joiner: %v, digests equal %v", err, joiner.stateDigest == tr.stateDigest)
	}
}

// An error of any exchange ends the round, not the main one's alone.
func TestErrorOfAnExchangeInFlight(t *testing.T) {
	for _, broken := range []exchange.Part{exchange.Delta, exchange.Slow} {
		cfg := Config{Strategy: "noloco", Rounds: 2, InnerSteps: 3, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
		gone := errors.New("the averager is closed")
		av := averagerOf(func(_ context.Context, _ uint64, part exchange.Part, _ exchange.Vector) (exchange.Outcome, error) {
			if part == broken {
				return exchange.Outcome{}, gone
			}
			return exchange.Outcome{Members: []int{0}, Attempts: 1}, nil
		})
		var told []exchange.Part
		tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: av, Exchanged: func(_ uint64, part exchange.Part, _ exchange.Outcome, err error) {
			if errors.Is(err, gone) {
				told = append(told, part)
			}
		}})
		if err := tr.Run(t.Context(), nil); !errors.Is(err, gone) || tr.round != 0 || len(tr.flights) > 0 {
			t.Errorf("part %d: %v in round %d, %d exchanges fly", broken, err, tr.round, len(tr.flights))
		}
		if !slices.Equal(told, []exchange.Part{broken}) {
			t.Errorf("part %d: told of errors of %v", broken, told)
		}
	}
}

// Weights that are not finite do not leave this worker either.
func TestWeightsThatAreNotFiniteStayHere(t *testing.T) {
	cfg := diloco(3, 2)
	cfg.Strategy = "globalm1"
	tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: averagerOf(func(context.Context, uint64, exchange.Part, exchange.Vector) (exchange.Outcome, error) {
		t.Error("an exchange was begun")
		return exchange.Outcome{}, nil
	})})
	values(tr.vectors.slow())[3] = float32(math.Inf(1))
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "the contribution is not finite from about parameter") {
		t.Error(err)
	}
}

// A strategy may encode what crosses itself, in a form that no device knows, and read the mean itself.
func TestStrategyEncodesItself(t *testing.T) {
	plain := newQuadratic(5, drift(0))
	run(t, start(t, diloco(4, 5), plain, Hooks{Average: newExact(1).worker(0)}))
	row := overlapped(0)
	outer := row.Outer
	row.Crossings[0].Encode = func(v *strategy.Vectors, dst []byte) (exchange.Vector, error) {
		x := values(row.Crossings[0].Vector(v))
		dst = append(dst[:0], 0xab) // a header of its own
		for _, value := range x {
			if value-value != 0 {
				return exchange.Vector{}, errors.New("not finite")
			}
			dst = binary.BigEndian.AppendUint32(dst, math.Float32bits(value))
		}
		return exchange.Vector{Values: len(x), Bytes: dst}, nil
	}
	row.Outer = func(v *strategy.Vectors, in *strategy.Landing) {
		bytes := in.Means[exchange.Delta][0].Bytes[1:]
		for i := range values(v.Grad) {
			values(v.Grad)[i] = math.Float32frombits(binary.BigEndian.Uint32(bytes[4*i:]))
		}
		means := *in
		means.Means = [exchange.Parts][]exchange.Term{}
		outer(v, &means)
	}
	echo := averagerOf(func(_ context.Context, _ uint64, _ exchange.Part, v exchange.Vector) (exchange.Outcome, error) {
		return exchange.Outcome{Members: []int{0}, Attempts: 1, Mean: []exchange.Term{{Bytes: v.Bytes, Share: 1}}}, nil
	})
	q := newQuadratic(5, drift(0))
	tr, err := newTrainer(diloco(4, 5), row, q, Hooks{Average: echo})
	if err != nil {
		t.Fatal(err)
	}
	run(t, tr)
	equal(t, "θ", q.theta, plain.theta)
	q = newQuadratic(5, drift(0))
	if tr, err = newTrainer(diloco(4, 5), row, q, Hooks{Average: echo}); err != nil {
		t.Fatal(err)
	}
	values(tr.vectors.slow())[2] = float32(math.NaN())
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "cannot be encoded") {
		t.Error(err)
	}
}
