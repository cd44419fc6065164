package trainer

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"loco/gossip/exchange"
)

// Two workers fork, and the lighter one goes back to the other's state, which is of an
// older round, and counts what it lost. A lighter state is not taken over.
func TestForkIsHealedByTheHeavierSide(t *testing.T) {
	weigh := func(tokens float64) averagerWith {
		return func(vec []float32) exchange.Outcome {
			for i := range vec {
				vec[i] /= float32(tokens)
			}
			return exchange.Outcome{Members: []int{0}, Attempts: 1, Tokens: tokens}
		}
	}
	light := start(t, diloco(6, 5), newQuadratic(5, drift(0)), Hooks{Average: weigh(1)})
	heavy := start(t, diloco(6, 5), newQuadratic(5, drift(1)), Hooks{Average: weigh(100)})
	light.cfg.StopAfter, heavy.cfg.StopAfter = 4, 2
	for _, tr := range []*Trainer{light, heavy} {
		if err := tr.Run(t.Context(), nil); err != ErrStopped {
			t.Fatal(err)
		}
	}
	state := fetchedFrom(t, heavy)
	var event *ResyncEvent
	light.hooks.Fetch = func(context.Context) (*exchange.Fetched, error) { return state, nil }
	light.hooks.Report = func(e any) {
		if r, ok := e.(*ResyncEvent); ok {
			event = r
		}
	}
	if err := light.resync(lockedContext(t, light), "a test"); err != nil {
		t.Fatal(err)
	}
	if event == nil || event.LostRounds != 4 || event.LostSteps != 24 || event.LostTokens == 0 || event.Round != 2 {
		t.Fatalf("resync event %+v", event)
	}
	if light.stateDigest != heavy.stateDigest || light.runTokens != 200 || !slices.Equal(values(light.vectors.slow()), values(heavy.vectors.slow())) {
		t.Fatalf("the lighter worker did not take over the state: %v tokens", light.runTokens)
	}
	event, state.Tokens = nil, 3
	if err := light.resync(t.Context(), "a test"); err != nil || event != nil {
		t.Fatalf("a lighter state was taken over: %v, %v", event, err)
	}
}

// A worker that is told that it is behind, and is cut off from all others before it can
// ask for their state, goes on from its own.
func TestWhoIsGoneIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, whoIsGoneIsNotWaitedFor)
}

func whoIsGoneIsNotWaitedFor(t *testing.T) {
	told, asked := false, 0
	tr := start(t, diloco(4, 3), newQuadratic(5, drift(0)), Hooks{
		Average: behindOnce{newExact(1).worker(0), &told},
		Fetch:   func(context.Context) (*exchange.Fetched, error) { asked++; return nil, exchange.ErrNobody },
	})
	alone := start(t, diloco(4, 3), newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	run(t, tr)
	run(t, alone)
	if asked != nobodyTries || tr.stateDigest != alone.stateDigest {
		t.Fatalf("asked %d times, the same state as without: %v", asked, tr.stateDigest == alone.stateDigest)
	}
}

// Once the others have finished the round no more steps are trained for it, and the next
// one begins at its own place in the schedule.
func TestNoStepsForARoundThatIsOver(t *testing.T) {
	q := newQuadratic(5, drift(0))
	steps := 0
	q.onStep = func(uint64) { steps++ }
	tr := start(t, diloco(10, 3), q, Hooks{Average: hurried{Averager: newExact(1).worker(0), over: func(round uint64, _ float64) bool { return round == 1 }}})
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, step, _ := tr.Position(); step != 30 || steps != 22 {
		t.Fatalf("%d steps trained, at step %d, want 21 of the rounds and 1 of the evaluation, and 30", steps, step)
	}
}

type averagerWith func(vec []float32) exchange.Outcome

func (averagerWith) Over(uint64, float64) bool { return false }
func (averagerWith) Awaited(uint64) bool       { return false }

func (f averagerWith) Average(_ context.Context, _ uint64, _ exchange.Part, v exchange.Vector, _ float64, _ exchange.Base) (exchange.Outcome, error) {
	return onFloats(v, func(vec []float32) (exchange.Outcome, error) { return f(vec), nil })
}
