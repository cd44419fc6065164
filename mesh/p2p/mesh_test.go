package p2p

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"loco/mesh"
	"loco/mesh/meshtest"
)

// pair is two members that see each other.
func pair(t *testing.T, change func(*Config)) (a, b *Mesh) {
	t.Helper()
	c := testConfig(t)
	change(&c)
	a = mustNew(t, c)
	c = testConfig(t)
	change(&c)
	c.Bootstrap = a.Addrs()
	b = mustNew(t, c)
	for _, m := range []*Mesh{a, b} {
		meshtest.Await(t, m, "want two live members", func(ms []mesh.Member) bool { return meshtest.Live(ms) == 2 })
	}
	return a, b
}

func TestConfigValidate(t *testing.T) {
	good := Default()
	good.RunID, good.Canonical = testRun, []string{"a=1", "b=2"}
	if err := good.Validate(); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	for want, change := range map[string]func(*Config){
		`run ID "": want 16 to 128`:               func(c *Config) { c.RunID = "" },
		`run ID "0123456789ABCDEF"`:               func(c *Config) { c.RunID = "0123456789ABCDEF" },
		"not sorted":                              func(c *Config) { c.Canonical = []string{"b=1", "a=1"} },
		`line "ab": want key=value`:               func(c *Config) { c.Canonical = []string{"ab"} },
		"at most 65536":                           func(c *Config) { c.Canonical = []string{"a=" + strings.Repeat("x", 64<<10)} },
		"worker -1: want 0 to 1048575":            func(c *Config) { c.Worker = -1 },
		"worker 1048576: want 0 to 1048575":       func(c *Config) { c.Worker = 1 << 20 },
		"no address to listen on":                 func(c *Config) { c.Listen = nil },
		`listen address "localhost:1"`:            func(c *Config) { c.Listen = []string{"localhost:1"} },
		`bootstrap address "/ip4/1.2.3.4/tcp/5"`:  func(c *Config) { c.Bootstrap = []string{"/ip4/1.2.3.4/tcp/5"} },
		"nothing to dial":                         func(c *Config) { c.Bootstrap = []string{"/p2p/12D3KooWGRUVh8pfi6eUoxFxWmmDDFFJDHQvC8KYbZ9j8pPk8xYa"} },
		"forget of 0s: must be positive":          func(c *Config) { c.Forget = 0 },
		"each must be longer than the one before": func(c *Config) { c.SuspectAfter = c.Heartbeat },
		"a floor is above its cap":                func(c *Config) { c.DeadMin = c.DeadAfter + 1 },
		"redial max of 0s: must be positive":      func(c *Config) { c.RedialMax = 0 },
		"dial timeout of 0s: must be positive":    func(c *Config) { c.DialTimeout = 0 },
		"join timeout of -1ns: must be positive":  func(c *Config) { c.JoinTimeout = -1 },
		"hello timeout of 0s: must be positive":   func(c *Config) { c.HelloTimeout = 0 },
		`0": want 16 to 128 lower-case`:           func(c *Config) { c.RunID = strings.Repeat("0", 15) },
		`1": want 16 to 128 lower-case`:           func(c *Config) { c.RunID = strings.Repeat("1", 129) },
		`"a\nb=1": want key=value`:                func(c *Config) { c.Canonical = []string{"a\nb=1"} },
		"65537 bytes":                             func(c *Config) { c.Canonical = []string{"a=" + strings.Repeat("x", 64<<10-1)} },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
		if m, err := New(t.Context(), c); err == nil {
			m.Close()
			t.Errorf("New accepts what Validate does not: %s", want)
		}
	}
}

