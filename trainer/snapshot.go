package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
)

// Snapshot is the state of a worker between two inner steps, or the part of it
// that workers share. Vectors are flat, of the learner's length; nil where absent.
type Snapshot struct {
	Round   uint64 // rounds completed
	Step    uint64 // position in the schedule
	Tokens  uint64 // trained by this worker
	Trained uint64 // its inner steps
	Updates uint64 // AdamW steps the moments have seen

	Batch uint64 // batches of its data that this worker has read

	// What was trained since this worker's last contribution: Σ of token losses, and how
	// many rounds were averaged without it since.
	RoundSteps, RoundTokens uint64
	RoundLoss               float64
	Carried                 uint64
	RoundTime               time.Duration // since the last round; of a state that was fetched, the group's

	RunTokens float64 // trained by all workers to get to round Round
	Past      []Mark  // states on the way, oldest first; of a worker's own snapshot with its tokens

	Digest   [32]byte  // of what workers share, as its source said; zero where not known
	Slow     []float32 // φ; in ddp and alone the parameters
	Momentum []float32 // δ or b; nil in ddp and alone
	Fast     []float32 // θ; empty at a round's boundary, where it equals φ
	M, V     []float32 // inner moments

	// Of a state that was fetched: the rounds since, and where the group is by now. Where
	// Slow is nil the trainer goes on from its own state, whose digest Digest is.
	Replay                []Replay
	GroupRound, GroupStep uint64
}

// Replay is the mean of a round that others have committed.
type Replay struct {
	Tokens float64 // Σ of the weights in it
	Mean   []byte  // of Config.Format; not to be changed until the trainer has it
}

// End returns the round and the tokens of the state that the replay leads to.
func (s *Snapshot) End() (round uint64, tokens float64) {
	round, tokens = s.Round, s.RunTokens
	for _, r := range s.Replay {
		round, tokens = round+1, tokens+r.Tokens
	}
	return round, tokens
}

// capture copies the whole state into s, reusing its vectors, so that training can go on
// while the copy is written. It fails where a device broke.
func (t *Trainer) capture(s *Snapshot) error {
	t.captureShared(s)
	n := t.learner.Parameters()
	s.Tokens, s.Trained, s.Updates, s.Batch = t.tokens, t.trained, t.updates, t.batch
	s.RoundSteps, s.RoundTokens, s.RoundLoss, s.Carried = t.pending.steps, t.pending.tokens, t.pending.loss, t.pending.rounds
	s.Past = t.keepPast(s.Past[:0])
	s.Fast = s.Fast[:0]
	if t.outer() && t.pending.steps > 0 {
		s.Fast = sized(s.Fast, n)
		t.learner.ReadParams(s.Fast)
	}
	s.M, s.V = sized(s.M, n), sized(s.V, n)
	t.learner.ReadMoments(s.M, s.V)
	return t.broken()
}

// CaptureShared copies what a joiner needs into s: φ and momentum, and in ddp the
// moments, which are the same on every worker.
func (t *Trainer) CaptureShared(ctx context.Context, s *Snapshot) (digest [32]byte, err error) {
	if err := t.lock(ctx); err != nil {
		return digest, fmt.Errorf("trainer: capture the state for a joiner: %w", err)
	}
	defer t.unlock()
	t.captureShared(s)
	if t.cfg.Strategy == "ddp" {
		t.captureMoments(s)
	}
	return t.stateDigest, t.broken()
}

// CaptureMoments copies the inner moments for a joiner.
func (t *Trainer) CaptureMoments(ctx context.Context, s *Snapshot) error {
	if err := t.lock(ctx); err != nil {
		return fmt.Errorf("trainer: capture the moments for a joiner: %w", err)
	}
	defer t.unlock()
	s.Round = t.round
	t.captureMoments(s)
	return nil
}

func (t *Trainer) captureMoments(s *Snapshot) {
	n := t.learner.Parameters()
	s.M, s.V, s.Updates = sized(s.M, n), sized(s.V, n), t.updates
	t.learner.ReadMoments(s.M, s.V)
}

func (t *Trainer) captureShared(s *Snapshot) {
	n := t.learner.Parameters()
	s.Round, s.Step, s.RunTokens, s.RoundTime = t.round, t.step, t.runTokens, t.roundTime()
	s.Slow = sized(s.Slow, n)
	switch {
	case t.mirror != nil:
		t.mirror.wait()
		copy(s.Slow, kernels.HostValues(t.mirror.slow))
		s.Momentum = append(s.Momentum[:0], kernels.HostValues(t.mirror.momentum)...)
	case t.outer():
		s.Momentum = sized(s.Momentum, n)
		t.vectors.Download(s.Slow, t.vectors.slow)
		t.vectors.Download(s.Momentum, t.vectors.momentum)
	default:
		t.learner.ReadParams(s.Slow)
	}
}

