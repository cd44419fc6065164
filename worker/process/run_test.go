package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh/p2p"
	"loco/mesh/sim"
	"loco/trainer"
	"loco/trainer/strategy"
	"loco/worker/config"
)

// The tests of whole processes train a real Llama of some thousand parameters over mesh/sim, in
// virtual time: everything of a worker's process but libp2p.

// testRun is a run whose workers are processes of the test.
type testRun struct {
	t   *testing.T
	net *sim.Net
	dir string
	cfg config.Config
	wg  sync.WaitGroup
}

// newTestRun is a run of at most n workers. Call it within a bubble.
func newTestRun(t *testing.T, n int, dir string, sets ...string) *testRun {
	t.Helper()
	cfg, err := config.Load("", append(tinySets(t), sets...))
	if err != nil {
		t.Fatal(err)
	}
	net := sim.NewWith(sim.Options{Peers: n, Latency: time.Millisecond})
	t.Cleanup(net.Close)
	return &testRun{t: t, net: net, dir: dir, cfg: cfg}
}

// tinySets is a run of two workers and three rounds of four steps.
func tinySets(t *testing.T) []string {
	return []string{
		"data.source=" + corpus(t), "data.heldout=0.3", "model.layers=1", "model.width=8", "model.heads=2", "model.kv_heads=1", "model.ffn=16", "model.context=16",
		"inner.batch=2", "inner.warmup=2", "inner.device=cpu", "inner.precision=fp32", "inner.threads=1", "run.workers=2", "run.rounds=3", "run.eval_tokens=64",
		"run.report_every=1", "sync.inner_steps=4", "checkpoint.every=1", "checkpoint.keep=20", "metrics.listen=", "mesh.join_timeout=10s",
	}
}

// corpus is a folder of text that follows from nothing but this function.
func corpus(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 16 {
		var text strings.Builder
		for k := range 40 {
			fmt.Fprintf(&text, "func f%d(x int) int { return x*%d + %d }\n", k, i, k*k)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.go", i)), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// simMesh is a peer of mesh/sim as a process wants it.
type simMesh struct{ *sim.Peer }

func (simMesh) Addrs() []string               { return []string{"/ip4/192.0.2.1/tcp/4001/p2p/peer"} }
func (simMesh) LifeCounts() p2p.LifeCounts    { return p2p.LifeCounts{Sent: 7} }
func (m simMesh) Leave(context.Context) error { return m.Close() }

// life is one process of a worker, and what it said.
type life struct {
	*process
	stop   context.CancelFunc
	mu     sync.Mutex
	events []any
	err    error
	ended  chan struct{}
}

// start starts worker number k's process on peer k.
func (r *testRun) start(k int, stopAfter uint64, watch func(*life, any)) *life {
	r.t.Helper()
	cfg := r.cfg
	spec, err := NewSpec(&cfg, r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	l := &life{ended: make(chan struct{})}
	l.process = newProcess(spec, Options{StopAfter: stopAfter})
	l.newMesh = func(context.Context, p2p.Config) (meshOfRun, error) { return simMesh{r.net.Restart(k)}, nil }
	l.sink = func(event any) {
		l.mu.Lock()
		l.events = append(l.events, event)
		l.mu.Unlock()
		if watch != nil {
			watch(l, event)
		}
	}
	ctx, stop := context.WithCancel(r.t.Context())
	l.stop = stop
	r.wg.Go(func() {
		defer close(l.ended)
		defer stop()
		l.err = l.run(ctx, k)
	})
	return l
}

// all starts workers 0 to n-1 and waits for their ends.
func (r *testRun) all(n int, stopAfter uint64, watch func(*life, any)) (lives []*life) {
	r.t.Helper()
	for k := range n {
		lives = append(lives, r.start(k, stopAfter, watch))
	}
	r.wg.Wait()
	return lives
}

// of returns the events of one type.
func of[E any](l *life) (all []E) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e, ok := e.(E); ok {
			all = append(all, e)
		}
	}
	return all
}

// bits is what must be equal between equal runs.
func bits(l *life) (all []string) {
	for _, e := range of[*trainer.RoundEvent](l) {
		all = append(all, fmt.Sprintf("round %d step %d tokens %d steps %d loss %x norm %x digest %s", e.Round, e.Step, e.Tokens, e.Steps, e.TrainLoss, e.GradNorm, e.Digest))
	}
	return all
}

func (r *testRun) ok(lives ...*life) {
	r.t.Helper()
	for _, l := range lives {
		if l.err != nil {
			r.t.Fatalf("worker %d: %v", l.seat.number, l.err)
		}
	}
}

func (r *testRun) stopped(lives ...*life) {
	r.t.Helper()
	for _, l := range lives {
		if !errors.Is(l.err, trainer.ErrStopped) {
			r.t.Fatalf("worker %d ends with %v, want a stop", l.seat.number, l.err)
		}
	}
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// Workers of an all-reduce end with equal bits, those of pairs with finite losses, and all say
// what they did.
func TestProcessesTrain(t *testing.T) {
	for _, name := range strategy.Names() {
		row, _ := strategy.New(name, strategy.Options{})
		workers := 2
		if with, any := row.With(); !any {
			workers = 1
		} else if with == strategy.Pair {
			workers = 3
		}
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newTestRun(t, workers, t.TempDir(), "sync.strategy="+name, fmt.Sprint("run.workers=", workers))
				lives := r.all(workers, 0, nil)
				r.ok(lives...)
				for _, l := range lives {
					checkTrained(t, r, l, row)
				}
				if a, b := bits(lives[0]), bits(lives[len(lives)-1]); row.Equal {
					for i := range a {
						if da, db := of[*trainer.RoundEvent](lives[0])[i].Digest, of[*trainer.RoundEvent](lives[1])[i].Digest; da != db {
							t.Errorf("after round %d:\n%s\n%s", i+1, a[i], b[i])
						}
					}
				}
			})
		})
	}
}

