package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Config says where a Writer writes and what it keeps.
type Config struct {
	// Stages are written in their order. Each is locked while the Writer lives.
	Stages  []Stage
	Log     *slog.Logger // nil logs nothing
	Observe func(Event)  // called from the writer's goroutine, or from Borrow and Save; nil for none
}

// Event is something that happened to a checkpoint.
type Event struct {
	Kind    Kind
	Stage   string // the stage's name; "" for what is no stage's
	Round   uint64
	Path    string // of the checkpoint, or of the stage
	Seconds float64
	Bytes   int64
	Err     error // why it failed or was skipped
}

// Kind says what an Event is about.
type Kind string

// The kinds, in the order of a checkpoint's life.
const (
	Copied   Kind = "copy"     // from Borrow to Save: the time training stood still
	Replaced Kind = "replaced" // a newer snapshot came before this one was begun
	Written  Kind = "written"  // to a stage, or Err
	Skipped  Kind = "skipped"  // an optional stage was left out; Err says why
	Pruned   Kind = "pruned"   // old checkpoints of a stage were removed, or Err
)

// Writer writes snapshots in the background. At most one is being written and one is
// pending; a newer one replaces the pending one, which an event tells. All methods are
// safe for concurrent use.
type Writer struct {
	cfg    Config
	stages []*lockedStage
	ctx    context.Context // ends when Close gives up waiting
	cancel context.CancelFunc

	mu       sync.Mutex
	borrowed map[*State]time.Time
	free     []*State
	pending  *State
	writing  *State        // nil: nothing; tests wait for that
	changed  chan struct{} // closed and replaced at every change
	failed   error         // of the newest snapshot's stages that are not optional
	closed   bool
	done     chan struct{} // closed when the goroutine has ended
}

// buffers is how many snapshots are ever allocated: one being written, and one that is
// pending or being filled.
const buffers = 2

// New locks the stages, which removes what a dead process left half-written there, and
// starts the writer. An optional stage that cannot be locked is left out, which an event
// tells. The stages are locked from the last to the first.
func New(cfg Config) (*Writer, error) {
	if err := checkStages(cfg.Stages); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	w := &Writer{
		cfg: cfg, borrowed: map[*State]time.Time{},
		changed: make(chan struct{}), done: make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if err := w.lockStages(); err != nil {
		w.cancel()
		return nil, err
	}
	go w.run()
	return w, nil
}

// Newest reads the newest checkpoint of all stages that verifies; see the function of that
// name. It is for the time before the first Save.
func (w *Writer) Newest(ctx context.Context) (*State, Entry, []*CorruptError, error) {
	var stores []Store
	for _, s := range w.cfg.Stages {
		stores = append(stores, s.Store)
	}
	return Newest(ctx, stores...)
}

// Borrow returns a buffer to copy a snapshot into, with the vectors it had when it was
// last used, so that their memory can be filled again. It never waits: when both
// buffers are busy it takes back the pending one, which is then replaced.
// Fill in every field, Meta with a map of its own, and give it to Save or to Release.
func (w *Writer) Borrow() *State {
	w.mu.Lock()
	var s *State
	replaced := false
	switch {
	case len(w.free) > 0:
		s = w.free[len(w.free)-1]
		w.free = w.free[:len(w.free)-1]
	case w.pending != nil && w.pending.writer == w:
		s, w.pending, replaced = w.pending, nil, true
		w.broadcast()
	default:
		s = &State{writer: w}
	}
	w.borrowed[s] = time.Now()
	round := s.Round
	w.mu.Unlock()
	if replaced {
		w.noteReplaced(round)
	}
	return s
}

// Release gives back a buffer that is not saved.
func (w *Writer) Release(s *State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.borrowed, s)
	w.recycle(s)
}

// Save hands s over and returns at once; s must not be touched again. It fails when
// the state could not be read back as it is, or after Close. What becomes of the
// write is told by events and by Close.
func (w *Writer) Save(s *State) error {
	if err := s.check(); err != nil {
		return err
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errors.New("checkpoint: save after close")
	}
	since, mine := w.borrowed[s]
	delete(w.borrowed, s)
	round, oldRound, replaces := s.Round, uint64(0), w.pending != nil
	if replaces {
		oldRound = w.pending.Round
		w.recycle(w.pending)
	}
	w.pending = s
	w.broadcast()
	w.mu.Unlock()
	if mine {
		w.cfg.Observe(Event{Kind: Copied, Round: round, Seconds: time.Since(since).Seconds()})
	}
	if replaces {
		w.noteReplaced(oldRound)
	}
	return nil
}

func (w *Writer) noteReplaced(round uint64) {
	w.cfg.Log.Info("checkpoint: a newer snapshot replaces one that was waiting; the disk is slower than the rounds", "round", round)
	w.cfg.Observe(Event{Kind: Replaced, Round: round})
}

// Close writes what is pending, removes what a stage holds only in transit, and unlocks
// the stages. Its error is that of the newest snapshot. When ctx ends first it returns an
// error, and the writer stops by itself once the stores let it.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.broadcast()
	w.mu.Unlock()
	select {
	case <-w.done:
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.failed
	case <-ctx.Done():
		w.cancel()
		last := w.stages[len(w.stages)-1]
		return fmt.Errorf("checkpoint: close: %s is still being written: %w", last.path(), ctx.Err())
	}
}

// broadcast wakes all that wait for a change. The caller holds mu.
func (w *Writer) broadcast() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// recycle keeps a buffer of this Writer for the next Borrow. The caller holds mu.
func (w *Writer) recycle(s *State) {
	if s.writer == w && len(w.free) < buffers {
		w.free = append(w.free, s)
	}
}

// run is the writer's goroutine: it writes the pending snapshot until Close has been
// called and nothing is pending.
func (w *Writer) run() {
	defer close(w.done)
	defer w.cancel()
	for {
		s := w.next()
		if s == nil {
			break
		}
		err := w.write(s)
		w.mu.Lock()
		w.failed, w.writing = err, nil
		w.recycle(s)
		w.broadcast()
		w.mu.Unlock()
	}
	w.unlockStages()
}

// next waits for a pending snapshot and makes it the one being written; nil after
// Close. It ends with Close, so it needs no deadline of its own.
func (w *Writer) next() *State {
	for {
		w.mu.Lock()
		s, changed, closed := w.pending, w.changed, w.closed
		if s != nil {
			w.pending, w.writing = nil, s
			w.mu.Unlock()
			return s
		}
		w.mu.Unlock()
		if closed {
			return nil
		}
		<-changed
	}
}
