package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	corep "github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"loco/mesh"
	"loco/mesh/swim"
)

// Mesh is a member of a run. It implements [mesh.Mesh].
type Mesh struct {
	cfg    Config
	log    *slog.Logger
	host   host.Host
	id     mesh.ID
	prefix string    // of the run's topics and protocols: "/loco/<16 hex digits>/"
	start  time.Time // times of members count from here

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	closed sync.Once

	gossip  *gossip
	mdns    mdns.Service
	metrics *metrics
	kick    chan struct{} // asks for a heartbeat now

	sent, received         atomic.Uint64 // of the run's protocols
	lifeSent, lifeReceived atomic.Uint64 // of probes and rumors

	mu       sync.Mutex // guards what follows; never held while waiting
	ended    bool
	settled  bool              // New has returned, or is about to
	outbid   *WorkerTakenError // its number went to another that joined at the same time
	won      chan struct{}     // closed when this worker keeps its number against such a one
	members  *swim.Members
	changed  chan struct{}
	links    map[peer.ID]*link
	seeking  map[peer.ID]bool    // peers that are being dialed in the background
	reserved map[int]reservation // numbers promised in hellos under way
}

// link is a connected peer; several connections to it share one.
type link struct {
	admitted chan struct{} // closed when the peer has passed a hello
	gone     chan struct{} // closed when the last connection has ended
	passed   bool
	reaper   *time.Timer
	mail     chan swim.Message // for its writer
	writing  bool              // there is one
	heard    atomic.Int64      // time since start of the last byte from it, ns
}

var _ mesh.Mesh = (*Mesh)(nil)

// New starts a host, joins the run through cfg.Bootstrap and returns when at least
// one member has accepted it, or at once if there is none to ask. It fails with a
// *[ConfigError] where a member runs another configuration, and with a
// *[WorkerTakenError] where a live member has this worker's number. ctx bounds New only.
func New(ctx context.Context, cfg Config) (*Mesh, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	bootstrap, err := parseBootstrap(cfg.Bootstrap)
	if err != nil {
		return nil, err
	}
	key, err := loadIdentity(cfg.IdentityFile)
	if err != nil {
		return nil, err
	}
	m, err := start(cfg, key)
	if err != nil {
		return nil, err
	}
	if err := m.enter(ctx, bootstrap); err != nil {
		m.Leave(ctx) // somebody may have taken it in
		return nil, err
	}
	return m, nil
}

// start makes a mesh that listens and answers, and has not joined yet.
func start(cfg Config, key crypto.PrivKey) (*Mesh, error) {
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, start: time.Now(), prefix: "/loco/" + cfg.RunID[:minRunIDDigits] + "/",
		kick: make(chan struct{}, 1), changed: make(chan struct{}),
		links: make(map[peer.ID]*link), seeking: make(map[peer.ID]bool), won: make(chan struct{}), reserved: make(map[int]reservation),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	life, err := nextLife(cfg.IdentityFile, uint64(m.start.UnixNano())) // compared only with this identity's other lives
	if err != nil {
		return nil, err
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	h, err := newHost(cfg, key)
	if err != nil {
		m.cancel()
		return nil, err
	}
	m.host, m.id = h, mesh.ID(h.ID().String())
	m.members = swim.New(cfg.swim(), m.id, Heartbeat{
		Status: mesh.Status{Worker: cfg.Worker}, Incarnation: swim.Incarnation{Life: life},
	})
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { m.connected(c.RemotePeer()) },
		DisconnectedF: func(_ network.Network, c network.Conn) { m.disconnected(c.RemotePeer()) },
	})
	h.SetStreamHandler(helloProtocol, m.answerHello)
	h.SetStreamHandler(corep.ID(m.protocol(membersProtocol)), m.answerMembers)
	m.Handle(goodbyeProtocol, m.answerGoodbye)
	if err := m.startGossip(); err != nil {
		m.Close()
		return nil, err
	}
	if err := m.startMetrics(); err != nil {
		m.Close()
		return nil, err
	}
	// Last: a peer that dials meets every handler.
	if err := h.Network().Listen(parseAddrs(cfg.Listen)...); err != nil {
		m.Close()
		return nil, fmt.Errorf("p2p: listen on %v: %w", cfg.Listen, err)
	}
	m.spawn(m.watch)
	return m, nil
}

