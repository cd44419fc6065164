package p2p

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"loco/mesh"
	"loco/mesh/swim"
)

var goldenHeartbeats = []struct {
	name string
	beat Heartbeat
	hex  string
}{
	{"zero", Heartbeat{}, "0300" + "00000000" + strings.Repeat("00", 46) + "00"},
	{"full", Heartbeat{
		Status: mesh.Status{Worker: 3, Lane: 0x0201, Ready: true, Begun: true, Done: true, Round: 5, Step: 0x1234, Tokens: 1 << 40},
		Left:   true, Incarnation: swim.Incarnation{Life: 0x0102030405060708, Refuted: 0x0a0b}, Seq: 9, Addrs: []string{"/ip4/1.2.3.4/tcp/5"},
	}, "0317" + "03000000" + "0102" + "0807060504030201" + "0b0a0000" + "0900000000000000" + "0500000000000000" + "3412000000000000" + "0000000000010000" +
		"01" + "1200" + "2f6970342f312e322e332e342f7463702f35"},
}

func TestHeartbeatGolden(t *testing.T) {
	for _, g := range goldenHeartbeats {
		got := AppendHeartbeat(nil, g.beat)
		if hex.EncodeToString(got) != g.hex {
			t.Errorf("%s: encoded as\n%x, want\n%s", g.name, got, g.hex)
		}
		back, err := ParseHeartbeat(got)
		if err != nil || !reflect.DeepEqual(back, g.beat) {
			t.Errorf("%s: parsed as %+v, %v", g.name, back, err)
		}
	}
}

func fullHello() Hello {
	return Hello{
		Version: protocolVersion, Settled: true, RunID: "0123456789abcdef", Heartbeat: goldenHeartbeats[1].beat,
		Known: []Known{{ID: "peer-a", Addrs: []string{"/ip4/1.2.3.4/tcp/5"}}, {ID: "peer-b"}},
	}
}

func TestHelloGolden(t *testing.T) {
	want := "6c6f636f" + "0300" + "01" + "10" + "30313233343536373839616263646566" + "4900" + goldenHeartbeats[1].hex +
		"0200" + "06" + "706565722d61" + "01" + "1200" + "2f6970342f312e322e332e342f7463702f35" +
		"06" + "706565722d62" + "00"
	got := AppendHello(nil, fullHello())
	if hex.EncodeToString(got) != want {
		t.Errorf("encoded as\n%x, want\n%s", got, want)
	}
	back, err := ParseHello(got)
	if err != nil || !reflect.DeepEqual(back, fullHello()) {
		t.Errorf("parsed as %+v, %v", back, err)
	}
}

// A hello of another version says which, whatever follows.
func TestHelloOfAnotherVersion(t *testing.T) {
	h, err := ParseHello([]byte("loco\x09\x01and more"))
	if err != nil || !reflect.DeepEqual(h, Hello{Version: 0x0109}) {
		t.Errorf("parsed as %+v, %v", h, err)
	}
}

func TestVerdictGolden(t *testing.T) {
	v := Verdict{Code: verdictWorkerTaken, Worker: 7, By: "peer-a", Reason: "no"}
	want := "01" + "07000000" + "06" + "706565722d61" + "0200" + "6e6f"
	got := AppendVerdict(nil, v)
	if hex.EncodeToString(got) != want {
		t.Errorf("encoded as %x, want %s", got, want)
	}
	if back, err := ParseVerdict(got); err != nil || back != v {
		t.Errorf("parsed as %+v, %v", back, err)
	}
}

