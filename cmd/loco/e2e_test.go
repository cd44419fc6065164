//go:build unix

package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/trainer"
	"loco/worker/process"
)

var endToEnd = flag.Bool("e2e", false, "run the end-to-end tests: real processes, minutes")

// e2eDeadline bounds one command of an end-to-end test.
const e2eDeadline = 4 * time.Minute

var builtLoco = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "loco-e2e-*")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "loco")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if script := os.Getenv(scriptVariable); script != "" && len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(playWorker(script, os.Args[1:]))
	}
	flag.Parse()
	code := m.Run()
	if *endToEnd {
		if path, err := builtLoco(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// small is a run of seconds: a model of about 8 thousand parameters on a corpus that
// the test writes.
func small(t *testing.T, more ...string) []string {
	t.Helper()
	dir := corpus(t)
	sets := []string{
		"data.source=" + dir, "data.heldout=0.2", "model.layers=1", "model.width=16", "model.heads=2", "model.kv_heads=1", "model.ffn=32", "model.context=32",
		"inner.batch=4", "inner.warmup=5", "run.rounds=8", "run.eval_tokens=1024", "sync.inner_steps=20", "sync.deadline=20s", "sync.grace=5s",
		"checkpoint.every=1", "checkpoint.keep=20", "mesh.heartbeat=200ms", "mesh.suspect_after=1s", "mesh.dead_after=3s", "mesh.join_timeout=20s",
	}
	var args []string
	for _, s := range append(sets, more...) {
		args = append(args, "--set", s)
	}
	return args
}

// corpus is text with enough structure to learn from: this package's own source.
func corpus(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source here", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func needE2E(t *testing.T) string {
	t.Helper()
	if !*endToEnd {
		t.Skip("end-to-end tests run with -e2e")
	}
	path, err := builtLoco()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// loco runs the program to its end and returns its standard output.
func loco(t *testing.T, wantExit int, args ...string) string {
	t.Helper()
	p := startLoco(t, args...)
	p.wait(wantExit)
	return p.stdout.String()
}

// running is one running command of a test.
type running struct {
	t              *testing.T
	args           []string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	lines          chan string // of standard output, for line
	ended          chan struct{}
}

func startLoco(t *testing.T, args ...string) *running {
	t.Helper()
	p := &running{t: t, args: args, lines: make(chan string, 100000), ended: make(chan struct{})}
	p.cmd = exec.CommandContext(t.Context(), needE2E(t), args...)
	p.cmd.Stderr = &p.stderr
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); <-p.ended })
	go func() {
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			p.stdout.WriteString(s.Text() + "\n")
			select {
			case p.lines <- s.Text():
			default:
			}
		}
		p.cmd.Wait()
		close(p.lines)
		close(p.ended)
	}()
	return p
}

func (p *running) wait(wantExit int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(e2eDeadline):
		p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.ended
		p.t.Fatalf("loco %s did not end within %v\n%s\n%s", strings.Join(p.args, " "), e2eDeadline, p.stdout.String(), tail(p.stderr.String()))
	}
	if got := p.cmd.ProcessState.ExitCode(); wantExit >= 0 && got != wantExit {
		p.t.Fatalf("loco %s: exit code %d, want %d\n%s\n%s", strings.Join(p.args, " "), got, wantExit, p.stdout.String(), tail(p.stderr.String()))
	}
}

// event waits for an event of a worker that prints JSON lines and satisfies want.
func (p *running) event(what string, want func(any) bool) any {
	p.t.Helper()
	deadline := time.After(e2eDeadline)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("loco %s ended before %s\n%s\n%s", strings.Join(p.args, " "), what, tail(p.stdout.String()), tail(p.stderr.String()))
			}
			if e, err := process.ParseEvent([]byte(line)); err == nil && e != nil && want(e) {
				return e
			}
		case <-deadline:
			p.t.Fatalf("no %s within %v", what, e2eDeadline)
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-6000):] }

