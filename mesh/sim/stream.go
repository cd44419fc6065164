package sim

import (
	"io"
	"os"
	"time"

	"loco/mesh"
)

// pipe carries bytes one way. The network's mutex guards all of it.
type pipe struct {
	net      *Net
	from, to *Peer
	protocol string

	segments []segment
	held     int       // bytes in segments
	newest   time.Time // when the last segment arrives: a stream keeps its order
	finished bool      // by the writing side
	ends     time.Time // when the reading side hears of that
	err      error
	changed  chan struct{}
}

// segment is one write on its way.
type segment struct {
	data []byte
	at   time.Time // when it arrives
}

func (p *pipe) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// reset makes both ends fail.
func (p *pipe) reset(err error) {
	if p.err == nil {
		p.err = err
	}
	p.segments, p.held = nil, 0
	delete(p.net.pipes, p)
	p.wake()
}

// finish ends the writing side.
func (p *pipe) finish() {
	if !p.finished && !p.from.ended {
		p.finished, p.ends = true, p.net.arrival(p.from, p.to, 0)
		if p.newest.After(p.ends) {
			p.ends = p.newest
		}
	}
	p.wake()
}

// stream is one end: it reads in and writes out.
type stream struct {
	net             *Net
	in, out         *pipe
	readBy, writeBy time.Time // deadlines
	local           bool      // closed at this end
}

// connect joins a and b and returns both ends, a's first. n.mu is held.
func (n *Net) connect(a, b *Peer, protocol string) (mesh.Stream, mesh.Stream) {
	there := &pipe{net: n, from: a, to: b, protocol: protocol, changed: make(chan struct{})}
	back := &pipe{net: n, from: b, to: a, protocol: protocol, changed: make(chan struct{})}
	n.pipes[there], n.pipes[back] = struct{}{}, struct{}{}
	return &stream{net: n, in: back, out: there}, &stream{net: n, in: there, out: back}
}

// wait releases n.mu until p changes, until at or until by, where those are set.
func (s *stream) wait(p *pipe, at, by time.Time) {
	if !by.IsZero() && (at.IsZero() || by.Before(at)) {
		at = by
	}
	changed := p.changed
	s.net.mu.Unlock()
	defer s.net.mu.Lock()
	if at.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

func expired(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	p := s.in
	for {
		p.to.stand()
		switch {
		case s.local:
			return 0, io.ErrClosedPipe
		case p.err != nil:
			return 0, p.err
		case expired(s.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		}
		var at time.Time
		if s.net.passes(p.from, p.to) {
			if len(p.segments) > 0 {
				if at = p.segments[0].at; !at.After(time.Now()) {
					return p.take(b), nil
				}
			} else if p.finished {
				if at = p.ends; !at.After(time.Now()) {
					delete(s.net.pipes, p)
					return 0, io.EOF
				}
			}
		}
		s.wait(p, at, s.readBy)
	}
}

// take copies what has arrived.
func (p *pipe) take(b []byte) int {
	first := &p.segments[0]
	n := copy(b, first.data)
	p.held -= n
	if n == len(first.data) {
		p.segments = p.segments[1:]
	} else {
		first.data = first.data[n:]
	}
	p.wake()
	return n
}

// Write implements io.Writer. It waits while the stream's buffer is full.
func (s *stream) Write(b []byte) (int, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	p, written := s.out, 0
	for {
		p.from.stand()
		switch {
		case s.local || p.finished:
			return written, io.ErrClosedPipe
		case p.err != nil:
			return written, p.err
		case expired(s.writeBy):
			return written, os.ErrDeadlineExceeded
		case len(b) == 0:
			return written, nil
		}
		room := s.net.opts.Buffer - p.held
		if room <= 0 || p.from.paused {
			s.wait(p, time.Time{}, s.writeBy)
			continue
		}
		n := min(room, len(b))
		p.put(b[:n])
		b, written = b[n:], written+n
	}
}

// put sends a copy of b on its way, subject to the sender's faults.
func (p *pipe) put(b []byte) {
	if p.from.blackhole[p.protocol] {
		return
	}
	data := append([]byte(nil), b...)
	if p.from.corrupt[p.protocol] > 0 {
		p.from.corrupt[p.protocol]--
		data[len(data)/2] ^= 0x10
	}
	if at := p.net.arrival(p.from, p.to, len(data)); at.After(p.newest) {
		p.newest = at
	}
	p.segments = append(p.segments, segment{data, p.newest})
	p.held += len(data)
	p.wake()
}

// CloseWrite tells the other end that no more comes.
func (s *stream) CloseWrite() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.out.finish()
	return nil
}

// Close ends writing after what was written, and reading at once.
func (s *stream) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.local = true
	s.out.finish()
	s.in.wake()
	// What the other end still writes has no reader.
	if s.in.err == nil {
		s.in.reset(errReset)
	}
	return nil
}

// Reset drops the stream at both ends.
func (s *stream) Reset() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.local = true
	s.in.reset(errReset)
	s.out.reset(errReset)
	return nil
}

// SetDeadline bounds the reads and writes of this end, those in progress too.
func (s *stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline is SetDeadline for reads. A mesh needs neither it nor SetWriteDeadline;
// a network connection that is built on a stream needs both.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.readBy = t
	s.in.wake()
	return nil
}

// SetWriteDeadline is SetDeadline for writes.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.writeBy = t
	s.out.wake()
	return nil
}
