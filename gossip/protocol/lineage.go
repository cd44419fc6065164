package protocol

import (
	"encoding/binary"
	"fmt"

	"loco/mesh"
)

// place is where a worker stands: the state that its round starts from. The states of a
// run form a lineage, because each follows from the one before and the bytes of a round; a
// partition may fork it. Of two states the one that more tokens were trained for wins.
type place struct {
	known  bool
	round  uint64
	digest [32]byte // zero amid the inner steps: only the trainer knows it then
	tokens float64
}

// base is what the members of a round must agree on: the digest of the state that it starts from, and
// the tokens by which states are compared. Where replicas differ it is the round's number alone: a
// state of a later round is ahead, and none of the same round outweighs another.
func (m *Rounds) base(round uint64, digest [32]byte, tokens float64) ([32]byte, float64) {
	if !m.Unequal {
		return digest, tokens
	}
	number := [32]byte{31: 1} // no round's is that of a worker amid its inner steps, which is 0
	binary.LittleEndian.PutUint64(number[:], round)
	return number, float64(round)
}

// after is what the state of a committed round weighs.
func (m *Rounds) after(c committed) float64 {
	_, tokens := m.base(c.round+1, [32]byte{}, c.base+c.tokens)
	return tokens
}

// outweighed returns a peer whose state wins over this worker's though it is in no later
// round: its lineage is another. A peer in a later round says so itself, and may have the
// bytes that this worker lacks.
func (m *Rounds) outweighed() (mesh.ID, string) {
	for _, id := range sortedKeys(m.readys) {
		p := m.readys[id]
		if p.round <= m.own.round && p.digest != m.own.digest && p.tokens > m.own.tokens && !m.gone(id) {
			return id, fmt.Sprintf("worker %d starts round %d from a state of %.0f tokens, this one of %.0f", p.worker, p.round, p.tokens, m.own.tokens)
		}
	}
	return "", ""
}

// Over says that the others have committed the round that this worker trains for, from a
// state of tokens, so that no more of its steps will count in it.
func (m *Rounds) Over(round uint64, tokens float64) bool {
	if m.active {
		return false
	}
	_, tokens = m.base(round, [32]byte{}, tokens)
	for id, c := range m.commits {
		if c.round >= round && c.base >= tokens && !m.gone(id) {
			return true
		}
	}
	return false
}

// answer tells a peer that is ready with another state than this worker's what to do.
// It returns whether the peer may be in a group with this worker.
func (m *Rounds) answer(r announced) bool {
	switch {
	case m.kept.attempt != 0 && r.round == m.kept.round && r.digest == m.kept.digest && r.length == m.kept.length:
		delete(m.readys, r.id)
		m.sendKept(r.id)
		return false
	case !m.place.known, !m.active && r.round >= m.place.round: // Start will look at it
		return false
	case m.active && r.round == m.own.round && r.digest == m.own.digest:
		return true
	case r.tokens < m.place.tokens, r.tokens == m.place.tokens && r.round < m.place.round:
		if r.round < m.place.round {
			delete(m.readys, r.id)
		}
		m.sendBehind(r.id, r.round)
	}
	return false
}

func (m *Rounds) sendKept(to mesh.ID) {
	env := Envelope{Round: m.kept.round, Attempt: m.kept.attempt, Part: m.Part, Worker: m.Worker}
	m.out = append(m.out, Action{Send: &Send{to, env, m.kept.commit}})
}

func (m *Rounds) sendBehind(to mesh.ID, round uint64) {
	why := fmt.Sprintf("the group is in round %d with a state of %.0f tokens", m.place.round, m.place.tokens)
	env := Envelope{Round: round, Part: m.Part, Worker: m.Worker}
	m.out = append(m.out, Action{Send: &Send{to, env, behind{m.place.round, m.place.digest, m.place.tokens, why}}})
}

// answerOver tells a peer in a round that is over here what became of it.
func (m *Rounds) answerOver(to mesh.ID, round uint64) {
	switch {
	case m.kept.attempt != 0 && round == m.kept.round:
		m.sendKept(to)
	case m.place.known:
		m.sendBehind(to, round)
	}
}

// over says that this worker has committed the round, or a later one.
func (m *Rounds) over(round uint64) bool { return m.kept.attempt != 0 && round <= m.kept.round }

// onBehind believes a heavier state, and of one that weighs the same a coordinator or
// half of the live.
func (m *Rounds) onBehind(from mesh.ID, b behind) {
	if !m.active || b.tokens < m.own.tokens || b.digest == m.own.digest || m.Unequal && b.next <= m.own.round {
		return // of replicas that differ it was about an earlier round
	}
	if b.tokens > m.own.tokens {
		m.finishBehind(from, b.why)
		return
	}
	if m.attempt != nil {
		return
	}
	m.votes[from] = b
	live := 0
	for id, p := range m.members {
		if id != m.Self && waitedFor(p) {
			live++
		}
	}
	in, others, _ := m.census()
	if 2*len(m.votes) >= live || lowest(in, others).id == from {
		m.finishBehind(from, b.why)
	}
}

func (m *Rounds) finishBehind(source mesh.ID, why string) {
	m.broadcast(0, withdraw{})
	// What it said has had its effect. If it still holds it says so again.
	delete(m.readys, source)
	delete(m.commits, source)
	m.place.known = false
	m.finish(Finish{Behind: why, Source: source})
}
