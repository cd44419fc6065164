package protocol

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
)

// ErrDeadline is wrapped by the error of an all-reduce that had no result within its
// deadline. Its vector is as it was, so the call may be repeated.
var ErrDeadline = errors.New("no result within the deadline")

const (
	attemptsMax = 16      // tries of one round by this worker
	triesMax    = 1 << 12 // that a peer may say a round had: they are numbered in 16 bits
	peersMax    = 4096    // peers that are remembered
	servesMax   = 4       // results that are sent to late members at a time; a peer that waits for its turn asks another after Grace
)

// RoundsConfig is what does not change in the life of a process.
type RoundsConfig struct {
	Self            mesh.ID
	Worker          int
	Deadline, Grace time.Duration
	// GraceMin is what everybody is waited for at least once half are ready, except peers that are
	// late in most rounds; up to Grace it is learnt. 0: Grace, nothing is learnt.
	GraceMin time.Duration
	// SlowCycle is how many rounds a late worker trains for one contribution; 0 and 1: one.
	SlowCycle int
	// Detection is the shortest silence after which the mesh calls a peer dead; 0: Grace. A
	// process that was paused for longer than that finds the others dead.
	Detection time.Duration
	// Unequal says that replicas differ by the strategy's design: members agree on run, round and
	// part, and on the bytes of the mean, but on no base; no state outweighs another.
	Unequal bool
	// Part is the vector that is averaged: each has a machine of its own.
	Part exchange.Part
	// Quorum is the number of workers that the run is planned for, more than half of
	// which must agree to a round; 0: the workers that are there go on.
	Quorum int
	// Nonce is random: with it no attempt of this process has the number of one of its
	// former self.
	Nonce uint32
}

// Start is what a worker brings to a round.
type Start struct {
	Digest [32]byte // of the state that the round starts from
	Tokens float64  // that all workers trained to get to that state
	Weight float64
	Length int
	// Slack is the time until the result is due, if the caller trains on meanwhile: until what
	// is left of it is just enough to transfer, waiting for stragglers is free. The deadline
	// counts from its end.
	Slack time.Duration
}

// Rounds is the state machine of the all-reduce: messages, views, ticks and the
// progress of the data plane go in with the time, actions come out. It holds no
// vector, socket, clock or goroutine. docs/protocol.md has the protocol.
//
// Invariant: while active, either attempt is nil and the worker waits for a group,
// or attempt is the one it works on. have is only replaced by a newer attempt's.
type Rounds struct {
	RoundsConfig
	members  map[mesh.ID]mesh.Member // the last view; those in spoken are suspect there
	spoken   map[mesh.ID]bool        // dead by the mesh's view, and heard since it has said so
	readys   map[mesh.ID]announced   // newest of each peer
	commits  map[mesh.ID]committed   // newest of each peer
	former   map[mesh.ID]invitation  // the newest of each peer that came before this worker was ready
	expected map[mesh.ID]uint64      // joiners, and the last round that waits for them
	heard    map[mesh.ID]time.Time   // when a message of each peer last came
	misses   map[mesh.ID]int         // rounds in a row that went on without a live, silent peer
	paces    map[mesh.ID]*pace       // how late each peer is in general
	kept     committed               // the last committed round; attempt 0: none
	place    place                   // where this worker stands
	voter    bool                    // remembers all that it has promised
	lastTick time.Time
	hold     time.Time // no group is closed and nothing committed before: see notice and lose

	abandonedAt time.Time // the last attempt ended without a result
	fetchedAt   time.Time // the last download began
	lastClose   time.Time // the last round's group closed
	half        time.Time // half of the live were ready first, in this round
	worth       time.Duration

	own announced
	promises
	call

	serving map[mesh.ID]Serve // results on their way
	waiting []Serve           // for their turn
	transfers

	out []Action
}

// invitation names a group that has this worker.
type invitation struct {
	round, attempt uint64
}

