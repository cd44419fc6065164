package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

// stopWait bounds how long workers may take to stop cleanly when asked.
const stopWait = 2 * time.Minute

type configFlags struct {
	File   string   `arg:"" optional:"" help:"Configuration file (TOML). Without one: the preset tiny."`
	Set    []string `help:"Override one key of the configuration: table.key=value. May be repeated." placeholder:"TABLE.KEY=VALUE" sep:"none"`
	Preset string   `help:"Start from a preset instead of a file: ${presets}."`
}

func (f configFlags) load(sets ...string) (config.Config, error) {
	sets = append(f.Set, sets...)
	if f.Preset == "" {
		cfg, err := config.Load(f.File, sets)
		if errors.Is(err, fs.ErrNotExist) {
			err = process.Usage(err)
		}
		return cfg, err
	}
	if f.File != "" {
		return config.Config{}, process.Usage(fmt.Errorf("%s and --preset %s: name one of them; a file may begin with preset = %q", f.File, f.Preset, f.Preset))
	}
	return config.LoadPreset(f.Preset, sets)
}

type runCmd struct {
	configFlags
	Workers   int    `help:"Worker processes; the same as --set run.workers=N." placeholder:"N"`
	Dir       string `help:"Folder of the run. The same command with the same folder goes on where it stopped. Default: runs/NAME-ID." type:"path"`
	StopAfter uint64 `help:"Stop cleanly after this many rounds, to go on later." placeholder:"ROUND"`
	JSON      bool   `help:"Print the summary as JSON on standard output, progress on standard error."`
}

func (runCmd) Help() string {
	return `Starts run.workers worker processes, joins them over libp2p on loopback and
trains until the configured rounds are done. Where run.rounds is not set, it
measures the workers for some seconds, and chooses as many as fit run.time.
Ctrl-C stops cleanly with a checkpoint; the same command goes on from there.

Examples:
  loco run
  loco run --set sync.strategy=noloco --set run.seed=2
  loco run run.toml --workers 8 --dir runs/eight`
}

func (r *runCmd) Run(ctx interrupt) error {
	var sets []string
	if r.Workers != 0 {
		sets = append(sets, fmt.Sprintf("run.workers=%d", r.Workers))
	}
	cfg, err := r.load(sets...)
	if err != nil {
		return err
	}
	opts := localRun{cfg: &cfg, dir: r.Dir, stopAfter: r.StopAfter, out: os.Stdout}
	if opts.dir == "" {
		opts.dir = defaultDir(&cfg)
	}
	if r.JSON {
		opts.out = os.Stderr
	}
	s, err := opts.run(ctx)
	if err == nil && r.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(s)
	}
	return err
}

// defaultDir is the folder of a run that was not given one: the same configuration
// has the same folder, so the same command goes on where it stopped.
func defaultDir(cfg *config.Config) string {
	id := cfg.RunID()
	if cfg.Run.Time > 0 { // no run.rounds: it is not known before the folder is
		id = cfg.RunID("run.time=" + cfg.Run.Time.String())
	}
	return filepath.Join("runs", cfg.Run.Name+"-"+id[:8])
}

// localRun is a run whose workers are processes on this machine.
type localRun struct {
	cfg       *config.Config
	dir       string
	stopAfter uint64
	out       *os.File         // progress
	quiet     bool             // no sample and no hints at the end
	errors    io.Writer        // takes the workers' own messages, where it is set
	now       func() time.Time // of a measurement, where it is not the time

	board    *board
	display  *display
	children map[int]*child
	events   chan any
	stopping bool // the workers were asked to stop
	asked    bool // by the user
	addrs    []string
}

