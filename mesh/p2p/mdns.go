package p2p

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"loco/mesh"
)

// How long a worker without bootstrap addresses looks around before it takes itself for
// the first of its run. The time is random between the two, so that two workers that start
// at the same moment do not give up at the same moment.
const (
	lookMin   = 1500 * time.Millisecond
	lookMax   = 3 * time.Second
	lookGrace = 300 * time.Millisecond // to find more once one is found
)

// found is told by mDNS of peers of the same run on the local network.
type found struct {
	mesh  *Mesh
	first chan struct{} // closed when there is one

	mu      sync.Mutex
	looking bool
	infos   []peer.AddrInfo
}

// HandlePeerFound implements [mdns.Notifee]. Before this worker has joined it collects.
func (f *found) HandlePeerFound(info peer.AddrInfo) {
	f.mu.Lock()
	looking := f.looking && info.ID != f.mesh.host.ID()
	if looking {
		f.infos = append(f.infos, info)
		if len(f.infos) == 1 {
			close(f.first)
		}
	}
	f.mu.Unlock()
	if !looking {
		f.mesh.seek(info)
	}
}

// startMDNS looks for the run's members on the local network. A network without
// multicast is no reason not to train.
func (m *Mesh) startMDNS() *found {
	f := &found{mesh: m, first: make(chan struct{}), looking: true}
	service := mdns.NewMdnsService(m.host, "_loco-"+m.cfg.RunID[:minRunIDDigits]+"._udp", f)
	if err := service.Start(); err != nil {
		m.log.Warn("mDNS is off", "error", err)
		service.Close()
		return nil
	}
	m.mdns = service
	return f
}

// look waits until somebody is found, and returns who. It gives up after a while: then
// this worker is the first.
func (f *found) look(ctx context.Context) []peer.AddrInfo {
	ctx, cancel := context.WithTimeout(ctx, lookMin+rand.N(lookMax-lookMin))
	defer cancel()
	select {
	case <-f.first:
		mesh.Pause(ctx, lookGrace)
	case <-ctx.Done():
	}
	return f.done()
}

// done ends the collecting and returns what there is. f may be nil.
func (f *found) done() []peer.AddrInfo {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looking = false
	return f.infos
}