// checkTrained checks what a worker said of a run that it finished.
func checkTrained(t *testing.T, r *testRun, l *life, row strategy.Strategy) {
	t.Helper()
	rounds := int(r.cfg.Exchanges())
	events := of[*trainer.RoundEvent](l)
	if len(events) != rounds {
		t.Fatalf("%d rounds, want %d", len(events), rounds)
	}
	group := r.cfg.Run.Workers
	for i, e := range events {
		if with, _ := row.With(); with == strategy.Pair {
			group = e.Group // of three one is alone
		}
		if e.Worker != l.seat.number || int(e.Round) != i+1 || e.Group != group || !(e.TrainLoss > 1 && e.TrainLoss < 8) || !(e.GradNorm > 0 && e.GradNorm < 100) {
			t.Errorf("round %d: %+v", i+1, e)
		}
	}
	steps := of[*trainer.StepEvent](l)
	if len(steps) != int(r.cfg.TotalSteps()) {
		t.Errorf("%d steps, want %d", len(steps), r.cfg.TotalSteps())
	}
	results := of[*ResultEvent](l)
	if len(results) != 1 || l.events[len(l.events)-1] != any(results[0]) {
		t.Fatalf("%d results", len(results))
	}
	e, last := results[0], events[rounds-1]
	want := ResultEvent{
		Event: "result", Worker: l.seat.number, Complete: true, Round: last.Round, Step: r.cfg.TotalSteps(), Tokens: r.cfg.TokensPerWorker(),
		SessionTokens: r.cfg.TokensPerWorker(), Digest: last.Digest, Seconds: e.Seconds, InnerSeconds: e.InnerSeconds, Checkpoint: e.Checkpoint,
	}
	for _, r := range events {
		want.BytesSent += r.BytesSent
		want.BytesReceived += r.BytesReceived
	}
	if *e != want || (want.BytesSent == 0) != (len(row.Crossings) == 0) || !(e.InnerSeconds <= e.Seconds) {
		t.Errorf("the result is\n%+v, want\n%+v", *e, want)
	}
	if _, err := os.Stat(e.Checkpoint); err != nil || filepath.Base(e.Checkpoint) != fmt.Sprintf("round-%08d", rounds) {
		t.Errorf("checkpoint %q: %v", e.Checkpoint, err)
	}
	checkRecord(t, l)
}

// checkRecord compares a worker's record with the events of its last life.
func checkRecord(t *testing.T, l *life) {
	t.Helper()
	text, err := os.ReadFile(l.seat.path(RecordFile))
	if err != nil {
		t.Fatal(err)
	}
	var rounds, results int
	for line := range strings.Lines(string(text)) {
		e, err := ParseEvent([]byte(line))
		switch e.(type) {
		case *trainer.RoundEvent:
			rounds++
		case *ResultEvent:
			results++
		case *trainer.EvalEvent:
		default:
			t.Errorf("the record has %T, %v: %s", e, err, line)
		}
	}
	if want := len(of[*trainer.RoundEvent](l)); rounds != want || results != 1 {
		t.Errorf("%d rounds and %d results in the record, want %d and 1", rounds, results, want)
	}
}
