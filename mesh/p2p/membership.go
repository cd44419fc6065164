package p2p

import (
	"cmp"
	"slices"
	"time"

	"loco/mesh"
)

// maxMembers bounds how many peers are remembered at a time.
const maxMembers = 4096

// members is who is in the run as this machine sees it: a state machine without
// clock, goroutine or lock. Its inputs are events, each with the time since the
// mesh started; every method that may change a State, Ready, Done or worker number
// says whether it did.
//
//	joining <-> alive     the member's own word: Status.Ready
//	either   -> suspect   silent for suspectAfter, or its addresses refuse
//	suspect  -> either    heard again; if they refused, only by reaching it
//	suspect  -> dead      silent for deadAfter, or refusing for deadAfterRefused
//	any      -> left      said goodbye
//	dead     -> either    passed a hello again
//	left     -> either    passed a hello in a later life
//
// A heartbeat that came by gossip proves that the member lives, not that this
// machine can reach it. So it never brings back a dead member; its caller dials.
type members struct {
	suspectAfter, deadAfter, deadAfterRefused, forget time.Duration

	self *record
	by   map[mesh.ID]*record // self included
	news []transition        // since its owner last emptied it
}

// transition is a change of state, for the log.
type transition struct {
	id       mesh.ID
	worker   int
	from, to mesh.State
}

type record struct {
	id      mesh.ID
	beat    Heartbeat // the newest
	state   mesh.State
	heard   time.Duration // when anything last came from it
	refused time.Duration // since when its addresses refuse; negative if they do not
	ended   time.Duration // when it became dead or left
}

// live reports whether the member counts: its worker number is in use.
func (r *record) live() bool { return r.state != mesh.Dead && r.state != mesh.Left }

// healthy is the state of a live member that nothing is wrong with.
func (r *record) healthy() mesh.State {
	if r.beat.Status.Ready {
		return mesh.Alive
	}
	return mesh.Joining
}

func newMembers(c Config, self mesh.ID, beat Heartbeat) *members {
	m := &members{
		suspectAfter: c.SuspectAfter, deadAfter: c.DeadAfter, deadAfterRefused: c.DeadAfterRefused, forget: c.Forget,
		by: make(map[mesh.ID]*record),
	}
	m.self = &record{id: self, beat: beat, refused: -1}
	m.self.state = m.self.healthy()
	m.by[self] = m.self
	return m
}

// announce replaces this member's own status.
func (m *members) announce(s mesh.Status) bool {
	old := *m.self
	m.self.beat.Status = s
	if m.self.state != mesh.Left {
		m.self.state = m.self.healthy()
	}
	return m.differs(old, *m.self)
}

// leave marks this member as gone.
func (m *members) leave(now time.Duration) bool {
	changed := m.self.state != mesh.Left
	m.self.state, m.self.beat.Left, m.self.ended = mesh.Left, true, now
	return changed
}

// admit takes in a peer that has passed a hello. The hello is the word of the
// peer's running process, over its own connection: it overrides what gossip said,
// whatever its incarnation, but a member that left stays so in that life. ok is
// false if it is not taken in.
func (m *members) admit(id mesh.ID, beat Heartbeat, now time.Duration) (changed, ok bool) {
	r := m.by[id]
	switch {
	case r == m.self && r != nil:
		return false, false
	case r == nil && len(m.by) >= maxMembers:
		return false, false
	case r != nil && r.state == mesh.Left && beat.Incarnation <= r.beat.Incarnation:
		return false, false
	case r == nil:
		r = &record{id: id, state: mesh.Left}
		m.by[id] = r
	case r.beat.Incarnation == beat.Incarnation && beat.Seq < r.beat.Seq:
		beat = r.beat // gossip was faster than this hello
	}
	old := *r
	r.beat, r.heard, r.refused = beat, now, -1
	r.state = r.healthy()
	return m.differs(old, *r), true
}

// Outcomes of a heartbeat.
const (
	beatIgnored = iota // old news
	beatApplied
	beatUnreached // lives, but has not passed a hello since it died or restarted
)

// heartbeat takes in what gossip says of a member.
func (m *members) heartbeat(id mesh.ID, beat Heartbeat, now time.Duration) (changed bool, outcome int) {
	r := m.by[id]
	switch {
	case r == m.self && r != nil:
		return false, beatIgnored
	case r == nil || beat.Incarnation > r.beat.Incarnation:
		if beat.Left {
			return false, beatIgnored
		}
		return false, beatUnreached
	case beat.Incarnation < r.beat.Incarnation || r.state == mesh.Left || beat.Seq <= r.beat.Seq:
		return false, beatIgnored
	case beat.Left:
		return m.goodbye(id, beat.Incarnation, now), beatApplied
	case r.state == mesh.Dead:
		r.beat = beat
		return false, beatUnreached
	}
	old := *r
	r.beat, r.heard = beat, now
	if r.refused < 0 {
		r.state = r.healthy()
	}
	return m.differs(old, *r), beatApplied
}

