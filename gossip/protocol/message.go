package protocol

import (
	"encoding/binary"
	"fmt"
	"math"

	"loco/mesh"
	"loco/mesh/wire"
)

// Envelope is what the header of a control frame says.
type Envelope struct {
	Round   uint64
	Attempt uint64
	Part    Part
	Worker  int // the sender's number
}

// Message is the payload of a control frame.
type Message interface {
	Kind() Type
	AppendTo(dst []byte) []byte
}

// held describes a complete result of an attempt that may have been committed.
type held struct {
	attempt uint64 // 0: none
	hash    [32]byte
	tokens  float64 // the divisor: Σ of their weights
	workers []int   // whose vectors are in the mean
}

// ready announces a worker that wants to average.
type ready struct {
	digest [32]byte // of the state that the round starts from
	tokens float64  // that all workers trained to get there
	weight float64
	length uint64 // values of the vector
	last   uint64 // newest attempt of the round that it entered and left
	voter  bool   // remembers all that it has promised: counts for a quorum
	have   held
	drop   []uint64 // attempts whose results are void: see group
}

// withdraw takes a Ready back.
type withdraw struct{}

// GroupMember is one line of a group.
type GroupMember struct {
	Worker int
	ID     mesh.ID
	Weight float64
	has    bool // holds the result to adopt
	voter  bool
}

// group closes a group. With adopt.attempt set, the member source sends that result
// to the members that lack it, and nothing is averaged. Results of the attempts in drop are void.
type group struct {
	members []GroupMember // ascending by worker
	digest  [32]byte      // of the state that all of them start from
	adopt   held
	source  int // worker
	drop    []uint64
}

// done says that a member holds everything.
type done struct{ hash [32]byte }

// commit says that a round is over: the result of the Envelope's attempt counts.
type commit struct {
	hash, digest [32]byte // of the result, of the state the round started from
	length       uint64
	base         float64 // tokens of the state the round started from
	tokens       float64 // in the mean
	workers      []int
}

// failed ends an attempt.
type failed struct {
	who mesh.ID
	why string
}

// behind tells a peer that the sender's state is ahead of the one that it is ready
// with, or outweighs it.
type behind struct {
	next   uint64   // the round the sender is in
	digest [32]byte // of the state that it starts from; zero amid the inner steps
	tokens float64
	why    string
}

// want asks for the bytes of a committed result.
type want struct{}

func (ready) Kind() Type    { return TypeReady }
func (withdraw) Kind() Type { return TypeWithdraw }
func (group) Kind() Type    { return TypeGroup }
func (done) Kind() Type     { return TypeDone }
func (commit) Kind() Type   { return TypeCommit }
func (failed) Kind() Type   { return TypeFailed }
func (behind) Kind() Type   { return TypeBehind }
func (want) Kind() Type     { return TypeWant }

func (m ready) AppendTo(dst []byte) []byte {
	dst = append(dst, m.digest[:]...)
	dst = wire.AppendFloat64(wire.AppendFloat64(dst, m.tokens), m.weight)
	dst = binary.LittleEndian.AppendUint64(dst, m.length)
	dst = binary.LittleEndian.AppendUint64(dst, m.last)
	dst = wire.AppendFlags(dst, m.voter)
	return appendAttempts(appendHeld(dst, m.have), m.drop)
}

func (withdraw) AppendTo(dst []byte) []byte { return dst }
func (want) AppendTo(dst []byte) []byte     { return dst }

func (m group) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.members)))
	for _, g := range m.members {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(g.Worker))
		dst = wire.AppendFloat64(dst, g.Weight)
		dst = wire.AppendFlags(dst, g.has, g.voter)
		dst = wire.AppendText16(dst, string(g.ID))
	}
	dst = append(dst, m.digest[:]...)
	dst = appendHeld(dst, m.adopt)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.source))
	return appendAttempts(dst, m.drop)
}

func (m done) AppendTo(dst []byte) []byte { return append(dst, m.hash[:]...) }

func (m commit) AppendTo(dst []byte) []byte {
	dst = append(append(dst, m.hash[:]...), m.digest[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, m.length)
	dst = wire.AppendFloat64(wire.AppendFloat64(dst, m.base), m.tokens)
	return appendWorkers(dst, m.workers)
}

func (m failed) AppendTo(dst []byte) []byte {
	return wire.AppendText16(wire.AppendText16(dst, string(m.who)), cut(m.why))
}

func (m behind) AppendTo(dst []byte) []byte {
	dst = append(binary.LittleEndian.AppendUint64(dst, m.next), m.digest[:]...)
	return wire.AppendText16(wire.AppendFloat64(dst, m.tokens), cut(m.why))
}

func cut(s string) string { return s[:min(len(s), whyMax)] }

func appendWorkers(dst []byte, workers []int) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(workers)))
	for _, w := range workers {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(w))
	}
	return dst
}

func appendAttempts(dst []byte, attempts []uint64) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(attempts)))
	for _, n := range attempts {
		dst = binary.LittleEndian.AppendUint64(dst, n)
	}
	return dst
}

func appendHeld(dst []byte, h held) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, h.attempt)
	dst = append(dst, h.hash[:]...)
	dst = wire.AppendFloat64(dst, h.tokens)
	return appendWorkers(dst, h.workers)
}

// reader reads what messages have in common.
type reader struct{ *wire.Reader }

