package p2p

import (
	"testing"

	"loco/mesh"
)

func TestYields(t *testing.T) {
	fixed := claim{settled: true}
	ready := claim{settled: true, movable: true, ready: true}
	settled := claim{settled: true, movable: true}
	joining := claim{movable: true}
	for _, c := range []struct {
		name string
		a, b claim
		want mesh.ID
		ok   bool
	}{
		{"both given by hand", fixed, fixed, "", false},
		{"given by hand, ready", fixed, ready, "", false},
		{"the movable one", fixed, settled, "b", true},
		{"the movable one, larger or not", settled, fixed, "a", true},
		{"the one that joined last", joining, settled, "a", true},
		{"two that joined", settled, settled, "b", true},
		{"two that are joining", joining, joining, "b", true},
	} {
		a, b := c.a, c.b
		a.id, b.id = "a", "b"
		for _, order := range [][2]claim{{a, b}, {b, a}} {
			if got, ok := yields(order[0], order[1]); got != c.want || ok != c.ok {
				t.Errorf("%s: %q, %v, want %q, %v", c.name, got, ok, c.want, c.ok)
			}
		}
	}
}
