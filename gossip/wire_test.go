package gossip

import (
	"bytes"
	"context"
	"encoding/hex"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/mesh/sim"
)

func TestHeaderGolden(t *testing.T) {
	h := header{Type: typeContribution, Part: Slow, Round: 0x0102030405060708, Attempt: 0x1ffff, Shard: 3, Chunk: 4, Worker: 5, Count: 6}
	p := appendHeader(nil, h, []byte("payload"))
	const want = "6c6f636f01100100" + "0807060504030201" + "ffff0100" + "03000000" + "04000000" + "05000000" +
		"06000000" + "07000000" + "7069e3f4" + "cf55eeb7"
	if got := hex.EncodeToString(p); got != want {
		t.Errorf("header is %s, want %s", got, want)
	}
	back, err := parseHeader(p)
	h.Length, h.CRC = 7, castagnoli([]byte("payload"))
	if err != nil || back != h {
		t.Errorf("parsed %+v, %v, want %+v", back, err, h)
	}
}

// samples holds one message of each type with every field set.
func samples() []message {
	h := held{attempt: 7, hash: [32]byte{9}, workers: []int{0, 3, 65535}}
	return []message{
		ready{digest: [32]byte{1, 2}, weight: 2.5, length: 77, last: 5, have: h}, withdraw{},
		group{members: []groupMember{{1, "a", 1, true}, {2, "bc", 3.5, false}}, adopt: h, source: 1, drop: 4},
		done{[32]byte{3}}, commit{[32]byte{1}, [32]byte{2}, 5, []int{1, 2}}, failed{"x", "why"},
		behind{8, "because"}, want{}, offer{terms{1, 2}}, accept{terms{3, 4}}, refuse{"no"}, lonely{terms{5, 6}},
	}
}

func TestMessagesRoundTrip(t *testing.T) {
	for _, m := range samples() {
		p := m.appendTo(nil)
		back, err := parseMessage(m.kind(), p)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%#v came back as %#v, %v", m, back, err)
		}
		for n := range p {
			if _, err := parseMessage(m.kind(), p[:n]); err == nil {
				t.Errorf("%T cut to %d of %d bytes was accepted", m, n, len(p))
			}
		}
		if _, err := parseMessage(m.kind(), append(p, 0)); err == nil {
			t.Errorf("%T with a byte more was accepted", m)
		}
	}
	if got := hex.EncodeToString(failed{"ab", "c"}.appendTo(nil)); got != "02006162010063" {
		t.Errorf("Failed is %s", got)
	}
	if got := hex.EncodeToString(lonely{terms{1, 258}}.appendTo(nil)); got != "000000000000f03f0201000000000000" {
		t.Errorf("Lonely is %s", got)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(appendHeader(nil, header{Type: typeReady}, nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= 44 { // give the fuzzer the CRC
			p = appendCRC(p[:44])
		}
		h, err := parseHeader(p)
		if err != nil {
			return
		}
		payload := make([]byte, h.Length)
		again := appendHeader(nil, h, payload)
		if !bytes.Equal(again[:40], p[:40]) {
			t.Fatalf("%x came back as %x", p, again)
		}
	})
}

func appendCRC(p []byte) []byte {
	c := castagnoli(p)
	return append(bytes.Clone(p), byte(c), byte(c>>8), byte(c>>16), byte(c>>24))
}

func FuzzMessage(f *testing.F) {
	for _, m := range samples() {
		f.Add(uint8(m.kind()), m.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, typ uint8, p []byte) {
		m, err := parseMessage(frameType(typ), p)
		if err != nil {
			return
		}
		again, err := parseMessage(frameType(typ), m.appendTo(nil))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%#v came back as %#v, %v", m, again, err)
		}
	})
}

func FuzzState(f *testing.F) {
	var b bytes.Buffer
	_ = writeState(&b, sampleState(10))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := readState(bytes.NewReader(p), 1<<20)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeState(&again, s); err != nil || !bytes.HasPrefix(p, again.Bytes()) {
			t.Fatalf("state does not come back: %v", err)
		}
	})
}

func TestShardsCoverTheVector(t *testing.T) {
	for _, length := range []int{1, 255, 256, 257, 1000, 65536 * 3, 1_000_003} {
		for n := 1; n < 12; n++ {
			at := 0
			for i, s := range shards(length, n) {
				if s.lo != at || s.hi < s.lo || s.lo%256 != 0 && s.lo != length {
					t.Fatalf("%d values, %d members: shard %d is %v after %d", length, n, i, s, at)
				}
				for c := range s.chunks() {
					k := s.chunk(c)
					if k.lo != at || k.hi <= k.lo || k.hi-k.lo > chunkValues {
						t.Fatalf("chunk %d of %v is %v", c, s, k)
					}
					at = k.hi
				}
			}
			if at != length {
				t.Fatalf("%d values, %d members: shards end at %d", length, n, at)
			}
		}
	}
}

