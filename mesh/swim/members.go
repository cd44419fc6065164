package swim

import (
	"fmt"
	"slices"
	"time"

	"loco/kernels/splitmix"
	"loco/mesh"
)

// Heartbeat is what a member says about itself.
type Heartbeat struct {
	Status      mesh.Status
	Left        bool // goodbye: nothing follows
	Incarnation Incarnation
	Seq         uint64   // grows with each heartbeat of a life
	Addrs       []string // multiaddrs without /p2p
}

// Members is who is in the run as this machine sees it. Its methods are events; what
// follows from them is in Take.
type Members struct {
	cfg  Config
	self *record
	by   map[mesh.ID]*record // self included
	all  []*record           // the same, in the order of coming: events follow from the seed

	ticked time.Duration // the last tick
	rng    random
	number uint64 // of the last ping
	next   time.Duration
	order  []mesh.ID // members that are still to be probed in this turn
	again  []mesh.ID // members that are probed before them
	probes []probe
	relays map[uint64]relay
	rumors []told

	out       Output
	refutals  uint64
	suspicion uint64
}

// Output is what has followed from the events since the last Take.
type Output struct {
	Changed bool // a State, Lane, Ready, Begun, Done or worker number of the view
	News    []Transition
	Send    []Envelope
	Dial    []mesh.ID // known members that live, and must pass a hello to count again
	Publish bool      // a heartbeat is due: this member has refuted something
}

// Transition is a change of state, for the log.
type Transition struct {
	ID       mesh.ID
	Worker   int
	From, To mesh.State
}

// record is one member. Of its troubles several may stand at a time; each makes it
// suspect.
type record struct {
	id       mesh.ID
	beat     Heartbeat // the newest
	state    mesh.State
	heard    time.Duration // the last sign of life
	beatAt   time.Duration // the last heartbeat by gossip; negative if there was none
	gaps     window        // between heartbeats
	trips    *window       // of pings; nil before the first
	ended    time.Duration // when it became dead or left
	refused  time.Duration // since when its addresses refuse; negative if they do not
	accusers time.Duration // since when a rumor or a probe accuses it without a sign of life; negative if none does
	quiet    bool          // silent for longer than usual
	missed   uint8         // probes in a row that it did not answer although it lives
	again    bool          // in Members.again
	said     Say           // the worst that is known to be said of it
	saidOf   Incarnation   // and of which incarnation
}

// missesMax is how many probes in a row only others get an answer to before this
// machine does not reach a member.
const missesMax = 3

// live reports whether the member counts: its worker number is in use.
func (r *record) live() bool { return r.state != mesh.Dead && r.state != mesh.Left }

// healthy is the state of a live member that nothing is wrong with.
func (r *record) healthy() mesh.State {
	if r.beat.Status.Ready {
		return mesh.Alive
	}
	return mesh.Joining
}

// New starts with this member alone. c must be valid.
func New(c Config, self mesh.ID, beat Heartbeat) *Members {
	m := &Members{cfg: c, by: make(map[mesh.ID]*record), relays: make(map[uint64]relay), rng: random{splitmix.Source(c.Seed)}}
	m.self = m.add(self, beat)
	m.self.state = m.self.healthy()
	m.next = time.Duration(m.rng.below(int(c.ProbeEvery))) // not in step with the others
	return m
}

func (m *Members) add(id mesh.ID, beat Heartbeat) *record {
	r := &record{id: id, beat: beat, state: mesh.Left, refused: -1, accusers: -1, beatAt: -1}
	m.by[id] = r
	m.all = append(m.all, r)
	return r
}

// other returns the record of a member that is not this one, or nil.
func (m *Members) other(id mesh.ID) *record {
	if r := m.by[id]; r != m.self {
		return r
	}
	return nil
}

// change makes a change to a record and notes what a view shows of it.
func (m *Members) change(r *record, f func()) {
	state, status := r.state, r.beat.Status
	f()
	if r.state != state {
		m.out.News = append(m.out.News, Transition{r.id, r.beat.Status.Worker, state, r.state})
	}
	s := r.beat.Status
	m.out.Changed = m.out.Changed || r.state != state || s.Ready != status.Ready || s.Begun != status.Begun ||
		s.Done != status.Done || s.Worker != status.Worker || s.Lane != status.Lane
}

// settle gives a live member the state that follows from its troubles.
func (r *record) settle() {
	switch {
	case !r.live():
	case r.refused >= 0 || r.accusers >= 0 || r.quiet || r.missed >= missesMax:
		r.state = mesh.Suspect
	default:
		r.state = r.healthy()
	}
}

