package protosim

import (
	"strings"
	"testing"
)

// schedulesMax is how many schedules the checker has to find a mistake.
const schedulesMax = 2000

// A worker that does not count what it gives up is found out.
func TestUncountedLossesAreFound(t *testing.T) {
	for seed := uint64(1); seed <= schedulesMax; seed++ {
		r := Run(Options{Seed: seed, uncounted: true})
		if r.Err == nil {
			continue
		}
		if !strings.Contains(r.Err.Error(), "as lost") {
			t.Errorf("seed %d: %v", seed, r.Err)
		}
		t.Logf("| what a worker gives up is not counted | %d | %v |", seed, r.Err)
		return
	}
	t.Errorf("not found in %d schedules", schedulesMax)
}
