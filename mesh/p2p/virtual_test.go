package p2p

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"loco/mesh/meshtest"
	"loco/mesh/p2p/p2ptest"
	"loco/mesh/sim"
)

// virtualConfig is testConfig for the process on a machine of a simulated network, whose
// identity is kept in dir.
func virtualConfig(t *testing.T, net *sim.Net, i int, dir string) Config {
	c := testConfig(t)
	c.IdentityFile = filepath.Join(dir, "identity.key")
	c.Network, c.Listen = p2ptest.On(net, i), []string{p2ptest.Listen(i)}
	return c
}

// TestConformanceInVirtualTime is the mesh's contract over links like those between homes.
func TestConformanceInVirtualTime(t *testing.T) {
	meshtest.RunVirtual(t, func(t *testing.T, n int) []meshtest.Peer {
		net := sim.NewWith(sim.Options{Peers: n, Latency: 20 * time.Millisecond, Bandwidth: 12 << 20, Jitter: 0.3, Buffer: p2ptest.Window, Detection: 1000 * time.Hour})
		t.Cleanup(net.Close)
		peers := make([]meshtest.Peer, n)
		var first []string
		for i := range peers {
			c := virtualConfig(t, net, i, t.TempDir())
			c.Bootstrap = first
			m := mustNew(t, c)
			if i == 0 {
				first = m.Addrs()
			}
			peers[i] = meshtest.Peer{
				Mesh: m,
				Leave: func() {
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					defer cancel()
					if err := m.Leave(ctx); err != nil {
						t.Error(err)
					}
				},
				Kill: func() { net.Kill(i); m.Close() },
			}
		}
		return peers
	})
}
