package transfer

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"loco/mesh"
)

func sample() *Manifest {
	return &Manifest{Kind: State, Round: 4, Digest: [32]byte{7}, Tokens: 2.5, Updates: 80, ChunkBytes: chunkBytesMin,
		Parts: []Part{{"slow", chunkBytesMin + 4, [32]byte{1}}, {"momentum", 8, [32]byte{2}}}, Chunks: [][32]byte{{3}, {4}}}
}

func FuzzManifest(f *testing.F) {
	f.Add(sample().Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := ParseManifest(p, 1<<30)
		if err != nil {
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, p) || len(p) > ManifestMax {
			t.Fatalf("%x came back as %x", p, again)
		}
		for i := range m.Chunks {
			if lo, hi := m.Span(i); lo >= hi || hi > m.Bytes() || hi-lo > uint64(m.ChunkBytes) {
				t.Fatalf("chunk %d of %d spans %d … %d of %d bytes", i, len(m.Chunks), lo, hi, m.Bytes())
			}
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(AppendFrame(nil, TypeAsk, Ask{Coming: true}.Append(nil)))
	f.Add(AppendFrame(nil, TypeAnswer, Answer{Ready: true, Round: 3, Oldest: 1, Tokens: 5, Held: [32]byte{1}, Marks: []Mark{{Round: 1, Digest: [32]byte{1}}, {Round: 2, Digest: [32]byte{2}}}}.Append(nil)))
	f.Add(AppendFrame(nil, TypeTake, Take{Kind: Result, Exact: true, Round: 2}.Append(nil)))
	f.Add(AppendFrame(nil, TypeGet, Get{[32]byte{1}, 5}.Append(nil)))
	f.Add(AppendFrame(nil, TypeRefuse, AppendRefuse(nil, "no")))
	f.Fuzz(func(t *testing.T, frame []byte) {
		typ, p, err := ReadFrame(bytes.NewReader(frame), nil, 1<<14)
		if err != nil {
			return
		}
		var again []byte
		switch typ {
		case TypeAsk:
			var a Ask
			a, err = ParseAsk(p)
			again = a.Append(nil)
		case TypeAnswer:
			var a Answer
			a, err = ParseAnswer(p)
			again = a.Append(nil)
		case TypeTake:
			var a Take
			a, err = ParseTake(p)
			again = a.Append(nil)
		case TypeGet:
			var a Get
			a, err = ParseGet(p)
			again = a.Append(nil)
		default:
			if ParseRefuse(p) == nil {
				t.Fatal("a refusal is an error")
			}
			return
		}
		if err == nil && !bytes.Equal(again, p) {
			t.Fatalf("type %d: %x came back as %x", typ, p, again)
		}
	})
}

// The bytes that another implementation must write.
func TestGoldenBytes(t *testing.T) {
	zeros := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"ask", "01" + "01000000" + "01" + "3cfb6072", AppendFrame(nil, TypeAsk, Ask{Coming: true}.Append(nil))},
		{"take", "0301" + "0500000000000000" + "09" + zeros(31), Take{Result, true, 5, [32]byte{9}}.Append(nil)},
		{"get", "08" + zeros(31) + "03000000", Get{[32]byte{8}, 3}.Append(nil)},
		{"answer", "01" + "0300000000000000" + "4600000000000000" + "0700000000000000" + "0000000000000840" + "05" + zeros(31) + "0200000000000000" + "0100000000000000" + "06" + zeros(31) +
			"0100" + "0200000000000000" + "04" + zeros(31),
			Answer{true, 3, 70, 7, 3, [32]byte{5}, 2, 1, [32]byte{6}, []Mark{{Round: 2, Digest: [32]byte{4}}}}.Append(nil)},
		{"manifest", hex.EncodeToString([]byte(magic)) + "01" + "0400000000000000" + "07" + zeros(31) + "0000000000000440" + "5000000000000000" + "00000400" + "0200" +
			"0400" + hex.EncodeToString([]byte("slow")) + "0400040000000000" + "01" + zeros(31) + "0800" + hex.EncodeToString([]byte("momentum")) + "0800000000000000" + "02" + zeros(31) +
			"02000000" + "03" + zeros(31) + "04" + zeros(31), sample().Append(nil)},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
	}
}

