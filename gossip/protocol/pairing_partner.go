package protocol

import (
	"cmp"
	"slices"
	"time"

	"loco/kernels/splitmix"
	"loco/mesh"
)

// A lonely worker tells a few others, and more with time: what it sends does not depend
// on how many there are.
const (
	tellFirst = 7 // at once: all of a small run
	tellMore  = 4 // each quarter of the grace period
	tellMax   = 32
	criers    = 3 // workers whom every lonely one tells, so that they bring two together
)

// absent says that a peer is not in the run now: it is dead, has left, or is a new process
// that has yet to join.
func (m *Pairing) absent(id mesh.ID) bool {
	p, ok := m.members[id]
	return !ok || p.State != mesh.Alive && p.State != mesh.Suspect || !p.Ready
}

// at is the round that a peer is in, as far as this worker has heard.
func (m *Pairing) at(id mesh.ID) uint64 { return max(m.heard[id].round, m.members[id].Round) }

// passed says that a peer has finished the round: it will not come for it.
func (m *Pairing) passed(id mesh.ID, round uint64) bool { return m.at(id) > round }

// match returns the partner by the matching of the live workers; "": none.
func (m *Pairing) match(round uint64) mesh.ID {
	workers, ids := make([]int, 1, len(m.live)+1), make(map[int]mesh.ID, len(m.live))
	workers[0] = m.Worker
	for _, id := range m.live {
		w := m.members[id].Worker
		workers = append(workers, w)
		ids[w] = id
	}
	partner, ok := Match(m.Seed, round, workers, m.Worker)
	if !ok {
		return ""
	}
	return ids[partner]
}

// choose finds the peer to wait for, and which of the two offers: in one round the lower worker, of
// two rounds the one that is behind. One that is ahead takes any that comes from behind, because
// its partner in its own round may still train.
func (m *Pairing) choose(now time.Time, s *seek) {
	s.matched = m.partner
	offers := m.members[s.matched].Worker > m.Worker
	switch at := m.at(s.matched); {
	case m.absent(s.matched) || m.members[s.matched].Done || at > s.round+m.Lag:
		m.goLonely(now, s)
		return
	case at > s.round:
		offers = true
	}
	for _, key := range m.sources(m.offers, s.part) {
		if p := m.offers[key]; m.free(s, key.from, p) && m.suits(s, key.from, p) {
			m.agree(now, s, key.from, p)
			return
		}
	}
	for _, key := range m.sources(m.lonelies, s.part) {
		p := m.lonelies[key]
		if key.from != s.matched && m.free(s, key.from, p) && m.suits(s, key.from, p) && !m.passed(key.from, p.env.Round) {
			delete(m.lonelies, key)
			if m.welcome(now, s, key.from, p); s.peer != "" {
				return
			}
		}
	}
	if offers {
		m.ask(now, s, s.matched)
	} else if key := (proposal{s.matched, s.part}); m.lonelies[key].length > 0 { // it has given up waiting
		m.send(s, s.matched, 0, lonely{s.own})
		delete(m.lonelies, key)
	}
}

// early says that fewer than half of the workers, this one included, have come this far in
// the round: there is no hurry to go on alone.
func (m *Pairing) early(s *seek) bool { return 2*(m.ahead(s.round)+1) < len(m.live)+1 }

// patience is how long a worker waits for its partner: not long for one that has finished
// the round as most of the others have, because it answers at once or not at all.
func (m *Pairing) patience(s *seek) time.Duration {
	if m.passed(s.matched, s.round) && 2*m.ahead(s.round) > len(m.live) {
		return m.Grace / 4
	}
	return m.Grace
}

// ask offers an exchange to a peer.
func (m *Pairing) ask(now time.Time, s *seek, to mesh.ID) {
	m.try = (m.try + 1) & WorkerMax
	s.peer, s.number, s.askedAt = to, attemptNumber(int(m.try), m.Worker, m.Nonce), now
	m.send(s, to, s.number, offer{s.own})
}

