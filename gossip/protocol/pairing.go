package protocol

import (
	"fmt"
	"time"

	"loco/mesh"
)

// Pairing is the state machine of the pair exchange: what it takes in and gives out
// is as for rounds. Each part seeks on its own, but within a round both ask the same
// partner first.
type Pairing struct {
	self            mesh.ID
	worker          int
	seed            uint64
	lag             uint64
	deadline, grace time.Duration

	members  map[mesh.ID]mesh.Member
	round    uint64 // the newest round that was started, and its partner
	partner  mesh.ID
	chosen   bool
	seeks    [2]*seek
	over     [2]int64 // the newest round that each part has finished; −1: none
	offers   map[proposal]proposed
	lonelies map[proposal]proposed
	heard    map[mesh.ID]uint64 // the newest round heard of each peer
	try      uint32
	nonce    uint32

	out []PairAction
}

// proposal is where an offer or a call of a lonely worker comes from.
type proposal struct {
	from mesh.ID
	part Part
}

// proposed is an offer or a call as it was received.
type proposed struct {
	env Envelope
	terms
}

// seek is one Average under way.
type seek struct {
	part     Part
	round    uint64
	own      terms
	started  time.Time
	matched  mesh.ID // partner by the matching
	lonely   bool
	peer     mesh.ID // asked, or exchanged with; "": none
	number   uint64
	exchange bool // both agreed
	askedAt  time.Time
	waitEnd  time.Time
	declined map[mesh.ID]bool
	rejected map[mesh.ID]string
	tries    int
}

// PairAction is what the shell must do: exactly one field is set.
type PairAction struct {
	Send   *Send
	Begin  *Exchange
	Stop   *Part
	Finish *PairFinish
}

// Exchange is an agreed pair.
type Exchange struct {
	Part       Part
	Round      uint64 // of this worker
	PeerRound  uint64
	Peer       mesh.ID
	PeerWorker int
	Number     uint64
	Own, Other float64 // weights
}

// PairFinish ends a seek: with the exchange at hand applied, alone, or behind.
type PairFinish struct {
	Part    Part
	Partner int // worker; −1: alone
	Behind  string
	Tries   int
	WaitEnd time.Time
	Reject  []string
}

func NewPairing(self mesh.ID, worker int, seed, lag uint64, deadline, grace time.Duration) *Pairing {
	return &Pairing{
		self: self, worker: worker, seed: seed, lag: lag, deadline: deadline, grace: grace, over: [2]int64{-1, -1},
		members: map[mesh.ID]mesh.Member{}, offers: map[proposal]proposed{}, lonelies: map[proposal]proposed{},
		heard: map[mesh.ID]uint64{},
	}
}

// start begins to seek a partner for one part of a round.
func (m *Pairing) Start(now time.Time, part Part, round uint64, weight float64, length int) {
	own := terms{weight, uint64(length)}
	s := &seek{part: part, round: round, own: own, started: now, waitEnd: now,
		declined: map[mesh.ID]bool{}, rejected: map[mesh.ID]string{}}
	m.seeks[part] = s
	live, ahead := m.live(), 0
	for _, id := range live {
		if m.heard[id] > round+m.lag+1 {
			ahead++
		}
	}
	if len(live) > 0 && 2*ahead > len(live) {
		m.finish(s, PairFinish{Behind: fmt.Sprintf("%d of %d other workers are more than %d rounds ahead of round %d", ahead, len(live), m.lag+1, round)})
		return
	}
	if !m.chosen || m.round != round {
		m.chosen, m.round, m.partner = true, round, m.match(round, live)
	}
	s.matched = m.partner
	if s.matched == "" {
		m.finish(s, PairFinish{Partner: -1})
		return
	}
	if m.gone(s.matched) || m.passed(s.matched, round) {
		m.goLonely(now, s)
		return
	}
	s.askedAt = now
	if m.members[s.matched].Worker > m.worker {
		m.ask(now, s, s.matched)
		return
	}
	if p, ok := m.offers[proposal{s.matched, part}]; ok && m.suits(s, s.matched, p) {
		m.agree(now, s, s.matched, p)
	}
}

