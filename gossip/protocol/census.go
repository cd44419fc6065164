package protocol

import (
	"cmp"
	"slices"
	"time"

	"loco/mesh"
)

// patienceMin divides Grace to what a peer is waited for at least that is live and has
// said nothing round after round.
const patienceMin = 8

// strikesMax is how often a peer that is heard may fail a round before a group of few goes
// on without it.
const strikesMax = 3

// waitedFor says that a member is expected to be in every round.
func waitedFor(p mesh.Member) bool {
	return (p.State == mesh.Alive || p.State == mesh.Suspect) && p.Ready && !p.Done
}

// census returns the workers that are ready for this round with this worker's state, itself included,
// ascending by worker; those with another state of the same weight; and those that are waited
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
	return min(m.lateness(id), max(m.Grace>>min(m.misses[id], 30), m.Grace/patienceMin))
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
	free := m.freeUntil(in)
	return m.halfAt.IsZero() || slices.ContainsFunc(missing, func(id mesh.ID) bool { return m.waits(now, free, id) })
}

// quorate says that the group may decide a round: it has more than half of the planned
// workers, and these remember all that they have promised, or all of the planned.
func (m *Rounds) quorate(voters, all int) bool {
	return m.Quorum == 0 || 2*voters > m.Quorum || all >= m.Quorum
}

// few says that a group of n is no more than half of the live while a peer that is left out
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
