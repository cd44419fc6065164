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
	answerLen = 1 + 8 + 8 + 8 + 8 + 32 + 8 + 8 + 32 + 2
	markLen   = 40
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
	buf = buf[:0]
	for want := n + 4; len(buf) < want; {
		step := min(want-len(buf), max(64<<10, len(buf), cap(buf)-len(buf)))
		at := len(buf)
		buf = append(buf, make([]byte, step)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return 0, nil, err
		}
	}
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, buf[:n])
	if got := binary.LittleEndian.Uint32(buf[n:]); got != sum {
		return 0, nil, fmt.Errorf("frame of type %d has CRC %08x, says %08x", head[0], sum, got)
	}
	return Type(head[0]), buf[:n], nil
}

// Append appends the payload.
func (a Ask) Append(dst []byte) []byte { return append(dst, flag(a.Coming)) }

// ParseAsk reads what Append wrote.
func ParseAsk(p []byte) (Ask, error) {
	if len(p) != 1 || p[0] > 1 {
		return Ask{}, fmt.Errorf("ask of %d bytes, want one flag", len(p))
	}
	return Ask{p[0] == 1}, nil
}

// Append appends the payload with the newest 256 marks.
func (a Answer) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, flag(a.Ready)), a.Round)
	dst = binary.LittleEndian.AppendUint64(dst, a.Step)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Since))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(a.Tokens))
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
func ParseAnswer(p []byte) (a Answer, err error) {
	if len(p) < answerLen || p[0] > 1 || len(p) != answerLen+markLen*int(binary.LittleEndian.Uint16(p[answerLen-2:])) || len(p) > answerLen+markLen*marksMax {
		return a, fmt.Errorf("answer of %d bytes, want %d and %d for each of at most %d marks", len(p), answerLen, markLen, marksMax)
	}
	a = Answer{Ready: p[0] == 1, Round: binary.LittleEndian.Uint64(p[1:]), Step: binary.LittleEndian.Uint64(p[9:]),
		Since: time.Duration(binary.LittleEndian.Uint64(p[17:])), Tokens: math.Float64frombits(binary.LittleEndian.Uint64(p[25:])), Digest: [32]byte(p[33:65]),
		Oldest: binary.LittleEndian.Uint64(p[65:]), HeldRound: binary.LittleEndian.Uint64(p[73:]), Held: [32]byte(p[81:113])}
	if !(a.Tokens >= 0) || math.IsInf(a.Tokens, 0) || a.Oldest > a.Round || a.Since < 0 {
		return Answer{}, fmt.Errorf("answer of %v tokens that replays round %d on in round %d, which began %v ago", a.Tokens, a.Oldest, a.Round, a.Since)
	}
	for p = p[answerLen:]; len(p) > 0; p = p[markLen:] {
		m := Mark{Round: binary.LittleEndian.Uint64(p), Digest: [32]byte(p[8:markLen])}
		if n := len(a.Marks); n > 0 && m.Round <= a.Marks[n-1].Round || m.Round > a.Round {
			return Answer{}, fmt.Errorf("answer with a mark of round %d out of its order", m.Round)
		}
		a.Marks = append(a.Marks, m)
	}
	return a, nil
}

// Append appends the payload.
func (t Take) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(append(dst, byte(t.Kind), flag(t.Exact)), t.Round)
	return append(dst, t.Digest[:]...)
}

// ParseTake reads what Append wrote.
func ParseTake(p []byte) (Take, error) {
	if len(p) != 42 || Kind(p[0]) < State || Kind(p[0]) > Result || p[1] > 1 {
		return Take{}, fmt.Errorf("take of %d bytes, or of an unknown kind", len(p))
	}
	return Take{Kind(p[0]), p[1] == 1, binary.LittleEndian.Uint64(p[2:]), [32]byte(p[10:])}, nil
}

// Append appends the payload.
func (g Get) Append(dst []byte) []byte {
	return binary.LittleEndian.AppendUint32(append(dst, g.ID[:]...), g.Chunk)
}

// ParseGet reads what Append wrote.
func ParseGet(p []byte) (Get, error) {
	if len(p) != 36 {
		return Get{}, fmt.Errorf("get of %d bytes, want 36", len(p))
	}
	return Get{[32]byte(p), binary.LittleEndian.Uint32(p[32:])}, nil
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

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
