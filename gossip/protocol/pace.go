package protocol

import (
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
)

const (
	paceWindow = 8  // rounds that a peer's lateness is learnt from
	paceMin    = 3  // of them before it is believed
	paceSpread = 4  // deviations that a peer is waited for beyond its median
	probeEvery = 16 // rounds between two in which a late peer is waited for all the same
)

// missed stands for the lateness of a peer that had not come when the round was decided.
const missed = time.Duration(1 << 50)

// pace is how late a peer was in its last rounds: the time from when half of the live
// were ready until its Ready came, by this machine's clock alone.
type pace struct {
	late [paceWindow]time.Duration
	n    int
	slow bool
}

func (p *pace) note(d time.Duration) {
	p.late[p.n%paceWindow] = max(d, 0)
	p.n++
}

// expected returns the median of what was observed and the mean absolute deviation from
// it, of which a single observation counts for no more than most; ok is false before enough
// was observed.
func (p *pace) expected(most time.Duration) (median, deviation time.Duration, ok bool) {
	n := min(p.n, paceWindow)
	if n < paceMin {
		return 0, 0, false
	}
	all := slices.Clone(p.late[:n])
	slices.Sort(all)
	median = all[n/2]
	for _, d := range all {
		deviation += min(max(d-median, median-d), most)
	}
	return median, deviation / time.Duration(n), true
}

// Late is a worker that is late in most rounds.
type Late = exchange.Late

// Late names the workers that come so late in most rounds that waiting for them does not
// pay, ascending. Each worker judges by what it has seen itself.
func (m *Rounds) Late() (late []Late) {
	for _, id := range sortedKeys(m.paces) {
		p, ok := m.members[id]
		if !ok || !m.paces[id].slow {
			continue
		}
		by, _, _ := m.paces[id].expected(m.Grace)
		if by >= missed {
			by = 0
		}
		late = append(late, Late{Worker: p.Worker, By: by})
	}
	slices.SortFunc(late, func(a, b Late) int { return a.Worker - b.Worker })
	return late
}

// slow says that a peer is known to be late.
func (m *Rounds) slow(id mesh.ID) bool {
	p := m.paces[id]
	return p != nil && p.slow
}

// most says that the workers that are in are more than those that are missing, or as many and the
// lowest worker is among them. Only they may go on without waiting for Grace: if two
// sides could, each without the other, both would decide the round.
func most(in []announced, missing []mesh.ID, members map[mesh.ID]mesh.Member) bool {
	lower := slices.ContainsFunc(missing, func(id mesh.ID) bool {
		p, ok := members[id]
		return !ok || p.Worker < in[0].worker
	})
	return len(in) > len(missing) || len(in) == len(missing) && !lower
}

// lateness is how long a peer is waited for once half of the live are ready: until it is
// expected, median + 4 deviations, but no less than GraceMin and no more than Grace. For
// one that is known to be late nobody waits but when its turn comes.
func (m *Rounds) lateness(id mesh.ID) time.Duration {
	p := m.paces[id]
	switch {
	case p == nil || m.GraceMin >= m.Grace || !m.most:
		return m.Grace
	case p.slow && !m.turns(m.members[id].Worker):
		return 0
	case p.slow && m.cycle() > 1:
		return m.Grace // it knows that it is its turn, and ends its inner steps
	case p.slow:
		return m.GraceMin
	}
	median, deviation, ok := p.expected(m.Grace)
	if !ok {
		return m.Grace
	}
	return min(m.Grace, max(m.GraceMin, median+paceSpread*deviation))
}

func (m *Rounds) cycle() uint64 { return uint64(max(1, m.SlowCycle)) }

// turns says that the round is one in which a late worker is waited for. Turns are spread
// over the rounds, so that two late workers do not hold up the same one.
func (m *Rounds) turns(worker int) bool {
	cycle := m.cycle()
	if cycle == 1 {
		cycle = probeEvery
	}
	return (m.own.round+uint64(worker))%cycle == cycle-1
}

// Awaited says that the others wait for this worker to end its inner steps: the round is
// its turn in a longer cycle, and half of the live are ready. It is for use between two
// rounds by a worker that came too late for the last.
func (m *Rounds) Awaited(round uint64) bool {
	if m.active || m.cycle() == 1 || (round+uint64(m.Worker))%m.cycle() != m.cycle()-1 {
		return false
	}
	ready, missing := 0, 1
	for id, p := range m.members {
		switch r, ok := m.readys[id]; {
		case id == m.Self || !waitedFor(p):
		case ok && r.round >= round:
			ready++
		default:
			missing++
		}
	}
	return ready > 0 && ready >= missing
}

// halfReady notes, once in a round, when half of the live were ready, and what waiting
// for one of them is worth: with n workers that train alike, 1/(n−1) of the time that
// the others take for a round is what its share of the tokens costs them.
func (m *Rounds) halfReady(now time.Time) {
	if !m.half.IsZero() {
		return
	}
	m.half, m.worth = now, m.Grace
	others := 0
	for id, p := range m.members {
		if id != m.Self && waitedFor(p) {
			others++
		}
	}
	if !m.lastClose.IsZero() && others > 0 {
		m.worth = min(m.Grace, now.Sub(m.lastClose)/time.Duration(others))
	}
}

// observes says that what happens in this round says something of a peer's pace. In its
// turn a worker does not come by itself, and after a failure nobody does.
func (m *Rounds) observes(worker int) bool {
	return m.tries == 1 && (m.cycle() == 1 || !m.turns(worker))
}

// noteMembers observes the workers that are in the first group of the round.
func (m *Rounds) noteMembers(a *attempt) {
	for _, g := range a.group.members {
		if g.ID == m.Self || !m.observes(g.Worker) {
			continue
		}
		late := m.readys[g.ID].at.Sub(m.half)
		if m.slow(g.ID) && m.cycle() == 1 && m.turns(g.Worker) {
			delete(m.paces, g.ID) // it was waited for once more, and came: it begins anew
		}
		m.pace(g.ID).note(late)
	}
}

// noteAbsent observes the workers that were not in the group, when the round is over: those that came
// while it exchanged, and those that did not. Then it judges everybody.
func (m *Rounds) noteAbsent() {
	for id := range m.late {
		p, ok := m.members[id]
		if !ok || !waitedFor(p) || !m.observes(p.Worker) {
			continue
		}
		if r, ok := m.readys[id]; ok && r.round == m.own.round {
			m.pace(id).note(r.at.Sub(m.half))
		} else {
			m.pace(id).note(missed)
		}
	}
	for _, p := range m.paces {
		limit := max(m.GraceMin, m.worth)
		if p.slow {
			limit /= 2 // so that nobody on the edge is named again and again
		}
		median, _, ok := p.expected(m.Grace)
		p.slow = ok && median > limit && m.GraceMin < m.Grace
	}
}

func (m *Rounds) pace(id mesh.ID) *pace {
	if m.paces[id] == nil {
		m.paces[id] = &pace{}
	}
	return m.paces[id]
}

// turnOver ends the observation of the last round when this worker begins the next.
func (m *Rounds) turnOver(round uint64) {
	if m.kept.attempt != 0 && round == m.kept.round+1 && m.own.round == m.kept.round {
		if !slices.Contains(m.kept.workers, m.Worker) {
			clear(m.paces) // a late worker sees nobody else come
		} else if !m.half.IsZero() {
			m.noteAbsent()
		}
		m.lastClose = m.waitEnd
	} else if m.own.round != round {
		m.lastClose = time.Time{}
	}
	if m.own.round != round {
		m.half = time.Time{}
	}
}