// Abort ends a seek alone.
func (m *Pairing) Abort(part Part) {
	if s := m.seeks[part]; s != nil {
		m.finish(s, PairFinish{Partner: -1})
	}
}

// Exchanges says that an exchange of the part is under way.
func (m *Pairing) Exchanges(part Part) bool { return m.seeks[part] != nil && m.seeks[part].exchange }

// Awaits says that a frame of an exchange is to be expected though it has not begun.
func (m *Pairing) Awaits(part Part, from mesh.ID, number uint64) bool {
	s := m.seeks[part]
	return s != nil && s.peer == from && s.number == number
}

// Blame takes in that a peer sent what it must not.
func (m *Pairing) Blame(now time.Time, who mesh.ID, why string) {
	for _, s := range m.seeks {
		if s != nil && s.peer == who {
			m.Fail(now, s.part, s.number, why)
		}
	}
}

// live returns the other workers that may average.
func (m *Pairing) live() []mesh.ID {
	var out []mesh.ID
	for _, id := range sortedKeys(m.members) {
		p := m.members[id]
		if id != m.self && (p.State == mesh.Alive || p.State == mesh.Suspect) && p.Ready && !p.Done {
			out = append(out, id)
		}
	}
	return out
}

func (m *Pairing) match(round uint64, live []mesh.ID) mesh.ID {
	workers, ids := []int{m.worker}, map[int]mesh.ID{}
	for _, id := range live {
		w := m.members[id].Worker
		workers = append(workers, w)
		ids[w] = id
	}
	partner, ok := Match(m.seed, round, workers, m.worker)
	if !ok {
		return ""
	}
	return ids[partner]
}

func (m *Pairing) gone(id mesh.ID) bool {
	p, ok := m.members[id]
	return !ok || p.State == mesh.Dead || p.State == mesh.Left
}

// passed says that a peer has finished the round: it will not come for it.
func (m *Pairing) passed(id mesh.ID, round uint64) bool {
	return max(m.heard[id], m.members[id].Round) > round
}

// ask offers an exchange to a peer.
func (m *Pairing) ask(now time.Time, s *seek, to mesh.ID) {
	m.try = (m.try + 1) & WorkerMax
	s.peer, s.number, s.askedAt = to, attemptNumber(int(m.try), m.worker, m.nonce), now
	m.send(s, to, s.number, offer{s.own})
}

// suits says whether an offer or a call can be taken up.
func (m *Pairing) suits(s *seek, from mesh.ID, p proposed) bool {
	_, bad := s.rejected[from]
	return !bad && !m.gone(from) && p.length == s.own.length && p.env.Worker != m.worker &&
		p.env.Round+m.lag >= s.round && p.env.Round <= s.round+m.lag
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
	s.tries++
	m.out = append(m.out, PairAction{Begin: &Exchange{
		Part: s.part, Round: s.round, PeerRound: p.env.Round, Peer: peer, PeerWorker: p.env.Worker,
		Number: s.number, Own: s.own.weight, Other: p.weight,
	}})
	for key, other := range m.offers {
		if key.part == s.part && other.env.Round <= s.round {
			m.send(s, key.from, other.env.Attempt, refuse{"is in another exchange"})
			delete(m.offers, key)
		}
	}
}

// goLonely takes what offer there is, and asks for more.
func (m *Pairing) goLonely(now time.Time, s *seek) {
	if s.peer != "" && !m.gone(s.peer) {
		m.send(s, s.peer, s.number, refuse{"waited long enough"})
	}
	s.peer, s.exchange, s.askedAt = "", false, now
	if !s.lonely {
		s.lonely = true
		for _, id := range m.live() {
			m.send(s, id, 0, lonely{s.own})
		}
	}
	for _, id := range sortedKeys(m.members) {
		if p, ok := m.offers[proposal{id, s.part}]; ok && m.suits(s, id, p) {
			m.agree(now, s, id, p)
			return
		}
	}
	for _, id := range sortedKeys(m.members) {
		p, ok := m.lonelies[proposal{id, s.part}]
		if ok && p.env.Worker > m.worker && m.suits(s, id, p) {
			delete(m.lonelies, proposal{id, s.part})
			m.ask(now, s, id)
			return
		}
	}
	m.checkAlone(s)
}