func TestConfigValidateAtItsBounds(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"the shortest run ID":       func(c *Config) { c.RunID = strings.Repeat("0", 16) },
		"the longest run ID":        func(c *Config) { c.RunID = strings.Repeat("f", 128) },
		"the highest worker":        func(c *Config) { c.Worker = 1<<20 - 1 },
		"the longest configuration": func(c *Config) { c.Canonical = []string{"a=" + strings.Repeat("x", 64<<10-2)} },
		"an empty value":            func(c *Config) { c.Canonical = []string{"a=", "b=="} },
		"none":                      func(c *Config) { c.Canonical = nil },
		"the shortest times":        func(c *Config) { c.DialTimeout, c.JoinTimeout, c.HelloTimeout, c.RedialMax = 1, 1, 1, 1 },
	} {
		c := Default()
		c.RunID = testRun
		change(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A hello tells of the live members with their addresses, and not of this one.
func TestKnown(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	known := func() []Known {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.known()
	}
	list := known()
	if len(list) != 1 || list[0].ID != b.Self() || !slices.Equal(list[0].Addrs, addrTexts(parseAddrs(b.dialable()))) {
		t.Errorf("it tells of %+v, want %s at %v", list, b.Self(), b.dialable())
	}
	b.Leave(t.Context())
	meshtest.Await(t, a, "want the other gone", func(ms []mesh.Member) bool { return meshtest.Live(ms) == 1 })
	if list = known(); len(list) != 0 {
		t.Errorf("it tells of %+v, which has left", list)
	}
}

func TestListenTaken(t *testing.T) {
	a := mustNew(t, testConfig(t))
	c := testConfig(t)
	c.Listen = []string{strings.TrimSuffix(a.Addrs()[0], "/p2p/"+string(a.Self()))}
	if m, err := New(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.Listen[0]) {
		if err == nil {
			m.Close()
		}
		t.Errorf("error %v, want the address in it", err)
	}
}

func TestBytesCounted(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	if a.BytesSent() != 0 || b.BytesReceived() != 0 {
		t.Errorf("before any stream: %d sent, %d received", a.BytesSent(), b.BytesReceived())
	}
	echoOnce(t, a, b)
	for name, got := range map[string]uint64{"a sent": a.BytesSent(), "a received": a.BytesReceived(), "b sent": b.BytesSent(), "b received": b.BytesReceived()} {
		if got != 5 {
			t.Errorf("%s %d bytes, want 5", name, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	regs := map[string]*prometheus.Registry{}
	var last *prometheus.Registry
	a, b := pair(t, func(c *Config) {
		last = prometheus.NewRegistry()
		c.Registerer = last
		regs[[]string{"a", "b"}[len(regs)]] = last
	})
	echoOnce(t, a, b)
	b.Announce(mesh.Status{Ready: true})
	meshtest.Await(t, a, "want the other alive", func(ms []mesh.Member) bool { return ms[1].State == mesh.Alive })
	got := gather(t, regs["a"])
	for name, want := range map[string]float64{
		"loco_mesh_peers alive": 1, "loco_mesh_peers joining": 0, "loco_mesh_peers dead": 0, "loco_mesh_peers left": 0, "loco_mesh_peers suspect": 0,
		"loco_mesh_bytes_total sent": 5, "loco_mesh_bytes_total received": 5,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, want)
		}
	}
	libp2p := 0
	for name := range got {
		if strings.HasPrefix(name, "libp2p_") {
			libp2p++
		}
	}
	if libp2p == 0 {
		t.Error("libp2p's metrics are not there")
	}
	c := testConfig(t)
	c.Registerer = regs["a"]
	if m, err := New(t.Context(), c); err == nil || !strings.Contains(err.Error(), "registry of its own") {
		if err == nil {
			m.Close()
		}
		t.Errorf("two meshes in one registry: %v", err)
	}
	a.Close()
	if _, ok := gather(t, regs["a"])["loco_mesh_peers alive"]; ok {
		t.Error("the metrics of a closed mesh are still there")
	}
}

// gather returns "name label" of every counter and gauge; the label is the value of
// the first.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			if len(m.GetLabel()) > 0 {
				name += " " + m.GetLabel()[0].GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

func TestRankTCPFirst(t *testing.T) {
	addrs := func(texts ...string) []ma.Multiaddr { return parseAddrs(texts) }
	const tcp, tcp6, quic, ws = "/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1", "/ip4/1.2.3.4/udp/1/webrtc-direct"
	for _, c := range []struct {
		addrs []ma.Multiaddr
		want  map[string]time.Duration
	}{
		{addrs(quic, tcp, tcp6, ws), map[string]time.Duration{tcp: 0, tcp6: 0, quic: quicDelay, ws: otherDelay}},
		{addrs(quic, ws), map[string]time.Duration{quic: 0, ws: otherDelay}},
		{addrs(ws), map[string]time.Duration{ws: 0}},
		{nil, map[string]time.Duration{}},
	} {
		got := rankTCPFirst(c.addrs)
		if len(got) != len(c.want) {
			t.Errorf("%d of %d addresses are dialed", len(got), len(c.want))
		}
		for _, d := range got {
			if want, ok := c.want[d.Addr.String()]; !ok || d.Delay != want {
				t.Errorf("%s is dialed after %v, want %v", d.Addr, d.Delay, want)
			}
		}
	}
}

func TestAddrTexts(t *testing.T) {
	got := addrTexts(parseAddrs([]string{"/ip4/127.0.0.1/udp/1/quic-v1", "/ip4/127.0.0.1/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1", "/ip4/1.2.3.4/tcp/1"}))
	want := "/ip4/1.2.3.4/tcp/1 /ip4/1.2.3.4/udp/1/quic-v1 /ip4/127.0.0.1/tcp/1 /ip4/127.0.0.1/udp/1/quic-v1"
	if strings.Join(got, " ") != want {
		t.Errorf("order %v, want %s", got, want)
	}
	var many []string
	for range 30 {
		many = append(many, "/ip4/1.2.3.4/tcp/1")
	}
	if got := addrTexts(parseAddrs(many)); len(got) != maxAddrs {
		t.Errorf("%d addresses, at most %d", len(got), maxAddrs)
	}
}

// Both ends listen on both: TCP with TLS and yamux is what they use.
func TestTransports(t *testing.T) {
	for _, c := range []struct {
		name, protocol, security string
		listen                   []string
	}{
		{"both", "tcp", "/tls/1.0.0", []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"}},
		{"QUIC alone", "quic-v1", "", []string{"/ip4/127.0.0.1/udp/0/quic-v1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t, func(config *Config) { config.Listen = c.listen })
			id, err := peer.Decode(string(a.Self()))
			if err != nil {
				t.Fatal(err)
			}
			conn := b.host.Network().ConnsToPeer(id)[0]
			if !strings.Contains(conn.RemoteMultiaddr().String(), "/"+c.protocol) || string(conn.ConnState().Security) != c.security {
				t.Errorf("connected to %s with %s, want %s with %s", conn.RemoteMultiaddr(), conn.ConnState().Security, c.protocol, c.security)
			}
			echoOnce(t, a, b)
		})
	}
}

// A connection that is lost while both live comes back by itself.
func TestConnectionLost(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	id, err := peer.Decode(string(b.Self()))
	if err != nil {
		t.Fatal(err)
	}
	back := make(chan struct{}, 8)
	a.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { back <- struct{}{} }})
	a.host.Network().ClosePeer(id)
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		t.Fatal("not connected again")
	}
	echoOnce(t, a, b)
	echoOnce(t, b, a)
	for _, m := range []*Mesh{a, b} {
		members, _ := m.View()
		for _, v := range members {
			if v.State != mesh.Joining {
				t.Errorf("%s is %s", v.ID, v.State)
			}
		}
	}
}

// A member whose process hangs is suspect and then dead by its silence, although
// its connection stands; it is back when it is heard.
func TestSilence(t *testing.T) {
	a, b := pair(t, func(c *Config) {
		c.Heartbeat, c.SuspectAfter, c.DeadAfter = 20*time.Millisecond, 200*time.Millisecond, 10*time.Second
	})
	b.mu.Lock() // no heartbeat leaves while this is held
	meshtest.Await(t, a, "want the silent one suspect", func(ms []mesh.Member) bool { return meshtest.Find(t, ms, b.Self()).State == mesh.Suspect })
	b.mu.Unlock()
	meshtest.Await(t, a, "want it back", func(ms []mesh.Member) bool { return meshtest.Find(t, ms, b.Self()).State == mesh.Joining })
}

func TestClosedMesh(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	_, changed := b.View()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("closing does not wake those who wait for a change")
	}
	if _, err := b.Open(t.Context(), a.Self(), "once"); !errors.Is(err, ErrClosed) {
		t.Errorf("Open on a closed mesh: %v", err)
	}
	if err := errors.Join(b.Leave(t.Context()), b.Close()); err != nil {
		t.Errorf("ending again: %v", err)
	}
	if members, _ := b.View(); meshtest.Find(t, members, b.Self()).State != mesh.Left {
		t.Error("a closed mesh does not see itself gone")
	}
}

