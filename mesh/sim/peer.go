package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"loco/mesh"
)

// Peer is one process's end of the network; it implements [mesh.Mesh].
type Peer struct {
	net   *Net
	id    mesh.ID
	index int

	// Guarded by net.mu.
	status    mesh.Status
	seen      map[int]mesh.Member
	changed   chan struct{}
	handlers  map[string]func(mesh.ID, mesh.Stream)
	corrupt   map[string]int
	blackhole map[string]bool
	paused    bool
	ended     bool
	as        mesh.State // Dead or Left once ended
}

func newPeer(n *Net, i int) *Peer {
	return &Peer{
		net: n, id: ID(i), index: i, status: mesh.Status{Worker: i},
		seen: map[int]mesh.Member{}, changed: make(chan struct{}),
		handlers: map[string]func(mesh.ID, mesh.Stream){}, corrupt: map[string]int{}, blackhole: map[string]bool{},
	}
}

// Self implements [mesh.Mesh].
func (p *Peer) Self() mesh.ID { return p.id }

// View implements [mesh.Mesh].
func (p *Peer) View() ([]mesh.Member, <-chan struct{}) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	var out []mesh.Member
	for _, m := range p.seen {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b mesh.Member) int {
		return cmp.Or(cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID))
	})
	return out, p.changed
}

// Announce implements [mesh.Mesh].
func (p *Peer) Announce(s mesh.Status) {
	n := p.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.ended {
		return
	}
	p.status = s
	n.observe(p, p.index, false)
	for _, o := range n.peers {
		if o != p && n.reaches(o, p) {
			n.later(n.opts.Latency, func() {
				if n.reaches(o, p) {
					n.observe(o, p.index, false)
				}
			})
		}
	}
}

// Handle implements [mesh.Mesh].
func (p *Peer) Handle(protocol string, h func(mesh.ID, mesh.Stream)) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if h == nil {
		delete(p.handlers, protocol)
		return
	}
	p.handlers[protocol] = h
}

// Open implements [mesh.Mesh]. To a peer behind a partition, or paused, it waits as
// a dial does until ctx ends.
func (p *Peer) Open(ctx context.Context, to mesh.ID, protocol string) (mesh.Stream, error) {
	n := p.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		i := slices.IndexFunc(n.peers, func(q *Peer) bool { return q.id == to })
		if i < 0 {
			return nil, fmt.Errorf("sim: open %s to %s: unknown peer", protocol, to)
		}
		q := n.peers[i]
		if p.ended || q.ended || n.closed {
			return nil, fmt.Errorf("sim: open %s from %s to %s: connection refused", protocol, p.id, to)
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("sim: open %s to %s: %w", protocol, to, err)
		}
		if n.reaches(p, q) {
			h, ok := q.handlers[protocol]
			if !ok {
				return nil, fmt.Errorf("sim: open %s to %s: protocol not supported", protocol, to)
			}
			a, b := n.connect(p, q, protocol)
			go h(p.id, b)
			return a, nil
		}
		faulted := n.faulted
		n.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-faulted:
		}
		n.mu.Lock()
	}
}

// Close leaves the mesh: the others see Left without waiting for Detection.
func (p *Peer) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.net.end(p, mesh.Left)
	return nil
}

var (
	errReset  = errors.New("sim: stream reset")
	errClosed = errors.New("sim: network closed")
)

// arrival returns when size bytes written now by a reach b, and books the link. The
// caller holds n.mu.
func (n *Net) arrival(a, b *Peer, size int) time.Time {
	now := time.Now()
	if n.opts.Bandwidth == 0 {
		return now.Add(n.opts.Latency)
	}
	link := [2]int{a.index, b.index}
	start := now
	if n.busy[link].After(now) {
		start = n.busy[link]
	}
	done := start.Add(time.Duration(float64(size) / float64(n.opts.Bandwidth) * float64(time.Second)))
	n.busy[link] = done
	return done.Add(n.opts.Latency)
}
