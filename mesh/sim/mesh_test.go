package sim

import (
	"testing"
	"time"

	"loco/mesh/meshtest"
)

func TestMeshContract(t *testing.T) {
	meshtest.Run(t, func(t *testing.T, n int) []meshtest.Peer {
		net := NewWith(Options{Peers: n, Latency: time.Millisecond, Detection: 100 * time.Millisecond})
		t.Cleanup(net.Close)
		var out []meshtest.Peer
		for i := range n {
			out = append(out, meshtest.Peer{
				Mesh:  net.Peer(i),
				Leave: func() { _ = net.Peer(i).Close() },
				Kill:  func() { net.Kill(i) },
			})
		}
		return out
	})
}