// promises are what this worker holds of its round, and has told the others. They stay where the
// caller repeats the round from the same state.
type promises struct {
	have    held
	dropped []uint64 // attempts whose results are void
	joined  []uint64 // attempts of the round that have this process's own vector
}

// call is what Start begins and Finish ends: Start replaces it whole.
type call struct {
	active      bool // Finish has not been said
	started     time.Time
	slack       time.Duration
	due         time.Time // started and slack: from here on the caller waits
	lastMembers []mesh.ID // of this worker's last attempt
	most        bool      // the workers that are ready may go on without the late ones
	halfAt      time.Time // half of the live were ready: Grace runs
	closedAt    time.Time // a group can be closed: its coordinator's turn
	turn        mesh.ID   // whose
	resendAt    time.Time
	elsewhere   elsewhere
	waitEnd     time.Time          // when the last group closed
	observed    map[mesh.ID]string // seen to fail by this worker
	reported    map[mesh.ID]string // said to fail by others
	strikes     map[mesh.ID]int    // times that this worker saw it fail
	late        map[mesh.ID]bool   // live, and not ready when the last group closed
	votes       map[mesh.ID]behind
	aborting    bool // the caller's context ended
	stepDown    bool // blamed: does not coordinate this round while others can
	tries       int
	attempt     *attempt
}

func newCall(now time.Time, slack time.Duration) call {
	return call{active: true, started: now, slack: slack, due: now.Add(slack), waitEnd: now, observed: map[mesh.ID]string{}, reported: map[mesh.ID]string{},
		strikes: map[mesh.ID]int{}, votes: map[mesh.ID]behind{}}
}

// announced is a Ready as it was received, first at a time.
type announced struct {
	id     mesh.ID
	at     time.Time
	worker int
	round  uint64
	ready
}

// committed is a Commit as it was received.
type committed struct {
	round   uint64
	attempt uint64
	commit
}

// Action is what the shell must do: exactly one field is set.
type Action struct {
	Send   *Send
	Begin  *Plan // start the data plane of a group or a download
	Stop   bool  // end the data plane
	Serve  *Serve
	Quit   *Serve // one under way: between two frames it ends
	Finish *Finish
}

// Send is a control message to a peer.
type Send struct {
	To  mesh.ID
	Env Envelope
	Msg Message
}

// Serve sends the result of Attempt to a peer in frames of Number. Rounds.Served says
// that it is done.
type Serve struct {
	To              mesh.ID
	Round           uint64
	Attempt, Number uint64
	member          bool // of a group that adopts the result: none waits for its turn, or it would hold this worker for silent
}

// Finish is how a round ends for this worker: with Result, Behind, an error, or, if none
// is set, because its caller gave up.
type Finish struct {
	Result *Result
	Behind string  // why this worker must fetch the others' state
	Source mesh.ID // that has it; "" where not known
	Err    error
}

// Result is a committed round.
type Result struct {
	Round   uint64
	Attempt uint64 // that formed it
	Hash    [32]byte
	Tokens  float64 // Σ of the weights in the mean
	Workers []int   // that are in the mean
	Former  bool    // what it has of this worker is its former process's
}

// NewRounds returns the machine of a process that has just started.
func NewRounds(c RoundsConfig) *Rounds {
	m := &Rounds{RoundsConfig: c}
	if c.GraceMin <= 0 {
		m.GraceMin = c.Grace
	}
	if c.Detection <= 0 || c.Detection > c.Grace {
		m.Detection = c.Grace
	}
	m.own.worker, m.own.id = c.Worker, c.Self
	m.members = map[mesh.ID]mesh.Member{}
	m.readys = map[mesh.ID]announced{}
	m.commits = map[mesh.ID]committed{}
	m.former = map[mesh.ID]invitation{}
	m.expected = map[mesh.ID]uint64{}
	m.misses = map[mesh.ID]int{}
	m.paces = map[mesh.ID]*pace{}
	m.heard = map[mesh.ID]time.Time{}
	m.spoken = map[mesh.ID]bool{}
	m.serving = map[mesh.ID]Serve{}
	return m
}

