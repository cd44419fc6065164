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
	paused    bool // its streams and its view stand still
	stopped   bool // and so do its goroutines
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
	p.stand()
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
	p.stand()
	if p.ended {
		return
	}
	p.status = s
	n.observe(p, p.index, false)
	for _, o := range n.peers {
		if o != p && n.hears(o, p) {
			n.later(n.delay(n.link(p.index, o.index)), func() {
				if n.hears(o, p) {
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

// Stand returns at once, unless the process is stopped: then it returns when the process
// goes on or has been killed. Code of a process that does not call its mesh calls Stand, so
// that it stops too.
func (p *Peer) Stand() {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.stand()
}

// stand is Stand with n.mu held, which it releases while it waits.
func (p *Peer) stand() {
	n := p.net
	for p.stopped && !p.ended && !n.closed {
		faulted := n.faulted
		n.mu.Unlock()
		<-faulted
		n.mu.Lock()
	}
}

// Open implements [mesh.Mesh]. It takes a round trip. To a peer behind a partition, or
// paused, it waits as a dial does until ctx ends.
func (p *Peer) Open(ctx context.Context, to mesh.ID, protocol string) (mesh.Stream, error) {
	n := p.net
	n.mu.Lock()
	defer n.mu.Unlock()
	asked := false
	for {
		p.stand()
		q, err := n.openable(p, to, protocol)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("sim: open %s to %s: %w", protocol, to, err)
		}
		var answered <-chan time.Time
		if n.passes(p, q) && n.passes(q, p) {
			trip := n.delay(n.link(p.index, q.index)) + n.delay(n.link(q.index, p.index))
			if asked || trip == 0 {
				h, ok := q.handlers[protocol]
				if !ok {
					return nil, fmt.Errorf("sim: open %s to %s: %w: protocol not supported", protocol, to, ErrRefused)
				}
				a, b := n.connect(p, q, protocol)
				go h(p.id, b)
				return a, nil
			}
			t := time.NewTimer(trip)
			defer t.Stop() // at most once for each fault that falls into the trip
			answered = t.C
		}
		faulted := n.faulted
		n.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-faulted:
		case <-answered:
			asked = true
		}
		n.mu.Lock()
	}
}

// openable returns the running process with that ID. n.mu is held.
func (n *Net) openable(p *Peer, to mesh.ID, protocol string) (*Peer, error) {
	i := slices.IndexFunc(n.peers, func(q *Peer) bool { return q.id == to })
	if i < 0 {
		return nil, fmt.Errorf("sim: open %s to %s: unknown peer", protocol, to)
	}
	if p.ended || n.peers[i].ended || n.closed {
		return nil, fmt.Errorf("sim: open %s from %s to %s: %w", protocol, p.id, to, ErrRefused)
	}
	return n.peers[i], nil
}

// Close leaves the mesh: the others see Left without waiting for Detection.
func (p *Peer) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.net.end(p, mesh.Left)
	return nil
}

// ErrRefused is wrapped by what Open returns where no process runs, or none that speaks the
// protocol.
var ErrRefused = errors.New("connection refused")

var (
	errReset  = errors.New("sim: stream reset")
	errClosed = errors.New("sim: network closed")
)
