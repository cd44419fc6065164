package trainer

import (
	"slices"
	"time"

	"loco/gossip/exchange"
)

// pending is what this worker trained and has not given to the others yet: the steps of
// the round at hand, and those of rounds that were averaged without it.
type pending struct {
	steps, tokens uint64
	loss          float64 // Σ of the token losses
	rounds        uint64  // that were averaged without it
	doubtful      bool    // they may be in a mean: of a checkpoint, or of an exchange whose end is not known
}

// given is a part of all that this worker trained.
type given struct{ steps, tokens uint64 }

// contributed is this worker's part in the state at hand.
func (t *Trainer) contributed() given {
	return given{t.trained - t.pending.steps - t.lost.steps, t.tokens - t.pending.tokens - t.lost.tokens}
}

// carriesMax is how many rounds late a step may be when it is given to the others, in turns
// of SlowCycle rounds: a worker that misses two turns gives up.
const carriesMax = 2

// carries says that the steps at hand, which were left out of rounds more rounds, are kept
// for a later one, if there is one.
func (t *Trainer) carries(rounds uint64) bool {
	return t.strategy.Carries && t.pending.rounds+rounds <= carriesMax*uint64(t.cfg.SlowCycle) && t.round+rounds < t.cfg.Rounds
}

// leftOut says that the mean was formed without this worker's steps. Those of a strategy that
// averages states alone are in its own state in any case.
func (t *Trainer) leftOut(out exchange.Outcome) bool {
	if main := t.strategy.Main(); main != nil && main.Part != exchange.Delta {
		return false
	}
	return out.Former || !slices.Contains(out.Members, t.cfg.Worker)
}

// carriesFrom says that the steps at hand were left out and are kept. Those of a checkpoint may be
// among what a former process gave, and those beside it are of the same round: none of them is kept.
func (t *Trainer) carriesFrom(out exchange.Outcome) bool {
	return t.leftOut(out) && !out.Former && t.carries(1)
}

// lateness is for how long the others have been in the next round already, whose result this
// worker had to fetch. A worker that carries its steps is not waited for.
func (t *Trainer) lateness(out exchange.Outcome) time.Duration {
	if !t.strategy.Equal || t.strategy.EveryStep || !t.leftOut(out) || t.pending.rounds > 0 {
		return 0
	}
	return time.Duration((out.Seconds.Transfer + out.Seconds.Decode) * float64(time.Second))
}

// stepsIn is how many of a round's steps a late worker leaves out, to be ready when the others are:
// as many as it would have taken, but for one. With an inner time the round's clock does that.
func (t *Trainer) stepsIn(late time.Duration) uint64 {
	if late == 0 || t.cfg.InnerTime > 0 || t.clock.step <= 0 || t.round == t.cfg.Rounds {
		return 0
	}
	return min(uint64(late/t.clock.step), t.cfg.InnerSteps-1)
}

// settle says what became of the steps that this worker gave to a round when that is averaged: they
// are in the mean, or carried to a later round, or lost. It returns the tokens that were lost. What
// was trained while the exchange flew is still at hand.
func (t *Trainer) settle(out exchange.Outcome, brought pending) (lost uint64) {
	p := &t.pending
	switch {
	case !t.leftOut(out):
	case t.carriesFrom(out):
		p.rounds++
		return 0
	default:
		lost = brought.tokens
		t.lost.steps += brought.steps
		t.lost.tokens += brought.tokens
	}
	left := pending{steps: p.steps - brought.steps, tokens: p.tokens - brought.tokens}
	if left.steps > 0 {
		left.loss = p.loss - brought.loss
	}
	*p = left
	return lost
}

// lose gives up the steps at hand.
func (t *Trainer) lose() {
	t.lost.steps += t.pending.steps
	t.lost.tokens += t.pending.tokens
	t.pending = pending{}
}

// follows says that a state is further on in this worker's own lineage, and that its steps
// are to be carried there. Those that have left this process, to its checkpoint or in an exchange
// that ended without a result, are not: they may be in one of the rounds in between, whose members
// are not known, and would count twice.
func (t *Trainer) follows(f *exchange.Fetched) bool {
	round, _ := f.End()
	return t.pending.steps > 0 && !t.pending.doubtful && round > t.round && t.carries(round-t.round) &&
		slices.ContainsFunc(f.Past, func(m exchange.Mark) bool { return m.Digest == t.stateDigest })
}

// catchUp takes over a state that follows from this worker's, and puts its steps on top.
func (t *Trainer) catchUp(f *exchange.Fetched) error {
	v := t.vectors
	v.Keep()
	fast := make([]float32, v.Fast.Len()) // Join needs the memory of θ
	t.learner.ReadParams(fast)
	round, _ := f.End()
	mine, rounds, lost := t.pending, round-t.round, t.lost
	if err := t.Join(f); err != nil {
		return err
	}
	v.Upload(v.Fast, fast)
	v.Rebase()
	v.push()
	t.pending, t.lost = mine, lost
	t.pending.rounds += rounds
	return nil
}