// hear notes that something arrived from a member over its own connection, at a
// time that may be earlier than the last.
func (m *members) hear(id mesh.ID, at time.Duration) bool {
	r := m.by[id]
	if r == nil || r == m.self || !r.live() || at <= r.heard {
		return false
	}
	old := *r
	r.heard, r.refused, r.state = at, -1, r.healthy()
	return m.differs(old, *r)
}

// refuse notes that all of a member's addresses refused a connection.
func (m *members) refuse(id mesh.ID, now time.Duration) bool {
	r := m.by[id]
	if r == nil || r == m.self || !r.live() || r.refused >= 0 {
		return false
	}
	old := *r
	r.refused, r.state = now, mesh.Suspect
	return m.differs(old, *r)
}

// goodbye marks a member as having left in the given life.
func (m *members) goodbye(id mesh.ID, incarnation uint64, now time.Duration) bool {
	r := m.by[id]
	if r == nil || r == m.self || r.state == mesh.Left || incarnation < r.beat.Incarnation {
		return false
	}
	old := *r
	r.state, r.ended, r.refused = mesh.Left, now, -1
	return m.differs(old, *r)
}

// tick lets time pass.
func (m *members) tick(now time.Duration) bool {
	changed := false
	for id, r := range m.by {
		if r == m.self {
			continue
		}
		old := *r
		silent := now - r.heard
		switch {
		case !r.live():
			if now-r.ended >= m.forget {
				delete(m.by, id)
				changed = true
			}
		case silent >= m.deadAfter || r.refused >= 0 && now-r.refused >= m.deadAfterRefused:
			r.state, r.ended = mesh.Dead, now
		case silent >= m.suspectAfter:
			r.state = mesh.Suspect
		}
		changed = m.differs(old, *r) || changed
	}
	return changed
}

// differs reports whether a view shows the change from a to b, and keeps the news.
func (m *members) differs(a, b record) bool {
	if a.state != b.state {
		m.news = append(m.news, transition{b.id, b.beat.Status.Worker, a.state, b.state})
	}
	return a.state != b.state || a.beat.Status.Ready != b.beat.Status.Ready || a.beat.Status.Begun != b.beat.Status.Begun ||
		a.beat.Status.Done != b.beat.Status.Done || a.beat.Status.Worker != b.beat.Status.Worker
}

// holder is the live member, self included, that has a worker number; empty if none.
func (m *members) holder(worker int, except mesh.ID) mesh.ID {
	var holder mesh.ID
	for id, r := range m.by {
		if r.live() && id != except && r.beat.Status.Worker == worker && (holder == "" || id < holder) {
			holder = id
		}
	}
	return holder
}

// free is the lowest number from 0 that no other live member has and taken does not
// name.
func (m *members) free(taken map[int]bool) int {
	for w := 0; ; w++ { // ends: there are finitely many members and taken numbers
		if !taken[w] && m.holder(w, m.self.id) == "" {
			return w
		}
	}
}

// view lists everybody, by worker number and then by ID.
func (m *members) view(now time.Duration) []mesh.Member {
	list := make([]mesh.Member, 0, len(m.by))
	for _, r := range m.by {
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

// known lists the live members for a hello.
func (m *members) known() []Known {
	var list []Known
	for _, r := range m.by {
		if r != m.self && r.live() {
			list = append(list, Known{ID: r.id, Worker: r.beat.Status.Worker, Addrs: r.beat.Addrs})
		}
	}
	slices.SortFunc(list, func(a, b Known) int { return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID)) })
	return list
}

// claim is one side of a dispute over a worker number.
type claim struct {
	id      mesh.ID
	settled bool // its joining is over
	movable bool // its number was not given by hand
	ready   bool // it holds the run's state: its number is in others' groups
}

// rank says how easily a claimant can move: 0 not at all, 2 most easily.
func (c claim) rank() int {
	switch {
	case !c.movable || c.ready:
		return 0
	case c.settled:
		return 1
	}
	return 2
}

// yields decides which of two claimants of one number moves: the one for which it
// is easier, or else the one with the larger ID. Both sides come to the same
// answer. Neither moves if neither can.
func yields(a, b claim) (loser mesh.ID, ok bool) {
	ra, rb := a.rank(), b.rank()
	switch {
	case ra == 0 && rb == 0:
		return "", false
	case ra != rb:
		if ra > rb {
			return a.id, true
		}
		return b.id, true
	}
	return max(a.id, b.id), true
}
