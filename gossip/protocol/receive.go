package protocol

import (
	"fmt"
	"slices"
	"time"

	"loco/mesh"
)

// Receive takes in a message of a peer.
func (m *Rounds) Receive(now time.Time, from mesh.ID, env Envelope, msg Message) {
	m.notice(now)
	if _, known := m.heard[from]; known || len(m.heard) < peersMax {
		m.heard[from] = now
		m.speaks(from)
	}
	switch msg := msg.(type) {
	case ready:
		m.onReady(now, from, announced{id: from, at: now, worker: env.Worker, round: env.Round, ready: msg})
	case withdraw:
		m.onWithdraw(now, from, env)
	case group:
		m.onGroup(now, from, env, msg)
	case done:
		m.onDone(now, from, env, msg)
	case commit:
		m.onCommit(now, from, committed{env.Round, env.Attempt, msg})
	case failed:
		m.onFailed(now, from, env, msg)
	case behind:
		m.onBehind(from, msg)
	case want:
		if env.Round == m.kept.round && env.Attempt == m.kept.attempt && m.over(env.Round) {
			m.serve(Serve{To: from, Round: env.Round, Attempt: env.Attempt, Number: env.Attempt})
		} else if m.over(env.Round) || m.place.known && env.Round < m.place.round {
			m.answerOver(from, env.Round)
		}
	}
}

func (m *Rounds) onReady(now time.Time, from mesh.ID, r announced) {
	if try, _ := attemptParts(r.last); try > triesMax {
		m.Blame(now, from, fmt.Sprintf("was in try %d of a round, at most %d are made", try, triesMax))
		return
	}
	if _, known := m.readys[from]; !known && len(m.readys) >= peersMax {
		return
	}
	if old, ok := m.readys[from]; ok && old.round == r.round {
		r.at = old.at
	}
	delete(m.expected, from)
	delete(m.misses, from)
	if c, ok := m.commits[from]; ok && r.round <= c.round {
		delete(m.commits, from) // its former process committed; this one has not got the bytes
	}
	m.readys[from] = r
	if !m.answer(r) {
		if a := m.attempt; a != nil && !a.fetch && a.has(from) && r.round > m.own.round {
			m.broadcast(a.number, failed{"", "a member is in a later round"})
			m.abandon(now)
		} else if m.active && a == nil {
			m.tryClose(now)
		}
		return
	}
	m.elsewhere.over(r)
	if a := m.attempt; a != nil && !a.fetch {
		if !a.has(from) {
			m.sayElsewhere(from)
			return
		}
		newer := r.have.attempt > a.group.adopt.attempt && !slices.Contains(m.dropped, r.have.attempt)
		if r.last >= a.number || newer && a.coordinator == m.Self {
			m.broadcast(a.number, failed{"", "a member is in no attempt"})
			m.abandon(now)
		}
		return
	}
	m.tryClose(now)
}

func (m *Rounds) onWithdraw(now time.Time, from mesh.ID, env Envelope) {
	delete(m.readys, from)
	m.unserve(from, env.Round)
	if !m.active || env.Round != m.own.round {
		return
	}
	if a := m.attempt; a != nil && !a.fetch && a.has(from) {
		// It had not heard of the group. That is no fault: it may come back, or leave.
		m.broadcast(a.number, failed{"", "a member withdrew"})
		if now.Sub(m.due) >= m.Deadline/2 {
			// Its deadline came amid the attempt, and this worker's may come amid the next, and so on:
			// where both begin anew they have all of it for one.
			m.giveUp(fmt.Sprintf("%s gave the attempt up, and half of the deadline is over", m.name(from)))
			return
		}
		m.abandon(now)
		return
	}
	m.tryClose(now)
}

