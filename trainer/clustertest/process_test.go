package clustertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/trainer"
)

// gossiper is what the all-reduce and the pair exchange have in common.
type gossiper interface {
	trainer.Averager
	FetchState(ctx context.Context, want exchange.Want) (exchange.Fetched, error)
	Over(round uint64, tokens float64) bool
	Awaited(round uint64) bool
	Close() error
}

// process is one life of a worker: the real trainer and the real exchange over a mesh,
// put together as the command does it.
type process struct {
	w           *world
	index, life int
	mesh        mesh.Mesh
	averager    gossiper
	trainer     *trainer.Trainer
	learner     *toy
	ready       atomic.Bool // holds the run's state
	begun       atomic.Bool // trains
	skew        time.Duration

	ctx     context.Context
	cancel  context.CancelCauseFunc
	stop    chan struct{} // closed to make it save and leave
	stopped sync.Once
	ended   chan struct{}

	status    mesh.Status
	announced time.Time
	round     atomic.Uint64 // completed
}

// joined is the process's mesh as others see it; nil while it has none.
func (p *process) joined() mesh.Mesh {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.mesh
}

var (
	errKilled = errors.New("killed")
	errQuit   = errors.New("left")
)

func (p *process) name() string { return fmt.Sprintf("w%d.%d", p.index, p.life) }

// deadlinesMax is how often the command lets the exchange's deadline pass.
const deadlinesMax = 20

// shut ends what the process started. One that leaves has said so before: its last words
// must be heard.
func (p *process) shut() {
	if p.averager != nil {
		_ = p.averager.Close()
	}
}

// live runs the process until it is killed, leaves or fails.
func (p *process) live(m mesh.Mesh) (err error) {
	p.w.mu.Lock()
	p.mesh = m
	p.w.mu.Unlock()
	if err := p.build(); err != nil {
		return err
	}
	if disk := p.w.disk(p.index); disk != nil {
		if err := p.trainer.Restore(disk); err != nil {
			return err
		}
		p.w.tracef(p.name(), "resumes at round %d, step %d", disk.Round, disk.Step)
	}
	p.at()
	p.w.check.begins(p, p.w.work(p.index))
	if err := p.enter(); err != nil {
		return err
	}
	err = p.trainer.Run(p.ctx, p.stop)
	if errors.Is(err, trainer.ErrStopped) {
		return errQuit
	}
	return err
}

func (p *process) build() error {
	c, err := codec.ByName(p.w.params.codec)
	if err != nil {
		return err
	}
	cfg := gossip.Config{
		Mesh: p.mesh, Worker: p.index, Codec: c, Deadline: p.w.params.deadline, Grace: p.w.params.grace,
		Detection: p.w.net.detection(), Quorum: p.w.params.quorum, Seed: 7, MaxLag: p.w.params.maxLag, Logger: slog.New(slog.NewTextHandler(p, nil)),
		State: p.share, Head: p.head, StateRoot: stateRoot, ReplayRounds: 8, ReplayBytes: 1 << 20,
		StateUpload: p.w.params.upload,
	}
	if p.w.params.strategy != "ddp" {
		cfg.Moments = p.shareMoments
	}
	if p.w.params.strategy == "noloco" {
		p.averager, err = gossip.NewPairs(cfg)
	} else {
		p.averager, err = gossip.NewAllReduce(cfg)
	}
	if err != nil {
		return err
	}
	context.AfterFunc(p.ctx, p.shut) // who is killed waits for nobody
	p.learner = newToy(p.index, p.w.params.parameters, p.w.params.rate, p.step)
	p.trainer, err = trainer.New(p.w.trainerConfig(p.index), p.learner, trainer.Hooks{
		Average: p, Fetch: p.fetch, Over: p.averager.Over, Awaited: p.averager.Awaited, Save: p.save, Report: p.report, Now: func() time.Time { return time.Now().Add(p.skew) },
	})
	return err
}

// Write makes the process a place to log to.
func (p *process) Write(line []byte) (int, error) {
	_, text, _ := strings.Cut(strings.TrimSpace(string(line)), "level=")
	p.w.tracef(p.name(), "%s", text)
	return len(line), nil
}

