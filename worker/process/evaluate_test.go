package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"loco/trainer"
	"loco/worker"
)

// A run's newest checkpoint is found from its folder, evaluates as the run itself did, and
// continues a text.
func TestCheckpointsOfARun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newTestRun(t, 2, t.TempDir(), "run.eval_every=1")
		lives := r.all(2, 1, nil)
		r.stopped(lives...)
		r.stopped(r.all(2, 2, nil)...)
		later := r.start(1, 0, nil) // worker 1 goes on alone
		r.wg.Wait()
		r.ok(later)
		newest := of[*ResultEvent](later)[0].Checkpoint
		for given, want := range map[string]string{
			r.dir:                               newest,
			filepath.Join(r.dir, "checkpoints"): newest,
			filepath.Dir(newest):                newest,
			newest:                              newest,
			filepath.Join(r.dir, "checkpoints", "worker-0"): filepath.Join(r.dir, "checkpoints", "worker-0", "round-00000002"),
			of[*ResultEvent](lives[0])[0].Checkpoint:        of[*ResultEvent](lives[0])[0].Checkpoint,
		} {
			if got, err := FindCheckpoint(given); err != nil || got != want {
				t.Errorf("%s: found %s, %v, want %s", given, got, err, want)
			}
		}
		checkFolders(t, r)
		checkModel(t, r, later, newest)
	})
}