// suits says whether an offer or a call can be taken up.
func (m *Pairing) suits(s *seek, from mesh.ID, p proposed) bool {
	near := p.env.Round+m.Lag >= s.round && p.env.Round <= s.round+m.Lag
	return near && s.rejected[from] == "" && !m.absent(from) && p.length == s.own.length && p.env.Worker != m.Worker &&
		!m.took(s.part, from, p.env.Round) && !m.settled(from, p.env)
}

// agree accepts an offer.
func (m *Pairing) agree(now time.Time, s *seek, from mesh.ID, p proposed) {
	delete(m.offers, proposal{from, s.part})
	if s.peer != "" && s.peer != from {
		m.send(s, s.peer, s.number, refuse{"found another partner"})
	}
	m.send(s, from, p.env.Attempt, accept{s.own})
	m.engage(now, s, from, p)
}

// engage begins the exchange that both agreed to.
func (m *Pairing) engage(now time.Time, s *seek, peer mesh.ID, p proposed) {
	s.peer, s.number, s.exchange, s.waitEnd = peer, p.env.Attempt, true, now
	s.peerWorker, s.peerRound = p.env.Worker, p.env.Round
	s.tries++
	m.out = append(m.out, PairAction{Begin: &Exchange{
		Part: s.part, Round: s.round, PeerRound: p.env.Round, Peer: peer, PeerWorker: p.env.Worker,
		Number: s.number, Own: s.own.weight, Other: p.weight,
	}})
	for _, key := range m.sources(m.offers, s.part) {
		if other := m.offers[key]; other.env.Round <= s.round {
			m.reply(key.from, other.env, refuse{"is in another exchange"})
			delete(m.offers, key)
		}
	}
}

// sources lists where offers or calls for a part come from, in a fixed order.
func (m *Pairing) sources(said map[proposal]proposed, part Part) []proposal {
	var keys []proposal
	for key := range said {
		if key.part == part {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b proposal) int { return cmp.Compare(a.from, b.from) })
	return keys
}

// goLonely takes what offer there is, and asks for more.
func (m *Pairing) goLonely(now time.Time, s *seek) {
	m.drop(now, s)
	s.lonely, s.askedAt = true, now
	for _, key := range m.sources(m.offers, s.part) {
		if p := m.offers[key]; m.suits(s, key.from, p) {
			m.agree(now, s, key.from, p)
			return
		}
	}
	if s.told == 0 { // also where it asks a lonely worker, which may have found somebody
		s.order = m.order(s)
		m.tell(now, s, tellFirst)
	}
	for _, key := range m.sources(m.lonelies, s.part) {
		if p := m.lonelies[key]; p.env.Worker > m.Worker && !s.declined[key.from] && m.suits(s, key.from, p) {
			delete(m.lonelies, key)
			if m.passed(key.from, p.env.Round) {
				continue // it has found somebody, or gone on alone
			}
			m.ask(now, s, key.from)
			return
		}
	}
	m.checkAlone(now, s)
}

// tell says to the next n workers that this one is lonely.
func (m *Pairing) tell(now time.Time, s *seek, n int) {
	s.toldAt = now
	for ; n > 0 && s.told < len(s.order); s.told++ {
		if id := s.order[s.told]; !m.absent(id) && s.rejected[id] == "" {
			m.send(s, id, 0, lonely{s.own})
			n--
		}
	}
}

// order lists the peers that a lonely worker tells, most promising first: its partner, other lonely workers,
// the criers, anybody.
func (m *Pairing) order(s *seek) []mesh.ID {
	var out []mesh.ID
	in := map[mesh.ID]bool{m.Self: true}
	add := func(id mesh.ID) {
		if !in[id] && len(out) < tellMax {
			in[id] = true
			out = append(out, id)
		}
	}
	if !m.absent(s.matched) {
		add(s.matched) // it may stop its inner steps and come
	}
	for _, key := range m.sources(m.lonelies, s.part) {
		if m.suits(s, key.from, m.lonelies[key]) {
			add(key.from)
		}
	}
	if len(m.live) > tellFirst {
		for _, id := range m.criers(s.round) {
			add(id)
		}
	}
	random := splitmix.Source(m.Seed ^ s.round<<20 ^ uint64(m.Worker))
	any := slices.Clone(m.live)
	for i := range min(len(any), 2*tellMax) {
		j := splitmix.Below(random.Next(), uint64(len(any)-i))
		any[i], any[i+int(j)] = any[i+int(j)], any[i]
		add(any[i])
	}
	return out
}