func summaryOf(t *testing.T, dir string) *summary {
	t.Helper()
	s, err := readSummary(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// roundsOf reads a worker's record.
func roundsOf(t *testing.T, dir string, worker int) []trainer.RoundEvent {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("worker-%d", worker), process.RecordFile))
	if err != nil {
		t.Fatal(err)
	}
	var rounds []trainer.RoundEvent
	for line := range strings.Lines(string(data)) {
		e, err := process.ParseEvent([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := e.(*trainer.RoundEvent); ok {
			rounds = append(rounds, *r)
		}
	}
	return rounds
}

// losses are what must be equal to the bit between equal runs.
func losses(t *testing.T, dir string, workers int) (all []string) {
	t.Helper()
	for k := range workers {
		for _, r := range roundsOf(t, dir, k) {
			all = append(all, fmt.Sprintf("worker %d round %d step %d tokens %d loss %x digest %s", k, r.Round, r.Step, r.Tokens, math.Float64bits(r.TrainLoss), r.Digest))
		}
	}
	return all
}

func equalRuns(t *testing.T, a, b []string) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d rounds against %d", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("first difference:\n%s\n%s", a[i], b[i])
		}
	}
}

// oncePerRound checks that no round stands in a worker's record twice, and that rounds
// never go back.
func oncePerRound(t *testing.T, rounds []trainer.RoundEvent) {
	t.Helper()
	for i := 1; i < len(rounds); i++ {
		if rounds[i].Round <= rounds[i-1].Round {
			t.Errorf("worker %d: round %d follows round %d", rounds[i].Worker, rounds[i].Round, rounds[i-1].Round)
		}
	}
}

func TestE2EDiLoCoReplicasAgreeAndBytesAreTheCodecs(t *testing.T) {
	needE2E(t)
	dir := t.TempDir() // a model large enough that frame headers do not count
	loco(t, 0, append([]string{"run", "--dir", dir}, small(t, "model.width=32", "model.ffn=64")...)...)
	s := summaryOf(t, dir)
	if !s.Complete || s.Rounds != 8 || !s.DigestEqual || s.HeldoutLoss == nil || *s.HeldoutLoss > 5.5 {
		t.Fatalf("summary %+v", s)
	}
	want := roundsOf(t, dir, 0)
	int8Codec, err := codec.ByName("int8")
	if err != nil {
		t.Fatal(err)
	}
	for k := range 4 {
		got := roundsOf(t, dir, k)
		if len(got) != 8 {
			t.Fatalf("worker %d has %d rounds", k, len(got))
		}
		bytes := float64(gossip.AllReduceBytes(int8Codec, s.Parameters, 4, k))
		for i, r := range got {
			if r.Digest != want[i].Digest || r.Group != 4 || r.Step != uint64(20*(i+1)) {
				t.Errorf("worker %d round %d: group %d, digest %s, worker 0 has %s", k, r.Round, r.Group, r.Digest, want[i].Digest)
			}
			if !(math.Abs(float64(r.BytesSent)/bytes-1) <= 0.02) {
				t.Errorf("worker %d round %d sent %d bytes, the codec says %.0f", k, r.Round, r.BytesSent, bytes)
			}
		}
	}
}

// Neither data nor the order of a sum may depend on peer IDs or on arrival.
func TestE2ESameSeedSameBits(t *testing.T) {
	needE2E(t)
	for _, strategy := range []string{"diloco", "noloco", "ddp"} {
		args := small(t, "sync.strategy="+strategy, "run.rounds=3")
		a, b := t.TempDir(), t.TempDir()
		loco(t, 0, append([]string{"run", "--dir", a}, args...)...)
		loco(t, 0, append([]string{"run", "--dir", b, "--set", "inner.threads=2"}, args...)...)
		equalRuns(t, losses(t, a, 4), losses(t, b, 4))
	}
}