func TestManifestLimits(t *testing.T) {
	for name, spoil := range map[string]func(m *Manifest){
		"kind": func(m *Manifest) { m.Kind = 4 }, "tokens": func(m *Manifest) { m.Tokens = -1 }, "chunk": func(m *Manifest) { m.ChunkBytes = 12 },
		"no parts": func(m *Manifest) { m.Parts = nil }, "values": func(m *Manifest) { m.Parts[1].Bytes = 7 }, "hashes": func(m *Manifest) { m.Chunks = m.Chunks[:1] },
		"limit": func(m *Manifest) { m.Parts[1].Bytes = 1 << 40 }, "overflow": func(m *Manifest) { m.Parts[1].Bytes = 1<<64 - 4 },
		"name": func(m *Manifest) { m.Parts[0].Name = string(make([]byte, nameMax+1)) },
	} {
		m := sample()
		spoil(m)
		if _, err := ParseManifest(m.Append(nil), 1<<30); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	p := sample().Append(nil)
	for n := range p {
		if _, err := ParseManifest(p[:n], 1<<30); err == nil {
			t.Errorf("parsed %d of %d bytes", n, len(p))
		}
	}
	if m, err := ParseManifest(p, 1<<30); err != nil || !reflect.DeepEqual(m, sample()) {
		t.Errorf("%+v, %v", m, err)
	}
	for _, c := range []struct{ bytes, chunk uint64 }{{0, 256 << 10}, {2 << 30, 256 << 10}, {2<<30 + 1, 512 << 10}, {82 << 30, 16 << 20}, {400 << 30, 16 << 20}} {
		if got := ChunkBytes(c.bytes); uint64(got) != c.chunk {
			t.Errorf("an object of %d bytes has chunks of %d, want %d", c.bytes, got, c.chunk)
		}
	}
}

// Every limit has an error that names its field.
func TestRefusals(t *testing.T) {
	answer := Answer{Ready: true, Round: 3, Tokens: 5, Oldest: 1, Since: 7, Marks: []Mark{{Round: 1, Digest: [32]byte{1}}, {Round: 2, Digest: [32]byte{2}}}}
	ask := func(p []byte) error { _, err := ParseAsk(p); return err }
	ans := func(p []byte) error { _, err := ParseAnswer(p); return err }
	take := func(p []byte) error { _, err := ParseTake(p); return err }
	get := func(p []byte) error { _, err := ParseGet(p); return err }
	man := func(p []byte) error { _, err := ParseManifest(p, 1<<30); return err }
	for _, c := range []struct {
		want  string
		parse func([]byte) error
		whole []byte
		at    int
		v     []byte
	}{
		{"ask: coming: 2, want 0 or 1", ask, Ask{}.Append(nil), 0, []byte{2}},
		{"answer: ready: 2, want 0 or 1", ans, answer.Append(nil), 0, []byte{2}},
		{"answer: since: -2", ans, answer.Append(nil), 24, []byte{0x80}},
		{"answer: tokens: NaN", ans, answer.Append(nil), 25, bytes.Repeat([]byte{255}, 8)},
		{"answer: tokens: +Inf", ans, answer.Append(nil), 25, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x7f}},
		{"answer: tokens: -5", ans, answer.Append(nil), 32, []byte{0xc0}},
		{"answer: oldest: round 4 after round 3", ans, answer.Append(nil), 65, []byte{4}},
		{"answer: marks: 257, at most 256", ans, answer.Append(nil), 113, []byte{1, 1}},
		{"answer: mark 1: round: 1 is out", ans, answer.Append(nil), 155, []byte{1}},
		{"answer: mark 1: round: 4 is out", ans, answer.Append(nil), 155, []byte{4}},
		{"take: kind: 0, want 1 to 3", take, Take{Kind: State}.Append(nil), 0, []byte{0}},
		{"take: kind: 4, want 1 to 3", take, Take{Kind: State}.Append(nil), 0, []byte{4}},
		{"take: exact: 2", take, Take{Kind: State}.Append(nil), 1, []byte{2}},
		{"manifest: magic: ", man, sample().Append(nil), 0, []byte("x")},
		{"manifest: kind: 4", man, sample().Append(nil), 8, []byte{4}},
		{"manifest: tokens: NaN", man, sample().Append(nil), 49, bytes.Repeat([]byte{255}, 8)},
		{"manifest: bytes of a chunk: 131072", man, sample().Append(nil), 65, []byte{0, 0, 2}},
		{"manifest: bytes of a chunk: 33554432", man, sample().Append(nil), 65, []byte{0, 0, 0, 2}},
		{"manifest: bytes of a chunk: 262145", man, sample().Append(nil), 65, []byte{1}},
		{"manifest: parts: 0, want 1 to 16", man, sample().Append(nil), 69, []byte{0}},
		{"manifest: parts: 17, at most 16", man, sample().Append(nil), 69, []byte{17}},
		{"manifest: part 0: name: 65 bytes", man, sample().Append(nil), 71, []byte{65}},
		{"manifest: part 0: bytes: \"slow\" has 262149", man, sample().Append(nil), 77, []byte{5}},
		{"manifest: part 1: bytes: \"momentum\" has 1073479680", man, sample().Append(nil), 77 + 40 + 10, []byte{0, 0, 0xfc, 0x3f}}, // the limit less the first part, and 4
		{"manifest: chunks: 3, want 2", man, sample().Append(nil), 77 + 40 + 10 + 40, []byte{3}},
	} {
		p := bytes.Clone(c.whole)
		copy(p[c.at:], c.v)
		if err := c.parse(p); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	for name, c := range map[string]struct {
		parse func([]byte) error
		whole []byte
	}{"ask": {ask, Ask{}.Append(nil)}, "answer": {ans, answer.Append(nil)}, "take": {take, Take{Kind: State}.Append(nil)}, "get": {get, Get{}.Append(nil)}} {
		if err := c.parse(c.whole); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range c.whole {
			if err := c.parse(c.whole[:n]); err == nil || !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s cut to %d of %d bytes: error %v", name, n, len(c.whole), err)
			}
		}
		if err := c.parse(append(c.whole, 0)); err == nil || !strings.HasSuffix(err.Error(), "1 bytes too many") {
			t.Errorf("%s with a byte more: error %v", name, err)
		}
	}
	if err := ParseRefuse(AppendRefuse(nil, strings.Repeat("x", whyMax+9))); len(err.Error()) != len("refused: ")+2+whyMax {
		t.Errorf("a long refusal is read as %v", err)
	}
}

