package clustertest

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh/sim"
)

var recordGolden = flag.Bool("golden.record", false, "record the fixtures of the golden worlds anew instead of comparing with them")

// goldenRounds are kept of each golden world.
const goldenRounds = 24

// goldenWorlds are those whose bits depend on when something happens, so that real processes
// cannot repeat them: a worker that comes too late for rounds, and one that is killed and
// joins without a disk. In virtual time every moment is exact. The links have no jitter and
// lose nothing, and times are chosen so that no two of them that matter coincide.
var goldenWorlds = []struct {
	name   string
	params func(p *params)
	faults func(w *world)
}{
	{"slow-cycle", func(p *params) {
		p.cycle, p.graceMin, p.inner, p.step = 3, 170*time.Millisecond, 16, 130*time.Millisecond
	}, slowest},
	{"slow-lost", func(p *params) { p.graceMin = 170 * time.Millisecond }, slowest},
	{"slow-inner-time", func(p *params) { p.innerTime, p.inner, p.graceMin = 2300*time.Millisecond, 12, 900*time.Millisecond }, slowest},
	{"joiner", func(p *params) { p.codec = "int4" }, joiner},
	{"joiner-moments", func(p *params) { p.moments = true }, joiner},
	{"joiner-ddp", func(p *params) { p.strategy, p.inner, p.rate, p.codec = "ddp", 1, 0.1, "fp32" }, joiner},
	// The joiner takes the state of the only other worker: which of more it would ask is not fixed.
	{"joiner-noloco", func(p *params) { p.workers, p.strategy, p.maxLag, p.rate, p.tail = 2, "noloco", 2, 0.03, 25 }, joiner},
}

// slowest makes the last worker's steps 2.3 times as long until the faults end.
func slowest(w *world) {
	w.mu.Lock()
	w.slots[len(w.slots)-1].slow = 2.3
	w.mu.Unlock()
	<-time.After(70 * time.Second)
}

// joiner kills the last worker amid a round; it comes back without a disk amid a later one.
func joiner(w *world) {
	last := len(w.slots) - 1
	<-time.After(8377 * time.Millisecond)
	w.kill(w.process(last), 11*time.Second)
	w.wipe(last)
	<-time.After(40 * time.Second)
}

// goldenEvent is what of an event is compared. It has types of its own, so that a change of
// the trainer's cannot change that.
type goldenEvent struct {
	Event         string   `json:"event"`
	Worker        int      `json:"worker"`
	Why           string   `json:"why,omitempty"`
	FromRound     uint64   `json:"from_round,omitempty"`
	Round         uint64   `json:"round"`
	Step          uint64   `json:"step,omitempty"`
	Tokens        uint64   `json:"tokens,omitempty"`
	RunTokens     float64  `json:"run_tokens,omitempty"`
	Steps         uint64   `json:"steps,omitempty"`
	LostSteps     uint64   `json:"lost_steps,omitempty"`
	LostRounds    uint64   `json:"lost_rounds,omitempty"`
	LostTokens    uint64   `json:"lost_tokens,omitempty"`
	CarriedTokens uint64   `json:"carried_tokens,omitempty"`
	Members       []int    `json:"members,omitempty"`
	TrainLoss     float64  `json:"train_loss,omitempty"`
	DeltaNorm     float64  `json:"delta_norm,omitempty"`
	ReplicaStd    *float64 `json:"replica_std,omitempty"`
	Digest        string   `json:"digest,omitempty"`
}

// goldenOf returns an event's line of a fixture, "" for one that is not compared. JSON keeps
// a float64 to the bit.
func goldenOf(t *testing.T, event any) string {
	t.Helper()
	text, err := json.Marshal(event)
	var e goldenEvent
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil && (e.Event != "round" && e.Event != "resync" || e.Round > goldenRounds) {
		return ""
	}
	if err == nil {
		text, err = json.Marshal(e)
	}
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// TestGoldenWorlds compares what whole workers go through with what they did before, to the
// bit. The fixtures were recorded by commit 76061ab, with -golden.record. Its package
// clustertest had a worker of its own, which was given what the command's had besides:
// gossip's GraceMin and SlowCycle, and the report of a join.
func TestGoldenWorlds(t *testing.T) {
	for _, g := range goldenWorlds {
		t.Run(g.name, func(t *testing.T) {
			p := params{
				workers: 4, parameters: 500, strategy: "diloco", codec: "int8", grace: 2 * time.Second, deadline: 40 * time.Second,
				join: 15 * time.Second, detection: 1700 * time.Millisecond, inner: 4, step: 510 * time.Millisecond, saveEvery: 1, tail: 14, rate: 0.15,
				link: sim.Link{Latency: 7 * time.Millisecond, Bandwidth: 4 << 20}, faults: 1,
			}
			g.params(&p)
			lines := make([][]string, p.workers)
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, p)
				w.net = newSimNet(1, p)
				var mu sync.Mutex
				w.watch = func(p *process, event any) {
					if line := goldenOf(t, event); line != "" {
						mu.Lock()
						defer mu.Unlock()
						lines[p.index] = append(lines[p.index], line)
					}
				}
				w.run(func() { g.faults(w) })
			})
			var all []string
			for _, l := range lines {
				all = append(all, l...)
			}
			checkGolden(t, filepath.Join("testdata", "golden-"+g.name+".jsonl"), all)
		})
	}
}

// checkGolden compares lines with a fixture, or writes that.
func checkGolden(t *testing.T, path string, got []string) {
	t.Helper()
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
