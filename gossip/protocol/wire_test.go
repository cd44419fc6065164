package protocol

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func TestHeaderGolden(t *testing.T) {
	h := Header{Type: TypeContribution, Part: Slow, Round: 0x0102030405060708, Attempt: 0x1ffff, Shard: 3, Chunk: 4, Worker: 5, Count: 6}
	p := AppendHeader(nil, h, []byte("payload"))
	const want = "6c6f636f02100100" + "0807060504030201" + "ffff010000000000" + "03000000" + "04000000" + "05000000" +
		"06000000" + "07000000" + "7069e3f4" + "b8351997"
	if got := hex.EncodeToString(p); got != want {
		t.Errorf("header is %s, want %s", got, want)
	}
	back, err := ParseHeader(p)
	h.Length, h.CRC = 7, Checksum([]byte("payload"))
	if err != nil || back != h {
		t.Errorf("parsed %+v, %v, want %+v", back, err, h)
	}
}

// samples holds one message of each type with every field set.
func samples() []Message {
	h := held{attempt: 7, hash: [32]byte{9}, tokens: 11, workers: []int{0, 3, 65535}}
	return []Message{
		ready{digest: [32]byte{1, 2}, tokens: 9, weight: 2.5, length: 77, last: 5, voter: true, have: h, drop: []uint64{7}}, withdraw{},
		group{members: []GroupMember{{1, "a", 1, true, false}, {2, "bc", 3.5, false, true}}, digest: [32]byte{5}, adopt: h, source: 1, drop: []uint64{4, 6}},
		done{[32]byte{3}}, commit{[32]byte{1}, [32]byte{2}, 5, 8, 9, []int{1, 2}}, failed{"x", "why"},
		behind{8, [32]byte{6}, 4, "because"}, want{}, offer{terms{1, 2}}, accept{terms{3, 4}}, refuse{"no"}, lonely{terms{5, 6}},
		holds{true}, forgot{}, meet{"w7"},
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	for _, m := range samples() {
		p := m.AppendTo(nil)
		back, err := ParseMessage(m.Kind(), p)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%#v came back as %#v, %v", m, back, err)
		}
		for n := range p {
			if _, err := ParseMessage(m.Kind(), p[:n]); err == nil {
				t.Errorf("%T cut to %d of %d bytes was accepted", m, n, len(p))
			}
		}
		if _, err := ParseMessage(m.Kind(), append(p, 0)); err == nil {
			t.Errorf("%T with a byte more was accepted", m)
		}
	}
}

// The bytes that another implementation must write, of the samples in their order.
func TestMessagesGolden(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	sum := func(first string) string { return first + zeros(32-len(first)/2) }
	held := "0700000000000000" + sum("09") + "0000000000002640" + "0300" + "00000000" + "03000000" + "ffff0000"
	want := []string{
		sum("0102") + "0000000000002240" + "0000000000000440" + "4d00000000000000" + "0500000000000000" + "01" + held + "0100" + "0700000000000000", "",
		"0200" + "01000000" + "000000000000f03f" + "01" + "010061" + "02000000" + "0000000000000c40" + "02" + "02006263" +
			sum("05") + held + "01000000" + "0200" + "0400000000000000" + "0600000000000000",
		sum("03"), sum("01") + sum("02") + "0500000000000000" + "0000000000002040" + "0000000000002240" + "0200" + "01000000" + "02000000", "010078" + "0300776879",
		"0800000000000000" + sum("06") + "0000000000001040" + "070062656361757365", "", "000000000000f03f" + "0200000000000000",
		"0000000000000840" + "0400000000000000", "02006e6f", "0000000000001440" + "0600000000000000", "01", "", "02007737",
	}
	for i, m := range samples() {
		if got := hex.EncodeToString(m.AppendTo(nil)); got != want[i] {
			t.Errorf("%T is written\n%s, want\n%s", m, got, want[i])
		}
	}
	if got := (refuse{strings.Repeat("x", whyMax+1)}).AppendTo(nil); len(got) != 2+whyMax {
		t.Errorf("a reason of %d bytes is written with %d", whyMax+1, len(got))
	}
}

