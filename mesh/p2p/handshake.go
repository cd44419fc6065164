package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	corep "github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"

	"loco/mesh"
)

const helloProtocol = "/loco/hello/1.0.0"

// errRefused is the answer of a peer that may not be asked again soon.
var errRefused = errors.New("p2p: refused")

// reservation keeps a number for a peer between the verdict and its admission.
type reservation struct {
	by    mesh.ID
	until time.Duration
}

// greet says hello to a connected peer, as the dialer. When it returns nil the peer
// is a member, and this worker is one to it.
func (m *Mesh) greet(ctx context.Context, to peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HelloTimeout)
	defer cancel()
	s, err := m.openRaw(ctx, to, helloProtocol)
	if err != nil {
		return fmt.Errorf("p2p: hello to %s: %w", to, err)
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	theirs, err := m.swap(s, m.ownHello(false), true)
	if err != nil {
		return m.helloFailed(to, err)
	}
	v, err := readVerdict(s)
	switch {
	case err != nil:
		return m.helloFailed(to, err)
	case v.Code == verdictWorkerTaken:
		return &WorkerTakenError{Worker: v.Worker, By: v.By}
	case v.Code != verdictAccepted:
		return fmt.Errorf("%w by %s: %q", errRefused, to, v.Reason)
	}
	if err := writeFrame(s, frameVerdict, AppendVerdict(nil, Verdict{})); err != nil {
		return m.helloFailed(to, err)
	}
	if why := m.admit(s.Conn(), theirs.Heartbeat); why != "" {
		return fmt.Errorf("%w: %s is not taken in: %s", errRefused, to, why)
	}
	for _, k := range theirs.Known {
		if id, err := peer.Decode(string(k.ID)); err == nil {
			m.seek(peer.AddrInfo{ID: id, Addrs: parseAddrs(k.Addrs)})
		}
	}
	return nil
}

func readVerdict(s network.Stream) (Verdict, error) {
	raw, err := readFrame(s, frameVerdict, maxVerdictBytes)
	if err != nil {
		return Verdict{}, err
	}
	return ParseVerdict(raw)
}

// answerHello is the listener's side.
func (m *Mesh) answerHello(s network.Stream) {
	defer s.Close()
	from := s.Conn().RemotePeer()
	s.SetDeadline(time.Now().Add(m.cfg.HelloTimeout))
	theirs, err := m.swap(s, m.ownHello(true), false)
	if err == nil {
		err = m.answerClaim(s, theirs)
	}
	switch {
	case err == nil || m.ctx.Err() != nil:
		return
	case m.passed(from):
		m.log.Warn("hello again refused", "peer", from.String(), "error", err)
		s.Reset()
		return
	}
	m.log.Warn("peer refused", "peer", from.String(), "address", s.Conn().RemoteMultiaddr().String(), "error", err)
	if isFatal(err) { // let it read the answer before the connection goes
		io.Copy(io.Discard, io.LimitReader(s, maxVerdictBytes))
	}
	s.Reset()
	m.host.Network().ClosePeer(from)
}

// answerClaim judges a dialer of the same run and takes it in.
func (m *Mesh) answerClaim(s network.Stream, theirs Hello) error {
	from := mesh.ID(s.Conn().RemotePeer().String())
	v := m.judge(from, theirs)
	if err := writeFrame(s, frameVerdict, AppendVerdict(nil, v)); err != nil {
		return err
	}
	switch v.Code {
	case verdictAccepted:
	case verdictRefused:
		s.CloseWrite()
		return fmt.Errorf("%w: %s", errRefused, v.Reason)
	default:
		s.CloseWrite()
		return &WorkerTakenError{Worker: v.Worker, By: v.By}
	}
	defer m.release(theirs.Heartbeat.Status.Worker, from)
	answer, err := readVerdict(s)
	if err != nil {
		return err
	}
	if answer.Code != verdictAccepted {
		return fmt.Errorf("p2p: it refused this worker: %q", answer.Reason)
	}
	if why := m.admit(s.Conn(), theirs.Heartbeat); why != "" {
		return fmt.Errorf("p2p: it is not taken in: %s", why)
	}
	return nil
}

