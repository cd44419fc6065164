//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"loco/worker/config"
	"loco/worker/process"
)

// A run without run.rounds measures, says how long it will take, trains that, and is the
// same run when its command comes again.
func TestE2EPlannedRun(t *testing.T) {
	needE2E(t)
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"run", "--dir", dir}
	for _, a := range small(t, "run.workers=2", "run.time=1s") {
		if strings.HasPrefix(a, "run.rounds=") {
			a = "run.eval_every=2"
		}
		args = append(args, a)
	}
	said := loco(t, 0, append(args, "--stop-after", "3")...)
	if !strings.Contains(said, "plan: about ") || !strings.Contains(said, " tok/s measured") {
		t.Errorf("the plan is not said:\n%s", said)
	}
	cfg, err := config.Load(filepath.Join(dir, process.ConfigFile), nil)
	if err != nil || cfg.Run.Time != 0 || cfg.Run.Rounds < roundsLeast {
		t.Fatalf("the plan is not written: %+v, %v", cfg.Run, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, probeDir)); left != nil {
		t.Errorf("the measurement left %v", left)
	}
	if s := summaryOf(t, dir); s.Complete || s.Rounds != 3 {
		t.Errorf("stopped at round %d, complete %v", s.Rounds, s.Complete)
	}
	if said = loco(t, 0, args...); strings.Contains(said, "plan:") {
		t.Errorf("a run that goes on is planned again:\n%s", said)
	}
	if s := summaryOf(t, dir); !s.Complete || s.Rounds != uint64(cfg.Run.Rounds) || !s.DigestEqual {
		t.Errorf("the run ended at round %d of %d, complete %v, equal %v", s.Rounds, cfg.Run.Rounds, s.Complete, s.DigestEqual)
	}
	if said = loco(t, 0, args...); !strings.Contains(said, "is complete") {
		t.Errorf("a complete run:\n%s", said)
	}
}
