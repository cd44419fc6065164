package p2p

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"loco/mesh"
	"loco/mesh/meshtest"
)

// logBuffer collects a log that a test waits for.
type logBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{}
}

func newLogBuffer() *logBuffer { return &logBuffer{written: make(chan struct{})} }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.written)
	b.written = make(chan struct{})
	return b.text.Write(p)
}

// await waits until one line of the log contains all of parts.
func (b *logBuffer) await(t *testing.T, parts ...string) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		b.mu.Lock()
		text, written := b.text.String(), b.written
		b.mu.Unlock()
		for line := range strings.Lines(text) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return
			}
		}
		select {
		case <-written:
		case <-deadline:
			t.Fatalf("no line of the log has all of %q:\n%s", parts, text)
		}
	}
}

func TestConfigMismatch(t *testing.T) {
	log := newLogBuffer()
	ours := testConfig(t)
	ours.Logger = slog.New(slog.NewTextHandler(log, nil))
	member := mustNew(t, ours)

	theirs := testConfig(t)
	theirs.RunID = "fedcba9876543210"
	theirs.Canonical = []string{"model.layers=4", "run.seed=1", "sync.strategy=diloco"}
	theirs.Bootstrap = member.Addrs()
	m, err := New(t.Context(), theirs)
	if err == nil {
		m.Close()
		t.Fatal("a worker of another configuration joined")
	}
	var config *ConfigError
	if !errors.As(err, &config) {
		t.Fatalf("error %v, want a *ConfigError", err)
	}
	want := []Diff{{"model.layers", "4", "2"}, {"run.seed", "1", ""}}
	if config.Peer != member.Self() || !slices.Equal(config.Diffs, want) {
		t.Errorf("refused by %s with %+v, want by %s with %+v", config.Peer, config.Diffs, member.Self(), want)
	}
	if text := err.Error(); !strings.Contains(text, `model.layers is "4" here and "2" there`) || !strings.Contains(text, "run.seed") {
		t.Errorf("the error does not list the keys: %s", text)
	}
	log.await(t, "peer refused", "model.layers", "run.seed", `\"2\" here and \"4\" there`)
	if members, _ := member.View(); len(members) != 1 {
		t.Errorf("the refused worker is in the view: %+v", members)
	}
}

func TestConfigErrorText(t *testing.T) {
	var many []Diff
	for i := range 50 {
		many = append(many, Diff{Key: fmt.Sprintf("key.%02d", i), Theirs: strings.Repeat("x", 10_000)})
	}
	text := (&ConfigError{Peer: "p", Diffs: many}).Error()
	if !strings.Contains(text, "key.19") || strings.Contains(text, "key.20") || !strings.HasSuffix(text, "; and 30 more") || len(text) > 20_000 {
		t.Errorf("%d bytes: %.200s", len(text), text)
	}
	two := &ConfigError{Peer: "p", Diffs: []Diff{{"a", "1", "2"}, {"b`", "", "x"}}}
	if got, want := two.Error(), `p2p: p runs another configuration: a is "1" here and "2" there; "b`+"`"+`" is "" here and "x" there`; got != want {
		t.Errorf("text %s, want %s", got, want)
	}
	if text := (&ConfigError{Peer: "p", Diffs: many[:maxDiffsShown]}).Error(); !strings.Contains(text, "key.19") || strings.Contains(text, "more") {
		t.Errorf("as many as are shown: %.200s", text)
	}
	if text := (&ConfigError{Peer: "p"}).Error(); !strings.Contains(text, "same release") {
		t.Errorf("no differences: %s", text)
	}
}

