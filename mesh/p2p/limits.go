package p2p

import (
	"math"
	"net/netip"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/x/rate"
)

// What one peer, and all together, may hold here. A stream's receive window grows
// to 16 MiB, so a peer's memory allows 16 streams at full speed on one connection.
const (
	peerConns    = 16
	peerStreams  = 1024
	peerMemory   = 512 << 20
	totalConns   = 4096
	totalStreams = 64 << 10
	totalMemory  = 8 << 30
	totalFiles   = 4096
	// Many workers may sit behind one address: a lab's or a carrier's NAT.
	connsPerIP = 256
	connRate   = 20  // new connections a second from one address
	connBurst  = 256 // and at once
)

// resources limits by hand what libp2p would scale by this machine's memory: its
// defaults refuse bulk streams (16 MiB for a peer's protocol, 8 connections and one
// new one in 5 s for an address).
func resources() (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	all := rcmgr.ResourceLimits{
		Conns: totalConns, ConnsInbound: totalConns, ConnsOutbound: totalConns,
		Streams: totalStreams, StreamsInbound: totalStreams, StreamsOutbound: totalStreams,
		FD: totalFiles, Memory: totalMemory,
	}
	onePeer := rcmgr.ResourceLimits{
		Conns: peerConns, ConnsInbound: peerConns, ConnsOutbound: peerConns,
		Streams: peerStreams, StreamsInbound: peerStreams, StreamsOutbound: peerStreams,
		FD: peerConns, Memory: peerMemory,
	}
	partial := rcmgr.PartialLimitConfig{
		System: all, ServiceDefault: all, ProtocolDefault: all,
		Transient: rcmgr.ResourceLimits{
			Conns: connBurst, ConnsInbound: connBurst, ConnsOutbound: connBurst,
			Streams: totalStreams / 16, StreamsInbound: totalStreams / 16, StreamsOutbound: totalStreams / 16,
			FD: connBurst, Memory: 256 << 20,
		},
		PeerDefault: onePeer, ServicePeerDefault: onePeer, ProtocolPeerDefault: onePeer,
		Conn: rcmgr.ResourceLimits{
			Conns: 1, ConnsInbound: 1, ConnsOutbound: 1,
			Streams: peerStreams, StreamsInbound: peerStreams, StreamsOutbound: peerStreams,
			FD: 1, Memory: peerMemory,
		},
		Stream: rcmgr.ResourceLimits{Streams: 1, StreamsInbound: 1, StreamsOutbound: 1, Memory: 32 << 20},
	}
	unlimited4, unlimited6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	perAddress := rate.Limit{RPS: connRate, Burst: connBurst}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(partial.Build(scaling.AutoScale())),
		rcmgr.WithNetworkPrefixLimit(
			[]rcmgr.NetworkPrefixLimit{{Network: unlimited4, ConnCount: math.MaxInt}},
			[]rcmgr.NetworkPrefixLimit{{Network: unlimited6, ConnCount: math.MaxInt}}),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: connsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: connsPerIP}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: unlimited4}, {Prefix: unlimited6}},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perAddress}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perAddress}},
			},
		}))
}

// muxer is yamux with windows for long, fat links: it starts where the default
// would get after several round trips, and writes larger records.
func muxer() *yamux.Transport {
	t := *yamux.DefaultTransport
	t.InitialStreamWindowSize = 16 << 20
	t.MaxStreamWindowSize = 16 << 20
	t.MaxMessageSize = 1 << 20
	return &t
}
