package gossip

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"loco/mesh"
)

// ErrDeadline is wrapped by the error of an all-reduce that had no result within
// Config.Deadline. Its vector is as it was, so the call may be repeated.
var ErrDeadline = errors.New("no result within the deadline")

const (
	attemptsMax = 16      // tries of one round by this worker
	triesMax    = 1 << 12 // that a peer may say a round had: they are numbered in 16 bits
)

// rounds is the state machine of the all-reduce: messages, views, ticks and the
// progress of the data plane go in with the time, actions come out. It holds no
// vector, socket, clock or goroutine. The package comment has the protocol.
//
// Invariant: while active, either attempt is nil and the worker waits for a group,
// or attempt is the one it works on. have is only replaced by a newer attempt's.
type rounds struct {
	self            mesh.ID
	deadline, grace time.Duration

	members  map[mesh.ID]mesh.Member // the last view
	readys   map[mesh.ID]announced   // newest of each peer, for a round not yet over here
	commits  map[mesh.ID]committed   // newest of each peer
	expected map[mesh.ID]uint64      // joiners, and the last round that waits for them
	kept     committed               // the last committed round; Attempt 0: none

	active      bool
	own         announced
	lastMembers []mesh.ID // of this worker's last attempt
	started     time.Time
	halfAt      time.Time // half of the live were ready: Grace runs
	closedAt    time.Time // a group can be closed: its coordinator's turn
	resendAt    time.Time
	abandonedAt time.Time
	waitEnd     time.Time          // when the last group closed
	observed    map[mesh.ID]string // seen to fail by this worker
	reported    map[mesh.ID]string // said to fail by others
	late        map[mesh.ID]bool   // live, and not ready when the last group closed
	votes       map[mesh.ID]behind
	aborting    bool // the caller's context ended
	stepDown    bool // blamed: does not coordinate this round while others can
	tries       int
	attempt     *attempt
	have        held
	dropped     uint32

	out []action
}

// announced is a Ready as it was received.
type announced struct {
	id     mesh.ID
	worker int
	round  uint64
	ready
}

// key is what members of a group must share.
func (a announced) key() string { return fmt.Sprintf("%x/%d", a.digest, a.length) }

// committed is a Commit as it was received.
type committed struct {
	round   uint64
	attempt uint32
	commit
}

// attempt is a group at work, or, with fetch set, a late member's download.
type attempt struct {
	number      uint32
	coordinator mesh.ID
	group       group
	begun       time.Time
	complete    bool
	dones       map[mesh.ID][32]byte // the coordinator's
	fetch       bool
	commit      committed // what is fetched
	source      mesh.ID   // of what is fetched or adopted
}

// has says that a peer is a member.
func (a *attempt) has(id mesh.ID) bool {
	return slices.ContainsFunc(a.group.members, func(g groupMember) bool { return g.id == id })
}

// action is what the shell must do: exactly one field is set.
type action struct {
	send   *outgoing
	begin  *attempt  // start the data plane of a group or a download
	stop   bool      // end the data plane
	serve  *serving  // send a complete result
	finish *finished // the round is over for this worker
}

type outgoing struct {
	to  mesh.ID
	env envelope
	msg message
}

// serving sends the result of attempt to a peer in frames of number.
type serving struct {
	to              mesh.ID
	round           uint64
	attempt, number uint32
}

// finished is how a round ends: committed, behind, or an error.
type finished struct {
	committed *committed
	behind    string
	err       error
}

func newRounds(self mesh.ID, worker int, deadline, grace time.Duration) *rounds {
	m := &rounds{self: self, deadline: deadline, grace: grace}
	m.own.worker, m.own.id = worker, self
	m.members = map[mesh.ID]mesh.Member{}
	m.readys = map[mesh.ID]announced{}
	m.commits = map[mesh.ID]committed{}
	m.expected = map[mesh.ID]uint64{}
	return m
}

