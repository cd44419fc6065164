package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestTakeChecksItsAnswer(t *testing.T) {
	m := func(k Kind, round uint64, digest byte) *Manifest {
		return &Manifest{Kind: k, Round: round, Digest: [32]byte{digest}}
	}
	for _, c := range []struct {
		take Take
		m    *Manifest
		ok   bool
	}{
		{Take{State, true, 4, [32]byte{7}}, m(State, 4, 7), true},
		{Take{State, true, 4, [32]byte{7}}, m(Moments, 4, 7), false},
		{Take{State, true, 4, [32]byte{7}}, m(Result, 4, 7), false},
		{Take{State, true, 4, [32]byte{7}}, m(State, 5, 7), false},
		{Take{State, true, 4, [32]byte{7}}, m(State, 3, 7), false},
		{Take{State, true, 4, [32]byte{7}}, m(State, 4, 8), false},
		{Take{State, false, 4, [32]byte{7}}, m(State, 5, 8), true}, // whatever the source holds
		{Take{State, false, 4, [32]byte{7}}, m(Moments, 4, 7), false},
		{Take{Result, true, 4, [32]byte{}}, m(Result, 4, 8), true}, // a result has no digest
		{Take{Result, true, 4, [32]byte{}}, m(Result, 5, 0), false},
		{Take{Result, true, 4, [32]byte{}}, m(State, 4, 0), false},
		{Take{Moments, true, 4, [32]byte{}}, m(Moments, 4, 9), true},
		{Take{Moments, false, 4, [32]byte{}}, m(Moments, 9, 9), true},
	} {
		err := c.take.Check(c.m)
		want := fmt.Sprintf("sends the manifest of another object: kind %d of round %d", c.m.Kind, c.m.Round)
		if (err == nil) != c.ok || err != nil && err.Error() != want {
			t.Errorf("%+v answered by kind %d, round %d, digest %d: error %v, want none: %v", c.take, c.m.Kind, c.m.Round, c.m.Digest[0], err, c.ok)
		}
	}
}

func TestFrames(t *testing.T) {
	frame := AppendFrame([]byte("before"), TypeChunk, []byte{1, 2}, nil, []byte{3, 4, 5})[6:]
	if got := binary.LittleEndian.Uint32(frame[1:]); got != 5 || frame[0] != byte(TypeChunk) || len(frame) != 5+5+4 {
		t.Errorf("frame %x", frame)
	}
	buf := make([]byte, 3, 100)
	typ, p, err := ReadFrame(bytes.NewReader(append(bytes.Clone(frame), 9, 9)), buf, 5)
	if typ != TypeChunk || !bytes.Equal(p, []byte{1, 2, 3, 4, 5}) || err != nil || &p[0] != &buf[0] {
		t.Errorf("type %d, payload %x, %v", typ, p, err)
	}
	if _, _, err := ReadFrame(bytes.NewReader(frame), nil, 4); err == nil || err.Error() != "frame of type 6 with 5 bytes, at most 4 are allowed here" {
		t.Errorf("over the limit: error %v", err)
	}
	for n := range frame {
		want := io.ErrUnexpectedEOF
		if n == 0 { // the stream ended between frames
			want = io.EOF
		}
		if _, _, err := ReadFrame(bytes.NewReader(frame[:n]), nil, 5); !errors.Is(err, want) {
			t.Errorf("%d of %d bytes: error %v, want %v", n, len(frame), err, want)
		}
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 0x20
		if i >= 1 && i < 5 { // the length
			continue
		}
		_, _, err := ReadFrame(bytes.NewReader(bad), nil, 5)
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("frame of type %d has CRC ", bad[0])) {
			t.Errorf("a flipped bit of byte %d: error %v", i, err)
		}
	}
	empty := AppendFrame(nil, TypeRefuse)
	if typ, p, err := ReadFrame(bytes.NewReader(empty), nil, 0); typ != TypeRefuse || len(p) != 0 || err != nil {
		t.Errorf("an empty frame: type %d, %x, %v", typ, p, err)
	}
}

func TestTypesAndKindsKeepTheirNumbers(t *testing.T) {
	if got, want := []Type{TypeAsk, TypeAnswer, TypeTake, TypeManifest, TypeGet, TypeChunk, TypeRefuse}, []Type{1, 2, 3, 4, 5, 6, 7}; !reflect.DeepEqual(got, want) {
		t.Errorf("types %v", got)
	}
	if State != 1 || Moments != 2 || Result != 3 || Magic != "locoST02" {
		t.Errorf("kinds %d, %d, %d, magic %s", State, Moments, Result, Magic)
	}
}

func TestAnswerKeepsTheNewestMarks(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 600} {
		a := Answer{Ready: true, Round: 1000, Tokens: 1, Digest: [32]byte{1}, Since: math.MaxInt64, Oldest: 1000, HeldRound: 9, Held: [32]byte{2}, Step: 5}
		for i := range n {
			a.Marks = append(a.Marks, Mark{Round: 1000 - uint64(n) + uint64(i) + 1, Digest: [32]byte{byte(i)}})
		}
		got, err := ParseAnswer(a.Append(nil))
		a.Marks = a.Marks[max(0, n-256):]
		if len(a.Marks) == 0 {
			a.Marks = nil
		}
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%d marks: %+v, %v", n, got, err)
		}
	}
}

