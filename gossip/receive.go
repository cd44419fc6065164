package gossip

import (
	"fmt"
	"time"

	"loco/mesh"
)

// receive takes in a message of a peer.
func (m *rounds) receive(now time.Time, from mesh.ID, env envelope, msg message) {
	switch msg := msg.(type) {
	case ready:
		m.onReady(now, from, announced{id: from, worker: env.worker, round: env.round, ready: msg})
	case withdraw:
		m.onWithdraw(now, from, env)
	case group:
		m.onGroup(now, from, env, msg)
	case done:
		m.onDone(now, from, env, msg)
	case commit:
		m.onCommit(now, from, committed{env.round, env.attempt, msg})
	case failed:
		m.onFailed(now, from, env, msg)
	case behind:
		m.onBehind(from, msg)
	case want:
		if m.over(env.round) && env.round == m.kept.round && env.attempt == m.kept.attempt {
			m.out = append(m.out, action{serve: &serving{from, env.round, env.attempt, env.attempt}})
		}
	}
}

// over says that this worker has committed the round, or a later one.
func (m *rounds) over(round uint64) bool { return m.kept.attempt != 0 && round <= m.kept.round }

// answerOver tells a peer in a round that is over here what became of it.
func (m *rounds) answerOver(to mesh.ID, round uint64) {
	env := envelope{round: round, worker: m.own.worker}
	var msg message
	switch {
	case m.kept.attempt != 0 && round == m.kept.round:
		env.attempt, msg = m.kept.attempt, m.kept.commit
	case m.over(round):
		msg = behind{m.kept.round + 1, fmt.Sprintf("round %d is over, the group is in round %d", round, m.kept.round+1)}
	default:
		msg = behind{m.own.round, fmt.Sprintf("round %d is over, the group is in round %d", round, m.own.round)}
	}
	m.out = append(m.out, action{send: &outgoing{to, env, msg}})
}

func (m *rounds) onReady(now time.Time, from mesh.ID, r announced) {
	if try, _ := attemptParts(r.last); try > triesMax {
		m.blame(now, from, fmt.Sprintf("was in try %d of a round, at most %d are made", try, triesMax))
		return
	}
	delete(m.expected, from)
	if m.over(r.round) || m.active && r.round < m.own.round {
		delete(m.readys, from)
		m.answerOver(from, r.round)
		return
	}
	m.readys[from] = r
	if !m.active || r.round != m.own.round {
		return
	}
	if a := m.attempt; a != nil && !a.fetch {
		newer := r.have.attempt > a.group.adopt.attempt && r.have.attempt != m.dropped
		if a.has(from) && (r.last >= a.number || newer && a.coordinator == m.self) {
			m.broadcast(a.number, failed{m.self, "a member is in no attempt"})
			m.abandon(now)
		}
		return
	}
	m.tryClose(now)
}

func (m *rounds) onWithdraw(now time.Time, from mesh.ID, env envelope) {
	delete(m.readys, from)
	if !m.active || env.round != m.own.round {
		return
	}
	if a := m.attempt; a != nil && !a.fetch && a.has(from) {
		// It had not heard of the group. That is no fault: it may come back, or leave.
		m.broadcast(a.number, failed{m.self, "a member withdrew"})
		m.abandon(now)
		return
	}
	m.tryClose(now)
}

