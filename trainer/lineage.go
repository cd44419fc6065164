package trainer

import "time"

// Mark is a state that a worker was in at a round's boundary.
type Mark struct {
	Round  uint64
	Digest [32]byte
	Tokens uint64 // of the worker in that state; not shared

	steps uint64 // as Tokens
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
