package protocol

import (
	"time"

	"loco/mesh"
)

// gone says that a peer is dead or has left: the view calls it so, and nothing has been
// heard of it since.
func (m *Rounds) gone(id mesh.ID) bool {
	p, ok := m.members[id]
	return ok && (p.State == mesh.Dead || p.State == mesh.Left)
}

// speaks takes in that a peer is heard. If the view calls it dead the view is old, or the
// message is: the peer counts as suspect, until the view knows better or it is silent. A peer that
// has left says so itself, last of all.
func (m *Rounds) speaks(id mesh.ID) {
	p, known := m.members[id]
	if !known || p.State != mesh.Dead {
		return
	}
	p.State = mesh.Suspect
	m.members[id], m.spoken[id] = p, true
	delete(m.misses, id)
	if m.active {
		m.send(id, 0, m.own.ready) // it may have missed what was said meanwhile
	}
}

// corrected is a member of the mesh's view as this worker sees it.
func (m *Rounds) corrected(p mesh.Member) mesh.Member {
	switch {
	case p.State != mesh.Dead:
		delete(m.spoken, p.ID)
	case m.spoken[p.ID]:
		p.State = mesh.Suspect
	}
	return p
}

// fallSilent believes the view again of peers that have said nothing for 2 Grace: what was
// heard of them may have been under way for long.
func (m *Rounds) fallSilent(now time.Time) {
	lost := false
	for _, id := range sortedKeys(m.spoken) {
		if now.Sub(m.heard[id]) < 2*m.Grace {
			continue
		}
		p := m.members[id]
		p.State = mesh.Dead
		m.members[id] = p
		delete(m.spoken, id)
		m.lose(now, id)
		lost = true
	}
	if lost {
		m.failLost(now)
	}
}

// sayToGone tells the peers something that the view calls dead: it is old, because this process was
// paused.
func (m *Rounds) sayToGone(msg Message) {
	for _, id := range sortedKeys(m.members) {
		if id != m.Self && m.members[id].State == mesh.Dead {
			m.send(id, 0, msg)
		}
	}
}
