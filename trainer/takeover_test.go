package trainer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"loco/gossip/exchange"
	"loco/trainer/strategy"
)

// weighed is the mean of one worker, over so many tokens.
func weighed(tokens float64) averagerWith {
	return func([]float32) exchange.Outcome {
		return exchange.Outcome{Members: []int{0}, Attempts: 1, Tokens: tokens}
	}
}

// trainTo trains to the end of a round.
func trainTo(t *testing.T, tr *Trainer, round uint64) {
	t.Helper()
	tr.cfg.StopAfter = round
	if err := tr.Run(t.Context(), nil); err != ErrStopped {
		t.Fatal(err)
	}
}

// fetchedFrom is a trainer's state as others get it.
func fetchedFrom(t *testing.T, tr *Trainer) *exchange.Fetched {
	t.Helper()
	s, err := tr.Share(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &exchange.Fetched{State: s, Past: tr.Head().Past, GroupSince: tr.Head().Since}
}

// Of two states the one of more tokens is taken over, whatever its round, and what is given up
// since both were the same is counted: also by a process that knows of it from its checkpoint alone.
func TestTakeOver(t *testing.T) {
	const forkAt, ownRounds, steps = 2, 5, 6
	for name, c := range map[string]struct {
		strategy   string
		weight     float64 // of one of the others' rounds; this worker's are 10
		rounds     uint64  // the others' round
		again      bool    // started again, from a checkpoint
		nil        bool    // this worker's own counts
		lostRounds uint64
	}{
		"more tokens in an older round":                {strategy: "diloco", weight: 100, rounds: 3, lostRounds: 3},
		"more tokens in an older round, started again": {strategy: "diloco", weight: 100, rounds: 3, again: true, lostRounds: 3},
		"more tokens in a later round, started again":  {strategy: "diloco", weight: 100, rounds: 7, again: true, lostRounds: 3},
		"fewer tokens in a later round":                {strategy: "diloco", weight: 1, rounds: 7, nil: true},
		"fewer tokens in a later round, started again": {strategy: "diloco", weight: 1, rounds: 7, again: true, nil: true},
		"as many tokens in an older round":             {strategy: "diloco", weight: 30, rounds: 3, nil: true},
		"as many tokens in a later round":              {strategy: "diloco", weight: 6, rounds: 7, lostRounds: 3},
		"a replica of an older round":                  {strategy: "noloco", rounds: 3, again: true, nil: true},
		"a replica of a later round":                   {strategy: "noloco", rounds: 7, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := diloco(steps, 9)
			own, weight := weighed(10), c.weight
			if cfg.Strategy = c.strategy; c.strategy == "noloco" {
				cfg.Options, own = strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7}, weighed(0)
			}
			common := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: own})
			trainTo(t, common, forkAt)
			var before Snapshot
			if err := common.Capture(t.Context(), &before); err != nil {
				t.Fatal(err)
			}
			others := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: weighed(weight)})
			if err := others.Restore(&before); err != nil {
				t.Fatal(err)
			}
			trainTo(t, others, c.rounds)
			tr := common
			trainTo(t, tr, ownRounds)
			if c.again {
				var disk Snapshot
				if err := tr.Capture(t.Context(), &disk); err != nil {
					t.Fatal(err)
				}
				tr = start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: own})
				if err := tr.Restore(&disk); err != nil {
					t.Fatal(err)
				}
			}
			was := tr.Head().Digest
			e, err := tr.TakeOver(fetchedFrom(t, others), "a test")
			if err != nil {
				t.Fatal(err)
			}
			if c.nil {
				if e != nil || tr.Head().Digest != was {
					t.Fatalf("the state was taken over: %+v", e)
				}
				return
			}
			perStep := tr.tokens / (ownRounds * steps)
			if e == nil || e.FromRound != ownRounds || e.Round != c.rounds || e.LostRounds != c.lostRounds ||
				e.LostSteps != c.lostRounds*steps || e.LostTokens != c.lostRounds*steps*perStep || tr.Head().Digest != others.Head().Digest {
				t.Errorf("%+v, want %d rounds and their steps lost", e, c.lostRounds)
			}
			if want := (given{forkAt * steps, forkAt * steps * perStep}); c.strategy == "diloco" && tr.contributed() != want {
				t.Errorf("contributed to the state at hand are %+v, want %+v", tr.contributed(), want)
			}
		})
	}
}