// Restore takes over a worker's own snapshot. Training goes on exactly as if it had
// not stopped.
func (t *Trainer) Restore(s *Snapshot) error {
	if err := t.check(s); err != nil {
		return err
	}
	n := t.learner.Parameters()
	if len(s.M) != n || len(s.V) != n || len(s.Fast) != 0 && len(s.Fast) != n {
		return fmt.Errorf("trainer: snapshot of round %d has inner state of %d, %d and %d values for %d parameters", s.Round, len(s.Fast), len(s.M), len(s.V), n)
	}
	t.adopt(s)
	if len(s.Fast) > 0 {
		t.learner.WriteParams(s.Fast)
	}
	t.learner.WriteMoments(s.M, s.V)
	t.step, t.tokens, t.trained, t.updates, t.batch = s.Step, s.Tokens, s.Trained, s.Updates, s.Batch
	t.pending = pending{s.RoundSteps, s.RoundTokens, s.RoundLoss, s.Carried, s.RoundSteps > 0}
	t.clock.begin(t.hooks.Now(), s.RoundTime)
	t.past = t.past[:0]
	for _, m := range s.Past {
		if m.Round < s.Round { // the last is the state itself
			t.past = append(t.past, m)
		}
	}
	t.mark()
	t.saved = savedAt{s.Round, true}
	return t.broken()
}

// Join takes over the state that others shared and replays the rounds since: the same
// means through the same outer step give the group's bits, which each digest in Past is
// compared with. In ddp the inner moments are part of the state; otherwise they are taken
// over where there are some, and stay as they are where there are none. It begins at the
// group's place in the round, so that it is ready when the others are.
func (t *Trainer) Join(s *Snapshot) error {
	own, mine := slices.Clone(t.past), t.contributed()
	if s.Slow == nil {
		if s.Round != t.round || s.Digest != t.stateDigest {
			return fmt.Errorf("trainer: the rounds to replay begin at round %d with digest %x, this worker is at round %d with %x", s.Round, s.Digest[:8], t.round, t.stateDigest[:8])
		}
	} else if err := t.joinState(s); err != nil {
		return err
	}
	if err := t.joinMoments(s); err != nil {
		return err
	}
	t.lose()
	known := map[uint64][32]byte{}
	for _, m := range s.Past {
		known[m.Round] = m.Digest
	}
	if s.Slow != nil {
		t.markOthers(s.Past)
	}
	err := t.replayAll(s.Replay, known)
	t.recall(own, mine)
	if err != nil {
		return err
	}
	t.enterRound(s)
	return nil
}

// replayAll replays rounds whose digests are known. Where it fails the trainer is as before.
func (t *Trainer) replayAll(rounds []Replay, known map[uint64][32]byte) error {
	if len(rounds) == 0 {
		return nil
	}
	var before Snapshot
	marks := len(t.past)
	t.captureShared(&before)
	if t.cfg.Strategy == "ddp" {
		t.captureMoments(&before)
	}
	for _, r := range rounds {
		err := t.replay(r)
		if want, ok := known[t.round]; err == nil && ok && want != t.stateDigest {
			err = fmt.Errorf("trainer: the state of round %d has digest %x after a replay, the group's is %x", t.round, t.stateDigest[:8], want[:8])
		}
		if err != nil {
			t.adopt(&before)
			if t.cfg.Strategy == "ddp" {
				t.learner.WriteMoments(before.M, before.V)
				t.updates = before.Updates
			}
			t.past = t.past[:min(len(t.past), marks)]
			t.enterRound(&before)
			return fmt.Errorf("%w: %w", errReplay, err)
		}
		t.mark()
	}
	return nil
}

// errReplay is wrapped where the rounds that were fetched do not lead to the group's state.
var errReplay = errors.New("the rounds that were fetched do not fit this worker's state")

// joinState takes over the vectors of a state.
func (t *Trainer) joinState(s *Snapshot) error {
	if s.Step == 0 && s.Round <= t.cfg.Rounds {
		s.Step = s.Round * t.cfg.InnerSteps // the group's place comes later
	}
	if err := t.check(s); err != nil {
		return err
	}
	t.adopt(s)
	if s.Digest != ([32]byte{}) && s.Digest != t.stateDigest {
		return fmt.Errorf("trainer: shared state of round %d has digest %x, its source says %x", s.Round, t.stateDigest[:8], s.Digest[:8])
	}
	if t.cfg.Strategy == "ddp" && len(s.M) == 0 {
		return fmt.Errorf("trainer: shared state of round %d is without the moments", s.Round)
	}
	return nil
}

