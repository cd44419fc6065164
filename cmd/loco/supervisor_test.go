//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

// The supervisor starts workers as processes of its own program, which in a test is the
// test. With scriptVariable set such a process plays a part instead of testing.
const scriptVariable = "LOCO_TEST_SCRIPT"

// scripts are what a worker process does after its address is known. It returns the exit
// code.
var scripts = map[string]func(w *scripted) int{
	"train": func(w *scripted) int { return w.trained(true) },
	"crash": func(w *scripted) int { // worker 1, the first time
		if w.number == 1 && w.starts == 1 {
			return 1
		}
		return w.trained(true)
	},
	"differ": func(w *scripted) int {
		w.digest = fmt.Sprint("digest of ", w.number)
		return w.trained(true)
	},
	"unevaluated": func(w *scripted) int {
		w.silent = true
		return w.trained(true)
	},
	"lost": func(w *scripted) int { // the worker that has the evaluation
		if w.number == 0 {
			return 1
		}
		return w.trained(true)
	},
	"wait": func(w *scripted) int {
		io.Copy(io.Discard, os.Stdin)
		return w.trained(false)
	},
	"idle": func(w *scripted) int { // it never trained
		io.Copy(io.Discard, os.Stdin)
		w.say(process.ResultEvent{Event: "result", Worker: w.number})
		return 0
	},
	"probe": func(w *scripted) int {
		if filepath.Base(w.dir) != probeDir {
			return w.trained(true)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "data")); err != nil {
			return 1 // the run's data is not prepared twice
		}
		for round := uint64(1); round <= 8; round++ {
			w.say(trainer.StepEvent{Event: "step", Worker: w.number, Seconds: 0.1})
			w.say(trainer.RoundEvent{Event: "round", Worker: w.number, Round: round, Steps: 4})
			w.say(trainer.EvalEvent{Event: "eval", Worker: w.number, Round: round, Seconds: 0.1})
		}
		select {} // until it is killed
	},
	"probe fails": func(w *scripted) int {
		fmt.Fprintln(os.Stderr, "the device is on fire")
		return 1
	},
}

// scripted is a worker process that trains nothing.
type scripted struct {
	number, starts int
	dir, digest    string
	silent         bool // about evaluations
}

func (w *scripted) say(event any) {
	line, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}

// trained says what a worker says in a run of two rounds, or of one and a stop.
func (w *scripted) trained(complete bool) int {
	result := process.ResultEvent{Event: "result", Worker: w.number, Complete: complete, Round: 1, Tokens: 100, SessionTokens: 100, Digest: w.digest,
		Seconds: 4, InnerSeconds: 3, Checkpoint: fmt.Sprint("checkpoint of ", w.number)}
	w.say(trainer.RoundEvent{Event: "round", Worker: w.number, Round: 1, Tokens: 100, BytesSent: 10, BytesReceived: 5})
	if complete {
		w.say(trainer.RoundEvent{Event: "round", Worker: w.number, Round: 2, Tokens: 200, BytesSent: 10, BytesReceived: 5})
		result.Round, result.Tokens, result.SessionTokens = 2, 200, 200
		if w.number == 0 && !w.silent {
			w.say(trainer.EvalEvent{Event: "eval", Worker: w.number, Round: 2, HeldoutLoss: 1.5})
		}
	}
	w.say(result)
	return 0
}

