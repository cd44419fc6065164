//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"loco/trainer"
	"loco/worker/process"
)

// A worker that never took part joins in the middle, under every strategy and with the
// inner moments of another: it trains in groups with the others, and where replicas are
// identical it ends with their bits.
func TestE2EJoinInTheMiddle(t *testing.T) {
	needE2E(t)
	for _, strategy := range []string{"diloco", "ddp", "noloco"} {
		t.Run(strategy, func(t *testing.T) {
			dir := t.TempDir()
			sets := small(t, "sync.strategy="+strategy, "run.rounds=60", "run.report_every=1", "inner.batch=8", "mesh.join_timeout=5s", "sync.join_moments=fetch")
			ps, addrs := byHand(t, dir, 3, sets)
			ps[0].event("round 4", func(e any) bool { s, ok := e.(*trainer.StepEvent); return ok && s.Step >= 80 })
			joiner := startLoco(t, workerArgs(ps[0].args[1], dir, 3, addrs)...)
			e := joiner.event("the join", func(e any) bool { _, ok := e.(*trainer.ResyncEvent); return ok }).(*trainer.ResyncEvent)
			if e.Round == 0 || e.Digest == "" {
				t.Errorf("resync event %+v", e)
			}
			group := 4
			if strategy == "noloco" {
				group = 2
			}
			joiner.event("a round with the others", func(e any) bool { r, ok := e.(*trainer.RoundEvent); return ok && r.Group == group })
			joiner.wait(0)
			for _, p := range ps {
				p.wait(0)
			}
			last := map[string]bool{}
			for k := range 4 {
				rounds := roundsOf(t, dir, k)
				oncePerRound(t, rounds)
				last[rounds[len(rounds)-1].Digest] = true
			}
			if len(last) != 1 && strategy != "noloco" {
				t.Errorf("%d digests at the end, want 1", len(last))
			}
			log, err := os.ReadFile(filepath.Join(dir, "worker-3", process.LogFile))
			if err != nil || !strings.Contains(string(log), "fetched the run's state") {
				t.Errorf("no word of the fetch in the log: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "worker-3", "fetch-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
