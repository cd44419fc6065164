package gossip

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

const (
	// queueMax bounds the control frames that wait for one peer; more are dropped,
	// and said again by the protocol's reminders.
	queueMax = 256
	// idleGraces is after how many times Grace without a frame a peer's streams, queue
	// and goroutine are given back. The next frame to it costs a round trip more.
	idleGraces = 4
)

// outbound is the way to one peer: a queue of control frames with a goroutine that writes
// them, and the data stream. It is there while it is used: a run of days sees many
// peers come and go.
type outbound struct {
	queue chan []byte
	// The channel is the data stream's lock, so that waiting for it is a wait that
	// virtual time understands.
	lock chan struct{}
	data mesh.Stream

	// Guarded by links.mu.
	writers int // of data, or waiting to be
	used    time.Time
}

// to returns the way to a peer, which stays for a while. l.mu is held, and the links are
// not closed.
func (l *links) to(id mesh.ID) *outbound {
	o := l.peers[id]
	if o == nil {
		o = &outbound{queue: make(chan []byte, queueMax), lock: make(chan struct{}, 1)}
		l.peers[id] = o
		l.wg.Go(func() { l.keep(id, o) })
	}
	o.used = time.Now()
	return o
}

// send queues a control frame. It never blocks.
func (l *links) send(to mesh.ID, env protocol.Envelope, msg protocol.Message) {
	payload := msg.AppendTo(nil)
	h := protocol.Header{Type: msg.Kind(), Part: env.Part, Round: env.Round, Attempt: env.Attempt, Worker: uint32(env.Worker)}
	frame := append(protocol.AppendHeader(make([]byte, 0, protocol.HeaderLen+len(payload)), h, payload), payload...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.to(to).queue <- frame:
	default:
		l.log.Warn("gossip: control queue is full, a frame is dropped", "peer", to, "type", msg.Kind())
	}
}

// keep writes a peer's queue until nothing has been written to it for a while, or the
// links close. Then it gives back all there is of the way to the peer.
func (l *links) keep(to mesh.ID, o *outbound) {
	var control mesh.Stream
	defer func() {
		o.lock <- struct{}{} // the one that writes is about to end
		for _, s := range []mesh.Stream{control, o.data} {
			if s != nil {
				_ = s.Close()
			}
		}
	}()
	patience := idleGraces * l.grace
	idle := time.NewTimer(patience)
	defer idle.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-idle.C:
			left := l.retire(to, o, patience)
			if left <= 0 {
				return
			}
			idle.Reset(left)
		case frame := <-o.queue:
			err := l.write(l.ctx, to, controlID, &control, frame, nil)
			if err != nil && l.ctx.Err() == nil {
				l.log.Debug("gossip: control frame lost", "peer", to, "error", err)
			}
		}
	}
}

// retire takes the way to a peer from the list if it has been idle for so long, and
// otherwise returns when to ask again.
func (l *links) retire(to mesh.ID, o *outbound, patience time.Duration) (left time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.writers > 0 || len(o.queue) > 0 {
		return patience
	}
	if left = patience - time.Since(o.used); left <= 0 {
		delete(l.peers, to)
	}
	return left
}

// writeData writes one data frame to a peer; the next waits until Grace for its turn
// and its room.
func (l *links) writeData(ctx context.Context, to mesh.ID, h protocol.Header, payload []byte) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	o := l.to(to)
	o.writers++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		o.writers, o.used = o.writers-1, time.Now()
		l.mu.Unlock()
	}()
	select {
	case o.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-o.lock }()
	if l.ctx.Err() != nil {
		return errClosed
	}
	var head [protocol.HeaderLen]byte
	frame := protocol.AppendHeader(head[:0], h, payload)
	return l.write(ctx, to, dataID, &o.data, frame, payload)
}

// write writes a frame, once more where the stream broke that was open before: it
// may have been to the peer's former process.
func (l *links) write(ctx context.Context, to mesh.ID, protocol string, s *mesh.Stream, head, body []byte) error {
	kept := *s != nil
	err := l.writeOnce(ctx, to, protocol, s, head, body)
	if err != nil && kept && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = l.writeOnce(ctx, to, protocol, s, head, body)
	}
	return err
}

// writeOnce writes head and body within Grace, opening the stream where there is
// none. After an error there is none: a frame cut short would garble the next.
func (l *links) writeOnce(ctx context.Context, to mesh.ID, protocol string, s *mesh.Stream, head, body []byte) error {
	if *s == nil {
		open, cancel := context.WithTimeout(ctx, l.grace)
		defer cancel()
		fresh, err := l.mesh.Open(open, to, protocol+l.suffix)
		if err != nil {
			return err
		}
		*s = fresh
	}
	stream := *s
	_ = stream.SetDeadline(time.Now().Add(l.grace))
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = stream.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	_, err := stream.Write(head)
	if err == nil && len(body) > 0 {
		_, err = stream.Write(body)
	}
	if !stop() {
		<-interrupted // so that it does not cut off a later write
	}
	if err != nil {
		_ = stream.Reset()
		*s = nil
		return fmt.Errorf("write %d bytes: %w", len(head)+len(body), err)
	}
	return nil
}