func TestWorkerTaken(t *testing.T) {
	first := testConfig(t)
	first.Worker = 3
	member := mustNew(t, first)
	second := testConfig(t)
	second.Worker = 3
	second.Bootstrap = member.Addrs()
	m, err := New(t.Context(), second)
	if err == nil {
		m.Close()
		t.Fatal("two live members have one number")
	}
	var taken *WorkerTakenError
	if !errors.As(err, &taken) || taken.Worker != 3 || taken.By != member.Self() {
		t.Fatalf("error %v, want worker 3 taken by %s", err, member.Self())
	}
	if !strings.Contains(err.Error(), "worker number 3") {
		t.Errorf("text %q", err)
	}
	// By a third member too.
	third := testConfig(t)
	third.Worker = 0
	third.Bootstrap = member.Addrs()
	other := mustNew(t, third)
	meshtest.Await(t, other, "want two live members", func(ms []mesh.Member) bool { return meshtest.Live(ms) == 2 })
	second.Bootstrap = other.Addrs()
	if m, err := New(t.Context(), second); !errors.As(err, &taken) || taken.By != member.Self() {
		if err == nil {
			m.Close()
		}
		t.Errorf("asking another member: %v, want worker 3 taken by %s", err, member.Self())
	}
}

// A number is free again when its member has left.
func TestWorkerFreed(t *testing.T) {
	a := mustNew(t, testConfig(t))
	c := testConfig(t)
	c.Bootstrap, c.Worker = a.Addrs(), 5
	b := mustNew(t, c)
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := mustNew(t, c); numberOf(t, again) != 5 {
		t.Errorf("worker %d, want 5", numberOf(t, again))
	}
}

func numberOf(t *testing.T, m *Mesh) int {
	t.Helper()
	members, _ := m.View()
	return meshtest.Find(t, members, m.Self()).Worker
}

// awaitDistinct waits until all see each other under the same numbers, no two alike.
func awaitDistinct(t *testing.T, meshes []*Mesh) {
	t.Helper()
	for _, m := range meshes {
		meshtest.Await(t, m, fmt.Sprintf("want %d workers of different numbers", len(meshes)), func(ms []mesh.Member) bool {
			for i, member := range ms {
				if member.State != mesh.Joining || i > 0 && member.Worker == ms[i-1].Worker {
					return false
				}
				for _, o := range meshes {
					if o.Self() == member.ID && o.cfg.Worker != member.Worker {
						return false
					}
				}
			}
			return len(ms) == len(meshes)
		})
	}
}

// mutual are configurations of members that name each other.
func mutual(t *testing.T, n int) []Config {
	addrs := freeAddrs(t, n)
	dir := t.TempDir()
	configs := make([]Config, n)
	var bootstrap []string
	for i := range configs {
		configs[i] = testConfig(t)
		configs[i].IdentityFile = filepath.Join(dir, fmt.Sprint(i))
		configs[i].Listen = []string{addrs[i]}
		key, err := loadIdentity(configs[i].IdentityFile)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		bootstrap = append(bootstrap, addrs[i]+"/p2p/"+id.String())
	}
	for i := range configs {
		configs[i].Bootstrap = bootstrap // its own is skipped
	}
	return configs
}

// Of two that join at the same time with a number that neither may change one has it,
// and the other is told.
func TestOneNumberAtATime(t *testing.T) {
	configs := mutual(t, 2)
	meshes, errs := make([]*Mesh, 2), make([]error, 2)
	var wg sync.WaitGroup
	for i, c := range configs {
		c.Worker = 0
		wg.Go(func() { meshes[i], errs[i] = New(t.Context(), c) })
	}
	wg.Wait()
	for i := range meshes {
		if meshes[i] != nil {
			defer meshes[i].Close()
		}
		var taken *WorkerTakenError
		if other := errs[1-i]; errs[i] == nil {
			if !errors.As(other, &taken) || taken.By != meshes[i].Self() {
				t.Errorf("the other of one that joined: %v", other)
			}
			meshtest.Await(t, meshes[i], "want nobody else", func(ms []mesh.Member) bool { return meshtest.Live(ms) == 1 })
			return
		}
	}
	t.Errorf("neither joined: %v", errs)
}

// Members that name each other start at the same time, and one after another.
func TestMutualBootstrap(t *testing.T) {
	configs := mutual(t, 3)
	var meshes []*Mesh
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, c := range configs {
		wg.Go(func() {
			m, err := New(t.Context(), c)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { m.Close() })
			mu.Lock()
			meshes = append(meshes, m)
			mu.Unlock()
		})
	}
	wg.Wait()
	if !t.Failed() {
		awaitDistinct(t, meshes)
	}
}

// freeAddrs returns TCP multiaddrs that nobody listened on a moment ago.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // together, so that no port is given twice
		addrs = append(addrs, fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))
	}
	return addrs
}

