package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"loco/cmd/loco/config"
	"loco/gossip"
	"loco/gossip/codec"
	"loco/mesh"
	"loco/trainer"
)

// Names of the vectors that a joiner is sent.
const (
	sharedSlow     = "slow"
	sharedMomentum = "momentum"
	sharedM        = "m"
	sharedV        = "v"
)

// deadlinesMax is how many times sync.deadline may pass while most of the others are
// alive and not ready, before the worker gives up.
const deadlinesMax = 20

// gossiper is what the all-reduce and the pair exchange have in common.
type gossiper interface {
	Average(ctx context.Context, round uint64, part gossip.Part, vec []float32, weight float64, from gossip.Base) (gossip.Outcome, error)
	FetchState(ctx context.Context) (gossip.State, error)
	Close() error
}

// exchange plugs gossip into the trainer.
type exchange struct {
	gossiper
	over              func(round uint64) bool // the trainer's Over hook
	codec, stateCodec string                  // of pseudo-gradients and of weights
	planned           int                     // workers
	meters            *meters
	log               *slog.Logger
}

// newExchange makes the averager of the run's strategy. share copies the trainer's
// state for a joiner.
func newExchange(cfg *config.Config, m mesh.Mesh, worker int, share func() (gossip.State, error), meters *meters, log *slog.Logger) (*exchange, error) {
	c, err := codec.ByName(cfg.Sync.Codec)
	if err != nil {
		return nil, usageError{err}
	}
	state, err := codec.ByName(cfg.Sync.StateCodec)
	if err != nil {
		return nil, usageError{err}
	}
	g := gossip.Config{
		Mesh: m, Worker: worker, Codec: c, StateCodec: state,
		Deadline: cfg.Sync.Deadline.Std(), Grace: cfg.Sync.Grace.Std(),
		MaxState: 64 + 4*4*int64(modelConfig(cfg).Parameters()) + 1<<16, // four vectors and their names
		Seed:     cfg.Run.Seed, MaxLag: cfg.Sync.MaxLag, State: share, Logger: log,
	}
	if cfg.Sync.Quorum == config.Majority {
		g.Quorum = cfg.Run.Workers
	}
	x := &exchange{codec: c.Name(), stateCodec: state.Name(), planned: cfg.Run.Workers, meters: meters, log: log}
	if cfg.Sync.Strategy == config.NoLoCo {
		var pairs *gossip.Pairs
		pairs, err = gossip.NewPairs(g)
		x.gossiper, x.over = pairs, pairs.Over
	} else {
		var all *gossip.AllReduce
		all, err = gossip.NewAllReduce(g)
		x.gossiper, x.over = all, all.Over
	}
	return x, err
}

// Average is the trainer's way to the others.
func (x *exchange) Average(ctx context.Context, round uint64, part trainer.Part, vec []float32, weight float64, from trainer.Base) (trainer.Outcome, error) {
	g, codec := gossip.Delta, x.codec
	if part == trainer.Slow {
		g, codec = gossip.Slow, x.stateCodec
	}
	out, err := x.gossiper.Average(ctx, round, g, vec, weight, gossip.Base(from))
	for n := 1; errors.Is(err, gossip.ErrDeadline) && n < deadlinesMax && ctx.Err() == nil; n++ {
		// Most of the others are alive and not ready: slower, not lost. Going on without
		// them would fork the run.
		x.log.Warn("still waiting for the others", "round", round+1, "deadlines", n, "error", err)
		before := out
		out, err = x.gossiper.Average(ctx, round, g, vec, weight, gossip.Base(from))
		out.BytesSent += before.BytesSent
		out.BytesReceived += before.BytesReceived
		out.Attempts += before.Attempts
		out.Rejected = append(before.Rejected, out.Rejected...)
		s := before.Seconds
		out.Seconds.Wait += s.Wait + s.Encode + s.Transfer + s.Decode
	}
	x.meters.bytes.WithLabelValues("sent", codec, "direct").Add(float64(out.BytesSent))
	x.meters.bytes.WithLabelValues("received", codec, "direct").Add(float64(out.BytesReceived))
	if err == nil && part == trainer.Delta && len(out.Members) == 1 && x.planned > 1 {
		x.log.Warn("nobody else was in the mean of this round", "round", round+1)
	}
	if out.Torn {
		x.meters.torn.Inc()
		x.log.Warn("went on alone in doubt: the partner may have averaged", "round", round+1, "part", part)
	}
	for _, r := range out.Rejected {
		x.meters.rejected.Inc()
		x.log.Warn("left out of a round", "round", round+1, "who", r)
	}
	return trainer.Outcome{
		Members: out.Members, Tokens: out.Tokens, Behind: out.Behind, Why: out.Why, Attempts: out.Attempts,
		BytesSent: out.BytesSent, BytesReceived: out.BytesReceived,
		Seconds: trainer.ExchangeSeconds(out.Seconds),
	}, err
}

// fetch is the trainer's Fetch hook: it gets the others' state.
func (x *exchange) fetch(ctx context.Context) (*trainer.Snapshot, error) {
	began := time.Now()
	st, err := x.FetchState(ctx)
	if errors.Is(err, gossip.ErrNobody) {
		return nil, trainer.ErrNobody
	}
	if err != nil {
		return nil, err
	}
	x.meters.stateSeconds.Observe(time.Since(began).Seconds())
	snap := &trainer.Snapshot{Round: st.Round, Step: st.Step, Digest: st.Digest}
	if err := snap.ParseLineage(st.Meta); err != nil {
		return nil, fmt.Errorf("state of round %d: %w", st.Round, err)
	}
	for _, v := range st.Vectors {
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
		x.meters.stateBytes.WithLabelValues("received").Add(float64(4 * len(v.Data)))
	}
	snap.Updates = st.Step // ddp: every step updated the moments
	return snap, nil
}

// sharer copies a trainer's state for joiners.
type sharer struct {
	trainer atomic.Pointer[trainer.Trainer] // set when this worker holds the run's state
	meters  *meters
	wait    time.Duration
}

func (s *sharer) share() (gossip.State, error) {
	t := s.trainer.Load()
	if t == nil {
		return gossip.State{}, errors.New("this worker does not hold the run's state yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.wait)
	defer cancel()
	var snap trainer.Snapshot
	digest, err := t.CaptureShared(ctx, &snap)
	if err != nil {
		return gossip.State{}, err
	}
	st := gossip.State{Round: snap.Round, Step: snap.Step, Digest: digest, Meta: snap.AppendLineage(nil)}
	for _, v := range []gossip.NamedVector{{Name: sharedSlow, Data: snap.Slow}, {Name: sharedMomentum, Data: snap.Momentum}, {Name: sharedM, Data: snap.M}, {Name: sharedV, Data: snap.V}} {
		if len(v.Data) > 0 {
			st.Vectors = append(st.Vectors, v)
			s.meters.stateBytes.WithLabelValues("sent").Add(float64(4 * len(v.Data)))
		}
	}
	return st, nil
}
