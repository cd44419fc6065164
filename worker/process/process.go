// Package process is one worker as a process: a run's folder and a seat in it, the
// configuration, data, the compute device, the libp2p mesh, checkpoints, the record, the
// log and the metrics server, around a trainer and its exchange.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"loco/checkpoint"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/trainer/data"
	"loco/worker/config"
)

// Options are what a worker's process is given beside its run.
type Options struct {
	Number    int      // of the worker; below 0: the lowest that is free
	Join      []string // addresses of members to join the run through
	StopAfter uint64   // rounds after which it stops cleanly; 0: at the run's end
	// Emit takes every event that is for people and supervisors: the trainer's and those of
	// events.go. It is called by one goroutine at a time.
	Emit func(event any)
}

// Run is the life of one worker of a run. stop asks for a clean end.
func Run(stop context.Context, spec *Spec, o Options) error {
	w := &worker{spec: spec, join: o.Join, stopAfter: o.StopAfter, sink: o.Emit}
	return w.run(stop, o.Number)
}

// worker is one worker process, put together from every other package.
type worker struct {
	spec      *Spec
	join      []string // addresses of members, from the file and --join
	stopAfter uint64
	sink      func(event any)

	seat     *seat
	log      *slog.Logger
	set      data.Set
	runID    string
	mesh     *p2p.Mesh
	exchange *peers
	compute  *compute
	replicas []trainer.Replica // the model, on each of its devices
	trainer  *trainer.Trainer
	saver    *saver
	sharer   *sharer
	record   *record
	meters   *meters
	emitMu   sync.Mutex
	status   mesh.Status
	announce time.Time
	tooLate  tooLate
	bounded  bool // inner_steps was named as the bound of inner_time

	began     time.Time
	first     uint64 // tokens when this process began to train
	inner     float64
	saved     string // the last complete checkpoint
	sent, got uint64
	closers   []func() error // in the order of opening
}

// run is the life of a worker. stop asks for a clean end.
func (w *worker) run(stop context.Context, number int) (err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	defer func() { err = errors.Join(err, w.close()) }()
	err = w.open(stop, number)
	if err == nil {
		err = w.enter(stop)
	}
	if err != nil && stop.Err() != nil {
		return trainer.ErrStopped // before it began
	}
	if err != nil {
		return err
	}
	w.began = time.Now()
	w.meters.begin()
	_, _, w.first = w.trainer.Position()
	err = w.trainer.Run(ctx, stop.Done())
	if err != nil && !errors.Is(err, trainer.ErrStopped) {
		err = w.spec.explain(err)
		w.log.Error("training ended", "error", err)
	}
	seconds := time.Since(w.began).Seconds()
	// Saved first: a worker that leaves while others have yet to hear of the stop
	// would let them average without it.
	saveErr := w.finishSaving()
	w.depart(stop, err == nil)
	w.result(err == nil, seconds)
	return errors.Join(err, saveErr)
}

// open brings up everything that needs no other worker, and then the mesh.
func (w *worker) open(ctx context.Context, number int) (err error) {
	if w.set, err = w.spec.PrepareData(ctx); err != nil {
		return err
	}
	w.runID = w.spec.RunID(w.set)
	if w.compute, err = openCompute(w.spec.cfg.Inner, max(0, number)); err != nil {
		return Usage(err)
	}
	w.closers = append(w.closers, w.compute.close)
	if err := w.spec.fits(w.compute); err != nil {
		return err
	}
	if w.replicas, err = w.spec.newReplicas(w.compute); err != nil {
		return err
	}
	if err := w.enterMesh(ctx, number); err != nil {
		return err
	}
	w.meters = newMeters(w.spec, w.seat.number, w.compute.kind(), w.compute.peakRate(w.replicas[0].Model), func() []mesh.Member {
		members, _ := w.mesh.View()
		return members
	})
	w.meters.watchMesh(w.mesh.LifeCounts)
	addr, stopMetrics, err := serveMetrics(w.spec.cfg.Metrics.Listen, w.meters, w.health)
	if err != nil {
		return err
	}
	w.closers = append(w.closers, func() error { stopMetrics(); return nil })
	if err := w.buildTrainer(); err != nil {
		return err
	}
	w.tellAddress(addr)
	return nil
}

// meshTimes is a mesh with the times of a configuration.
func meshTimes(m config.Mesh) p2p.Config {
	c := p2p.Default()
	c.Heartbeat, c.ProbeEvery = m.Heartbeat.Std(), m.ProbeEvery.Std()
	c.SuspectMin, c.SuspectAfter = m.SuspectMin.Std(), m.SuspectAfter.Std()
	c.DeadMin, c.DeadAfter, c.DeadAfterRefused = m.DeadMin.Std(), m.DeadAfter.Std(), m.DeadRefused.Std()
	c.Forget, c.DialTimeout, c.RedialMax, c.JoinTimeout = m.Forget.Std(), m.DialTimeout.Std(), m.RedialMax.Std(), m.JoinTimeout.Std()
	return c
}