func TestParseRefuses(t *testing.T) {
	beat := AppendHeartbeat(nil, goldenHeartbeats[1].beat)
	hello := AppendHello(nil, fullHello())
	verdict := AppendVerdict(nil, Verdict{Code: 1, By: "a", Reason: "b"})
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	parseBeat := func(b []byte) error { _, err := ParseHeartbeat(b); return err }
	parseHello := func(b []byte) error { _, err := ParseHello(b); return err }
	parseVerdict := func(b []byte) error { _, err := ParseVerdict(b); return err }
	for _, c := range []struct {
		name  string
		parse func([]byte) error
		src   []byte
		want  string
	}{
		{"heartbeat version", parseBeat, edit(beat, 0, 2), "version: 2, want 3"},
		{"heartbeat flag", parseBeat, edit(beat, 1, 0x80), "flags: 10000000, this program knows 00010111"},
		{"heartbeat flag of version 2", parseBeat, edit(beat, 1, 8), "flags: 00001000, this program knows"},
		{"heartbeat worker", parseBeat, edit(beat, 2, 0, 0, 0x10), "worker: 1048576, at most 1048575"},
		{"heartbeat addresses", parseBeat, edit(beat, 52, 11), "addresses: 11, at most 10"},
		{"heartbeat address length", parseBeat, edit(beat, 53, 1, 1), "address 0: text: 257 bytes, at most 256"},
		{"heartbeat not UTF-8", parseBeat, edit(beat, 55, 0xff), "address 0: text: not UTF-8"},
		{"heartbeat with a tail", parseBeat, append(bytes.Clone(beat), 0), "1 bytes too many"},
		{"hello magic", parseHello, edit(hello, 0, 'x'), `magic: "xoco", want "loco"`},
		{"hello settled", parseHello, edit(hello, 6, 2), "settled: 2, want 0 or 1"},
		{"hello run ID length", parseHello, edit(hello, 7, 129), "run ID: 129 bytes, at most 128"},
		{"hello heartbeat", parseHello, edit(hello, 26, 9), "heartbeat: version: 9, want 3"},
		{"hello members", parseHello, edit(hello, 26+73, 1, 4), "members: 1025, at most 1024"},
		{"verdict code", parseVerdict, edit(verdict, 0, 3), "code: 3, at most 2"},
		{"verdict reason", parseVerdict, edit(verdict, 7, 1, 2), "reason: 513 bytes, at most 512"},
	} {
		if err := c.parse(c.src); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
	for name, whole := range map[string]struct {
		src   []byte
		parse func([]byte) error
	}{"heartbeat": {beat, parseBeat}, "hello": {hello, parseHello}, "verdict": {verdict, parseVerdict}} {
		for n := range whole.src {
			if whole.parse(whole.src[:n]) == nil {
				t.Errorf("%s cut to %d of %d bytes is accepted", name, n, len(whole.src))
			}
		}
	}
}

// What is over a limit is left out, so that one's own messages are never refused.
func TestAppendStaysWithinLimits(t *testing.T) {
	many := make([]string, 30)
	for i := range many {
		many[i] = strings.Repeat("a", maxAddrBytes)
	}
	many[3] = strings.Repeat("b", maxAddrBytes+1)
	h := Hello{Version: protocolVersion, RunID: testRun, Heartbeat: Heartbeat{Addrs: many}}
	for range 2000 {
		h.Known = append(h.Known, Known{ID: mesh.ID(strings.Repeat("i", 200)), Addrs: many})
	}
	if beat := AppendHeartbeat(nil, h.Heartbeat); len(beat) != maxHeartbeatBytes {
		t.Errorf("the largest heartbeat has %d bytes, want %d", len(beat), maxHeartbeatBytes)
	}
	raw := AppendHello(nil, h)
	if len(raw) > maxHelloBytes {
		t.Errorf("a hello has %d bytes, at most %d", len(raw), maxHelloBytes)
	}
	back, err := ParseHello(raw)
	if err != nil || len(back.Known) == 0 {
		t.Errorf("the cut hello: %d members, %v", len(back.Known), err)
	}
	for i := range h.Known {
		h.Known[i].Addrs = nil
	}
	back, err = ParseHello(AppendHello(nil, h))
	if err != nil || len(back.Known) == 0 || len(back.Known) > maxKnown {
		t.Errorf("without addresses: %d members, %v", len(back.Known), err)
	}
	if v := AppendVerdict(nil, Verdict{By: mesh.ID(strings.Repeat("i", 500)), Reason: strings.Repeat("é", 400)}); len(v) > maxVerdictBytes {
		t.Errorf("a verdict has %d bytes, at most %d", len(v), maxVerdictBytes)
	} else if _, err := ParseVerdict(v); err != nil {
		t.Error(err)
	}
}

func TestReadFrame(t *testing.T) {
	var whole bytes.Buffer
	if err := writeFrame(&whole, frameHello, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(whole.Bytes()); got != "0500000001"+"68656c6c6f" {
		t.Errorf("frame is %s", got)
	}
	for n := range whole.Len() {
		if _, err := readFrame(bytes.NewReader(whole.Bytes()[:n]), frameHello, 5); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := readFrame(bytes.NewReader(whole.Bytes()), frameHello, 4); err == nil || !strings.Contains(err.Error(), "frame of 5 bytes: at most 4") {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := readFrame(bytes.NewReader(whole.Bytes()), frameVerdict, 5); err == nil || !strings.Contains(err.Error(), "type 1, want 3") {
		t.Errorf("wrong type: %v", err)
	}
	huge := binary.LittleEndian.AppendUint32(nil, 1<<32-1)
	allocs := testing.AllocsPerRun(10, func() { readFrame(bytes.NewReader(append(huge, frameHello)), frameHello, maxHelloBytes) })
	if allocs > 20 {
		t.Errorf("%v allocations for a frame that is too long", allocs)
	}
}

func TestDiffLines(t *testing.T) {
	got := diffLines([]string{"a=1", "b=2", "c=x=y"}, []string{"a=1", "b=3", "d="})
	want := []Diff{{"b", "2", "3"}, {"c", "x=y", ""}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("diffs %+v, want %+v", got, want)
	}
}

func FuzzParseHeartbeat(f *testing.F) {
	for _, g := range goldenHeartbeats {
		f.Add(AppendHeartbeat(nil, g.beat))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		h, err := ParseHeartbeat(src)
		if err != nil {
			return
		}
		if again := AppendHeartbeat(nil, h); !bytes.Equal(again, src) {
			t.Errorf("%x parses as %+v, which is written %x", src, h, again)
		}
	})
}

func FuzzParseHello(f *testing.F) {
	f.Add(AppendHello(nil, fullHello()))
	f.Add(AppendHello(nil, Hello{Version: protocolVersion}))
	f.Fuzz(func(t *testing.T, src []byte) {
		h, err := ParseHello(src)
		if err != nil || h.Version != protocolVersion || len(src) > maxHelloBytes {
			return
		}
		if again := AppendHello(nil, h); !bytes.Equal(again, src) {
			t.Errorf("%x parses as %+v, which is written %x", src, h, again)
		}
	})
}

func FuzzParseVerdict(f *testing.F) {
	f.Add(AppendVerdict(nil, Verdict{Code: 1, Worker: 7, By: "peer", Reason: "taken"}))
	f.Fuzz(func(t *testing.T, src []byte) {
		v, err := ParseVerdict(src)
		if err != nil {
			return
		}
		if again := AppendVerdict(nil, v); !bytes.Equal(again, src) {
			t.Errorf("%x parses as %+v, which is written %x", src, v, again)
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x00\x01hello"))
	f.Add([]byte("\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, src []byte) {
		payload, err := readFrame(bytes.NewReader(src), frameHello, maxVerdictBytes)
		if err == nil && !bytes.Equal(payload, src[frameHeader:frameHeader+len(payload)]) {
			t.Errorf("%x has the payload %x", src, payload)
		}
	})
}
