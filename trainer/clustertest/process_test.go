package clustertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"loco/gossip"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/trainer"
	"loco/worker"
)

// process is one life of a worker: the product's, with hooks that the checker looks through.
type process struct {
	w           *world
	index, life int
	mesh        mesh.Mesh
	worker      *worker.Worker
	learner     *toy
	begun       atomic.Bool // trains
	skew        time.Duration

	ctx    context.Context
	cancel context.CancelCauseFunc
	stop   context.Context // ends when it is to save and leave, or with ctx
	quit   context.CancelFunc
	ended  chan struct{}
	round  atomic.Uint64 // completed
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

// head is the state that the process is in.
func (p *process) head() [32]byte { return p.worker.Trainer().Head().Digest }

// shut ends what the process started. One that leaves has said so before: its last words
// must be heard.
func (p *process) shut() {
	if p.worker != nil {
		_ = p.worker.Close()
	}
}

// live runs the process until it is killed, leaves or fails.
func (p *process) live(m mesh.Mesh) (err error) {
	p.w.mu.Lock()
	p.mesh = m
	p.w.mu.Unlock()
	p.learner = newToy(p.index, p.w.params.parameters, p.w.params.rate, p.step)
	p.worker, err = worker.New(p.w.workerConfig(p.index), m, p.learner, worker.Hooks{
		Save: p.save, Report: p.report, Log: slog.New(slog.NewTextHandler(p, nil)),
		Wrap: func(inner trainer.Averager) trainer.Averager { return &checkedAverager{inner, p} },
		Now:  func() time.Time { return time.Now().Add(p.skew) },
	})
	if err != nil {
		return err
	}
	context.AfterFunc(p.ctx, p.shut) // a killed process waits for nobody
	if disk := p.w.disk(p.index); disk != nil {
		if err := p.worker.Restore(disk); err != nil {
			return err
		}
		p.w.tracef(p.name(), "resumes at round %d, step %d", disk.Round, disk.Step)
	}
	p.at()
	p.w.check.begins(p, p.w.work(p.index))
	if err := p.worker.Enter(p.stop); err != nil {
		if p.stop.Err() != nil {
			return errQuit
		}
		return err
	}
	p.begun.Store(true)
	err = p.worker.Train(p.ctx, p.stop.Done())
	if errors.Is(err, trainer.ErrStopped) {
		return errQuit
	}
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

// deadlinesMax is how often a process lets the exchange's deadline pass, as in
// worker/process. Each is waited for here, and not in the exchange, so that each is checked.
const deadlinesMax = 20

// checkedAverager is between a trainer and its exchange.
type checkedAverager struct {
	trainer.Averager
	p *process
}

// Average shows the checker what the trainer contributes and what it is given.
func (a *checkedAverager) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	p := a.p
	p.w.check.contributes(p, round, part, vec.Bytes, weight, from)
	var out exchange.Outcome
	var err error
	attempts := 0
	for range deadlinesMax {
		begun := p.w.check.waits(p)
		out, err = a.Averager.Average(ctx, round, part, vec, weight, from)
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
	case *trainer.RoundEvent:
		p.w.check.completes(p, e)
	case *trainer.ResyncEvent:
		p.w.check.resyncs(p, e)
	case *worker.Fetched:
		p.w.tracef(p.name(), "fetched the state of round %d and %d results in %.3f s: %v", e.State.Round, len(e.State.Results), e.Seconds, e.Err)
	}
}

func (p *process) at() {
	round, _, _ := p.worker.Trainer().Position()
	p.round.Store(round)
}
