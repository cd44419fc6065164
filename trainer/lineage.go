package trainer

import (
	"errors"
	"fmt"
	"slices"

	"loco/gossip/exchange"
)

// Passed is a state that a worker was in at a round's boundary, with the tokens and steps of its
// own that it had contributed by then, which others are not told.
type Passed struct {
	exchange.Mark
	Tokens, Steps uint64
}

// marksMax bounds the marks that are remembered.
const marksMax = 256

// head is what Head returns, but for the time.
type head struct {
	exchange.Head
	clock roundClock
}

// Head is where the worker stands. It may be called at any time.
func (t *Trainer) Head() exchange.Head {
	h := *t.head.Load()
	h.Since = h.clock.elapsed(t.hooks.Now())
	return h.Head
}

// publish renews what Head returns.
func (t *Trainer) publish() {
	h := head{Head: exchange.Head{Mark: exchange.Mark{Round: t.round, Digest: t.stateDigest}, Step: t.step, Tokens: t.runTokens}, clock: t.clock}
	if was := t.head.Load(); was != nil && len(was.Past) == len(t.past) && was.Past[len(was.Past)-1] == t.past[len(t.past)-1].Mark {
		h.Past = was.Past // only the step is new
	} else {
		for _, p := range t.past {
			h.Past = append(h.Past, p.Mark)
		}
	}
	t.head.Store(&h)
}

// mark remembers the state at hand.
func (t *Trainer) mark() {
	mine := t.contributed()
	t.past = append(t.past, Passed{exchange.Mark{Round: t.round, Digest: t.stateDigest}, mine.tokens, mine.steps})
	if len(t.past) > marksMax {
		t.past = append(t.past[:0], t.past[len(t.past)-marksMax:]...)
	}
	t.publish()
}

// fork returns the newest of the states own that is on the way to the one at hand, or the
// oldest of them.
func (t *Trainer) fork(own []Passed) (m Passed, common bool) {
	past := map[[32]byte]bool{}
	for _, m := range t.past {
		past[m.Digest] = true
	}
	for i := len(own) - 1; i >= 0; i-- {
		if past[own[i].Digest] {
			return own[i], true
		}
	}
	return own[0], false
}

// misfitsMax is how many fetches in a row may bring rounds that do not fit.
const misfitsMax = 8

// TakeOver goes on from a state that was fetched and says what that discards, or returns nil
// where this worker's own state counts. Call it as Position. Where the rounds since do not fit,
// what precedes them does: the others say again that this worker is behind.
func (t *Trainer) TakeOver(f *exchange.Fetched, why string) (*ResyncEvent, error) {
	own := len(f.Vectors) == 0
	if own {
		f.Tokens = t.runTokens // it goes on from this worker's own state
	}
	here := own && len(f.Results) == 0 // where the others are
	if t.outweighs(f) || here && t.pending.steps > 0 {
		return nil, nil // the workers that hold it will fetch from this one; and steps in their round count
	}
	e := &ResyncEvent{Event: "resync", Worker: t.cfg.Worker, Why: why, FromRound: t.round}
	err := t.take(f, e)
	switch t.misfits++; {
	case err == nil:
		t.misfits = 0
	case !errors.Is(err, errReplay):
		return nil, err
	case t.misfits == misfitsMax: // sources may change their lineage meanwhile, but not every time
		return nil, fmt.Errorf("%w, %d times; start this worker again without its checkpoints", err, misfitsMax)
	}
	if here || err != nil && own && e.LostSteps == 0 {
		return nil, nil // nothing has changed but its place in the round
	}
	e.CarriedTokens = t.pending.tokens
	e.Round, e.Digest = t.round, t.SlowDigest()
	return e, nil
}

// take goes on from a state, and counts what that discards: the steps at hand, and all since
// the newest state on the way to it that this worker was in. A replica that differs was never the
// others' state, and what it contributed is in its partners': it gives up the steps at hand.
func (t *Trainer) take(f *exchange.Fetched, e *ResyncEvent) error {
	own, mine, round, at := slices.Clone(t.past), t.contributed(), t.round, t.pending
	carries := t.follows(f)
	take := t.Join
	if carries {
		take = t.catchUp
	}
	err := take(f)
	if carries && err == nil {
		return nil
	}
	e.LostSteps, e.LostTokens = at.steps, at.tokens
	if t.strategy.Equal {
		fork, _ := t.fork(own)
		e.LostRounds = round - fork.Round
		e.LostSteps += mine.steps - fork.Steps
		e.LostTokens += mine.tokens - fork.Tokens
	}
	return err
}

// outweighs says that this worker's own state counts and not the one fetched: more tokens were
// trained for it, or as many and it is of a later round. Replicas that differ on purpose know no
// tokens of all workers: the later round counts.
func (t *Trainer) outweighs(f *exchange.Fetched) bool {
	round, tokens := f.End()
	if !t.strategy.Equal || tokens == t.runTokens {
		return round < t.round
	}
	return tokens < t.runTokens
}

// markOthers remembers the states of past that led to the one at hand, and that one.
func (t *Trainer) markOthers(past []exchange.Mark) {
	t.past = t.past[:0]
	for _, m := range past {
		if m.Round < t.round {
			t.past = append(t.past, Passed{Mark: m})
		}
	}
	t.mark()
}

// recall counts as lost what this worker, which was in the states own and had contributed mine,
// contributed since the newest of them on the way to the state at hand, and gives that and those
// before it their marks back. Of the others' states it has no part.
func (t *Trainer) recall(own []Passed, mine given) {
	known := map[[32]byte]Passed{}
	if fork, common := t.fork(own); common {
		t.lost.tokens += mine.tokens - fork.Tokens
		t.lost.steps += mine.steps - fork.Steps
		for _, m := range own {
			known[m.Digest] = m
		}
	}
	mine = t.contributed()
	for i, m := range t.past {
		var ok bool
		if t.past[i], ok = known[m.Digest]; !ok {
			t.past[i] = Passed{m.Mark, mine.tokens, mine.steps}
		}
	}
}

// keepPast copies the marks for the next process of this worker, which knows nothing of what
// this one has lost: its count of what it contributed has that in it.
func (t *Trainer) keepPast(dst []Passed) []Passed {
	for _, m := range t.past {
		m.Tokens, m.Steps = m.Tokens+t.lost.tokens, m.Steps+t.lost.steps
		dst = append(dst, m)
	}
	return dst
}