// judge decides about a dialer's claim to its number, and keeps the number for it. Of
// two that join at the same time with one number the smaller ID has it, and the other
// learns so from its New.
func (m *Mesh) judge(from mesh.ID, theirs Hello) Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tick()
	beat := theirs.Heartbeat
	if why := m.members.Barred(from, beat); why != "" {
		return Verdict{Code: verdictRefused, Reason: why}
	}
	want := beat.Status.Worker
	if r := m.reserved[want]; r.by != "" && r.by != from && r.until > m.now() {
		return Verdict{Code: verdictWorkerTaken, Worker: want, By: r.by}
	}
	if holder := m.members.Holder(want, from); holder == m.id {
		together := !m.settled && !theirs.Settled
		if !together || m.id < from {
			if together {
				m.keepNumber()
			}
			return Verdict{Code: verdictWorkerTaken, Worker: want, By: m.id}
		}
		m.outbid = &WorkerTakenError{Worker: want, By: from} // New ends with it
	} else if holder != "" {
		return Verdict{Code: verdictWorkerTaken, Worker: want, By: holder}
	}
	m.reserved[want] = reservation{by: from, until: m.now() + m.cfg.HelloTimeout}
	return Verdict{}
}

// keepNumber notes that another that joins at the same time has lost its number to this
// worker, and leaves. m.mu is held.
func (m *Mesh) keepNumber() {
	select {
	case <-m.won:
	default:
		close(m.won)
	}
}

// release ends a reservation.
func (m *Mesh) release(worker int, by mesh.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reserved[worker].by == by {
		delete(m.reserved, worker)
	}
}

// swap exchanges hellos, and configurations if the runs differ. The dialer speaks
// first.
func (m *Mesh) swap(s network.Stream, own Hello, dialer bool) (theirs Hello, err error) {
	send := func() error { return writeFrame(s, frameHello, AppendHello(nil, own)) }
	receive := func() error {
		raw, err := readFrame(s, frameHello, maxHelloBytes)
		if err == nil {
			theirs, err = ParseHello(raw)
		}
		return err
	}
	steps := []func() error{send, receive}
	if !dialer {
		steps = []func() error{receive, send}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return Hello{}, err
		}
	}
	if theirs.Version != protocolVersion {
		return Hello{}, fmt.Errorf("%w: it speaks version %d of loco's protocols, this worker %d: run the same release on both", errRefused, theirs.Version, protocolVersion)
	}
	if theirs.RunID == own.RunID {
		return theirs, nil
	}
	return Hello{}, m.swapConfig(s, dialer)
}

// swapConfig exchanges the configurations of two runs. It always returns an error, a
// *ConfigError if it learned the differences.
func (m *Mesh) swapConfig(s network.Stream, dialer bool) error {
	var lines []string
	send := func() error { return writeFrame(s, frameConfig, []byte(joinLines(m.cfg.Canonical))) }
	receive := func() error {
		raw, err := readFrame(s, frameConfig, maxCanonicalBytes)
		lines = splitLines(string(raw))
		return err
	}
	steps := []func() error{send, receive}
	if !dialer {
		steps = []func() error{receive, send}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("%w: it serves another run and does not say how it differs: %w", errRefused, err)
		}
	}
	s.CloseWrite()
	return &ConfigError{Peer: mesh.ID(s.Conn().RemotePeer().String()), Diffs: diffLines(m.cfg.Canonical, lines)}
}

// helloFailed names the peer of an error that does not, and closes the connection:
// it serves nothing without a hello.
func (m *Mesh) helloFailed(to peer.ID, err error) error {
	if !m.passed(to) {
		m.host.Network().ClosePeer(to)
	}
	var config *ConfigError
	if errors.As(err, &config) {
		return err
	}
	return fmt.Errorf("p2p: hello to %s: %w", to, err)
}

// ownHello is what this worker says about itself now.
func (m *Mesh) ownHello(listener bool) Hello {
	addrs := m.dialable()
	m.mu.Lock()
	defer m.mu.Unlock()
	h := Hello{Version: protocolVersion, Settled: m.settled, RunID: m.cfg.RunID, Heartbeat: m.ownBeat(addrs)}
	if listener {
		h.Known = m.known()
	}
	return h
}

// openRaw opens a stream on an existing connection and waits until the peer has
// said that it speaks the protocol.
func (m *Mesh) openRaw(ctx context.Context, to peer.ID, protocol string) (network.Stream, error) {
	s, err := m.host.Network().NewStream(network.WithNoDial(ctx, "connected before"), to)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	id := corep.ID(protocol)
	if err = multistream.SelectProtoOrFail(id, s); err == nil {
		err = s.SetProtocol(id)
	}
	if !stop() {
		err = ctx.Err() // the stream is reset already
	}
	if err != nil {
		s.Reset()
		return nil, err
	}
	return s, nil
}