// start begins a round of this worker.
func (m *rounds) start(now time.Time, round uint64, r ready) {
	m.active, m.started = true, now
	m.own.round, m.own.ready = round, r
	m.halfAt, m.closedAt, m.waitEnd = time.Time{}, time.Time{}, now
	m.observed, m.reported, m.votes = map[mesh.ID]string{}, map[mesh.ID]string{}, map[mesh.ID]behind{}
	m.late, m.aborting = nil, false
	m.stepDown, m.tries, m.attempt, m.have, m.dropped, m.lastMembers = false, 0, nil, held{}, 0, nil
	for id, p := range m.readys {
		if p.round < round {
			delete(m.readys, id)
		}
	}
	if m.kept.attempt != 0 && round <= m.kept.round {
		m.finishBehind(fmt.Sprintf("round %d is committed already", m.kept.round))
		return
	}
	m.announce(now)
	for _, id := range sortedKeys(m.commits) {
		if c := m.commits[id]; m.active && c.round >= round {
			m.onCommit(now, id, c)
		}
	}
	m.tryClose(now)
}

// abort gives a round up, for its caller's context ended, as soon as no attempt is under
// way: the others of an attempt may hold its result already.
func (m *rounds) abort() {
	m.aborting = true
	if m.active && m.attempt == nil {
		m.broadcast(0, withdraw{})
		m.finish(finished{})
	}
}

// announce sends this worker's Ready to everybody.
func (m *rounds) announce(now time.Time) {
	m.own.have = m.have
	m.resendAt = now.Add(m.grace / 2)
	m.broadcast(0, m.own.ready)
}

// view takes in the members as the mesh sees them now.
func (m *rounds) view(now time.Time, members []mesh.Member) {
	before := maps.Clone(m.members)
	clear(m.members)
	for _, p := range members {
		m.members[p.ID] = p
		// Who was Ready and is Joining runs in another process, which knows nothing.
		restarted := before[p.ID].Ready && !p.Ready
		if p.State == mesh.Dead || p.State == mesh.Left || restarted {
			delete(m.readys, p.ID)
			delete(m.commits, p.ID)
			delete(m.expected, p.ID)
		}
	}
	if !m.active {
		return
	}
	if a := m.attempt; a != nil {
		for _, g := range a.group.members {
			if m.gone(g.id) {
				m.fail(now, a.number, g.id, "lost")
				break
			}
		}
		if a = m.attempt; a != nil && a.fetch && m.gone(a.source) {
			m.fail(now, a.number, a.source, "lost")
		}
	}
	m.tryClose(now)
}

// gone says that the view calls the peer dead or left.
func (m *rounds) gone(id mesh.ID) bool {
	p, ok := m.members[id]
	return ok && (p.State == mesh.Dead || p.State == mesh.Left)
}

func (m *rounds) excluded(id mesh.ID) bool {
	_, o := m.observed[id]
	_, r := m.reported[id]
	return o || r
}

// expect makes rounds up to the one wait for a joiner as for live members.
func (m *rounds) expect(id mesh.ID, round uint64) { m.expected[id] = round }

// census returns who is ready for this round, this worker included, ascending by
// worker, and who is waited for.
func (m *rounds) census() (in []announced, missing []mesh.ID) {
	in = append(in, m.own)
	for _, id := range sortedKeys(m.readys) {
		p := m.readys[id]
		if p.round != m.own.round || m.gone(id) || m.excluded(id) || p.worker == m.own.worker {
			continue
		}
		in = append(in, p)
	}
	slices.SortStableFunc(in, func(a, b announced) int { return cmp.Compare(a.worker, b.worker) })
	in = slices.CompactFunc(in, func(a, b announced) bool { return a.worker == b.worker })
	counted := map[mesh.ID]bool{m.self: true}
	for _, p := range in {
		counted[p.id] = true
	}
	for _, id := range sortedKeys(m.members) {
		p := m.members[id]
		live := (p.State == mesh.Alive || p.State == mesh.Suspect) && p.Ready && !p.Done
		if live && !counted[id] && !m.excluded(id) {
			missing = append(missing, id)
			counted[id] = true
		}
	}
	for _, id := range sortedKeys(m.expected) {
		if m.expected[id] >= m.own.round && !counted[id] && !m.excluded(id) {
			missing = append(missing, id)
		}
	}
	return in, missing
}

