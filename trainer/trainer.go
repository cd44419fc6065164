package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer/strategy"
)

// Config is what the loops need to know. Counts of rounds are of the configured
// rounds of InnerSteps steps, also in ddp.
type Config struct {
	Strategy         string // one of strategy.Names
	strategy.Options        // of its outer step
	Worker           int    // this worker's number
	Rounds           uint64 // length of the run
	// InnerSteps is H: the steps of a round, and its width in the schedule whatever a worker
	// takes. With InnerTime it is the most that a worker takes.
	InnerSteps uint64
	// InnerTime ends the inner phase this long after the round before, to the nearest whole
	// step, so that slow and fast workers are ready together; 0: after InnerSteps.
	InnerTime time.Duration
	InnerLR   func(step, updates uint64) float64

	// Format is how pseudo-gradients and gradients cross the network, StateFormat how
	// φ does.
	Format, StateFormat kernels.Format
	// Host computes in the host's memory: the outer steps of a learner that is not Near, and
	// the host's copy of those that a device takes. Nil: one thread does.
	Host Device
	// OuterOnHost keeps the outer state in the host's memory though the learner is Near.
	OuterOnHost bool

	EvalEvery uint64 // rounds between evaluations; 0 = only at the end
	SaveEvery uint64 // rounds between checkpoints; 0 = only when it stops
	StopAfter uint64 // stop cleanly when this many rounds are done; 0 = Rounds
}

// Hooks connect the loops to the rest of a worker. All but Fetch and Average may be
// nil. They are called from the goroutine of Run, between inner steps.
type Hooks struct {
	Average Averager
	// Fetch gets the state of the others when this worker is behind. It returns exchange.ErrNobody
	// when there is nobody to ask; the worker then goes on from its own state.
	Fetch func(ctx context.Context) (*exchange.Fetched, error)
	// Exchanged is told of every exchange that was collected, before its outcome is used.
	Exchanged func(round uint64, part exchange.Part, out exchange.Outcome, err error)
	// Save hands a checkpoint over: capture copies the state. Where capture fails nothing
	// may be kept.
	Save func(ctx context.Context, capture func(*Snapshot) error) error
	// Report receives *RoundEvent, *EvalEvent, *StepEvent and *ResyncEvent.
	Report func(event any)
	// Now is the clock that phases are measured with.
	Now func() time.Time
}

// ErrStopped is returned by Run when it was asked to stop before the run's end.
var ErrStopped = errors.New("stopped before the end of the run")

// ErrDiverged is wrapped by Run's error when a loss or a weight is not finite.
var ErrDiverged = errors.New("training diverged")

// Trainer is one worker's training state.
type Trainer struct {
	cfg      Config
	strategy strategy.Strategy
	formats  [exchange.Parts]kernels.Format
	hooks    Hooks
	learner  Learner
	sem      chan struct{} // held while the state changes

	round, step, tokens, updates uint64
	trained                      uint64  // inner steps of this worker
	batch                        uint64  // batches read: its place in the data
	runTokens                    float64 // trained by all workers to get to the last round's state
	pending                      pending
	ungiven                      uint64 // tokens of a gradient that is not in a step yet
	lost                         given  // since this process began
	clock                        roundClock
	lastNorm                     float64
	innerSeconds                 float64

	vectors     *vectors
	mirror      *mirror                   // nil where the host has the outer state
	encoded     [exchange.Parts][2][]byte // what crosses of each part, of even and of odd rounds
	flights     []*flight                 // begun and not collected
	sums        map[string][32]byte       // of the vectors by which the state is known
	stateDigest [32]byte
	past        []Passed // newest last; never empty
	head        atomic.Pointer[head]

	saved   savedAt
	misfits int // fetches in a row whose rounds did not fit
}

// New prepares a trainer at step 0 with the learner's present parameters as φ.
func New(cfg Config, learner Learner, hooks Hooks) (*Trainer, error) {
	row, err := strategy.New(cfg.Strategy, cfg.Options)
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	return newTrainer(cfg, row, learner, hooks)
}

// newTrainer is New with a strategy that need not be in the registry.
func newTrainer(cfg Config, row strategy.Strategy, learner Learner, hooks Hooks) (*Trainer, error) {
	if cfg.InnerSteps == 0 || cfg.Rounds == 0 || cfg.Rounds > math.MaxUint32 || cfg.InnerSteps > math.MaxUint32 {
		return nil, fmt.Errorf("trainer: %d rounds of %d inner steps: allowed are 1 to 2^32-1 of each", cfg.Rounds, cfg.InnerSteps)
	}
	if cfg.StopAfter == 0 || cfg.StopAfter > cfg.Rounds {
		cfg.StopAfter = cfg.Rounds
	}
	if cfg.InnerTime < 0 || cfg.InnerTime > 0 && row.EveryStep {
		return nil, fmt.Errorf("trainer: inner time of %v with strategy %q: allowed is 0 or more, and 0 where a round is one step", cfg.InnerTime, cfg.Strategy)
	}
	for _, c := range row.Crossings {
		if c.Part == exchange.Delta && c.Under >= cfg.InnerSteps {
			return nil, fmt.Errorf("trainer: what is learnt flies under %d inner steps of a round's %d: allowed are fewer than those", c.Under, cfg.InnerSteps)
		}
	}
	if hooks.Average == nil && len(row.Crossings) > 0 {
		return nil, fmt.Errorf("trainer: strategy %q needs an averager", cfg.Strategy)
	}
	if hooks.Report == nil {
		hooks.Report = func(any) {}
	}
	if hooks.Now == nil {
		hooks.Now = time.Now
	}
	t := &Trainer{cfg: cfg, strategy: row, hooks: hooks, learner: learner, sem: make(chan struct{}, 1)}
	t.formats = [exchange.Parts]kernels.Format{exchange.Delta: cfg.Format, exchange.Slow: cfg.StateFormat}
	if row.EveryStep { // every step is a round
		t.cfg.Rounds *= cfg.InnerSteps
		t.cfg.EvalEvery *= cfg.InnerSteps
		t.cfg.SaveEvery *= cfg.InnerSteps
		t.cfg.StopAfter *= cfg.InnerSteps
		t.cfg.InnerSteps = 1
	}
	if err := t.place(); err != nil {
		return nil, err
	}
	t.updateDigest()
	t.mark()
	return t, nil
}