func TestBootstrapUnreachable(t *testing.T) {
	addrs := freeAddrs(t, 2)
	c := testConfig(t)
	c.JoinTimeout = 500 * time.Millisecond
	id := mustNew(t, testConfig(t)).Self()
	other := mustNew(t, testConfig(t))
	wrong := strings.Replace(other.Addrs()[0], string(other.Self()), string(id), 1) // there, but somebody else
	c.Bootstrap = []string{wrong}
	_, err := New(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), wrong) || !strings.Contains(err.Error(), "peer id mismatch") {
		t.Errorf("somebody else answers: %v", err)
	}
	c.Bootstrap = []string{addrs[0] + "/p2p/" + string(id), addrs[1] + "/p2p/" + string(other.Self())}
	_, err = New(t.Context(), c)
	for _, part := range append(slices.Clone(c.Bootstrap), "500ms", "connection refused") {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want %q in it", err, part)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = New(ctx, c); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a canceled context: %v", err)
	}
}

// One bad address among the bootstrap addresses does not keep a worker out.
func TestBootstrapPartlyReachable(t *testing.T) {
	member := mustNew(t, testConfig(t))
	gone := mustNew(t, testConfig(t))
	addrs := append(gone.Addrs(), member.Addrs()...)
	gone.Close()
	c := testConfig(t)
	c.Bootstrap = addrs
	awaitDistinct(t, []*Mesh{member, mustNew(t, c)})
}

// A worker may be started before the one that it joins.
func TestBootstrapStartsLater(t *testing.T) {
	dir, addr := t.TempDir(), freeAddrs(t, 1)[0]
	first := testConfig(t)
	first.IdentityFile, first.Listen = filepath.Join(dir, "first"), []string{addr}
	key, err := loadIdentity(first.IdentityFile)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// The first attempt is seen to be refused by a listener that is not libp2p.
	l, err := net.Listen("tcp", strings.Replace(strings.TrimPrefix(addr, "/ip4/"), "/tcp/", ":", 1))
	if err != nil {
		t.Fatal(err)
	}
	second := testConfig(t)
	second.Bootstrap = []string{addr + "/p2p/" + id.String()}
	type result struct {
		m   *Mesh
		err error
	}
	joined := make(chan result, 1)
	go func() {
		m, err := New(t.Context(), second)
		joined <- result{m, err}
	}()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	if c, err := l.Accept(); err != nil {
		t.Fatal(err)
	} else {
		c.Close()
	}
	l.Close()
	mustNew(t, first)
	r := <-joined
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.m.Close() })
	if numberOf(t, r.m) != 1 {
		t.Errorf("worker %d, want 1", numberOf(t, r.m))
	}
}

func TestRestart(t *testing.T) {
	for _, how := range []string{"killed", "left"} {
		t.Run(how, func(t *testing.T) {
			first := mustNew(t, testConfig(t))
			c := testConfig(t)
			c.Bootstrap, c.IdentityFile = first.Addrs(), filepath.Join(t.TempDir(), "identity")
			second := mustNew(t, c)
			id := second.Self()
			second.Announce(mesh.Status{Ready: true, Round: 9})
			meshtest.Await(t, first, "want the second alive", func(ms []mesh.Member) bool { return len(ms) == 2 && ms[1].State == mesh.Alive })
			if how == "left" {
				second.Leave(t.Context())
			} else {
				second.Close()
			}
			again := mustNew(t, c) // at another port
			if again.Self() != id || numberOf(t, again) != 1 {
				t.Errorf("came back as %s, worker %d; was %s, worker 1", again.Self(), numberOf(t, again), id)
			}
			meshtest.Await(t, first, "want the second joining", func(ms []mesh.Member) bool {
				return len(ms) == 2 && ms[1].State == mesh.Joining && ms[1].Round == 0
			})
			again.Announce(mesh.Status{Ready: true, Round: 10})
			meshtest.Await(t, first, "want the second alive in round 10", func(ms []mesh.Member) bool {
				return len(ms) == 2 && ms[1].State == mesh.Alive && ms[1].Round == 10
			})
			echoOnce(t, first, again)
			echoOnce(t, again, first)
		})
	}
}