// joinMoments takes over inner moments, where there are some.
func (t *Trainer) joinMoments(s *Snapshot) error {
	n := t.learner.Parameters()
	if len(s.M) == 0 && len(s.V) == 0 {
		return nil
	}
	if len(s.M) != n || len(s.V) != n {
		return fmt.Errorf("trainer: shared state of round %d has moments of %d and %d values for %d parameters", s.Round, len(s.M), len(s.V), n)
	}
	t.learner.WriteMoments(s.M, s.V)
	t.updates = s.Updates
	return nil
}

// replay takes the outer step of a round from its mean; in ddp that is the inner step.
func (t *Trainer) replay(r Replay) error {
	n := t.learner.Parameters()
	if want := t.cfg.Format.EncodedLen(n); len(r.Mean) != want {
		return fmt.Errorf("trainer: replay round %d: its mean has %d bytes, want %d", t.round, len(r.Mean), want)
	}
	if block := t.cfg.Format.Check(n, r.Mean); block >= 0 {
		return fmt.Errorf("trainer: replay round %d: block %d of its mean is nothing that is encoded", t.round, block)
	}
	mean := []exchange.Term{{Bytes: r.Mean, Share: 1}}
	switch t.cfg.Strategy {
	case "diloco":
		t.outerStep(mean)
		t.vectors.restart()
	case "ddp":
		t.vectors.apply(t.vectors.grad, t.cfg.Format, mean)
		t.vectors.pushGradient()
		t.learner.Update(t.round, t.updates)
		t.updates++
	default:
		return fmt.Errorf("trainer: round %d: strategy %q has no rounds to replay", t.round, t.cfg.Strategy)
	}
	t.round++
	t.runTokens += r.Tokens
	t.updateDigest()
	return nil
}

// enterRound takes the group's place in the round.
func (t *Trainer) enterRound(s *Snapshot) {
	if t.outer() {
		t.vectors.restart() // whatever was trained is lost
	}
	h := t.cfg.InnerSteps
	step := max(s.Step, s.GroupStep)
	if t.cfg.Strategy == "noloco" && s.GroupRound > t.round {
		// A replica that is some rounds old is one more that differs: pairs pull it in.
		t.round = min(s.GroupRound, t.cfg.Rounds-1)
		t.updateDigest()
		t.mark()
	}
	t.step = min(max(step, t.round*h), (t.round+1)*h-1)
	t.batch = max(t.batch, t.step) // a former process of this worker may have read as many
	t.clock.begin(t.hooks.Now(), s.RoundTime)
	t.publish()
}

// adopt takes over φ and momentum and sets θ to φ.
func (t *Trainer) adopt(s *Snapshot) {
	t.round, t.runTokens = s.Round, s.RunTokens
	if v := t.vectors; t.outer() {
		v.Upload(v.slow, s.Slow)
		v.Upload(v.momentum, s.Momentum)
		v.restart()
		t.mirror.follow(func(m *vectors) {
			m.Upload(m.slow, s.Slow)
			m.Upload(m.momentum, s.Momentum)
		})
		t.mirror.wait()
	} else {
		t.learner.WriteParams(s.Slow)
	}
	t.updateDigest()
}

// check refuses a snapshot that does not fit this run.
func (t *Trainer) check(s *Snapshot) error {
	n, h := t.learner.Parameters(), t.cfg.InnerSteps
	switch {
	case len(s.Slow) != n:
		return fmt.Errorf("trainer: state of round %d has %d parameters, the model %d", s.Round, len(s.Slow), n)
	case t.outer() && len(s.Momentum) != n:
		return fmt.Errorf("trainer: state of round %d has an outer momentum of %d values for %d parameters", s.Round, len(s.Momentum), n)
	case s.Round > math.MaxUint64/h-1 || s.Step < s.Round*h || s.Step > (s.Round+1)*h:
		return fmt.Errorf("trainer: state of round %d is at step %d, which is not within that round of %d steps", s.Round, s.Step, h)
	}
	return nil
}

// updateDigest hashes φ, and with it everything else that replicas must agree on.
func (t *Trainer) updateDigest() {
	t.sums = t.vectors.sums()
	if t.outer() {
		t.stateDigest = StateDigest(t.round, t.sums.slow, t.sums.momentum)
	} else {
		t.stateDigest = StateDigest(t.round, t.sums.slow)
	}
}

// StateDigest is what workers that average agree on: the SHA-256 of the round (8 bytes,
// little-endian) and the digest ([kernels.Digest]) of φ and, with an outer optimiser, of its
// momentum.
func StateDigest(round uint64, sums ...[32]byte) (digest [32]byte) {
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64(nil, round))
	for _, s := range sums {
		h.Write(s[:])
	}
	h.Sum(digest[:0])
	return digest
}

// SlowDigest is the digest of φ after the last round, in hex.
func (t *Trainer) SlowDigest() string { return hex.EncodeToString(t.sums.slow[:]) }

func sized(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}