// playWorker is the main function of a scripted worker.
func playWorker(name string, args []string) int {
	w := &scripted{digest: "digest"}
	for i := range args {
		switch args[i] {
		case "--dir":
			w.dir = args[i+1]
		case "--worker":
			fmt.Sscan(args[i+1], &w.number)
		}
	}
	log, err := os.OpenFile(filepath.Join(w.dir, fmt.Sprint("started-", w.number)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(log, strings.Join(args, " "))
	log.Close()
	w.starts = len(startsOf(w.dir, w.number))
	switch name {
	case "mute":
		return exitUsage
	case "babble":
		fmt.Println("this is no event")
		name = "train"
	}
	w.say(process.AddressEvent{Event: "address", Worker: w.number, Addrs: []string{fmt.Sprint("/address/of/", w.number)}})
	return scripts[name](w)
}

// startsOf is the command lines that a worker was started with.
func startsOf(dir string, number int) []string {
	text, _ := os.ReadFile(filepath.Join(dir, fmt.Sprint("started-", number)))
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")[:strings.Count(string(text), "\n")]
}

// supervised is a run whose workers follow a script.
type supervised struct {
	localRun
	t *testing.T
}

func supervise(t *testing.T, script string, sets ...string) *supervised {
	t.Helper()
	text := t.TempDir()
	for i := range 4 {
		if err := os.WriteFile(filepath.Join(text, fmt.Sprintf("%d.txt", i)), []byte(strings.Repeat(fmt.Sprintln("line of", i), 50)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(scriptVariable, script)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	cfg := configWith(t, append([]string{"data.source=" + text, "run.workers=3", "inner.warmup=0"}, sets...)...)
	if !slices.ContainsFunc(sets, func(s string) bool { return strings.HasPrefix(s, "run.time=") }) {
		cfg.Run.Rounds, cfg.Run.Time = 2, 0
	}
	return &supervised{localRun{cfg: cfg, dir: filepath.Join(t.TempDir(), "run"), out: out, quiet: true, errors: out}, t}
}

func (s *supervised) said() string {
	s.t.Helper()
	text, err := os.ReadFile(s.out.Name())
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func TestSupervisorFollowsWorkersToTheEnd(t *testing.T) {
	s := supervise(t, "babble", "metrics.listen=127.0.0.1:9090")
	got, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err, s.said())
	}
	if !got.Complete || got.Rounds != 2 || got.Tokens != 600 || got.BytesSent != 60 || got.BytesReceived != 30 || !got.DigestEqual || got.Digest != "digest" ||
		got.Checkpoint != "checkpoint of 0" || *got.HeldoutLoss != 1.5 || got.ComputeUtilisation != 0.75 || got.Workers != 3 {
		t.Errorf("%+v", got)
	}
	if read := summaryOf(t, s.dir); read.Tokens != 600 || *read.HeldoutLoss != 1.5 {
		t.Errorf("written: %+v", read)
	}
	if !strings.Contains(s.said(), `worker 0: event "this is no event"`) {
		t.Errorf("a line that is no event is not shown:\n%s", s.said())
	}
	threads := fmt.Sprintf("--set inner.threads=%d ", max(1, runtime.GOMAXPROCS(0)/3))
	for k := range 3 {
		starts := startsOf(s.dir, k)
		if len(starts) != 1 {
			t.Fatalf("worker %d was started %d times", k, len(starts))
		}
		line := starts[0] + " "
		for _, want := range []string{"worker " + filepath.Join(s.dir, process.ConfigFile), "--supervised", "--set mesh.listen=/ip4/127.0.0.1/", threads} {
			if !strings.Contains(line, want) {
				t.Errorf("worker %d: no %q in %s", k, want, line)
			}
		}
		if strings.Contains(line, "--join /address/of/0 ") != (k > 0) || strings.Contains(line, "--set metrics.listen=127.0.0.1:0 ") != (k > 0) {
			t.Errorf("worker %d joins or listens otherwise: %s", k, line)
		}
	}

	// The same again shows the result and starts nobody.
	if again, err := s.run(t.Context()); err != nil || again.Tokens != 600 || len(startsOf(s.dir, 0)) != 1 {
		t.Errorf("again: %+v, %v", again, err)
	}
	if !strings.Contains(s.said(), "is complete. To train anew: another --dir, or --set run.seed=2") {
		t.Error(s.said())
	}
}

func TestSupervisorSaysThatReplicasDiffer(t *testing.T) {
	s := supervise(t, "differ")
	got, err := s.run(t.Context())
	if err != nil || got.DigestEqual || got.Digest != "digest of 0" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSupervisorStartsACrashedWorkerAgain(t *testing.T) {
	s := supervise(t, "crash", "run.restarts=1")
	got, err := s.run(t.Context())
	if err != nil || !got.Complete || got.Tokens != 600 {
		t.Errorf("%+v, %v", got, err)
	}
	if starts := startsOf(s.dir, 1); len(starts) != 2 || strings.Contains(starts[1], "/address/of/1") {
		t.Errorf("worker 1 was started with %q", starts)
	}
	if !strings.Contains(s.said(), "worker 1 ended (exit status 1); starting it again") {
		t.Error(s.said())
	}
}

func TestSupervisorGoesOnWithoutACrashedWorker(t *testing.T) {
	s := supervise(t, "crash")
	got, err := s.run(t.Context())
	if err != nil || !got.Complete || got.Tokens != 400 {
		t.Errorf("%+v, %v", got, err)
	}
	again := fmt.Sprintf("loco worker %s --dir %s --worker 1\n", filepath.Join(s.dir, process.ConfigFile), s.dir)
	if len(startsOf(s.dir, 1)) != 1 || !strings.Contains(s.said(), "the others go on. To start it again:\n  "+again) {
		t.Error(s.said())
	}
}

// A first worker that does not come up leaves nobody to join.
func TestSupervisorNeedsTheFirstWorker(t *testing.T) {
	s := supervise(t, "mute", "run.restarts=3")
	_, err := s.run(t.Context())
	var usage *process.UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "worker 0: exit status 2; its log is "+filepath.Join(s.dir, "worker-0", process.LogFile)) {
		t.Errorf("%v", err)
	}
	if len(startsOf(s.dir, 0)) != 1 || len(startsOf(s.dir, 1)) != 0 {
		t.Error("others were started, or the first one again")
	}
}

func TestSupervisorReportsThatAllAreLost(t *testing.T) {
	s := supervise(t, "lost", "run.workers=1", "sync.strategy=alone")
	_, err := s.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "worker 0: exit status 1") {
		t.Errorf("%v", err)
	}
}

// asked runs with a context that has ended: Ctrl-C while the first worker comes up.
func TestSupervisorStopsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := supervise(t, "wait")
	if _, err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	spec, err := process.NewSpec(s.cfg, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.supervise(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := s.finish(ctx, spec, 2, &summary{Seconds: 5, BytesSent: 1000})
	if err != nil || got.Complete || got.Rounds != 1 || got.Seconds != 7 || got.BytesSent != 1000+10*uint64(len(s.board.workers)) {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.Contains(s.said(), "stopping: every worker finishes its step") || !strings.Contains(s.said(), "stopped at round 1 of 2; checkpoint: checkpoint of 0") {
		t.Error(s.said())
	}
}

func TestSupervisorStopsBeforeAnythingIsTrained(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := supervise(t, "idle")
	if _, err := s.prepare(); err != nil {
		t.Fatal(err)
	}
	spec, err := process.NewSpec(s.cfg, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.supervise(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.finish(ctx, spec, 1, nil); err != nil || got.Complete || !strings.Contains(s.said(), "stopped before anything was trained") {
		t.Errorf("%+v, %v: %s", got, err, s.said())
	}
}

// tick is a clock that goes on by a tenth of a second each time that it is looked at.
func tick() func() time.Time {
	now := time.Unix(1000, 0)
	return func() time.Time { now = now.Add(100 * time.Millisecond); return now }
}

func TestSupervisorMeasuresAndPlans(t *testing.T) {
	s := supervise(t, "probe", "run.time=2m")
	s.now = tick()
	stale := filepath.Join(s.dir, probeDir) // of a measurement that was killed
	if err := os.MkdirAll(stale, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := process.ClaimDir(stale, configWith(t, "run.seed=99"), true); err != nil {
		t.Fatal(err)
	}
	got, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err, s.said())
	}
	written, err := config.Load(filepath.Join(s.dir, process.ConfigFile), nil)
	if err != nil || written.Run.Time != 0 || written.Run.Rounds < roundsLeast || written.Run.Rounds != s.cfg.Run.Rounds {
		t.Errorf("written: %+v, %v", written.Run, err)
	}
	if !got.Complete || !strings.Contains(s.said(), fmt.Sprintf(": %d rounds of 20 steps at ", written.Run.Rounds)) {
		t.Errorf("%+v\n%s", got, s.said())
	}
	if _, err := os.Stat(filepath.Join(s.dir, probeDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder of the measurement is there: %v", err)
	}
	rounds := written.Run.Rounds
	s.cfg.Run.Time, s.cfg.Run.Rounds = config.Duration(time.Minute), 180
	if _, err := s.run(t.Context()); err != nil || s.cfg.Run.Rounds != rounds || strings.Count(s.said(), "plan: ") != 1 {
		t.Errorf("a second time there are %d rounds, not %d (%v)\n%s", s.cfg.Run.Rounds, rounds, err, s.said())
	}
}

func TestSupervisorSaysWhyItCannotMeasure(t *testing.T) {
	s := supervise(t, "probe fails", "run.time=2m")
	_, err := s.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "measure the speed: worker ") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, process.ConfigFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run that was not planned has a configuration: %v", err)
	}
	said, err := os.ReadFile(filepath.Join(s.dir, probeDir, "stderr"))
	if err != nil || !strings.Contains(string(said), "the device is on fire") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestSupervisorStopsAMeasurement(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := supervise(t, "wait", "run.time=2m")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.measure(ctx); !errors.Is(err, trainer.ErrStopped) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}

// What went wrong after the training is an error of the run.
func TestSupervisorReportsWhatFailsAtTheEnd(t *testing.T) {
	s := supervise(t, "train")
	s.quiet = false
	if _, err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), "generate a sample: ") {
		t.Errorf("a checkpoint that cannot be read gives a sample: %v", err)
	}
	s = supervise(t, "unevaluated")
	if got, err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), "checkpoint of 0") {
		t.Errorf("a checkpoint that cannot be read is evaluated: %+v, %v", got, err)
	}
}

func TestFarewell(t *testing.T) {
	result := summary{Rounds: 2, Tokens: 6_000_000, Seconds: 64, TokensPerSecond: 93750, ComputeUtilisation: 0.75, BytesSent: 61_000_000, Strategy: "diloco",
		Digest: strings.Repeat("0123456789abcdef", 4), DigestEqual: true, ReplicaStd: 0.025, Checkpoint: "nowhere", Evaluated: "the shared weights"}
	result.setLoss(1.5)
	for _, tc := range []struct {
		strategy string
		equal    bool
		want     string // of replicas
	}{
		{"diloco", true, "replicas       identical to the bit, 0123456789abcdef…\n"},
		{"diloco", false, "replicas       NOT identical: see the digests in "},
		{"noloco", false, "replicas       differ by a standard deviation of 0.025 per parameter\n"},
		{"alone", true, ""},
	} {
		s := supervise(t, "train")
		s.quiet = false
		result.Strategy, result.DigestEqual = tc.strategy, tc.equal
		if err := s.farewell(&result); err == nil || !strings.Contains(err.Error(), "generate a sample: ") {
			t.Errorf("%v", err)
		}
		for _, want := range []string{
			"\nheld-out loss  1.500 nats per token (perplexity 4.48), of the shared weights\n",
			"trained        6M tokens in 1m4s, 93.8k tok/s, 75 % of the time in inner steps\n",
			"exchanged      61 MB sent in 2 rounds\n", "checkpoint     nowhere\n", tc.want,
		} {
			if !strings.Contains(s.said(), want) {
				t.Errorf("%s: no %q in\n%s", tc.strategy, want, s.said())
			}
		}
		if tc.want == "" && strings.Contains(s.said(), "replicas") {
			t.Errorf("%s has replicas:\n%s", tc.strategy, s.said())
		}
	}
}

func TestConfigurationOfACommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.toml")
	if err := os.WriteFile(file, []byte("[run]\nname = \"mine\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		flags configFlags
		name  string
	}{
		{configFlags{}, "tiny"}, {configFlags{File: file}, "mine"}, {configFlags{Preset: "home-60m"}, "home-60m"},
		{configFlags{File: file, Set: []string{"run.name=set"}}, "set"}, {configFlags{Preset: "home-60m", Set: []string{"run.name=set"}}, "set"},
	} {
		cfg, err := tc.flags.load()
		if err != nil || cfg.Run.Name != tc.name {
			t.Errorf("%+v: %q, %v", tc.flags, cfg.Run.Name, err)
		}
	}
	var usage *process.UsageError
	for want, flags := range map[string]configFlags{"name one of them": {File: file, Preset: "home-60m"}, "no such file": {File: file + "x"}} {
		if _, err := flags.load(); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", flags, err)
		}
	}
	if cfg, err := (configFlags{}).load("run.name=more"); err != nil || cfg.Run.Name != "more" {
		t.Errorf("%v", err)
	}
}