// The first member of a run comes back without asking anybody: the others dial it.
func TestFirstMemberRestarts(t *testing.T) {
	c := testConfig(t)
	c.IdentityFile, c.Listen = filepath.Join(t.TempDir(), "identity"), freeAddrs(t, 1)
	first := mustNew(t, c)
	joiner := testConfig(t)
	joiner.Bootstrap = first.Addrs()
	second := mustNew(t, joiner)
	first.Close()
	meshtest.Await(t, second, "want the first dead", func(ms []mesh.Member) bool { return meshtest.Find(t, ms, first.Self()).State == mesh.Dead })
	awaitDistinct(t, []*Mesh{mustNew(t, c), second})
}

func echoOnce(t *testing.T, from, to *Mesh) {
	t.Helper()
	to.Handle("once", func(_ mesh.ID, s mesh.Stream) {
		io.Copy(s, s)
		s.Close()
	})
	s, err := from.Open(t.Context(), to.Self(), "once")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	s.CloseWrite()
	if back, err := io.ReadAll(s); err != nil || string(back) != "hello" {
		t.Fatalf("%q came back, %v", back, err)
	}
}

// stranger is a libp2p host that is not loco, connected to m.
func stranger(t *testing.T, m *Mesh) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.DisableMetrics(), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	info, err := peer.AddrInfoFromString(m.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestStrangers(t *testing.T) {
	oversize := append(binary.LittleEndian.AppendUint32(nil, maxHelloBytes+1), frameHello)
	endless := append(binary.LittleEndian.AppendUint32(nil, maxHelloBytes), frameHello)
	for _, c := range []struct {
		name string
		say  []byte
		log  string
	}{
		{"garbage", bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 64), "not a hello"},
		{"garbage in a frame", append([]byte{5, 0, 0, 0, frameHello}, "hello"...), "magic"},
		{"oversize", oversize, "at most 131072"},
		{"never ends", endless, "deadline"},
		{"says nothing", nil, "deadline"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := newLogBuffer()
			config := testConfig(t)
			config.HelloTimeout = 300 * time.Millisecond
			config.Logger = slog.New(slog.NewTextHandler(log, nil))
			m := mustNew(t, config)
			h := stranger(t, m)
			id, _ := peer.Decode(string(m.Self()))
			s, err := h.NewStream(t.Context(), id, helloProtocol)
			if err != nil {
				t.Fatal(err)
			}
			if c.say == nil {
				s.SetDeadline(time.Now().Add(10 * time.Second))
				go s.Read(make([]byte, 1)) // negotiates the protocol, which is lazy
			} else if _, err := s.Write(c.say); err != nil {
				t.Fatal(err)
			}
			log.await(t, "peer refused", h.ID().String(), c.log)
			awaitDisconnect(t, h, id)
			if members, _ := m.View(); len(members) != 1 {
				t.Errorf("the stranger is in the view: %+v", members)
			}
		})
	}
}

// A peer that never says hello gets no stream through, and is disconnected.
func TestStrangerWithoutHello(t *testing.T) {
	log := newLogBuffer()
	config := testConfig(t)
	config.HelloTimeout = 200 * time.Millisecond
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	m := mustNew(t, config)
	m.Handle("secret", func(mesh.ID, mesh.Stream) { t.Error("a stranger reached a handler") })
	h := stranger(t, m)
	id, _ := peer.Decode(string(m.Self()))
	s, err := h.NewStream(t.Context(), id, "/loco/0123456789abcdef/secret")
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(10 * time.Second))
	s.Write([]byte("let me in"))
	if _, err := io.ReadAll(s); err == nil {
		t.Error("the stranger's stream ended as if it were served")
	}
	log.await(t, "peer refused", h.ID().String(), "said no hello")
	awaitDisconnect(t, h, id)
}

func awaitDisconnect(t *testing.T, h host.Host, from peer.ID) {
	t.Helper()
	gone := make(chan struct{}, 1)
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) {
		select {
		case gone <- struct{}{}:
		default:
		}
	}})
	deadline := time.After(10 * time.Second)
	for h.Network().Connectedness(from) == network.Connected {
		select {
		case <-gone:
		case <-deadline:
			t.Fatal("the stranger is still connected")
		}
	}
}