// criers are those of the live with the highest hashes of round and worker: every worker
// with the same view finds the same.
func (m *Pairing) criers(round uint64) []mesh.ID {
	best := make([]mesh.ID, 0, criers+1)
	high := make([]uint64, 0, criers+1)
	put := func(id mesh.ID, worker int) {
		r := splitmix.Source(m.Seed ^ round<<20 ^ uint64(worker) ^ 1<<63)
		h := r.Next()
		at := 0
		for at < len(high) && high[at] > h {
			at++
		}
		if at < criers {
			best, high = slices.Insert(best, at, id), slices.Insert(high, at, h)
			best, high = best[:min(len(best), criers)], high[:min(len(high), criers)]
		}
	}
	put(m.Self, m.Worker)
	for _, id := range m.live {
		put(id, m.members[id].Worker)
	}
	return best
}

// checkAlone goes on alone when no peer is left that could take the partner's place. A peer that
// has just declined may lose its own partner, and call.
func (m *Pairing) checkAlone(now time.Time, s *seek) {
	if !s.lonely || s.peer != "" || len(s.declined)+len(s.rejected) < len(m.live) || now.Sub(s.askedAt) < m.Grace/4 {
		return
	}
	for _, id := range m.live {
		if s.rejected[id] == "" && !s.declined[id] {
			return
		}
	}
	m.finish(now, s, PairFinish{Partner: -1})
}

// lonelyMax is how long a worker waits for somebody in its partner's place: where the
// partner fell silent, until others that it left waiting have noticed; not long where it
// has finished the round or is known to be dead, because then the others know that too, and
// most have their own partners.
func (m *Pairing) lonelyMax(s *seek) time.Duration {
	switch {
	case m.passed(s.matched, s.round) || m.absent(s.matched):
		return m.Grace / 4
	case 2*m.ahead(s.round) > len(m.live):
		return m.Grace / 2 // for the partner, which has been told
	}
	return m.Grace + m.Grace/4
}

func (m *Pairing) onOffer(now time.Time, s *seek, from mesh.ID, p proposed) {
	key := proposal{from, p.env.Part}
	switch {
	case m.repeated(from, p.env), m.settled(from, p.env): // said again, after it was answered
	case s != nil && s.exchange && s.peer == from && s.number == p.env.Attempt: // said twice
	case s != nil && s.peer == from && !s.exchange && (s.round < p.env.Round || s.round == p.env.Round && m.Worker < p.env.Worker):
		// Both have offered. This worker's offer counts, and the peer knows that too.
	case s == nil && int64(p.env.Round+m.Lag) <= m.over[p.env.Part]:
		m.reply(from, p.env, refuse{"has finished that round"})
	case s == nil, s.exchange && p.env.Round > s.round, s.mine && s.peer == from: // for later
		m.offers[key] = p
	case s.exchange && s.peer != from, p.env.Round < s.round && !m.suits(s, from, p):
		m.reply(from, p.env, refuse{"is in another exchange or round"})
	case (s.lonely || m.free(s, from, p)) && m.suits(s, from, p):
		if s.exchange { // the peer began anew: it gave this exchange up
			m.drop(now, s)
		}
		m.agree(now, s, from, p)
	default:
		m.offers[key] = p
	}
}

// repeated says that an offer is not newer than the last of the same process, and remembers it:
// a link that broke may bring one again, when its sender has long made another.
func (m *Pairing) repeated(from mesh.ID, env Envelope) bool {
	const process = 1<<48 - 1 // of a number: its maker and the nonce
	w := m.heard[from]
	last := w.offers[env.Part]
	if last != 0 && last&process == env.Attempt&process && int16(env.Attempt>>48-last>>48) <= 0 {
		return true
	}
	w.offers[env.Part] = env.Attempt
	m.heard[from] = w
	return false
}

