package sim

import (
	"testing"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
)

func TestMeshContract(t *testing.T) { meshtest.Run(t, meshOf(Link{Latency: time.Millisecond})) }

// The same contract over links like those between homes, in virtual time.
func TestMeshContractInVirtualTime(t *testing.T) {
	for name, l := range map[string]Link{
		"near": {},
		"far":  {Latency: 80 * time.Millisecond, Bandwidth: 4 << 20, Jitter: 0.8, Loss: 0.02},
	} {
		t.Run(name, func(t *testing.T) { meshtest.RunVirtual(t, meshOf(l)) })
	}
}

func meshOf(l Link) meshtest.Start {
	return func(t *testing.T, n int) []meshtest.Peer {
		net := NewWith(Options{Peers: n, Latency: l.Latency, Bandwidth: l.Bandwidth, Jitter: l.Jitter, Loss: l.Loss, Detection: 100 * time.Millisecond})
		t.Cleanup(net.Close)
		var out []meshtest.Peer
		for i := range n {
			out = append(out, meshtest.Peer{
				Mesh:  net.Peer(i),
				Leave: func() { _ = net.Peer(i).Close() },
				Kill:  func() { net.Kill(i) },

				Restart: func() mesh.Mesh { return net.Restart(i) },
				Cut: func(on bool) {
					if on {
						net.Partition([]int{i})
					} else {
						net.Partition()
					}
				},
			})
		}
		return out
	}
}
