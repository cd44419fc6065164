package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"loco/gossip/exchange"
	"loco/trainer"
)

// fetch is the trainer's Fetch hook: it gets the others' state.
func (w *Worker) fetch(ctx context.Context) (*exchange.Fetched, error) {
	began := time.Now()
	st, err := w.averager.FetchState(ctx, w.wants())
	f := &Fetched{st, time.Since(began).Seconds(), err}
	w.hooks.Report(f)
	if err != nil {
		return nil, err
	}
	w.hooks.Log.Info("fetched the run's state", "round", st.Round, "results", len(st.Results), "group_round", st.GroupRound, "bytes", st.Bytes, "seconds", f.Seconds)
	for _, b := range st.Blame {
		w.hooks.Log.Warn("a source of the state was dropped", "who", b)
	}
	return &st, nil
}

// wants says what a fetch is for: the moments only where this worker has none of its own.
func (w *Worker) wants() exchange.Want {
	want := w.trainer.Want()
	want.Moments = w.cfg.FetchMoments && !w.strategy.Moments && w.trainer.Updates() == 0
	return want
}

// sharer copies a trainer's state for joiners.
type sharer struct {
	trainer atomic.Pointer[trainer.Trainer] // set when this worker holds the run's state
	wait    time.Duration
}

// head says where the trainer stands.
func (s *sharer) head() (exchange.Head, bool) {
	if t := s.trainer.Load(); t != nil {
		return t.Head(), true
	}
	return exchange.Head{}, false
}

func (s *sharer) share() (exchange.State, error) { return s.capture((*trainer.Trainer).Share) }

func (s *sharer) moments() (exchange.State, error) {
	return s.capture((*trainer.Trainer).ShareMoments)
}

func (s *sharer) capture(f func(*trainer.Trainer, context.Context) (exchange.State, error)) (exchange.State, error) {
	t := s.trainer.Load()
	if t == nil {
		return exchange.State{}, errors.New("this worker does not hold the run's state yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.wait)
	defer cancel()
	return f(t, ctx)
}
