package swim

import (
	"cmp"
	"slices"
	"time"

	"loco/mesh"
)

// Self is this member's own word, without a new sequence number.
func (m *Members) Self() Heartbeat { return m.self.beat }

// Known is what is known of one member.
type Known struct {
	State mesh.State
	Beat  Heartbeat // its newest word
}

// Live reports whether the member counts: its worker number is in use.
func (k Known) Live() bool { return k.State != mesh.Dead && k.State != mesh.Left }

// Find returns what is known of a member, this one included.
func (m *Members) Find(id mesh.ID) (k Known, ok bool) {
	r := m.by[id]
	if r == nil {
		return Known{}, false
	}
	return Known{r.state, r.beat}, true
}

// Holder is the live member, self included, that has a worker number; empty if none.
func (m *Members) Holder(worker int, except mesh.ID) mesh.ID {
	var holder mesh.ID
	for id, r := range m.by {
		if r.live() && id != except && r.beat.Status.Worker == worker && (holder == "" || id < holder) {
			holder = id
		}
	}
	return holder
}

// View lists everybody, by worker number and then by ID.
func (m *Members) View(now time.Duration) []mesh.Member {
	list := make([]mesh.Member, 0, len(m.all))
	for _, r := range m.all {
		silent := max(now-r.heard, 0)
		if r == m.self {
			silent = 0
		}
		list = append(list, mesh.Member{ID: r.id, State: r.state, Status: r.beat.Status, Addrs: slices.Clone(r.beat.Addrs), Silent: silent})
	}
	slices.SortFunc(list, func(a, b mesh.Member) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Counts are what has happened since the start.
type Counts struct {
	Suspicions  uint64 // probes of this member's own that nobody got an answer to
	Refutations uint64 // of what others said of this member
}

// Counts returns them.
func (m *Members) Counts() Counts { return Counts{m.suspicion, m.refutals} }