func (r reader) worker(field string) int { return r.Max32(field, WorkerMax) }

func (r reader) weight() float64 {
	w := r.Float64("weight")
	if err := CheckWeight(w); err != nil {
		r.Fail("weight", "%w", err)
	}
	return w
}

// tokens is a sum of weights: not negative and finite.
func (r reader) tokens(field string) float64 {
	w := r.Float64(field)
	if !(w >= 0) || math.IsInf(w, 0) {
		r.Fail(field, "%v, want a finite number that is not negative", w)
		return 0
	}
	return w
}

func (r reader) length() uint64 {
	n := r.Uint64("length")
	if n == 0 || n > LengthMax {
		r.Fail("length", "%d values, want 1 to %d", n, LengthMax)
	}
	return n
}

func (r reader) id(field string) mesh.ID { return mesh.ID(r.Bytes16(field, idMax)) }
func (r reader) why() string             { return string(r.Bytes16("why", whyMax)) }

func (r reader) workers() (out []int) {
	r.Each("worker", r.Count16("workers", MembersMax, 4), func(i int) {
		w := r.worker("number")
		if i > 0 && w <= out[i-1] {
			r.Fail("number", "%d follows %d, want them ascending", w, out[i-1])
		}
		out = append(out, w)
	})
	return out
}

func (r reader) attempts() (out []uint64) {
	r.Each("void attempt", r.Count16("void attempts", dropsMax, 8), func(int) { out = append(out, r.Uint64("number")) })
	return out
}

func (r reader) held() held {
	h := held{attempt: r.Uint64("held attempt"), hash: r.Sum("held hash"), tokens: r.tokens("held tokens"), workers: r.workers()}
	if h.attempt != 0 && len(h.workers) == 0 {
		r.Fail("held workers", "the result of attempt %d is of nobody", h.attempt)
	}
	return h
}

func (r reader) group() group {
	n := r.Count16("members", MembersMax, memberFixed)
	if n == 0 {
		r.Fail("members", "0, want 1 to %d", MembersMax)
	}
	var g group
	r.Each("member", n, func(i int) {
		m := GroupMember{Worker: r.worker("worker"), Weight: r.weight()}
		flags := r.Flags("flags", 3)
		m.has, m.voter, m.ID = flags&1 != 0, flags&2 != 0, r.id("ID")
		if i > 0 && m.Worker <= g.members[i-1].Worker {
			r.Fail("worker", "%d follows %d, want them ascending", m.Worker, g.members[i-1].Worker)
		}
		g.members = append(g.members, m)
	})
	g.digest = r.Sum("digest")
	g.adopt, g.source, g.drop = r.held(), r.worker("source"), r.attempts()
	return g
}

// ParseMessage reads the payload of a control frame of the type.
func ParseMessage(t Type, p []byte) (Message, error) {
	r := reader{wire.Read(p)}
	var m Message
	switch t {
	case TypeReady:
		m = ready{digest: r.Sum("digest"), tokens: r.tokens("tokens"), weight: r.weight(), length: r.length(), last: r.Uint64("last"),
			voter: r.Bool("voter"), have: r.held(), drop: r.attempts()}
	case TypeWithdraw:
		m = withdraw{}
	case TypeGroup:
		m = r.group()
	case TypeDone:
		m = done{hash: r.Sum("hash")}
	case TypeCommit:
		c := commit{hash: r.Sum("hash"), digest: r.Sum("digest"), length: r.length(), base: r.tokens("base"), tokens: r.tokens("tokens"), workers: r.workers()}
		if len(c.workers) == 0 {
			r.Fail("workers", "the result is of nobody")
		}
		m = c
	case TypeFailed:
		m = failed{who: r.id("who"), why: r.why()}
	case TypeBehind:
		m = behind{next: r.Uint64("next"), digest: r.Sum("digest"), tokens: r.tokens("tokens"), why: r.why()}
	case TypeWant:
		m = want{}
	default:
		if m = r.pair(t); m != nil {
			break
		}
		return nil, fmt.Errorf("frame type %d is not a control message", t)
	}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", t, err)
	}
	return m, nil
}

// Describe says what a message is, for logs and traces.
func Describe(m Message) string {
	switch m := m.(type) {
	case ready:
		return fmt.Sprintf("ready %x of %.0f tokens, weight %.0f, last %d, voter %v, holds %d/%x of %v", m.digest[:3], m.tokens, m.weight, m.last, m.voter, m.have.attempt, m.have.hash[:3], m.have.workers)
	case group:
		var workers []int
		for _, g := range m.members {
			workers = append(workers, g.Worker)
		}
		return fmt.Sprintf("group %v from %x, adopts %d/%x of %d, drops %v", workers, m.digest[:3], m.adopt.attempt, m.adopt.hash[:3], m.source, m.drop)
	case done:
		return fmt.Sprintf("done %x", m.hash[:3])
	case commit:
		return fmt.Sprintf("commit %x of %v from %x of %.0f tokens", m.hash[:3], m.workers, m.digest[:3], m.base)
	case failed:
		return fmt.Sprintf("failed %s: %s", m.who, m.why)
	case behind:
		return fmt.Sprintf("behind: is in round %d, %x of %.0f tokens", m.next, m.digest[:3], m.tokens)
	case withdraw:
		return "withdraw"
	case want:
		return "want"
	}
	return fmt.Sprintf("%T %+v", m, m)
}
