package clustertest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"loco/mesh"
	"loco/mesh/p2p"
	"loco/mesh/p2p/p2ptest"
	"loco/mesh/sim"
)

// p2pNet is the mesh on libp2p, each worker on a machine of its own of a simulated network.
type p2pNet struct {
	simNet
	dir string // of the workers' identities

	mu    sync.Mutex
	addrs []string              // of the workers that have been up
	first chan struct{}         // closed when there is somebody to join
	still map[int]chan struct{} // of workers that stand still, closed when they go on
}

func newP2PNet(seed uint64, p params, dir string) *p2pNet {
	n := sim.NewWith(sim.Options{Peers: p.workers, Latency: p.link.Latency, Bandwidth: p.link.Bandwidth, Jitter: p.link.Jitter, Loss: p.link.Loss,
		Detection: 1 << 60, Buffer: p2ptest.Window, Seed: seed}) // libp2p finds out by itself which workers are alive
	return &p2pNet{simNet: simNet{n, p}, dir: dir, addrs: make([]string, p.workers), first: make(chan struct{}), still: map[int]chan struct{}{}}
}

func (n *p2pNet) start(p *process) (mesh.Mesh, error) {
	if p.life > 0 {
		n.Restart(p.index)
	} else if p.index > 0 {
		<-n.first
	}
	c := p2pTimes()
	c.IdentityFile = filepath.Join(n.dir, fmt.Sprintf("identity-%d.key", p.index))
	c.Network, c.Listen = p2ptest.On(n.Net, p.index), []string{p2ptest.Listen(p.index)}
	c.RunID, c.Worker = "0123456789abcdef", p.index
	c.Logger = slog.New(slog.NewTextHandler(p, nil))
	n.mu.Lock()
	for i, a := range n.addrs {
		if i != p.index && a != "" {
			c.Bootstrap = append(c.Bootstrap, a)
		}
	}
	n.mu.Unlock()
	m, err := p2p.New(p.ctx, c)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[p.index] = m.Addrs()[0]
	if p.index == 0 && p.life == 0 {
		close(n.first)
	}
	return m, nil
}

// p2pTimes are Default's, but for those that faults of some seconds are to reach.
func p2pTimes() p2p.Config {
	c := p2p.Default()
	c.SuspectAfter, c.DeadAfter = 3*time.Second, 6*time.Second
	return c
}

func (n *p2pNet) detection() time.Duration { return p2pTimes().Detection() }

// kill takes the machine's connections away first, so that closing the mesh tells nobody.
func (n *p2pNet) kill(p *process) {
	n.Kill(p.index)
	if m, ok := p.joined().(*p2p.Mesh); ok {
		_ = m.Close()
	}
}

func (n *p2pNet) leave(p *process) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = p.joined().(*p2p.Mesh).Leave(ctx)
}

// stop takes away the machine's network; what of a process does not use it asks stand.
func (n *p2pNet) stop(i int, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	goOn := n.still[i]
	switch {
	case on && goOn == nil:
		n.still[i] = make(chan struct{})
		n.unplug(i, true)
	case !on && goOn != nil:
		delete(n.still, i)
		close(goOn)
		n.unplug(i, false)
	}
}

func (n *p2pNet) unplug(i int, on bool) {
	for k := range n.params.workers {
		if k != i {
			n.Cut(i, k, on)
			n.Cut(k, i, on)
		}
	}
}

func (n *p2pNet) stand(p *process) {
	n.mu.Lock()
	goOn := n.still[p.index]
	n.mu.Unlock()
	if goOn == nil {
		return
	}
	select {
	case <-goOn:
	case <-p.ctx.Done():
	}
}