// tick moves what only time moves. The shell calls it every Grace/4 or so.
func (m *rounds) tick(now time.Time) {
	if !m.active {
		return
	}
	if now.Sub(m.started) >= m.deadline {
		m.broadcast(0, withdraw{})
		m.finish(finished{err: fmt.Errorf("gossip: all-reduce: round %d: %w of %v: %s", m.own.round, ErrDeadline, m.deadline, m.waitingFor())})
		return
	}
	if m.attempt == nil {
		if !now.Before(m.resendAt) {
			m.announce(now)
		}
		m.tryClose(now)
		return
	}
	if !now.Before(m.resendAt) {
		m.resendAt = now.Add(m.grace / 2)
		m.remind()
	}
	m.checkPatience(now)
}

// remind repeats what a lost message may have left unsaid.
func (m *rounds) remind() {
	a := m.attempt
	switch {
	case a.fetch:
	case a.coordinator == m.self:
		for _, g := range a.group.members {
			if _, ok := a.dones[g.id]; !ok && g.id != m.self {
				m.send(g.id, a.number, a.group)
			}
		}
	case a.complete:
		m.send(a.coordinator, a.number, done{m.have.hash})
	}
}

// checkPatience ends an attempt that makes no progress: half the deadline leaves
// time for another.
func (m *rounds) checkPatience(now time.Time) {
	a := m.attempt
	if a.fetch || now.Sub(a.begun) < m.deadline/2 || !a.complete {
		return
	}
	if a.coordinator != m.self {
		m.fail(now, a.number, a.coordinator, "did not commit")
		return
	}
	for _, g := range a.group.members {
		if _, ok := a.dones[g.id]; !ok {
			m.fail(now, a.number, g.id, "did not report its result")
			return
		}
	}
}

// waitingFor describes the state for an error message.
func (m *rounds) waitingFor() string {
	if m.attempt != nil {
		return fmt.Sprintf("attempt %d of %d members is under way", m.tries, len(m.attempt.group.members))
	}
	in, missing := m.census()
	return fmt.Sprintf("%d workers are ready, %v are not; raise the deadline or stop those workers", len(in), missing)
}

// rejected names the peers left out of this round.
func (m *rounds) rejected() []string {
	all := map[mesh.ID]string{}
	for id := range m.late {
		all[id] = fmt.Sprintf("said nothing for %v after half of the others were ready", m.grace)
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

// name calls a peer by worker number and ID.
func (m *rounds) name(id mesh.ID) string {
	if p, ok := m.readys[id]; ok {
		return fmt.Sprintf("worker %d (%s)", p.worker, id)
	}
	if p, ok := m.members[id]; ok {
		return fmt.Sprintf("worker %d (%s)", p.Worker, id)
	}
	return string(id)
}

func (m *rounds) send(to mesh.ID, number uint32, msg message) {
	env := envelope{round: m.own.round, attempt: number, worker: m.own.worker}
	m.out = append(m.out, action{send: &outgoing{to, env, msg}})
}

// broadcast sends to every peer that may be in the run.
func (m *rounds) broadcast(number uint32, msg message) {
	to := map[mesh.ID]bool{}
	for id := range m.members {
		to[id] = true
	}
	for id := range m.readys {
		to[id] = true
	}
	for _, id := range sortedKeys(to) {
		if id != m.self && !m.gone(id) {
			m.send(id, number, msg)
		}
	}
}

func (m *rounds) finishBehind(why string) {
	m.broadcast(0, withdraw{})
	m.finish(finished{behind: why})
}

func (m *rounds) finish(f finished) {
	if m.attempt != nil {
		m.out = append(m.out, action{stop: true})
	}
	m.active, m.attempt = false, nil
	m.out = append(m.out, action{finish: &f})
}

// take returns and forgets the actions.
func (m *rounds) take() []action {
	out := m.out
	m.out = nil
	return out
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
