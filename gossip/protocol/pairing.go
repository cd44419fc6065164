package protocol

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"loco/mesh"
)

// PairingConfig is what does not change in the life of a process.
type PairingConfig struct {
	Self            mesh.ID
	Worker          int
	Seed            uint64 // of the matching; the same on every worker
	Lag             uint64 // rounds that partners may be apart
	Deadline, Grace time.Duration
	// Nonce is random: with it no exchange of this process has the number of one of its
	// former self.
	Nonce uint32
}

// Pairing is the state machine of the pair exchange: what it takes in and gives out
// is as for rounds. Each part seeks on its own, but within a round both ask the same
// partner first.
type Pairing struct {
	PairingConfig

	members   map[mesh.ID]mesh.Member
	live      []mesh.ID // other workers that may average, ascending by worker
	round     uint64    // the newest round that was started, and its partner
	partner   mesh.ID   // "": none
	chosen    bool
	mostRound uint64    // a round that most of the others have finished, and this worker has not,
	mostAt    time.Time // and since when
	seeks     [2]*seek
	over      [2]int64 // the newest round that each part has finished; −1: none
	offers    map[proposal]proposed
	lonelies  map[proposal]proposed
	heard     map[mesh.ID]word    // the newest of each peer
	ended     map[proposal]ending // the last exchange with each peer
	taken     []taking            // vectors that are in this worker's state
	try       uint32

	out []PairAction
}

// proposal is where an offer or a call of a lonely worker comes from.
type proposal struct {
	from mesh.ID
	part Part
}

// word is the newest round that a peer has named, and its newest offer for each part.
type word struct {
	round  uint64
	offers [2]uint64
}

// proposed is an offer or a call as it was received.
type proposed struct {
	env Envelope
	terms
}

// seek is one Average under way.
//
// Invariant: mine and theirs only within an exchange. With mine and theirs it is applied;
// with mine alone this worker is in doubt, because its partner may have applied it.
type seek struct {
	part     Part
	round    uint64
	own      terms
	started  time.Time
	matched  mesh.ID // partner by the matching
	lonely   bool
	order    []mesh.ID // whom it tells that it is lonely
	told     int       // how many of them it has told
	toldAt   time.Time
	askedAt  time.Time
	waitEnd  time.Time
	declined map[mesh.ID]bool
	rejected map[mesh.ID]string
	tries    int
	bond
}

// bond is what a seek has with one peer. A seek that leaves the peer replaces it whole.
type bond struct {
	peer       mesh.ID // asked, or exchanged with; "": none
	number     uint64
	exchange   bool // both agreed
	peerWorker int  // of the exchange
	peerRound  uint64
	mine       bool // this worker has all bytes, and has said so
	theirs     bool // the partner has said so
	saidAt     time.Time
	goneAt     time.Time // since when the partner of a doubt is away; zero: it is not
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
	Torn    bool // alone, and the partner may have applied the exchange
	Tries   int
	WaitEnd time.Time
	Reject  []string
}

// NewPairing returns the machine of a process that has just begun.
func NewPairing(c PairingConfig) *Pairing {
	return &Pairing{
		PairingConfig: c, over: [2]int64{-1, -1}, members: map[mesh.ID]mesh.Member{},
		offers: map[proposal]proposed{}, lonelies: map[proposal]proposed{},
		heard: map[mesh.ID]word{}, ended: map[proposal]ending{},
	}
}

// Start begins to seek a partner for one part of a round.
func (m *Pairing) Start(now time.Time, part Part, round uint64, weight float64, length int) {
	s := &seek{part: part, round: round, own: terms{weight, uint64(length)}, started: now, waitEnd: now, askedAt: now,
		declined: map[mesh.ID]bool{}, rejected: map[mesh.ID]string{}}
	m.seeks[part] = s
	m.forget(now, part, round)
	if ahead := m.ahead(round + m.Lag + 1); 2*ahead > len(m.live) {
		m.finish(now, s, PairFinish{Partner: -1, Behind: fmt.Sprintf("%d of %d other workers are more than %d rounds ahead of round %d", ahead, len(m.live), m.Lag+1, round)})
		return
	}
	if !m.chosen || m.round != round {
		m.chosen, m.round, m.partner = true, round, m.match(round)
	}
	if s.matched = m.partner; s.matched == "" {
		m.finish(now, s, PairFinish{Partner: -1})
		return
	}
	m.choose(now, s)
}

// ahead counts the live workers that have finished the round.
func (m *Pairing) ahead(round uint64) (n int) {
	for _, id := range m.live {
		if m.at(id) > round {
			n++
		}
	}
	return n
}

// Over says that most of the others have finished a round in which this worker still
// trains, or wait in it, and that its partner has given it up or soon will. So will those of
// the next rounds, unless it stops now: then it is with them from the next round on. Before
// half of Grace nothing is over unless the partner has left, so that a run that nothing
// disturbs does the same steps every time.
func (m *Pairing) Over(now time.Time, round uint64) bool {
	n := m.ahead(round)
	for key, p := range m.lonelies {
		if key.part == Delta && p.env.Round >= round && !m.passed(key.from, round) {
			n++
		}
	}
	if 2*n <= len(m.live) {
		m.mostAt = time.Time{}
		return false
	}
	if m.mostAt.IsZero() || m.mostRound != round {
		m.mostAt, m.mostRound = now, round
	}
	partner := m.partner
	if !m.chosen || m.round != round {
		partner = m.match(round)
	}
	call, called := m.lonelies[proposal{partner, Delta}]
	return now.Sub(m.mostAt) >= m.Grace/2 || partner != "" && (m.absent(partner) || m.passed(partner, round) || called && call.env.Round >= round)
}

