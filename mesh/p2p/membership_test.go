package p2p

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	corep "github.com/libp2p/go-libp2p/core/protocol"

	"loco/mesh"
	"loco/mesh/meshtest"
	"loco/mesh/swim"
)

// hasty are times for a test that waits for a death by silence.
func hasty(c *Config) {
	c.Heartbeat, c.ProbeEvery = 50*time.Millisecond, 100*time.Millisecond
	c.SuspectAfter, c.DeadMin, c.DeadAfter = 400*time.Millisecond, 400*time.Millisecond, 2*time.Second
}

func inState(t *testing.T, id mesh.ID, want ...mesh.State) func([]mesh.Member) bool {
	return func(ms []mesh.Member) bool {
		for _, s := range want {
			if meshtest.Find(t, ms, id).State == s {
				return true
			}
		}
		return false
	}
}

// A paused process is suspect and dead although its connection stands. It comes back by
// itself, over the same connection, and does not count its pause as silence of the others.
func TestPausedComesBack(t *testing.T) {
	a, b := pair(t, hasty)
	b.Announce(mesh.Status{Ready: true})
	meshtest.Await(t, a, "want the other alive", inState(t, b.Self(), mesh.Alive))
	b.mu.Lock() // nothing of it goes on
	meshtest.Await(t, a, "want the paused one dead", inState(t, b.Self(), mesh.Dead))
	if s, err := a.Open(t.Context(), b.Self(), "x"); err == nil || !strings.Contains(err.Error(), "the member is dead") {
		if err == nil {
			s.Reset()
		}
		t.Errorf("a stream to a dead member: %v", err)
	}
	b.tick() // its first look at the world, before it has read anything
	for _, v := range b.members.View(b.now()) {
		if v.State == mesh.Dead || v.State == mesh.Suspect {
			t.Errorf("after its pause it sees %s %s", v.ID, v.State)
		}
	}
	b.mu.Unlock()
	meshtest.Await(t, a, "want it back", inState(t, b.Self(), mesh.Alive))
	echoOnce(t, a, b)
	echoOnce(t, b, a)
}

// A member that only others reach is suspect, not dead.
func TestReachedByOthersOnly(t *testing.T) {
	a, b := pair(t, hasty)
	c := testConfig(t)
	hasty(&c)
	c.Bootstrap = a.Addrs()
	mustNew(t, c)
	for _, m := range []*Mesh{a, b} {
		meshtest.Await(t, m, "want three live members", func(ms []mesh.Member) bool { return meshtest.Live(ms) == 3 })
	}
	pid, err := peer.Decode(string(a.Self()))
	if err != nil {
		t.Fatal(err)
	}
	// The pings of a do not arrive at b; those of the third do.
	deaf := func(s network.Stream) {
		if s.Conn().RemotePeer() == pid {
			s.Reset()
			return
		}
		b.answerMembers(s)
	}
	b.host.SetStreamHandler(corep.ID(b.protocol(membersProtocol)), deaf)
	for _, conn := range b.host.Network().ConnsToPeer(pid) {
		for _, s := range conn.GetStreams() {
			if s.Protocol() == corep.ID(b.protocol(membersProtocol)) {
				s.Reset()
			}
		}
	}
	meshtest.Await(t, a, "want the one that does not answer suspect", inState(t, b.Self(), mesh.Suspect))
	// Nor does it die: longer than the longest silence that is allowed.
	over := time.After(c.DeadAfter * 3 / 2)
	for {
		members, changed := a.View()
		if s := meshtest.Find(t, members, b.Self()).State; s == mesh.Dead {
			t.Fatalf("the member that others reach is %s", s)
		}
		select {
		case <-changed:
			continue
		case <-over:
		}
		break
	}
	b.host.SetStreamHandler(corep.ID(b.protocol(membersProtocol)), b.answerMembers)
	meshtest.Await(t, a, "want it as it was", inState(t, b.Self(), mesh.Joining))
}

// What others say of a member is refuted by itself.
func TestRefutes(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	a.mu.Lock()
	k, _ := a.members.Find(b.Self())
	a.post(swim.Envelope{To: b.Self(), Message: swim.Message{
		Kind: swim.Ping, Incarnation: a.members.Self().Incarnation,
		Rumors: []swim.Rumor{{Say: swim.SayDead, Of: b.Self(), Incarnation: k.Beat.Incarnation}},
	}})
	a.mu.Unlock()
	deadline := time.After(10 * time.Second)
	for {
		a.mu.Lock()
		now, _ := a.members.Find(b.Self())
		a.mu.Unlock()
		if now.Beat.Incarnation.Refuted == 1 && now.Beat.Incarnation.Life == k.Beat.Incarnation.Life {
			break
		}
		again := time.NewTimer(10 * time.Millisecond)
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("the accused is in incarnation %+v", now.Beat.Incarnation)
		}
	}
	if c := b.LifeCounts(); c.Refutations != 1 || c.Sent == 0 || c.Received == 0 {
		t.Errorf("the accused counts %+v", c)
	}
}

func TestReadMessage(t *testing.T) {
	g := swim.Message{Kind: swim.Ask, Number: 7, Target: "x"}
	raw := swim.AppendMessage([]byte{0, 0}, g)
	raw[0] = byte(len(raw) - 2)
	if back, n, err := readMessage(bytes.NewReader(raw)); err != nil || n != len(raw) || back.Number != 7 || back.Target != "x" {
		t.Errorf("read %+v of %d bytes, %v", back, n, err)
	}
	var bad *messageError
	if _, _, err := readMessage(bytes.NewReader([]byte{0xff, 0xff})); !errors.As(err, &bad) || !strings.Contains(err.Error(), "65535 bytes: at most") {
		t.Errorf("too long: %v", err)
	}
	if _, _, err := readMessage(bytes.NewReader([]byte{1, 0, 9})); !errors.As(err, &bad) {
		t.Errorf("not a message: %v", err)
	}
	for n := range raw {
		if _, _, err := readMessage(bytes.NewReader(raw[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(raw), err)
		}
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{23, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, src []byte) {
		g, n, err := readMessage(bytes.NewReader(src))
		if err != nil {
			return
		}
		if again := swim.AppendMessage(nil, g); !bytes.Equal(again, src[2:n]) {
			t.Errorf("%x is read as %+v, which is written %x", src[:n], g, again)
		}
	})
}