func TestE2EStopAndResumeEqualsNeverHavingStopped(t *testing.T) {
	needE2E(t)
	for _, strategy := range []string{"diloco", "noloco"} {
		args := small(t, "run.workers=2", "sync.strategy="+strategy)
		whole, halves := t.TempDir(), t.TempDir()
		loco(t, 0, append([]string{"run", "--dir", whole}, args...)...)
		loco(t, 0, append([]string{"run", "--dir", halves, "--stop-after", "5"}, args...)...)
		if s := summaryOf(t, halves); s.Complete || s.Rounds != 5 {
			t.Fatalf("stopped: %+v", s)
		}
		loco(t, 0, append([]string{"run", "--dir", halves}, args...)...)
		equalRuns(t, losses(t, halves, 2), losses(t, whole, 2))
	}
}

// Ctrl-C at any moment ends cleanly, and the same command goes on to the same bits.
func TestE2ECtrlCAndResume(t *testing.T) {
	needE2E(t)
	for _, strategy := range []string{"diloco", "noloco"} {
		// Steps long enough that the workers are stopped at different ones.
		args := small(t, "sync.strategy="+strategy, "run.rounds=12", "inner.batch=32", "run.report_every=1")
		whole, halves := t.TempDir(), t.TempDir()
		loco(t, 0, append([]string{"run", "--dir", whole}, args...)...)
		run := append([]string{"run", "--dir", halves}, args...)
		for _, round := range []string{"round 2/12", "round 5/12", "round 9/12"} {
			p := startLoco(t, run...)
			p.line(round)
			p.cmd.Process.Signal(os.Interrupt)
			p.wait(0)
			if s := summaryOf(t, halves); s.Complete || s.Rounds < 2 {
				t.Fatalf("after Ctrl-C: %+v", s)
			}
		}
		loco(t, 0, run...)
		equalRuns(t, losses(t, halves, 4), losses(t, whole, 4))
	}
}

// Everybody killed, the supervisor too, as a power cut does: the same command goes on
// from the checkpoints. They may be of different rounds, so the newest counts.
func TestE2EEverybodyKilledAndResume(t *testing.T) {
	needE2E(t)
	args := small(t, "run.rounds=30", "run.workers=3", "inner.batch=8")
	dir := t.TempDir()
	run := append([]string{"run", "--dir", dir}, args...)
	p := startLoco(t, run...)
	p.line("round 6/30")
	var pids []int
	for k := range 3 { // before the supervisor, or they would stop cleanly
		pids = append(pids, workerPID(t, dir, k))
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	p.cmd.Process.Kill()
	<-p.ended
	loco(t, 0, run...)
	if s := summaryOf(t, dir); !s.Complete || !s.DigestEqual || s.Rounds != 30 {
		t.Fatalf("after the resume: %+v", s)
	}
	for k := range 3 {
		oncePerRound(t, roundsOf(t, dir, k))
	}
}

// workerPID finds the process of a supervised worker.
func workerPID(t *testing.T, dir string, worker int) int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(paths) == 0 {
		t.Skip("no /proc on this system")
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		if strings.Contains(string(text), fmt.Sprintf("\x00--dir\x00%s\x00--worker\x00%d\x00", dir, worker)) {
			var pid int
			if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("worker %d of %s has no process", worker, dir)
	return 0
}

// line waits for a line of standard output that contains text.
func (p *running) line(text string) {
	p.t.Helper()
	deadline := time.After(e2eDeadline)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("loco %s ended before %q\n%s", strings.Join(p.args, " "), text, tail(p.stdout.String()))
			}
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			p.t.Fatalf("no line with %q within %v", text, e2eDeadline)
		}
	}
}

