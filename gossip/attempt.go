package gossip

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"loco/mesh"
)

// tryClose closes the group, or gives its coordinator its turn, once everybody live
// is ready or Grace has passed since half of the live were.
func (m *rounds) tryClose(now time.Time) {
	if m.aborting {
		m.abort()
		return
	}
	for m.active && m.attempt == nil {
		in, missing := m.census()
		if len(missing) > 0 {
			if m.halfAt.IsZero() && len(in) >= len(missing) {
				m.halfAt = now
			}
			if m.halfAt.IsZero() || now.Sub(m.halfAt) < m.grace {
				m.closedAt = time.Time{}
				return
			}
		}
		if slices.ContainsFunc(in, m.stale) && now.Sub(m.abandonedAt) < m.grace {
			return // an attempt has just ended: its members say first what they hold
		}
		if m.closedAt.IsZero() {
			m.closedAt = now
		}
		coordinator := in[0]
		if coordinator.id == m.self && m.stepDown && len(in) > 1 {
			coordinator = in[1]
		}
		if coordinator.id == m.self {
			m.close(now, in)
			return
		}
		if now.Sub(m.closedAt) < 2*m.grace {
			return
		}
		m.observed[coordinator.id] = "did not close its group"
		m.closedAt = time.Time{}
	}
}

// stale says that a peer was in this worker's last attempt and has not been heard of
// since.
func (m *rounds) stale(p announced) bool {
	return p.id != m.self && p.last < m.own.last && slices.Contains(m.lastMembers, p.id)
}

// close forms the group of those that agree with the majority's state and begins it.
// Ties go to this worker's side.
func (m *rounds) close(now time.Time, in []announced) {
	votes := map[string]int{}
	for _, p := range in {
		votes[p.key()]++
	}
	best := m.own.key()
	for _, p := range in {
		if votes[p.key()] > votes[best] {
			best = p.key()
		}
	}
	if best != m.own.key() {
		m.finishBehind(fmt.Sprintf("%d of %d workers start round %d from another state", votes[best], len(in), m.own.round))
		return
	}
	g := group{drop: m.dropped, source: m.own.worker}
	try, _ := attemptParts(m.own.last)
	for _, p := range in {
		if p.key() != best {
			why := fmt.Sprintf("%d of %d workers start round %d from another state", votes[best], len(in), m.own.round)
			m.send(p.id, 0, behind{m.own.round, why})
			continue
		}
		have := p.have
		if p.id == m.self {
			have = m.have
		}
		if have.attempt > g.adopt.attempt && have.attempt != m.dropped {
			g.adopt, g.source = have, p.worker
		}
		t, _ := attemptParts(p.last)
		try = max(try, t)
		g.members = append(g.members, groupMember{worker: p.worker, id: p.id, weight: p.weight})
		if len(g.members) == membersMax {
			break
		}
	}
	for i, p := range g.members {
		have := m.readys[p.id].have
		if p.id == m.self {
			have = m.have
		}
		g.members[i].has = g.adopt.attempt != 0 && have.attempt == g.adopt.attempt && have.hash == g.adopt.hash
	}
	number := attemptNumber(try+1, m.own.worker)
	for _, p := range g.members {
		if p.id != m.self {
			m.send(p.id, number, g)
		}
	}
	m.enter(now, number, m.self, g)
}

// noteLate remembers who is live, had not said that it is ready, and was not waited
// for any longer.
func (m *rounds) noteLate(a *attempt) {
	m.late = map[mesh.ID]bool{}
	_, missing := m.census()
	for _, id := range missing {
		m.late[id] = !a.has(id)
	}
	maps.DeleteFunc(m.late, func(_ mesh.ID, late bool) bool { return !late })
}

// enter begins work on a group that this worker is in.
func (m *rounds) enter(now time.Time, number uint32, coordinator mesh.ID, g group) {
	if m.tries++; m.tries > attemptsMax {
		m.broadcast(0, withdraw{})
		m.finish(finished{err: fmt.Errorf("gossip: all-reduce: round %d: %d attempts failed: %v", m.own.round, attemptsMax, m.rejected())})
		return
	}
	if g.drop != 0 && g.drop == m.have.attempt {
		m.have = held{}
	}
	a := &attempt{number: number, coordinator: coordinator, group: g, begun: now, dones: map[mesh.ID][32]byte{}}
	m.attempt, m.own.last, m.waitEnd = a, number, now
	m.lastMembers = nil
	for _, p := range g.members {
		m.lastMembers = append(m.lastMembers, p.id)
		if p.worker == g.source {
			a.source = p.id
		}
	}
	m.noteLate(a)
	m.resendAt = now.Add(m.grace / 2)
	if g.adopt.attempt == 0 {
		m.out = append(m.out, action{begin: a})
		return
	}
	if m.have.attempt != g.adopt.attempt || m.have.hash != g.adopt.hash {
		m.out = append(m.out, action{begin: a})
		return
	}
	if g.source == m.own.worker {
		for _, p := range g.members {
			if !p.has {
				m.out = append(m.out, action{serve: &serving{p.id, m.own.round, g.adopt.attempt, number}})
			}
		}
	}
	m.report(now, g.adopt.hash)
}

