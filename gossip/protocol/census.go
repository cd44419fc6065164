package protocol

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"loco/mesh"
)

// patienceMin divides Grace to what a peer is waited for at least, who is live and has
// said nothing round after round.
const patienceMin = 8

// strikesMax is how often a peer that is heard may fail a round before a group of few goes
// on without it.
const strikesMax = 3

// waitedFor says that a member is expected to be in every round.
func waitedFor(p mesh.Member) bool {
	return (p.State == mesh.Alive || p.State == mesh.Suspect) && p.Ready && !p.Done
}

// census returns who is ready for this round with this worker's state, itself included,
// ascending by worker; who is with another state of the same weight; and who is waited
// for.
func (m *Rounds) census() (in, others []announced, missing []mesh.ID) {
	in = append(in, m.own)
	counted := map[mesh.ID]bool{m.Self: true}
	for _, id := range sortedKeys(m.readys) {
		p := m.readys[id]
		if p.round != m.own.round || m.gone(id) || m.excluded(id) || p.worker == m.Worker {
			continue
		}
		counted[id] = true
		switch {
		case p.digest == m.own.digest && p.length == m.own.length:
			in = append(in, p)
		case p.tokens == m.own.tokens:
			others = append(others, p)
		}
	}
	byWorker := func(a, b announced) int { return cmp.Compare(a.worker, b.worker) }
	slices.SortStableFunc(in, byWorker)
	in = slices.CompactFunc(in, func(a, b announced) bool { return a.worker == b.worker })
	slices.SortStableFunc(others, byWorker)
	for _, id := range sortedKeys(m.members) {
		if waitedFor(m.members[id]) && !counted[id] && !m.excluded(id) {
			missing = append(missing, id)
			counted[id] = true
		}
	}
	for _, id := range sortedKeys(m.expected) {
		if m.expected[id] >= m.own.round && !counted[id] && !m.excluded(id) {
			missing = append(missing, id)
		}
	}
	return in, others, missing
}

// lowest is the one of the lowest worker number among both.
func lowest(in, others []announced) announced {
	if len(others) > 0 && others[0].worker < in[0].worker {
		return others[0]
	}
	return in[0]
}

// outvoted returns the lowest worker of the side that holds another state than this
// worker's and has more workers, or as many and the lowest of them all.
func (m *Rounds) outvoted(in, others []announced) (mesh.ID, int) {
	votes := map[[32]byte]int{}
	for _, p := range others {
		votes[p.digest]++
	}
	for _, p := range others {
		best := true
		for _, q := range others {
			best = best && votes[p.digest] >= votes[q.digest]
		}
		if best && (votes[p.digest] > len(in) || votes[p.digest] == len(in) && p.worker < in[0].worker) {
			return p.id, votes[p.digest]
		}
	}
	return "", 0
}

// patience is how long a peer is waited for once half of the live are ready: half as
// long after each round in a row in which it was live and said nothing at all.
func (m *Rounds) patience(id mesh.ID) time.Duration {
	return min(m.due(id), max(m.Grace>>min(m.misses[id], 30), m.Grace/patienceMin))
}

// patient says that somebody is still waited for.
func (m *Rounds) patient(now time.Time, in, others []announced, missing []mesh.ID) bool {
	if len(missing) == 0 {
		return false
	}
	if m.halfAt.IsZero() && len(in)+len(others) >= len(missing) {
		m.halfAt = now
		m.halfReady(now)
	}
	m.most = most(in, missing, m.members)
	return m.halfAt.IsZero() || slices.ContainsFunc(missing, func(id mesh.ID) bool {
		return now.Sub(m.halfAt) < m.patience(id)
	})
}

// quorate says that the group may decide a round: it has more than half of the planned
// workers, who remember all that they have promised, or all of the planned.
func (m *Rounds) quorate(voters, all int) bool {
	return m.Quorum == 0 || 2*voters > m.Quorum || all >= m.Quorum
}

// few says that a group of n is no more than half of the live while somebody who is left out
// of the round is there to be asked again, or has not had the time to answer: both might
// decide the round, each without the other, though they reach each other.
func (m *Rounds) few(now time.Time, n int) bool {
	live, askable := 1, false
	for id, p := range m.members {
		if id == m.Self || !waitedFor(p) {
			continue
		}
		live++
		heard := now.Sub(m.heard[id]) < 2*m.Grace || now.Sub(m.abandonedAt) < m.Grace
		askable = askable || heard && m.excluded(id) && m.strikes[id] < strikesMax
	}
	return askable && 2*n <= live
}

