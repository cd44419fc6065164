package protocol

import (
	"slices"
	"time"

	"loco/mesh"
)

// transfersKept is how many transfers the next one is estimated from.
const transfersKept = 4

// transfers are how long this worker's last ones took, from the group to the whole mean.
type transfers struct {
	took [transfersKept]time.Duration
	n    int
}

func (t *transfers) note(d time.Duration) {
	t.took[t.n%transfersKept] = d
	t.n++
}

// reserve is what is kept of a slack for the transfer: the longest of the last ones and a quarter;
// half of the slack before there was any.
func (t *transfers) reserve(slack time.Duration) time.Duration {
	if t.n == 0 {
		return slack / 2
	}
	return slices.Max(t.took[:]) * 5 / 4
}

// freeUntil is until when waiting costs nobody anything: the slack runs, of this worker and of those
// that were ready before it, and leaves the time for a transfer. The slack of the others is taken to
// be as long as the own. It is zero without a slack, or with one that no transfer fits into.
func (m *Rounds) freeUntil(in []announced) time.Time {
	reserve := m.transfers.reserve(m.slack)
	if reserve >= m.slack {
		return time.Time{}
	}
	first := m.started
	for _, p := range in {
		if p.id != m.Self && p.at.Before(first) {
			first = p.at
		}
	}
	return first.Add(m.slack - reserve)
}

// waits says that a worker that is not ready is still waited for, half of the live being so since
// halfAt: as long as without a slack, and as long as that is free, and GraceMin longer where that is
// configured to be below Grace. A slack only ever adds to the waiting: a worker that has just come to
// a round that the others have decided needs the time to hear of it.
func (m *Rounds) waits(now, free time.Time, id mesh.ID) bool {
	if m.GraceMin < m.Grace && !free.IsZero() {
		free = free.Add(m.GraceMin)
	}
	return now.Before(free) || now.Sub(m.halfAt) < m.patience(id)
}
