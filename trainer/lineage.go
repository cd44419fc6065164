package trainer

import (
	"errors"
	"fmt"
	"time"
)

// Mark is a state that a worker was in at a round's boundary.
type Mark struct {
	Round  uint64
	Digest [32]byte

	Tokens, Steps uint64 // that the worker had contributed by then; not shared
}

// marksMax bounds the marks that are remembered.
const marksMax = 256

// Head is where a worker stands.
type Head struct {
	Round, Step uint64
	RunTokens   float64
	Digest      [32]byte      // of the state that the round starts from
	Past        []Mark        // oldest first, the present state last; not to be written to
	Since       time.Duration // the round began

	clock roundClock
}

// Head may be called at any time.
func (t *Trainer) Head() Head {
	h := *t.head.Load()
	h.Since = h.clock.elapsed(t.hooks.Now())
	return h
}

// publish renews what Head returns.
func (t *Trainer) publish() {
	h := Head{Round: t.round, Step: t.step, RunTokens: t.runTokens, Digest: t.stateDigest, clock: t.clock}
	if was := t.head.Load(); was != nil && len(was.Past) > 0 && was.Past[len(was.Past)-1] == t.past[len(t.past)-1] && len(was.Past) == len(t.past) {
		h.Past = was.Past // only the step is new
	} else {
		h.Past = append(h.Past, t.past...)
	}
	t.head.Store(&h)
}

// mark remembers the state at hand.
func (t *Trainer) mark() {
	mine := t.contributed()
	t.past = append(t.past, Mark{t.round, t.stateDigest, mine.tokens, mine.steps})
	if len(t.past) > marksMax {
		t.past = append(t.past[:0], t.past[len(t.past)-marksMax:]...)
	}
	t.publish()
}

// fork returns the newest state that both this worker and the owner of past were in, or
// the oldest that this worker remembers.
func (t *Trainer) fork(past []Mark) Mark {
	theirs := map[[32]byte]bool{}
	for _, m := range past {
		theirs[m.Digest] = true
	}
	for i := len(t.past) - 1; i >= 0; i-- {
		if theirs[t.past[i].Digest] {
			return t.past[i]
		}
	}
	return t.past[0]
}

// misfitsMax is how many fetches in a row may bring rounds that do not fit.
const misfitsMax = 8

// TakeOver goes on from a state that was fetched and says what that discards, or returns nil
// where this worker's own state counts. Call it as Position. Where the rounds since do not fit,
// what precedes them does: the others say again that this worker is behind.
func (t *Trainer) TakeOver(s *Snapshot, why string) (*ResyncEvent, error) {
	if s.Slow == nil {
		s.RunTokens = t.runTokens // it goes on from this worker's own state
	}
	if t.outweighs(s) {
		return nil, nil // those who hold it will fetch from this worker
	}
	e := &ResyncEvent{Event: "resync", Worker: t.cfg.Worker, Why: why, FromRound: t.round}
	take := t.Join
	if t.follows(s) {
		take = t.catchUp
	} else {
		t.countLost(e, s.Past)
	}
	err := take(s)
	switch t.misfits++; {
	case err == nil:
		t.misfits = 0
	case !errors.Is(err, errReplay):
		return nil, err
	case t.misfits == misfitsMax: // sources may change their lineage meanwhile, but not every time
		return nil, fmt.Errorf("%w, %d times; start this worker again without its checkpoints", err, misfitsMax)
	}
	if s.Slow == nil && t.round == e.FromRound {
		return nil, nil
	}
	e.CarriedTokens = t.pending.tokens
	e.Round, e.Digest = t.round, t.SlowDigest()
	return e, nil
}

// outweighs says that this worker's own state counts and not s: more tokens were trained for
// it, or as many and it is of a later round. NoLoCo's replicas differ on purpose and know no
// tokens of all workers: the later round counts.
func (t *Trainer) outweighs(s *Snapshot) bool {
	round, tokens := s.End()
	if t.cfg.Strategy == "noloco" || tokens == t.runTokens {
		return round < t.round
	}
	return tokens < t.runTokens
}

// countLost counts what this worker gives up to the owner of past: all since the newest state
// that both were in, and the steps at hand. A replica of NoLoCo was never the others' state,
// and what it contributed is in its partners': it gives up the steps at hand.
func (t *Trainer) countLost(e *ResyncEvent, past []Mark) {
	e.LostSteps, e.LostTokens = t.pending.steps, t.pending.tokens
	if t.cfg.Strategy == "noloco" {
		return
	}
	fork, mine := t.fork(past), t.contributed()
	e.LostRounds = t.round - fork.Round
	e.LostSteps += mine.steps - min(mine.steps, fork.Steps)
	e.LostTokens += mine.tokens - fork.Tokens
}

// keepPast copies the marks for the next process of this worker, which knows nothing of what
// this one has lost: its count of what it contributed has that in it.
func (t *Trainer) keepPast(dst []Mark) []Mark {
	for _, m := range t.past {
		m.Tokens, m.Steps = m.Tokens+t.lost.tokens, m.Steps+t.lost.steps
		dst = append(dst, m)
	}
	return dst
}