func newHost(cfg Config, key crypto.PrivKey) (host.Host, error) {
	quietLibp2p()
	limits, err := resources()
	if err != nil {
		return nil, fmt.Errorf("p2p: resource limits: %w", err)
	}
	opts := []libp2p.Option{
		libp2p.Identity(key), libp2p.UserAgent("loco"), libp2p.NoListenAddrs,
		libp2p.Security(tls.ID, tls.New), libp2p.Security(noise.ID, noise.New), // in order of preference
		libp2p.Muxer(yamux.ID, muxer()), libp2p.SwarmOpts(swarm.WithDialRanker(rankTCPFirst)),
		libp2p.ResourceManager(limits), libp2p.DisableRelay(), libp2p.WithDialTimeout(cfg.DialTimeout),
	}
	if cfg.Network != nil {
		opts = append(opts, libp2p.Transport(cfg.Network.Transport))
	} else {
		// Sharing the port for dialing would let two processes listen on one address.
		opts = append(opts, libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()), libp2p.Transport(quic.NewTransport))
	}
	if cfg.Registerer == nil {
		opts = append(opts, libp2p.DisableMetrics())
	} else {
		opts = append(opts, libp2p.PrometheusRegisterer(cfg.Registerer))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("p2p: host: %w", err)
	}
	return h, nil
}

// Self is this peer's ID.
func (m *Mesh) Self() mesh.ID { return m.id }

// Addrs are the multiaddrs, with this peer's ID, by which others can join.
func (m *Mesh) Addrs() []string {
	var full []string
	for _, a := range m.dialable() {
		full = append(full, a+"/p2p/"+string(m.id))
	}
	return full
}

// dialable lists the addresses of this machine's interfaces that are listened on,
// and those that others have seen it under.
func (m *Mesh) dialable() []string {
	addrs, err := m.host.Network().InterfaceListenAddresses()
	if err != nil {
		m.log.Warn("addresses of the interfaces unknown", "error", err)
	}
	for _, a := range m.host.Addrs() {
		if !ma.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrTexts(addrs)
}

// BytesSent counts the bytes written to streams of the run's protocols.
func (m *Mesh) BytesSent() uint64 { return m.sent.Load() }

// BytesReceived counts the bytes read from streams of the run's protocols.
func (m *Mesh) BytesReceived() uint64 { return m.received.Load() }

// View implements [mesh.Mesh].
func (m *Mesh) View() ([]mesh.Member, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listen()
	return m.members.View(m.now()), m.changed
}

// Announce implements [mesh.Mesh]. It ignores the worker number of s: a mesh keeps the
// one that it joined with.
func (m *Mesh) Announce(s mesh.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Worker = m.cfg.Worker
	m.members.Announce(s)
	m.note()
	m.beatSoon()
}

// Leave says goodbye to everybody, so that they do not wait for this member, and
// closes the mesh. ctx bounds the goodbyes; a goodbye that is not heard is no error.
func (m *Mesh) Leave(ctx context.Context) error {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return nil
	}
	m.members.Leave(m.now())
	m.note()
	m.mu.Unlock()
	m.sayGoodbye(ctx)
	return m.Close()
}

// Close ends the mesh and everything it started, without a goodbye. It may be
// called more than once.
func (m *Mesh) Close() error {
	var err error
	m.closed.Do(func() {
		m.mu.Lock()
		m.ended = true
		for _, l := range m.links {
			l.reaper.Stop()
		}
		m.members.Leave(m.now())
		m.note()
		m.mu.Unlock()
		m.cancel()
		if m.mdns != nil {
			m.mdns.Close()
		}
		if m.gossip != nil {
			m.gossip.close()
		}
		err = m.host.Close()
		m.metrics.close()
		m.tasks.Wait()
	})
	return err
}

// now is the time since the start, by this machine's monotonic clock.
func (m *Mesh) now() time.Duration { return time.Since(m.start) }

// spawn runs f until it ends by itself or Close ends m.ctx and waits for it.
func (m *Mesh) spawn(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.tasks.Go(f)
}

// watch lets time pass for the members and publishes heartbeats.
func (m *Mesh) watch() {
	every := max(min(m.cfg.Heartbeat, m.cfg.ProbeEvery/10, m.cfg.SuspectAfter/4, m.cfg.DeadAfterRefused/4), time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	beat := time.NewTicker(m.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
			m.mu.Lock()
			m.tick()
			m.mu.Unlock()
		case <-beat.C:
			m.publish()
		case <-m.kick:
			m.publish()
			beat.Reset(m.cfg.Heartbeat)
		}
	}
}

// tick lets time pass for the members. m.mu is held.
func (m *Mesh) tick() {
	m.listen()
	m.members.Tick(m.now())
	m.note()
}

// listen tells the members what the streams have heard. m.mu is held.
func (m *Mesh) listen() {
	for id, l := range m.links {
		if at := l.heard.Load(); l.passed && at > 0 {
			m.members.Hear(mesh.ID(id.String()), time.Duration(at))
		}
	}
	m.note()
}

// beatSoon asks for a heartbeat without waiting for it.
func (m *Mesh) beatSoon() {
	select {
	case m.kick <- struct{}{}:
	default: // one is asked for already
	}
}
