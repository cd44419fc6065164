package swim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"loco/mesh"
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

var errShort = errors.New("cut short")

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
	dst = appendID(dst, target)
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
		dst = appendID(dst, r.Of)
		dst[at]++
	}
	return dst
}

func appendIncarnation(dst []byte, i Incarnation) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, i.Life)
	return binary.LittleEndian.AppendUint32(dst, i.Refuted)
}

func appendID(dst []byte, id mesh.ID) []byte {
	return append(append(dst, byte(len(id))), id...)
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
	if len(src) < messageFixed {
		return g, errShort
	}
	if g.Kind = Kind(src[0]); g.Kind < Ping || g.Kind > Vouched {
		return g, fmt.Errorf("kind %d: want %d to %d", g.Kind, Ping, Vouched)
	}
	g.Number = binary.LittleEndian.Uint64(src[1:])
	g.Incarnation = parseIncarnation(src[9:])
	if g.Target, src, err = parseID(src[21:]); err != nil {
		return g, fmt.Errorf("target: %w", err)
	}
	if (g.Kind == Ask) != (g.Target != "") {
		return g, fmt.Errorf("kind %d with target %q: an ask has one, and nothing else", g.Kind, g.Target)
	}
	if len(src) < 1 {
		return g, errShort
	}
	n := int(src[0])
	src = src[1:]
	if n > maxRumors {
		return g, fmt.Errorf("%d rumors: at most %d", n, maxRumors)
	}
	for range n {
		var r Rumor
		if r, src, err = parseRumor(src); err != nil {
			return g, fmt.Errorf("rumor %d: %w", len(g.Rumors), err)
		}
		g.Rumors = append(g.Rumors, r)
	}
	if len(src) > 0 {
		return g, fmt.Errorf("%d bytes too many", len(src))
	}
	return g, nil
}

func parseRumor(src []byte) (r Rumor, rest []byte, err error) {
	if len(src) < rumorFixed {
		return r, nil, errShort
	}
	if r.Say = Say(src[0]); r.Say < SayAlive || r.Say > SayLeft {
		return r, nil, fmt.Errorf("it says %d: want %d to %d", r.Say, SayAlive, SayLeft)
	}
	r.Incarnation = parseIncarnation(src[1:])
	r.Of, rest, err = parseID(src[13:])
	return r, rest, err
}

func parseIncarnation(src []byte) Incarnation {
	return Incarnation{binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint32(src[8:])}
}

func parseID(src []byte) (id mesh.ID, rest []byte, err error) {
	if len(src) < 1 || len(src)-1 < int(src[0]) {
		return "", nil, errShort
	}
	text, rest := src[1:1+int(src[0])], src[1+int(src[0]):]
	if len(text) > maxIDBytes {
		return "", nil, fmt.Errorf("ID of %d bytes: at most %d", len(text), maxIDBytes)
	}
	if !utf8.Valid(text) {
		return "", nil, errors.New("ID is not UTF-8")
	}
	return mesh.ID(text), rest, nil
}