// lives notes a sign of life. reached says that it came as an answer over the member's
// own connection.
func (m *Members) lives(r *record, at time.Duration, reached bool) {
	m.change(r, func() {
		r.heard = max(r.heard, at)
		r.quiet, r.accusers = false, -1
		if reached {
			r.refused, r.missed = -1, 0
		}
		r.settle()
	})
}

// end makes a member dead or left.
func (m *Members) end(r *record, state mesh.State, now time.Duration) {
	m.change(r, func() {
		r.state, r.ended = state, now
		r.refused, r.accusers, r.quiet, r.missed = -1, -1, false, 0
	})
}

// Announce replaces this member's own status.
func (m *Members) Announce(s mesh.Status) {
	m.change(m.self, func() {
		m.self.beat.Status = s
		m.self.settle()
	})
}

// Beat is the next heartbeat of this member.
func (m *Members) Beat(addrs []string) Heartbeat {
	m.self.beat.Seq++
	m.self.beat.Addrs = addrs
	return m.self.beat
}

// Leave marks this member as gone.
func (m *Members) Leave(now time.Duration) {
	if m.self.state != mesh.Left {
		m.self.beat.Left = true
		m.end(m.self, mesh.Left, now)
	}
}

// Barred says why a peer that has passed a hello is not taken in, and what its operator can do.
// It is "" where the peer is taken in.
func (m *Members) Barred(id mesh.ID, beat Heartbeat) string {
	r := m.by[id]
	switch {
	case id == m.self.id:
		return "it has this worker's own identity: give it a folder of its own"
	case r != nil && r.state == mesh.Left && beat.Incarnation.Life <= r.beat.Incarnation.Life:
		return fmt.Sprintf("it left in life %d, and says hello in life %d: a new process must have a higher one; its clock may have been set back and its record of lives lost: set the clock, or delete its identity to get another",
			r.beat.Incarnation.Life, beat.Incarnation.Life)
	case r == nil && len(m.all) >= maxMembers && m.gone() == nil:
		return fmt.Sprintf("this mesh has %d live members, at most %d are allowed", len(m.all), maxMembers)
	}
	return ""
}

// Admit takes in a peer that has passed a hello. The hello is the word of the peer's
// running process, over its own connection: it overrides what rumors said, whatever
// its incarnation, but a member that left stays so in that life. ok is false if it is
// not taken in.
func (m *Members) Admit(id mesh.ID, beat Heartbeat, now time.Duration) (ok bool) {
	if m.Barred(id, beat) != "" {
		return false
	}
	r := m.by[id]
	switch {
	case r == nil:
		if len(m.all) >= maxMembers {
			m.evict()
		}
		r = m.add(id, beat)
	case r.beat.Incarnation.Life == beat.Incarnation.Life && beat.Seq < r.beat.Seq:
		beat = r.beat // gossip brought a newer heartbeat than this hello's
	}
	if r.beat.Incarnation.Life != beat.Incarnation.Life {
		r.said, r.beatAt = 0, -1 // of another process
	}
	if !slices.Contains(m.order, id) {
		m.order = slices.Insert(m.order, m.rng.below(len(m.order)+1), id)
	}
	if r.beat.Incarnation.Life == beat.Incarnation.Life && beat.Incarnation.Before(r.beat.Incarnation) {
		beat.Incarnation = r.beat.Incarnation // and a rumor of a refutation, too
	}
	m.change(r, func() {
		r.beat, r.heard = beat, max(r.heard, now)
		r.refused, r.accusers, r.quiet, r.missed = -1, -1, false, 0
		r.state = r.healthy()
	})
	if m.accused(r) {
		m.ping(r, now) // it learns what is said of it, and refutes
	}
	return true
}

// gone is the member that has been gone for longest, or nil.
func (m *Members) gone() (oldest *record) {
	for _, r := range m.all {
		if !r.live() && r != m.self && (oldest == nil || r.ended < oldest.ended) {
			oldest = r
		}
	}
	return oldest
}

// evict forgets the member that has been gone for longest.
func (m *Members) evict() {
	oldest := m.gone()
	m.forget(func(r *record) bool { return r == oldest })
}

func (m *Members) forget(which func(*record) bool) {
	m.all = slices.DeleteFunc(m.all, func(r *record) bool {
		if !which(r) {
			return false
		}
		delete(m.by, r.id)
		m.out.Changed = true
		return true
	})
}

// Outcome is what came of a heartbeat.
type Outcome uint8

// Outcomes of a heartbeat.
const (
	Ignored   Outcome = iota // old news
	Applied                  // the newest of a live member
	Unreached                // it lives, but has not passed a hello since it died or restarted
)