func (m *Rounds) onGroup(now time.Time, from mesh.ID, env Envelope, g group) {
	if m.over(env.Round) {
		m.answerOver(from, env.Round)
		return
	}
	if !m.active || env.Round != m.own.round {
		m.noteFormer(from, env, g)
		return
	}
	if m.attempt != nil && (m.attempt.fetch || env.Attempt <= m.attempt.number) {
		return
	}
	if !slices.ContainsFunc(g.members, func(p GroupMember) bool { return p.ID == m.Self }) {
		m.onElsewhere(now, from, env.Attempt, g)
		return
	}
	if why, bad := m.observed[from]; bad {
		m.send(from, env.Attempt, failed{from, why})
		return
	}
	try, coordinator := attemptParts(env.Attempt)
	if try > triesMax {
		m.strike(from, fmt.Sprintf("begins try %d of a round, at most %d are made", try, triesMax))
		return
	}
	if g.digest != m.own.digest {
		m.send(from, 0, m.own.ready) // so that it learns where this worker stands
		return
	}
	if why := m.checkGroup(from, coordinator, g); why != "" {
		m.strike(from, why)
		m.send(from, env.Attempt, failed{from, why})
		return
	}
	held := m.have.attempt != 0 && !slices.Contains(g.drop, m.have.attempt)
	if env.Attempt <= m.own.last || held && g.adopt.attempt < m.have.attempt {
		// The coordinator does not know yet where this worker stands.
		m.own.have, m.own.voter, m.own.drop = m.have, m.voter, m.dropped
		m.send(from, 0, m.own.ready)
		return
	}
	if m.attempt != nil {
		m.out = append(m.out, Action{Stop: true})
		m.attempt = nil
	}
	m.enter(now, env.Attempt, from, g)
}

// noteFormer remembers a group that counts on this worker before it is ready for the round: its
// former process was. What that attempt forms may have the former one's vector.
func (m *Rounds) noteFormer(from mesh.ID, env Envelope, g group) {
	if _, known := m.former[from]; !known && len(m.former) >= peersMax ||
		!slices.ContainsFunc(g.members, func(p GroupMember) bool { return p.ID == m.Self }) {
		return
	}
	m.former[from] = invitation{env.Round, env.Attempt}
}

// checkGroup returns what is wrong with a group, or nothing.
func (m *Rounds) checkGroup(from mesh.ID, coordinator int, g group) string {
	var sender, source bool
	voters := 0
	for _, p := range g.members {
		switch {
		case p.ID == m.Self && (p.Worker != m.own.worker || p.Weight != m.own.weight):
			return "sent a group with another weight or number for this worker"
		case p.ID == from:
			sender = p.Worker == coordinator
		}
		source = source || p.Worker == g.source
		if p.voter {
			voters++
		}
	}
	switch {
	case !sender:
		return "sent a group it does not coordinate"
	case !source:
		return "sent a group without the source of its result"
	case !m.quorate(voters, len(g.members)):
		return fmt.Sprintf("sent a group of %d members, %d of them voters, for a quorum of %d workers", len(g.members), voters, m.Quorum)
	}
	return ""
}

func (m *Rounds) onDone(now time.Time, from mesh.ID, env Envelope, d done) {
	if m.over(env.Round) {
		m.answerOver(from, env.Round)
		return
	}
	a := m.attempt
	if !m.active || a == nil || a.fetch || a.number != env.Attempt || env.Round != m.own.round || a.coordinator != m.Self || !a.has(from) {
		return
	}
	if _, again := a.dones[from]; again {
		m.send(from, a.number, done{a.dones[m.Self]}) // it asks: the attempt is still under way
	}
	a.dones[from] = d.hash
	if a.complete {
		m.checkDone(now)
	}
}

func (m *Rounds) onCommit(now time.Time, from mesh.ID, c committed) {
	if m.over(c.round) {
		return
	}
	if _, known := m.commits[from]; !known && len(m.commits) >= peersMax {
		return
	}
	m.commits[from] = c
	if !m.active || c.round < m.own.round || c.base < m.own.tokens {
		return
	}
	if c.round > m.own.round || c.digest != m.own.digest || c.length != m.own.length {
		if a := m.attempt; a == nil || a.fetch || c.base > m.own.tokens {
			m.finishBehind(from, fmt.Sprintf("the group has committed round %d from another state", c.round))
		}
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
		m.out = append(m.out, Action{Stop: true})
		m.attempt = nil
	}
	if id := m.sourceOf(c); id != "" && id != from {
		if _, said := m.commits[id]; !said {
			return // it will in a moment; if it does not, the next tick asks one that has
		}
	}
	m.fetch(now)
}

func (m *Rounds) onFailed(now time.Time, from mesh.ID, env Envelope, f failed) {
	if !m.active || env.Round != m.own.round || env.Attempt < m.own.last && f.who != from {
		return
	}
	// Two peers that blame each other must not both go: the first blame counts.
	_, known := m.members[f.who]
	switch {
	case f.who == m.Self:
		m.stepDown = true
	case known && !m.excluded(from) && !m.gone(f.who):
		m.reported[f.who] = f.why
	}
	if a := m.attempt; a == nil {
		m.tryClose(now)
	} else if !a.fetch && a.number == env.Attempt && a.has(from) {
		m.abandon(now)
	}
}
