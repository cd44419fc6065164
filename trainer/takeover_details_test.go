package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer/strategy"
)

// carrier is a worker of a slow cycle in round 1 of the source's lineage, with the 4 steps of round 0
// left out and 4 more trained on top.
func carrier(t *testing.T, cycle int) (tr *Trainer, q *quadratic, source *Trainer) {
	t.Helper()
	cfg := diloco(4, 20)
	cfg.SlowCycle = cycle
	leftOut := averagerWith(func([]float32) exchange.Outcome { return exchange.Outcome{Members: []int{1}, Attempts: 1, Tokens: 10} })
	q = newQuadratic(5, drift(0))
	tr = start(t, cfg, q, Hooks{Average: leftOut})
	trainTo(t, tr, 1)
	source = start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: leftOut})
	if err := source.Join(fetchedFrom(t, tr)); err != nil {
		t.Fatal(err)
	}
	trainTo(t, source, 3)
	return tr, q, source
}

// A worker that catches up puts what it has learnt on top of the others' φ, θ ← φ' + (θ − φ), and knows
// how many rounds late its steps are.
func TestCatchUpKeepsWhatWasLearnt(t *testing.T) {
	tr, q, source := carrier(t, 3)
	phi, theta := slices.Clone(values(tr.vectors.slow())), slices.Clone(q.theta)
	if slices.Equal(phi, theta) {
		t.Fatal("nothing was learnt")
	}
	e, err := tr.TakeOver(fetchedFrom(t, source), "a test")
	if err != nil || e == nil || e.CarriedTokens != 40 {
		t.Fatalf("%+v, %v", e, err)
	}
	now := values(tr.vectors.slow())
	for i := range theta {
		if want := now[i] + (theta[i] - phi[i]); q.theta[i] != want {
			t.Errorf("θ %d is %v, want %v", i, q.theta[i], want)
		}
	}
	if tr.pending.rounds != 3 || tr.pending.steps != 4 { // of round 0, and of the two that were fetched
		t.Errorf("%+v", tr.pending)
	}
}

// Rounds that do not fit are no way to carry steps either: the worker's own state stays, and so do its
// steps until it gives them up.
func TestCatchUpRefusesRoundsThatDoNotFit(t *testing.T) {
	tr, _, source := carrier(t, 3)
	was := tr.stateDigest
	f := fetchedFrom(t, source)
	f.State = exchange.State{Mark: tr.Head().Mark}
	f.Results = []exchange.Result{{Round: 1, Tokens: 10, Bytes: make([]byte, 20)}, {Round: 2, Tokens: 10, Bytes: make([]byte, 20)}}
	f.Past = append(tr.Head().Past, exchange.Mark{Round: 2, Digest: [32]byte{1}})
	if e, err := tr.TakeOver(f, "a test"); err != nil || tr.misfits != 1 || tr.stateDigest != was || e == nil || e.CarriedTokens != 0 {
		t.Errorf("%+v, %v after %d misfits, the same state %v", e, err, tr.misfits, tr.stateDigest == was)
	}
}