func sampleState(n int) State {
	return State{Round: 4, Step: 80, Digest: [32]byte{7}, Meta: bytes.Repeat([]byte("meta"), 100_000),
		Vectors: []NamedVector{{"phi", vector(1, 1, n)}, {"momentum", vector(2, 1, n)}, {Name: "empty"}}}
}

func TestStateRoundTripAndLimits(t *testing.T) {
	var b bytes.Buffer
	want := sampleState(200_000)
	if err := writeState(&b, want); err != nil {
		t.Fatal(err)
	}
	back, err := readState(bytes.NewReader(b.Bytes()), 1<<24)
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Fatalf("the state does not come back: %v", err)
	}
	if _, err := readState(bytes.NewReader(b.Bytes()), 1<<20); err == nil || !strings.Contains(err.Error(), "phi") {
		t.Errorf("a state over the limit: %v", err)
	}
	for _, at := range []int{0, 9, 30, 57, 70, 200, 400_000, b.Len() - 100, b.Len() - 1} {
		p := bytes.Clone(b.Bytes())
		p[at] ^= 4
		if _, err := readState(bytes.NewReader(p), 1<<24); err == nil {
			t.Errorf("a flipped bit at %d of %d was accepted", at, len(p))
		}
		if _, err := readState(bytes.NewReader(b.Bytes()[:at]), 1<<24); err == nil {
			t.Errorf("a state cut at %d of %d was accepted", at, b.Len())
		}
	}
}

func TestJoinerFetchesTheStateAndTakesPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, joiner = 4, 3
		var calls atomic.Int32
		c := newCluster(t, sim.Options{Peers: n, Latency: time.Millisecond, Bandwidth: 1 << 20}, "fp32", func(i int, cfg *Config) {
			cfg.State = func() (State, error) {
				if i == 0 {
					calls.Add(1)
				}
				return State{Round: 5, Digest: [32]byte{5}, Vectors: []NamedVector{{"phi", vector(9, 9, 400_000)}}}, nil
			}
		})
		defer c.close()
		c.net.Peer(joiner).Announce(mesh.Status{Worker: joiner}) // joining
		<-time.After(10 * time.Millisecond)
		// The first source dies amid the transfer: the next one is asked.
		time.AfterFunc(300*time.Millisecond, func() { c.net.Kill(0) })
		s, err := c.peers[joiner].FetchState(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if s.Round != 5 || calls.Load() != 1 || !sameBits(s.Vectors[0].Data, vector(9, 9, 400_000)) {
			t.Fatalf("fetched round %d after %d calls to the first source", s.Round, calls.Load())
		}
		// It is not announced as ready yet, but the source that served it waits.
		res := c.average(5, 1000, []int{1, 2, 3}, func(i int) {
			if i == joiner {
				<-time.After(testGrace / 2)
			}
		})
		checkAveraged(t, mustCodec(t, "fp32"), res, 5, 1000, []int{1, 2, 3})
	})
}

func TestFetchStateWithoutASourceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, sim.Options{Peers: 3}, "fp32", nil)
		defer c.close()
		start := time.Now()
		if _, err := c.peers[2].FetchState(context.Background()); err == nil || !strings.Contains(err.Error(), "worker 0 (peer-000)") {
			t.Errorf("error %v", err)
		}
		c.net.Pause(0)
		c.net.Pause(1)
		if _, err := c.peers[2].FetchState(context.Background()); err == nil {
			t.Error("fetched from paused peers")
		}
		if took := time.Since(start); took > 3*testGrace {
			t.Errorf("took %v", took)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	net := sim.New(1)
	defer net.Close()
	good := Config{Mesh: net.Peer(0), Codec: mustCodec(t, "fp32"), Deadline: time.Second, Grace: time.Second}
	for name, spoil := range map[string]func(*Config){
		"Mesh": func(c *Config) { c.Mesh = nil }, "Worker": func(c *Config) { c.Worker = 70000 }, "Codec": func(c *Config) { c.Codec = nil },
		"Deadline": func(c *Config) { c.Deadline = 0 }, "MaxLag": func(c *Config) { c.MaxLag = -1 },
	} {
		c := good
		spoil(&c)
		for _, err := range []error{func() error { _, err := NewAllReduce(c); return err }(), func() error { _, err := NewPairs(c); return err }()} {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}
