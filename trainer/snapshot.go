package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// Snapshot is the state of a worker between two inner steps, or the part of it
// that workers share. Vectors are flat, of the learner's length; nil where absent.
type Snapshot struct {
	Round   uint64 // rounds completed
	Step    uint64 // position in the schedule
	Tokens  uint64 // trained by this worker
	Updates uint64 // AdamW steps the moments have seen

	RoundTokens uint64  // trained since the last round
	RoundLoss   float64 // Σ of the token losses since the last round

	RunTokens float64 // trained by all workers to get to round Round
	Past      []Mark  // states on the way, oldest first; only of a shared state

	Digest   [32]byte  // of what workers share, as its source said; zero where not known
	Slow     []float32 // φ; in ddp and alone the parameters
	Momentum []float32 // δ or b; nil in ddp and alone
	Fast     []float32 // θ; empty at a round's boundary, where it equals φ
	M, V     []float32 // inner moments
}

// Capture copies the whole state into s, reusing its vectors, so that training can
// go on while the copy is written. It waits for the inner step under way, and fails where
// a device broke.
func (t *Trainer) Capture(ctx context.Context, s *Snapshot) error {
	if err := t.lock(ctx); err != nil {
		return fmt.Errorf("trainer: capture the state: %w", err)
	}
	defer t.unlock()
	return t.capture(s)
}

func (t *Trainer) capture(s *Snapshot) error {
	t.captureShared(s)
	n := t.learner.Parameters()
	s.Tokens, s.Updates = t.tokens, t.updates
	s.RoundTokens, s.RoundLoss = t.roundTokens, t.roundLoss
	s.Fast = s.Fast[:0]
	if t.outer() && t.step != t.round*t.cfg.InnerSteps {
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
		n := t.learner.Parameters()
		s.M, s.V, s.Updates = sized(s.M, n), sized(s.V, n), t.updates
		t.learner.ReadMoments(s.M, s.V)
	}
	return t.stateDigest, t.broken()
}

func (t *Trainer) captureShared(s *Snapshot) {
	n := t.learner.Parameters()
	s.Round, s.Step, s.RunTokens = t.round, t.step, t.runTokens
	s.Past = append(s.Past[:0], t.past...)
	s.Slow = sized(s.Slow, n)
	if t.outer() {
		copy(s.Slow, t.slow)
		s.Momentum = append(s.Momentum[:0], t.momentum...)
	} else {
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
	t.step, t.tokens, t.updates = s.Step, s.Tokens, s.Updates
	t.roundTokens, t.roundLoss = s.RoundTokens, s.RoundLoss
	t.past = t.past[:0]
	t.mark()
	t.saved = savedAt{s.Round, true}
	return t.broken()
}

// Join takes over the state that another worker shared. The inner moments stay as
// they are, but for ddp, where every worker's are the same. It begins at the
// source's place in the round, so that it is ready when the others are.
func (t *Trainer) Join(s *Snapshot) error {
	if err := t.check(s); err != nil {
		return err
	}
	if t.cfg.Strategy == "ddp" {
		if n := t.learner.Parameters(); len(s.M) != n || len(s.V) != n {
			return fmt.Errorf("trainer: shared state of round %d has moments of %d and %d values for %d parameters", s.Round, len(s.M), len(s.V), n)
		}
		t.learner.WriteMoments(s.M, s.V)
		t.updates = s.Updates
	}
	t.adopt(s)
	if s.Digest != ([32]byte{}) && s.Digest != t.stateDigest {
		return fmt.Errorf("trainer: shared state of round %d has digest %x, its source says %x", s.Round, t.stateDigest[:8], s.Digest[:8])
	}
	t.step = min(s.Step, (s.Round+1)*t.cfg.InnerSteps-1)
	t.roundTokens, t.roundLoss = 0, 0
	t.past = t.past[:0] // tokens of its own from before count for nothing in this lineage
	t.mark()
	return nil
}

// adopt takes over φ and momentum and sets θ to φ.
func (t *Trainer) adopt(s *Snapshot) {
	t.round, t.runTokens = s.Round, s.RunTokens
	t.learner.WriteParams(s.Slow)
	if t.outer() {
		copy(t.slow, s.Slow)
		copy(t.momentum, s.Momentum)
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
	slow := t.slow
	if !t.outer() {
		slow = t.delta // scratch between rounds
		t.learner.ReadParams(slow)
	}
	t.slowDigest = Digest(slow)
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64(nil, t.round))
	h.Write(t.slowDigest[:])
	if t.outer() {
		d := Digest(t.momentum)
		h.Write(d[:])
	}
	h.Sum(t.stateDigest[:0])
}

// SlowDigest is the SHA-256 of φ after the last round, in hex.
func (t *Trainer) SlowDigest() string { return hex.EncodeToString(t.slowDigest[:]) }

// Digest is the SHA-256 of a vector as little-endian float32.
func Digest(x []float32) (sum [32]byte) {
	h := sha256.New()
	var buf [4096]byte
	for len(x) > 0 {
		n := min(len(x), len(buf)/4)
		for i, v := range x[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		h.Write(buf[:4*n])
		x = x[n:]
	}
	h.Sum(sum[:0])
	return sum
}

func sized(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n)
	}
	return x[:n]
}
