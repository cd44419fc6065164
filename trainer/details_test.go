package trainer

import (
	"context"
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
	"loco/trainer/strategy"
)

// Each part crosses in its own format.
func TestPartsCrossInTheirFormats(t *testing.T) {
	const n = 300
	var mu sync.Mutex
	got := map[exchange.Part]int{}
	av := averagerOf(func(_ context.Context, _ uint64, part exchange.Part, v exchange.Vector) (exchange.Outcome, error) {
		mu.Lock()
		defer mu.Unlock()
		got[part] = len(v.Bytes)
		return exchange.Outcome{Members: []int{0}, Attempts: 1}, nil
	})
	cfg := Config{Strategy: "noloco", Rounds: 1, InnerSteps: 2, Format: kernels.FormatInt8, StateFormat: kernels.FormatBF16,
		Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
	run(t, start(t, cfg, newQuadratic(n, drift(0)), Hooks{Average: av}))
	if got[exchange.Delta] != kernels.FormatInt8.EncodedLen(n) || got[exchange.Slow] != kernels.FormatBF16.EncodedLen(n) {
		t.Errorf("bytes by part: %v", got)
	}
}

// In ddp rounds are steps: evaluations, checkpoints and stops count the configured rounds all the same.
func TestRoundsOfDDPAreCountedInSteps(t *testing.T) {
	var saves, evals []uint64
	cfg := Config{Strategy: "ddp", Rounds: 6, InnerSteps: 4, SaveEvery: 2, EvalEvery: 3, StopAfter: 5}
	var tr *Trainer
	tr = start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0),
		Save: func(context.Context, func(*Snapshot) error) error { saves = append(saves, tr.round); return nil },
		Report: func(e any) {
			if e, ok := e.(*EvalEvent); ok {
				evals = append(evals, e.Round)
			}
		}})
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	if len(saves) != 3 || saves[0] != 8 || saves[1] != 16 || saves[2] != 20 || len(evals) != 1 || evals[0] != 12 || tr.Rounds() != 24 || tr.Steps() != 24 {
		t.Errorf("saved at %v, evaluated at %v of %d rounds", saves, evals, tr.Rounds())
	}
}