func (l *localRun) run(ctx context.Context) (*summary, error) {
	before, err := l.prepare()
	if err != nil {
		return nil, err
	}
	spec, err := process.NewSpec(l.cfg, l.dir)
	if err != nil {
		return nil, err
	}
	if before != nil && before.Complete {
		fmt.Fprintf(l.out, "The run in %s is complete. To train anew: another --dir, or --set run.seed=%d.\n\n", l.dir, l.cfg.Run.Seed+1)
		if err := l.complete(ctx, spec, before); err != nil {
			return nil, err
		}
		return before, l.farewell(before)
	}
	fmt.Fprintf(l.out, "loco: %s, %s parameters, %d workers, %s\n", l.cfg.Sync.Strategy, process.FormatCount(float64(spec.Parameters())), l.cfg.Run.Workers, l.dir)
	set, err := spec.PrepareData(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, trainer.ErrStopped
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(l.out, "data: %s\n", describeData(set))
	if l.cfg.Run.Time > 0 {
		if err := l.plan(ctx); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := l.supervise(ctx); err != nil {
		return nil, err
	}
	return l.finish(ctx, spec, time.Since(began).Seconds(), before)
}

// prepare makes the run's folder, or checks that it holds this run, and returns the
// summary of the sessions before.
func (l *localRun) prepare() (*summary, error) {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	if err := l.plannedBefore(); err != nil {
		return nil, err
	}
	if l.cfg.Run.Time > 0 {
		return nil, nil // claimed when its rounds are known
	}
	if err := process.ClaimDir(l.dir, l.cfg, true); err != nil {
		return nil, err
	}
	s, err := readSummary(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return s, err
}

// begin makes what follows the workers.
func (l *localRun) begin() {
	l.board = newBoard(l.cfg)
	l.display = newDisplay(l.board, l.out)
	l.children = map[int]*child{}
	l.events = make(chan any, 1024)
}

// supervise starts the workers and follows them to their end.
func (l *localRun) supervise(ctx context.Context) error {
	l.begin()
	defer l.display.close()
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	if err := l.startWorker(hard, 0); err != nil {
		return err
	}
	var failures []error
	asked := ctx.Done()
	var late <-chan time.Time
	for len(l.children) > 0 {
		select {
		case e := <-l.events:
			if err := l.handle(hard, e); err != nil {
				failures = append(failures, err)
			}
		case <-asked:
			l.asked = true
			asked, late = nil, time.After(stopWait)
			l.stopAll()
		case <-late:
			kill()
			failures = append(failures, fmt.Errorf("workers did not stop within %v and were killed; the last checkpoints are in %s", stopWait, l.dir))
		}
	}
	for _, w := range l.board.workers {
		if w.result != nil {
			return nil // the others' failures were shown when they came
		}
	}
	return errors.Join(failures...)
}

// handle takes one event of a worker. It returns an error for a worker that failed
// and stays down.
func (l *localRun) handle(ctx context.Context, event any) error {
	if e, ok := event.(*exitEvent); ok {
		return l.ended(ctx, e)
	}
	l.board.add(event)
	l.display.show(event)
	if e, ok := event.(*process.AddressEvent); ok && e.Worker == 0 && l.addrs == nil && !l.stopping {
		l.addrs = e.Addrs
		for k := 1; k < l.cfg.Run.Workers; k++ {
			if err := l.startWorker(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// ended notes that a worker's process is gone, and starts it again where the
// configuration says so.
func (l *localRun) ended(ctx context.Context, e *exitEvent) error {
	delete(l.children, e.child.number)
	w := l.board.worker(e.child.number)
	w.down = true
	if e.err == nil {
		return nil
	}
	var exit *exec.ExitError
	failure := fmt.Errorf("worker %d: %w; its log is %s", e.child.number, e.err, filepath.Join(l.dir, fmt.Sprintf("worker-%d", e.child.number), process.LogFile))
	if errors.As(e.err, &exit) && exit.ExitCode() == exitUsage {
		failure = process.Usage(failure)
	}
	if e.child.number == 0 && l.addrs == nil {
		l.stopAll() // the first worker never came up: there is none to join
	}
	if l.stopping {
		return failure
	}
	if e.child.restarts < l.cfg.Run.Restarts && w.address != nil {
		l.display.println(fmt.Sprintf("worker %d ended (%v); starting it again", e.child.number, e.err))
		if err := l.startWorker(ctx, e.child.number); err != nil {
			return err
		}
		l.children[e.child.number].restarts = e.child.restarts + 1
		return nil
	}
	l.display.println(fmt.Sprintf("worker %d ended (%v); the others go on. To start it again:\n  %s", e.child.number, e.err, l.again(e.child.number)))
	return failure
}

// again is the command that brings a worker back into the run.
func (l *localRun) again(number int) string {
	return fmt.Sprintf("loco worker %s --dir %s --worker %d", filepath.Join(l.dir, process.ConfigFile), l.dir, number)
}

func (l *localRun) startWorker(ctx context.Context, number int) error {
	args := []string{"worker", filepath.Join(l.dir, process.ConfigFile), "--dir", l.dir, "--worker", fmt.Sprint(number), "--supervised"}
	if l.cfg.Inner.Threads == 0 {
		args = append(args, "--set", fmt.Sprintf("inner.threads=%d", shareOfCores(l.cfg.Run.Workers)))
	}
	// Workers of one machine listen on loopback only, and cannot share a port.
	args = append(args, "--set", "mesh.listen=/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1")
	if host, _, err := net.SplitHostPort(l.cfg.Metrics.Listen); err == nil && number > 0 {
		args = append(args, "--set", "metrics.listen="+net.JoinHostPort(host, "0"))
	}
	if l.stopAfter > 0 {
		args = append(args, "--stop-after", fmt.Sprint(l.stopAfter))
	}
	for _, a := range l.joinAddrs(number) {
		args = append(args, "--join", a)
	}
	c, err := startChild(ctx, number, args, l.events, l.stderr())
	if err != nil {
		return err
	}
	l.children[number] = c
	return nil
}

// joinAddrs are the addresses of the workers that are up, but for one.
func (l *localRun) joinAddrs(but int) (addrs []string) {
	for _, k := range l.board.numbers() {
		if w := l.board.workers[k]; k != but && w.address != nil && !w.down {
			addrs = append(addrs, w.address.Addrs...)
		}
	}
	return addrs
}

// stderr is where the workers' own messages go.
func (l *localRun) stderr() io.Writer {
	if l.errors != nil {
		return l.errors
	}
	if l.display.bars != nil {
		return l.display.bars
	}
	return os.Stderr
}

func (l *localRun) stopAll() {
	if !l.stopping {
		l.stopping = true
		l.display.println("stopping: every worker finishes its step and saves a checkpoint")
	}
	for _, c := range l.children {
		c.stop.Close()
	}
}

// finish writes the summary and says how it went.
func (l *localRun) finish(ctx context.Context, spec *process.Spec, seconds float64, before *summary) (*summary, error) {
	l.display.close()
	s := l.board.summarise(spec.Parameters(), seconds, before)
	if s.Checkpoint == "" && l.asked {
		fmt.Fprintln(l.out, "stopped before anything was trained")
		return &s, nil
	}
	if s.Checkpoint == "" {
		return nil, fmt.Errorf("no worker reached a checkpoint; see the logs in %s", filepath.Join(l.dir, "worker-*", "log.jsonl"))
	}
	if _, evaluated := l.board.heldout(); s.Complete && evaluated != s.Rounds {
		s.HeldoutLoss = nil // the worker that had the last evaluation was lost
	}
	if err := l.complete(ctx, spec, &s); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(l.dir, summaryFile), s); err != nil {
		return nil, err
	}
	if !s.Complete {
		fmt.Fprintf(l.out, "stopped at round %d of %d; checkpoint: %s\nTo go on: the same command again.\n", s.Rounds, l.cfg.Exchanges(), s.Checkpoint)
		return &s, nil
	}
	return &s, l.farewell(&s)
}

// complete evaluates the last checkpoint of a complete run that has no held-out loss.
func (l *localRun) complete(ctx context.Context, spec *process.Spec, s *summary) error {
	if !s.Complete || s.HeldoutLoss != nil {
		return nil
	}
	loss, err := spec.Evaluate(context.WithoutCancel(ctx), s.Checkpoint)
	if err != nil {
		return err
	}
	s.setLoss(loss)
	return nil
}

// farewell prints what a finished run is worth, and what to try next.
func (l *localRun) farewell(s *summary) error {
	if l.quiet {
		return nil
	}
	fmt.Fprintf(l.out, "\nheld-out loss  %.3f nats per token (perplexity %.2f), of %s\n", *s.HeldoutLoss, *s.Perplexity, s.Evaluated)
	fmt.Fprintf(l.out, "trained        %s tokens in %s, %s tok/s, %.0f %% of the time in inner steps\n", process.FormatCount(float64(s.Tokens)), formatSpan(time.Duration(s.Seconds*float64(time.Second))), process.FormatCount(s.TokensPerSecond), 100*s.ComputeUtilisation)
	fmt.Fprintf(l.out, "exchanged      %s sent in %d rounds\n", process.FormatBytes(s.BytesSent), s.Rounds)
	switch {
	case replicasDiffer(s.Strategy):
		fmt.Fprintf(l.out, "replicas       differ by a standard deviation of %.2g per parameter\n", s.ReplicaStd)
	case exchanging(s.Strategy) && s.DigestEqual:
		fmt.Fprintf(l.out, "replicas       identical to the bit, %.16s…\n", s.Digest)
	case exchanging(s.Strategy):
		fmt.Fprintf(l.out, "replicas       NOT identical: see the digests in %s\n", filepath.Join(l.dir, "worker-*", process.RecordFile))
	}
	fmt.Fprintf(l.out, "checkpoint     %s\n", s.Checkpoint)
	sample, err := process.SampleText(s.Checkpoint, "\nfunc ", 240)
	if err != nil {
		return fmt.Errorf("generate a sample: %w", err)
	}
	fmt.Fprintf(l.out, "\nA sample:\n%s\n\nNext:\n  loco generate %s --prompt 'func '\n  loco run --set sync.strategy=noloco\n", indent(sample), s.Checkpoint)
	return nil
}

func indent(text string) string {
	return "  | " + strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "\n  | ")
}

// shareOfCores is the threads of one worker where several run on this machine.
func shareOfCores(workers int) int { return max(1, runtime.GOMAXPROCS(0)/workers) }