// A worker that is started again where the others are takes their place in the round, but keeps
// what it has trained in it.
func TestWhoIsWhereTheOthersAreKeepsItsSteps(t *testing.T) {
	for _, pending := range []uint64{0, 3} {
		tr := start(t, diloco(10, 9), newQuadratic(5, drift(0)), Hooks{Average: weighed(10)})
		trainTo(t, tr, 2)
		stop := make(chan struct{})
		tr.cfg.StopAfter = 3
		tr.hooks.Report = func(event any) {
			if e, ok := event.(*StepEvent); ok && e.Step == 20+pending {
				close(stop)
				<-time.After(50 * time.Millisecond) // until Run has heard of it
			}
		}
		if pending > 0 {
			synctest.Test(t, func(t *testing.T) {
				stop = make(chan struct{})
				if err := tr.Run(t.Context(), stop); err != ErrStopped {
					t.Fatal(err)
				}
			})
		}
		h := tr.Head()
		e, err := tr.TakeOver(&exchange.Fetched{State: exchange.State{Mark: h.Mark}, Past: h.Past, GroupRound: 2, GroupStep: 27}, "a test")
		want := uint64(27)
		if pending > 0 {
			want = h.Step
		}
		if now := tr.Head(); e != nil || err != nil || now.Step != want || now.Digest != h.Digest {
			t.Errorf("with %d steps in the round: at step %d, want %d; %+v, %v", pending, now.Step, want, e, err)
		}
	}
}

// Steps that have left this process, to its checkpoint or in an exchange without a result, may be
// in a mean that it has not heard of: they are given up, and not put on top of a state that may
// have them.
func TestDoubtfulStepsAreNotCarried(t *testing.T) {
	cfg := diloco(4, 20)
	cfg.SlowCycle = 3
	leftOut := averagerWith(func([]float32) exchange.Outcome { return exchange.Outcome{Members: []int{1}, Attempts: 1, Tokens: 10} })
	tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: leftOut})
	trainTo(t, tr, 1)
	if tr.pending.steps != 4 {
		t.Fatalf("%d steps are carried, want 4", tr.pending.steps)
	}
	others := start(t, cfg, newQuadratic(5, drift(1)), Hooks{Average: leftOut})
	if err := others.Join(fetchedFrom(t, tr)); err != nil {
		t.Fatal(err)
	}
	trainTo(t, others, 3)
	state := fetchedFrom(t, others)
	var disk Snapshot
	if err := tr.Capture(t.Context(), &disk); err != nil {
		t.Fatal(err)
	}
	again := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: leftOut})
	if err := again.Restore(&disk); err != nil {
		t.Fatal(err)
	}
	tokens := tr.pending.tokens
	torn := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: leftOut}) // its exchange ended without a result
	trainTo(t, torn, 1)
	torn.hooks.Average = averagerWith(func([]float32) exchange.Outcome { return exchange.Outcome{Behind: true, Why: "a test", Attempts: 1} })
	torn.hooks.Fetch = func(context.Context) (*exchange.Fetched, error) { return nil, exchange.ErrNobody }
	if err := torn.oneRound(lockedContext(t, torn)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tr            *Trainer
		carried, lost uint64
	}{{tr, tokens, 0}, {again, 0, tokens}, {torn, 0, torn.pending.tokens}} {
		if e, err := c.tr.TakeOver(state, "a test"); err != nil || e.CarriedTokens != c.carried || e.LostTokens != c.lost || e.LostRounds != 0 {
			t.Errorf("%+v, %v; want %d tokens carried and %d lost", e, err, c.carried, c.lost)
		}
	}
}
