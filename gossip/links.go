package gossip

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

const (
	// streamsMax bounds the streams that one peer may hold open here.
	streamsMax = 8
	controlID  = "/loco/gossip/control/2"
	dataID     = "/loco/gossip/data/2"
)

// links keeps one stream a peer and protocol open while they are used, writes frames to
// them and reads those of the peers. A stream carries frames one way: the end that opens
// it writes.
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

	mu      sync.Mutex
	peers   map[mesh.ID]*outbound
	inbound map[*mesh.Stream]mesh.ID
	closed  bool
}

func newLinks(m mesh.Mesh, log *slog.Logger, grace time.Duration, suffix string) *links {
	l := &links{mesh: m, log: log, grace: grace, suffix: suffix,
		peers: map[mesh.ID]*outbound{}, inbound: map[*mesh.Stream]mesh.ID{}}
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
}

// spawn runs f unless the links are closed.
func (l *links) spawn(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Go(f)
	}
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
