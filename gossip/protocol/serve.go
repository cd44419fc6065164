package protocol

import (
	"slices"

	"loco/mesh"
)

// Served takes in that a result has been sent, or could not be.
func (m *Rounds) Served(to mesh.ID) {
	delete(m.serving, to)
	waiting := m.waiting
	m.waiting = nil
	for _, s := range waiting {
		m.serve(s)
	}
}

// serve sends a result now, or when its turn comes: one at a time to a peer. What is on its way
// under another number is of no use to the peer any more, and would hold this up.
func (m *Rounds) serve(s Serve) {
	under, busy := m.serving[s.To]
	if !busy && (s.member || len(m.serving) < servesMax) {
		m.serving[s.To] = s
		m.out = append(m.out, Action{Serve: &s})
		return
	}
	if busy && under.Number != s.Number {
		m.quit(under)
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

// unserve sends a peer no more of a round's result: it has given the round up, or asks another
// worker.
func (m *Rounds) unserve(to mesh.ID, round uint64) {
	m.waiting = slices.DeleteFunc(m.waiting, func(s Serve) bool { return s.To == to && s.Round == round })
	if s, busy := m.serving[to]; busy && s.Round == round {
		m.quit(s)
	}
}

func (m *Rounds) quit(s Serve) {
	m.out = append(m.out, Action{Quit: &s})
}
