package protocol

import (
	"slices"
	"time"

	"loco/mesh"
)

// ending is what became of an exchange.
type ending struct {
	number  uint64
	applied bool
	at      time.Time
}

// taking is a vector that this worker has averaged with its own.
type taking struct {
	peer  mesh.ID
	part  Part
	round uint64 // of the peer
}

// Complete takes in that all of the partner's bytes of the exchange number are here, and
// all of the own were written. The exchange is applied when both have said so. Where the
// deadline is so near that the answer may not come in time, the worker gives the exchange up
// while it still may.
func (m *Pairing) Complete(now time.Time, part Part, number uint64) {
	s := m.seeks[part]
	if s == nil || !s.exchange || s.number != number || s.mine {
		return
	}
	if left := s.started.Add(m.Deadline).Sub(now); !s.theirs && left < min(m.Grace, m.Deadline/4) {
		m.send(s, s.peer, s.number, refuse{"is out of time"})
		m.finish(now, s, PairFinish{Partner: -1})
		return
	}
	s.mine, s.saidAt = true, now
	m.send(s, s.peer, s.number, holds{asks: !s.theirs})
	if s.theirs {
		m.finish(now, s, PairFinish{Partner: s.peerWorker})
		return
	}
	m.watchDoubt(now, s)
}

// onHolds takes in that the partner has everything, or answers one that asks about an
// exchange which is over here.
func (m *Pairing) onHolds(now time.Time, s *seek, from mesh.ID, env Envelope, msg holds) {
	if s != nil && s.exchange && s.peer == from && s.number == env.Attempt {
		s.theirs = true
		if s.mine {
			m.finish(now, s, PairFinish{Partner: s.peerWorker})
		}
		return
	}
	if !msg.asks {
		return
	}
	switch e, ok := m.ended[proposal{from, env.Part}]; {
	case !ok || e.number != env.Attempt:
		m.reply(from, env, forgot{})
	case e.applied:
		m.reply(from, env, holds{})
	default:
		m.reply(from, env, refuse{"did not average that exchange"})
	}
}

// remind asks the partner of a doubt again. Once it has been away for Grace there is
// nobody to ask: the worker goes on alone, and says that the exchange may be one-sided.
func (m *Pairing) remind(now time.Time, s *seek) {
	if m.watchDoubt(now, s); !s.goneAt.IsZero() && now.Sub(s.goneAt) >= m.Grace {
		m.send(s, s.peer, s.number, refuse{"went on alone in doubt"})
		m.finish(now, s, PairFinish{Partner: -1})
		return
	}
	if now.Sub(s.saidAt) >= m.Grace/2 {
		s.saidAt = now
		m.send(s, s.peer, s.number, holds{asks: true})
	}
}

// watchDoubt notes since when the partner is away.
func (m *Pairing) watchDoubt(now time.Time, s *seek) {
	switch {
	case !m.absent(s.peer):
		s.goneAt = time.Time{}
	case s.goneAt.IsZero():
		s.goneAt = now
	}
}

// drop leaves an exchange that this worker has not applied and never will.
func (m *Pairing) drop(now time.Time, s *seek) {
	if s.exchange {
		m.end(now, s, false)
		m.out = append(m.out, PairAction{Stop: &s.part})
	}
	s.bond = bond{}
}

func (m *Pairing) end(now time.Time, s *seek, applied bool) {
	m.ended[proposal{s.peer, s.part}] = ending{s.number, applied, now}
}

// settled says that an exchange has ended here, and is not to begin again.
func (m *Pairing) settled(from mesh.ID, env Envelope) bool {
	e, ok := m.ended[proposal{from, env.Part}]
	return ok && e.number == env.Attempt
}

// took says that a vector of the peer's is in this worker's state already.
func (m *Pairing) took(part Part, peer mesh.ID, round uint64) bool {
	return slices.Contains(m.taken, taking{peer, part, round})
}

// forget gives back what no peer can ask for any more.
func (m *Pairing) forget(now time.Time, part Part, round uint64) {
	m.taken = slices.DeleteFunc(m.taken, func(t taking) bool { return t.part == part && t.round+m.Lag < round })
	for key, e := range m.ended {
		if now.Sub(e.at) > 2*m.Deadline {
			delete(m.ended, key)
		}
	}
	for _, said := range []map[proposal]proposed{m.offers, m.lonelies} {
		for key, p := range said {
			if key.part == part && p.env.Round+m.Lag < round {
				delete(said, key)
			}
		}
	}
}
