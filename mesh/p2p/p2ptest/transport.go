package p2ptest

import (
	"context"
	"fmt"
	"net"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// carrier is libp2p's transport over a Network.
type carrier struct {
	network  *Network
	upgrader transport.Upgrader
	limits   network.ResourceManager
}

// Transport implements p2p.Network.
func (n *Network) Transport(u transport.Upgrader, r network.ResourceManager) (transport.Transport, error) {
	return &carrier{n, u, r}, nil
}

func (c *carrier) Protocols() []int { return []int{ma.P_TCP} }
func (c *carrier) Proxy() bool      { return false }

func (c *carrier) CanDial(a ma.Multiaddr) bool {
	_, err := tcpAddr(a)
	return err == nil
}

func tcpAddr(a ma.Multiaddr) (*net.TCPAddr, error) {
	addr, err := manet.ToNetAddr(a)
	if err != nil {
		return nil, err
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("p2ptest: %v is no TCP address", a)
	}
	return tcp, nil
}

// Dial connects, and secures the connection.
func (c *carrier) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	scope, err := c.limits.OpenConnection(network.DirOutbound, true, a)
	if err != nil {
		return nil, err
	}
	raw, err := c.dialRaw(ctx, a, p, scope)
	if err != nil {
		scope.Done()
		return nil, err
	}
	return c.upgrader.Upgrade(ctx, c, raw, network.DirOutbound, p, scope)
}

func (c *carrier) dialRaw(ctx context.Context, a ma.Multiaddr, p peer.ID, scope network.ConnManagementScope) (manet.Conn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	addr, err := tcpAddr(a)
	if err != nil {
		return nil, err
	}
	raw, err := c.network.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return manet.WrapNetConn(raw)
}

// Listen implements transport.Transport.
func (c *carrier) Listen(a ma.Multiaddr) (transport.Listener, error) {
	addr, err := tcpAddr(a)
	if err != nil {
		return nil, err
	}
	l, err := manet.WrapNetListener(c.network.listen(addr))
	if err != nil {
		return nil, err
	}
	return c.upgrader.UpgradeGatedMaListener(c, c.upgrader.GateMaListener(l)), nil
}
