package p2p

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const someone = peer.ID("someone")

func mustResources(t *testing.T) network.ResourceManager {
	t.Helper()
	r, err := resources()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// untilRefused counts what is given before it is refused.
func untilRefused(most int, more func() error) int {
	for n := range most {
		if more() != nil {
			return n
		}
	}
	return most
}

func TestConnectionsOfOnePeer(t *testing.T) {
	r := mustResources(t)
	addr := ma.StringCast("/ip4/127.0.0.1/tcp/1")
	for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
		id := someone + peer.ID(dir.String())
		if got := untilRefused(100, func() error {
			c, err := r.OpenConnection(dir, true, addr)
			if err != nil {
				return err
			}
			return c.SetPeer(id)
		}); got != 16 {
			t.Errorf("%s: one peer may have %d connections, want 16", dir, got)
		}
	}
}

// Many workers may come from one address, and as many as that from this machine itself.
func TestConnectionsOfOneAddress(t *testing.T) {
	for addr, want := range map[string]int{
		"/ip4/192.0.2.1/tcp/1": 256, "/ip6/2001:db8::1/tcp/1": 256, "/ip4/127.0.0.1/tcp/1": 256, "/ip6/::1/tcp/1": 256, // transient ones: no hello yet
	} {
		r := mustResources(t)
		if got := untilRefused(1000, func() error {
			_, err := r.OpenConnection(network.DirInbound, true, ma.StringCast(addr))
			return err
		}); got != want {
			t.Errorf("%s may open %d connections at once, want %d", addr, got, want)
		}
	}
	r := mustResources(t)
	for addr, want := range map[string]int{"/ip4/192.0.2.1/tcp/1": 256, "/ip4/127.0.0.1/tcp/1": 1000} {
		n := 0
		if got := untilRefused(1000, func() error {
			c, err := r.OpenConnection(network.DirInbound, true, ma.StringCast(addr))
			if err != nil {
				return err
			}
			n++
			return c.SetPeer(peer.ID(addr) + peer.ID(rune('a'+n/10))) // with a hello it is transient no more
		}); got != want {
			t.Errorf("%s may have %d connections, want %d", addr, got, want)
		}
	}
}

// What no peer or protocol answers for yet has limits of its own.
func TestTransientLimits(t *testing.T) {
	r := mustResources(t)
	id := 0
	if got := untilRefused(100, func() error {
		id++
		s, err := r.OpenStream(someone+peer.ID(rune('a'+id)), network.DirInbound)
		if err != nil {
			return err
		}
		return s.ReserveMemory(32<<20, network.ReservationPriorityAlways)
	}); got != 8 {
		t.Errorf("%d streams of 32 MiB without a protocol, want 8", got)
	}
	for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
		r := mustResources(t)
		n := 0
		if got := untilRefused(5000, func() error {
			n++
			_, err := r.OpenStream(someone+peer.ID(rune('a'+n/100)), dir)
			return err
		}); got != 4096 {
			t.Errorf("%s: %d streams without a protocol, want 4096", dir, got)
		}
	}
}

func TestStreamsOfOnePeer(t *testing.T) {
	r := mustResources(t)
	for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
		id := someone + peer.ID(dir.String())
		if got := untilRefused(2000, func() error {
			s, err := r.OpenStream(id, dir)
			if err != nil {
				return err
			}
			return s.SetProtocol("/loco/x")
		}); got != 1024 {
			t.Errorf("%s: one peer may have %d streams, want 1024", dir, got)
		}
	}
}

// Two windows fit into a stream's memory, and 16 streams of those into a peer's.
func TestMemoryOfOnePeer(t *testing.T) {
	const window = 16 << 20
	if m := muxer(); m.InitialStreamWindowSize != window || m.MaxStreamWindowSize != window || m.MaxMessageSize != 1<<20 {
		t.Errorf("windows of %d to %d bytes, records of %d", m.InitialStreamWindowSize, m.MaxStreamWindowSize, m.MaxMessageSize)
	}
	r := mustResources(t)
	got := untilRefused(100, func() error {
		s, err := r.OpenStream(someone, network.DirInbound)
		if err != nil {
			return err
		}
		if err := s.SetProtocol("/loco/x"); err != nil {
			return err
		}
		return s.ReserveMemory(2*window, network.ReservationPriorityAlways)
	})
	if got != 16 {
		t.Errorf("%d streams of 32 MiB fit into a peer's memory, want 16", got)
	}
	s, err := r.OpenStream("another", network.DirInbound)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ReserveMemory(2*window+1, network.ReservationPriorityAlways); err == nil {
		t.Error("a stream may hold more than 32 MiB")
	}
}