func checkFolders(t *testing.T, r *testRun) {
	t.Helper()
	dirs, err := CheckpointFolders(r.dir)
	if err != nil || len(dirs) != 2 || filepath.Base(dirs[0]) != "worker-0" || filepath.Base(dirs[1]) != "worker-1" {
		t.Errorf("folders %v, %v", dirs, err)
	}
	var usage *UsageError
	for _, path := range []string{t.TempDir(), filepath.Join(r.dir, "nothing")} {
		if _, err := FindCheckpoint(path); !errors.As(err, &usage) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	elsewhere := t.TempDir()
	if err := os.Rename(filepath.Join(r.dir, "checkpoints"), filepath.Join(elsewhere, "ckpt")); err != nil {
		t.Fatal(err)
	}
	cfg := r.cfg
	cfg.Checkpoint.Dir = filepath.Join(elsewhere, "ckpt")
	if err := ClaimDir(r.dir, &cfg, true); err != nil {
		t.Fatal(err)
	}
	if dirs, err := CheckpointFolders(r.dir); err != nil || len(dirs) != 2 || filepath.Dir(dirs[0]) != cfg.Checkpoint.Dir {
		t.Errorf("folders of checkpoint.dir %v, %v", dirs, err)
	}
	if err := os.Rename(cfg.Checkpoint.Dir, filepath.Join(r.dir, "checkpoints")); err != nil {
		t.Fatal(err)
	}
}

// checkModel compares what a checkpoint's model does with what its worker reported.
func checkModel(t *testing.T, r *testRun, l *life, path string) {
	t.Helper()
	evals := of[*trainer.EvalEvent](l)
	want := evals[len(evals)-1].HeldoutLoss
	if loss, err := l.spec.Evaluate(t.Context(), path); err != nil || !(loss >= want-1e-6 && loss <= want+1e-6) {
		t.Errorf("the checkpoint's held-out loss is %v, %v, the worker's %v", loss, err, want)
	}
	m, err := LoadModel(path, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Round() != 3 {
		t.Errorf("round %d", m.Round())
	}
	all, n, err := m.HeldoutLoss(t.Context(), "", 0)
	if err != nil || n <= 64 || !(all > 1 && all < 8) {
		t.Errorf("loss %v over %d tokens, %v", all, n, err)
	}
	if other, n, err := m.HeldoutLoss(t.Context(), corpus(t), 64); err != nil || n == 0 || !(other > 1 && other < 8) {
		t.Errorf("loss of another text %v over %d tokens, %v", other, n, err)
	}
	if _, _, err := m.HeldoutLoss(t.Context(), filepath.Join(r.dir, "nothing"), 64); err == nil {
		t.Error("a text that does not exist is evaluated")
	}
	one, err := LoadModel(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	var texts [3]string
	for i, seed := range []uint64{1, 1, 2} {
		if err := one.Generate("func ", 40, 1, 0, seed, func(s string) { texts[i] += s }); err != nil {
			t.Fatal(err)
		}
	}
	if texts[0] != texts[1] || texts[0] == texts[2] || !strings.HasPrefix(texts[0], "func ") || len(texts[0]) != len("func ")+40 {
		t.Errorf("%q", texts)
	}
	var usage *UsageError
	if err := one.Generate("x", 1, -1, 0, 1, func(string) {}); !errors.As(err, &usage) {
		t.Errorf("a negative temperature: %v", err)
	}
	if text, err := SampleText(path, "func ", 10); err != nil || !strings.HasPrefix(text, "func ") || len(text) < 15 {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := LoadModel(filepath.Join(r.dir, "nothing"), 1); err == nil {
		t.Error("a checkpoint that does not exist is loaded")
	}
}

// A worker that has never been in the run joins it in the middle: it takes over the state of
// the others, trains with them, and where replicas are equal ends with their bits.
func TestAJoiner(t *testing.T) {
	for _, strategy := range []string{"diloco", "ddp", "noloco"} {
		for _, moments := range []string{"fresh", "fetch"} {
			t.Run(strategy+" "+moments, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					r := newTestRun(t, 3, t.TempDir(), "sync.strategy="+strategy, "run.workers=3", "run.rounds=40", "sync.inner_steps=2", "sync.join_moments="+moments, "mesh.heartbeat=200ms", "checkpoint.every=0")
					var once bool
					var joiner *life
					slowly := func(_ *life, event any) {
						if _, ok := event.(*trainer.StepEvent); ok {
							time.Sleep(100 * time.Millisecond) // virtual: as long as a step takes
						}
					}
					watch := func(l *life, event any) {
						slowly(l, event)
						if e, ok := event.(*trainer.RoundEvent); ok && l.seat.number == 0 && e.Round == 3 && !once {
							once = true
							joiner = r.start(2, 0, slowly)
						}
					}
					r.cfg.Run.EvalEvery = 0
					lives := r.all(2, 0, watch)
					r.ok(append(lives, joiner)...)
					resyncs, rounds := of[*trainer.ResyncEvent](joiner), of[*trainer.RoundEvent](joiner)
					if len(resyncs) == 0 || resyncs[0].Why != worker.Joining || resyncs[0].Round < 2 || len(rounds) < 3 || rounds[0].Round != resyncs[0].Round+1 {
						t.Fatalf("%d resyncs, %d rounds", len(resyncs), len(rounds))
					}
					together := 0
					for _, e := range rounds {
						if e.Group > 1 {
							together++
						}
					}
					a, b := of[*ResultEvent](lives[0])[0], of[*ResultEvent](joiner)[0]
					if together == 0 || a.Round != b.Round || a.Step != b.Step || a.Tokens <= b.Tokens {
						t.Errorf("%d rounds together; results %+v and %+v", together, a, b)
					}
					if strategy != "noloco" && a.Digest != b.Digest {
						t.Errorf("the joiner ends with another digest than the others: %s and %s", b.Digest, a.Digest)
					}
					received := values(t, joiner.meters)["loco_state_transfer_bytes_total received"]
					// ddp and noloco need the vectors that are shared; diloco begins from the state of the
					// seed, and needs the results since.
					vectors := map[string]float64{"diloco fresh": 0.5, "diloco fetch": 2.5, "ddp fresh": 3, "ddp fetch": 3, "noloco fresh": 2, "noloco fetch": 4}[strategy+" "+moments]
					if least := 4 * vectors * float64(joiner.spec.Parameters()); received < least || received > 2*least+30_000 {
						t.Errorf("%v bytes were fetched, want about %v: %+v\n%s", received, least, resyncs[0], logged(t, r.dir, 2))
					}
					sent := values(t, lives[0].meters)["loco_state_transfer_bytes_total sent"] + values(t, lives[1].meters)["loco_state_transfer_bytes_total sent"]
					if !(sent > 0) {
						t.Error("nobody counts what it sent")
					}
					if text := logged(t, r.dir, 2); !strings.Contains(text, "fetched the run's state") || !strings.Contains(text, "took over the others' state") {
						t.Errorf("the log is silent:\n%s", text)
					}
					if names := fmt.Sprint(len(of[*AddressEvent](joiner))); names != "1" {
						t.Errorf("%s addresses", names)
					}
				})
			})
		}
	}
}
