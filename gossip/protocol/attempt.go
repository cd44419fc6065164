package protocol

import (
	"fmt"
	"slices"
	"time"

	"loco/mesh"
)

// attempt is a group at work, or, with fetch set, a late member's download.
type attempt struct {
	number      uint64
	coordinator mesh.ID
	group       group
	begun       time.Time
	complete    bool
	completed   time.Time
	dones       map[mesh.ID][32]byte // the coordinator's
	fetch       bool
	commit      committed // what is fetched
	source      mesh.ID   // of what is fetched or adopted
}

// drop voids the results of attempts for good.
func (m *Rounds) drop(numbers ...uint64) {
	for _, n := range numbers {
		if !slices.Contains(m.dropped, n) && len(m.dropped) < dropsMax {
			m.dropped = append(m.dropped, n)
		}
		if m.have.attempt == n {
			m.have = held{}
		}
	}
}

// has says that a peer is a member.
func (a *attempt) has(id mesh.ID) bool {
	return slices.ContainsFunc(a.group.members, func(g GroupMember) bool { return g.ID == id })
}

// enter begins work on a group that this worker is in.
func (m *Rounds) enter(now time.Time, number uint64, coordinator mesh.ID, g group) {
	if m.tries++; m.tries > attemptsMax {
		m.broadcast(0, withdraw{})
		m.finish(Finish{Err: fmt.Errorf("round %d: %w: %d attempts failed: %v", m.own.round, ErrDeadline, attemptsMax, m.Rejected())})
		return
	}
	m.drop(g.drop...)
	if g.adopt.attempt == 0 && m.former[coordinator] != (invitation{m.own.round, number}) {
		m.joined = append(m.joined[max(0, len(m.joined)+1-attemptsMax):], number)
	}
	a := &attempt{number: number, coordinator: coordinator, group: g, begun: now, dones: map[mesh.ID][32]byte{}}
	m.attempt, m.own.last, m.waitEnd = a, number, now
	m.lastMembers = nil
	for _, p := range g.members {
		m.lastMembers = append(m.lastMembers, p.ID)
		delete(m.misses, p.ID)
		if p.Worker == g.source {
			a.source = p.ID
		}
	}
	m.noteLate(a)
	m.halfReady(now)
	m.noteMembers(a)
	m.resendAt = now.Add(m.Grace / 2)
	if g.adopt.attempt == 0 || m.have.attempt != g.adopt.attempt || m.have.hash != g.adopt.hash {
		m.begin()
		return
	}
	if g.source == m.Worker {
		for _, p := range g.members {
			if !p.has {
				m.serve(Serve{p.ID, m.own.round, g.adopt.attempt, number, true})
			}
		}
	}
	m.report(now, g.adopt.hash)
}

// begin starts the data plane of the attempt.
func (m *Rounds) begin() {
	a := m.attempt
	p := Plan{Round: m.own.round, Number: a.number, Members: a.group.members, Self: -1, Length: int(m.own.length)}
	p.Self = slices.IndexFunc(p.Members, func(g GroupMember) bool { return g.ID == m.Self })
	if a.fetch || a.group.adopt.attempt != 0 {
		p.Source = a.source
	}
	for _, g := range p.Members {
		p.Total += g.Weight
	}
	m.out = append(m.out, Action{Begin: &p})
}

// Complete takes in that the data plane holds the whole result of attempt number.
func (m *Rounds) Complete(now time.Time, number uint64, hash [32]byte) {
	a := m.attempt
	if a == nil || a.number != number || a.complete {
		return
	}
	switch {
	case !a.agrees(hash):
		m.Fail(now, number, a.source, "sent another result than it announced")
	case a.fetch:
		m.commitLocally(a.commit)
	case a.group.adopt.attempt != 0:
		m.have = a.group.adopt
		m.report(now, hash)
	default:
		m.have = held{attempt: number, hash: hash}
		for _, g := range a.group.members {
			m.have.tokens += g.Weight
			m.have.workers = append(m.have.workers, g.Worker)
		}
		m.report(now, hash)
	}
}

// Keeps says under which attempt's number the result of attempt number is to be kept, if
// it is what was announced: an adopted one keeps the number of the attempt that formed it.
func (m *Rounds) Keeps(number uint64, hash [32]byte) (formed uint64, ok bool) {
	a := m.attempt
	if a == nil || a.number != number || !a.agrees(hash) {
		return 0, false
	}
	if adopt := a.group.adopt; adopt.attempt != 0 {
		return adopt.attempt, true
	}
	return number, true
}

// agrees says that a result has the hash that was announced for it, if one was.
func (a *attempt) agrees(hash [32]byte) bool {
	switch {
	case a.fetch:
		return hash == a.commit.hash
	case a.group.adopt.attempt != 0:
		return hash == a.group.adopt.hash
	}
	return true
}

// report tells the coordinator that this worker holds everything.
func (m *Rounds) report(now time.Time, hash [32]byte) {
	a := m.attempt
	a.complete, a.completed = true, now
	if a.group.adopt.attempt == 0 {
		m.transfers.note(now.Sub(a.begun))
	}
	if a.coordinator != m.Self {
		m.send(a.coordinator, a.number, done{hash})
		return
	}
	a.dones[m.Self] = hash
	m.checkDone(now)
}