// Leave returns although a member does not listen to its goodbye.
func TestLeaveBounded(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	a.host.RemoveStreamHandler("/loco/0123456789abcdef/goodbye/1.0.0")
	stuck := make(chan struct{})
	defer close(stuck)
	a.Handle("goodbye/1.0.0", func(_ mesh.ID, s mesh.Stream) { <-stuck; s.Reset() })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Leave(ctx); err != nil {
		t.Error(err)
	}
	// The gossip of it, or the closed connection, still tells.
	meshtest.Await(t, a, "want the other gone", func(ms []mesh.Member) bool { return meshtest.Live(ms) == 1 })
}

// A lane's members see and reach each other over the real network, and nobody else does.
func TestLane(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	one, all := mesh.Lane(a, 7), mesh.Lane(b, 0)
	meshtest.Await(t, all, "want worker 0 in lane 7", func(ms []mesh.Member) bool { return len(ms) == 2 && ms[0].Lane == 7 })
	meshtest.Await(t, one, "want itself alone", func(ms []mesh.Member) bool { return len(ms) == 1 && ms[0].ID == a.Self() })
	joined := mesh.Lane(b, 7)
	meshtest.Await(t, one, "want two members", func(ms []mesh.Member) bool { return len(ms) == 2 })
	joined.Handle("ask", func(from mesh.ID, s mesh.Stream) {
		io.WriteString(s, string(from))
		s.Close()
	})
	if s, err := a.Open(t.Context(), b.Self(), "ask"); err == nil {
		s.Reset()
		t.Error("a lane's protocol is served to everybody")
	}
	s, err := one.Open(t.Context(), b.Self(), "ask")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	if from, err := io.ReadAll(s); err != nil || string(from) != string(a.Self()) {
		t.Errorf("the handler was told %q, want %s (%v)", from, a.Self(), err)
	}
}

