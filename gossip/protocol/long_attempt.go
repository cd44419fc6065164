package protocol

import (
	"time"

	"loco/mesh"
)

// sayGroup tells the members of the attempt that this worker coordinates of it again: all of
// them, or those that have not said Done.
func (m *Rounds) sayGroup(all bool) {
	a := m.attempt
	for _, p := range a.group.members {
		if _, done := a.dones[p.ID]; p.ID != m.Self && (all || !done) {
			m.send(p.ID, a.number, a.group)
		}
	}
}

// remind repeats what a lost message may have left unsaid.
func (m *Rounds) remind() {
	a := m.attempt
	switch {
	case a.fetch:
	case a.coordinator == m.Self:
		m.sayGroup(false)
	case a.complete:
		m.send(a.coordinator, a.number, done{m.have.hash})
	default:
		// The coordinator may have gone on without this worker, if its process was paused.
		m.send(a.coordinator, a.number, want{})
	}
}

// checkPatience ends an attempt whose result this worker holds, for those without whom it does
// not come to its end.
func (m *Rounds) checkPatience(now time.Time) {
	a := m.attempt
	if a.fetch || !a.complete {
		return
	}
	if a.coordinator != m.Self {
		// It may itself wait for the others, and gives them up first.
		if !m.awaits(now, a.coordinator, 2*m.Grace, m.Deadline-m.Grace) {
			m.Fail(now, a.number, a.coordinator, "did not commit")
		}
		return
	}
	for _, g := range a.group.members {
		if _, ok := a.dones[g.ID]; !ok && !m.awaits(now, g.ID, m.Grace, m.Deadline-2*m.Grace) {
			m.Fail(now, a.number, g.ID, "did not report its result")
			return
		}
	}
}

// awaits says that a worker that holds the result waits on for a peer: for a while in any
// case, since it has itself only just come to hold it; until half of the deadline, which leaves
// time for another attempt; and longer, up to a time of the round, as long as the peer says that it
// is at work: a line may be so slow. In that other attempt nobody needs data but the peer.
func (m *Rounds) awaits(now time.Time, id mesh.ID, atLeast, atMost time.Duration) bool {
	a := m.attempt
	if now.Sub(a.begun) < m.Deadline/2 {
		return true
	}
	if a.group.adopt.attempt != 0 {
		atMost = m.Deadline // few hold what is adopted, so another attempt is no shorter
	}
	works := now.Sub(m.heard[id]) < m.Grace && now.Sub(m.due) < atMost
	return works || now.Sub(a.completed) < atLeast
}
