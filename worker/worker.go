// Package worker is one worker of a run over any mesh: a trainer, the averager of its
// strategy, and the way in and out of a run. It gives joiners the run's state, enters a run
// that begins or is under way, announces where it stands, and departs.
//
// It knows nothing of files, TOML, TCP or Prometheus: a mesh, a learner, the configurations
// of trainer and exchange, and hooks are its arguments. Package loco/worker/process puts a
// process around it; package loco/trainer/clustertest runs whole clusters of it in virtual time.
//
// The life of a Worker is New, Restore where there is a checkpoint, Enter, Train, Depart and
// Close.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"loco/gossip"
	"loco/mesh"
	"loco/trainer"
	"loco/trainer/strategy"
)

// Config is what a worker needs to know. The configurations of the packages below are passed
// on as they are, but for what only a worker knows.
type Config struct {
	Number  int // of this worker, unique among live members
	Workers int // that the run is planned for: as many begin it together
	// Trainer is passed on with Worker set.
	Trainer trainer.Config
	// Gossip is passed on with Mesh, Worker and Logger set, and with what serves this worker's
	// state to joiners. MaxState 0 is what the strategy's vectors and the moments need. A strategy
	// without an exchange does not use it.
	Gossip gossip.Config
	// FetchMoments is whether a worker that joins without inner moments of its own takes those
	// of another.
	FetchMoments bool
	// Heartbeat is how often the mesh sends this worker's status. Between two rounds it is not
	// announced more often.
	Heartbeat time.Duration
	// JoinTimeout bounds how long Enter tries to take over the state of a run under way, and how
	// long it waits for the planned workers of one that begins.
	JoinTimeout time.Duration
}

// Hooks connect a worker to what is around it. All may be nil.
type Hooks struct {
	// Begin is called once, by Enter, before the first event that is worth recording: the worker
	// goes on from this round.
	Begin func(round uint64) error
	// Save is the trainer's: it hands a checkpoint over.
	Save func(ctx context.Context, capture func(*trainer.Snapshot) error) error
	// Report takes the trainer's events and those of this package.
	Report func(event any)
	// Sent counts bytes of this worker's state that were sent to joiners, from any goroutine.
	Sent func(bytes int)
	// Wrap is put between the trainer and the exchange.
	Wrap func(trainer.Averager) trainer.Averager
	// Now is the clock of the trainer's phases; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger // nil: no log
}

// Worker is one worker of a run.
type Worker struct {
	cfg      Config
	strategy strategy.Strategy
	hooks    Hooks
	mesh     mesh.Mesh
	averager averager // nil where the strategy has no exchange
	late     lateWatch
	sharer   sharer
	trainer  *trainer.Trainer
	length   int // parameters

	status    mesh.Status
	announced time.Time
	tooLate   tooLate
	bounded   bool // InnerSteps was named as the bound of InnerTime
}

// New makes a worker at the learner's present parameters. From now on it answers its peers.
func New(cfg Config, m mesh.Mesh, learner trainer.Learner, hooks Hooks) (*Worker, error) {
	w := &Worker{cfg: cfg, hooks: hooks, mesh: m, length: learner.Parameters(), status: mesh.Status{Worker: cfg.Number}}
	if w.hooks.Log == nil {
		w.hooks.Log = slog.New(slog.DiscardHandler)
	}
	if w.hooks.Report == nil {
		w.hooks.Report = func(any) {}
	}
	th := trainer.Hooks{Save: hooks.Save, Report: w.report, Now: hooks.Now}
	row, err := strategy.New(cfg.Trainer.Strategy, cfg.Trainer.Options)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w.strategy = row
	if len(row.Crossings) > 0 {
		if err := w.openExchange(); err != nil {
			return nil, err
		}
		th.Average, th.Fetch, th.Exchanged = w.averager, w.fetch, w.exchanged
		if hooks.Wrap != nil {
			th.Average = hooks.Wrap(w.averager)
		}
	}
	w.cfg.Trainer.Worker = cfg.Number
	if w.trainer, err = trainer.New(w.cfg.Trainer, learner, th); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Restore goes on from this worker's own checkpoint. Call it before Enter.
func (w *Worker) Restore(s *trainer.Snapshot) error { return w.trainer.Restore(s) }

// Train trains until the run's end or until stop is closed, as trainer.Trainer.Run does.
func (w *Worker) Train(ctx context.Context, stop <-chan struct{}) error {
	return w.trainer.Run(ctx, stop)
}

// Trainer is the worker's trainer.
func (w *Worker) Trainer() *trainer.Trainer { return w.trainer }

// Close ends the exchange with the peers: one that is under way returns an error.
func (w *Worker) Close() error {
	if w.averager == nil {
		return nil
	}
	return w.averager.Close()
}

// report takes the trainer's events: it announces where the worker stands, and passes them on.
func (w *Worker) report(event any) {
	w.at()
	switch e := event.(type) {
	case *trainer.StepEvent:
		if time.Since(w.announced) >= w.cfg.Heartbeat { // the status is for people and for joiners; once a heartbeat will do
			w.tell()
		}
	case *trainer.RoundEvent:
		if !w.strategy.Equal {
			w.tell() // so that nobody waits for this worker in the round that it has finished
		}
		w.logRound(e)
	case *trainer.ResyncEvent:
		w.hooks.Log.Warn("took over the others' state", "round", e.Round, "why", e.Why, "lost_steps", e.LostSteps, "carried_tokens", e.CarriedTokens)
		w.tell()
	}
	w.hooks.Report(event)
}

func (w *Worker) logRound(e *trainer.RoundEvent) {
	log := w.hooks.Log
	w.tooLate.see(log, e.Round, e.LostTokens, e.CarriedTokens)
	if c := &w.cfg.Trainer; c.InnerTime > 0 && e.Steps >= c.InnerSteps && !w.bounded {
		w.bounded = true
		log.Warn("sync.inner_steps ended the inner steps before sync.inner_time did: a larger one lets this worker train on", "round", e.Round, "inner_steps", c.InnerSteps)
	}
	log.Info("round", "round", e.Round, "loss", e.TrainLoss, "group", e.Members, "attempts", e.Attempts, "digest", fmt.Sprintf("%.16s", e.Digest))
}

// at brings the status up to the trainer.
func (w *Worker) at() { w.status.Round, w.status.Step, w.status.Tokens = w.trainer.Position() }

// tell puts the status into this worker's heartbeats.
func (w *Worker) tell() {
	w.announced = time.Now()
	w.mesh.Announce(w.status)
}
