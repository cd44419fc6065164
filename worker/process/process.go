// Package process is one worker as a process: a run's folder and a seat in it, the
// configuration, data, the compute device, the libp2p mesh, checkpoints, the record, the
// log and the metrics server, around a trainer and its exchange.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"loco/checkpoint"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/trainer/data"
	"loco/worker"
)

// Options are what a worker's process is given beside its run.
type Options struct {
	Number    int      // of the worker; below 0: the lowest that is free
	Join      []string // addresses of members to join the run through
	StopAfter uint64   // rounds after which it stops cleanly; 0: at the run's end
	// Emit takes every event that is for people and supervisors: the trainer's and those of
	// events.go. It is called by one goroutine at a time.
	Emit func(event any)
	// Warn takes the log's warnings and errors as text, beside the log's file; nil: they are in the file alone.
	Warn io.Writer
}

// Run is the life of one worker of a run. stop asks for a clean end.
func Run(stop context.Context, spec *Spec, o Options) error {
	return newProcess(spec, o).run(stop, o.Number)
}

func newProcess(spec *Spec, o Options) *process {
	return &process{spec: spec, join: o.Join, stopAfter: o.StopAfter, sink: o.Emit, warn: o.Warn, newMesh: newP2P, emitting: make(chan struct{}, 1)}
}

// process is one worker process, put together from every other package.
type process struct {
	spec      *Spec
	join      []string // addresses of members, from the file and --join
	stopAfter uint64
	sink      func(event any)
	warn      io.Writer
	newMesh   func(context.Context, p2p.Config) (meshOfRun, error)

	seat     *seat
	log      *slog.Logger
	set      data.Set
	runID    string
	mesh     meshOfRun
	compute  *compute
	replicas []trainer.Replica // the model, on each of its devices
	worker   *worker.Worker
	saver    *saver
	record   *record
	meters   *meters
	emitting chan struct{} // holds one while the sink has an event

	finishSaving func() error // waits for the last checkpoint to be on disk, once

	began     time.Time
	first     uint64 // tokens when this process began to train
	inner     float64
	saved     string // the last complete checkpoint
	sent, got uint64
	closers   []func() error // in the order of opening
}

// run is the life of a worker. stop asks for a clean end.
func (p *process) run(stop context.Context, number int) (err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	defer func() { err = errors.Join(err, p.close()) }()
	err = p.open(stop, number)
	if err == nil {
		err = p.worker.Enter(stop)
	}
	if err != nil && stop.Err() != nil {
		return trainer.ErrStopped // before it began
	}
	if err != nil {
		return err
	}
	p.began = time.Now()
	p.meters.begin()
	_, _, p.first = p.worker.Trainer().Position()
	err = p.worker.Train(ctx, stop.Done())
	if err != nil && !errors.Is(err, trainer.ErrStopped) {
		err = p.spec.explain(err)
		p.log.Error("training ended", "error", err)
	}
	seconds := time.Since(p.began).Seconds()
	// Saved first: a worker that leaves while others have yet to hear of the stop
	// would let them average without it.
	_ = p.finishSaving() // its error is close's, too
	p.leave(stop, err == nil)
	p.result(err == nil, seconds)
	return err
}

// open brings up everything that needs no other worker, and then the mesh.
func (p *process) open(ctx context.Context, number int) (err error) {
	if p.set, err = p.spec.PrepareData(ctx); err != nil {
		return err
	}
	p.runID = p.spec.RunID(p.set)
	if p.compute, err = openCompute(p.spec.cfg.Inner, max(0, number)); err != nil {
		return Usage(err)
	}
	p.closers = append(p.closers, p.compute.close)
	if err := p.spec.fits(p.compute); err != nil {
		return err
	}
	if p.replicas, err = p.spec.newReplicas(p.compute); err != nil {
		return err
	}
	if err := p.enterMesh(ctx, number); err != nil {
		return err
	}
	p.meters = newMeters(p.spec, p.seat.number, p.compute.kind(), p.compute.peakRate(p.replicas[0].Model), func() []mesh.Member {
		members, _ := p.mesh.View()
		return members
	})
	p.meters.watchMesh(p.mesh.LifeCounts)
	addr, stopMetrics, err := serveMetrics(p.spec.cfg.Metrics.Listen, p.meters, p.health)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { stopMetrics(); return nil })
	if err := p.buildWorker(); err != nil {
		return err
	}
	p.tellAddress(addr)
	return nil
}

// buildWorker makes the learner and the worker, and resumes from the newest checkpoint.
func (p *process) buildWorker() error {
	learner, err := p.spec.newLearner(p.replicas, p.compute.peers, p.set, p.seat.number)
	if err != nil {
		return err
	}
	if p.saver, err = p.spec.newSaver(p.seat, p.runID, p.checkpointConfig()); err != nil {
		return err
	}
	p.finishSaving = sync.OnceValue(p.closeSaver)
	p.closers = append(p.closers, p.finishSaving)
	cfg := p.spec.workerConfig(p.seat.number, p.stopAfter)
	cfg.Gossip.StateDir = p.seat.dir
	if err := p.spec.placeOuter(&cfg.Trainer, p.compute); err != nil {
		return err
	}
	p.worker, err = worker.New(cfg, p.mesh, learner, worker.Hooks{Begin: p.openRecord, Save: p.saver.save, Report: p.report, Sent: p.meters.stateSent, Log: p.log})
	if err != nil {
		return Usage(err)
	}
	p.closers = append(p.closers, p.worker.Close)
	p.log.Info("outer steps are taken on", "device", p.worker.Trainer().OuterDevice())
	return p.resume()
}

