package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"loco/mesh"
	"loco/mesh/swim"
)

// answers is a network on which addresses answer a dial as listed; one that is not
// listed does not answer at all.
type answers map[string]error

func (answers) Transport(transport.Upgrader, network.ResourceManager) (transport.Transport, error) {
	return nil, errors.New("none")
}

func (a answers) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	err, ok := a[address]
	switch {
	case !ok:
		<-ctx.Done()
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	near, far := net.Pipe()
	return near, far.Close()
}

// A process is gone where every TCP address that says something of its machine refuses.
func TestAllRefuse(t *testing.T) { synctest.Test(t, allRefuse) }

func allRefuse(t *testing.T) {
	refused := fmt.Errorf("dial: %w", os.NewSyscallError("connect", syscall.ECONNREFUSED))
	net := answers{"192.0.2.1:1": refused, "192.0.2.2:1": refused, "127.0.0.1:1": refused, "192.0.2.3:1": nil, "127.0.0.1:3": nil, "192.0.2.4:1": syscall.EHOSTUNREACH}
	const gone, gone2, there, lost = "/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.3/tcp/1", "/ip4/192.0.2.4/tcp/1"
	const near, nearThere, quic = "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/3", "/ip4/192.0.2.1/udp/1/quic-v1"
	m := &Mesh{cfg: Config{Network: net}, ctx: t.Context()}
	for _, c := range []struct {
		addrs string
		want  bool
	}{
		{"", false}, {quic, false}, {gone, true}, {gone + " " + gone2, true}, {gone + " " + quic, true}, {there, false}, {lost, false},
		{gone + " " + there, false}, {gone + " " + lost, false}, {near, true}, {nearThere, false},
		{gone + " " + nearThere, true}, {there + " " + near, false},
	} {
		if got := m.allRefuse(parseAddrs(strings.Fields(c.addrs))); got != c.want {
			t.Errorf("%s: all refuse is %v, want %v", c.addrs, got, c.want)
		}
	}
	start := time.Now()
	if m.allRefuse(parseAddrs([]string{"/ip4/192.0.2.9/tcp/1", there})) {
		t.Error("one accepts, and all refuse")
	}
	if took := time.Since(start); took != 0 {
		t.Errorf("one that accepts is known after %v", took)
	}
}

// Members are dialed in the background, and strangers with an address, up to a number.
func TestSeekSkips(t *testing.T) {
	c := testConfig(t)
	c.DialTimeout = time.Hour
	m := mustNew(t, c)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // it accepts and says nothing, so that a dial lasts
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	far := func(i int) peer.AddrInfo {
		addr := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", mute.Addr().(*net.TCPAddr).Port)
		return peer.AddrInfo{ID: peer.ID(fmt.Sprintf("stranger %d", i)), Addrs: parseAddrs([]string{addr})}
	}
	seeks := func(info peer.AddrInfo) bool {
		m.seek(info)
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.seeking[info.ID]
	}
	m.mu.Lock()
	for i := range seekersMax - 1 {
		m.seeking[far(100+i).ID] = true
	}
	m.mu.Unlock()
	if seeks(peer.AddrInfo{ID: m.host.ID(), Addrs: far(0).Addrs}) {
		t.Error("this worker itself is sought")
	}
	if seeks(peer.AddrInfo{ID: far(0).ID}) {
		t.Error("a stranger without an address is sought")
	}
	if !seeks(far(1)) {
		t.Error("a stranger is not sought")
	}
	if seeks(far(2)) {
		t.Errorf("a stranger is sought beside %d others", seekersMax)
	}
	m.Close()
	if seeks(far(3)) {
		t.Error("a closed mesh seeks")
	}
}

