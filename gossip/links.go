package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

const (
	// queueMax bounds the control frames that wait for one peer; more are dropped,
	// and said again by the protocol's reminders.
	queueMax = 256
	// streamsMax bounds the streams that one peer may hold open here.
	streamsMax = 8
	controlID  = "/loco/gossip/control/2"
	dataID     = "/loco/gossip/data/2"
)

// links keeps one stream a peer and protocol open from round to round, writes frames
// to them and reads those of the peers. Streams carry frames one way: whoever opens
// one writes.
type links struct {
	mesh   mesh.Mesh
	log    *slog.Logger
	grace  time.Duration
	suffix string // of the protocol IDs
	// onFrame takes a frame of a peer; an error ends the stream. The payload is valid
	// until it returns, unless it says that it keeps it.
	onFrame func(from mesh.ID, h protocol.Header, payload []byte) (keep bool, err error)
	onBad   func(from mesh.ID, err error)

	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	buffers sync.Pool // *[]byte
	floats  sync.Pool // *[]float32

	mu      sync.Mutex
	data    map[mesh.ID]*link
	control map[mesh.ID]chan []byte
	inbound map[*mesh.Stream]mesh.ID
	closed  bool
}

// link is the data stream to one peer. The channel is its lock, so that waiting for
// it is a wait that virtual time understands.
type link struct {
	lock   chan struct{}
	stream mesh.Stream
}

func newLinks(m mesh.Mesh, log *slog.Logger, grace time.Duration, suffix string) *links {
	l := &links{mesh: m, log: log, grace: grace, suffix: suffix,
		data: map[mesh.ID]*link{}, control: map[mesh.ID]chan []byte{}, inbound: map[*mesh.Stream]mesh.ID{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// listen begins to take frames.
func (l *links) listen() {
	l.mesh.Handle(controlID+l.suffix, l.read)
	l.mesh.Handle(dataID+l.suffix, l.read)
}

// close ends every stream and waits for every goroutine.
func (l *links) close() {
	l.mesh.Handle(controlID+l.suffix, nil)
	l.mesh.Handle(dataID+l.suffix, nil)
	l.mu.Lock()
	l.closed = true
	for s := range l.inbound {
		_ = (*s).Reset()
	}
	l.mu.Unlock()
	l.cancel()
	l.wg.Wait()
	for _, k := range l.data {
		if k.stream != nil {
			_ = k.stream.Close()
		}
	}
}

// spawn runs f unless the links are closed.
func (l *links) spawn(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Go(f)
	}
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
	q, ok := l.control[to]
	if !ok {
		q = make(chan []byte, queueMax)
		l.control[to] = q
		l.wg.Go(func() { l.writeControl(to, q) })
	}
	select {
	case q <- frame:
	default:
		l.log.Warn("gossip: control queue is full, a frame is dropped", "peer", to, "type", msg.Kind())
	}
}

// writeControl writes a peer's queue until the links close.
func (l *links) writeControl(to mesh.ID, q chan []byte) {
	var s mesh.Stream
	defer func() {
		if s != nil {
			_ = s.Close()
		}
	}()
	for {
		select {
		case <-l.ctx.Done():
			return
		case frame := <-q:
			err := l.write(l.ctx, to, controlID, &s, frame, nil)
			if err != nil && l.ctx.Err() == nil {
				l.log.Debug("gossip: control frame lost", "peer", to, "error", err)
			}
		}
	}
}

// writeData writes one data frame to a peer; the next waits until Grace for its turn
// and its room.
func (l *links) writeData(ctx context.Context, to mesh.ID, h protocol.Header, payload []byte) error {
	l.mu.Lock()
	k, ok := l.data[to]
	if !ok {
		k = &link{lock: make(chan struct{}, 1)}
		l.data[to] = k
	}
	l.mu.Unlock()
	select {
	case k.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.lock }()
	var head [protocol.HeaderLen]byte
	frame := protocol.AppendHeader(head[:0], h, payload)
	return l.write(ctx, to, dataID, &k.stream, frame, payload)
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

// read takes the frames of one inbound stream.
func (l *links) read(from mesh.ID, s mesh.Stream) {
	l.mu.Lock()
	open := 0
	for _, id := range l.inbound {
		if id == from {
			open++
		}
	}
	if l.closed || open >= streamsMax {
		l.mu.Unlock()
		_ = s.Reset()
		return
	}
	l.inbound[&s] = from
	l.wg.Add(1)
	l.mu.Unlock()
	defer l.wg.Done()
	err := l.readFrames(from, s)
	_ = s.Reset()
	l.mu.Lock()
	delete(l.inbound, &s)
	l.mu.Unlock()
	if err != nil {
		l.log.Warn("gossip: refused a peer's frame", "peer", from, "error", err)
		l.onBad(from, err)
	}
}

// readFrames returns nil when the stream ends and an error when the peer sent what
// it must not.
func (l *links) readFrames(from mesh.ID, s mesh.Stream) error {
	var head [protocol.HeaderLen]byte
	for {
		if _, err := io.ReadFull(s, head[:]); err != nil {
			return nil
		}
		h, err := protocol.ParseHeader(head[:])
		if err != nil {
			return err
		}
		payload := l.buffer(int(h.Length))
		if _, err := io.ReadFull(s, payload); err != nil {
			return nil
		}
		if protocol.Checksum(payload) != h.CRC {
			return protocol.ErrPayloadCRC
		}
		keep, err := l.onFrame(from, h, payload)
		if err != nil {
			return err
		}
		if !keep {
			l.recycle(payload)
		}
	}
}

// buffer returns n bytes, at most those of a frame.
func (l *links) buffer(n int) []byte {
	if b, ok := l.buffers.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return make([]byte, n)
}

func (l *links) recycle(b []byte) { l.buffers.Put(&b) }

// values returns n floats of any content.
func (l *links) values(n int) []float32 {
	if v, ok := l.floats.Get().(*[]float32); ok && cap(*v) >= n {
		return (*v)[:n]
	}
	return make([]float32, n)
}

func (l *links) recycleValues(v []float32) { l.floats.Put(&v) }

// await calls find until it returns something or says that there is nothing to wait for,
// again at each change, and gives up after grace.
func await[T any](l *links, grace time.Duration, find func() (found *T, wait bool, changed <-chan struct{})) *T {
	var timeout <-chan time.Time
	for {
		found, wait, changed := find()
		if found != nil || !wait {
			return found
		}
		if timeout == nil { // most frames need none
			t := time.NewTimer(grace)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-changed:
		case <-timeout:
			return nil
		case <-l.ctx.Done():
			return nil
		}
	}
}
