package gossip

import (
	"bytes"
	"context"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/mesh/sim"
)

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
