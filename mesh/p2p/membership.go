package p2p

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"loco/mesh"
	"loco/mesh/swim"
)

const membersProtocol = "members/1.0.0"

// mailMax bounds the messages that wait for a link: a link that is slower than that
// looks like one that is lost.
const mailMax = 16

// known lists the live members for a hello.
func (m *Mesh) known() []Known {
	var list []Known
	for _, v := range m.members.View(m.now()) {
		if v.ID != m.id && v.State != mesh.Dead && v.State != mesh.Left {
			list = append(list, Known{ID: v.ID, Addrs: v.Addrs})
		}
	}
	return list
}

// LifeCounts are what the detection of failures has come to since the start.
type LifeCounts struct {
	Sent, Received uint64 // bytes of probes and rumors
	Suspicions     uint64 // probes that were not answered, not even through others
	Refutations    uint64 // of what others said of this member
}

// LifeCounts returns the counts so far.
func (m *Mesh) LifeCounts() LifeCounts {
	m.mu.Lock()
	c := m.members.Counts()
	m.mu.Unlock()
	return LifeCounts{Sent: m.lifeSent.Load(), Received: m.lifeReceived.Load(), Suspicions: c.Suspicions, Refutations: c.Refutations}
}

// note does what has followed from the members' events since the last time: it logs, wakes
// the goroutines that wait for a change, sends and dials. m.mu is held.
func (m *Mesh) note() {
	out := m.members.Take()
	for _, t := range out.News {
		if t.ID != m.id {
			m.log.Info("member changed", "peer", string(t.ID), "worker", t.Worker, "from", t.From.String(), "to", t.To.String())
		}
	}
	if out.Changed {
		close(m.changed)
		m.changed = make(chan struct{})
	}
	if m.ended {
		return
	}
	if out.Publish {
		m.log.Info("others called this worker suspect or dead; refuted", "refutations", m.members.Counts().Refutations)
		m.beatSoon()
	}
	for _, e := range out.Send {
		m.post(e)
	}
	for _, id := range out.Dial {
		if pid, err := peer.Decode(string(id)); err == nil {
			m.tasks.Go(func() { m.seek(peer.AddrInfo{ID: pid}) })
		}
	}
}

// post hands a message to its link's writer. It drops the message where the link is full or
// there is none. m.mu is held.
func (m *Mesh) post(e swim.Envelope) {
	id, err := peer.Decode(string(e.To))
	l := m.links[id]
	if err != nil || l == nil || !l.passed {
		return
	}
	select {
	case l.mail <- e.Message:
	default:
	}
	if !l.writing {
		l.writing = true
		m.tasks.Go(func() { m.deliver(id, l) })
	}
}

// deliver writes a link's messages to one stream until that, or the link, ends. What was
// waiting is lost with it: it would be old.
func (m *Mesh) deliver(id peer.ID, l *link) {
	err := m.write(id, l)
	m.mu.Lock()
	for len(l.mail) > 0 {
		<-l.mail
	}
	l.writing = false // the next message opens another stream
	m.mu.Unlock()
	if err != nil && m.ctx.Err() == nil {
		m.log.Debug("membership messages lost", "peer", id.String(), "error", err)
	}
}

func (m *Mesh) write(id peer.ID, l *link) error {
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.DialTimeout)
	defer cancel()
	s, err := m.openRaw(ctx, id, m.protocol(membersProtocol))
	if err != nil {
		return err
	}
	defer s.Reset() // nobody waits for what was on its way
	for {
		select {
		case <-m.ctx.Done():
			return nil
		case <-l.gone:
			return nil
		case g := <-l.mail:
			frame := swim.AppendMessage(make([]byte, 2, 128), g)
			binary.LittleEndian.PutUint16(frame, uint16(len(frame)-2))
			s.SetWriteDeadline(time.Now().Add(m.cfg.DialTimeout))
			if _, err := s.Write(frame); err != nil {
				return err
			}
			m.lifeSent.Add(uint64(len(frame)))
		}
	}
}

// answerMembers takes in a member's messages for as long as its stream lasts.
func (m *Mesh) answerMembers(s network.Stream) {
	defer s.Reset()
	from := s.Conn().RemotePeer()
	if m.awaitPassed(from) == nil {
		return
	}
	r := bufio.NewReader(s)
	for {
		g, n, err := readMessage(r)
		if err != nil {
			if m.ctx.Err() == nil && !errors.Is(err, io.EOF) && !isLost(err) {
				m.log.Warn("membership message refused", "peer", from.String(), "error", err)
			}
			return
		}
		m.lifeReceived.Add(uint64(n))
		m.mu.Lock()
		if !m.ended {
			m.members.Receive(mesh.ID(from.String()), g, m.now())
			m.note()
		}
		m.mu.Unlock()
	}
}

// isLost reports whether reading ended with the stream or its connection.
func isLost(err error) bool {
	var bad *messageError
	return !errors.As(err, &bad)
}

// messageError is a message that breaks a rule.
type messageError struct{ err error }

func (e *messageError) Error() string { return "p2p: " + e.err.Error() }
func (e *messageError) Unwrap() error { return e.err }

// readMessage reads one message and says how many bytes it took. A length over the limit
// is an error before anything is allocated for it.
func readMessage(r io.Reader) (g swim.Message, n int, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return g, 0, err
	}
	size := int(binary.LittleEndian.Uint16(head[:]))
	if size > swim.MaxMessageBytes {
		return g, 0, &messageError{fmt.Errorf("membership message of %d bytes: at most %d", size, swim.MaxMessageBytes)}
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		return g, 0, err
	}
	if g, err = swim.ParseMessage(raw); err != nil {
		return g, 0, &messageError{err}
	}
	return g, len(head) + size, nil
}
