package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"loco/mesh"
)

// envelope is what the header of a control frame says.
type envelope struct {
	round   uint64
	attempt uint32
	part    Part
	worker  int // the sender's number
}

// message is the payload of a control frame.
type message interface {
	kind() frameType
	appendTo(dst []byte) []byte
}

// held describes a complete result of an attempt that may have been committed.
type held struct {
	attempt uint32 // 0: none
	hash    [32]byte
	workers []int // whose vectors are in the mean
}

// ready announces a worker that wants to average.
type ready struct {
	digest [32]byte
	weight float64
	length uint64 // values of the vector
	last   uint32 // newest attempt of the round that it entered and left
	have   held
}

// withdraw takes a Ready back.
type withdraw struct{}

// groupMember is one line of a group.
type groupMember struct {
	worker int
	id     mesh.ID
	weight float64
	has    bool // holds the result to adopt
}

// group closes a group. With adopt.attempt set, the member source sends that result
// to those who lack it, and nothing is averaged. Results of attempt drop are void.
type group struct {
	members []groupMember // ascending by worker
	adopt   held
	source  int // worker
	drop    uint32
}

// done says that a member holds everything.
type done struct{ hash [32]byte }

// commit says that a round is over: the result of the envelope's attempt counts.
type commit struct {
	hash, digest [32]byte // of the result, of the state the round started from
	length       uint64
	workers      []int
}

// failed ends an attempt.
type failed struct {
	who mesh.ID
	why string
}

// behind tells a peer that it cannot take part in the round it is ready for.
type behind struct {
	next uint64 // the round the sender is in
	why  string
}

// want asks for the bytes of a committed result.
type want struct{}

// offer proposes an exchange of a pair, accept agrees to it, and lonely asks anybody
// for an offer. The envelope's attempt tells exchanges apart.
type (
	offer  struct{ terms }
	accept struct{ terms }
	lonely struct{ terms }
)

// terms is what either side of a pair brings.
type terms struct {
	weight float64
	length uint64
}

// refuse declines an offer, or ends an exchange.
type refuse struct{ why string }

func (ready) kind() frameType    { return typeReady }
func (withdraw) kind() frameType { return typeWithdraw }
func (group) kind() frameType    { return typeGroup }
func (done) kind() frameType     { return typeDone }
func (commit) kind() frameType   { return typeCommit }
func (failed) kind() frameType   { return typeFailed }
func (behind) kind() frameType   { return typeBehind }
func (want) kind() frameType     { return typeWant }
func (offer) kind() frameType    { return typeOffer }
func (accept) kind() frameType   { return typeAccept }
func (refuse) kind() frameType   { return typeRefuse }
func (lonely) kind() frameType   { return typeLonely }

func (m ready) appendTo(dst []byte) []byte {
	dst = append(dst, m.digest[:]...)
	dst = appendFloat(dst, m.weight)
	dst = binary.LittleEndian.AppendUint64(dst, m.length)
	dst = binary.LittleEndian.AppendUint32(dst, m.last)
	return appendHeld(dst, m.have)
}

func (withdraw) appendTo(dst []byte) []byte { return dst }
func (want) appendTo(dst []byte) []byte     { return dst }

func (m group) appendTo(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(m.members)))
	for _, g := range m.members {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(g.worker))
		dst = appendFloat(dst, g.weight)
		has := byte(0)
		if g.has {
			has = 1
		}
		dst = append(dst, has)
		dst = appendString(dst, string(g.id))
	}
	dst = appendHeld(dst, m.adopt)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(m.source))
	return binary.LittleEndian.AppendUint32(dst, m.drop)
}

func (m done) appendTo(dst []byte) []byte { return append(dst, m.hash[:]...) }

func (m commit) appendTo(dst []byte) []byte {
	dst = append(append(dst, m.hash[:]...), m.digest[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, m.length)
	return appendWorkers(dst, m.workers)
}

func (m failed) appendTo(dst []byte) []byte {
	return appendString(appendString(dst, string(m.who)), cut(m.why))
}

func (m behind) appendTo(dst []byte) []byte {
	return appendString(binary.LittleEndian.AppendUint64(dst, m.next), cut(m.why))
}

func (m terms) appendTo(dst []byte) []byte {
	return binary.LittleEndian.AppendUint64(appendFloat(dst, m.weight), m.length)
}

func (m refuse) appendTo(dst []byte) []byte { return appendString(dst, cut(m.why)) }

func cut(s string) string { return s[:min(len(s), whyMax)] }

func appendFloat(dst []byte, x float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x))
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

func appendHeld(dst []byte, h held) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, h.attempt)
	dst = append(dst, h.hash[:]...)
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
	if w > workerMax {
		r.fail("worker number %d, at most %d is allowed", w, workerMax)
		return 0
	}
	return int(w)
}

func (r *parser) weight() float64 {
	w := math.Float64frombits(r.u64())
	if err := checkWeight(w); err != nil && r.err == nil {
		r.fail("%w", err)
	}
	return w
}

func (r *parser) length() uint64 {
	n := r.u64()
	if (n == 0 || n > lengthMax) && r.err == nil {
		r.fail("vector of %d values, want 1 … %d", n, lengthMax)
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
	if n > membersMax || 4*n > len(r.p) {
		r.fail("%d members, at most %d are allowed and %d bytes are left", n, membersMax, len(r.p))
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

func (r *parser) held() held {
	h := held{attempt: r.u32(), hash: r.hash(), workers: r.workers()}
	if h.attempt != 0 && len(h.workers) == 0 {
		r.fail("result of attempt %d is of nobody", h.attempt)
	}
	return h
}

func (r *parser) group() group {
	n := r.u16()
	if n == 0 || n > membersMax {
		r.fail("group of %d members, want 1 … %d", n, membersMax)
		return group{}
	}
	var g group
	for i := 0; i < n && r.err == nil; i++ {
		m := groupMember{worker: r.worker(), weight: r.weight(), has: r.u8() == 1, id: mesh.ID(r.text(idMax))}
		if i > 0 && m.worker <= g.members[i-1].worker {
			r.fail("worker %d follows %d, want them ascending", m.worker, g.members[i-1].worker)
		}
		g.members = append(g.members, m)
	}
	g.adopt, g.source, g.drop = r.held(), r.worker(), r.u32()
	return g
}

var errTrailing = errors.New("bytes follow the message")

// parseMessage reads the payload of a control frame of the type.
func parseMessage(t frameType, p []byte) (message, error) {
	r := &parser{p: p}
	var m message
	switch t {
	case typeReady:
		m = ready{digest: r.hash(), weight: r.weight(), length: r.length(), last: r.u32(), have: r.held()}
	case typeWithdraw:
		m = withdraw{}
	case typeGroup:
		m = r.group()
	case typeDone:
		m = done{hash: r.hash()}
	case typeCommit:
		c := commit{hash: r.hash(), digest: r.hash(), length: r.length(), workers: r.workers()}
		if len(c.workers) == 0 {
			r.fail("commit of a result of nobody")
		}
		m = c
	case typeFailed:
		m = failed{who: mesh.ID(r.text(idMax)), why: r.text(whyMax)}
	case typeBehind:
		m = behind{next: r.u64(), why: r.text(whyMax)}
	case typeWant:
		m = want{}
	case typeOffer:
		m = offer{r.terms()}
	case typeAccept:
		m = accept{r.terms()}
	case typeLonely:
		m = lonely{r.terms()}
	case typeRefuse:
		m = refuse{why: r.text(whyMax)}
	default:
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

func (r *parser) terms() terms { return terms{weight: r.weight(), length: r.length()} }
