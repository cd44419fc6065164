package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"loco/mesh/swim"
)

// Limits of a configuration.
const (
	maxCanonicalBytes = 64 << 10
	maxWorker         = 1<<20 - 1
	minRunIDDigits    = 16
	maxRunIDDigits    = 128
)

// Config is this worker's identity, how it reaches the others, and its times.
type Config struct {
	// IdentityFile holds the Ed25519 key that this peer's ID is made of. It is
	// created, readable by its owner alone, when it does not exist. Empty makes a new
	// identity for this process only.
	IdentityFile string
	// Listen are the multiaddrs to accept connections on, TCP or QUIC. Port 0 lets
	// the system choose.
	Listen []string
	// Bootstrap are multiaddrs of members, each ending in /p2p/ID. Without any this
	// worker is the first of its run. Its own are skipped.
	Bootstrap []string
	// MDNS looks for members of the run on the local network, and answers when others
	// look.
	MDNS bool

	// RunID is the hash of the canonical configuration in lower-case hex. Topics and
	// protocols of the run carry its first 16 digits.
	RunID string
	// Canonical is what RunID is the hash of: sorted lines "key=value", at most
	// 64 KiB in all. A worker of another run is shown the lines that differ.
	Canonical []string
	// Worker is this worker's number in the run.
	Worker int

	// The times by which members are found suspect or dead. A node sends about 2 KB for
	// each heartbeat of each member and some 100 bytes for each probe, whatever the size of
	// the run. A SuspectMin of 0 is two probes, a DeadMin of 0 a third of DeadAfter, a Seed of
	// 0 a random one. A dead member is dialed until it is forgotten.
	swim.Config

	// DialTimeout bounds one attempt to reach a peer, security handshake and hello
	// included.
	DialTimeout time.Duration
	// JoinTimeout bounds New's attempts to reach any of Bootstrap.
	JoinTimeout time.Duration
	// HelloTimeout is how long a connection may stay without a hello, and how long a
	// hello may take, before the connection is closed.
	HelloTimeout time.Duration
	// RedialMax bounds the time between two attempts to reach a lost member.
	RedialMax time.Duration

	// Network carries the connections instead of this machine's TCP and QUIC, for tests in
	// virtual time; nil: none does.
	Network Network

	// Logger is told of members that come and go, and of refused peers. Nil discards.
	Logger *slog.Logger
	// Registerer gets libp2p's metrics and this package's; nil turns them off.
	Registerer prometheus.Registerer
}

// Network is a way to carry connections that is not this machine's own.
type Network interface {
	// Transport makes libp2p's transport over it.
	Transport(transport.Upgrader, network.ResourceManager) (transport.Transport, error)
	// DialContext is as a net.Dialer's: its error says whether the address refuses.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Default is a configuration for workers on one machine or one local network, to
// which RunID must be added.
func Default() Config {
	return Config{
		Listen: []string{"/ip4/127.0.0.1/tcp/0"}, // reachable from this machine alone until asked otherwise
		Config: swim.Config{
			Heartbeat:        time.Second,      // tens of members: about 100 KB/s
			ProbeEvery:       time.Second,      // a cut cable is noticed in two
			SuspectAfter:     4 * time.Second,  // three heartbeats lost
			DeadAfter:        15 * time.Second, // a third of it, and a long collection or a laptop's hiccup survives
			DeadAfterRefused: time.Second,      // a closed port means that the process is gone
			Forget:           10 * time.Minute,
		},
		DialTimeout:  5 * time.Second,
		JoinTimeout:  30 * time.Second, // the others may be starting too
		HelloTimeout: 10 * time.Second,
		RedialMax:    5 * time.Second,
	}
}

// Validate reports everything that is wrong with c, each with its field, value and
// what is allowed.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("p2p: "+format, args...)) }
	if n := len(c.RunID); n < minRunIDDigits || n > maxRunIDDigits || strings.Trim(c.RunID, "0123456789abcdef") != "" {
		bad("run ID %q: want %d to %d lower-case hex digits", c.RunID, minRunIDDigits, maxRunIDDigits)
	}
	if n := len(joinLines(c.Canonical)); n > maxCanonicalBytes {
		bad("canonical configuration of %d bytes: at most %d", n, maxCanonicalBytes)
	}
	if !slices.IsSorted(c.Canonical) {
		bad("canonical configuration is not sorted")
	}
	for _, line := range c.Canonical {
		if !strings.Contains(line, "=") || strings.Contains(line, "\n") {
			bad("canonical configuration line %q: want key=value", line)
		}
	}
	if c.Worker < 0 || c.Worker > maxWorker {
		bad("worker %d: want 0 to %d", c.Worker, maxWorker)
	}
	if len(c.Listen) == 0 {
		bad("no address to listen on: want at least one, such as /ip4/0.0.0.0/tcp/0")
	}
	for _, a := range c.Listen {
		if _, err := ma.NewMultiaddr(a); err != nil {
			bad("listen address %q: %w", a, err)
		}
	}
	if _, err := parseBootstrap(c.Bootstrap); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"dial timeout", c.DialTimeout}, {"join timeout", c.JoinTimeout}, {"hello timeout", c.HelloTimeout}, {"redial max", c.RedialMax},
	} {
		if d.value <= 0 {
			bad("%s of %v: must be positive", d.name, d.value)
		}
	}
	if err := c.swim().Validate(); err != nil {
		bad("%w", err)
	}
	return errors.Join(errs...)
}

// swim is the part of c that the state machine of the members has, with its floors and seed.
func (c Config) swim() swim.Config {
	s := c.Config
	if s.SuspectMin == 0 {
		s.SuspectMin = min(2*c.ProbeEvery, c.SuspectAfter)
	}
	if s.DeadMin == 0 {
		s.DeadMin = c.DeadAfter / 3
	}
	if s.Seed == 0 {
		s.Seed = rand.Uint64()
	}
	return s
}

// Detection is the shortest silence after which others may call a member dead.
func (c Config) Detection() time.Duration { return c.swim().Detection() }

// parseBootstrap gathers the addresses by peer, in the order given.
func parseBootstrap(addrs []string) ([]peer.AddrInfo, error) {
	var infos []peer.AddrInfo
	var errs []error
	for _, s := range addrs {
		info, err := peer.AddrInfoFromString(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("p2p: bootstrap address %q: want a multiaddr that ends in /p2p/ID, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo...: %w", s, err))
			continue
		}
		if len(info.Addrs) == 0 {
			errs = append(errs, fmt.Errorf("p2p: bootstrap address %q: has an ID but nothing to dial before it", s))
			continue
		}
		i := slices.IndexFunc(infos, func(o peer.AddrInfo) bool { return o.ID == info.ID })
		if i < 0 {
			infos = append(infos, *info)
			continue
		}
		infos[i].Addrs = append(infos[i].Addrs, info.Addrs...)
	}
	return infos, errors.Join(errs...)
}
