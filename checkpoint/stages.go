package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The names of the stages of [Local].
const (
	InMemory = "tmpfs"   // outlives the process
	Durable  = "durable" // outlives the machine's power
)

// Stage is a store that every snapshot is written to, and what stays there.
type Stage struct {
	Name  string // in events
	Store Store
	// Keep is how many of the newest checkpoints stay. 0 is a stage in transit: it holds
	// the newest alone, which goes at Close when a later stage has it, or earlier where
	// there is no room.
	Keep int
	// KeepEvery keeps the rounds that are a multiple of it for ever. 0 keeps none.
	KeepEvery int
	// Optional stages that fail are skipped, and fail no snapshot.
	Optional bool
}

// Local is the stages on this machine: a copy in memory below tmpfs, unless that is "",
// and the folder dir, one for each worker.
func Local(dir, tmpfs string, keep, keepEvery int) []Stage {
	disk := NewDisk(dir)
	stages := []Stage{{Name: Durable, Store: disk, Keep: keep, KeepEvery: keepEvery}}
	if tmpfs != "" {
		stages = append([]Stage{{Name: InMemory, Store: NewTmpfs(tmpfs, disk), Optional: true}}, stages...)
	}
	return stages
}

func checkStages(stages []Stage) error {
	durable := 0
	for _, s := range stages {
		if s.Name == "" || s.Store == nil || s.Keep < 0 || s.KeepEvery < 0 || s.Keep == 0 && !s.Optional {
			return fmt.Errorf("checkpoint: stage %q: keep %d, keep every %d: a name, a store, at least 1 (0 where it is optional) and at least 0 are needed", s.Name, s.Keep, s.KeepEvery)
		}
		if !s.Optional {
			durable++
		}
	}
	if durable == 0 {
		return errors.New("checkpoint: a stage is needed that is not optional")
	}
	return nil
}

// lockedStage is a stage that this process writes.
type lockedStage struct {
	Stage
	later  []*lockedStage
	unlock func() error
}

// path is where the stage is, for people.
func (s *Stage) path() string {
	return strings.TrimRight(strings.TrimSuffix(s.Store.Where(0), RoundName(0)), `/\`)
}

// lockStages goes from the last to the first, because a fast stage may belong to a
// durable one.
func (w *Writer) lockStages() error {
	for i := len(w.cfg.Stages) - 1; i >= 0; i-- {
		s := w.cfg.Stages[i]
		unlock, err := s.Store.Lock(w.ctx)
		if err == nil {
			w.stages = append([]*lockedStage{{s, w.stages, unlock}}, w.stages...)
			continue
		}
		if !s.Optional {
			for _, locked := range w.stages {
				err = errors.Join(err, locked.unlock())
			}
			return err
		}
		w.skip(&s, 0, s.path(), err)
	}
	return nil
}

func (w *Writer) skip(s *Stage, round uint64, path string, err error) {
	w.cfg.Log.Info("checkpoint: a stage is skipped", "stage", s.Name, "path", path, "round", round, "reason", err)
	w.cfg.Observe(Event{Kind: Skipped, Stage: s.Name, Round: round, Path: path, Err: err})
}

// write takes one snapshot through the stages.
func (w *Writer) write(snapshot *State) (failed error) {
	for _, s := range w.stages {
		start, path := time.Now(), s.Store.Where(snapshot.Round)
		m, err := s.write(w.ctx, snapshot)
		if err != nil && s.Optional {
			w.skip(&s.Stage, snapshot.Round, path, err)
			continue
		}
		e := Event{Kind: Written, Stage: s.Name, Round: snapshot.Round, Path: path, Seconds: time.Since(start).Seconds(), Err: err}
		if err == nil {
			e.Bytes = m.Bytes()
		}
		w.cfg.Observe(e)
		if err != nil {
			failed = errors.Join(failed, err) // Close reports it
			continue
		}
		w.cfg.Log.Debug("checkpoint written", "path", path, "bytes", e.Bytes)
		w.prune(s, snapshot.Round)
	}
	return failed
}

// write makes room once, where there is none.
func (s *lockedStage) write(ctx context.Context, snapshot *State) (Manifest, error) {
	m, err := Write(ctx, s.Store, snapshot)
	if !errors.Is(err, ErrNoRoom) || s.Keep > 0 || s.dropTransit(ctx) != nil {
		return m, err
	}
	return Write(ctx, s.Store, snapshot)
}

func (w *Writer) prune(s *lockedStage, round uint64) {
	start := time.Now()
	err := s.prune(w.ctx, round)
	if err != nil { // the new checkpoint is there all the same
		w.cfg.Log.Warn("checkpoint: old ones stay", "path", s.path(), "reason", err)
	}
	w.cfg.Observe(Event{Kind: Pruned, Stage: s.Name, Round: round, Path: s.path(), Seconds: time.Since(start).Seconds(), Err: err})
}

// prune removes all but the newest checkpoints up to the round current, which was just
// written. Newer ones are left: they are of a future that the run went back from, and what
// becomes of them is the user's to say. A stage in transit keeps the current one alone.
func (s *lockedStage) prune(ctx context.Context, current uint64) error {
	rounds, err := s.Store.List(ctx)
	if err != nil {
		return err
	}
	older := 0 // with the current one
	for older < len(rounds) && rounds[older] <= current {
		older++
	}
	for i, round := range rounds {
		switch {
		case s.Keep == 0 && round != current:
		case s.Keep > 0 && i < older-s.Keep && (s.KeepEvery == 0 || round%uint64(s.KeepEvery) > 0):
		default:
			continue
		}
		if err := s.Store.Remove(ctx, round); err != nil {
			return err
		}
	}
	return nil
}

// dropTransit removes the checkpoints that a later stage has.
func (s *lockedStage) dropTransit(ctx context.Context) error {
	entries, err := Entries(ctx, s.Store)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !s.laterHas(ctx, e) {
			continue
		}
		if err := s.Store.Remove(ctx, e.Round); err != nil {
			return err
		}
	}
	return nil
}

// laterHas reports whether a later stage holds the same checkpoint or, where e is damaged,
// one of the same round.
func (s *lockedStage) laterHas(ctx context.Context, e Entry) bool {
	for _, later := range s.later {
		if l := entryIn(ctx, later.Store, e.Round); l.Err == nil && (e.Err != nil || sameContent(l.Manifest, e.Manifest)) {
			return true
		}
	}
	return false
}

// unlockStages gives up what is in transit. A copy that no later stage has stays: it is
// the only one.
func (w *Writer) unlockStages() {
	for _, s := range w.stages {
		var err error
		if s.Keep == 0 {
			err = s.dropTransit(w.ctx)
		}
		if err = errors.Join(err, s.unlock()); err != nil {
			w.cfg.Log.Warn("checkpoint: a stage is not cleaned up", "stage", s.Name, "path", s.path(), "reason", err)
		}
	}
}
