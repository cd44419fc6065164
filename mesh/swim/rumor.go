package swim

import (
	"math/bits"
	"slices"
	"time"

	"loco/mesh"
)

// retell bounds a rumor: each member tells it 3 log2(N) times, the paper's lambda log N, and
// for as many periods at most.
const retell = 3

// told is a rumor with what became of it here.
type told struct {
	Rumor
	times int // told so far
	until time.Duration
}

func (m *Members) retells() int { return retell * bits.Len(uint(len(m.all))) }

// spread has a rumor told with the next messages, instead of what was told of the
// same member before.
func (m *Members) spread(r Rumor, now time.Duration) {
	m.rumors = slices.DeleteFunc(m.rumors, func(t told) bool { return t.Of == r.Of })
	until := now + time.Duration(m.retells())*m.cfg.ProbeEvery
	m.rumors = slices.Insert(m.rumors, 0, told{Rumor: r, until: until})
}

// pick returns the rumors for a message: what is said of its receiver, and then those
// that were told least often.
func (m *Members) pick(to *record) (picked []Rumor) {
	if m.accused(to) {
		picked = append(picked, Rumor{to.said, to.id, to.saidOf})
	}
	for i := range m.rumors {
		if len(picked) == maxRumors {
			break
		}
		if t := &m.rumors[i]; t.Of != to.id {
			picked = append(picked, t.Rumor)
			t.times++
		}
	}
	limit := m.retells()
	m.rumors = slices.DeleteFunc(m.rumors, func(t told) bool { return t.times >= limit })
	slices.SortStableFunc(m.rumors, func(a, b told) int { return a.times - b.times })
	return picked
}

// accused reports whether something is said of a member that it has not refuted.
func (m *Members) accused(r *record) bool {
	return r.said >= SaySuspect && r.saidOf == r.beat.Incarnation
}

// say makes this member the author of a rumor.
func (m *Members) say(r *record, s Say, now time.Duration) {
	r.said, r.saidOf = s, r.beat.Incarnation
	m.spread(Rumor{s, r.id, r.beat.Incarnation}, now)
}

// hearsay takes in a rumor.
func (m *Members) hearsay(g Rumor, now time.Duration) {
	if g.Of == m.self.id {
		m.refute(g)
		return
	}
	r := m.by[g.Of]
	if r == nil || r.state == mesh.Left {
		return // a stranger's heartbeat or hello will come
	}
	if g.Say == SayLeft {
		m.Goodbye(g.Of, g.Incarnation.Life, now)
		return
	}
	if g.Incarnation.Life != r.beat.Incarnation.Life {
		return // the end of a former life is known, and a new life says hello
	}
	if g.Say == SayAlive {
		m.refuted(r, g, now)
		return
	}
	older := g.Incarnation.Before(r.beat.Incarnation)
	known := g.Say <= r.said && !r.saidOf.Before(g.Incarnation)
	if older || known || !r.live() {
		return
	}
	r.said, r.saidOf = g.Say, g.Incarnation
	if r.beat.Incarnation.Before(g.Incarnation) {
		r.beat.Incarnation = g.Incarnation // the member must have refuted the ones before
	}
	if now-r.heard < m.cfg.ProbeEvery {
		m.ping(r, now) // it was heard since: it refutes, and few members need to hear of it
		return
	}
	m.spread(g, now)
	if g.Say == SayDead {
		m.end(r, mesh.Dead, now)
		return
	}
	m.suspect(r, now)
}

func (m *Members) suspect(r *record, now time.Duration) {
	m.change(r, func() {
		if r.accusers < 0 {
			r.accusers = now
		}
		r.settle()
	})
}

// refuted takes in that a member lives in a newer incarnation than was known.
func (m *Members) refuted(r *record, g Rumor, now time.Duration) {
	if !r.beat.Incarnation.Before(g.Incarnation) {
		return
	}
	r.beat.Incarnation = g.Incarnation
	m.spread(g, now)
	if r.state == mesh.Dead {
		m.recall(r)
		return
	}
	m.lives(r, now, false)
}

// recall asks the owner to dial a member that was dead and lives.
func (m *Members) recall(r *record) {
	m.out.Dial = append(m.out.Dial, r.id)
}

// refute answers what is said of this member itself, by an incarnation above the
// accusation's.
func (m *Members) refute(g Rumor) {
	own := &m.self.beat.Incarnation
	if m.self.state == mesh.Left || g.Say != SaySuspect && g.Say != SayDead ||
		g.Incarnation.Life != own.Life || g.Incarnation.Before(*own) {
		return
	}
	own.Refuted = g.Incarnation.Refuted + 1
	m.refutals++
	m.out.Publish = true
	m.spread(Rumor{SayAlive, m.self.id, *own}, m.ticked)
}