func TestAgree(t *testing.T) {
	d := func(b byte) [32]byte { return [32]byte{b} }
	voice := func(worker int, round uint64, tokens float64, digest byte, marks ...Mark) Voice {
		return Voice{ID: mesh.ID(rune('a' + worker)), Worker: worker, Answer: Answer{Ready: true, Round: round, Tokens: tokens, Digest: d(digest), Marks: marks}}
	}
	for _, c := range []struct {
		name   string
		voices []Voice
		who    []int // the lineage
		newest Mark
		ok     bool
	}{
		{"all alike", []Voice{voice(0, 5, 50, 5), voice(1, 5, 50, 5), voice(2, 5, 50, 5)}, []int{0, 1, 2}, Mark{Round: 5, Digest: d(5)}, true},
		{"some a round behind", []Voice{voice(0, 5, 50, 5), voice(1, 6, 60, 6, Mark{Round: 5, Digest: d(5)}), voice(2, 5, 50, 5)}, []int{1, 0, 2}, Mark{Round: 6, Digest: d(6)}, true},
		{"most a round ahead", []Voice{voice(0, 5, 50, 5), voice(1, 6, 60, 6, Mark{Round: 5, Digest: d(5)}), voice(2, 6, 60, 6, Mark{Round: 5, Digest: d(5)})}, []int{1, 2, 0}, Mark{Round: 6, Digest: d(6)}, true},
		{"wrong bits in one", []Voice{voice(0, 5, 50, 9), voice(1, 5, 50, 5), voice(2, 5, 50, 5)}, []int{1, 2}, Mark{Round: 5, Digest: d(5)}, true},
		{"a heavier fork of fewer", []Voice{voice(0, 5, 50, 5), voice(1, 5, 50, 5), voice(2, 4, 90, 9, Mark{Round: 3, Digest: d(3)})}, []int{2}, Mark{Round: 4, Digest: d(9)}, true},
		{"two of equal weight", []Voice{voice(0, 5, 50, 9), voice(1, 5, 50, 5)}, []int{0}, Mark{Round: 5, Digest: d(9)}, true},
		{"three ahead, one of them with wrong bits", []Voice{voice(0, 6, 60, 9, Mark{Round: 5, Digest: d(5)}), voice(1, 6, 60, 6, Mark{Round: 5, Digest: d(5)}), voice(2, 6, 60, 6, Mark{Round: 5, Digest: d(5)}), voice(3, 5, 50, 5)}, []int{1, 2, 3}, Mark{Round: 6, Digest: d(6)}, true},
		{"not ready", []Voice{{ID: "x", Worker: 3}}, nil, Mark{}, false},
	} {
		lineage := Agree(c.voices)
		var who []int
		for _, v := range lineage {
			who = append(who, v.Worker)
		}
		newest, ok := Newest(lineage)
		if !reflect.DeepEqual(who, c.who) || ok != c.ok || newest != c.newest {
			t.Errorf("%s: lineage %v, newest %v %v, want %v, %v %v", c.name, who, newest, ok, c.who, c.newest, c.ok)
		}
	}
}
