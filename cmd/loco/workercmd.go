package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"loco/worker/config"
	"loco/worker/process"
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
	if cfg.Run.Time > 0 { // only a supervisor plans: it sees every worker
		if err := cfg.SetRounds(cfg.Run.Rounds); err != nil {
			return err
		}
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
	if err := process.ClaimDir(dir, &cfg, false); err != nil {
		return err
	}
	spec, err := process.NewSpec(&cfg, dir)
	if err != nil {
		return err
	}
	o := process.Options{Number: w.Worker, Join: joined.Mesh.Join, StopAfter: w.StopAfter, Emit: printJSON, Warn: os.Stderr}
	if !w.JSON && !w.Supervised {
		o.Emit = newWatcher(spec, &cfg, dir).show
	}
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
	return process.Run(stop, spec, o)
}

// printJSON prints an event of a worker as a line of JSON.
func printJSON(event any) {
	switch e := event.(type) {
	case *process.DeviceEvent:
		if e.Worker == 0 {
			printWhy(e)
		}
	case *process.TakenEvent:
	default:
		if line, err := json.Marshal(event); err == nil {
			os.Stdout.Write(append(line, '\n'))
		}
	}
}

// printWhy says to a person why a worker computes on the CPU.
func printWhy(e *process.DeviceEvent) {
	if e.Why != "" {
		fmt.Fprintf(os.Stderr, "computing on the CPU: %s\n", e.Why)
	}
}

// watcher shows a person what one worker does.
type watcher struct {
	spec    *process.Spec
	cfg     *config.Config
	dir     string
	device  string
	board   *board
	display *display // nil before the worker is up
}

func newWatcher(spec *process.Spec, cfg *config.Config, dir string) *watcher {
	b := newBoard(cfg)
	b.only = true
	return &watcher{spec: spec, cfg: cfg, dir: dir, board: b}
}

func (v *watcher) show(event any) {
	switch e := event.(type) {
	case *process.DeviceEvent:
		v.device = e.Device
		printWhy(e)
		return
	case *process.TakenEvent:
		fmt.Printf("worker %d is taken by %s; if that is this worker before it was started again, the others notice its end within %v: trying until then\n", e.Worker, e.By, e.Patience)
		return
	case *process.AddressEvent:
		v.display = newDisplay(v.board, os.Stdout)
		defer fmt.Printf("worker %d of %q on %s, metrics on http://%s/metrics\nothers join with:\n  loco worker run.toml --join %s\n", e.Worker, v.cfg.Run.Name, v.device, e.Metrics, e.Addrs[0])
	case *process.ResultEvent:
		defer v.end(e)
	}
	v.board.add(event)
	v.display.show(event)
}

// end says how it went.
func (v *watcher) end(e *process.ResultEvent) {
	v.display.close()
	if err := v.summarise(); err != nil {
		fmt.Fprintln(os.Stderr, "loco: summary:", err)
	}
	fmt.Printf("worker %d ended at round %d of %d; checkpoint: %s\n", e.Worker, e.Round, v.cfg.Exchanges(), e.Checkpoint)
}

// summarise writes the summary of what all workers of this folder have recorded.
// Each worker that was started by hand does so at its end; the last knows most.
func (v *watcher) summarise() error {
	b := newBoard(v.cfg)
	paths, err := filepath.Glob(filepath.Join(v.dir, "worker-*", process.RecordFile))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := b.addRecord(path); err != nil {
			return err
		}
	}
	seconds := 0.0
	for _, w := range b.workers {
		seconds = max(seconds, w.total)
	}
	return writeJSON(filepath.Join(v.dir, summaryFile), b.summarise(v.spec.Parameters(), seconds, nil))
}