// checkAlone goes on alone when nobody is left who could take the partner's place.
func (m *Pairing) checkAlone(s *seek) {
	if !s.lonely || s.peer != "" {
		return
	}
	for _, id := range m.live() {
		if _, bad := s.rejected[id]; !bad && !s.declined[id] {
			return
		}
	}
	m.finish(s, PairFinish{Partner: -1})
}

// receive takes in a message of a peer.
func (m *Pairing) Receive(now time.Time, from mesh.ID, env Envelope, msg Message) {
	m.heard[from] = env.Round
	s := m.seeks[env.Part]
	switch msg := msg.(type) {
	case offer:
		m.onOffer(now, s, from, proposed{env, msg.terms})
	case accept:
		m.onAccept(now, s, from, proposed{env, msg.terms})
	case refuse:
		m.onRefuse(now, s, from, env)
	case lonely:
		m.onLonely(now, s, from, proposed{env, msg.terms})
	}
}

func (m *Pairing) onOffer(now time.Time, s *seek, from mesh.ID, p proposed) {
	key := proposal{from, p.env.Part}
	switch {
	case s == nil && int64(p.env.Round) <= m.over[p.env.Part]:
		m.reply(from, p.env, refuse{"has finished that round"})
	case s == nil, s.exchange && p.env.Round > s.round: // the peer is ahead: for later
		m.offers[key] = p
	case s.exchange && s.peer != from, p.env.Round < s.round && !m.suits(s, from, p):
		m.reply(from, p.env, refuse{"is in another exchange or round"})
	case (from == s.matched || s.lonely || p.env.Round < s.round) && m.suits(s, from, p):
		// Who offers for a round that this worker has finished waits, as this one does.
		if s.exchange { // the peer began anew: it gave this exchange up
			m.out = append(m.out, PairAction{Stop: &s.part})
			s.exchange = false
		}
		m.agree(now, s, from, p)
	default:
		m.offers[key] = p
	}
}

func (m *Pairing) onAccept(now time.Time, s *seek, from mesh.ID, p proposed) {
	if s == nil || s.exchange || s.peer != from || s.number != p.env.Attempt || !m.suits(s, from, p) {
		if s == nil || s.peer != from || s.number != p.env.Attempt || !s.exchange {
			m.reply(from, p.env, refuse{"no longer wants that exchange"})
		}
		return
	}
	m.engage(now, s, from, p)
}

func (m *Pairing) onRefuse(now time.Time, s *seek, from mesh.ID, env Envelope) {
	key := proposal{from, env.Part}
	if p, ok := m.offers[key]; ok && p.env.Attempt == env.Attempt {
		delete(m.offers, key)
	}
	if s == nil {
		return
	}
	if env.Attempt == 0 {
		s.declined[from] = true
		m.checkAlone(s)
		return
	}
	if s.peer != from || s.number != env.Attempt {
		return
	}
	if s.exchange {
		m.out = append(m.out, PairAction{Stop: &s.part})
	}
	s.peer, s.exchange = "", false
	s.declined[from] = true
	m.goLonely(now, s)
}

func (m *Pairing) onLonely(now time.Time, s *seek, from mesh.ID, p proposed) {
	if int64(p.env.Round) <= m.over[p.env.Part] || s != nil && s.exchange && p.env.Round <= s.round {
		m.reply(from, Envelope{Round: p.env.Round, Part: p.env.Part}, refuse{"has a partner"})
		return
	}
	m.lonelies[proposal{from, p.env.Part}] = p
	if s == nil || !m.suits(s, from, p) {
		return
	}
	delete(s.declined, from)
	switch {
	case s.lonely && s.peer == "" && p.env.Worker > m.worker, from == s.matched && s.peer != from && p.env.Worker > m.worker:
		delete(m.lonelies, proposal{from, p.env.Part})
		m.ask(now, s, from)
	case from == s.matched && !s.lonely && p.env.Worker < m.worker:
		m.send(s, from, 0, lonely{s.own}) // so that it asks this worker, which waits for it
	}
}

