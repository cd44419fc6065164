package protocol

import (
	"bytes"
	"encoding/hex"
	"reflect"
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
	if got := hex.EncodeToString(failed{"ab", "c"}.AppendTo(nil)); got != "02006162010063" {
		t.Errorf("Failed is %s", got)
	}
	if got := hex.EncodeToString(append(holds{true}.AppendTo(nil), meet{"ab"}.AppendTo(nil)...)); got != "0102006162" {
		t.Errorf("Holds and Meet are %s", got)
	}
	if got := hex.EncodeToString(lonely{terms{1, 258}}.AppendTo(nil)); got != "000000000000f03f0201000000000000" {
		t.Errorf("Lonely is %s", got)
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
			for i, s := range Shards(length, n) {
				if s.Lo != at || s.Hi < s.Lo || s.Lo%256 != 0 && s.Lo != length {
					t.Fatalf("%d values, %d members: shard %d is %v after %d", length, n, i, s, at)
				}
				for c := range s.Chunks() {
					k := s.Chunk(c)
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