func TestMessagesRefused(t *testing.T) {
	write := func(i int, at int, v ...byte) (Type, []byte) {
		m := samples()[i]
		p := m.AppendTo(nil)
		copy(p[at:], v)
		return m.Kind(), p
	}
	const iReady, iGroup, iCommit, iFailed, iRefuse, iOffer, iHolds = 0, 2, 4, 5, 10, 8, 12
	inf := []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x7f}
	for _, c := range []struct {
		want   string
		sample int
		at     int
		v      []byte
	}{
		{"tokens: +Inf, want a finite", iReady, 32, inf},
		{"tokens: NaN, want a finite", iReady, 32, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x7f}},
		{"tokens: -9, want a finite", iReady, 39, []byte{0xc0}},
		{"weight: weight is +Inf", iReady, 40, inf},
		{"weight: weight is 0", iReady, 40, make([]byte, 8)},
		{"length: 0 values", iReady, 48, make([]byte, 8)},
		{"length: 18446744073709551615 values", iReady, 48, bytes.Repeat([]byte{255}, 8)},
		{"voter: 2, want 0 or 1", iReady, 64, []byte{2}},
		{"worker 1: number: 0 follows 0", iReady, 65 + 48 + 2 + 4, []byte{0}},
		{"worker 2: number: 65536, at most 65535", iReady, 65 + 48 + 2 + 8, []byte{0, 0, 1}},
		{"workers: 1025, at most 1024", iReady, 65 + 48, []byte{1, 4}},
		{"void attempts: 65, at most 64", iReady, 65 + 48 + 2 + 12, []byte{65}},
		{"members: 0, want 1 to 1024", iGroup, 0, []byte{0}},
		{"members: 1025, at most 1024", iGroup, 0, []byte{1, 4}},
		{"member 0: flags: 00000100", iGroup, 14, []byte{4}},
		{"member 0: ID: 129 bytes", iGroup, 15, []byte{129}},
		{"member 1: worker: 1 follows 1", iGroup, 18, []byte{1}},
		{"length: 0 values", iCommit, 64, make([]byte, 8)},
		{"who: 129 bytes", iFailed, 0, []byte{129}},
		{"why: 513 bytes", iRefuse, 0, []byte{1, 2}},
		{"weight: weight is NaN", iOffer, 0, bytes.Repeat([]byte{255}, 8)},
		{"length: 0 values", iOffer, 8, []byte{0}},
		{"asks: 2, want 0 or 1", iHolds, 0, []byte{2}},
	} {
		typ, p := write(c.sample, c.at, c.v...)
		if _, err := ParseMessage(typ, p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T with %x at %d: error %v, want %q in it", samples()[c.sample], c.v, c.at, err, c.want)
		}
	}
	for want, m := range map[string]Message{
		"held workers: the result of attempt 7 is of nobody": ready{weight: 1, length: 1, have: held{attempt: 7}},
		"workers: the result is of nobody":                   commit{length: 1},
	} {
		if _, err := ParseMessage(m.Kind(), m.AppendTo(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	for _, typ := range []Type{0, TypeContribution, TypeResult, TypePair, 99} {
		if m, err := ParseMessage(typ, nil); err == nil || m != nil || !strings.Contains(err.Error(), "is not a control message") {
			t.Errorf("type %d is read as %v, %v", typ, m, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(AppendHeader(nil, Header{Type: TypeReady}, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= HeaderLen-4 { // give the fuzzer the CRC
			p = appendCRC(p[:HeaderLen-4])
		}
		h, err := ParseHeader(p)
		if err != nil {
			return
		}
		payload := make([]byte, h.Length)
		again := AppendHeader(nil, h, payload)
		if !bytes.Equal(again[:44], p[:44]) {
			t.Fatalf("%x came back as %x", p, again)
		}
	})
}

func appendCRC(p []byte) []byte {
	c := Checksum(p)
	return append(bytes.Clone(p), byte(c), byte(c>>8), byte(c>>16), byte(c>>24))
}

func FuzzMessage(f *testing.F) {
	for _, m := range samples() {
		f.Add(uint8(m.Kind()), m.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, typ uint8, p []byte) {
		m, err := ParseMessage(Type(typ), p)
		if err != nil {
			return
		}
		again, err := ParseMessage(Type(typ), m.AppendTo(nil))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%#v came back as %#v, %v", m, again, err)
		}
	})
}

func TestShardsCoverTheVector(t *testing.T) {
	for _, length := range []int{1, 255, 256, 257, 1000, 65536 * 3, 1_000_003} {
		for n := 1; n < 12; n++ {
			at := 0
			for i, s := range Shards(length, n, 256) {
				if s.Lo != at || s.Hi < s.Lo || s.Lo%256 != 0 && s.Lo != length {
					t.Fatalf("%d values, %d members: shard %d is %v after %d", length, n, i, s, at)
				}
				for c := range s.Chunks(ChunkValues) {
					k := s.Chunk(c, ChunkValues)
					if k.Lo != at || k.Hi <= k.Lo || k.Hi-k.Lo > ChunkValues {
						t.Fatalf("chunk %d of %v is %v", c, s, k)
					}
					at = k.Hi
				}
			}
			if at != length {
				t.Fatalf("%d values, %d members: shards end at %d", length, n, at)
			}
		}
	}
}
