package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/trainer"
	"loco/worker/config"
)

// logged returns a worker's log.
func logged(t *testing.T, dir string, worker int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("worker-%d", worker), LogFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// stopAt returns what stops a process cleanly at an inner step.
func stopAt(step uint64) func(*life, any) {
	return func(l *life, event any) {
		if e, ok := event.(*trainer.StepEvent); ok && e.Step == step {
			l.stop()
			time.Sleep(time.Millisecond) // virtual: whatever follows from the stop has happened
		}
	}
}

// Workers that stop at a round's end, or amid a round, and go on from their checkpoints go
// through the same bits as workers that never stopped, and do nothing twice.
func TestStopAndResumeEqualsNeverStopped(t *testing.T) {
	for _, strategy := range []string{"diloco", "noloco", "ddp", "alone"} {
		for name, how := range map[string]struct {
			after uint64
			watch func(*life, any)
			steps uint64 // done before the stop
		}{"at a round's end": {1, nil, 4}, "amid a round": {0, stopAt(6), 6}} {
			if strategy == "noloco" && how.after > 0 {
				continue // a worker that leaves after its last round takes from its partner what is on the way
			}
			t.Run(strategy+" "+name, func(t *testing.T) {
				workers := 2
				if strategy == "alone" {
					workers = 1
				}
				sets := []string{"sync.strategy=" + strategy, fmt.Sprint("run.workers=", workers)}
				if strategy != "alone" {
					sets = append(sets, "sync.codec=fp32")
				}
				var want, got [2][]string
				inBubble(t, func(t *testing.T) {
					r := newTestRun(t, workers, t.TempDir(), sets...)
					lives := r.all(workers, 0, nil)
					r.ok(lives...)
					for k, l := range lives {
						want[k] = bits(l)
					}
				})
				inBubble(t, func(t *testing.T) {
					r := newTestRun(t, workers, t.TempDir(), sets...)
					before := r.all(workers, how.after, how.watch)
					r.stopped(before...)
					after := r.all(workers, 0, nil)
					r.ok(after...)
					for k := range after {
						got[k] = append(bits(before[k]), bits(after[k])...)
						checkSessions(t, r, before[k], after[k], how.steps)
					}
				})
				for k := range want {
					if !slices.Equal(want[k], got[k]) {
						t.Errorf("worker %d never stopped\n%s\nand resumed\n%s", k, strings.Join(want[k], "\n"), strings.Join(got[k], "\n"))
					}
				}
			})
		}
	}
}

// checkSessions checks what two sessions say of themselves.
func checkSessions(t *testing.T, r *testRun, before, after *life, steps uint64) {
	t.Helper()
	a, b := of[*ResultEvent](before)[0], of[*ResultEvent](after)[0]
	tokens := steps * r.cfg.TokensPerStep()
	if a.Complete || !b.Complete || a.SessionTokens != tokens || b.SessionTokens != r.cfg.TokensPerWorker()-tokens || b.Tokens != r.cfg.TokensPerWorker() {
		t.Errorf("sessions %+v and %+v", a, b)
	}
	text := logged(t, r.dir, after.seat.number)
	if !strings.Contains(text, fmt.Sprintf(`"msg":"resumed","checkpoint":%q,"round":%d,"step":%d`, a.Checkpoint, a.Round, a.Step)) {
		t.Errorf("the log does not say from where it resumed, %s:\n%s", a.Checkpoint, text)
	}
}

// A worker goes on from its newest checkpoint that is whole.
func TestADamagedCheckpointIsSkipped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newTestRun(t, 1, t.TempDir(), "sync.strategy=alone", "run.workers=1")
		r.stopped(r.all(1, 1, nil)...)
		first := r.all(1, 2, nil)
		r.stopped(first...)
		newest := of[*ResultEvent](first[0])[0].Checkpoint
		if err := os.WriteFile(filepath.Join(newest, "model.safetensors"), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		second := r.all(1, 0, nil)
		r.ok(second...)
		if e := of[*trainer.RoundEvent](second[0]); len(e) != 2 || e[0].Round != 2 {
			t.Errorf("rounds %v", bits(second[0]))
		}
		if text := logged(t, r.dir, 0); !strings.Contains(text, "a damaged checkpoint is skipped") {
			t.Errorf("the log does not name the damage:\n%s", text)
		}
	})
}

// The folder of another run is neither written to nor gone on from.
func TestAnotherRunsFolderIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newTestRun(t, 1, t.TempDir(), "sync.strategy=alone", "run.workers=1")
		if err := ClaimDir(r.dir, &r.cfg, false); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(r.dir, ConfigFile)
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r.stopped(r.all(1, 1, nil)...)
		other := r.cfg
		other.Run.Seed++
		for _, renew := range []bool{false, true} {
			var usage *UsageError
			err := ClaimDir(r.dir, &other, renew)
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), "run.seed=") || !strings.Contains(err.Error(), "another --dir") {
				t.Errorf("renew %v: the folder of another run is claimed: %v", renew, err)
			}
		}
		if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
			t.Errorf("another run's configuration was written over: %v", err)
		}
		r.cfg = other // as if there were no such file
		l := r.start(0, 0, nil)
		<-l.ended
		var usage *UsageError
		if !errors.As(l.err, &usage) || !strings.Contains(l.err.Error(), "is of run") {
			t.Errorf("another run's checkpoint is gone on from: %v", l.err)
		}
		if Occupied(l.seat.dir) {
			t.Error("the worker's folder is still held")
		}
	})
}

// A key that is no part of the run's identity may change; then its file is renewed where asked.
func TestClaimRenewsTheFile(t *testing.T) {
	cfg, dir := config.Default(), t.TempDir()
	every := func() int {
		there, err := config.Load(filepath.Join(dir, ConfigFile), nil)
		if err != nil {
			t.Fatal(err)
		}
		return there.Checkpoint.Every
	}
	for _, step := range []struct {
		every int
		renew bool
		want  int
	}{{3, false, 3}, {4, false, 3}, {5, true, 5}} {
		cfg.Checkpoint.Every = step.every
		if err := ClaimDir(dir, &cfg, step.renew); err != nil || every() != step.want {
			t.Errorf("%+v: checkpoint.every is %d in the folder, %v", step, every(), err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte("no = TOML"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *config.Error
	if err := ClaimDir(dir, &cfg, true); !errors.As(err, &bad) {
		t.Errorf("a damaged file is claimed: %v", err)
	}
	if err := ClaimDir(filepath.Join(dir, ConfigFile), &cfg, true); err == nil {
		t.Error("a file is claimed as a folder")
	}
}
