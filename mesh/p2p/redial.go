package p2p

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"loco/mesh"
)

// How lost and new members are dialed in the background.
const (
	seekRetryMin = 50 * time.Millisecond
	seekUnknown  = 3  // attempts at a peer that is no member; gossip may name it again
	seekersMax   = 64 // strangers dialed at a time: gossip may name any number
	probeTimeout = time.Second
	refusedPause = time.Minute // before a peer that refused is asked, and logged, again
)

// seek dials a peer in the background until it is a member again, or for good if it
// is one and comes to be forgotten. It does nothing if that is under way.
func (m *Mesh) seek(info peer.AddrInfo) {
	m.mu.Lock()
	_, known := m.members.Find(mesh.ID(info.ID.String()))
	skip := m.ended || info.ID == m.host.ID() || m.seeking[info.ID] || m.isJoined(info.ID) ||
		!known && (len(m.seeking) >= seekersMax || len(info.Addrs) == 0)
	if !skip {
		m.seeking[info.ID] = true
	}
	m.mu.Unlock()
	if skip {
		return
	}
	m.spawn(func() {
		m.chase(info)
		m.mu.Lock()
		delete(m.seeking, info.ID)
		m.mu.Unlock()
	})
}

func (m *Mesh) chase(info peer.AddrInfo) {
	wait := seekRetryMin
	for attempt := 1; m.ctx.Err() == nil && !m.joined(info.ID); attempt++ {
		addrs, known := m.lastAddrs(info.ID)
		if !known && attempt > seekUnknown {
			return
		}
		if len(addrs) == 0 {
			addrs = info.Addrs
		}
		if known && !m.passed(info.ID) && m.allRefuse(addrs) {
			m.mu.Lock()
			m.members.Refuse(mesh.ID(info.ID.String()), m.now())
			m.note()
			m.mu.Unlock()
		} else if err := m.reach(m.ctx, peer.AddrInfo{ID: info.ID, Addrs: addrs}); isFatal(err) {
			m.log.Warn("peer refused", "peer", info.ID.String(), "error", err)
			mesh.Pause(m.ctx, refusedPause)
			return // the peer, or a heartbeat of it, may bring it up again
		} else if err != nil {
			m.log.Debug("peer not reached", "peer", info.ID.String(), "error", dialReason(err))
		}
		// Jitter keeps members that lost the same peer from dialing it in step.
		if m.joined(info.ID) || !mesh.Pause(m.ctx, wait/2+rand.N(wait)) {
			return
		}
		wait = min(2*wait, m.cfg.RedialMax)
	}
}

// reach connects to a peer and passes its hello.
func (m *Mesh) reach(ctx context.Context, info peer.AddrInfo) error {
	if m.joined(info.ID) {
		return nil
	}
	if err := m.connect(ctx, info); err != nil {
		return err
	}
	if m.joined(info.ID) { // it was faster
		return nil
	}
	return m.greet(ctx, info.ID)
}

// lastAddrs are the addresses by which a member that has not left was last known.
func (m *Mesh) lastAddrs(id peer.ID) (addrs []ma.Multiaddr, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, known := m.members.Find(mesh.ID(id.String()))
	if !known || k.State == mesh.Left {
		return nil, false
	}
	return parseAddrs(k.Beat.Addrs), true
}

// keep dials the bootstrap peers that are not connected for as long as the mesh
// lives: it is how two halves of a run that have forgotten each other meet again.
func (m *Mesh) keep(bootstrap []peer.AddrInfo) {
	for mesh.Pause(m.ctx, 2*m.cfg.RedialMax) {
		for _, info := range bootstrap {
			m.seek(info)
		}
	}
}

// dial opens a bare connection over the mesh's own network.
func (m *Mesh) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.cfg.Network != nil {
		return m.cfg.Network.DialContext(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// allRefuse reports whether every TCP address of a peer refuses connections, which
// only a machine without the process does. Loopback addresses say something about
// this machine, not about the peer's, unless the peer has no others.
func (m *Mesh) allRefuse(addrs []ma.Multiaddr) bool {
	var far, near []ma.Multiaddr
	for _, a := range addrs {
		switch {
		case !isDirectTCP(a):
		case manet.IsIPLoopback(a):
			near = append(near, a)
		default:
			far = append(far, a)
		}
	}
	if len(far) == 0 {
		far = near
	}
	if len(far) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(m.ctx, probeTimeout)
	defer cancel()
	var refused atomic.Int64
	var probes sync.WaitGroup
	for _, a := range far {
		probes.Go(func() {
			network, address, err := manet.DialArgs(a)
			if err != nil {
				return
			}
			c, err := m.dial(ctx, network, address)
			if err == nil {
				c.Close()
				cancel() // one that accepts settles it
			} else if errors.Is(err, syscall.ECONNREFUSED) {
				refused.Add(1)
			}
		})
	}
	probes.Wait()
	return refused.Load() == int64(len(far))
}
