package protocol

import (
	"fmt"
	"strings"

	"loco/mesh"
)

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
