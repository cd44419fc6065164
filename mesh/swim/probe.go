package swim

import (
	"slices"
	"time"

	"loco/mesh"
)

const (
	helpers   = 3   // asked when a member does not answer: the paper's k
	relaysMax = 256 // pings for others that are under way
)

// probe is a ping of this member's own that is under way.
type probe struct {
	of     mesh.ID
	number uint64
	sent   time.Duration
	asked  bool // others, too
}

// relay is a ping for another member.
type relay struct {
	to     mesh.ID // the member that asked
	number uint64  // of its ping
	sent   time.Duration
}

// Receive takes in a message of a peer that has passed a hello.
func (m *Members) Receive(from mesh.ID, g Message, now time.Duration) {
	r := m.other(from)
	if r == nil || r.state == mesh.Left || m.self.state == mesh.Left || g.Incarnation.Life < r.beat.Incarnation.Life {
		return
	}
	if g.Incarnation.Life > r.beat.Incarnation.Life {
		m.recall(r) // it says hello first
		return
	}
	if r.beat.Incarnation.Before(g.Incarnation) {
		m.refuted(r, Rumor{SayAlive, from, g.Incarnation}, now)
	}
	if r.state == mesh.Dead {
		m.recall(r)
	} else {
		m.lives(r, now, false)
	}
	for _, rumor := range g.Rumors {
		m.hearsay(rumor, now)
	}
	switch g.Kind {
	case Ping:
		m.send(r, Message{Kind: Ack, Number: g.Number})
	case Ask:
		m.help(r, g, now)
	case Ack, Vouched:
		m.answered(r, g, now)
	}
}

func (m *Members) send(to *record, g Message) {
	g.Incarnation = m.self.beat.Incarnation
	g.Rumors = m.pick(to)
	m.out.Send = append(m.out.Send, Envelope{to.id, g})
}

// ping sends a ping that nobody waits for.
func (m *Members) ping(r *record, now time.Duration) uint64 {
	m.number++
	m.send(r, Message{Kind: Ping, Number: m.number})
	return m.number
}

// help pings a member for another that gets no answer.
func (m *Members) help(r *record, g Message, now time.Duration) {
	target := m.other(g.Target)
	if target == nil || !target.live() || len(m.relays) >= relaysMax {
		return
	}
	m.relays[m.ping(target, now)] = relay{to: r.id, number: g.Number, sent: now}
}

// answered takes in an ack of r, or of the member that r was asked to ping.
func (m *Members) answered(r *record, g Message, now time.Duration) {
	if i := slices.IndexFunc(m.probes, func(p probe) bool { return p.number == g.Number }); i >= 0 {
		p := &m.probes[i]
		switch {
		case g.Kind == Ack && p.of == r.id:
			if r.trips == nil {
				r.trips = new(window)
			}
			r.trips.add(now - p.sent)
			if r.live() {
				m.lives(r, now, true)
			}
			m.probes = slices.Delete(m.probes, i, i+1)
		case g.Kind == Vouched && p.asked:
			if of := m.other(p.of); of != nil && of.live() {
				m.lives(of, now, false)
			}
		}
		return
	}
	if l, ok := m.relays[g.Number]; ok && g.Kind == Ack {
		delete(m.relays, g.Number)
		if asker := m.other(l.to); asker != nil && asker.live() {
			m.send(asker, Message{Kind: Vouched, Number: l.number})
		}
	}
	if g.Kind == Ack && r.live() {
		m.lives(r, now, true) // of a ping that nobody waits for
	}
}

// chase goes on with the probes under way and begins the next period's.
func (m *Members) chase(now time.Duration) {
	for i := range m.probes {
		if p := &m.probes[i]; !p.asked {
			if of := m.other(p.of); of != nil && of.live() && now-p.sent >= m.trip(of) {
				p.asked = true
				m.askOthers(of, p.number)
			}
		}
	}
	over := m.probes
	m.probes = nil
	for _, p := range over {
		if now-p.sent < m.cfg.ProbeEvery {
			m.probes = append(m.probes, p)
		} else if of := m.other(p.of); of != nil && of.live() {
			m.unanswered(of, p, now)
		}
	}
	for number, l := range m.relays {
		if now-l.sent >= m.cfg.ProbeEvery {
			delete(m.relays, number)
		}
	}
	if now < m.next {
		return
	}
	m.next = max(m.next+m.cfg.ProbeEvery, now)
	for _, of := range []*record{m.overdue(), m.turn()} {
		if of != nil {
			m.probes = append(m.probes, probe{of: of.id, number: m.ping(of, now), sent: now})
		}
	}
}

// trip is how long a member may take to answer before others are asked.
func (m *Members) trip(r *record) time.Duration {
	limit, ok := time.Duration(0), false
	if r.trips != nil {
		limit, ok = r.trips.limit(0)
	}
	if !ok {
		return m.cfg.ProbeEvery / 2
	}
	return min(max(limit, m.cfg.ProbeEvery/10), m.cfg.ProbeEvery/2)
}

// askOthers asks the live members that follow random places in the list.
func (m *Members) askOthers(of *record, number uint64) {
	asked := []*record{m.self, of}
	for range helpers {
		start := m.rng.below(len(m.all))
		for i := range m.all {
			r := m.all[(start+i)%len(m.all)]
			if r.live() && !slices.Contains(asked, r) {
				asked = append(asked, r)
				m.send(r, Message{Kind: Ask, Number: number, Target: of.id})
				break
			}
		}
	}
}

// unanswered judges a member that did not answer a ping within a period.
func (m *Members) unanswered(r *record, p probe, now time.Duration) {
	switch {
	case r.heard > p.sent: // it lives, and others reach it
		m.change(r, func() {
			r.missed = min(r.missed+1, missesMax)
			r.settle()
		})
	case now-r.heard < m.cfg.SuspectMin, r.accusers >= 0 && m.accused(r):
	default:
		m.suspicion++
		m.say(r, SaySuspect, now)
		m.suspect(r, now)
	}
	if !r.again {
		r.again = true
		m.again = append(m.again, r.id)
	}
}

// overdue is the next of the members whose last probe was not answered.
func (m *Members) overdue() *record {
	for len(m.again) > 0 {
		r := m.other(m.again[0])
		m.again = m.again[1:]
		if r == nil {
			continue
		}
		if r.again = false; r.live() {
			return r
		}
	}
	return nil
}

// turn is the next member of the list, which is shuffled anew when it is through.
func (m *Members) turn() *record {
	for range 2 {
		for len(m.order) > 0 {
			r := m.other(m.order[0])
			m.order = m.order[1:]
			if r != nil && r.live() && !r.again {
				return r
			}
		}
		for _, r := range m.all {
			if r != m.self && r.live() {
				m.order = append(m.order, r.id)
			}
		}
		for i := len(m.order) - 1; i > 0; i-- {
			j := m.rng.below(i + 1)
			m.order[i], m.order[j] = m.order[j], m.order[i]
		}
	}
	return nil
}
