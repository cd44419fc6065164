package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// found is told by mDNS of peers of the same run on the local network.
type found struct{ mesh *Mesh }

// HandlePeerFound implements [mdns.Notifee].
func (f found) HandlePeerFound(info peer.AddrInfo) { f.mesh.seek(info) }

// startMDNS looks for the run's members on the local network. A network without
// multicast is no reason not to train.
func (m *Mesh) startMDNS() {
	if !m.cfg.MDNS {
		return
	}
	service := mdns.NewMdnsService(m.host, "_loco-"+m.cfg.RunID[:minRunIDDigits]+"._udp", found{m})
	if err := service.Start(); err != nil {
		m.log.Warn("mDNS is off", "error", err)
		service.Close()
		return
	}
	m.mdns = service
}
