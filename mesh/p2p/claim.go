package p2p

import "loco/mesh"

// claim is one side of a dispute over a worker number.
type claim struct {
	id      mesh.ID
	settled bool // its joining is over
	movable bool // its number was not given by hand
	ready   bool // it holds the run's state: its number is in others' groups
}

// rank says how easily a claimant can move: 0 not at all, 2 most easily.
func (c claim) rank() int {
	switch {
	case !c.movable || c.ready:
		return 0
	case c.settled:
		return 1
	}
	return 2
}

// yields decides which of two claimants of one number moves: the one for which it
// is easier, or else the one with the larger ID. Both sides come to the same
// answer. Neither moves if neither can.
func yields(a, b claim) (loser mesh.ID, ok bool) {
	ra, rb := a.rank(), b.rank()
	switch {
	case ra == 0 && rb == 0:
		return "", false
	case ra != rb:
		if ra > rb {
			return a.id, true
		}
		return b.id, true
	}
	return max(a.id, b.id), true
}
