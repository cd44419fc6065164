package protocol

import (
	"fmt"
	"slices"
	"strings"

	"loco/mesh"
)

func (m *Rounds) send(to mesh.ID, number uint64, msg Message) {
	env := Envelope{Round: m.own.round, Attempt: number, Worker: m.Worker}
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

// waitingFor describes the state for an error message.
func (m *Rounds) waitingFor() string {
	if m.attempt != nil {
		return fmt.Sprintf("attempt %d of %d members is under way", m.tries, len(m.attempt.group.members))
	}
	in, others, missing := m.census()
	var names []string
	for _, id := range missing {
		names = append(names, m.name(id))
	}
	text := fmt.Sprintf("%d workers are ready", len(in)+len(others))
	if len(names) > 0 {
		text += fmt.Sprintf(", missing are %s", strings.Join(names, ", "))
	}
	if m.Quorum > 0 {
		text += fmt.Sprintf("; more than half of %d must be, or all where workers were started anew", m.Quorum)
	}
	return text + "; raise the deadline or stop those workers"
}

// Rejected names the peers left out of this round.
func (m *Rounds) Rejected() []string {
	all := map[mesh.ID]string{}
	for id := range m.late {
		if m.slow(id) {
			continue // it is named by Late
		}
		all[id] = fmt.Sprintf("said nothing for %v after half of the others were ready", m.patience(id))
	}
	for id, why := range m.reported {
		all[id] = why
	}
	for id, why := range m.observed {
		all[id] = why
	}
	var out []string
	for _, id := range sortedKeys(all) {
		out = append(out, fmt.Sprintf("%s: %s", m.name(id), all[id]))
	}
	return out
}

// Tries is the number of attempts of this worker in the round.
func (m *Rounds) Tries() int { return m.tries }

// name calls a peer by worker number and ID.
func (m *Rounds) name(id mesh.ID) string {
	if p, ok := m.readys[id]; ok {
		return fmt.Sprintf("worker %d (%s)", p.worker, id)
	}
	if p, ok := m.members[id]; ok {
		return fmt.Sprintf("worker %d (%s)", p.Worker, id)
	}
	return string(id)
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