// knownAddrs are the addresses of the workers that run in this folder now: a worker
// that is started again needs no --join.
func (w *worker) knownAddrs() (addrs []string) {
	paths, _ := filepath.Glob(filepath.Join(w.spec.dir, "worker-*", addressFile))
	for _, path := range paths {
		if dir := filepath.Dir(path); dir == w.seat.dir || !Occupied(dir) {
			continue // what a killed worker left would be waited for in vain
		}
		if text, err := os.ReadFile(path); err == nil && len(text) < 64<<10 {
			addrs = append(addrs, strings.Fields(string(text))...)
		}
	}
	return addrs
}

// tellAddress leaves this worker's address for those who come later.
func (w *worker) tellAddress(metrics string) {
	addrs := w.mesh.Addrs()
	if err := WriteWhole(w.seat.path(addressFile), []byte(strings.Join(addrs, "\n")+"\n")); err != nil {
		w.log.Warn("leave the address", "error", err)
	}
	w.closers = append(w.closers, func() error { return os.Remove(w.seat.path(addressFile)) })
	w.emit(&AddressEvent{Event: "address", Worker: w.seat.number, Peer: string(w.mesh.Self()), Addrs: addrs, Metrics: metrics})
	w.log.Info("worker is up", "worker", w.seat.number, "run", w.runID, "peer", w.mesh.Self(), "addrs", addrs, "metrics", metrics, "data", w.set.Digest)
}

// buildTrainer makes model, learner, exchange and trainer, and resumes from the
// newest checkpoint.
func (w *worker) buildTrainer() error {
	learner, err := w.spec.newLearner(w.replicas, w.compute.peers, w.set, w.seat.number)
	if err != nil {
		return err
	}
	c := w.spec.cfg
	share := &sharer{wait: c.Sync.Deadline.Std()}
	w.sharer = share
	hooks := trainer.Hooks{Report: w.report}
	if c.Sync.Strategy != config.Alone {
		if w.exchange, err = newPeers(c, w.mesh, w.seat.number, share, w.seat.dir, w.report, w.meters, w.log); err != nil {
			return err
		}
		w.closers = append(w.closers, w.exchange.Close)
		hooks.Average, hooks.Fetch, hooks.Over, hooks.Awaited = w.exchange, w.exchange.fetch, w.exchange.Over, w.exchange.Awaited
		w.exchange.own = w.wants
	}
	if w.saver, err = w.spec.newSaver(w.seat, w.runID, w.checkpointConfig()); err != nil {
		return err
	}
	hooks.Save = w.saver.save
	cfg := w.spec.trainerConfig(w.seat.number, w.stopAfter)
	if err := w.spec.placeOuter(&cfg, w.compute); err != nil {
		return err
	}
	if w.trainer, err = trainer.New(cfg, learner, hooks); err != nil {
		return Usage(err)
	}
	w.log.Info("outer steps are taken on", "device", w.trainer.OuterDevice())
	return w.resume()
}

func (w *worker) checkpointConfig() checkpoint.Config {
	c := w.spec.cfg.Checkpoint
	return checkpoint.Config{
		Dir: w.spec.checkpointDir(w.seat.number), Tmpfs: c.Tmpfs, Keep: c.Keep, KeepEvery: c.KeepEvery,
		Log: w.log, Observe: w.observeCheckpoint,
	}
}

func (w *worker) observeCheckpoint(e checkpoint.Event) {
	switch {
	case e.Err != nil && e.Stage == checkpoint.Durable:
		w.meters.checkpointFailures.Inc()
		w.log.Error("checkpoint failed; training goes on", "round", e.Round, "error", e.Err)
	case e.Stage == checkpoint.Durable:
		w.meters.checkpointBytes.Set(float64(e.Bytes))
		w.meters.checkpointRound.Set(float64(e.Round))
		w.saved = e.Path
		w.emit(&CheckpointEvent{Event: "checkpoint", Worker: w.seat.number, Round: e.Round, Path: e.Path, Bytes: e.Bytes, Seconds: e.Seconds})
	}
	if e.Err == nil && (e.Stage == checkpoint.Copied || e.Stage == checkpoint.Tmpfs || e.Stage == checkpoint.Durable) {
		w.meters.checkpointSeconds.WithLabelValues(string(e.Stage)).Observe(e.Seconds)
	}
}

