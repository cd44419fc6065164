package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"loco/gossip/exchange"
	"loco/trainer"
)

// Names of the vectors that a joiner is sent.
const (
	sharedSlow     = "slow"
	sharedMomentum = "momentum"
	sharedM        = "m"
	sharedV        = "v"
)

// stateRoot is the digest of a state by the sums of its vectors.
func stateRoot(round uint64, sums map[string][32]byte) [32]byte {
	if momentum, ok := sums[sharedMomentum]; ok {
		return trainer.StateDigest(round, sums[sharedSlow], momentum)
	}
	return trainer.StateDigest(round, sums[sharedSlow])
}

// fetch is the trainer's Fetch hook: it gets the others' state.
func (w *Worker) fetch(ctx context.Context) (*trainer.Snapshot, error) {
	began := time.Now()
	st, err := w.peers.FetchState(ctx, w.wants())
	f := &Fetched{st, time.Since(began).Seconds(), err}
	w.hooks.Report(f)
	if errors.Is(err, exchange.ErrNobody) {
		return nil, trainer.ErrNobody
	}
	if err != nil {
		return nil, err
	}
	w.hooks.Log.Info("fetched the run's state", "round", st.Round, "results", len(st.Results), "group_round", st.GroupRound, "bytes", st.Bytes, "seconds", f.Seconds)
	for _, b := range st.Blame {
		w.hooks.Log.Warn("a source of the state was dropped", "who", b)
	}
	return snapshotOf(&st)
}

// snapshotOf is a state that was fetched as the trainer takes it over.
func snapshotOf(st *exchange.Fetched) (*trainer.Snapshot, error) {
	snap := &trainer.Snapshot{Round: st.Round, Digest: st.Digest, RunTokens: st.Tokens, Updates: st.Updates, GroupRound: st.GroupRound, GroupStep: st.GroupStep, RoundTime: st.GroupSince}
	for _, m := range st.Past {
		snap.Past = append(snap.Past, trainer.Mark{Round: m.Round, Digest: m.Digest})
	}
	for _, r := range st.Results {
		snap.Replay = append(snap.Replay, trainer.Replay{Tokens: r.Tokens, Mean: r.Bytes})
	}
	vectors := st.Vectors
	if st.Moments != nil {
		vectors = append(vectors, st.Moments.Vectors...)
		snap.Updates = st.Moments.Updates
	}
	for _, v := range vectors {
		switch v.Name {
		case sharedSlow:
			snap.Slow = v.Data
		case sharedMomentum:
			snap.Momentum = v.Data
		case sharedM:
			snap.M = v.Data
		case sharedV:
			snap.V = v.Data
		default:
			return nil, fmt.Errorf("state of round %d has an unknown vector %q", st.Round, v.Name)
		}
	}
	return snap, nil
}

// wants says what a fetch is for: the moments only where this worker has none of its own.
func (w *Worker) wants() exchange.Want {
	h := w.trainer.Head()
	return exchange.Want{
		Own: exchange.Mark{Round: h.Round, Digest: h.Digest}, Length: w.length,
		Moments: w.cfg.FetchMoments && w.cfg.Trainer.Strategy != ddp && w.trainer.Updates() == 0,
	}
}

// sharer copies a trainer's state for joiners.
type sharer struct {
	trainer atomic.Pointer[trainer.Trainer] // set when this worker holds the run's state
	wait    time.Duration
}

// head says where the trainer stands.
func (s *sharer) head() (exchange.Head, bool) {
	t := s.trainer.Load()
	if t == nil {
		return exchange.Head{}, false
	}
	h := t.Head()
	head := exchange.Head{Mark: exchange.Mark{Round: h.Round, Digest: h.Digest}, Step: h.Step, Since: h.Since, Tokens: h.RunTokens}
	for _, m := range h.Past {
		head.Past = append(head.Past, exchange.Mark{Round: m.Round, Digest: m.Digest})
	}
	return head, true
}

func (s *sharer) share() (exchange.State, error) {
	return s.capture(func(ctx context.Context, t *trainer.Trainer, snap *trainer.Snapshot) (err error) {
		snap.Digest, err = t.CaptureShared(ctx, snap)
		return err
	})
}

func (s *sharer) moments() (exchange.State, error) {
	return s.capture(func(ctx context.Context, t *trainer.Trainer, snap *trainer.Snapshot) error {
		return t.CaptureMoments(ctx, snap)
	})
}

func (s *sharer) capture(f func(context.Context, *trainer.Trainer, *trainer.Snapshot) error) (exchange.State, error) {
	t := s.trainer.Load()
	if t == nil {
		return exchange.State{}, errors.New("this worker does not hold the run's state yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.wait)
	defer cancel()
	var snap trainer.Snapshot
	if err := f(ctx, t, &snap); err != nil {
		return exchange.State{}, err
	}
	st := exchange.State{Mark: exchange.Mark{Round: snap.Round, Digest: snap.Digest}, Tokens: snap.RunTokens, Updates: snap.Updates}
	for _, v := range []exchange.Named{{Name: sharedSlow, Data: snap.Slow}, {Name: sharedMomentum, Data: snap.Momentum}, {Name: sharedM, Data: snap.M}, {Name: sharedV, Data: snap.V}} {
		if len(v.Data) > 0 {
			st.Vectors = append(st.Vectors, v)
		}
	}
	return st, nil
}