// Heartbeat takes in what gossip brings of a member's own word.
func (m *Members) Heartbeat(id mesh.ID, beat Heartbeat, now time.Duration) Outcome {
	r := m.by[id]
	switch {
	case r == m.self && r != nil:
		return Ignored
	case r == nil || beat.Incarnation.Life > r.beat.Incarnation.Life:
		if beat.Left {
			return Ignored
		}
		return Unreached
	case beat.Incarnation.Life < r.beat.Incarnation.Life || r.state == mesh.Left || beat.Seq <= r.beat.Seq:
		return Ignored
	case beat.Left:
		m.Goodbye(id, beat.Incarnation.Life, now)
		return Applied
	}
	if beat.Incarnation.Before(r.beat.Incarnation) {
		beat.Incarnation = r.beat.Incarnation // a rumor of the refutation was faster
	}
	if r.state == mesh.Dead {
		r.beat = beat
		return Unreached
	}
	if r.beatAt >= 0 {
		r.gaps.add(now - r.beatAt)
	}
	r.beatAt = now
	m.change(r, func() {
		r.beat = beat
		r.settle()
	})
	m.lives(r, now, false)
	return Applied
}

// Hear notes that something arrived from a member over its own connection, at a time
// that may be earlier than the last.
func (m *Members) Hear(id mesh.ID, at time.Duration) {
	if r := m.other(id); r != nil && r.live() && at > r.heard {
		m.lives(r, at, true)
	}
}

// Refuse notes that all of a member's addresses refused a connection.
func (m *Members) Refuse(id mesh.ID, now time.Duration) {
	if r := m.other(id); r != nil && r.live() && r.refused < 0 {
		m.change(r, func() {
			r.refused = now
			r.settle()
		})
	}
}

// Goodbye marks a member as having left in the given life.
func (m *Members) Goodbye(id mesh.ID, life uint64, now time.Duration) {
	r := m.other(id)
	if r == nil || r.state == mesh.Left || life < r.beat.Incarnation.Life {
		return
	}
	m.end(r, mesh.Left, now)
	m.spread(Rumor{SayLeft, id, r.beat.Incarnation}, now)
}

// Tick lets time pass. It is called several times in each period.
func (m *Members) Tick(now time.Duration) {
	m.stoodStill(now)
	m.ticked = now
	if m.self.state == mesh.Left {
		return
	}
	m.chase(now)
	for _, r := range m.all {
		if r != m.self && r.live() {
			m.age(r, now)
		}
	}
	m.rumors = slices.DeleteFunc(m.rumors, func(t told) bool { return now >= t.until })
	m.forget(func(r *record) bool { return r != m.self && !r.live() && now-r.ended >= m.cfg.Forget })
}

// stoodStill takes the time in which this process did not run off the others' silence.
func (m *Members) stoodStill(now time.Duration) {
	gap := now - m.ticked
	if gap <= m.cfg.ProbeEvery {
		return
	}
	for _, r := range m.all {
		r.heard = min(r.heard+gap, now)
		r.beatAt = -1 // the next interval would be the pause
		if r.accusers >= 0 {
			r.accusers += gap
		}
		if r.refused >= 0 {
			r.refused += gap
		}
	}
	m.probes = nil
	m.next = now
}

// age applies the deadlines of a live member.
func (m *Members) age(r *record, now time.Duration) {
	silent := now - r.heard
	dead := silent >= m.cfg.DeadAfter ||
		r.refused >= 0 && now-r.refused >= m.cfg.DeadAfterRefused ||
		r.accusers >= 0 && now-r.accusers >= m.patience(r)
	switch {
	case dead:
		refused := r.refused >= 0
		m.end(r, mesh.Dead, now)
		if !refused { // addresses that refuse this machine may accept others
			m.say(r, SayDead, now)
		}
	case !r.quiet && silent >= max(m.cfg.SuspectMin, m.cfg.Heartbeat) && silent >= m.silence(r): // the cheap test first
		m.change(r, func() {
			r.quiet = true
			r.settle()
		})
	}
}

// silence is how long a member may be silent before it is suspect.
func (m *Members) silence(r *record) time.Duration {
	limit, ok := r.gaps.limit(m.cfg.Heartbeat)
	if !ok {
		return m.cfg.SuspectAfter
	}
	return min(max(limit, m.cfg.SuspectMin), m.cfg.SuspectAfter)
}

// patience is how long a member may be accused before it is dead.
func (m *Members) patience(r *record) time.Duration {
	return m.cfg.patience(len(m.all), m.silence(r))
}

// Take returns what has followed from the events since the last Take.
func (m *Members) Take() Output {
	out := m.out
	m.out = Output{}
	return out
}