// resume goes on from this worker's newest checkpoint that is whole.
func (w *worker) resume() error {
	c := w.spec.cfg.Checkpoint
	st, path, skipped, err := checkpoint.LoadLatest(checkpoint.Roots(w.spec.checkpointDir(w.seat.number), c.Tmpfs)...)
	for _, s := range skipped {
		w.log.Warn("a damaged checkpoint is skipped", "error", s)
	}
	if errors.Is(err, checkpoint.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if got := st.Meta[metaRunID]; got != w.runID {
		return Usage(fmt.Errorf("%s is of run %.12s, this is run %.12s: the configuration or the data changed; give this run another --dir or checkpoint.dir", path, got, w.runID))
	}
	snap, err := snapshotOf(st, w.spec.model.Layout())
	if err == nil {
		err = w.trainer.Restore(snap)
	}
	if err != nil {
		return fmt.Errorf("resume from %s: %w", path, err)
	}
	w.saved = path
	w.log.Info("resumed", "checkpoint", path, "round", snap.Round, "step", snap.Step)
	return nil
}

// report takes the trainer's events.
func (w *worker) report(event any) {
	w.meters.observe(event)
	round, step, tokens := w.trainer.Position()
	w.status.Round, w.status.Step, w.status.Tokens = round, step, tokens
	recorded := true
	switch e := event.(type) {
	case *trainer.StepEvent:
		recorded = false
		w.inner += e.Seconds
		if time.Since(w.announce) < w.spec.cfg.Mesh.Heartbeat.Std() {
			break // the status is for people and for joiners; once a heartbeat will do
		}
		w.tell()
	case *trainer.RoundEvent:
		w.sent, w.got = w.sent+e.BytesSent, w.got+e.BytesReceived
		if w.spec.cfg.Sync.Strategy == config.NoLoCo {
			w.tell() // so that nobody waits for this worker in the round that it has finished
		}
		w.tooLate.see(w.log, e.Round, e.LostTokens, e.CarriedTokens)
		if c := w.spec.cfg.Sync; c.InnerTime > 0 && e.Steps >= uint64(c.InnerSteps) && !w.bounded {
			w.bounded = true
			w.log.Warn("sync.inner_steps ended the inner steps before sync.inner_time did: a larger one lets this worker train on", "round", e.Round, "inner_steps", c.InnerSteps)
		}
		w.log.Info("round", "round", e.Round, "loss", e.TrainLoss, "group", e.Members, "attempts", e.Attempts, "digest", e.Digest[:16])
	case *trainer.ResyncEvent:
		w.log.Warn("took over the others' state", "round", e.Round, "why", e.Why, "lost_steps", e.LostSteps, "carried_tokens", e.CarriedTokens)
		w.tell()
	}
	if recorded {
		if err := w.record.write(event); err != nil {
			w.log.Error("record", "error", err)
		}
	}
	if e, ok := event.(*trainer.StepEvent); !ok || e.Step%uint64(w.spec.cfg.Run.ReportEvery) == 0 {
		w.emit(event)
	}
}

// tell puts this worker's status into its heartbeats.
func (w *worker) tell() {
	w.announce = time.Now()
	w.mesh.Announce(w.status)
}

// emit prints an event for whoever watches this process.
func (w *worker) emit(event any) {
	w.emitMu.Lock()
	defer w.emitMu.Unlock()
	w.sink(event)
}

func (w *worker) health() health {
	members, _ := w.mesh.View()
	h := health{Worker: w.seat.number, State: "joining"}
	for _, m := range members {
		if m.State <= mesh.Suspect {
			h.Peers++
		}
		if m.ID == w.mesh.Self() {
			h.Round, h.Step = m.Round, m.Step
			if m.Ready {
				h.State = "training"
			}
			if m.Done {
				h.State = "done"
			}
		}
	}
	return h
}

// result is the worker's last word.
func (w *worker) result(complete bool, seconds float64) {
	round, step, tokens := w.trainer.Position()
	e := &ResultEvent{
		Event: "result", Worker: w.seat.number, Complete: complete, Round: round, Step: step, Tokens: tokens,
		SessionTokens: tokens - w.first, Digest: w.trainer.SlowDigest(), Seconds: seconds, InnerSeconds: w.inner,
		BytesSent: w.sent, BytesReceived: w.got, Checkpoint: w.saved,
	}
	if err := w.record.write(e); err != nil {
		w.log.Error("record", "error", err)
	}
	w.emit(e)
}

// close undoes open, last first.
func (w *worker) close() (err error) {
	for i := len(w.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, w.closers[i]())
	}
	return err
}