// Start begins a round of this worker. Where it repeats a round that ended without a
// result, what this worker holds and has promised stays.
func (m *Rounds) Start(now time.Time, round uint64, s Start) {
	m.notice(now)
	m.turnOver(round)
	s.Digest, s.Tokens = m.base(round, s.Digest, s.Tokens)
	r := ready{digest: s.Digest, tokens: s.Tokens, weight: s.Weight, length: uint64(s.Length)}
	if m.own.round == round {
		r.last = m.own.last
	}
	if m.own.round != round || m.own.digest != s.Digest || m.own.length != r.length {
		m.promises = promises{}
	}
	m.call = newCall(now, s.Slack)
	m.own.round, m.own.ready = round, r
	m.place = place{known: true, round: round, digest: s.Digest, tokens: s.Tokens}
	if m.kept.attempt != 0 && round <= m.kept.round {
		m.kept = committed{} // the caller went back to a state of another lineage
	}
	maps.DeleteFunc(m.readys, func(_ mesh.ID, p announced) bool { return p.round < round && p.tokens <= s.Tokens })
	m.announce(now)
	for _, id := range sortedKeys(m.commits) {
		if c := m.commits[id]; m.active && c.round >= round {
			m.onCommit(now, id, c)
		} else if c.round < round {
			delete(m.commits, id)
		}
	}
	m.tryClose(now)
}

// Abort gives a round up, because its caller's context ended, as soon as no attempt is under
// way: the others of an attempt may hold its result already.
func (m *Rounds) Abort() {
	m.aborting = true
	if m.active && m.attempt == nil {
		m.broadcast(0, withdraw{})
		m.finish(Finish{})
	}
}

// Close ends the round under way with an error.
func (m *Rounds) Close(err error) {
	if m.active {
		m.finish(Finish{Err: err})
	}
}

// announce sends this worker's Ready to everybody.
func (m *Rounds) announce(now time.Time) {
	m.own.have, m.own.voter, m.own.drop = m.have, m.voter, m.dropped
	m.resendAt = now.Add(m.Grace / 2)
	m.broadcast(0, m.own.ready)
	if now.Before(m.hold) {
		m.sayToGone(m.own.ready)
	}
}

// View takes in the members as the mesh sees them now.
func (m *Rounds) View(now time.Time, members []mesh.Member) {
	m.notice(now)
	before := maps.Clone(m.members)
	clear(m.members)
	for _, p := range members {
		m.members[p.ID] = m.corrected(p)
		was, known := before[p.ID]
		// A peer that was Ready and is Joining runs in another process, which knows nothing.
		restarted := was.Ready && !p.Ready
		if m.gone(p.ID) || restarted {
			m.lose(now, p.ID)
		}
		if known && was.State == mesh.Dead && !m.gone(p.ID) {
			delete(m.misses, p.ID)
			if m.active {
				m.send(p.ID, 0, m.own.ready) // it may have missed what was said meanwhile
			}
		}
	}
	for id := range m.misses {
		if _, ok := m.members[id]; !ok {
			delete(m.misses, id)
		}
	}
	maps.DeleteFunc(m.paces, func(id mesh.ID, _ *pace) bool { _, ok := m.members[id]; return !ok })
	maps.DeleteFunc(m.spoken, func(id mesh.ID, _ bool) bool { _, ok := m.members[id]; return !ok })
	m.failLost(now)
}

// failLost ends an attempt that has lost a member, or its source.
func (m *Rounds) failLost(now time.Time) {
	if !m.active {
		return
	}
	if a := m.attempt; a != nil {
		for _, g := range a.group.members {
			if m.gone(g.ID) {
				m.Fail(now, a.number, g.ID, "lost")
				break
			}
		}
		if a = m.attempt; a != nil && a.fetch && m.gone(a.source) {
			m.Fail(now, a.number, a.source, "lost")
		}
	}
	m.tryClose(now)
}