// Fetches that do not fit are counted in a row: one that fits begins the count anew.
func TestMisfitsAreCountedInARow(t *testing.T) {
	tr := start(t, diloco(2, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
	source := start(t, diloco(2, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
	wrong := func() *exchange.Fetched {
		h := tr.Head()
		return &exchange.Fetched{State: exchange.State{Mark: h.Mark}, Results: []exchange.Result{{Tokens: 10, Bytes: make([]byte, 20)}}, Past: []exchange.Mark{{Round: h.Round + 1, Digest: [32]byte{1}}}}
	}
	for range 3 {
		for range misfitsMax - 1 {
			if _, err := tr.TakeOver(wrong(), "a test"); err != nil {
				t.Fatal(err)
			}
		}
		trainTo(t, source, source.round+1)
		if e, err := tr.TakeOver(fetchedFrom(t, source), "a test"); err != nil || e == nil {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	for range misfitsMax - 1 {
		_, _ = tr.TakeOver(wrong(), "a test")
	}
	if _, err := tr.TakeOver(wrong(), "a test"); err == nil || !strings.Contains(err.Error(), "8 times; start this worker again without its checkpoints") {
		t.Error(err)
	}
}

// Two workers that parted at the very beginning have nothing in common but that: all that the one
// contributed is lost.
func TestForkAtTheBeginning(t *testing.T) {
	tr := start(t, diloco(2, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
	others := start(t, diloco(2, 9), newQuadratic(5, drift(1)), Hooks{Average: weighed(100)})
	trainTo(t, tr, 3)
	trainTo(t, others, 2)
	e, err := tr.TakeOver(fetchedFrom(t, others), "a test")
	if err != nil || e.LostRounds != 3 || e.LostSteps != 6 || e.LostTokens != 60 {
		t.Fatalf("%+v, %v", e, err)
	}
	if got := tr.contributed(); got != (given{}) {
		t.Errorf("contributed to the state at hand are %+v", got)
	}
	for _, m := range tr.past {
		if m.Tokens != 0 || m.Steps != 0 {
			t.Errorf("it had contributed %d tokens to the state of round %d of the others", m.Tokens, m.Round)
		}
	}
}

// A worker that takes its own state with no rounds since gives up the steps at hand.
func TestJoinOfTheOwnStateGivesUpItsSteps(t *testing.T) {
	q := newQuadratic(5, drift(0))
	tr := start(t, diloco(4, 9), q, Hooks{Average: weighed(10)})
	trainTo(t, tr, 1)
	for range 3 {
		loss, n, err := q.Gradient(tr.batch)
		if err == nil {
			err = tr.update(loss, n, tr.hooks.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Join(&exchange.Fetched{State: exchange.State{Mark: tr.Head().Mark}, GroupStep: 6}); err != nil {
		t.Fatal(err)
	}
	equal(t, "θ", q.theta, values(tr.vectors.slow()))
	if tr.step != 6 || tr.pending.steps != 0 || tr.lost.steps != 3 {
		t.Errorf("step %d, %+v, lost %+v", tr.step, tr.pending, tr.lost)
	}
}

// A state that is busy longer than the caller waits is not shared, nor is that of a lost device.
func TestShareFails(t *testing.T) {
	q := newQuadratic(5, drift(0))
	tr := start(t, diloco(4, 9), q, Hooks{Average: weighed(10)})
	ctx := lockedContext(t, tr)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := tr.Share(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "capture the state for a joiner") {
		t.Error(err)
	}
	if _, err := tr.ShareMoments(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "capture the moments for a joiner") {
		t.Error(err)
	}
	lost := start(t, diloco(4, 9), q, Hooks{Average: weighed(10)})
	q.lost = errors.New("gone")
	if _, err := lost.Share(t.Context()); !errors.Is(err, ErrDevice) {
		t.Error(err)
	}
	if _, err := lost.ShareMoments(t.Context()); !errors.Is(err, ErrDevice) {
		t.Error(err)
	}
}

// A source that says another digest than its state has is named with both.
func TestDigestsOfASourceAreNamed(t *testing.T) {
	source := start(t, diloco(4, 9), newQuadratic(5, drift(1)), Hooks{Average: weighed(10)})
	f := fetchedFrom(t, source)
	f.Digest[0]++
	want := fmt.Sprintf("shared state of round 0 has digest %x, its source says %x", source.stateDigest[:8], f.Digest[:8])
	if err := start(t, diloco(4, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)}).Join(f); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want one with %q", err, want)
	}
}

// The training loss of a round is that of the steps which were contributed to it, also where some of
// them were trained while the exchange before flew.
func TestLossOfTheStepsContributed(t *testing.T) {
	for _, tau := range []uint64{0, 1, 3} {
		var steps []float64
		var rounds []*RoundEvent
		tr, err := newTrainer(diloco(8, 4), overlapped(tau), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0), Report: func(e any) {
			switch e := e.(type) {
			case *StepEvent:
				steps = append(steps, e.Loss)
			case *RoundEvent:
				rounds = append(rounds, e)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		run(t, tr)
		at := 0
		for i, e := range rounds {
			sum := 0.0
			for _, loss := range steps[at : at+int(e.Steps)] {
				sum += loss
			}
			at += int(e.Steps)
			if want := sum / float64(e.Steps); !(abs(e.TrainLoss-want) <= 1e-12) {
				t.Errorf("tau %d, round %d: loss %v, want %v", tau, i+1, e.TrainLoss, want)
			}
		}
	}
}

func abs(x float64) float64 { return max(x, -x) }

// Alone nothing crosses, so there is no Δ to speak of.
func TestAloneHasNoDelta(t *testing.T) {
	run(t, start(t, Config{Strategy: "alone", Rounds: 2, InnerSteps: 3, Options: strategy.Options{}}, newQuadratic(5, drift(0)), Hooks{Report: func(e any) {
		if r, ok := e.(*RoundEvent); ok && (r.DeltaNorm != 0 || r.Group != 1 || r.Attempts != 1 || r.LostTokens != 0) {
			t.Errorf("%+v", r)
		}
	}}))
}

// A state that does not fit the model is an error, and no misfit of rounds.
func TestTakeOverOfAnotherModel(t *testing.T) {
	source := start(t, diloco(2, 9), newQuadratic(6, drift(0)), Hooks{Average: weighed(10)})
	trainTo(t, source, 2)
	tr := start(t, diloco(2, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
	if _, err := tr.TakeOver(fetchedFrom(t, source), "a test"); err == nil || !strings.Contains(err.Error(), `6 values of vector "slow" for 5 parameters`) || tr.round != 0 {
		t.Errorf("%v, in round %d", err, tr.round)
	}
}

// A run that diverges withdraws from what flies, too.
func TestDivergenceWithdrawsWhatFlies(t *testing.T) {
	cfg := Config{Strategy: "globalm1", Rounds: 4, InnerSteps: 5, Options: strategy.Options{OuterLR: 0.7, OuterMomentum: 0.5}}
	q := newQuadratic(5, drift(0))
	q.onStep = func(step uint64) {
		if step == 2 {
			q.theta[0] = 1e30
		}
	}
	withdrawn := make(chan struct{})
	tr := start(t, cfg, q, Hooks{Average: averagerOf(func(ctx context.Context, _ uint64, _ exchange.Part, _ exchange.Vector) (exchange.Outcome, error) {
		<-ctx.Done()
		close(withdrawn)
		return exchange.Outcome{}, context.Cause(ctx)
	})})
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrDiverged) || len(tr.flights) > 0 {
		t.Errorf("%v, %d exchanges fly", err, len(tr.flights))
	}
	select {
	case <-withdrawn:
	default:
		t.Error("the exchange goes on")
	}
}

// poor is a device without memory.
type poor struct{ Device }

func (poor) Alloc(n int) (kernels.Buffer, error) { return nil, errors.New("no memory") }

// Vectors for which there is no memory are an error that says how many parameters they have.
func TestNoMemoryForVectors(t *testing.T) {
	host, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	cfg := diloco(2, 3)
	cfg.Host = poor{host}
	if _, err := New(cfg, newQuadratic(5, drift(0)), Hooks{Average: weighed(10)}); err == nil || !strings.Contains(err.Error(), "vectors of 5 parameters: no memory") {
		t.Error(err)
	}
}

// The digest that events show is φ's.
func TestDigestOfEvents(t *testing.T) {
	tr := start(t, diloco(2, 3), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
	trainTo(t, tr, 2)
	sum := tr.vectors.digest(tr.vectors.slow())
	if got := tr.SlowDigest(); got != fmt.Sprintf("%x", sum) || len(got) != 64 {
		t.Errorf("%q, want %x", got, sum)
	}
}

// A checkpoint that cannot be saved at a stop is the error of the run, and so is one at its end.
func TestSavesThatFail(t *testing.T) {
	full := errors.New("the disk is full")
	for _, until := range []uint64{1, 3} {
		tr := start(t, diloco(2, 3), newQuadratic(5, drift(0)), Hooks{Average: weighed(10), Save: func(context.Context, func(*Snapshot) error) error { return full }})
		tr.cfg.StopAfter = until
		if err := tr.Run(t.Context(), nil); !errors.Is(err, full) || errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), fmt.Sprintf("save round %d", until)) {
			t.Errorf("stopped after round %d: %v", until, err)
		}
	}
}

// How far replicas are apart is estimated from a group's mean: of φ where it crosses, else of what does.
// Alone in a group there is no estimate.
func TestSpreadOfAGroup(t *testing.T) {
	for _, members := range [][]int{{0, 3}, {0}} {
		var phi []float32
		av := averagerOf(func(_ context.Context, _ uint64, part exchange.Part, v exchange.Vector) (exchange.Outcome, error) {
			if part == exchange.Slow {
				phi = make([]float32, v.Values)
				kernels.FormatFP32.Decode(phi, v.Bytes)
			}
			return exchange.Outcome{Members: members, Attempts: 1, Mean: []exchange.Term{{Bytes: slices.Clone(v.Bytes), Share: 0.75}}}, nil
		})
		var got *float64
		cfg := Config{Strategy: "noloco", Rounds: 1, InnerSteps: 3, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
		run(t, start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: av, Report: func(e any) {
			if r, ok := e.(*RoundEvent); ok {
				got = r.ReplicaStd
			}
		}}))
		if len(members) == 1 {
			if got != nil {
				t.Errorf("alone: %v", *got)
			}
			continue
		}
		squares := 0.0
		for _, x := range phi { // it is a quarter of itself away from the mean
			squares += float64(x) * float64(x) / 16
		}
		if want := math.Sqrt(2 * squares / 5); got == nil || !(abs(*got-want) <= 1e-6) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

// A checkpoint is not restored to a device that is lost.
func TestRestoreToALostDevice(t *testing.T) {
	source := start(t, diloco(2, 9), newQuadratic(5, drift(1)), Hooks{Average: weighed(10)})
	var s Snapshot
	if err := source.Capture(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	q := newQuadratic(5, drift(0))
	tr := start(t, diloco(2, 9), q, Hooks{Average: weighed(10)})
	q.lost = errors.New("gone")
	if err := tr.Restore(&s); !errors.Is(err, ErrDevice) {
		t.Error(err)
	}
}

// The outer step is told the number of its round, on the host's copy too.
func TestOuterStepKnowsItsRound(t *testing.T) {
	var mu sync.Mutex
	var rounds []uint64
	row := overlapped(0)
	outer := row.Outer
	row.Outer = func(v *strategy.Vectors, in *strategy.Landing) {
		mu.Lock()
		rounds = append(rounds, v.Round)
		mu.Unlock()
		outer(v, in)
	}
	tr, err := newTrainer(diloco(2, 3), row, newOnDevice(t, newQuadratic(5, drift(0))), Hooks{Average: newExact(1).worker(0)})
	if err != nil {
		t.Fatal(err)
	}
	run(t, tr)
	tr.mirror.wait()
	if !slices.Equal(rounds, []uint64{0, 0, 1, 1, 2, 2}) {
		t.Errorf("rounds %v", rounds)
	}
}

// Rounds of ddp that do not fit leave the moments as they were, and the gradient at hand is lost too.
func TestMisfitsOfDDP(t *testing.T) {
	cfg := Config{Strategy: "ddp", Rounds: 9, InnerSteps: 1}
	q := newQuadratic(5, drift(0))
	tr := start(t, cfg, q, Hooks{Average: weighed(10)})
	trainTo(t, tr, 2)
	theta, m, updates := slices.Clone(q.theta), slices.Clone(q.m), tr.updates
	h := tr.Head()
	wrong := &exchange.Fetched{State: exchange.State{Mark: h.Mark}, Results: []exchange.Result{{Tokens: 10, Bytes: make([]byte, 20)}}, Past: []exchange.Mark{{Round: 3, Digest: [32]byte{1}}}}
	if _, err := tr.TakeOver(wrong, "a test"); err != nil {
		t.Fatal(err)
	}
	equal(t, "θ", q.theta, theta)
	equal(t, "m", q.m, m)
	if tr.updates != updates || tr.round != 2 || tr.stateDigest != h.Digest {
		t.Errorf("%d updates, round %d", tr.updates, tr.round)
	}
	others := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: weighed(100)})
	trainTo(t, others, 4)
	var event *ResyncEvent
	tr.cfg.StopAfter = 9
	tr.hooks.Average = behindOnce{weighed(10), new(bool)}
	tr.hooks.Fetch = func(context.Context) (*exchange.Fetched, error) { return fetchedFrom(t, others), nil }
	tr.hooks.Report = func(e any) {
		if r, ok := e.(*ResyncEvent); ok {
			event = r
		}
	}
	if err := tr.oneRound(lockedContext(t, tr)); err != nil {
		t.Fatal(err)
	}
	if event == nil || event.LostSteps != 3 || event.LostRounds != 2 { // two rounds, and the gradient at hand
		t.Errorf("%+v", event)
	}
}

// Where a strategy keeps nothing, θ is the state, and a state without it is refused.
func TestStateWithoutWeightsIsRefused(t *testing.T) {
	cfg := Config{Strategy: "ddp", Rounds: 9, InnerSteps: 1}
	q := newQuadratic(5, drift(0))
	tr := start(t, cfg, q, Hooks{Average: weighed(10)})
	theta := slices.Clone(q.theta)
	for _, vectors := range [][]exchange.Named{
		named(MomentM, make([]float32, 5), MomentV, make([]float32, 5)),
		named(strategy.Slow, make([]float32, 4), MomentM, make([]float32, 5), MomentV, make([]float32, 5)),
	} {
		if err := tr.Restore(&Snapshot{Vectors: vectors}); err == nil || !strings.Contains(err.Error(), `values of vector "slow" for 5 parameters`) {
			t.Errorf("error %v", err)
		}
	}
	equal(t, "θ", q.theta, theta)
}