// place takes memory for the vectors and makes φ the learner's present parameters.
func (t *Trainer) place() (err error) {
	if t.cfg.Host == nil {
		if t.cfg.Host, err = cpu.New(1, kernels.FP32); err != nil {
			return fmt.Errorf("trainer: %w", err)
		}
	}
	if t.vectors, err = newVectors(&t.cfg, &t.strategy, t.learner); err != nil {
		return err
	}
	if t.outer() {
		t.vectors.pull()
		t.vectors.Copy(t.vectors.slow(), t.vectors.Fast)
	}
	t.mirror, err = newMirror(&t.cfg, t.vectors)
	return err
}

// Strategy is what the trainer runs.
func (t *Trainer) Strategy() strategy.Strategy { return t.strategy }

// OuterDevice says what computes the outer steps.
func (t *Trainer) OuterDevice() string { return t.vectors.Name() }

// outer says whether the strategy has slow weights of its own.
func (t *Trainer) outer() bool { return t.vectors.slow() != nil }

// Position returns the rounds completed, the schedule's step and the tokens trained
// by this worker. Call it between runs, or from a hook.
func (t *Trainer) Position() (round, step, tokens uint64) { return t.round, t.step, t.tokens }

// Pending returns the inner steps and tokens that this worker has trained and not
// contributed yet. Call it as Position.
func (t *Trainer) Pending() (steps, tokens uint64) { return t.pending.steps, t.pending.tokens }

// Updates is the number of steps that the inner moments have seen. Call it as Position.
func (t *Trainer) Updates() uint64 { return t.updates }

// Rounds is the length of the run in exchanges: in ddp every inner step is one.
func (t *Trainer) Rounds() uint64 { return t.cfg.Rounds }

// Steps is the length of the run in steps of the schedule.
func (t *Trainer) Steps() uint64 { return t.cfg.Rounds * t.cfg.InnerSteps }

// Run trains until the run's end, or until StopAfter, or until stop is closed,
// and then returns ErrStopped in the last two cases. A stop takes effect between
// inner steps, or while the others are waited for; an exchange under way is
// finished first. Cancelling ctx ends everything at once. Where a device breaks, what the
// host has of the state is saved, and the error wraps ErrDevice.
func (t *Trainer) Run(ctx context.Context, stop <-chan struct{}) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	err := t.rounds(ctx, stop)
	if errors.Is(err, ErrDevice) {
		return errors.Join(err, t.salvage(ctx))
	}
	return err
}

// rounds is Run with the state held.
func (t *Trainer) rounds(ctx context.Context, stop <-chan struct{}) error {
	soft, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-soft.Done():
		}
	}()
	defer t.dropFlights()
	t.clock.run(t.hooks.Now())
	defer func() { t.clock.stop(t.hooks.Now()) }()
	for t.round < t.cfg.StopAfter {
		err := t.oneRound(soft)
		switch {
		case t.round >= t.cfg.StopAfter: // done, whatever was asked meanwhile
		case soft.Err() != nil && ctx.Err() == nil && (err == nil || errors.Is(err, context.Canceled)):
			return t.stopped(ctx)
		}
		if errors.Is(err, ErrDiverged) || errors.Is(err, ErrDevice) {
			return err // what is in memory is of no use
		}
		if err != nil {
			t.dropFlights()
			return errors.Join(err, t.save(ctx))
		}
	}
	if t.round < t.cfg.Rounds {
		return t.stopped(ctx)
	}
	return t.save(ctx)
}

func (t *Trainer) stopped(ctx context.Context) error {
	t.dropFlights()
	if err := t.save(ctx); err != nil {
		return err
	}
	return ErrStopped
}

func (t *Trainer) save(ctx context.Context) error {
	if t.hooks.Save == nil {
		return nil
	}
	if err := t.hooks.Save(ctx, t.capture); err != nil {
		return fmt.Errorf("trainer: save round %d: %w", t.round, err)
	}
	t.saved = savedAt{t.round, true}
	return nil
}

// yield lets Share have the state between two inner steps.
// It holds the state no longer than a copy takes.
func (t *Trainer) yield() {
	t.unlock()
	t.sem <- struct{}{}
}

func (t *Trainer) lock(ctx context.Context) error {
	select {
	case t.sem <- struct{}{}:
		return nil
	default:
	}
	select {
	case t.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *Trainer) unlock() { <-t.sem }
