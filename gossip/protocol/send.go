package protocol

import (
	"slices"

	"loco/mesh"
)

func (m *Rounds) send(to mesh.ID, number uint64, msg Message) {
	env := Envelope{Round: m.own.round, Attempt: number, Part: m.Part, Worker: m.Worker}
	m.out = append(m.out, Action{Send: &Send{to, env, msg}})
}

// broadcast sends to every peer that may be in the run.
func (m *Rounds) broadcast(number uint64, msg Message) {
	to := map[mesh.ID]bool{}
	for id := range m.members {
		to[id] = true
	}
	for id := range m.readys {
		to[id] = true
	}
	for _, id := range sortedKeys(to) {
		if id != m.Self && !m.gone(id) {
			m.send(id, number, msg)
		}
	}
}

// Size is the number of things that the machine remembers. It is bounded by a few for
// each peer in the view.
func (m *Rounds) Size() int {
	return len(m.readys) + len(m.commits) + len(m.expected) + len(m.misses) + len(m.paces) + len(m.observed) + len(m.reported) +
		len(m.late) + len(m.strikes) + len(m.heard) + len(m.spoken) + len(m.votes) + len(m.serving) + len(m.waiting) + len(m.lastMembers)
}

// sortedKeys makes the order of iteration, and with it every run, repeatable.
func sortedKeys[V any](set map[mesh.ID]V) []mesh.ID {
	keys := make([]mesh.ID, 0, len(set))
	for id := range set {
		keys = append(keys, id)
	}
	slices.Sort(keys)
	return keys
}
