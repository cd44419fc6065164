//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Golden runs hold every bit of what the program trains: the losses, norms and digests of
// every round and worker of short runs, and of runs that go on from checkpoints which an
// older version has written. The fixtures in testdata/golden were recorded by commit
// 76061ab, with -golden.record.
//
// They are portable: float32 results are the same on every processor, whatever the number
// of threads, and JSON keeps a float64 to the bit. They do not depend on timing either:
//
//   - goldenSets has everybody wait for everybody for a minute, and nobody is taken for
//     dead sooner. So every round of diloco and ddp has all workers.
//   - A pair of noloco is a function of seed, round and the live workers. With a max_lag
//     that no worker reaches nobody falls behind when two pairs run ahead of two others.
//   - A worker is stopped after a round, or resumes from a folder that is a fixture.
//   - The joiner comes while the others hold still: see TestE2EGoldenJoiner.
//
// A worker that comes too late for rounds is not among them, because real processes cannot
// be made late by a fixed number of steps: loco/trainer/clustertest has that, in virtual time.
//
// The runs need processes for nothing but the folders. The same fixtures hold for worker.New
// over mesh/sim, with the configurations and the learner that loco/worker/process makes of
// goldenSets and goldenText, and with what Report gets in place of metrics.jsonl.
var recordGolden = flag.Bool("golden.record", false, "record the golden runs' fixtures anew instead of comparing with them")

// goldenDir holds a file NAME.jsonl for each golden run, and in resume/NAME the folders that
// runs go on from.
const goldenDir = "testdata/golden"

// goldenRuns are the runs to the end.
var goldenRuns = []struct {
	name    string
	workers []int
	sets    []string
}{
	{"diloco-int8", []int{2, 4}, []string{"sync.strategy=diloco", "sync.codec=int8"}},
	{"diloco-int4", []int{2, 4}, []string{"sync.strategy=diloco", "sync.codec=int4"}},
	{"diloco-fp32", []int{2, 4}, []string{"sync.strategy=diloco", "sync.codec=fp32"}},
	{"noloco", []int{2, 4}, []string{"sync.strategy=noloco", "sync.codec=int8", "sync.beta=0.7", "sync.gamma=0.9", "sync.max_lag=1000"}},
	{"noloco-bf16", []int{2}, []string{"sync.strategy=noloco", "sync.codec=bf16", "sync.state_codec=bf16", "sync.beta=0.7", "sync.gamma=0.9", "sync.max_lag=1000"}},
	{"noloco-equal", []int{2, 4}, []string{"sync.strategy=noloco", "sync.codec=int8", "sync.beta=0.7", "sync.gamma=0.7", "sync.max_lag=1000"}},
	{"ddp", []int{2, 4}, []string{"sync.strategy=ddp", "sync.codec=fp32", "sync.inner_steps=2"}},
	{"alone", []int{1}, []string{"sync.strategy=alone"}},
}

// goldenStops are runs that are stopped after five rounds and started again.
var goldenStops = []string{"diloco-int4", "noloco", "noloco-equal", "ddp", "alone"}

// goldenFolders are runs that the recording version stopped amid a round. Of three workers
// in pairs one is left over in each round, so that their replicas differ.
var goldenFolders = []struct {
	name    string
	workers int
	sets    []string
}{
	{"diloco", 2, []string{"sync.strategy=diloco", "sync.codec=int8", "sync.slow_cycle=2"}},
	{"noloco", 3, []string{"sync.strategy=noloco", "sync.codec=int8", "sync.beta=0.7", "sync.gamma=0.9", "sync.max_lag=1000"}},
	{"alone", 1, []string{"sync.strategy=alone"}},
}

// folderSets makes checkpoints small and rounds long enough to be interrupted.
var folderSets = []string{"model.width=2", "model.ffn=4", "sync.inner_steps=40", "inner.batch=16"}

// goldenSets is a run of 12 rounds of a model with 1,200 parameters.
func goldenSets(text string, more ...string) (args []string) {
	for _, s := range append([]string{
		"data.source=" + text, "data.heldout=0.2", "model.layers=2", "model.width=4", "model.heads=1", "model.kv_heads=1", "model.ffn=8", "model.context=16",
		"inner.batch=2", "inner.warmup=6", "inner.lr=0.01", "inner.precision=fp32", "inner.device=cpu", "inner.threads=1",
		"run.seed=11", "run.rounds=12", "run.eval_every=3", "run.eval_tokens=256", "sync.inner_steps=5",
		"sync.deadline=1m", "sync.grace=1m", "sync.grace_min=0s", "mesh.join_timeout=1m",
		"mesh.heartbeat=200ms", "mesh.suspect_min=1m", "mesh.suspect_after=2m", "mesh.dead_min=1m", "mesh.dead_after=3m", "mesh.dead_after_refused=1m",
		"checkpoint.every=1", "checkpoint.keep=1", "checkpoint.tmpfs=", "metrics.listen=",
	}, more...) {
		args = append(args, "--set", s)
	}
	return args
}

