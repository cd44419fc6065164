package checkpoint

import "time"

// run is the writer's goroutine: it writes the pending snapshot until Close has been
// called and nothing is pending.
func (w *Writer) run() {
	defer close(w.done)
	defer w.lockFile.Close()
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
	w.closeTmpfs()
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

// write takes one snapshot through the stages. Only the durable stage decides whether
// it failed.
func (w *Writer) write(s *State) error {
	if w.shm != "" {
		w.writeTmpfs(s)
	}
	start := time.Now()
	path, bytes, err := publish(w.fs, w.cfg.Dir, s)
	w.cfg.Observe(Event{Stage: Durable, Round: s.Round, Path: path, Seconds: time.Since(start).Seconds(), Bytes: bytes, Err: err})
	if err != nil {
		return err // Close reports it
	}
	w.cfg.Log.Debug("checkpoint written", "path", path, "bytes", bytes)
	w.prune(s.Round)
	return nil
}

func (w *Writer) prune(round uint64) {
	start := time.Now()
	err := prune(w.fs, w.cfg.Dir, round, w.cfg.Keep, w.cfg.KeepEvery)
	if err != nil { // the new checkpoint is there all the same
		w.cfg.Log.Warn("checkpoint: old ones stay", "dir", w.cfg.Dir, "reason", err)
	}
	w.cfg.Observe(Event{Stage: Pruned, Round: round, Path: w.cfg.Dir, Seconds: time.Since(start).Seconds(), Err: err})
}
