package swim

import (
	"encoding/binary"
	"fmt"

	"loco/mesh"
	"loco/mesh/wire"
)

// Limits of a message.
const (
	maxRumors       = 64
	maxIDBytes      = 128
	messageFixed    = 1 + 8 + 12 + 1 + 1
	rumorFixed      = 1 + 12 + 1
	MaxMessageBytes = messageFixed + maxIDBytes + maxRumors*(rumorFixed+maxIDBytes)
)

// Kind says what a message wants. Append only: a number is never reused.
type Kind uint8

// Kinds of messages.
const (
	Ping    Kind = 1 // an ack, please
	Ask     Kind = 2 // ping the target for me
	Ack     Kind = 3 // I am here
	Vouched Kind = 4 // the target of your Ask answered me
)

// Say is what a rumor says of a member. Append only: a number is never reused.
type Say uint8

// What rumors say, in the order in which one overrides another of its incarnation.
const (
	SayAlive   Say = 1
	SaySuspect Say = 2
	SayDead    Say = 3
	SayLeft    Say = 4
)

// Incarnation orders what is said of one member.
type Incarnation struct {
	Life    uint64 // a restarted process has a larger one
	Refuted uint32 // raised by the member alone, to refute
}

// Before reports whether i is older than o.
func (i Incarnation) Before(o Incarnation) bool {
	return i.Life < o.Life || i.Life == o.Life && i.Refuted < o.Refuted
}

// Rumor is what members tell each other of a third.
type Rumor struct {
	Say         Say
	Of          mesh.ID
	Incarnation Incarnation
}

// Message is what members send each other.
type Message struct {
	Kind        Kind
	Number      uint64      // of the ping that this belongs to; an Ack has its ping's
	Incarnation Incarnation // of the sender
	Target      mesh.ID     // of an Ask
	Rumors      []Rumor     // at most 64
}

// Envelope is a message with its receiver.
type Envelope struct {
	To      mesh.ID
	Message Message
}

// AppendMessage appends the encoding of g to dst; the package comment has the layout.
// Rumors over the limit, and those with an ID over it, are left out.
func AppendMessage(dst []byte, g Message) []byte {
	dst = append(dst, byte(g.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, g.Number)
	dst = appendIncarnation(dst, g.Incarnation)
	target := g.Target
	if len(target) > maxIDBytes {
		target = "" // nobody has such an ID
	}
	dst = wire.AppendText8(dst, string(target))
	at := len(dst)
	dst = append(dst, 0)
	for _, r := range g.Rumors {
		if dst[at] == maxRumors {
			break
		}
		if len(r.Of) > maxIDBytes {
			continue
		}
		dst = append(dst, byte(r.Say))
		dst = appendIncarnation(dst, r.Incarnation)
		dst = wire.AppendText8(dst, string(r.Of))
		dst[at]++
	}
	return dst
}

func appendIncarnation(dst []byte, i Incarnation) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, i.Life)
	return binary.LittleEndian.AppendUint32(dst, i.Refuted)
}

// ParseMessage decodes one message that fills src.
func ParseMessage(src []byte) (Message, error) {
	g, err := parseMessage(src)
	if err != nil {
		return Message{}, fmt.Errorf("swim: message of %d bytes: %w", len(src), err)
	}
	return g, nil
}

func parseMessage(src []byte) (g Message, err error) {
	r := wire.Read(src)
	if g.Kind = Kind(r.Uint8("kind")); g.Kind < Ping || g.Kind > Vouched {
		r.Fail("kind", "%d, want %d to %d", g.Kind, Ping, Vouched)
	}
	g.Number = r.Uint64("number")
	g.Incarnation = readIncarnation(r)
	g.Target = mesh.ID(r.Text8("target", maxIDBytes))
	if (g.Kind == Ask) != (g.Target != "") {
		r.Fail("target", "%q in a message of kind %d: an ask has one, and nothing else", g.Target, g.Kind)
	}
	r.Each("rumor", r.Count8("rumors", maxRumors, rumorFixed), func(int) {
		g.Rumors = append(g.Rumors, readRumor(r))
	})
	return g, r.End()
}

func readRumor(r *wire.Reader) (u Rumor) {
	if u.Say = Say(r.Uint8("say")); u.Say < SayAlive || u.Say > SayLeft {
		r.Fail("say", "%d, want %d to %d", u.Say, SayAlive, SayLeft)
	}
	u.Incarnation = readIncarnation(r)
	u.Of = mesh.ID(r.Text8("ID", maxIDBytes))
	return u
}

func readIncarnation(r *wire.Reader) Incarnation {
	return Incarnation{Life: r.Uint64("life"), Refuted: r.Uint32("refuted")}
}
