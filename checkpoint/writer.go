package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config says where a Writer writes and what it keeps.
type Config struct {
	// Dir is the durable folder, one for each worker. It is locked while the Writer
	// lives.
	Dir string
	// Tmpfs is a folder in memory, such as /dev/shm, in which the newest checkpoint is
	// written first, so that it outlives the process before the disk has it. It is
	// left out, with a message, when it is not in memory or has no room. "" is none.
	Tmpfs string
	// Keep is how many of the newest checkpoints stay, at least 1.
	Keep int
	// KeepEvery keeps the rounds that are a multiple of it for ever. 0 keeps none.
	KeepEvery int
	Log       *slog.Logger // nil logs nothing
	Observe   func(Event)  // called from the writer's goroutine, or from Borrow and Save; nil for none
}

// Event is something that happened to a checkpoint.
type Event struct {
	Stage   Stage
	Round   uint64
	Path    string // of the folder written to
	Seconds float64
	Bytes   int64
	Err     error // why a stage failed or was skipped
}

// Stage says what an Event is about.
type Stage string

// The stages, in the order of a checkpoint's life.
const (
	Copied   Stage = "copy"     // from Borrow to Save: the time training stood still
	Tmpfs    Stage = "tmpfs"    // written to memory
	Durable  Stage = "durable"  // written to the durable folder
	Skipped  Stage = "skipped"  // the tmpfs stage was left out; Err says why
	Replaced Stage = "replaced" // a newer snapshot came before this one was begun
	Pruned   Stage = "pruned"   // old checkpoints were removed, or Err
)

// Writer writes snapshots in the background. At most one is being written and one is
// pending; a newer one replaces the pending one, which an event tells. All methods are
// safe for concurrent use.
type Writer struct {
	cfg      Config
	fs       fileSystem
	shm      string // tmpfs folder of this Dir, "" for none
	lockFile *os.File

	mu       sync.Mutex
	borrowed map[*State]time.Time
	free     []*State
	pending  *State
	writing  *State        // nil: nothing; tests wait for that
	changed  chan struct{} // closed and replaced at every change
	failed   error         // of the newest durable write
	closed   bool
	done     chan struct{} // closed when the goroutine has ended
}

// buffers is how many snapshots are ever allocated: one being written, and one that is
// pending or being filled.
const buffers = 2

// New locks the durable folder, removes what a dead process left half-written there,
// and starts the writer.
func New(cfg Config) (*Writer, error) { return newWriter(cfg, disk{}) }

func newWriter(cfg Config, fs fileSystem) (*Writer, error) {
	if cfg.Dir == "" || cfg.Keep < 1 || cfg.KeepEvery < 0 {
		return nil, fmt.Errorf("checkpoint: dir %q, keep %d, keep every %d: a folder, at least 1 and at least 0 are needed", cfg.Dir, cfg.Keep, cfg.KeepEvery)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Event) {}
	}
	if err := fs.MakeDirs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	held, err := lock(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: lock: %w; give each worker a folder of its own", err)
	}
	w := &Writer{
		cfg: cfg, fs: fs, lockFile: held, borrowed: map[*State]time.Time{},
		changed: make(chan struct{}), done: make(chan struct{}),
	}
	if err := sweep(fs, cfg.Dir); err != nil {
		held.Close()
		return nil, err
	}
	w.openTmpfs()
	go w.run()
	return w, nil
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
		w.cfg.Observe(Event{Stage: Copied, Round: round, Seconds: time.Since(since).Seconds()})
	}
	if replaces {
		w.noteReplaced(oldRound)
	}
	return nil
}

func (w *Writer) noteReplaced(round uint64) {
	w.cfg.Log.Info("checkpoint: a newer snapshot replaces one that was waiting; the disk is slower than the rounds", "round", round)
	w.cfg.Observe(Event{Stage: Replaced, Round: round})
}

// Close writes what is pending, stops the writer and unlocks the folder. When ctx ends
// first it returns an error, and the writer stops by itself after the file system
// lets it. The copy in memory is removed when the durable folder has it.
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
		return fmt.Errorf("checkpoint: close: %s is still being written: %w", w.cfg.Dir, ctx.Err())
	}
}

// broadcast wakes everybody who waits for a change. The caller holds mu.
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
