package protocol

import (
	"encoding/binary"

	"loco/mesh"
	"loco/mesh/wire"
)

// offer proposes an exchange of a pair, accept agrees to it, and lonely asks anybody
// for an offer. The Envelope's attempt tells exchanges apart.
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

// refuse declines an offer, or says that the sender has not applied an exchange and
// never will.
type refuse struct{ why string }

// holds says that the sender has all of the receiver's bytes and has sent all of its own.
// asks says that it lacks the same word from the receiver.
type holds struct{ asks bool }

// forgot answers a worker that asks about an exchange of which this process knows nothing.
type forgot struct{}

// meet names a lonely worker to another.
type meet struct{ who mesh.ID }

func (offer) Kind() Type  { return TypeOffer }
func (accept) Kind() Type { return TypeAccept }
func (refuse) Kind() Type { return TypeRefuse }
func (lonely) Kind() Type { return TypeLonely }
func (holds) Kind() Type  { return TypeHolds }
func (forgot) Kind() Type { return TypeForgot }
func (meet) Kind() Type   { return TypeMeet }

func (m terms) AppendTo(dst []byte) []byte {
	return binary.LittleEndian.AppendUint64(wire.AppendFloat64(dst, m.weight), m.length)
}

func (m refuse) AppendTo(dst []byte) []byte { return wire.AppendText16(dst, cut(m.why)) }
func (m holds) AppendTo(dst []byte) []byte  { return wire.AppendFlags(dst, m.asks) }
func (forgot) AppendTo(dst []byte) []byte   { return dst }
func (m meet) AppendTo(dst []byte) []byte   { return wire.AppendText16(dst, string(m.who)) }

func (r reader) terms() terms { return terms{weight: r.weight(), length: r.length()} }

// pair reads a message of the pair exchange; nil: the type is none.
func (r reader) pair(t Type) Message {
	switch t {
	case TypeOffer:
		return offer{r.terms()}
	case TypeAccept:
		return accept{r.terms()}
	case TypeLonely:
		return lonely{r.terms()}
	case TypeRefuse:
		return refuse{why: r.why()}
	case TypeHolds:
		return holds{asks: r.Bool("asks")}
	case TypeForgot:
		return forgot{}
	case TypeMeet:
		return meet{who: r.id("who")}
	}
	return nil
}