func TestRefuseIsCut(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 1000} {
		why := strings.Repeat("x", n)
		p := AppendRefuse([]byte("y"), why)
		if want := "y" + why[:min(n, 256)]; string(p) != want {
			t.Errorf("a reason of %d bytes: %q", n, p)
		}
		if got, want := ParseRefuse([]byte(why)).Error(), fmt.Sprintf("refused: %q", why[:min(n, 256)]); got != want {
			t.Errorf("a refusal of %d bytes: %s", n, got)
		}
	}
	if got := ParseRefuse([]byte("a\nb\x00")).Error(); got != `refused: "a\nb\x00"` {
		t.Errorf("%s", got)
	}
}

// The largest and the smallest of everything is read, and one more is not.
func TestManifestBounds(t *testing.T) {
	largest := &Manifest{Kind: Result, Round: math.MaxUint64, Tokens: math.MaxFloat64, ChunkBytes: chunkBytesMin}
	for i := range partsMax {
		largest.Parts = append(largest.Parts, Part{Name: strings.Repeat(string(rune('a'+i)), nameMax), Bytes: chunksMax / partsMax * chunkBytesMin})
	}
	largest.Chunks = make([][32]byte, chunksMax)
	limit := largest.Bytes()
	if limit != 32768*256<<10 {
		t.Fatalf("%d bytes", limit)
	}
	p := largest.Append(nil)
	if m, err := ParseManifest(p, limit); err != nil || !reflect.DeepEqual(m, largest) || len(p) != ManifestMax {
		t.Errorf("%d bytes of at most %d: %v", len(p), ManifestMax, err)
	}
	if _, err := ParseManifest(p, limit-1); err == nil || !strings.Contains(err.Error(), "part 15: bytes: ") {
		t.Errorf("a byte over the limit: error %v", err)
	}
	largest.Parts[15].Bytes++
	largest.Chunks = append(largest.Chunks, [32]byte{})
	if _, err := ParseManifest(largest.Append(nil), limit+1); err == nil || !strings.Contains(err.Error(), "chunks: 32769, want 32769, at most 32768") {
		t.Errorf("a chunk too many: error %v", err)
	}
	for name, m := range map[string]*Manifest{
		"least":           {Kind: State, ChunkBytes: chunkBytesMax, Parts: []Part{{Name: "", Bytes: 4}}, Chunks: make([][32]byte, 1)},
		"nothing":         {Kind: Moments, ChunkBytes: chunkBytesMin, Parts: []Part{{Name: "x"}}},
		"odd result":      {Kind: Result, ChunkBytes: chunkBytesMin, Parts: []Part{{Name: "x", Bytes: 3}}, Chunks: make([][32]byte, 1)},
		"a chunk":         {Kind: State, ChunkBytes: chunkBytesMin, Parts: []Part{{Name: "x", Bytes: chunkBytesMin}}, Chunks: make([][32]byte, 1)},
		"a chunk and one": {Kind: Result, ChunkBytes: chunkBytesMin, Parts: []Part{{Name: "x", Bytes: chunkBytesMin + 1}}, Chunks: make([][32]byte, 2)},
	} {
		if got, err := ParseManifest(m.Append(nil), 1<<30); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for i, other := range []*Manifest{{Kind: m.Kind, ChunkBytes: m.ChunkBytes, Parts: m.Parts, Chunks: append(m.Chunks, [32]byte{})}} {
			want := fmt.Sprintf("chunks: %d, want %d, at most 32768", len(m.Chunks)+1, len(m.Chunks))
			if _, err := ParseManifest(other.Append(nil), 1<<30); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %d: error %v, want %q", name, i, err, want)
			}
		}
	}
	m := &Manifest{ChunkBytes: chunkBytesMin, Parts: []Part{{Bytes: chunkBytesMin}, {Bytes: 9}}}
	for i, want := range [][2]uint64{{0, chunkBytesMin}, {chunkBytesMin, chunkBytesMin + 9}} {
		if lo, hi := m.Span(i); lo != want[0] || hi != want[1] {
			t.Errorf("chunk %d spans %d to %d, want %v", i, lo, hi, want)
		}
	}
}

// Every bit of a manifest is in its ID.
func TestManifestIDNamesEveryField(t *testing.T) {
	seen := map[[32]byte]string{}
	for name, change := range map[string]func(m *Manifest){
		"nothing": func(*Manifest) {}, "kind": func(m *Manifest) { m.Kind = Moments }, "round": func(m *Manifest) { m.Round++ }, "digest": func(m *Manifest) { m.Digest[31]++ },
		"tokens": func(m *Manifest) { m.Tokens++ }, "updates": func(m *Manifest) { m.Updates++ }, "chunk bytes": func(m *Manifest) { m.ChunkBytes *= 2 },
		"part's name": func(m *Manifest) { m.Parts[1].Name = "m" }, "part's bytes": func(m *Manifest) { m.Parts[1].Bytes++ }, "part's sum": func(m *Manifest) { m.Parts[1].Sum[9]++ },
		"chunk": func(m *Manifest) { m.Chunks[1][5]++ }, "chunks": func(m *Manifest) { m.Chunks = m.Chunks[:1] }, "parts": func(m *Manifest) { m.Parts = m.Parts[:1] },
	} {
		m := sample()
		change(m)
		if was, ok := seen[m.ID()]; ok {
			t.Errorf("%s has the ID of %s", name, was)
		}
		seen[m.ID()] = name
	}
}