// step is the work of one inner step.
func (p *process) step() error {
	err := pause(p.ctx, time.Duration(float64(p.w.params.step)*p.w.slowness(p.index)))
	p.w.net.stand(p)
	return err
}

// Average is the trainer's way to the others, as the command's.
func (p *process) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	p.w.check.contributes(p, round, part, vec.Bytes, weight, from)
	var out exchange.Outcome
	var err error
	attempts := 0
	for range deadlinesMax {
		begun := p.w.check.waits(p)
		out, err = p.averager.Average(ctx, round, part, vec, weight, from)
		attempts += out.Attempts
		if err == nil && !out.Behind {
			p.w.spoil(p.w.plant.before, p, vec.Bytes, weight, &out)
		}
		p.w.check.waited(p, begun)
		if !errors.Is(err, gossip.ErrDeadline) || ctx.Err() != nil {
			break
		}
		p.w.tracef(p.name(), "waits on: %v", err)
	}
	if err == nil && !out.Behind {
		p.w.check.commits(p, round, part, p.w.mean(vec.Bytes, out.Mean), from, out)
		p.w.spoil(p.w.plant.after, p, vec.Bytes, weight, &out)
	}
	p.w.tracef(p.name(), "round %d, part %d: members %v, behind %q, rejected %q, error %v", round, part, out.Members, out.Why, out.Rejected, err)
	out.Attempts = attempts
	return out, err
}

// fetch is the trainer's Fetch hook.
func (p *process) fetch(ctx context.Context) (*trainer.Snapshot, error) {
	begun := time.Now()
	h := p.trainer.Head()
	st, err := p.averager.FetchState(ctx, exchange.Want{Own: exchange.Mark{Round: h.Round, Digest: h.Digest}, Length: p.w.params.parameters,
		Moments: p.w.params.moments && p.trainer.Updates() == 0})
	p.w.tracef(p.name(), "fetched the state of round %d and %d results in %v: %v", st.Round, len(st.Results), time.Since(begun), err)
	if errors.Is(err, exchange.ErrNobody) {
		return nil, trainer.ErrNobody
	}
	if err != nil {
		return nil, err
	}
	snap := &trainer.Snapshot{Round: st.Round, Digest: st.Digest, RunTokens: st.Tokens, Updates: st.Updates,
		GroupRound: st.GroupRound, GroupStep: st.GroupStep, RoundTime: st.GroupSince}
	for _, m := range st.Past {
		snap.Past = append(snap.Past, trainer.Mark{Round: m.Round, Digest: m.Digest})
	}
	for _, r := range st.Results {
		snap.Replay = append(snap.Replay, trainer.Replay{Tokens: r.Tokens, Mean: r.Bytes})
	}
	vectors := st.Vectors
	if st.Moments != nil {
		vectors, snap.Updates = append(vectors, st.Moments.Vectors...), st.Moments.Updates
	}
	for _, v := range vectors {
		switch v.Name {
		case "slow":
			snap.Slow = v.Data
		case "momentum":
			snap.Momentum = v.Data
		case "m":
			snap.M = v.Data
		case "v":
			snap.V = v.Data
		}
	}
	return snap, nil
}

// stateRoot is the digest of a state by the sums of its vectors.
func stateRoot(round uint64, sums map[string][32]byte) [32]byte {
	if momentum, ok := sums["momentum"]; ok {
		return trainer.StateDigest(round, sums["slow"], momentum)
	}
	return trainer.StateDigest(round, sums["slow"])
}

// head says where the trainer stands.
func (p *process) head() (exchange.Head, bool) {
	if !p.ready.Load() {
		return exchange.Head{}, false
	}
	h := p.trainer.Head()
	head := exchange.Head{Mark: exchange.Mark{Round: h.Round, Digest: h.Digest}, Step: h.Step, Since: h.Since, Tokens: h.RunTokens}
	for _, m := range h.Past {
		head.Past = append(head.Past, exchange.Mark{Round: m.Round, Digest: m.Digest})
	}
	return head, true
}

// share copies the state for a joiner.
func (p *process) share() (exchange.State, error) {
	return p.copyOf(func(ctx context.Context, s *trainer.Snapshot) (err error) {
		s.Digest, err = p.trainer.CaptureShared(ctx, s)
		return err
	})
}