// Equal replicas evaluate in turns; a worker that adopted a result has no turn, and replicas that differ
// each have a loss of their own.
func TestWhoseTurnItIsToEvaluate(t *testing.T) {
	cfg := diloco(4, 100)
	cfg.EvalEvery, cfg.Worker = 2, 5
	tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	for _, c := range []struct {
		round   uint64
		members []int
		want    bool
	}{
		{2, nil, false}, {2, []int{5}, true}, {2, []int{3, 5}, true}, {4, []int{3, 5}, false}, {6, []int{3, 5}, true}, {4, []int{1, 3, 5}, true}, {6, []int{1, 3, 5}, false},
	} {
		tr.round = c.round
		if got := tr.evaluates(c.members); got != c.want {
			t.Errorf("round %d, members %v: %v", c.round, c.members, got)
		}
	}
	pairs := start(t, Config{Strategy: "noloco", Rounds: 1, InnerSteps: 1, Options: strategy.Options{Gamma: 0.5}}, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	if !pairs.evaluates(nil) || !pairs.evaluates([]int{1, 2}) {
		t.Error("a replica of its own is not evaluated")
	}
}

// A late worker leaves out the steps that the others are ahead, but for one, and none where a time ends
// its round or the run does.
func TestStepsThatALateWorkerLeavesOut(t *testing.T) {
	tr := start(t, diloco(10, 100), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	tr.clock.step = time.Second
	for _, c := range []struct {
		late, inner time.Duration
		step        time.Duration
		round, want uint64
	}{
		{0, 0, time.Second, 1, 0}, {3500 * time.Millisecond, 0, time.Second, 1, 3}, {time.Hour, 0, time.Second, 1, 9},
		{3 * time.Second, time.Minute, time.Second, 1, 0}, {3 * time.Second, 0, 0, 1, 0}, {3 * time.Second, 0, time.Second, 100, 0},
	} {
		tr.cfg.InnerTime, tr.clock.step, tr.round = c.inner, c.step, c.round
		if got := tr.stepsIn(c.late); got != c.want {
			t.Errorf("%+v: %d steps", c, got)
		}
	}
}

// How long nobody waits for an exchange is what is left of the inner steps that it flies under, by the
// last step's time, and no more than is left of the round's time.
func TestSlack(t *testing.T) {
	tr := start(t, diloco(10, 100), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	clock := newFakeClock()
	tr.hooks.Now = clock.now
	tr.clock.run(clock.now())
	for _, c := range []struct {
		round, step uint64
		under       uint64
		took        time.Duration // a step
		inner       time.Duration
		want        time.Duration
	}{
		{3, 34, 0, time.Second, 0, 0}, {3, 34, 4, time.Second, 0, 4 * time.Second}, {3, 34, strategy.WholeRound, time.Second, 0, 6 * time.Second},
		{3, 30, strategy.WholeRound, 2 * time.Second, 0, 20 * time.Second}, {3, 40, strategy.WholeRound, time.Second, 0, 0}, {3, 45, 3, time.Second, 0, 0},
		{3, 34, strategy.WholeRound, 0, 0, 0}, {3, 34, strategy.WholeRound, time.Second, 2500 * time.Millisecond, 2500 * time.Millisecond},
	} {
		tr.round, tr.step, tr.clock.step, tr.cfg.InnerTime = c.round, c.step, c.took, c.inner
		if got := tr.slack(&strategy.Crossing{Under: c.under}); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A worker that is behind asks seven times in 31.5 s, and four times where nobody is there to ask.
func TestHowLongABehindWorkerAsks(t *testing.T) {
	for _, c := range []struct {
		err   error
		tries int
		took  time.Duration
	}{{errors.New("reset"), 7, 31500 * time.Millisecond}, {exchange.ErrNobody, 4, 3500 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			tr := start(t, diloco(4, 3), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0), Fetch: func(context.Context) (*exchange.Fetched, error) {
				asked++
				return nil, c.err
			}})
			began := time.Now()
			_, err := tr.fetch(lockedContext(t, tr))
			if !errors.Is(err, c.err) || asked != c.tries || time.Since(began) != c.took {
				t.Errorf("%v: asked %d times in %v, %v", c.err, asked, time.Since(began), err)
			}
		})
	}
}

// What the host has of a lost device is saved in silence, and a failure to save it is said.
func TestSalvageSaysOnlyFailures(t *testing.T) {
	for _, fails := range []bool{false, true} {
		q := newQuadratic(5, drift(0))
		q.onStep = func(step uint64) {
			if step == 6 {
				q.lose()
			}
		}
		tr := start(t, diloco(4, 5), q, Hooks{Average: newExact(1).worker(0), Save: func(_ context.Context, capture func(*Snapshot) error) error {
			if fails {
				return errors.New("the disk is full")
			}
			return capture(new(Snapshot))
		}})
		err := tr.Run(t.Context(), nil)
		if !errors.Is(err, ErrDevice) || strings.Contains(err.Error(), "save what the host has of round 1: the disk is full") != fails || strings.Contains(err.Error(), "save what the host") != fails {
			t.Errorf("fails %v: %v", fails, err)
		}
	}
}

// The host's copy of what a lost device computed is not renewed: it stays what it was.
func TestCopyOfALostDeviceStays(t *testing.T) {
	l := newOnDevice(t, newQuadratic(5, drift(0)))
	cfg := Config{Strategy: "gasloc", Rounds: 9, InnerSteps: 3, Options: strategy.Options{OuterLR: 1, OuterMomentum: 0.5, Gamma: 0.7}}
	tr := start(t, cfg, l, Hooks{Average: newExact(1).worker(0)})
	trainTo(t, tr, 2)
	tr.mirror.wait()
	var before, after Snapshot
	tr.captureOuter(&before)
	equal(t, "the copy", before.Vector(strategy.Slow), values(near(tr.vectors.slow())))
	x := values(near(tr.vectors.slow()))
	for i := range x {
		x[i] = -77
	}
	l.lost = errors.New("gone")
	tr.mirror.refresh(tr.vectors)
	tr.captureOuter(&after)
	equal(t, "the copy of a lost device", after.Vector(strategy.Slow), before.Vector(strategy.Slow))
	l.lost = nil
	tr.mirror.refresh(tr.vectors)
	tr.captureOuter(&after)
	equal(t, "the copy of a device that is there", after.Vector(strategy.Slow), x)
}

// failing is a device that can fail.
type failing struct {
	kernels.Device
	err error
}

func (f failing) Err() error { return f.err }

// A learner names what broke any of its devices; those that cannot fail are no errors.
func TestLlamaNamesBrokenDevices(t *testing.T) {
	l := learner(t, 2)
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	first, second := errors.New("the first"), errors.New("the second")
	l.replicas[1].Device = failing{l.replicas[1].Device, nil}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
	l.replicas[0].Device = failing{l.replicas[0].Device, first}
	l.replicas[1].Device = failing{l.replicas[1].Device, second}
	if err := l.Err(); !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("%v", err)
	}
}

// A round's seconds add up: what is left of it after inner steps and exchange is the outer step's.
func TestSecondsOfARoundAddUp(t *testing.T) {
	clock := newFakeClock()
	q, _ := timed(clock, time.Second)
	row := overlapped(0)
	outer := row.Outer
	row.Outer = func(v *strategy.Vectors, in *strategy.Landing) {
		clock.at = clock.at.Add(5 * time.Second)
		outer(v, in)
	}
	av := averagerOf(func(_ context.Context, _ uint64, _ exchange.Part, v exchange.Vector) (exchange.Outcome, error) {
		clock.at = clock.at.Add(10 * time.Second)
		return exchange.Outcome{Members: []int{0}, Attempts: 1, Mean: []exchange.Term{{Bytes: v.Bytes, Share: 1}}, Seconds: exchange.Seconds{Wait: 1, Encode: 2, Transfer: 3, Decode: 4}}, nil
	})
	var events []*RoundEvent
	tr, err := newTrainer(diloco(3, 1), row, q, Hooks{Average: av, Now: clock.now, Report: func(e any) {
		if r, ok := e.(*RoundEvent); ok {
			events = append(events, r)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, tr)
	if got, want := events[0].Seconds, (Seconds{Inner: 3, Wait: 1, Encode: 2, Transfer: 3, Decode: 4, Outer: 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A round without a step of this worker's has no loss, and not one that is no number.
func TestRoundWithoutSteps(t *testing.T) {
	var events []*RoundEvent
	tr := start(t, diloco(4, 3), newQuadratic(5, drift(0)), Hooks{Average: weighed(10), Report: func(e any) {
		if r, ok := e.(*RoundEvent); ok {
			events = append(events, r)
		}
	}})
	tr.step = 4
	if err := tr.oneRound(lockedContext(t, tr)); err != nil {
		t.Fatal(err)
	}
	if e := events[0]; e.Steps != 0 || e.TrainLoss != 0 || e.Round != 1 || e.Step != 4 {
		t.Errorf("%+v", e)
	}
}

// The trainer works on a Llama's parameters where they are.
func TestLlamaIsNear(t *testing.T) {
	tr := start(t, diloco(4, 3), learner(t, 1), Hooks{Average: newExact(1).worker(0)})
	if tr.vectors.near == nil {
		t.Error("the trainer copies the parameters of a CPU's Llama")
	}
}

// The states that are remembered are bounded, and the newest stay.
func TestMarksAreBounded(t *testing.T) {
	tr := start(t, diloco(1, 300), newQuadratic(2, drift(0)), Hooks{Average: weighed(10)})
	run(t, tr)
	past := tr.Head().Past
	if len(past) != 256 || past[0].Round != 45 || past[255].Round != 300 || past[255].Digest != tr.stateDigest {
		t.Errorf("%d states from round %d to %d", len(past), past[0].Round, past[len(past)-1].Round)
	}
}

// What a trainer went through before it takes over a checkpoint is forgotten.
func TestRestoreForgetsTheStatesOfBefore(t *testing.T) {
	source := start(t, diloco(2, 9), newQuadratic(5, drift(1)), Hooks{Average: weighed(10)})
	trainTo(t, source, 3)
	var s Snapshot
	if err := source.Capture(t.Context(), &s); err != nil {
		t.Fatal(err)
	}
	tr := start(t, diloco(2, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
	trainTo(t, tr, 5)
	if err := tr.Restore(&s); err != nil {
		t.Fatal(err)
	}
	if got, want := tr.Head().Past, source.Head().Past; !slices.Equal(got, want) {
		t.Errorf("%d states, want the checkpoint's %d", len(got), len(want))
	}
}

// A contribution that is not finite is refused with the parameter that is not.
func TestFiniteNamesTheParameter(t *testing.T) {
	tr := start(t, diloco(2, 9), newQuadratic(5, drift(1)), Hooks{Average: weighed(10)})
	x := tr.vectors.Grad
	copy(values(x), []float32{3, 0, 4, 0, 0})
	if norm, err := tr.finite(x); norm != 5 || err != nil {
		t.Errorf("norm %v, %v", norm, err)
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		copy(values(x), []float32{3, 0, 4, float32(bad), 0})
		if _, err := tr.finite(x); !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "parameter 3 of the contribution is not finite") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// A device that breaks before an exchange begins amid a round ends the round there.
func TestBrokenDeviceBeginsNothing(t *testing.T) {
	q := newQuadratic(5, drift(0))
	var tr *Trainer
	spy := &flying{Averager: newExact(1).worker(0), begun: func(uint64, exchange.Part, time.Duration) { t.Error("an exchange has begun") }}
	tr, err := newTrainer(diloco(8, 3), overlapped(3), q, Hooks{Average: spy, Report: func(e any) {
		if s, ok := e.(*StepEvent); ok && s.Step == 5 {
			q.lost = errors.New("gone") // after the step, before the exchange that begins here
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrDevice) || tr.step != 5 {
		t.Errorf("ended at step %d: %v", tr.step, err)
	}
}