// Reference: NoLoCo, arXiv 2506.10911, section 5: the deviation of the replicas rises
// through the warmup and then falls with the learning rate.
func TestE2ENoLoCoReplicaStdFallsWithTheLearningRate(t *testing.T) {
	needE2E(t)
	dir := t.TempDir()
	loco(t, 0, append([]string{"run", "--dir", dir}, small(t, "sync.strategy=noloco", "run.rounds=24", "inner.min_lr_ratio=0", "sync.inner_steps=10")...)...)
	s := summaryOf(t, dir)
	if s.ReplicaStd <= 0 {
		t.Fatalf("replica std %v", s.ReplicaStd)
	}
	mean := make([]float64, 24)
	for k := range 4 {
		for i, r := range roundsOf(t, dir, k) {
			if r.ReplicaStd == nil {
				t.Fatalf("worker %d round %d has no replica std; its pair was %v", k, r.Round, r.Members)
			}
			mean[i] += *r.ReplicaStd / 4
		}
	}
	peak := slices.Max(mean)
	if last := mean[23]; last > 0.5*peak {
		t.Errorf("replica std ends at %.3g, its peak was %.3g: it should fall with the learning rate\n%.3g", last, peak, mean)
	}
}

// workerArgs starts workers by hand, as item 3 of the README has it.
func workerArgs(config, dir string, number int, join []string) []string {
	args := []string{"worker", config, "--dir", dir, "--worker", fmt.Sprint(number), "--json"}
	for _, a := range join {
		args = append(args, "--join", a)
	}
	return args
}

// byHand starts n workers of a configuration and returns them and their addresses.
func byHand(t *testing.T, dir string, n int, sets []string) (ps []*running, addrs []string) {
	t.Helper()
	toml := filepath.Join(t.TempDir(), "run.toml")
	text := loco(t, 0, append([]string{"config", "show"}, sets...)...)
	if err := os.WriteFile(toml, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for k := range n {
		p := startLoco(t, workerArgs(toml, dir, k, addrs)...)
		a := p.event("address", func(e any) bool { _, ok := e.(*process.AddressEvent); return ok }).(*process.AddressEvent)
		if k == 0 {
			addrs = a.Addrs
		}
		ps = append(ps, p)
	}
	return ps, addrs
}

// kill -9 in each phase: the others finish, the killed one comes back, nothing hangs.
func TestE2EKillInEachPhaseAndRejoin(t *testing.T) {
	needE2E(t)
	for _, phase := range []struct {
		name   string
		victim int
		when   func(e any) bool
	}{
		{"inner", 2, func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Round == 3 && s.Step%20 == 10 }},
		{"inner, coordinator", 0, func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Round == 3 && s.Step%20 == 10 }},
		{"exchange", 1, func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Round == 3 && s.Step == 80 }},
		{"exchange, coordinator", 0, func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Round == 3 && s.Step == 80 }},
		{"checkpoint", 3, func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Round == 4 }},
	} {
		t.Run(phase.name, func(t *testing.T) {
			dir := t.TempDir()
			sets := small(t, "run.rounds=60", "run.report_every=1", "inner.batch=8")
			ps, addrs := byHand(t, dir, 4, sets)
			ps[phase.victim].event("the phase", phase.when)
			ps[phase.victim].cmd.Process.Kill()
			<-ps[phase.victim].ended
			other := (phase.victim + 1) % 4
			ps[other].event("a round of three", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == 3 })
			again := startLoco(t, workerArgs(ps[phase.victim].args[1], dir, phase.victim, addrs)...)
			again.event("a round of four", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == 4 })
			again.wait(0)
			for k, p := range ps {
				if k != phase.victim {
					p.wait(0)
				}
			}
			last := map[string]bool{}
			for k := range 4 {
				rounds := roundsOf(t, dir, k)
				oncePerRound(t, rounds)
				end := rounds[len(rounds)-1]
				if end.Round != 60 {
					t.Errorf("worker %d ended at round %d", k, end.Round)
				}
				last[end.Digest] = true
			}
			if len(last) != 1 {
				t.Errorf("%d digests at the end, want 1", len(last))
			}
		})
	}
}

