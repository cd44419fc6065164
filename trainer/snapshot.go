package trainer

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/trainer/strategy"
)

// Names of the vectors of a snapshot that no strategy declares. Those that one does have its names.
const (
	Fast    = "fast" // θ amid a round; at a round's boundary it equals φ and is left out
	MomentM = "m"    // the inner optimizer's moments
	MomentV = "v"
)

// Snapshot is the state of a worker between two inner steps. Its vectors are flat and of the
// learner's length: those that the strategy saves, φ first, then θ and the inner moments.
type Snapshot struct {
	Round   uint64 // rounds completed
	Step    uint64 // position in the schedule
	Tokens  uint64 // trained by this worker
	Trained uint64 // its inner steps
	Updates uint64 // steps that the inner moments have seen
	Batch   uint64 // batches of its data that this worker has read

	// What was trained since this worker's last contribution: Σ of token losses, and how
	// many rounds were averaged without it since.
	RoundSteps, RoundTokens uint64
	RoundLoss               float64
	Carried                 uint64
	RoundTime               time.Duration // since the last round

	RunTokens float64  // trained by all workers to get to round Round
	Past      []Passed // states on the way, oldest first

	Vectors []exchange.Named
}

// Vector returns a vector by name, nil where there is none.
func (s *Snapshot) Vector(name string) []float32 { return exchange.Find(s.Vectors, name) }

// grow appends a vector of n values, in memory that the snapshot had under the same index before.
func grow(vectors []exchange.Named, name string, n int) ([]exchange.Named, []float32) {
	var data []float32
	if i := len(vectors); i < cap(vectors) {
		data = vectors[:i+1][i].Data
	}
	if len(data) != n {
		data = make([]float32, n)
	}
	return append(vectors, exchange.Named{Name: name, Data: data}), data
}

// capture copies the whole state into s, reusing its vectors, so that training can go on
// while the copy is written. It fails where a device broke.
func (t *Trainer) capture(s *Snapshot) error {
	t.captureOuter(s)
	s.Tokens, s.Trained, s.Updates, s.Batch = t.tokens, t.trained, t.updates, t.batch
	s.RoundSteps, s.RoundTokens, s.RoundLoss, s.Carried = t.pending.steps, t.pending.tokens, t.pending.loss, t.pending.rounds
	s.Past = t.keepPast(s.Past[:0])
	s.Vectors = t.moments(s.Vectors)
	if t.outer() && t.pending.steps > 0 {
		var fast []float32
		s.Vectors, fast = grow(s.Vectors, Fast, t.learner.Parameters())
		t.learner.ReadParams(fast)
	}
	return t.broken()
}

// captureOuter copies what the strategy saves, and where the worker is.
func (t *Trainer) captureOuter(s *Snapshot) {
	s.Round, s.Step, s.RunTokens, s.RoundTime = t.round, t.step, t.runTokens, t.roundTime()
	s.Vectors = t.copyVectors(s.Vectors[:0], func(spec strategy.Spec) bool { return spec.Saved })
}

// copyVectors appends copies of the strategy's vectors for which use is true, and of θ under the name
// of φ where there is none.
func (t *Trainer) copyVectors(to []exchange.Named, use func(strategy.Spec) bool) []exchange.Named {
	n := t.learner.Parameters()
	var dst []float32
	if !t.outer() {
		to, dst = grow(to, strategy.Slow, n)
		t.learner.ReadParams(dst)
		return to
	}
	if t.mirror != nil {
		t.mirror.wait()
	}
	for _, spec := range t.strategy.Vectors {
		if !use(spec) {
			continue
		}
		to, dst = grow(to, spec.Name, n)
		if t.mirror != nil {
			copy(dst, kernels.HostValues(t.mirror.Of(spec.Name)))
		} else {
			t.vectors.Download(dst, t.vectors.Of(spec.Name))
		}
	}
	return to
}

// moments appends copies of the inner moments.
func (t *Trainer) moments(to []exchange.Named) []exchange.Named {
	n := t.learner.Parameters()
	to, m := grow(to, MomentM, n)
	to, v := grow(to, MomentV, n)
	t.learner.ReadMoments(m, v)
	return to
}

// Restore takes over a worker's own snapshot. Training goes on exactly as if it had
// not stopped.
func (t *Trainer) Restore(s *Snapshot) error {
	if err := t.checkPlace(s.Round, s.Step); err != nil {
		return err
	}
	n := t.learner.Parameters()
	fast, m, v := s.Vector(Fast), s.Vector(MomentM), s.Vector(MomentV)
	if len(m) != n || len(v) != n || len(fast) != 0 && len(fast) != n {
		return fmt.Errorf("trainer: snapshot of round %d has inner state of %d, %d and %d values for %d parameters", s.Round, len(fast), len(m), len(v), n)
	}
	if err := t.adopt(s.Round, s.RunTokens, s.Vectors, func(spec strategy.Spec) bool { return spec.Saved }); err != nil {
		return err
	}
	if len(fast) > 0 {
		t.learner.WriteParams(fast)
	}
	t.learner.WriteMoments(m, v)
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

// adopt takes over vectors of the state that a round begins from, those for which use is true, and
// sets θ to φ. The strategy's other vectors stay as they are. It fails before it changes anything.
func (t *Trainer) adopt(round uint64, runTokens float64, from []exchange.Named, use func(strategy.Spec) bool) error {
	n := t.learner.Parameters()
	specs := slices.DeleteFunc(slices.Clone(t.strategy.Vectors), func(s strategy.Spec) bool { return !use(s) })
	if !t.outer() {
		specs = []strategy.Spec{strategy.State(strategy.Slow)}
	}
	for _, spec := range specs {
		if got := len(exchange.Find(from, spec.Name)); got != n {
			return fmt.Errorf("trainer: state of round %d has %d values of vector %q for %d parameters", round, got, spec.Name, n)
		}
	}
	t.round, t.runTokens = round, runTokens
	if !t.outer() {
		t.learner.WriteParams(exchange.Find(from, strategy.Slow))
		t.updateDigest()
		return nil
	}
	fill := func(v *vectors) {
		for _, spec := range specs {
			v.Upload(v.Of(spec.Name), exchange.Find(from, spec.Name))
		}
	}
	fill(t.vectors)
	t.vectors.restart()
	t.mirror.follow(fill)
	t.mirror.wait()
	t.updateDigest()
	return nil
}

// checkPlace refuses a step that is not within its round.
func (t *Trainer) checkPlace(round, step uint64) error {
	if h := t.cfg.InnerSteps; round > math.MaxUint64/h-1 || step < round*h || step > (round+1)*h {
		return fmt.Errorf("trainer: state of round %d is at step %d, which is not within that round of %d steps", round, step, h)
	}
	return nil
}

// updateDigest hashes φ, and with it everything else that replicas must agree on.
func (t *Trainer) updateDigest() {
	t.sums = t.vectors.sums()
	t.stateDigest = t.strategy.Root(t.round, t.sums)
}

// SlowDigest is the digest of φ after the last round, in hex.
func (t *Trainer) SlowDigest() string {
	sum := t.sums[strategy.Slow]
	return hex.EncodeToString(sum[:])
}