func (m *rounds) onGroup(now time.Time, from mesh.ID, env envelope, g group) {
	if m.over(env.round) {
		m.answerOver(from, env.round)
		return
	}
	if !m.active || env.round != m.own.round || m.attempt != nil && (m.attempt.fetch || env.attempt <= m.attempt.number) {
		return
	}
	if why, bad := m.observed[from]; bad {
		m.send(from, env.attempt, failed{from, why})
		return
	}
	try, coordinator := attemptParts(env.attempt)
	if try > triesMax {
		m.observed[from] = fmt.Sprintf("begins try %d of a round, at most %d are made", try, triesMax)
		return
	}
	if why := m.checkGroup(from, coordinator, g); why != "" {
		m.observed[from] = why
		m.send(from, env.attempt, failed{from, why})
		return
	}
	held := m.have.attempt != 0 && m.have.attempt != g.drop
	if env.attempt <= m.own.last || held && g.adopt.attempt < m.have.attempt {
		// The coordinator does not know yet where this worker stands.
		m.own.have = m.have
		m.send(from, 0, m.own.ready)
		return
	}
	if m.attempt != nil {
		m.out = append(m.out, action{stop: true})
		m.attempt = nil
	}
	m.enter(now, env.attempt, from, g)
}

// checkGroup returns what is wrong with a group, or nothing.
func (m *rounds) checkGroup(from mesh.ID, coordinator int, g group) string {
	var self, sender, source bool
	for _, p := range g.members {
		switch {
		case p.id == m.self && (p.worker != m.own.worker || p.weight != m.own.weight):
			return "sent a group with another weight or number for this worker"
		case p.id == m.self:
			self = true
		case p.id == from:
			sender = p.worker == coordinator
		}
		source = source || p.worker == g.source
	}
	switch {
	case !self:
		return "sent a group to a worker that is not in it"
	case !sender:
		return "sent a group it does not coordinate"
	case !source:
		return "sent a group without the source of its result"
	}
	return ""
}

func (m *rounds) onDone(now time.Time, from mesh.ID, env envelope, d done) {
	if m.over(env.round) {
		m.answerOver(from, env.round)
		return
	}
	a := m.attempt
	if !m.active || a == nil || a.fetch || a.number != env.attempt || env.round != m.own.round || a.coordinator != m.self {
		return
	}
	if a.has(from) {
		a.dones[from] = d.hash
		if a.complete {
			m.checkDone(now)
		}
	}
}

func (m *rounds) onCommit(now time.Time, from mesh.ID, c committed) {
	if m.over(c.round) {
		return
	}
	m.commits[from] = c
	if !m.active || c.round < m.own.round {
		return
	}
	if c.round > m.own.round {
		m.onBehind(from, behind{c.round, fmt.Sprintf("the group has committed round %d", c.round)})
		return
	}
	if c.digest != m.own.digest || c.length != m.own.length {
		m.finishBehind(fmt.Sprintf("round %d was committed from another state", c.round))
		return
	}
	if m.have.attempt == c.attempt && m.have.hash == c.hash {
		m.commitLocally(c)
		return
	}
	if a := m.attempt; a != nil {
		if a.fetch {
			return // from another source; this one's turn comes if that fails
		}
		m.out = append(m.out, action{stop: true})
		m.attempt = nil
	}
	m.fetch(now)
}

func (m *rounds) onFailed(now time.Time, from mesh.ID, env envelope, f failed) {
	if !m.active || env.round != m.own.round || env.attempt < m.own.last {
		return
	}
	// Two peers that blame each other must not both go: the first blame counts.
	_, known := m.members[f.who]
	switch {
	case f.who == m.self:
		m.stepDown = true
	case known && f.who != from && !m.excluded(from) && !m.gone(f.who):
		m.reported[f.who] = f.why
	}
	if a := m.attempt; a == nil {
		m.tryClose(now)
	} else if !a.fetch && a.number == env.attempt && a.has(from) {
		m.abandon(now)
	}
}

// onBehind believes a coordinator, or half of the live.
func (m *rounds) onBehind(from mesh.ID, b behind) {
	if !m.active || m.attempt != nil || b.next < m.own.round {
		return
	}
	m.votes[from] = b
	live := 0
	for id, p := range m.members {
		if id != m.self && (p.State == mesh.Alive || p.State == mesh.Suspect) && p.Ready && !p.Done {
			live++
		}
	}
	in, _ := m.census()
	if 2*len(m.votes) >= live || in[0].id == from {
		m.finishBehind(b.why)
	}
}