// TestE2EBackWithoutItsFolder kills a worker and starts it again at once, with its number and
// without its folder: the others do not know the new process and believe the old one alive.
func TestE2EBackWithoutItsFolder(t *testing.T) {
	needE2E(t)
	dir := t.TempDir()
	sets := small(t, "run.rounds=60", "run.report_every=1", "inner.batch=8", "mesh.dead_after_refused=3s")
	ps, addrs := byHand(t, dir, 3, sets)
	ps[2].event("an inner step", func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Round == 3 })
	ps[2].cmd.Process.Kill()
	<-ps[2].ended
	args := workerArgs(ps[2].args[1], dir, 2, addrs)
	for i, a := range args {
		if a == "--dir" {
			args[i+1] = t.TempDir()
		}
	}
	again := startLoco(t, args...)
	again.event("a round of three", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == 3 })
	again.wait(0)
	for _, k := range []int{0, 1} {
		ps[k].wait(0)
	}
}

// In noloco too the others go on after a kill -9, and the killed one comes back.
func TestE2ENoLoCoKillAndRejoin(t *testing.T) {
	needE2E(t)
	dir := t.TempDir()
	ps, addrs := byHand(t, dir, 4, small(t, "sync.strategy=noloco", "run.rounds=80", "run.report_every=1", "inner.batch=8"))
	ps[2].event("an inner step", func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Round == 3 && s.Step%20 == 10 })
	ps[2].cmd.Process.Kill()
	<-ps[2].ended
	again := startLoco(t, workerArgs(ps[2].args[1], dir, 2, addrs)...)
	again.event("a pair", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == 2 })
	again.wait(0)
	for _, k := range []int{0, 1, 3} {
		ps[k].wait(0)
		rounds := roundsOf(t, dir, k)
		oncePerRound(t, rounds)
		alone := 0
		for _, r := range rounds {
			if r.Group == 1 {
				alone++
			}
		}
		if rounds[len(rounds)-1].Round != 80 || alone > 20 {
			t.Errorf("worker %d ended at round %d, %d of them alone", k, rounds[len(rounds)-1].Round, alone)
		}
	}
}

func TestE2EAnotherConfigurationIsRefusedWithTheKeys(t *testing.T) {
	needE2E(t)
	sets := small(t, "run.rounds=100000")
	ps, addrs := byHand(t, t.TempDir(), 1, append(sets, "--set", "run.workers=1"))
	defer ps[0].cmd.Process.Kill()
	other := append([]string{"worker", "--dir", t.TempDir(), "--worker", "1", "--json", "--join", addrs[0], "--set", "inner.lr=0.123"}, sets...)
	other = append(other, "--set", "run.workers=1", "--set", "data.source="+sourceOf(sets))
	p := startLoco(t, other...)
	p.wait(2)
	if text := p.stderr.String(); !strings.Contains(text, "inner.lr") || !strings.Contains(text, "0.123") {
		t.Fatalf("the refusal does not name the key and both values:\n%s", text)
	}
}

func sourceOf(sets []string) string {
	for _, s := range sets {
		if dir, ok := strings.CutPrefix(s, "data.source="); ok {
			return dir
		}
	}
	return ""
}

// metricNames are the metrics that docs/metrics.md documents.
func metricNames(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Prometheus")
	for _, n := range regexp.MustCompile("`(loco_[a-z_]+)`").FindAllStringSubmatch(table, -1) {
		all = append(all, n[1])
	}
	if len(all) < 20 {
		t.Fatalf("docs/metrics.md documents %d metrics", len(all))
	}
	return all
}