// view takes in the members as the mesh sees them now.
func (m *Pairing) View(now time.Time, members []mesh.Member) {
	clear(m.members)
	for _, p := range members {
		m.members[p.ID] = p
	}
	for key := range m.offers {
		if m.gone(key.from) {
			delete(m.offers, key)
		}
	}
	for key := range m.lonelies {
		if m.gone(key.from) {
			delete(m.lonelies, key)
		}
	}
	for _, s := range m.seeks {
		switch {
		case s == nil:
		case s.peer != "" && m.gone(s.peer):
			m.Fail(now, s.part, s.number, "")
		case s.peer == "" && !s.lonely && m.gone(s.matched):
			m.goLonely(now, s)
		default:
			m.checkAlone(s)
		}
	}
}

// fail takes in that the exchange number broke, and by whose fault if why says so.
func (m *Pairing) Fail(now time.Time, part Part, number uint64, why string) {
	s := m.seeks[part]
	if s == nil || s.number != number || s.peer == "" {
		return
	}
	if s.exchange {
		m.out = append(m.out, PairAction{Stop: &s.part})
	}
	if why != "" {
		s.rejected[s.peer] = why
	}
	s.declined[s.peer] = true
	m.goLonely(now, s)
}

// lonelyMax is how long a worker waits for somebody in its partner's place: where the
// partner fell silent, until whoever else it left waiting has noticed; not long where it
// has merely finished the round, for then the others have their own partners.
func (m *Pairing) lonelyMax(s *seek) time.Duration {
	if m.passed(s.matched, s.round) {
		return m.grace / 4
	}
	return m.grace + m.grace/4
}

// complete takes in that the exchange number is done.
func (m *Pairing) Complete(part Part, number uint64, worker int) {
	if s := m.seeks[part]; s != nil && s.exchange && s.number == number {
		m.finish(s, PairFinish{Partner: worker})
	}
}

// tick moves what only time moves.
func (m *Pairing) Tick(now time.Time) {
	for _, s := range m.seeks {
		switch {
		case s == nil:
		case now.Sub(s.started) >= m.deadline:
			if s.peer != "" {
				m.send(s, s.peer, s.number, refuse{"is out of time"})
			}
			m.finish(s, PairFinish{Partner: -1})
		case s.exchange:
		case s.lonely && s.peer == "":
			if now.Sub(s.askedAt) >= m.lonelyMax(s) {
				m.finish(s, PairFinish{Partner: -1})
			}
		case s.peer == "" && m.passed(s.matched, s.round):
			m.goLonely(now, s)
		case now.Sub(s.askedAt) >= m.grace:
			m.goLonely(now, s)
		}
	}
}

func (m *Pairing) finish(s *seek, f PairFinish) {
	if s.exchange && f.Partner < 0 {
		m.out = append(m.out, PairAction{Stop: &s.part})
	}
	f.Part, f.Tries, f.WaitEnd = s.part, s.tries, s.waitEnd
	for _, id := range sortedKeys(s.rejected) {
		f.Reject = append(f.Reject, fmt.Sprintf("worker %d (%s): %s", m.members[id].Worker, id, s.rejected[id]))
	}
	m.seeks[s.part] = nil
	m.over[s.part] = max(m.over[s.part], int64(s.round))
	m.out = append(m.out, PairAction{Finish: &f})
}

func (m *Pairing) send(s *seek, to mesh.ID, number uint64, msg Message) {
	env := Envelope{Round: s.round, Attempt: number, Part: s.part, Worker: m.worker}
	m.out = append(m.out, PairAction{Send: &Send{to, env, msg}})
}

// reply answers a message of another round or exchange than the one at hand.
func (m *Pairing) reply(to mesh.ID, env Envelope, msg Message) {
	env.Worker = m.worker
	m.out = append(m.out, PairAction{Send: &Send{to, env, msg}})
}

func (m *Pairing) Take() []PairAction {
	out := m.out
	m.out = nil
	return out
}
