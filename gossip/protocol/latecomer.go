package protocol

import (
	"slices"
	"time"

	"loco/mesh"
)

// elsewhere is an attempt that this worker came too late for, or was left out of, and whose
// coordinator has said so: it says it again as long as it hears that this worker waits. What
// the others hold is decided there, so this worker closes no group meanwhile, and does not take
// them for idle.
type elsewhere struct {
	number uint64
	at     time.Time
}

// over takes in that a member waits for another group.
func (e *elsewhere) over(r announced) {
	if r.last >= e.number {
		*e = elsewhere{}
	}
}

// sayElsewhere tells a worker that waits of the attempt that this one coordinates without it.
func (m *Rounds) sayElsewhere(to mesh.ID) {
	if a := m.attempt; a.coordinator == m.Self {
		m.send(to, a.number, a.group)
	}
}

// onElsewhere hears of an attempt without this worker, from its state.
func (m *Rounds) onElsewhere(now time.Time, from mesh.ID, number uint64, g group) {
	_, coordinator := attemptParts(number)
	sends := slices.ContainsFunc(g.members, func(p GroupMember) bool { return p.ID == from && p.Worker == coordinator })
	if sends && g.digest == m.own.digest && m.attempt == nil && number >= m.elsewhere.number {
		m.elsewhere = elsewhere{number, now}
	}
}

// awaitsElsewhere says that such an attempt is under way, or that this worker has come so late
// that there may be one, and has not had the time to hear of it.
func (m *Rounds) awaitsElsewhere(now time.Time) bool {
	if m.elsewhere.number > 0 {
		return now.Sub(m.elsewhere.at) < m.Grace
	}
	return m.tries == 0 && now.Sub(m.started) < m.Grace/2 && m.cameLate()
}

// cameLate says that half of the live had been ready for Grace when this worker was.
func (m *Rounds) cameLate() bool {
	live, long := 1, 0
	for id, p := range m.members {
		if id == m.Self || !waitedFor(p) {
			continue
		}
		live++
		if r, ok := m.readys[id]; ok && r.round == m.own.round && m.started.Sub(r.at) >= m.Grace {
			long++
		}
	}
	return 2*long >= live
}