// checkDone commits when all members hold the same result. Only here is a round
// decided; a worker that hears of it follows.
func (m *Rounds) checkDone(now time.Time) {
	if now.Before(m.hold) {
		return // a Done may be older than what its sender has decided since: see notice
	}
	a := m.attempt
	if len(a.dones) < len(a.group.members) {
		return
	}
	votes, best := map[[32]byte]int{}, a.dones[m.Self]
	for _, p := range a.group.members {
		votes[a.dones[p.ID]]++
	}
	for _, p := range a.group.members {
		if votes[a.dones[p.ID]] > votes[best] {
			best = a.dones[p.ID]
		}
	}
	if len(votes) > 1 {
		for _, p := range a.group.members {
			if a.dones[p.ID] != best && p.ID != m.Self {
				m.reported[p.ID] = "holds another result"
			}
		}
		m.drop(m.have.attempt) // nobody has committed it
		m.broadcast(a.number, failed{"", "results differ"})
		m.abandon(now)
		return
	}
	h := m.have
	m.commitLocally(committed{m.own.round, h.attempt, commit{
		hash: h.hash, digest: m.own.digest, length: m.own.length, base: m.own.tokens, tokens: h.tokens, workers: h.workers}})
	m.broadcast(m.kept.attempt, m.kept.commit)
}

// commitLocally ends the round with a result that this worker holds.
func (m *Rounds) commitLocally(c committed) {
	if m.have.attempt == c.attempt && m.have.hash == c.hash {
		// A quorum took this process in: what a former one promised binds nobody now.
		m.voter = true
	}
	m.kept, m.have = c, held{}
	m.place = place{known: true, round: c.round + 1, tokens: m.after(c)}
	for _, id := range sortedKeys(m.readys) {
		// A worker that came too late for the group hears of it from everybody: its coordinator may be
		// lost.
		if r := m.readys[id]; r.round == c.round && r.digest == c.digest && !slices.Contains(c.workers, r.worker) && !m.gone(id) {
			m.sendKept(id)
		}
	}
	former := slices.Contains(c.workers, m.Worker) && !slices.Contains(m.joined, c.attempt)
	m.finish(Finish{Result: &Result{Round: c.round, Attempt: c.attempt, Hash: c.hash, Tokens: c.tokens, Workers: c.workers, Former: former}})
}

// Fail takes in that a peer failed this worker's attempt, and tells the others.
func (m *Rounds) Fail(now time.Time, number uint64, who mesh.ID, why string) {
	a := m.attempt
	if a == nil || a.number != number {
		return
	}
	if who == m.Self { // what it would contribute is of no use to anybody, in any attempt
		m.broadcast(number, failed{who, why})
		m.broadcast(0, withdraw{})
		m.finish(Finish{Err: fmt.Errorf("round %d: this worker's own contribution: %s", m.own.round, why)})
		return
	}
	if !m.gone(who) {
		m.strike(who, why)
	}
	if a.fetch {
		m.out = append(m.out, Action{Stop: true})
		m.attempt = nil
		if !m.gone(who) {
			m.send(who, number, withdraw{}) // it need not send what it has not begun to
		}
		m.strike(who, why)
		m.fetch(now)
		return
	}
	m.broadcast(number, failed{who, why})
	m.abandon(now)
}

// Blame takes in that a peer sent what it must not: this round goes on without it.
func (m *Rounds) Blame(now time.Time, who mesh.ID, why string) {
	if !m.active {
		return
	}
	if a := m.attempt; a != nil && (a.has(who) || a.source == who) {
		m.Fail(now, a.number, who, why)
		return
	}
	m.strike(who, why)
	m.tryClose(now)
}

// abandon leaves the attempt and waits for another group.
func (m *Rounds) abandon(now time.Time) {
	m.out = append(m.out, Action{Stop: true})
	m.attempt = nil
	m.halfAt, m.closedAt, m.abandonedAt = time.Time{}, time.Time{}, now
	m.announce(now)
	m.tryClose(now)
}

// decided says that a peer that is not gone has committed this worker's round.
func (m *Rounds) decided() bool {
	for id, c := range m.commits {
		if m.hasBytes(id, c) {
			return true
		}
	}
	return false
}

// hasBytes says that a peer has the bytes of this worker's round.
func (m *Rounds) hasBytes(id mesh.ID, c committed) bool {
	return c.round == m.own.round && c.digest == m.own.digest && c.length == m.own.length && !m.gone(id)
}

// sourceOf is the member of a committed result that this worker asks for it: the k-th of the live
// whom the result lacks asks its k-th member, so that they do not all share one's line.
func (m *Rounds) sourceOf(c committed) mesh.ID {
	if len(c.workers) == 0 {
		return ""
	}
	rank := 0
	for id, p := range m.members {
		if id != m.Self && waitedFor(p) && p.Worker < m.Worker && !slices.Contains(c.workers, p.Worker) {
			rank++
		}
	}
	for _, id := range sortedKeys(m.members) {
		if m.members[id].Worker == c.workers[rank%len(c.workers)] && !m.gone(id) {
			return id
		}
	}
	return ""
}

// fetch downloads a committed result of this round from a peer that has it: from those first that
// have not failed to send it, whose turn it is before the others, the rest after a pause.
func (m *Rounds) fetch(now time.Time) {
	best, bad := mesh.ID(""), true
	for _, id := range sortedKeys(m.commits) {
		_, failed := m.observed[id]
		if m.hasBytes(id, m.commits[id]) && (best == "" || bad && !failed) {
			best, bad = id, failed
		}
	}
	if best == "" {
		m.tryClose(now)
		return
	}
	if bad && now.Sub(m.fetchedAt) < m.Grace {
		return // until the next tick
	}
	if id := m.sourceOf(m.commits[best]); id != best && !bad {
		_, failed := m.observed[id]
		if c, said := m.commits[id]; said && !failed && m.hasBytes(id, c) {
			best = id
		}
	}
	c := m.commits[best]
	m.attempt = &attempt{number: c.attempt, begun: now, fetch: true, commit: c, source: best}
	m.waitEnd, m.fetchedAt = now, now
	m.begin()
	m.send(best, c.attempt, want{})
}
