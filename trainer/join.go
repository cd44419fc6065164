package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/trainer/strategy"
)

// Share copies what a joiner needs: the vectors that the strategy shares, and the inner moments
// where they are the same on every worker.
func (t *Trainer) Share(ctx context.Context) (s exchange.State, err error) {
	if err := t.lock(ctx); err != nil {
		return s, fmt.Errorf("trainer: capture the state for a joiner: %w", err)
	}
	defer t.unlock()
	s = t.shared()
	return s, t.broken()
}

// shared is Share with the state held.
func (t *Trainer) shared() exchange.State {
	s := exchange.State{Mark: exchange.Mark{Round: t.round, Digest: t.stateDigest}, Tokens: t.runTokens}
	s.Vectors = t.copyVectors(nil, func(spec strategy.Spec) bool { return spec.Shared })
	if t.strategy.Moments {
		s.Vectors, s.Updates = t.moments(s.Vectors), t.updates
	}
	return s
}

// ShareMoments copies the inner moments for a joiner.
func (t *Trainer) ShareMoments(ctx context.Context) (s exchange.State, err error) {
	if err := t.lock(ctx); err != nil {
		return s, fmt.Errorf("trainer: capture the moments for a joiner: %w", err)
	}
	defer t.unlock()
	return exchange.State{Mark: exchange.Mark{Round: t.round}, Updates: t.updates, Vectors: t.moments(nil)}, t.broken()
}

// Want is what a fetch for this worker asks for, without moments.
func (t *Trainer) Want() exchange.Want {
	return exchange.Want{Own: t.Head().Mark, Length: t.learner.Parameters()}
}

// Join takes over the state that others shared and replays the rounds since: the same
// means through the same outer step give the group's bits, which each digest in Past is
// compared with. Where the inner moments are part of the state they must be there; otherwise they
// are taken over where there are some, and stay as they are where there are none. It begins at the
// group's place in the round, so that it is ready when the others are.
func (t *Trainer) Join(f *exchange.Fetched) error {
	own, mine := slices.Clone(t.past), t.contributed()
	step := uint64(0)
	if len(f.Vectors) == 0 {
		if f.Round != t.round || f.Digest != t.stateDigest {
			return fmt.Errorf("trainer: the rounds to replay begin at round %d with digest %x, this worker is at round %d with %x", f.Round, f.Digest[:8], t.round, t.stateDigest[:8])
		}
	} else {
		if f.Round > t.cfg.Rounds {
			return fmt.Errorf("trainer: state of round %d, the run has %d", f.Round, t.cfg.Rounds)
		}
		step = f.Round * t.cfg.InnerSteps // the group's place comes later
		if err := t.joinState(f); err != nil {
			return err
		}
	}
	if err := t.joinMoments(f); err != nil {
		return err
	}
	t.lose()
	known := map[uint64][32]byte{}
	for _, m := range f.Past {
		known[m.Round] = m.Digest
	}
	if len(f.Vectors) > 0 {
		t.markOthers(f.Past)
	}
	err := t.replayAll(f.Results, known)
	t.recall(own, mine)
	if err != nil {
		return err
	}
	t.enterRound(place{step: max(step, f.GroupStep), round: f.GroupRound, since: f.GroupSince})
	return nil
}

// replayAll replays rounds whose digests are known. Where it fails the trainer is as before.
func (t *Trainer) replayAll(rounds []exchange.Result, known map[uint64][32]byte) error {
	if len(rounds) == 0 {
		return nil
	}
	marks, before, at := len(t.past), t.shared(), place{step: t.step, since: t.roundTime()}
	for _, r := range rounds {
		err := t.replay(r)
		if want, ok := known[t.round]; err == nil && ok && want != t.stateDigest {
			err = fmt.Errorf("trainer: the state of round %d has digest %x after a replay, the group's is %x", t.round, t.stateDigest[:8], want[:8])
		}
		if err != nil {
			if undo := t.adopt(before.Round, before.Tokens, before.Vectors, func(spec strategy.Spec) bool { return spec.Shared }); undo != nil {
				return errors.Join(err, undo)
			}
			if t.strategy.Moments {
				t.learner.WriteMoments(exchange.Find(before.Vectors, MomentM), exchange.Find(before.Vectors, MomentV))
				t.updates = before.Updates
			}
			t.past = t.past[:min(len(t.past), marks)]
			t.enterRound(at)
			return fmt.Errorf("%w: %w", errReplay, err)
		}
		t.mark()
	}
	return nil
}