// complete takes in that the data plane holds the whole result of attempt number.
func (m *rounds) complete(now time.Time, number uint32, hash [32]byte) {
	a := m.attempt
	if a == nil || a.number != number || a.complete {
		return
	}
	switch {
	case !a.agrees(hash):
		m.fail(now, number, a.source, "sent another result than it announced")
	case a.fetch:
		m.commitLocally(a.commit)
	case a.group.adopt.attempt != 0:
		m.have = a.group.adopt
		m.report(now, hash)
	default:
		m.have = held{attempt: number, hash: hash}
		for _, g := range a.group.members {
			m.have.workers = append(m.have.workers, g.worker)
		}
		m.report(now, hash)
	}
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
func (m *rounds) report(now time.Time, hash [32]byte) {
	a := m.attempt
	a.complete = true
	if a.coordinator != m.self {
		m.send(a.coordinator, a.number, done{hash})
		return
	}
	a.dones[m.self] = hash
	m.checkDone(now)
}

// checkDone commits when all members hold the same result. Only here is a round
// decided; whoever hears of it follows.
func (m *rounds) checkDone(now time.Time) {
	a := m.attempt
	if len(a.dones) < len(a.group.members) {
		return
	}
	votes, best := map[[32]byte]int{}, a.dones[m.self]
	for _, p := range a.group.members {
		votes[a.dones[p.id]]++
	}
	for _, p := range a.group.members {
		if votes[a.dones[p.id]] > votes[best] {
			best = a.dones[p.id]
		}
	}
	if len(votes) > 1 {
		for _, p := range a.group.members {
			if a.dones[p.id] != best && p.id != m.self {
				m.reported[p.id] = "holds another result"
			}
		}
		// Nobody has committed it, so it may be dropped for good.
		m.dropped, m.have = m.have.attempt, held{}
		m.broadcast(a.number, failed{m.self, "results differ"})
		m.abandon(now)
		return
	}
	m.commitLocally(committed{m.own.round, m.have.attempt,
		commit{best, m.own.digest, m.own.length, m.have.workers}})
	m.broadcast(m.kept.attempt, m.kept.commit)
}

// commitLocally ends the round with a result that this worker holds.
func (m *rounds) commitLocally(c committed) {
	m.kept = c
	m.finish(finished{committed: &c})
}

// fail takes in that a peer failed this worker's attempt, and tells the others.
func (m *rounds) fail(now time.Time, number uint32, who mesh.ID, why string) {
	a := m.attempt
	if a == nil || a.number != number {
		return
	}
	if !m.gone(who) && who != m.self {
		m.observed[who] = why
	}
	if a.fetch {
		delete(m.commits, who)
		m.out = append(m.out, action{stop: true})
		m.attempt = nil
		m.fetch(now)
		return
	}
	m.broadcast(number, failed{who, why})
	m.abandon(now)
}

// blame takes in that a peer sent what it must not: this round goes on without it.
func (m *rounds) blame(now time.Time, who mesh.ID, why string) {
	if a := m.attempt; a != nil && (a.has(who) || a.source == who) {
		m.fail(now, a.number, who, why)
		return
	}
	m.observed[who] = why
	m.tryClose(now)
}

// abandon leaves the attempt and waits for another group.
func (m *rounds) abandon(now time.Time) {
	m.out = append(m.out, action{stop: true})
	m.attempt = nil
	m.halfAt, m.closedAt, m.abandonedAt = time.Time{}, time.Time{}, now
	m.announce(now)
	m.tryClose(now)
}

// fetch downloads a committed result of this round from whoever has it; without one
// it asks everybody again.
func (m *rounds) fetch(now time.Time) {
	for _, id := range sortedKeys(m.commits) {
		c := m.commits[id]
		if c.round != m.own.round || m.gone(id) {
			continue
		}
		if _, bad := m.observed[id]; bad {
			continue
		}
		m.attempt = &attempt{number: c.attempt, begun: now, fetch: true, commit: c, source: id}
		m.waitEnd = now
		m.out = append(m.out, action{begin: m.attempt})
		m.send(id, c.attempt, want{})
		return
	}
	m.tryClose(now) // and at the next reminder everybody is asked again
}
