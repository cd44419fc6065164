package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"

	"loco/gossip/exchange"
	"loco/mesh/wire"
)

// Type is the type of a frame.
type Type uint8

// The frames. Numbers are only ever added.
const (
	TypeAsk Type = 1 + iota
	TypeAnswer
	TypeTake
	TypeManifest
	TypeGet
	TypeChunk
	TypeRefuse
)

const (
	frameHead = 5
	marksMax  = 256
	whyMax    = 256
	markLen   = 8 + 32
)

// Magic begins a stream.
const Magic = magic

// Mark is a state that a run was in: the one that Round starts from.
type Mark = exchange.Mark

// Ask asks a member where it stands. Coming says that the joiner is about to be ready.
type Ask struct{ Coming bool }

// Answer is where a member stands.
type Answer struct {
	Ready  bool // holds the run's state; otherwise the rest is zero
	Round  uint64
	Step   uint64
	Since  time.Duration // the round at hand began
	Tokens float64
	Digest [32]byte
	Oldest uint64 // rounds from this one on can be replayed up to Round
	// Held is the ID of the state that the member serves now, of HeldRound; zero: none.
	HeldRound uint64
	Held      [32]byte
	Marks     []Mark // of the states before, ascending
}

// Take asks for a manifest. Exact asks for that of Round and Digest (of a result: of
// Round) and no other.
type Take struct {
	Kind   Kind
	Exact  bool
	Round  uint64
	Digest [32]byte
}

// Get asks for a chunk.
type Get struct {
	ID    [32]byte
	Chunk uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendFrame appends a frame whose payload is the parts one after the other.
func AppendFrame(dst []byte, t Type, parts ...[]byte) []byte {
	at, n := len(dst), 0
	for _, p := range parts {
		n += len(p)
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, byte(t)), uint32(n))
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// ReadFrame reads a frame whose payload has at most limit bytes into buf, which grows as
// bytes arrive, not as they are announced.
func ReadFrame(r io.Reader, buf []byte, limit int) (Type, []byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.LittleEndian.Uint32(head[1:]))
	if n > limit {
		return 0, nil, fmt.Errorf("frame of type %d with %d bytes, at most %d are allowed here", head[0], n, limit)
	}
	buf, err := wire.ReadN(r, buf, n+4)
	if err != nil {
		return 0, nil, err
	}
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, buf[:n])
	if got := binary.LittleEndian.Uint32(buf[n:]); got != sum {
		return 0, nil, fmt.Errorf("frame of type %d has CRC %08x, says %08x", head[0], sum, got)
	}
	return Type(head[0]), buf[:n], nil
}

// Append appends the payload.
func (a Ask) Append(dst []byte) []byte { return wire.AppendFlags(dst, a.Coming) }

// ParseAsk reads what Append wrote.
func ParseAsk(p []byte) (Ask, error) {
	r := wire.Read(p)
	a := Ask{Coming: r.Bool("coming")}
	return a, ended("ask", r)
}

// Append appends the payload with the newest 256 marks.
func (a Answer) Append(dst []byte) []byte {
	dst = wire.AppendFlags(dst, a.Ready)
	dst = binary.LittleEndian.AppendUint64(dst, a.Round)
	dst = binary.LittleEndian.AppendUint64(dst, a.Step)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Since))
	dst = wire.AppendFloat64(dst, a.Tokens)
	dst = append(dst, a.Digest[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, a.Oldest)
	dst = binary.LittleEndian.AppendUint64(dst, a.HeldRound)
	dst = append(dst, a.Held[:]...)
	marks := a.Marks[max(0, len(a.Marks)-marksMax):]
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(marks)))
	for _, m := range marks {
		dst = binary.LittleEndian.AppendUint64(dst, m.Round)
		dst = append(dst, m.Digest[:]...)
	}
	return dst
}

// ParseAnswer reads what Append wrote.
func ParseAnswer(p []byte) (Answer, error) {
	r := wire.Read(p)
	a := Answer{Ready: r.Bool("ready"), Round: r.Uint64("round"), Step: r.Uint64("step"), Since: time.Duration(r.Uint64("since")), Tokens: readTokens(r),
		Digest: r.Sum("digest"), Oldest: r.Uint64("oldest"), HeldRound: r.Uint64("held round"), Held: r.Sum("held")}
	if a.Since < 0 {
		r.Fail("since", "%v, want none in the future", a.Since)
	}
	if a.Oldest > a.Round {
		r.Fail("oldest", "round %d after round %d, which is at hand", a.Oldest, a.Round)
	}
	r.Each("mark", r.Count16("marks", marksMax, markLen), func(i int) {
		m := Mark{Round: r.Uint64("round"), Digest: r.Sum("digest")}
		if i > 0 && m.Round <= a.Marks[i-1].Round || m.Round > a.Round {
			r.Fail("round", "%d is out of its order", m.Round)
		}
		a.Marks = append(a.Marks, m)
	})
	return a, ended("answer", r)
}

// readTokens reads a sum of weights: finite and not negative.
func readTokens(r *wire.Reader) float64 {
	x := r.Float64("tokens")
	if !(x >= 0) || math.IsInf(x, 0) {
		r.Fail("tokens", "%v, want a finite number that is not negative", x)
		return 0
	}
	return x
}

func readKind(r *wire.Reader) Kind {
	k := Kind(r.Uint8("kind"))
	if k < State || k > Result {
		r.Fail("kind", "%d, want %d to %d", k, State, Result)
	}
	return k
}

// ended is the reader's error in a message of the name, all of which is read.
func ended(name string, r *wire.Reader) error {
	if err := r.End(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Append appends the payload.
func (t Take) Append(dst []byte) []byte {
	dst = wire.AppendFlags(append(dst, byte(t.Kind)), t.Exact)
	return append(binary.LittleEndian.AppendUint64(dst, t.Round), t.Digest[:]...)
}

// ParseTake reads what Append wrote.
func ParseTake(p []byte) (Take, error) {
	r := wire.Read(p)
	t := Take{Kind: readKind(r), Exact: r.Bool("exact"), Round: r.Uint64("round"), Digest: r.Sum("digest")}
	return t, ended("take", r)
}

// Check returns an error unless m is a manifest that answers t.
func (t Take) Check(m *Manifest) error {
	if m.Kind != t.Kind || t.Exact && m.Round != t.Round || t.Exact && t.Kind == State && m.Digest != t.Digest {
		return fmt.Errorf("sends the manifest of another object: kind %d of round %d", m.Kind, m.Round)
	}
	return nil
}

// Append appends the payload.
func (g Get) Append(dst []byte) []byte {
	return binary.LittleEndian.AppendUint32(append(dst, g.ID[:]...), g.Chunk)
}

// ParseGet reads what Append wrote.
func ParseGet(p []byte) (Get, error) {
	r := wire.Read(p)
	g := Get{ID: r.Sum("ID"), Chunk: r.Uint32("chunk")}
	return g, ended("get", r)
}

// ParseRefuse returns a refusal as an error.
func ParseRefuse(p []byte) error {
	if len(p) > whyMax {
		p = p[:whyMax]
	}
	return errors.New("refused: " + fmt.Sprintf("%q", p))
}

// AppendRefuse appends the payload of a refusal.
func AppendRefuse(dst []byte, why string) []byte { return append(dst, why[:min(len(why), whyMax)]...) }
