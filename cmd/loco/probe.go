package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"loco/trainer"
	"loco/worker/config"
)

// A probe is a run of the same workers, with the same threads, on the same data, over the
// same mesh, that is ended as soon as its rounds have shown their pace.
const (
	probeSteps  = 4               // inner steps of its rounds, at most
	probeEval   = 3               // the round after which it evaluates
	probeRounds = 4               // that are timed, after a first one
	probeTime   = time.Second     // the shortest time that is measured
	probeLong   = 8 * time.Second // after which whatever is known has to do
	probeDir    = "plan"          // below the run's folder
)

// probeConfig is a run's configuration with what a probe needs otherwise.
func probeConfig(cfg *config.Config) config.Config {
	p := *cfg
	p.Run.Time, p.Run.Rounds, p.Run.Restarts = 0, 100000, 0
	p.Run.EvalEvery, p.Run.ReportEvery = probeEval, 1
	p.Sync.InnerSteps, p.Sync.InnerTime = min(probeSteps, cfg.Sync.InnerSteps), 0
	p.Inner.Warmup, p.Inner.Decay = 0, 0
	p.Mesh.Join, p.Mesh.MDNS = nil, false
	p.Checkpoint.Dir, p.Checkpoint.Tmpfs, p.Checkpoint.Every = "", "", 0
	p.Metrics.Listen = ""
	return p
}

// measure runs a probe to its end.
func (l *localRun) measure(ctx context.Context) (pace, error) {
	cfg := probeConfig(l.cfg)
	dir := filepath.Join(l.dir, probeDir)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return pace{}, err
	}
	defer null.Close()
	probe := localRun{cfg: &cfg, dir: dir, out: null, now: l.now}
	if probe.now == nil {
		probe.now = time.Now
	}
	if err := os.RemoveAll(dir); err != nil {
		return pace{}, fmt.Errorf("clear the folder of a measurement: %w", err)
	}
	if _, err := probe.prepare(); err != nil {
		return pace{}, err
	}
	// Without the link, where a system forbids it, the workers prepare the data again.
	_ = os.Symlink(filepath.Join("..", "data"), filepath.Join(dir, "data"))
	said, err := os.Create(filepath.Join(dir, "stderr")) // what goes wrong here goes wrong in the run
	if err != nil {
		return pace{}, err
	}
	probe.errors = said
	t, err := probe.watch(ctx)
	if err := said.Close(); err != nil {
		return pace{}, err
	}
	if err != nil && ctx.Err() == nil {
		if text, err := os.ReadFile(said.Name()); err == nil {
			os.Stderr.Write(text)
		}
		return pace{}, fmt.Errorf("measure the speed: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return pace{}, fmt.Errorf("remove the folder of a measurement: %w", err)
	}
	if ctx.Err() != nil {
		return pace{}, trainer.ErrStopped
	}
	return t.pace(&cfg), nil
}

// watch starts the workers of a probe, and kills them when it has seen enough.
func (l *localRun) watch(ctx context.Context) (*timings, error) {
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	l.begin()
	defer func() {
		l.stopping = true
		kill()
		for len(l.children) > 0 {
			if e, ok := (<-l.events).(*exitEvent); ok {
				delete(l.children, e.child.number)
			}
		}
	}()
	if err := l.startWorker(hard, 0); err != nil {
		return nil, err
	}
	t := &timings{workers: l.cfg.Run.Workers, steps: map[int]int{}}
	for !t.enough() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e := <-l.events:
			t.add(e, l.now())
			if err := l.handle(hard, e); err != nil {
				return nil, err
			}
			if e, ok := e.(*exitEvent); ok {
				return nil, fmt.Errorf("worker %d ended by itself", e.child.number)
			}
		}
	}
	return t, nil
}

// timings is what a probe has shown until now. Times of rounds are those of worker 0, because
// an exchange keeps the others in step with it.
type timings struct {
	workers   int
	steps     map[int]int // seen of each worker
	stepSum   float64     // seconds of all steps but each worker's first
	stepN     int
	stepFirst time.Time // when the first step was over
	now       time.Time

	from, to   time.Time // the ends of worker 0's first and last round
	rounds     int       // between them
	roundSteps uint64    // in those rounds
	evals      map[uint64]float64
}

// add takes an event of a worker, which came at a time.
func (t *timings) add(event any, at time.Time) {
	t.now = at
	switch e := event.(type) {
	case *trainer.StepEvent:
		if t.stepFirst.IsZero() {
			t.stepFirst = at
		}
		if t.steps[e.Worker]++; t.steps[e.Worker] > 1 {
			t.stepSum, t.stepN = t.stepSum+e.Seconds, t.stepN+1
		}
	case *trainer.RoundEvent:
		switch {
		case e.Worker != 0:
		case t.from.IsZero():
			t.from = at
		default:
			t.to = at
			t.rounds, t.roundSteps = t.rounds+1, t.roundSteps+e.Steps
		}
	case *trainer.EvalEvent:
		if t.evals == nil {
			t.evals = map[uint64]float64{}
		}
		t.evals[e.Round] = max(t.evals[e.Round], e.Seconds)
	}
}

// enough says whether the pace is known.
func (t *timings) enough() bool {
	if t.rounds >= probeRounds && len(t.evals) > 0 && t.to.Sub(t.from) >= probeTime {
		return true
	}
	return t.stepN > 0 && len(t.steps) == t.workers && t.now.Sub(t.stepFirst) >= probeLong
}

// pace is what the events say. A machine that is too slow to show an exchange or an
// evaluation in time spends next to nothing on the one, and on the other a third of what
// it takes to train on as many tokens.
func (t *timings) pace(cfg *config.Config) (p pace) {
	p.step = t.stepSum / float64(t.stepN)
	p.eval = p.step * float64(cfg.Run.EvalTokens) / float64(cfg.TokensPerStep()) / 3
	if len(t.evals) > 0 {
		p.eval = 0
		for _, seconds := range t.evals {
			p.eval += seconds / float64(len(t.evals))
		}
	}
	if t.rounds > 0 {
		rest := t.to.Sub(t.from).Seconds() - p.step*float64(t.roundSteps) - p.eval*float64(len(t.evals))
		p.exchange = math.Max(0, rest/float64(t.rounds))
	}
	return p
}