func TestE2EMetricsHealthAndWhatIsLeft(t *testing.T) {
	needE2E(t)
	dir := t.TempDir()
	sets := small(t, "run.rounds=100000", "run.workers=2")
	toml := filepath.Join(t.TempDir(), "run.toml")
	if err := os.WriteFile(toml, []byte(loco(t, 0, append([]string{"config", "show"}, sets...)...)), 0o644); err != nil {
		t.Fatal(err)
	}
	first := startLoco(t, workerArgs(toml, dir, 0, nil)...)
	a := first.event("address", func(e any) bool { _, ok := e.(*process.AddressEvent); return ok }).(*process.AddressEvent)
	second := startLoco(t, workerArgs(toml, dir, 1, a.Addrs)...)
	second.event("a round of two", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == 2 && r.Round >= 2 })
	first.event("a round of two", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == 2 && r.Round >= 2 })
	metrics := get(t, "http://"+a.Metrics+"/metrics")
	for _, name := range metricNames(t) {
		if name == "loco_late_worker_seconds" {
			continue // it has no series while nobody is late
		}
		if !strings.Contains(metrics, "\n"+name) && !strings.HasPrefix(metrics, name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
	if !strings.Contains(metrics, `loco_peers{run="tiny",state="alive",worker="0"} 2`) {
		t.Error("/metrics does not count two live peers")
	}
	if h := get(t, "http://"+a.Metrics+"/healthz"); !strings.Contains(h, `"state":"training"`) || !strings.Contains(h, `"peers":2`) {
		t.Errorf("/healthz: %s", h)
	}
	if p := get(t, "http://"+a.Metrics+"/debug/pprof/goroutine?debug=1"); !strings.Contains(p, "goroutine profile") {
		t.Error("no goroutine profile for this machine")
	}
	for _, p := range []*running{first, second} {
		p.cmd.Process.Signal(os.Interrupt)
	}
	first.wait(0)
	second.wait(0)

	if out := loco(t, 0, "checkpoint", "list", dir); !strings.Contains(out, "round-") {
		t.Errorf("checkpoint list: %s", out)
	}
	if out := loco(t, 0, "checkpoint", "verify", dir); !strings.Contains(out, "whole") {
		t.Errorf("checkpoint verify: %s", out)
	}
	if out := loco(t, 0, "eval", dir, "--json"); !strings.Contains(out, "heldout_loss") {
		t.Errorf("eval: %s", out)
	}
	one, two := loco(t, 0, "generate", dir, "--tokens", "40"), loco(t, 0, "generate", dir, "--tokens", "40")
	if one != two || len(one) < 40 {
		t.Errorf("generate: %q, then %q", one, two)
	}
	if out := loco(t, 0, "data", "inspect", dir); !strings.Contains(out, "entropy") {
		t.Errorf("data inspect: %s", out)
	}
	if out := loco(t, 0, "config", "check", filepath.Join(dir, process.ConfigFile)); !strings.Contains(out, "valid") {
		t.Errorf("config check: %s", out)
	}
	damage(t, dir)
	if p := startLoco(t, "checkpoint", "verify", dir); true {
		p.wait(1)
		if !strings.Contains(p.stdout.String(), "DAMAGED") {
			t.Errorf("checkpoint verify of a damaged one: %s", p.stdout.String())
		}
	}
}

// damage flips a byte in worker 0's newest checkpoint.
func damage(t *testing.T, dir string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "checkpoints", "worker-0", "round-*", "model.safetensors"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no checkpoint", err)
	}
	slices.Sort(paths)
	path := paths[len(paths)-1]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", url, r.Status, err)
	}
	return string(body)
}

// Workers left without their supervisor stop by themselves.
func TestE2EWorkersEndWithTheirSupervisor(t *testing.T) {
	needE2E(t)
	dir := t.TempDir()
	run := append([]string{"run", "--dir", dir}, small(t, "run.rounds=4000", "run.workers=2")...)
	p := startLoco(t, run...)
	p.line("round ")
	p.cmd.Process.Kill()
	<-p.ended
	deadline := time.Now().Add(e2eDeadline)
	for { // the folders are locked until the workers have ended
		free := 0
		for k := range 2 {
			if !process.Occupied(filepath.Join(dir, fmt.Sprintf("worker-%d", k))) {
				free++
			}
		}
		if free == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("workers still run without their supervisor")
		}
		runtime.Gosched()
	}
	for k := range 2 { // they saved and left in order
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("worker-%d", k), process.RecordFile))
		if err != nil || !strings.Contains(string(data), `"event":"result"`) {
			t.Errorf("worker %d did not end in order: %v", k, err)
		}
	}
	loco(t, 0, append(run, "--stop-after", "3")...)
}
