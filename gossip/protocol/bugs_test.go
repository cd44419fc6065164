package protocol_test

import (
	"testing"

	"loco/gossip/protocol"
	"loco/gossip/protosim"
)

// schedulesMax is how many schedules the checker has to find a bug.
const schedulesMax = 2000

// TestPlantedBugsAreFound shows that the simulation's checker finds each of a list of
// mistakes, and how many schedules that takes: the table of docs/protocol.md.
func TestPlantedBugsAreFound(t *testing.T) {
	for i, b := range protocol.Bugs {
		t.Run(b.Name, func(t *testing.T) {
			if testing.Short() && i%4 != 0 {
				t.Skip("one in four")
			}
			for seed := uint64(1); seed <= schedulesMax; seed++ {
				o := protosim.Options{Seed: seed, Tamper: func(m *protocol.Rounds) { protocol.Plant(m, i) }}
				if r := protosim.Run(o); r.Err != nil {
					t.Logf("| %s | %d | %v |", b.Name, seed, r.Err)
					return
				}
			}
			t.Errorf("not found in %d schedules", schedulesMax)
		})
	}
}

// TestPlantedPairBugsAreFound does the same for the pair exchange.
func TestPlantedPairBugsAreFound(t *testing.T) {
	for i, b := range protocol.PairBugs {
		t.Run(b.Name, func(t *testing.T) {
			if testing.Short() && i%4 != 0 {
				t.Skip("one in four")
			}
			for seed := uint64(1); seed <= schedulesMax; seed++ {
				o := protosim.Options{Seed: seed, Pairs: true, TamperPair: func(m *protocol.Pairing) { protocol.PlantPair(m, i) }}
				if r := protosim.Run(o); r.Err != nil {
					t.Logf("| %s | %d | %v |", b.Name, seed, r.Err)
					return
				}
			}
			t.Errorf("not found in %d schedules", schedulesMax)
		})
	}
}
