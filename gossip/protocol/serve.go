package protocol

import (
	"slices"

	"loco/mesh"
)

// Served takes in that a result has been sent, or could not be.
func (m *Rounds) Served(to mesh.ID) {
	if m.bug == bugServed {
		return
	}
	delete(m.serving, to)
	waiting := m.waiting
	m.waiting = nil
	for _, s := range waiting {
		m.serve(s)
	}
}

// serve sends a result now, or when its turn comes: one at a time to a peer.
func (m *Rounds) serve(s Serve) {
	if !m.serving[s.To] && len(m.serving) < servesMax {
		m.serving[s.To] = true
		m.out = append(m.out, Action{Serve: &s})
		return
	}
	for i, w := range m.waiting {
		if w.To == s.To {
			m.waiting[i] = s
			return
		}
	}
	if len(m.waiting) < MembersMax {
		m.waiting = append(m.waiting, s)
	}
}

// unserve takes a peer off those who wait for their turn: it has given the round up, or asks
// another worker.
func (m *Rounds) unserve(to mesh.ID, round uint64) {
	m.waiting = slices.DeleteFunc(m.waiting, func(s Serve) bool { return s.To == to && s.Round == round })
}