// tryClose closes the group, or gives its coordinator its turn, once everybody live
// is ready or Grace has passed since half of the live were.
func (m *Rounds) tryClose(now time.Time) {
	if m.aborting {
		m.Abort()
		return
	}
	if m.active && m.attempt == nil && m.decided() {
		m.fetch(now) // the round is over: a group of those who are left would fork the run
		return
	}
	for m.active && m.attempt == nil && !now.Before(m.hold) {
		if id, why := m.outweighed(); id != "" {
			m.finishBehind(id, why)
			return
		}
		if m.awaitsElsewhere(now) {
			m.closedAt = time.Time{}
			return
		}
		in, others, missing := m.census()
		if m.patient(now, in, others, missing) {
			m.closedAt = time.Time{}
			return
		}
		if slices.ContainsFunc(in, m.stale) && now.Sub(m.abandonedAt) < m.Grace {
			return // an attempt has just ended: its members say first what they hold
		}
		if id, votes := m.outvoted(in, others); id != "" {
			m.finishBehind(id, fmt.Sprintf("%d of %d workers start round %d from another state", votes, len(in)+len(others), m.own.round))
			return
		}
		voters := 0
		for _, p := range in {
			if p.voter || p.id == m.Self && m.voter {
				voters++
			}
		}
		if !m.quorate(voters, len(in)) || m.few(now, len(in)) {
			m.closedAt = time.Time{}
			if !m.forgive(now) {
				return
			}
			continue
		}
		coordinator := in[0]
		if coordinator.id == m.Self && m.stepDown && len(in) > 1 {
			coordinator = in[1]
		}
		if m.closedAt.IsZero() || m.turn != coordinator.id {
			m.closedAt, m.turn = now, coordinator.id
		}
		if coordinator.id == m.Self {
			m.close(now, in, others)
			return
		}
		if now.Sub(m.closedAt) < 2*m.Grace {
			return
		}
		m.strike(coordinator.id, "did not close its group")
		m.closedAt = time.Time{}
	}
}

// forgive takes those back who were left out of the round, for without them there are not
// enough, and gives whatever parted them half of Grace to pass. It returns whether it did.
func (m *Rounds) forgive(now time.Time) bool {
	if now.Sub(m.abandonedAt) < m.Grace/2 || len(m.observed)+len(m.reported) == 0 {
		return false
	}
	clear(m.observed)
	clear(m.reported)
	m.stepDown, m.abandonedAt = false, now
	return true
}

// strike leaves a peer out of the round for what this worker saw of it.
func (m *Rounds) strike(who mesh.ID, why string) {
	if _, known := m.observed[who]; !known {
		m.strikes[who]++
	}
	m.observed[who] = why
}

// stale says that a peer was in this worker's last attempt and has not been heard of
// since.
func (m *Rounds) stale(p announced) bool {
	return p.id != m.Self && p.last < m.own.last && slices.Contains(m.lastMembers, p.id)
}

// close forms the group of those who start from this worker's state and begins it.
func (m *Rounds) close(now time.Time, in, others []announced) {
	for _, p := range others {
		why := fmt.Sprintf("%d of %d workers start round %d from another state", len(in), len(in)+len(others), m.own.round)
		m.send(p.id, 0, behind{m.own.round, m.own.digest, m.own.tokens, why})
	}
	g := group{digest: m.own.digest, source: m.Worker}
	try, _ := attemptParts(m.own.last)
	for i, p := range in {
		if p.id == m.Self {
			in[i].have, in[i].voter = m.have, m.voter
		}
	}
	in = in[:min(len(in), MembersMax)]
	m.void(in)
	g.drop = m.dropped
	for _, p := range in {
		if p.have.attempt > g.adopt.attempt && !slices.Contains(g.drop, p.have.attempt) {
			g.adopt, g.source = p.have, p.worker
		}
		t, _ := attemptParts(p.last)
		try = max(try, t)
	}
	for _, p := range in {
		has := g.adopt.attempt != 0 && p.have.attempt == g.adopt.attempt && p.have.hash == g.adopt.hash
		g.members = append(g.members, GroupMember{Worker: p.worker, ID: p.id, Weight: p.weight, has: has, voter: p.voter})
	}
	number := attemptNumber(try+1, m.Worker, m.Nonce)
	for _, p := range g.members {
		if p.ID != m.Self {
			m.send(p.ID, number, g)
		}
	}
	m.enter(now, number, m.Self, g)
}

// void drops the attempts whose results count for nothing: two that hold different bytes
// of one cannot both have reported what its coordinator commits, so nobody has committed
// it.
func (m *Rounds) void(in []announced) {
	hashes := map[uint64][32]byte{}
	for _, p := range in {
		m.drop(p.drop...)
	}
	for _, p := range in {
		h, seen := hashes[p.have.attempt]
		if p.have.attempt != 0 && seen && h != p.have.hash {
			m.drop(p.have.attempt)
		}
		hashes[p.have.attempt] = p.have.hash
	}
}

// noteLate remembers who is live, had not said that it is ready, and was not waited
// for any longer.
func (m *Rounds) noteLate(a *attempt) {
	m.late = map[mesh.ID]bool{}
	_, _, missing := m.census()
	for _, id := range missing {
		m.late[id] = !a.has(id)
		if m.tries == 1 {
			m.misses[id]++
		}
	}
	maps.DeleteFunc(m.late, func(_ mesh.ID, late bool) bool { return !late })
}
