package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"loco/mesh"
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
// to those who lack it, and nothing is averaged. Results of the attempts in drop are void.
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
	dst = appendFloat(appendFloat(dst, m.tokens), m.weight)
	dst = binary.LittleEndian.AppendUint64(dst, m.length)
	dst = binary.LittleEndian.AppendUint64(dst, m.last)
	dst = appendFlags(dst, m.voter)
	return appendAttempts(appendHeld(dst, m.have), m.drop)
}

func (withdraw) AppendTo(dst []byte) []byte { return dst }
func (want) AppendTo(dst []byte) []byte     { return dst }

func (m group) AppendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.members)))
	for _, g := range m.members {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(g.Worker))
		dst = appendFloat(dst, g.Weight)
		dst = appendFlags(dst, g.has, g.voter)
		dst = appendString(dst, string(g.ID))
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
	dst = appendFloat(appendFloat(dst, m.base), m.tokens)
	return appendWorkers(dst, m.workers)
}

func (m failed) AppendTo(dst []byte) []byte {
	return appendString(appendString(dst, string(m.who)), cut(m.why))
}

func (m behind) AppendTo(dst []byte) []byte {
	dst = append(binary.LittleEndian.AppendUint64(dst, m.next), m.digest[:]...)
	return appendString(appendFloat(dst, m.tokens), cut(m.why))
}

func cut(s string) string { return s[:min(len(s), whyMax)] }

func appendFloat(dst []byte, x float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x))
}

// appendFlags appends a byte whose bit i is flag i.
func appendFlags(dst []byte, flags ...bool) []byte {
	b := byte(0)
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return append(dst, b)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(s))), s...)
}

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
	dst = appendFloat(dst, h.tokens)
	return appendWorkers(dst, h.workers)
}

// parser takes fields off a payload; the first that is not there or not allowed sets
// err, and what follows yields zero values.
type parser struct {
	p   []byte
	err error
}

func (r *parser) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.p = nil
}

func (r *parser) take(n int) []byte {
	if len(r.p) < n {
		r.fail("payload ends %d bytes early", n-len(r.p))
		return make([]byte, min(n, 64))[:min(n, 64)]
	}
	out := r.p[:n]
	r.p = r.p[n:]
	return out
}

func (r *parser) u8() byte       { return r.take(1)[0] }
func (r *parser) u16() int       { return int(binary.LittleEndian.Uint16(r.take(2))) }
func (r *parser) u32() uint32    { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *parser) u64() uint64    { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *parser) hash() [32]byte { return [32]byte(r.take(32)) }

func (r *parser) worker() int {
	w := r.u32()
	if w > WorkerMax {
		r.fail("worker number %d, at most %d is allowed", w, WorkerMax)
		return 0
	}
	return int(w)
}

func (r *parser) weight() float64 {
	w := math.Float64frombits(r.u64())
	if err := CheckWeight(w); err != nil && r.err == nil {
		r.fail("%w", err)
	}
	return w
}

// tokens is a sum of weights: not negative and finite.
func (r *parser) tokens() float64 {
	w := math.Float64frombits(r.u64())
	if !(w >= 0) || math.IsInf(w, 0) {
		r.fail("%v tokens, want a finite number that is not negative", w)
		return 0
	}
	return w
}

// flags is a byte of n flags.
func (r *parser) flags(n int) byte {
	b := r.u8()
	if b>>n != 0 {
		r.fail("flags %08b, this program knows %d", b, n)
	}
	return b
}

func (r *parser) length() uint64 {
	n := r.u64()
	if (n == 0 || n > LengthMax) && r.err == nil {
		r.fail("vector of %d values, want 1 … %d", n, LengthMax)
	}
	return n
}

func (r *parser) text(limit int) string {
	n := r.u16()
	if n > limit {
		r.fail("text of %d bytes, at most %d are allowed", n, limit)
		return ""
	}
	if len(r.p) < n {
		r.fail("payload ends %d bytes early", n-len(r.p))
		return ""
	}
	return string(r.take(n))
}

func (r *parser) workers() []int {
	n := r.u16()
	if n > MembersMax || 4*n > len(r.p) {
		r.fail("%d members, at most %d are allowed and %d bytes are left", n, MembersMax, len(r.p))
		return nil
	}
	var out []int
	for range n {
		w := r.worker()
		if len(out) > 0 && w <= out[len(out)-1] {
			r.fail("worker %d follows %d, want them ascending", w, out[len(out)-1])
			return nil
		}
		out = append(out, w)
	}
	return out
}

func (r *parser) attempts() (out []uint64) {
	n := r.u16()
	if n > dropsMax {
		r.fail("%d attempts are void, at most %d are allowed", n, dropsMax)
		return nil
	}
	for i := 0; i < n && r.err == nil; i++ {
		out = append(out, r.u64())
	}
	return out
}

func (r *parser) held() held {
	h := held{attempt: r.u64(), hash: r.hash(), tokens: r.tokens(), workers: r.workers()}
	if h.attempt != 0 && len(h.workers) == 0 {
		r.fail("result of attempt %d is of nobody", h.attempt)
	}
	return h
}

func (r *parser) group() group {
	n := r.u16()
	if n == 0 || n > MembersMax {
		r.fail("group of %d members, want 1 … %d", n, MembersMax)
		return group{}
	}
	var g group
	for i := 0; i < n && r.err == nil; i++ {
		m := GroupMember{Worker: r.worker(), Weight: r.weight()}
		flags := r.flags(2)
		m.has, m.voter, m.ID = flags&1 != 0, flags&2 != 0, mesh.ID(r.text(idMax))
		if i > 0 && m.Worker <= g.members[i-1].Worker {
			r.fail("worker %d follows %d, want them ascending", m.Worker, g.members[i-1].Worker)
		}
		g.members = append(g.members, m)
	}
	g.digest = r.hash()
	g.adopt, g.source, g.drop = r.held(), r.worker(), r.attempts()
	return g
}

var errTrailing = errors.New("bytes follow the message")

// ParseMessage reads the payload of a control frame of the type.
func ParseMessage(t Type, p []byte) (Message, error) {
	r := &parser{p: p}
	var m Message
	switch t {
	case TypeReady:
		m = ready{digest: r.hash(), tokens: r.tokens(), weight: r.weight(), length: r.length(), last: r.u64(),
			voter: r.flags(1) != 0, have: r.held(), drop: r.attempts()}
	case TypeWithdraw:
		m = withdraw{}
	case TypeGroup:
		m = r.group()
	case TypeDone:
		m = done{hash: r.hash()}
	case TypeCommit:
		c := commit{hash: r.hash(), digest: r.hash(), length: r.length(), base: r.tokens(), tokens: r.tokens(), workers: r.workers()}
		if len(c.workers) == 0 {
			r.fail("commit of a result of nobody")
		}
		m = c
	case TypeFailed:
		m = failed{who: mesh.ID(r.text(idMax)), why: r.text(whyMax)}
	case TypeBehind:
		m = behind{next: r.u64(), digest: r.hash(), tokens: r.tokens(), why: r.text(whyMax)}
	case TypeWant:
		m = want{}
	default:
		if m = r.pair(t); m != nil {
			break
		}
		return nil, fmt.Errorf("frame type %d is not a control message", t)
	}
	if r.err == nil && len(r.p) > 0 {
		r.err = errTrailing
	}
	if r.err != nil {
		return nil, fmt.Errorf("message type %d: %w", t, r.err)
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
