package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"loco/mesh"
	"loco/mesh/swim"
)

// connected notes a new connection. A peer that does not pass a hello in time is
// disconnected.
func (m *Mesh) connected(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || m.links[id] != nil {
		return
	}
	l := &link{admitted: make(chan struct{}), gone: make(chan struct{}), mail: make(chan swim.Message, mailMax)}
	l.reaper = time.AfterFunc(2*m.cfg.HelloTimeout, func() {
		if m.ctx.Err() == nil && !m.passed(id) {
			m.log.Warn("peer refused", "peer", id.String(), "error", "connected, but said no hello")
			m.host.Network().ClosePeer(id)
		}
	})
	m.links[id] = l
}

// disconnected notes the end of a connection. If it was the peer's last one and the
// peer is a member that has not left, it is dialed again at once.
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
	k, known := m.members.Find(mesh.ID(id.String()))
	lost := known && k.State != mesh.Left
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

// joined reports whether a peer is connected, has passed a hello, and counts: one that
// was found dead has to say hello again.
func (m *Mesh) joined(id peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isJoined(id)
}

// isJoined is joined where m.mu is held.
func (m *Mesh) isJoined(id peer.ID) bool {
	l := m.links[id]
	k, known := m.members.Find(mesh.ID(id.String()))
	return l != nil && l.passed && known && k.Live()
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

// admit makes a peer a member once both sides have accepted, or says why not.
func (m *Mesh) admit(c network.Conn, beat Heartbeat) (why string) {
	pid := c.RemotePeer()
	id := mesh.ID(pid.String())
	m.mu.Lock()
	l := m.links[pid]
	if m.ended || l == nil {
		m.mu.Unlock()
		return "this mesh is closed, or the connection has ended"
	}
	m.listen()
	k, known := m.members.Find(id)
	restarted := known && beat.Incarnation.Life > k.Beat.Incarnation.Life
	why = m.members.Barred(id, beat)
	if m.members.Admit(id, beat, m.now()) && !l.passed {
		l.passed = true
		l.reaper.Stop()
		close(l.admitted)
	}
	m.note()
	m.mu.Unlock()
	if restarted {
		m.closeOlder(c)
	}
	return why
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