func (m *Pairing) onAccept(now time.Time, s *seek, from mesh.ID, p proposed) {
	switch asked := s != nil && s.peer == from && s.number == p.env.Attempt; {
	case asked && s.exchange, m.settled(from, p.env): // said twice
	case asked && m.suits(s, from, p):
		m.engage(now, s, from, p)
	case asked:
		s.declined[from] = true
		m.send(s, from, s.number, refuse{"what it accepts does not fit"})
		m.goLonely(now, s)
	default:
		m.reply(from, p.env, refuse{"no longer wants that exchange"})
	}
}

// onRefuse takes in that a peer declines, or has not applied an exchange and never will.
// Then there is no doubt, and this worker is free to find another partner.
func (m *Pairing) onRefuse(now time.Time, s *seek, from mesh.ID, env Envelope) {
	key := proposal{from, env.Part}
	if p, ok := m.offers[key]; ok && p.env.Attempt == env.Attempt {
		delete(m.offers, key)
	}
	switch {
	case s == nil:
	case env.Attempt == 0:
		s.declined[from] = true
		m.checkAlone(now, s)
	case s.peer == from && s.number == env.Attempt:
		s.declined[from] = true
		m.goLonely(now, s)
	}
}

func (m *Pairing) onLonely(now time.Time, s *seek, from mesh.ID, p proposed) {
	key := proposal{from, p.env.Part}
	busy := s == nil && int64(p.env.Round+m.Lag) <= m.over[p.env.Part] || s != nil && s.exchange && p.env.Round <= s.round
	if busy {
		m.reply(from, p.env, refuse{"has a partner"})
	}
	wants := s != nil && !busy && m.suits(s, from, p)
	if !(wants && m.takes(s, from, p)) && m.introduce(from, p) {
		return
	}
	if s != nil || !busy || m.cries(p.env.Round) { // this exchange may break
		m.lonelies[key] = p
	}
	if wants {
		delete(s.declined, from)
		m.welcome(now, s, from, p)
	}
}

// takes says that a worker may take up the call of a lonely one. A worker that has asked
// another lonely one keeps to it, because that one may have accepted.
func (m *Pairing) takes(s *seek, from mesh.ID, p proposed) bool {
	if s.exchange || s.peer == from {
		return false
	}
	return s.lonely && s.peer == "" || !s.lonely && m.free(s, from, p)
}

// welcome takes up the call of a lonely worker: the lower of the two asks.
func (m *Pairing) welcome(now time.Time, s *seek, from mesh.ID, p proposed) {
	switch {
	case !m.takes(s, from, p):
	case p.env.Worker > m.Worker:
		delete(m.lonelies, proposal{from, s.part})
		if s.peer != "" {
			m.send(s, s.peer, s.number, refuse{"found another partner"})
		}
		m.ask(now, s, from)
	default:
		m.send(s, from, 0, lonely{s.own}) // it may not know that this worker is free, or free again
	}
}

// free says that a worker may leave its partner by the matching for another: one that is
// behind is there now, where the partner in this round may still train; and a partner that
// has finished the round takes what it has been offered in its own time, or never.
func (m *Pairing) free(s *seek, from mesh.ID, p proposed) bool {
	return from == s.matched || p.env.Round < s.round || m.passed(s.matched, s.round)
}

// cries says that this worker brings the lonely of a round together. In a small run they
// all know of each other.
func (m *Pairing) cries(round uint64) bool {
	return len(m.live) > tellFirst && slices.Contains(m.criers(round), m.Self)
}

// introduce names two lonely workers to each other.
func (m *Pairing) introduce(from mesh.ID, p proposed) bool {
	if !m.cries(p.env.Round) {
		return false
	}
	for _, key := range m.sources(m.lonelies, p.env.Part) {
		o := m.lonelies[key]
		apart := max(o.env.Round, p.env.Round) - min(o.env.Round, p.env.Round)
		if key.from == from || apart > m.Lag || o.length != p.length || m.passed(key.from, o.env.Round) {
			continue
		}
		delete(m.lonelies, key)
		low, high, env := from, key.from, p.env
		if o.env.Worker < p.env.Worker {
			low, high, env = key.from, from, o.env
		}
		env.Attempt = 0
		m.reply(low, env, meet{high})
		return true
	}
	return false
}