// goldenText writes the text that golden runs train on: their own, because Go's source
// differs between versions.
func goldenText(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for f := range 12 {
		var text bytes.Buffer
		for i := range 60 {
			n := 60*f + i
			fmt.Fprintf(&text, "%d: %s buys %d %s for %d cents.\n", n, []string{"Ada", "Blaise", "Carl", "Emmy"}[n*n%7%4], n*5%13, []string{"figs", "plums", "nuts"}[n%3], n*n%97)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("text-%d.txt", f)), text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goldenEvent is what of an event in metrics.jsonl is the same in every run. It has types of
// its own, so that a change of the program's types cannot change what is compared.
type goldenEvent struct {
	Event         string   `json:"event"`
	Worker        int      `json:"worker"`
	FromRound     uint64   `json:"from_round,omitempty"`
	Round         uint64   `json:"round"`
	Step          uint64   `json:"step,omitempty"`
	Tokens        uint64   `json:"tokens,omitempty"`
	RunTokens     float64  `json:"run_tokens,omitempty"`
	Steps         uint64   `json:"steps,omitempty"`
	LostSteps     uint64   `json:"lost_steps,omitempty"`
	LostTokens    uint64   `json:"lost_tokens,omitempty"`
	CarriedTokens uint64   `json:"carried_tokens,omitempty"`
	Members       []int    `json:"members,omitempty"`
	TrainLoss     *float64 `json:"train_loss,omitempty"`
	HeldoutLoss   *float64 `json:"heldout_loss,omitempty"`
	GradNorm      *float64 `json:"grad_norm,omitempty"`
	DeltaNorm     *float64 `json:"delta_norm,omitempty"`
	ReplicaStd    *float64 `json:"replica_std,omitempty"`
	Digest        string   `json:"digest,omitempty"`
}

// goldenLines is what the workers of a folder have recorded, worker by worker.
func goldenLines(t *testing.T, dir string, workers int) (lines []string) {
	t.Helper()
	for k := range workers {
		record, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("worker-%d", k), "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		rounds := 0
		for line := range strings.Lines(string(record)) {
			var e goldenEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("worker %d: %v in %s", k, err, line)
			}
			switch e.Event {
			case "round":
				rounds++
				if e.TrainLoss == nil || len(e.Digest) != 64 {
					t.Fatalf("worker %d: a round without a loss or a digest: %s", k, line)
				}
			case "eval", "resync":
			default:
				continue
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, string(text))
		}
		if rounds == 0 {
			t.Fatalf("worker %d has recorded no round", k)
		}
	}
	return lines
}

// checkGolden compares what a run recorded with its fixture, or writes that.
func checkGolden(t *testing.T, name string, got []string) {
	t.Helper()
	path := filepath.Join(goldenDir, name+".jsonl")
	if *recordGolden {
		if err := os.WriteFile(path, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: the first difference is in line %d:\ngot  %s\nwant %s", path, i+1, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d lines, want %d", path, len(got), len(want))
	}
}

func TestE2EGoldenRuns(t *testing.T) {
	needE2E(t)
	text := goldenText(t)
	for _, r := range goldenRuns {
		for _, n := range r.workers {
			name := fmt.Sprintf("%s-%d", r.name, n)
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				loco(t, 0, append([]string{"run", "--dir", dir, "--workers", fmt.Sprint(n)}, goldenSets(text, r.sets...)...)...)
				checkGolden(t, name, goldenLines(t, dir, n))
			})
		}
	}
}

// A run that is stopped and goes on has the bits of one that is not: the fixtures are those
// of TestE2EGoldenRuns.
func TestE2EGoldenStopAndResume(t *testing.T) {
	needE2E(t)
	if *recordGolden {
		t.Skip("it has no fixtures of its own")
	}
	text := goldenText(t)
	for _, r := range goldenRuns {
		for _, name := range goldenStops {
			if name != r.name {
				continue
			}
			t.Run(name, func(t *testing.T) {
				n := r.workers[0]
				dir := t.TempDir()
				args := append([]string{"run", "--dir", dir, "--workers", fmt.Sprint(n)}, goldenSets(text, r.sets...)...)
				loco(t, 0, append(args, "--stop-after", "5")...)
				loco(t, 0, args...)
				checkGolden(t, fmt.Sprintf("%s-%d", name, n), goldenLines(t, dir, n))
			})
		}
	}
}

