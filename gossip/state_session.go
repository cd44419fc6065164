package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"loco/gossip/transfer"
	"loco/mesh"
)

// session is a joiner's stream to a source.
type session struct {
	id     mesh.ID
	stream mesh.Stream
	rw     *paced
	in     []byte
	begun  bool
	stop   func() bool
}

// sessions keeps the streams to sources that are not in use. A fetcher that gets one has it
// alone until put or drop.
type sessions struct {
	*states
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // questions whose answers came too late
	mu     sync.Mutex
	idle   map[mesh.ID][]*session
	closed bool
}

func (s *states) newSessions(ctx context.Context) *sessions {
	ss := &sessions{states: s, idle: map[mesh.ID][]*session{}}
	ss.ctx, ss.cancel = context.WithCancel(ctx)
	return ss
}

// get returns a stream to a source.
func (ss *sessions) get(id mesh.ID) (*session, error) {
	ss.mu.Lock()
	if n := len(ss.idle[id]); n > 0 {
		c := ss.idle[id][n-1]
		ss.idle[id] = ss.idle[id][:n-1]
		ss.mu.Unlock()
		return c, nil
	}
	ss.mu.Unlock()
	open, cancel := context.WithTimeout(ss.ctx, ss.cfg.Grace)
	defer cancel()
	stream, err := ss.cfg.Mesh.Open(open, id, stateID)
	if err != nil {
		return nil, err
	}
	c := &session{id: id, stream: stream, rw: &paced{stream: stream, grace: ss.cfg.Grace}}
	c.stop = context.AfterFunc(ss.ctx, func() { _ = stream.Reset() })
	return c, nil
}

// put gives a stream back that has nothing under way.
func (ss *sessions) put(c *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		c.stop()
		_ = c.stream.Close()
		return
	}
	ss.idle[c.id] = append(ss.idle[c.id], c)
}

// drop ends a stream.
func (ss *sessions) drop(c *session) {
	c.stop()
	_ = c.stream.Reset()
}

// close ends all of them.
func (ss *sessions) close() {
	ss.mu.Lock()
	ss.closed = true
	for _, idle := range ss.idle {
		for _, c := range idle {
			c.stop()
			_ = c.stream.Close()
		}
	}
	clear(ss.idle)
	ss.mu.Unlock()
	ss.cancel()
	ss.wg.Wait()
}

// send writes a request.
func (c *session) send(t transfer.Type, payload []byte) error {
	var frame []byte
	if !c.begun {
		frame = append(frame, transfer.Magic...)
	}
	c.begun = true
	_, err := c.rw.Write(transfer.AppendFrame(frame, t, payload))
	return err
}

// receive reads an answer of a type, valid until the next.
func (c *session) receive(want transfer.Type, limit int) ([]byte, error) {
	t, p, err := transfer.ReadFrame(c.rw, c.in, limit)
	if err != nil {
		return nil, err
	}
	c.in = p
	if t == transfer.TypeRefuse {
		return nil, refusal{transfer.ParseRefuse(p)}
	}
	if t != want {
		return nil, fmt.Errorf("answers with a frame of type %d, want %d", t, want)
	}
	return p, nil
}

// refusal is an answer: its stream goes on.
type refusal struct{ error }

// ask asks a member where it stands.
func (ss *sessions) ask(id mesh.ID, ask transfer.Ask) (a transfer.Answer, err error) {
	c, err := ss.get(id)
	if err != nil {
		return a, err
	}
	defer func() { ss.settle(c, err) }()
	if err := c.send(transfer.TypeAsk, ask.Append(nil)); err != nil {
		return a, err
	}
	p, err := c.receive(transfer.TypeAnswer, 1<<14)
	if err != nil {
		return a, err
	}
	return transfer.ParseAnswer(p)
}

// take asks a member for a manifest. It may have to copy and hash a state first.
func (ss *sessions) take(id mesh.ID, t transfer.Take) (m *transfer.Manifest, err error) {
	c, err := ss.get(id)
	if err != nil {
		return nil, err
	}
	defer func() { ss.settle(c, err) }()
	if err := c.send(transfer.TypeTake, t.Append(nil)); err != nil {
		return nil, err
	}
	c.rw.grace = ss.cfg.Deadline
	p, err := c.receive(transfer.TypeManifest, transfer.ManifestMax)
	c.rw.grace = ss.cfg.Grace
	if err != nil {
		return nil, err
	}
	if m, err = transfer.ParseManifest(p, uint64(ss.cfg.MaxState)); err != nil {
		return nil, err
	}
	if err = t.Check(m); err != nil {
		return nil, err
	}
	return m, nil
}

// settle gives a stream back, or drops it where it is broken.
func (ss *sessions) settle(c *session, err error) {
	var r refusal
	if err != nil && !errors.As(err, &r) {
		ss.drop(c)
		return
	}
	ss.put(c)
}

// survey asks the members where they stand. It waits for all of them for a quarter of
// Grace after half have answered, and for Grace at most.
func (ss *sessions) survey(members []mesh.Member, ask transfer.Ask) ([]transfer.Voice, error) {
	type reply struct {
		transfer.Voice
		err error
	}
	replies := make(chan reply, len(members))
	for _, m := range members {
		ss.wg.Go(func() {
			a, err := ss.ask(m.ID, ask)
			replies <- reply{transfer.Voice{ID: m.ID, Worker: m.Worker, Answer: a}, err}
		})
	}
	var voices []transfer.Voice
	var errs []error
	patience := time.NewTimer(ss.cfg.Grace)
	defer patience.Stop()
	for n := 1; n <= len(members); n++ {
		select {
		case r := <-replies:
			if r.err != nil {
				errs = append(errs, fmt.Errorf("worker %d (%s): %w", r.Worker, r.ID, r.err))
			} else {
				voices = append(voices, r.Voice)
			}
			if 2*n > len(members) && 2*(n-1) <= len(members) {
				patience.Reset(ss.cfg.Grace / 4)
			}
		case <-patience.C:
			if len(voices) == 0 {
				errs = append(errs, fmt.Errorf("%d members did not answer within %v", len(members)-n+1, ss.cfg.Grace))
			}
			return voices, errors.Join(errs...)
		case <-ss.ctx.Done():
			return nil, context.Cause(ss.ctx)
		}
	}
	return voices, errors.Join(errs...)
}
