package clustertest

import (
	"context"
	"time"

	"loco/mesh"
	"loco/mesh/sim"
)

// simNet is the mesh in memory.
type simNet struct {
	*sim.Net
	params params
}

func newSimNet(seed uint64, p params) simNet {
	n := sim.NewWith(sim.Options{Peers: p.workers, Latency: p.link.Latency, Bandwidth: p.link.Bandwidth, Jitter: p.link.Jitter, Loss: p.link.Loss,
		Detection: p.detection, Relayed: p.relayed, Seed: seed})
	for i := range p.workers {
		n.SetAccess(i, p.up, p.down)
	}
	return simNet{n, p}
}

func (n simNet) start(p *process) (mesh.Mesh, error) {
	if p.life == 0 {
		return n.Peer(p.index), nil
	}
	return n.Restart(p.index), nil
}

func (n simNet) kill(p *process) {
	if p.joined() == n.Peer(p.index) {
		n.Kill(p.index)
	}
}

// leave takes its time, as a goodbye that is waited for.
func (n simNet) leave(p *process) {
	_ = pause(context.Background(), time.Second)
	_ = p.joined().(*sim.Peer).Close()
}

func (n simNet) stand(p *process) { p.joined().(*sim.Peer).Stand() }

func (n simNet) stop(i int, on bool) {
	if on {
		n.Stop(i)
	} else {
		n.Continue(i)
	}
}

func (n simNet) detection() time.Duration { return n.params.detection }

func (n simNet) cut(from, to int, on bool) { n.Cut(from, to, on) }
func (n simNet) calm() {
	l := n.params.link
	l.Jitter, l.Loss = min(l.Jitter, 0.3), 0
	for from := range n.params.workers {
		for to := range n.params.workers {
			n.SetLink(from, to, l)
		}
	}
}

func (n simNet) close() { n.Close() }