// A worker without a folder joins two others that have waited for it since they have taken
// the inner steps of round 5: a quorum of three that were started anew has all of them. So
// the joiner finds them in the last step of that round, and takes one step itself.
func TestE2EGoldenJoiner(t *testing.T) {
	needE2E(t)
	dir, text := t.TempDir(), goldenText(t)
	args := append([]string{"run", "--dir", dir, "--workers", "3", "--stop-after", "4"},
		goldenSets(text, "sync.strategy=diloco", "sync.codec=int8", "sync.quorum=majority", "sync.join_moments=fresh", "sync.join_warmup=8")...)
	loco(t, 0, args...)
	for _, left := range []string{"worker-2", "checkpoints/worker-2"} {
		if err := os.RemoveAll(filepath.Join(dir, left)); err != nil {
			t.Fatal(err)
		}
	}
	worker := func(k int, sets ...string) *running {
		args := []string{"worker", filepath.Join(dir, "config.toml"), "--dir", dir, "--worker", fmt.Sprint(k), "--json", "--set", "run.report_every=1"}
		for _, s := range sets {
			args = append(args, "--set", s)
		}
		return startLoco(t, args...) // it finds the others by their folders
	}
	var all []*running
	for k := range 2 { // they give up waiting for the third before they train, and wait again when they average
		all = append(all, worker(k, "mesh.join_timeout=4s"))
		all[k].line(`"event":"address"`)
	}
	for k, p := range all {
		p.line(fmt.Sprintf(`"event":"step","worker":%d,"round":4,"step":25,`, k))
	}
	all = append(all, worker(2))
	for _, p := range all {
		p.wait(0)
	}
	checkGolden(t, "joiner", goldenLines(t, dir, 3))
}

// Folders that an older version has left, each worker in the middle of a round, are gone on
// from as that version went on from them.
func TestE2EGoldenFolders(t *testing.T) {
	needE2E(t)
	text := goldenText(t)
	for _, f := range goldenFolders {
		t.Run(f.name, func(t *testing.T) {
			fixture := filepath.Join(goldenDir, "resume", f.name)
			args := append([]string{"run", "--workers", fmt.Sprint(f.workers)}, goldenSets(text, slices.Concat(folderSets, f.sets)...)...)
			if *recordGolden {
				recordFolder(t, fixture, args, f.workers)
			}
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(fixture)); err != nil {
				t.Fatal(err)
			}
			loco(t, 0, append(args, "--dir", dir)...)
			checkGolden(t, "resume-"+f.name, goldenLines(t, dir, f.workers))
		})
	}
}

// recordFolder interrupts runs until one has saved all workers amid the same round, and
// keeps its checkpoints and, for two workers, its configuration.
func recordFolder(t *testing.T, fixture string, args []string, workers int) {
	t.Helper()
	for range 40 {
		dir := t.TempDir()
		p := startLoco(t, append(slices.Clone(args), "--dir", dir, "--set", "checkpoint.every=0", "--set", "sync.grace=5s")...)
		p.line("round 3/")
		p.cmd.Process.Signal(syscall.SIGINT)
		p.wait(0)
		if !amidARound(t, dir, workers) {
			continue
		}
		if err := os.RemoveAll(fixture); err != nil {
			t.Fatal(err)
		}
		for k := range workers {
			from := filepath.Join("checkpoints", fmt.Sprintf("worker-%d", k))
			if err := os.CopyFS(filepath.Join(fixture, from), os.DirFS(filepath.Join(dir, from))); err != nil {
				t.Fatal(err)
			}
		}
		if workers != 2 {
			return // one configuration is enough; the others are written anew
		}
		config, err := os.ReadFile(filepath.Join(dir, "config.toml"))
		if err == nil {
			err = os.WriteFile(filepath.Join(fixture, "config.toml"), config, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no run was stopped amid a round")
}

// amidARound says that all workers of a folder ended in one round, of 40 steps, and none at
// its beginning or end.
func amidARound(t *testing.T, dir string, workers int) bool {
	t.Helper()
	var at []uint64
	for k := range workers {
		record, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("worker-%d", k), "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(record)) {
			var e goldenEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if e.Event == "result" && e.Step%40 != 0 {
				at = append(at, e.Round)
			}
		}
	}
	return len(at) == workers && slices.Max(at) == slices.Min(at)
}