func (p *process) shareMoments() (exchange.State, error) { return p.copyOf(p.trainer.CaptureMoments) }

func (p *process) copyOf(capture func(context.Context, *trainer.Snapshot) error) (exchange.State, error) {
	if !p.ready.Load() {
		return exchange.State{}, errors.New("this worker does not hold the run's state yet")
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.w.params.deadline)
	defer cancel()
	var snap trainer.Snapshot
	err := capture(ctx, &snap)
	st := exchange.State{Mark: exchange.Mark{Round: snap.Round, Digest: snap.Digest}, Tokens: snap.RunTokens, Updates: snap.Updates}
	for _, v := range []exchange.Named{{Name: "slow", Data: snap.Slow}, {Name: "momentum", Data: snap.Momentum}, {Name: "m", Data: snap.M}, {Name: "v", Data: snap.V}} {
		if len(v.Data) > 0 {
			st.Vectors = append(st.Vectors, v)
		}
	}
	return st, err
}

// save puts a snapshot on the disk, which a process that is dead does not reach.
func (p *process) save(_ context.Context, capture func(*trainer.Snapshot) error) error {
	if context.Cause(p.ctx) == nil {
		snap := new(trainer.Snapshot)
		if err := capture(snap); err != nil {
			return err
		}
		p.w.store(p.index, snap, p.w.check.saves(p, snap))
	}
	return nil
}

func (p *process) report(event any) {
	p.at()
	if p.w.watch != nil {
		p.w.watch(p, event)
	}
	switch e := event.(type) {
	case *trainer.StepEvent:
		p.w.check.trains(p)
		if time.Since(p.announced) >= time.Second {
			p.tell()
		}
	case *trainer.RoundEvent:
		if p.w.params.strategy == "noloco" {
			p.tell()
		}
		p.w.check.completes(p, e)
	case *trainer.ResyncEvent:
		p.tell()
		p.w.check.resyncs(p, e)
	}
}

func (p *process) at() {
	p.status.Round, p.status.Step, p.status.Tokens = p.trainer.Position()
	p.status.Worker = p.index
	p.round.Store(p.status.Round)
}

func (p *process) tell() {
	p.announced = time.Now()
	p.mesh.Announce(p.status)
}

// enter is the command's way into a run: into one that is under way, or together with the
// others who start.
func (p *process) enter() error {
	others := func(ok func(mesh.Member) bool) bool {
		members, _ := p.mesh.View()
		return slices.ContainsFunc(members, func(m mesh.Member) bool { return m.ID != p.mesh.Self() && m.State <= mesh.Suspect && ok(m) })
	}
	underWay := others(func(m mesh.Member) bool { return m.Begun })
	round, step := p.status.Round, p.status.Step
	fresh := step == round*p.w.params.inner
	if others(func(m mesh.Member) bool {
		return m.Ready && m.Begun && (m.Round > round || fresh && m.Round == round && m.Step > step+2)
	}) {
		if err := p.catchUp(); err != nil {
			return err
		}
	}
	p.at()
	p.status.Ready = true
	p.ready.Store(true)
	p.tell()
	if !underWay {
		p.gather()
	}
	p.status.Begun = true
	p.begun.Store(true)
	p.tell()
	return nil
}

// joining is why a worker that enters takes over the others' state.
const joining = "joined a run under way"

func (p *process) catchUp() error {
	ctx, cancel := context.WithTimeout(p.ctx, p.w.params.join)
	defer cancel()
	snap, err := p.fetch(ctx)
	for ; err != nil && pause(ctx, time.Second) == nil; snap, err = p.fetch(ctx) {
	}
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	e, err := p.trainer.TakeOver(snap, joining)
	if e != nil {
		p.at()
		p.w.check.resyncs(p, e)
	}
	return err
}

// gather waits until all are ready to start together.
func (p *process) gather() {
	deadline := time.NewTimer(p.w.params.join)
	defer deadline.Stop()
	for {
		members, changed := p.mesh.View()
		ready := 0
		for _, m := range members {
			if m.State <= mesh.Suspect && m.Ready {
				ready++
			}
		}
		if ready >= p.w.params.workers {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			return
		case <-p.stop:
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// quit asks the process to save and leave.
func (p *process) quit() { p.stopped.Do(func() { close(p.stop) }) }
