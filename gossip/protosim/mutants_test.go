package protosim

import (
	"testing"

	"loco/gossip/protosim/planted"
)

const mutants = "testdata/mutants"

// The mistakes that the checker has to find are there to be planted, and docs/protocol.md has them
// in its table.
func TestMutantsApply(t *testing.T) { planted.Check(t, mutants, "docs/protocol.md") }

// TestMutantsAreFound shows that the checker finds each within 2,000 schedules.
func TestMutantsAreFound(t *testing.T) { planted.Find(t, mutants, 2000) }

func TestHunt(t *testing.T) {
	planted.Hunt(t, map[string]func(*testing.T, uint64) error{
		"rounds":  func(_ *testing.T, seed uint64) error { return Run(Options{Seed: seed}).Err },
		"pairs":   func(_ *testing.T, seed uint64) error { return Run(Options{Seed: seed, Pairs: true}).Err },
		"flights": func(_ *testing.T, seed uint64) error { return Run(Options{Seed: seed, Flights: true}).Err },
	})
}