// A dial for a stream ends, with the reason, when its context does and when the peer is
// no live member any more.
func TestReachLiveEnds(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0") // a dial of it lasts
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	c := testConfig(t)
	c.DialTimeout, c.Forget = time.Hour, time.Hour
	m := mustNew(t, c)
	other := mustID(t)
	info := peer.AddrInfo{ID: other, Addrs: parseAddrs([]string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", mute.Addr().(*net.TCPAddr).Port)})}
	id := mesh.ID(other.String())
	admit := func(life uint64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.members.Admit(id, Heartbeat{Status: mesh.Status{Worker: 9}, Incarnation: swim.Incarnation{Life: life}, Addrs: addrTexts(info.Addrs)}, m.now())
	}
	admit(1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.reachLive(ctx, info); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past its deadline: %v", err)
	}
	admit(2)
	time.AfterFunc(50*time.Millisecond, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.members.Goodbye(id, 2, m.now())
		m.note()
	})
	if err := m.reachLive(t.Context(), info); err == nil || !strings.Contains(err.Error(), "the member is left") {
		t.Errorf("a member that leaves: %v", err)
	}
}

// mustID is the ID of a new key.
func mustID(t *testing.T) peer.ID {
	t.Helper()
	key, err := loadIdentity("")
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A peer that no member is dialed some times, a member that left never.
func TestLastAddrs(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	id, _ := peer.Decode(string(b.Self()))
	if addrs, known := a.lastAddrs(id); !known || !slices.Equal(addrTexts(addrs), addrTexts(parseAddrs(b.dialable()))) {
		t.Errorf("a member is known (%v) under %v", known, addrs)
	}
	if addrs, known := a.lastAddrs("nobody"); known || addrs != nil {
		t.Errorf("a stranger is known (%v) under %v", known, addrs)
	}
	b.Leave(t.Context())
	a.mu.Lock()
	a.members.Goodbye(b.id, 1<<63, a.now())
	a.mu.Unlock()
	if addrs, known := a.lastAddrs(id); known || addrs != nil {
		t.Errorf("one that left is known (%v) under %v", known, addrs)
	}
}

// An error of a dial is one line that says each reason once.
func TestDialReason(t *testing.T) {
	addr := parseAddrs([]string{"/ip4/192.0.2.1/tcp/1"})[0]
	cause := func(texts ...string) error {
		e := &swarm.DialError{}
		for _, s := range texts {
			e.DialErrors = append(e.DialErrors, swarm.TransportError{Address: addr, Cause: errors.New(s)})
		}
		return fmt.Errorf("dial: %w", e)
	}
	for want, err := range map[string]error{
		"a b c":          errors.New("a\n  b\tc"),
		"refused":        cause("refused", "refused"),
		"refused; reset": cause("refused", "reset", "refused"),
	} {
		if got := dialReason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if got := dialReason(cause()); strings.Contains(got, "\n") || !strings.HasPrefix(got, "dial: ") {
		t.Errorf("without a reason: %q", got)
	}
}

func TestJoinError(t *testing.T) {
	infos, err := parseBootstrap([]string{
		"/ip4/192.0.2.1/tcp/1/p2p/12D3KooWGRUVh8pfi6eUoxFxWmmDDFFJDHQvC8KYbZ9j8pPk8xYa", "/ip4/192.0.2.2/tcp/2/p2p/12D3KooWRaNCaGfZUCNqaD2DyRAQwjmqfFUSBymQ5s4wxcYdpYxU",
		"/ip4/192.0.2.3/udp/3/quic-v1/p2p/12D3KooWGRUVh8pfi6eUoxFxWmmDDFFJDHQvC8KYbZ9j8pPk8xYa",
	})
	if err != nil || len(infos) != 2 || len(infos[0].Addrs) != 2 || len(infos[1].Addrs) != 1 {
		t.Fatalf("addresses by peer: %v, %v", infos, err)
	}
	m := &Mesh{cfg: Config{JoinTimeout: 3 * time.Second}}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	<-late.Done()
	text := m.joinError(late, infos, []error{errors.New("refused"), nil}).Error()
	for _, want := range []string{"within 3s", "192.0.2.1/tcp/1/p2p/12D3KooWG", "8xYa: refused\n", "192.0.2.3/udp/3/quic-v1/p2p/12D3KooWG", "pYxU: no answer yet"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if text := m.joinError(ended, infos, make([]error, 2)).Error(); !strings.Contains(text, "before context canceled") {
		t.Errorf("a canceled context: %q", text)
	}
}

func TestTimesByDefault(t *testing.T) {
	c := Default()
	c.ProbeEvery, c.SuspectAfter, c.DeadAfter, c.Seed = time.Second, 5*time.Second, 15*time.Second, 9
	if s := c.swim(); s.SuspectMin != 2*time.Second || s.DeadMin != 5*time.Second || s.Seed != 9 || s.Heartbeat != c.Heartbeat {
		t.Errorf("the times are %+v", s)
	}
	c.SuspectAfter = time.Second
	if s := c.swim(); s.SuspectMin != time.Second {
		t.Errorf("the floor of %v is above its cap", s.SuspectMin)
	}
	c.SuspectMin, c.DeadMin, c.Seed = 3, 4, 0
	s := c.swim()
	if s.SuspectMin != 3 || s.DeadMin != 4 {
		t.Errorf("what was set became %+v", s)
	}
	if again := c.swim(); s.Seed == 0 || again.Seed == s.Seed {
		t.Errorf("the random seeds are %d and %d", s.Seed, again.Seed)
	}
	c = Default()
	c.ProbeEvery, c.SuspectAfter, c.DeadAfter = 50*time.Second, time.Minute, 3*time.Minute
	if got, want := c.Detection(), c.swim().Detection(); got != want || got < time.Minute {
		t.Errorf("detection after %v, want %v", got, want)
	}
}

// libp2p's warnings go to the default log as debug messages, and nothing else of it does.
func TestLibp2pLog(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	var out bytes.Buffer
	level := new(slog.LevelVar)
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
	log := slog.New(debugHandler{}).With("a", 1).With("b", 2)
	level.Set(slog.LevelInfo)
	log.Error("one")
	level.Set(slog.LevelDebug)
	log.Info("two")
	log.Warn("three")
	if got := out.String(); strings.Contains(got, "one") || strings.Contains(got, "two") || !strings.Contains(got, "level=DEBUG msg=three a=1 b=2\n") {
		t.Errorf("logged %q", got)
	}
}

// A message that no stream takes is dropped, and one that is malformed ends its stream.
func TestReadMessageErrors(t *testing.T) {
	var bad *messageError
	raw := swim.AppendMessage([]byte{0, 0}, swim.Message{Kind: swim.Ping})
	raw[0] = byte(len(raw) - 2)
	if _, n, err := readMessage(bytes.NewReader(raw)); err != nil || n != len(raw) {
		t.Errorf("%d of %d bytes, %v", n, len(raw), err)
	}
	raw[2] = 99 // the kind
	if _, _, err := readMessage(bytes.NewReader(raw)); !errors.As(err, &bad) || isLost(err) || !strings.HasPrefix(err.Error(), "p2p: ") {
		t.Errorf("a message of no kind: %v", err)
	}
	size := swim.MaxMessageBytes + 1
	if _, _, err := readMessage(bytes.NewReader([]byte{byte(size), byte(size >> 8)})); !errors.As(err, &bad) || isLost(err) {
		t.Errorf("a message that is too long: %v", err)
	}
	size--
	if _, _, err := readMessage(bytes.NewReader([]byte{byte(size), byte(size >> 8)})); !errors.Is(err, io.EOF) || !isLost(err) {
		t.Errorf("the longest message, cut short: %v", err)
	}
}

// A goodbye is a heartbeat that says so. Anything else is refused by name, or ignored.
func TestGoodbyes(t *testing.T) {
	log := newLogBuffer()
	a, b := pair(t, func(c *Config) {
		if c.Worker == 0 {
			c.Logger = slog.New(slog.NewTextHandler(log, nil))
		}
	})
	s, err := b.Open(t.Context(), a.Self(), goodbyeProtocol)
	if err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("bye"))
	s.Close()
	log.await(t, "goodbye refused", string(b.Self()), "version: 98, want 3")
	if s, err = b.Open(t.Context(), a.Self(), goodbyeProtocol); err != nil {
		t.Fatal(err)
	}
	s.Write([]byte("b"))
	s.Reset()
	log.await(t, "goodbye cut short", string(b.Self()))
	if s, err = b.Open(t.Context(), a.Self(), goodbyeProtocol); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	beat := b.members.Self()
	b.mu.Unlock()
	s.Write(AppendHeartbeat(nil, beat)) // without the flag: no goodbye
	s.CloseWrite()
	s.SetDeadline(time.Now().Add(10 * time.Second))
	if rest, err := io.ReadAll(s); len(rest) > 0 || err != nil {
		t.Errorf("the answer to a goodbye is %q, %v, want its end", rest, err)
	}
	if members, _ := a.View(); members[1].State == mesh.Left {
		t.Error("a heartbeat is taken for a goodbye")
	}
}

// Hellos leave no stream behind, on either side.
func TestHellosEnd(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	hellos := func(m *Mesh) (n int) {
		for _, c := range m.host.Network().Conns() {
			for _, s := range c.GetStreams() {
				if s.Protocol() == helloProtocol {
					n++
				}
			}
		}
		return n
	}
	deadline := time.After(15 * time.Second)
	for hellos(a)+hellos(b) > 0 {
		again := time.NewTimer(10 * time.Millisecond)
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("%d and %d streams of hellos are left", hellos(a), hellos(b))
		}
	}
}

// A heartbeat that is not sent is logged, unless the mesh has ended.
func TestHeartbeatNotSent(t *testing.T) {
	for _, ended := range []bool{false, true} {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		m := mustNew(t, testConfig(t))
		m.Close() // nothing else logs
		m.log = log
		if !ended {
			m.ctx = t.Context()
		}
		m.publish()
		if got := strings.Contains(out.String(), "heartbeat not sent"); got == ended {
			t.Errorf("after the end %v: logged %q", ended, &out)
		}
	}
}
