package protocol

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"loco/mesh"
)

// tryClose closes the group, or gives its coordinator its turn, once everybody live
// is ready or Grace has passed since half of the live were.
func (m *Rounds) tryClose(now time.Time) {
	if m.aborting {
		m.Abort()
		return
	}
	if m.active && m.attempt == nil && m.decided() {
		m.fetch(now) // the round is over: a group of the rest would fork the run
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
		if now.Sub(m.closedAt) < 2*m.Grace || now.Sub(m.due) < 2*m.Grace && m.slack > 0 {
			return // in its own slack a coordinator may wait for somebody
		}
		m.strike(coordinator.id, "did not close its group")
		m.closedAt = time.Time{}
	}
}

// forgive takes the peers back that were left out of the round, because without them there are not
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

// close forms the group of the workers that start from this worker's state and begins it.
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

// noteLate remembers the peers that are live, had not said that they are ready, and were not waited
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
