package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"loco/gossip"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/trainer"
	"loco/worker/config"
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

// averager is what the all-reduce and the pair exchange have in common.
type averager interface {
	trainer.Averager
	FetchState(ctx context.Context, want exchange.Want) (exchange.Fetched, error)
	Over(round uint64, tokens float64) bool
	Awaited(round uint64) bool
	Close() error
}

// peers is the averager of the run's strategy, whose exchanges are counted and logged.
type peers struct {
	averager
	late              lateWatch
	codec, stateCodec string               // of pseudo-gradients and of weights
	own               func() exchange.Want // what this worker holds; set with the trainer
	planned           int                  // workers
	meters            *meters
	log               *slog.Logger
}

// newPeers makes the averager of the run's strategy. share has the trainer's state for
// joiners; what an interrupted fetch has got is kept in dir. report takes the exchange's events.
func newPeers(cfg *config.Config, m mesh.Mesh, worker int, share *sharer, dir string, report func(any), meters *meters, log *slog.Logger) (*peers, error) {
	c, state, err := codecsOf(cfg)
	if err != nil {
		return nil, err
	}
	g := gossip.Config{
		Mesh: m, Worker: worker, Codec: c, StateCodec: state,
		Deadline: cfg.Sync.Deadline.Std(), Deadlines: deadlinesMax, Grace: cfg.Sync.Grace.Std(), GraceMin: cfg.Sync.GraceMin.Std(), SlowCycle: cfg.Sync.SlowCycle,
		Detection: meshTimes(cfg.Mesh).Detection(),
		MaxState:  64 + 4*4*int64(modelConfig(cfg).Parameters()) + 1<<16, // four vectors and their names
		Seed:      cfg.Run.Seed, MaxLag: cfg.Sync.MaxLag, Logger: log,
		State: share.share, Head: share.head, StateRoot: stateRoot, StateDir: dir,
		StateUpload: cfg.Mesh.StateUpload, StateHold: cfg.Mesh.JoinTimeout.Std(),
		StateSent:    func(n int) { meters.stateBytes.WithLabelValues("sent").Add(float64(n)) },
		ReplayRounds: cfg.Mesh.ReplayRounds, ReplayBytes: cfg.Mesh.ReplayBytes,
	}
	if cfg.Sync.Strategy != config.DDP { // whose moments are part of the state
		g.Moments = share.moments
	}
	if cfg.Sync.Quorum == config.Majority {
		g.Quorum = cfg.Run.Workers
	}
	x := &peers{codec: c.Name(), stateCodec: state.Name(), planned: cfg.Run.Workers, meters: meters, log: log}
	x.late = lateWatch{worker: worker, meters: meters, log: log, report: report}
	if cfg.Sync.Strategy == config.NoLoCo {
		x.averager, err = gossip.NewPairs(g)
	} else {
		x.averager, err = gossip.NewAllReduce(g)
	}
	return x, err
}

// Average is the averager's, counted and logged.
func (x *peers) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	codec := x.codec
	if part == exchange.Slow {
		codec = x.stateCodec
	}
	out, err := x.averager.Average(ctx, round, part, vec, weight, from)
	x.meters.bytes.WithLabelValues("sent", codec, "direct").Add(float64(out.BytesSent))
	x.meters.bytes.WithLabelValues("received", codec, "direct").Add(float64(out.BytesReceived))
	if err == nil && part == exchange.Delta && len(out.Members) == 1 && x.planned > 1 {
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
	if err == nil && !out.Behind && part == exchange.Delta {
		x.late.see(round+1, out.Late)
	}
	return out, err
}

// stateRoot is the digest of a state by the sums of its vectors.
func stateRoot(round uint64, sums map[string][32]byte) [32]byte {
	if momentum, ok := sums[sharedMomentum]; ok {
		return trainer.StateDigest(round, sums[sharedSlow], momentum)
	}
	return trainer.StateDigest(round, sums[sharedSlow])
}

// fetch is the trainer's Fetch hook: it gets the others' state.
func (x *peers) fetch(ctx context.Context) (*trainer.Snapshot, error) {
	began := time.Now()
	st, err := x.FetchState(ctx, x.own())
	if errors.Is(err, exchange.ErrNobody) {
		return nil, trainer.ErrNobody
	}
	if err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	x.meters.stateSeconds.Observe(seconds)
	x.meters.stateBytes.WithLabelValues("received").Add(float64(st.Bytes))
	x.log.Info("fetched the run's state", "round", st.Round, "results", len(st.Results), "group_round", st.GroupRound, "bytes", st.Bytes, "seconds", seconds)
	for _, b := range st.Blame {
		x.log.Warn("a source of the state was dropped", "who", b)
	}
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
func (w *worker) wants() exchange.Want {
	h := w.trainer.Head()
	want := exchange.Want{Own: exchange.Mark{Round: h.Round, Digest: h.Digest}, Length: w.spec.Parameters()}
	if c := w.spec.cfg.Sync; c.JoinMoments == config.FetchMoments && c.Strategy != config.DDP && w.trainer.Updates() == 0 {
		want.Moments = true
	}
	return want
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
