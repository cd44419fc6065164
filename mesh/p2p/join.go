package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"loco/mesh"
)

// How New asks its bootstrap addresses.
const (
	joinRetryMin = 100 * time.Millisecond
	joinRetryMax = 2 * time.Second
	joinGrace    = 2 * time.Second // for the other addresses once one has answered
)

// enter joins the run through its bootstrap peers or, without any, through peers that
// mDNS finds.
func (m *Mesh) enter(ctx context.Context, bootstrap []peer.AddrInfo) error {
	if !m.cfg.MDNS {
		return m.join(ctx, bootstrap)
	}
	f := m.startMDNS()
	if f == nil || len(bootstrap) > 0 {
		return m.join(ctx, append(bootstrap, f.done()...))
	}
	if near := f.look(ctx); len(near) > 0 {
		ctx, cancel := context.WithTimeout(ctx, m.cfg.DialTimeout+m.cfg.HelloTimeout)
		defer cancel()
		if err := m.join(ctx, near); err == nil || isFatal(err) {
			return err
		}
		m.log.Warn("the peers that mDNS found do not answer", "found", len(near))
	}
	return m.join(ctx, nil)
}

// join asks all bootstrap peers at once to take this worker in, again and again
// until one does or the time is over. The others are dialed on in the background.
func (m *Mesh) join(ctx context.Context, bootstrap []peer.AddrInfo) error {
	bootstrap = slices.DeleteFunc(slices.Clone(bootstrap), func(i peer.AddrInfo) bool { return i.ID == m.host.ID() })
	if len(bootstrap) > 0 {
		ctx, cancel := context.WithTimeout(ctx, m.cfg.JoinTimeout)
		defer cancel()
		if err := m.askAll(ctx, bootstrap); err != nil {
			return err
		}
		m.spawn(func() { m.keep(bootstrap) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.outbid != nil {
		return m.outbid
	}
	m.settled = true
	m.beatSoon()
	return nil
}

// answer is what came of one attempt to join by one bootstrap peer.
type answer struct {
	peer int
	err  error
}

// askAll returns nil when a bootstrap peer has taken this worker in and the rest
// have had their chance.
func (m *Mesh) askAll(ctx context.Context, bootstrap []peer.AddrInfo) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	for i, info := range bootstrap {
		m.spawn(func() { m.ask(ctx, i, info, answers) })
	}
	last := make([]error, len(bootstrap))
	pending := make(map[int]bool)
	for i := range bootstrap {
		pending[i] = true
	}
	var grace <-chan time.Time
	won := m.won
	for len(pending) > 0 || grace == nil {
		select {
		case <-won: // a joiner that lost this number to this worker does not admit it either
			won, grace = nil, time.After(joinGrace)
		case a := <-answers:
			delete(pending, a.peer)
			if a.err == nil && won != nil {
				won, grace = nil, time.After(joinGrace)
			}
			if isFatal(a.err) {
				return a.err
			}
			if ctx.Err() == nil || last[a.peer] == nil {
				last[a.peer] = a.err
			}
		case <-grace:
			return nil
		case <-ctx.Done():
			if grace != nil {
				return nil
			}
			return m.joinError(ctx, bootstrap, last)
		}
	}
	return nil
}

// ask tries one bootstrap peer until it answers or ctx ends.
func (m *Mesh) ask(ctx context.Context, i int, info peer.AddrInfo, answers chan<- answer) {
	wait := joinRetryMin
	for {
		err := m.connect(ctx, info)
		if err == nil {
			err = m.greet(ctx, info.ID)
		}
		select {
		case answers <- answer{i, err}:
		case <-ctx.Done():
			return
		}
		if err == nil || isFatal(err) || !mesh.Pause(ctx, wait) {
			return
		}
		wait = min(2*wait, joinRetryMax)
	}
}

// isFatal reports whether asking again, or another peer, cannot help.
func isFatal(err error) bool {
	var config *ConfigError
	var taken *WorkerTakenError
	return errors.As(err, &config) || errors.As(err, &taken) || errors.Is(err, errRefused)
}

func (m *Mesh) joinError(ctx context.Context, bootstrap []peer.AddrInfo, last []error) error {
	var b strings.Builder
	for i, info := range bootstrap {
		reason := "no answer yet"
		if last[i] != nil {
			reason = dialReason(last[i])
		}
		for _, a := range info.Addrs {
			fmt.Fprintf(&b, "\n  %s/p2p/%s: %s", a, info.ID, reason)
		}
	}
	why := fmt.Sprintf("within %v", m.cfg.JoinTimeout)
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		why = "before " + err.Error()
	}
	return fmt.Errorf("p2p: join: no bootstrap address answered %s; is one of them running, and reachable from here?%s", why, b.String())
}

// dialReason is an error in one line: libp2p's has one for each address.
func dialReason(err error) string {
	var dial *swarm.DialError
	if !errors.As(err, &dial) || len(dial.DialErrors) == 0 {
		return strings.Join(strings.Fields(err.Error()), " ")
	}
	var reasons []string
	for _, e := range dial.DialErrors {
		if r := e.Cause.Error(); !slices.Contains(reasons, r) {
			reasons = append(reasons, r)
		}
	}
	return strings.Join(reasons, "; ")
}

// connect dials a peer unless it is connected.
func (m *Mesh) connect(ctx context.Context, info peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.DialTimeout)
	defer cancel()
	if s, ok := m.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(info.ID) // this package spaces its attempts itself
	}
	if err := m.host.Connect(ctx, info); err != nil {
		return fmt.Errorf("p2p: dial %s: %w", info.ID, err)
	}
	return nil
}
