package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"loco/mesh"
)

// connected notes a new connection. A peer that does not pass a hello in time is
// disconnected.
func (m *Mesh) connected(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || m.links[id] != nil {
		return
	}
	l := &link{admitted: make(chan struct{}), gone: make(chan struct{})}
	l.reaper = time.AfterFunc(2*m.cfg.HelloTimeout, func() {
		if m.ctx.Err() == nil && !m.passed(id) {
			m.log.Warn("peer refused", "peer", id.String(), "error", "connected, but said no hello")
			m.host.Network().ClosePeer(id)
		}
	})
	m.links[id] = l
}

// disconnected notes the end of a connection. If it was the peer's last one and the
// peer is a member, be it dead, it is dialed again at once.
func (m *Mesh) disconnected(id peer.ID) {
	m.mu.Lock()
	l := m.links[id]
	if m.ended || l == nil || m.host.Network().Connectedness(id) == network.Connected {
		m.mu.Unlock()
		return
	}
	m.listen()
	l.reaper.Stop()
	close(l.gone)
	delete(m.links, id)
	r := m.members.by[mesh.ID(id.String())]
	lost := r != nil && r.state != mesh.Left
	m.mu.Unlock()
	if lost {
		m.seek(peer.AddrInfo{ID: id})
	}
}

// passed reports whether a peer is connected and has passed a hello.
func (m *Mesh) passed(id peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.links[id]
	return l != nil && l.passed
}

// awaitPassed waits until a connected peer has passed a hello, which may be under
// way, and returns its link, or nil if it does not pass.
func (m *Mesh) awaitPassed(id peer.ID) *link {
	m.mu.Lock()
	l := m.links[id]
	m.mu.Unlock()
	if l == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.HelloTimeout)
	defer cancel()
	select {
	case <-l.admitted:
		return l
	case <-l.gone:
		return nil
	case <-ctx.Done():
		return nil
	}
}

// admit makes a peer a member once both sides have accepted. claimed is the number
// that this worker had in the hello.
func (m *Mesh) admit(c network.Conn, beat Heartbeat, claimed int) bool {
	pid := c.RemotePeer()
	id := mesh.ID(pid.String())
	m.mu.Lock()
	l := m.links[pid]
	if m.ended || l == nil {
		m.mu.Unlock()
		return false
	}
	m.listen()
	restarted := false
	if r := m.members.by[id]; r != nil {
		restarted = beat.Incarnation > r.beat.Incarnation
	}
	changed, ok := m.members.admit(id, beat, m.now())
	if ok {
		l.claimed = claimed
		if !l.passed {
			l.passed = true
			l.reaper.Stop()
			close(l.admitted)
		}
	}
	m.note(changed)
	m.mu.Unlock()
	if restarted {
		m.closeOlder(c)
	}
	return ok
}

// closeOlder closes the connections to a peer's former process, which may not have
// noticed its end: streams must not be opened on them.
func (m *Mesh) closeOlder(current network.Conn) {
	for _, c := range m.host.Network().ConnsToPeer(current.RemotePeer()) {
		if c.ID() != current.ID() && c.Stat().Opened.Before(current.Stat().Opened) {
			c.Close()
		}
	}
}
