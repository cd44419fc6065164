package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"loco/checkpoint"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/trainer/data"
	"loco/worker/config"
)

type workerCmd struct {
	configFlags
	Join       []string `help:"Address of a member of the run, with /p2p/ID; the same as mesh.join. May be repeated." placeholder:"ADDR"`
	Dir        string   `help:"Folder of the run. Default: runs/NAME-ID." type:"path"`
	Worker     int      `help:"Number of this worker. Default: the lowest that is free." default:"-1" placeholder:"K"`
	StopAfter  uint64   `help:"Stop cleanly after this many rounds, to go on later." placeholder:"ROUND"`
	JSON       bool     `help:"Print events as JSON lines."`
	Supervised bool     `hidden:"" help:"Stop when standard input closes, and print events as JSON lines."`
}

func (workerCmd) Help() string {
	return `The first worker prints the address that others join it at. Each resumes from its
own newest checkpoint, takes over the others' state when they are ahead, and
stops cleanly at Ctrl-C.

Examples:
  loco worker run.toml
  loco worker run.toml --join /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...`
}

func (w *workerCmd) Run(ctx interrupt) error {
	cfg, err := w.load()
	if err != nil {
		return err
	}
	joined := cfg // --join is for this process, and no part of the run's file
	joined.Mesh.Join = append(slices.Clone(cfg.Mesh.Join), w.Join...)
	if err := joined.Validate(); err != nil {
		return err
	}
	dir := w.Dir
	if dir == "" {
		dir = defaultDir(&cfg)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	if err := claimDir(dir, &cfg, false); err != nil {
		return err
	}
	spec, err := newSpec(&cfg, dir)
	if err != nil {
		return err
	}
	p := &worker{spec: spec, join: joined.Mesh.Join, stopAfter: w.StopAfter, json: w.JSON || w.Supervised, out: os.Stdout}
	stop := ctx.Context
	if w.Supervised {
		signal.Ignore(syscall.SIGPIPE) // a supervisor that dies must not take the save with it
		var cancel context.CancelFunc
		stop, cancel = context.WithCancel(stop)
		go func() { // the supervisor closes our input, or dies
			io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return p.run(stop, w.Worker)
}

// worker is one worker process, put together from every other package.
type worker struct {
	spec      *spec
	join      []string // addresses of members, from the file and --join
	stopAfter uint64
	json      bool
	out       io.Writer

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
	display  *display
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
	if w.set, err = w.spec.prepareData(ctx); err != nil {
		return err
	}
	w.runID = w.spec.runID(w.set)
	if w.compute, err = openCompute(w.spec.cfg.Inner, max(0, number)); err != nil {
		return usageError{err}
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
	if !w.json {
		b := newBoard(w.spec.cfg)
		b.only = true
		w.display = newDisplay(b, os.Stdout)
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
		if dir := filepath.Dir(path); dir == w.seat.dir || !occupied(dir) {
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
	if err := writeWhole(w.seat.path(addressFile), []byte(strings.Join(addrs, "\n")+"\n")); err != nil {
		w.log.Warn("leave the address", "error", err)
	}
	w.closers = append(w.closers, func() error { return os.Remove(w.seat.path(addressFile)) })
	w.emit(&addressEvent{Event: "address", Worker: w.seat.number, Peer: string(w.mesh.Self()), Addrs: addrs, Metrics: metrics})
	if w.display != nil {
		fmt.Fprintf(w.out, "worker %d of %q on %s, metrics on http://%s/metrics\nothers join with:\n  loco worker run.toml --join %s\n", w.seat.number, w.spec.cfg.Run.Name, w.compute.name(), metrics, addrs[0])
	}
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
		return usageError{err}
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
		w.emit(&checkpointEvent{Event: "checkpoint", Worker: w.seat.number, Round: e.Round, Path: e.Path, Bytes: e.Bytes, Seconds: e.Seconds})
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
		return usageError{fmt.Errorf("%s is of run %.12s, this is run %.12s: the configuration or the data changed; give this run another --dir or checkpoint.dir", path, got, w.runID)}
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
	if w.display != nil {
		w.display.board.add(event)
		w.display.show(event)
		return
	}
	if line, err := json.Marshal(event); err == nil {
		w.out.Write(append(line, '\n'))
	}
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
	e := &resultEvent{
		Event: "result", Worker: w.seat.number, Complete: complete, Round: round, Step: step, Tokens: tokens,
		SessionTokens: tokens - w.first, Digest: w.trainer.SlowDigest(), Seconds: seconds, InnerSeconds: w.inner,
		BytesSent: w.sent, BytesReceived: w.got, Checkpoint: w.saved,
	}
	if err := w.record.write(e); err != nil {
		w.log.Error("record", "error", err)
	}
	w.emit(e)
	if w.display != nil {
		w.display.close()
		if err := w.summarise(); err != nil {
			w.log.Error("summary", "error", err)
		}
		fmt.Fprintf(w.out, "worker %d ended at round %d of %d; checkpoint: %s\n", w.seat.number, round, w.trainer.Rounds(), w.saved)
	}
}

// summarise writes the summary of what all workers of this folder have recorded.
// Each worker that was started by hand does so at its end; the last knows most.
func (w *worker) summarise() error {
	b := newBoard(w.spec.cfg)
	paths, err := filepath.Glob(filepath.Join(w.spec.dir, "worker-*", recordFile))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := b.addRecord(path); err != nil {
			return err
		}
	}
	seconds := 0.0
	for _, v := range b.workers {
		seconds = max(seconds, v.total)
	}
	return writeJSON(filepath.Join(w.spec.dir, summaryFile), b.summarise(w.spec.parameters(), seconds, nil))
}

// close undoes open, last first.
func (w *worker) close() (err error) {
	for i := len(w.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, w.closers[i]())
	}
	return err
}