func TestWorkerOfAnnounceIgnored(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	b.Announce(mesh.Status{Worker: 77, Ready: true})
	meshtest.Await(t, a, "want worker 1 alive", func(ms []mesh.Member) bool { return ms[1].State == mesh.Alive && ms[1].Worker == 1 })
	if numberOf(t, b) != 1 {
		t.Errorf("worker %d, want 1", numberOf(t, b))
	}
}

// 32 streams at once, each with more in flight than a window: the limits that
// libp2p sets by itself refuse this.
func TestBulk(t *testing.T) {
	const streams, size = 32, 1 << 20
	a, b := pair(t, func(*Config) {})
	got := make(chan int64, streams)
	b.Handle("bulk", func(_ mesh.ID, s mesh.Stream) {
		n, err := io.Copy(io.Discard, s)
		if err != nil {
			n = -1
		}
		got <- n
		s.Close()
	})
	for range streams {
		s, err := a.Open(t.Context(), b.Self(), "bulk")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			s.SetDeadline(time.Now().Add(30 * time.Second))
			s.Write(make([]byte, size))
			s.CloseWrite()
		}()
	}
	for range streams {
		if n := <-got; n != size {
			t.Errorf("%d bytes arrived, want %d", n, size)
		}
	}
}

// BenchmarkStream measures one stream over loopback, both ends in this process.
func BenchmarkStream(b *testing.B) {
	const chunk = 8 << 20
	c := Default()
	c.RunID = testRun
	first, err := New(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer first.Close()
	c.Worker, c.Bootstrap = 1, first.Addrs()
	second, err := New(b.Context(), c)
	if err != nil {
		b.Fatal(err)
	}
	defer second.Close()
	first.Handle("bulk", func(_ mesh.ID, s mesh.Stream) {
		io.Copy(io.Discard, s)
		s.Close()
	})
	s, err := second.Open(b.Context(), first.Self(), "bulk")
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, chunk)
	b.SetBytes(chunk)
	for b.Loop() {
		if _, err := s.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	s.CloseWrite()
	io.Copy(io.Discard, s)
}