// Abort ends a seek alone.
func (m *Pairing) Abort(now time.Time, part Part) {
	if s := m.seeks[part]; s != nil {
		m.finish(now, s, PairFinish{Partner: -1})
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

// View takes in the members as the mesh sees them now. What a peer's former process said
// is forgotten.
func (m *Pairing) View(now time.Time, members []mesh.Member) {
	clear(m.members)
	m.live = m.live[:0]
	for _, p := range members {
		m.members[p.ID] = p
		if p.ID != m.Self && !m.absent(p.ID) && !p.Done {
			m.live = append(m.live, p.ID)
		}
	}
	slices.SortFunc(m.live, func(a, b mesh.ID) int {
		return cmp.Or(cmp.Compare(m.members[a].Worker, m.members[b].Worker), cmp.Compare(a, b))
	})
	for _, said := range []map[proposal]proposed{m.offers, m.lonelies} {
		for key := range said {
			if m.absent(key.from) {
				delete(said, key)
			}
		}
	}
	for id := range m.heard {
		if m.absent(id) {
			delete(m.heard, id)
		}
	}
	for _, s := range m.seeks {
		switch {
		case s == nil:
		case s.mine:
			m.watchDoubt(now, s)
		case s.peer != "" && m.absent(s.peer):
			m.Fail(now, s.part, s.number, "")
		case s.peer == "" && !s.lonely:
			m.choose(now, s)
		default:
			m.checkAlone(now, s)
		}
	}
}

// Fail takes in that the exchange number broke, and by whose fault if why says so. One
// that is in doubt needs no more data.
func (m *Pairing) Fail(now time.Time, part Part, number uint64, why string) {
	s := m.seeks[part]
	if s == nil || s.number != number || s.peer == "" || s.mine {
		return
	}
	if why != "" {
		s.rejected[s.peer] = why
	}
	s.declined[s.peer] = true
	if !m.absent(s.peer) {
		m.send(s, s.peer, s.number, refuse{"the exchange broke"})
	}
	m.drop(now, s)
	m.goLonely(now, s)
}

// Tick moves what only time moves.
func (m *Pairing) Tick(now time.Time) {
	for _, s := range m.seeks {
		switch {
		case s == nil:
		case now.Sub(s.started) >= m.Deadline:
			if s.peer != "" {
				m.send(s, s.peer, s.number, refuse{"is out of time"})
			}
			m.finish(now, s, PairFinish{Partner: -1})
		case s.mine:
			m.remind(now, s)
		case s.exchange:
		case s.lonely && s.peer == "":
			if !m.early(s) && now.Sub(s.askedAt) >= m.lonelyMax(s) {
				m.finish(now, s, PairFinish{Partner: -1})
				continue
			}
			if now.Sub(s.toldAt) >= m.Grace/4 {
				m.tell(now, s, tellMore)
			}
			m.checkAlone(now, s)
		case now.Sub(s.askedAt) >= m.patience(s) || s.peer != "" && m.passed(s.peer, s.round+m.Lag):
			if s.peer != "" {
				m.send(s, s.peer, s.number, refuse{"waited long enough"})
			}
			m.goLonely(now, s)
		case s.peer == "":
			m.choose(now, s)
		}
	}
}

// Take returns what is to be done since the last call.
func (m *Pairing) Take() []PairAction {
	out := m.out
	m.out = nil
	return out
}

// Size is the number of things that the machine remembers. It is bounded by a few for
// each peer in the view.
func (m *Pairing) Size() int {
	return len(m.offers) + len(m.lonelies) + len(m.heard) + len(m.ended) + len(m.taken)
}

// Receive takes in a message of a peer.
func (m *Pairing) Receive(now time.Time, from mesh.ID, env Envelope, msg Message) {
	w := m.heard[from]
	w.round = env.Round
	m.heard[from] = w
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
	case meet:
		if s != nil && s.lonely && s.peer == "" && s.rejected[msg.who] == "" && !s.declined[msg.who] && !m.absent(msg.who) && m.members[msg.who].Worker > m.Worker {
			m.ask(now, s, msg.who)
		}
	case holds:
		m.onHolds(now, s, from, env, msg)
	case forgot:
		if s != nil && s.mine && s.peer == from && s.number == env.Attempt {
			m.finish(now, s, PairFinish{Partner: -1})
		}
	}
}

func (m *Pairing) finish(now time.Time, s *seek, f PairFinish) {
	applied := f.Partner >= 0
	if s.exchange {
		f.Torn = !applied && s.mine
		m.end(now, s, applied)
		if applied {
			m.taken = append(m.taken, taking{s.peer, s.part, s.peerRound})
		} else {
			m.out = append(m.out, PairAction{Stop: &s.part})
		}
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
	env := Envelope{Round: s.round, Attempt: number, Part: s.part, Worker: m.Worker}
	m.out = append(m.out, PairAction{Send: &Send{to, env, msg}})
}

// reply answers a message of another exchange than the one at hand, and says in which
// round this worker is.
func (m *Pairing) reply(to mesh.ID, env Envelope, msg Message) {
	env.Worker, env.Round = m.Worker, max(m.round, uint64(m.over[Delta]+1))
	m.out = append(m.out, PairAction{Send: &Send{to, env, msg}})
}