// lose takes in that a process is no more.
func (m *Rounds) lose(now time.Time, id mesh.ID) {
	if c, ok := m.commits[id]; ok && m.active && c.round >= m.own.round {
		m.hold = now.Add(m.Grace) // others may have what this one has committed: they say so
		m.announce(now)
	}
	m.forget(id)
}

// forget drops what a process said that is no more.
func (m *Rounds) forget(id mesh.ID) {
	delete(m.readys, id)
	delete(m.commits, id)
	delete(m.expected, id)
	delete(m.misses, id)
	delete(m.paces, id)
	delete(m.heard, id)
	m.waiting = slices.DeleteFunc(m.waiting, func(s Serve) bool { return s.To == id })
}

func (m *Rounds) excluded(id mesh.ID) bool {
	_, o := m.observed[id]
	_, r := m.reported[id]
	return o || r
}

// Expect makes rounds up to the one wait for a joiner as for live members: it may say again and
// again that it comes, and only its Ready shows that it does.
func (m *Rounds) Expect(id mesh.ID, round uint64) {
	if len(m.expected) < peersMax {
		m.expected[id] = round
	}
}

// Tick moves what only time moves. The shell calls it every TickEvery, between
// rounds too: a tick that comes late says that this process was paused, and what it
// believes of the others is old.
func (m *Rounds) Tick(now time.Time) {
	m.notice(now)
	m.lastTick = now
	m.fallSilent(now)
	if !m.active {
		return
	}
	if now.Sub(m.due) >= m.Deadline {
		m.giveUp(m.waitingFor())
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
		m.resendAt = now.Add(m.Grace / 2)
		m.remind()
	}
	if a := m.attempt; a.complete && a.coordinator == m.Self {
		m.checkDone(now) // it may have been put off
	}
	if m.attempt != nil {
		m.checkPatience(now)
	}
}

// giveUp ends the round without a result. The caller may repeat it.
func (m *Rounds) giveUp(why string) {
	m.broadcast(0, withdraw{})
	m.finish(Finish{Err: fmt.Errorf("round %d: %w of %v: %s", m.own.round, ErrDeadline, m.Deadline, why)})
}

// TickEvery is the time between two ticks.
func (m *Rounds) TickEvery() time.Duration { return m.Detection / 4 }

// notice looks whether the process was paused until now.
func (m *Rounds) notice(now time.Time) {
	if m.lastTick.IsZero() {
		m.lastTick = now
	}
	if now.Sub(m.lastTick) >= m.Detection/2 {
		m.lastTick, m.hold = now, now.Add(m.Grace)
		m.halfAt, m.closedAt = time.Time{}, time.Time{}
		if a := m.attempt; m.active && a != nil && !a.fetch && a.coordinator == m.Self {
			m.sayGroup(true) // a member that has given it up since, or decided the round otherwise, says so
		}
	}
}

// Awaits says that a frame of an attempt that has no data plane here may yet get one: its
// sender has heard of the group first.
func (m *Rounds) Awaits(round uint64, number uint64) bool {
	return !m.over(round) && (m.own.round < round || m.own.round == round && m.own.last < number)
}

// WaitEnd is when the last group of the round closed.
func (m *Rounds) WaitEnd() time.Time { return m.waitEnd }

// Take returns and forgets the actions.
func (m *Rounds) Take() []Action {
	out := m.out
	m.out = nil
	return out
}

func (m *Rounds) finish(f Finish) {
	if m.attempt != nil {
		m.out = append(m.out, Action{Stop: true})
	}
	m.active, m.attempt = false, nil
	m.out = append(m.out, Action{Finish: &f})
}