// errReplay is wrapped where the rounds that were fetched do not lead to the group's state.
var errReplay = errors.New("the rounds that were fetched do not fit this worker's state")

// joinState takes over the vectors of a state.
func (t *Trainer) joinState(f *exchange.Fetched) error {
	if err := t.adopt(f.Round, f.Tokens, f.Vectors, func(spec strategy.Spec) bool { return spec.Shared }); err != nil {
		return err
	}
	if f.Digest != ([32]byte{}) && f.Digest != t.stateDigest {
		return fmt.Errorf("trainer: shared state of round %d has digest %x, its source says %x", f.Round, t.stateDigest[:8], f.Digest[:8])
	}
	if t.strategy.Moments && len(exchange.Find(f.Vectors, MomentM)) == 0 {
		return fmt.Errorf("trainer: shared state of round %d is without the moments", f.Round)
	}
	return nil
}

// joinMoments takes over inner moments, where there are some.
func (t *Trainer) joinMoments(f *exchange.Fetched) error {
	from := &f.State
	if f.Moments != nil {
		from = f.Moments
	}
	n, m, v := t.learner.Parameters(), exchange.Find(from.Vectors, MomentM), exchange.Find(from.Vectors, MomentV)
	if len(m) == 0 && len(v) == 0 {
		return nil
	}
	if len(m) != n || len(v) != n {
		return fmt.Errorf("trainer: shared state of round %d has moments of %d and %d values for %d parameters", from.Round, len(m), len(v), n)
	}
	t.learner.WriteMoments(m, v)
	t.updates = from.Updates
	return nil
}

// replay takes the step of a round from its mean.
func (t *Trainer) replay(r exchange.Result) error {
	main := t.strategy.Main()
	if !t.strategy.Equal || main == nil {
		return fmt.Errorf("trainer: round %d: strategy %q has no rounds to replay", t.round, t.cfg.Strategy)
	}
	n, f := t.learner.Parameters(), t.formats[main.Part]
	if want := f.EncodedLen(n); len(r.Bytes) != want {
		return fmt.Errorf("trainer: replay round %d: its mean has %d bytes, want %d", t.round, len(r.Bytes), want)
	}
	if block := f.Check(n, r.Bytes); block >= 0 {
		return fmt.Errorf("trainer: replay round %d: block %d of its mean is nothing that is encoded", t.round, block)
	}
	in := &strategy.Landing{Formats: t.formats}
	in.Means[main.Part] = []exchange.Term{{Bytes: r.Bytes, Share: 1}}
	v := t.vectors
	if v.Round = t.round; t.strategy.EveryStep {
		in.Mean(&v.Vectors, main.Part, v.Grad)
		v.pushGradient()
		t.learner.Update(t.round, t.updates)
		t.updates++
	} else {
		t.strategy.Outer(&v.Vectors, in)
		t.followOuter(in)
		v.restart()
	}
	t.round++
	t.runTokens += r.Tokens
	t.updateDigest()
	return nil
}

// place is where a group is in a round.
type place struct {
	step, round uint64
	since       time.Duration // the round began
}

// enterRound takes the group's place in the round.
func (t *Trainer) enterRound(at place) {
	if t.outer() {
		t.vectors.restart() // whatever was trained is lost
	}
	h := t.cfg.InnerSteps
	if !t.strategy.Equal && at.round > t.round {
		// A replica that is some rounds old is one more that differs: the others pull it in.
		t.round = min(at.round, t.cfg.Rounds-1)
		t.updateDigest()
		t.mark()
	}
	t.step = min(max(at.step, t.round*h), (t.round+1)*h-1)
	t.batch = max(t.batch, t.step) // a former process of this worker may have read as many
	t.clock.begin(t.hooks.Now(), at.since)
	t.publish()
}
