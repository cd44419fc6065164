package p2p

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	corep "github.com/libp2p/go-libp2p/core/protocol"

	"loco/mesh"
)

const goodbyeProtocol = "goodbye/1.0.0"

// protocol is the libp2p protocol ID of one of this run's protocols.
func (m *Mesh) protocol(name string) string { return m.prefix + strings.TrimPrefix(name, "/") }

// Open implements [mesh.Mesh]. Without a deadline in ctx it takes at most
// Config.DialTimeout.
func (m *Mesh) Open(ctx context.Context, to mesh.ID, protocol string) (mesh.Stream, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.cfg.DialTimeout)
		defer cancel()
	}
	id, err := m.openable(to)
	if err != nil {
		return nil, fmt.Errorf("p2p: open %s to %s: %w", protocol, to, err)
	}
	addrs, _ := m.lastAddrs(id)
	if err := m.reachLive(ctx, peer.AddrInfo{ID: id, Addrs: addrs}); err != nil {
		return nil, fmt.Errorf("p2p: open %s to %s: %w", protocol, to, err)
	}
	s, err := m.openRaw(ctx, id, m.protocol(protocol))
	if err != nil {
		return nil, fmt.Errorf("p2p: open %s to %s: %w", protocol, to, err)
	}
	l := m.awaitPassed(id)
	if l == nil {
		s.Reset()
		return nil, fmt.Errorf("p2p: open %s to %s: connection lost", protocol, to)
	}
	return &stream{s: s, mesh: m, link: l}, nil
}

// reachLive is reach for as long as it makes sense: it ends when the peer is found
// dead, and when the peer itself connects. A dial over UDP, which nobody refuses, would
// otherwise hold up what is meant for the peer's next process.
func (m *Mesh) reachLive(ctx context.Context, info peer.AddrInfo) error {
	if m.passed(info.ID) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.spawn(func() {
		for ctx.Err() == nil {
			_, changed := m.View()
			if _, err := m.openable(mesh.ID(info.ID.String())); err != nil || m.passed(info.ID) {
				cancel(err)
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	err := m.reach(ctx, info)
	if err == nil || m.passed(info.ID) {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// openable returns the peer ID of a member that streams may be opened to.
func (m *Mesh) openable(to mesh.ID) (peer.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, known := m.members.Find(to)
	switch {
	case m.ended:
		return "", ErrClosed
	case !known:
		return "", fmt.Errorf("not a member of this run")
	case to == m.id:
		return "", fmt.Errorf("this is the worker itself")
	case !k.Live():
		return "", fmt.Errorf("the member is %s", k.State)
	}
	return peer.Decode(string(to))
}

// Handle implements [mesh.Mesh].
func (m *Mesh) Handle(protocol string, h func(from mesh.ID, s mesh.Stream)) {
	id := corep.ID(m.protocol(protocol))
	if h == nil {
		m.host.RemoveStreamHandler(id)
		return
	}
	m.host.SetStreamHandler(id, func(s network.Stream) {
		from := s.Conn().RemotePeer()
		l := m.awaitPassed(from)
		if l == nil {
			s.Reset()
			return
		}
		h(mesh.ID(from.String()), &stream{s: s, mesh: m, link: l})
	})
}

// stream counts bytes and notes when the peer is heard.
type stream struct {
	s    network.Stream
	mesh *Mesh
	link *link
}

var _ mesh.Stream = (*stream)(nil)

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.s.Read(p)
	if n > 0 {
		s.mesh.received.Add(uint64(n))
		s.link.heard.Store(int64(s.mesh.now()))
	}
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.s.Write(p)
	s.mesh.sent.Add(uint64(n))
	return n, err
}

func (s *stream) Close() error                  { return s.s.Close() }
func (s *stream) CloseWrite() error             { return s.s.CloseWrite() }
func (s *stream) Reset() error                  { return s.s.Reset() }
func (s *stream) SetDeadline(t time.Time) error { return s.s.SetDeadline(t) }

// sayGoodbye tells every connected member that this one leaves, and waits until
// they have heard it or ctx ends.
func (m *Mesh) sayGoodbye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HelloTimeout)
	defer cancel()
	m.publish()
	addrs := m.dialable()
	m.mu.Lock()
	message := AppendHeartbeat(nil, m.ownBeat(addrs))
	var peers []peer.ID
	for id, l := range m.links {
		if l.passed {
			peers = append(peers, id)
		}
	}
	m.mu.Unlock()
	var told sync.WaitGroup
	for _, id := range peers {
		told.Go(func() {
			s, err := m.openRaw(ctx, id, m.protocol(goodbyeProtocol))
			if err != nil {
				return // gossip may still tell it, or silence will
			}
			defer s.Close()
			defer context.AfterFunc(ctx, func() { s.Reset() })()
			if _, err := s.Write(message); err == nil && s.CloseWrite() == nil {
				io.Copy(io.Discard, io.LimitReader(s, 1))
			}
		})
	}
	told.Wait()
}

// answerGoodbye takes in a goodbye that came directly.
func (m *Mesh) answerGoodbye(from mesh.ID, s mesh.Stream) {
	defer s.Close()
	s.SetDeadline(time.Now().Add(m.cfg.HelloTimeout))
	raw, err := io.ReadAll(io.LimitReader(s, maxHeartbeatBytes+1))
	if err != nil { // both leave at once, often
		m.log.Info("goodbye cut short", "peer", string(from), "error", err)
		return
	}
	beat, err := ParseHeartbeat(raw)
	if err != nil {
		m.log.Warn("goodbye refused", "peer", string(from), "error", err)
		return
	}
	if beat.Left {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.members.Goodbye(from, beat.Incarnation.Life, m.now())
		m.note()
	}
}