func (p *process) checkpointConfig() checkpoint.Config {
	c := p.spec.checkpointConfig(p.seat.number)
	c.Log, c.Observe = p.log, p.observeCheckpoint
	return c
}

// openRecord opens the record for a worker that goes on from a round.
func (p *process) openRecord(round uint64) (err error) {
	if p.record, err = openRecord(p.seat.path(RecordFile), round); err != nil {
		return err
	}
	p.closers = append(p.closers, p.record.close)
	return nil
}

func (p *process) observeCheckpoint(e checkpoint.Event) {
	switch {
	case e.Err != nil && e.Kind == checkpoint.Written:
		p.meters.checkpointFailures.Inc()
		p.log.Error("checkpoint failed; training goes on", "round", e.Round, "error", e.Err)
	case e.Kind == checkpoint.Written && e.Stage == checkpoint.Durable:
		p.meters.checkpointBytes.Set(float64(e.Bytes))
		p.meters.checkpointRound.Set(float64(e.Round))
		p.saved = e.Path
		p.emit(&CheckpointEvent{Event: "checkpoint", Worker: p.seat.number, Round: e.Round, Path: e.Path, Bytes: e.Bytes, Seconds: e.Seconds})
	}
	switch {
	case e.Kind == checkpoint.Copied:
		p.meters.checkpointSeconds.WithLabelValues(string(e.Kind)).Observe(e.Seconds)
	case e.Kind == checkpoint.Written && e.Err == nil:
		p.meters.checkpointSeconds.WithLabelValues(e.Stage).Observe(e.Seconds)
	}
}

// resume goes on from this worker's newest checkpoint that is whole.
func (p *process) resume() error {
	st, found, skipped, err := p.saver.writer.Newest(context.Background())
	path := found.Path
	for _, s := range skipped {
		p.log.Warn("a damaged checkpoint is skipped", "error", s)
	}
	if errors.Is(err, checkpoint.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if got := st.Meta[metaRunID]; got != p.runID {
		return Usage(fmt.Errorf("%s is of run %.12s, this is run %.12s: the configuration or the data changed; give this run another --dir or checkpoint.dir", path, got, p.runID))
	}
	snap, err := snapshotOf(st, p.spec.model.Layout())
	if err == nil {
		err = p.worker.Restore(snap)
	}
	if err != nil {
		return fmt.Errorf("resume from %s: %w", path, err)
	}
	p.saved = path
	p.log.Info("resumed", "checkpoint", path, "round", snap.Round, "step", snap.Step)
	return nil
}

// report takes the worker's events: into the metrics, the record, and to people.
func (p *process) report(event any) {
	p.meters.observe(event)
	switch e := event.(type) {
	case *worker.Exchanged, *worker.Fetched:
		return // are for the metrics alone
	case *worker.PeersEvent:
		p.emit(e)
		return
	case *trainer.StepEvent:
		p.inner += e.Seconds
		if e.Step%uint64(p.spec.cfg.Run.ReportEvery) == 0 {
			p.emit(e)
		}
		return
	case *trainer.RoundEvent:
		p.sent, p.got = p.sent+e.BytesSent, p.got+e.BytesReceived
	}
	if err := p.record.write(event); err != nil {
		p.log.Error("record", "error", err)
	}
	p.emit(event)
}

// emit gives an event to the sink, one at a time.
func (p *process) emit(event any) {
	p.emitting <- struct{}{}
	defer func() { <-p.emitting }()
	p.sink(event)
}

func (p *process) health() health {
	members, _ := p.mesh.View()
	h := health{Worker: p.seat.number, State: "joining"}
	for _, m := range members {
		if m.State <= mesh.Suspect {
			h.Peers++
		}
		if m.ID == p.mesh.Self() {
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

// How long the end may take.
const (
	leaveWait  = 2 * time.Second
	savingWait = 5 * time.Minute
)

// leave says goodbye.
func (p *process) leave(stop context.Context, done bool) {
	p.worker.Depart(stop, done)
	ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
	defer cancel()
	if err := p.mesh.Leave(ctx); err != nil {
		p.log.Warn("leave the mesh", "error", err)
	}
}

// closeSaver waits for the last checkpoint to be on disk.
func (p *process) closeSaver() error {
	ctx, cancel := context.WithTimeout(context.Background(), savingWait)
	defer cancel()
	return p.saver.writer.Close(ctx)
}

// result is the worker's last word.
func (p *process) result(complete bool, seconds float64) {
	round, step, tokens := p.worker.Trainer().Position()
	e := &ResultEvent{
		Event: "result", Worker: p.seat.number, Complete: complete, Round: round, Step: step, Tokens: tokens,
		SessionTokens: tokens - p.first, Digest: p.worker.Trainer().SlowDigest(), Seconds: seconds, InnerSeconds: p.inner,
		BytesSent: p.sent, BytesReceived: p.got, Checkpoint: p.saved,
	}
	if err := p.record.write(e); err != nil {
		p.log.Error("record", "error", err)
	}
	p.emit(e)
}

// close undoes open, last first.
func (p *process) close() (err error) {
	for i := len(p.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, p.closers[i]())
	}
	return err
}
