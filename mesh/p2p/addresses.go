package p2p

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// How long the less wanted ways to a peer wait for the better ones.
const (
	quicDelay  = 500 * time.Millisecond // a TCP and TLS handshake at 150 ms round trip
	otherDelay = 2 * time.Second
)

// rankTCPFirst dials a peer's TCP addresses at once and its QUIC addresses only if
// those take long. libp2p's own ranking is the other way round, but over a link
// with 1 % loss QUIC's congestion control collapses where TCP with BBR keeps half
// the rate, and on a fast link it costs three times the CPU.
func rankTCPFirst(addrs []ma.Multiaddr) []network.AddrDelay {
	ranked := make([]network.AddrDelay, 0, len(addrs))
	haveTCP, haveQUIC := false, false
	for _, a := range addrs {
		haveTCP = haveTCP || isDirectTCP(a)
		haveQUIC = haveQUIC || isQUIC(a)
	}
	for _, a := range addrs {
		var delay time.Duration
		switch {
		case isDirectTCP(a):
		case isQUIC(a) && haveTCP:
			delay = quicDelay
		case !isQUIC(a) && (haveTCP || haveQUIC):
			delay = otherDelay
		}
		ranked = append(ranked, network.AddrDelay{Addr: a, Delay: delay})
	}
	return ranked
}

func isDirectTCP(a ma.Multiaddr) bool {
	return hasProtocol(a, ma.P_TCP) && !hasProtocol(a, ma.P_CIRCUIT)
}

func isQUIC(a ma.Multiaddr) bool {
	return hasProtocol(a, ma.P_QUIC_V1) && !hasProtocol(a, ma.P_CIRCUIT)
}

func hasProtocol(a ma.Multiaddr, code int) bool {
	for _, c := range a {
		if c.Protocol().Code == code {
			return true
		}
	}
	return false
}

// addrTexts returns at most maxAddrs of addrs as texts, the likeliest to be useful
// first: TCP before QUIC, other machines' ways in before loopback.
func addrTexts(addrs []ma.Multiaddr) []string {
	var texts []string
	for _, loopback := range []bool{false, true} {
		for _, tcp := range []bool{true, false} {
			for _, a := range addrs {
				if manet.IsIPLoopback(a) == loopback && isDirectTCP(a) == tcp {
					if s := a.String(); len(texts) < maxAddrs && len(s) <= maxAddrBytes {
						texts = append(texts, s)
					}
				}
			}
		}
	}
	return texts
}

// parseAddrs returns those of texts that are multiaddrs.
func parseAddrs(texts []string) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, s := range texts {
		if a, err := ma.NewMultiaddr(s); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
