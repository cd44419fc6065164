package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/mesh"
)

// handle answers the requests of one joiner.
func (s *states) handle(from mesh.ID, stream mesh.Stream) {
	s.mu.Lock()
	if s.closed || s.serving >= stateServeMax {
		s.mu.Unlock()
		_ = stream.Reset()
		return
	}
	s.serving++
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	defer func() { s.mu.Lock(); s.serving--; s.mu.Unlock() }()
	stop := context.AfterFunc(s.ctx, func() { _ = stream.Reset() })
	defer stop()
	err := s.answer(from, &paced{stream: stream, grace: s.cfg.Deadline}, &paced{stream: stream, grace: s.cfg.Grace})
	if err != nil && !errors.Is(err, io.EOF) {
		if s.ctx.Err() == nil {
			s.cfg.Logger.Info("gossip: a joiner's stream ended", "peer", from, "error", err)
		}
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

// answer serves until the joiner closes the stream or asks nothing for Deadline.
func (s *states) answer(from mesh.ID, r, w *paced) error {
	var magic [len(transfer.Magic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return err
	}
	if string(magic[:]) != transfer.Magic {
		return fmt.Errorf("stream begins with %q, want %q", magic, transfer.Magic)
	}
	var in, out, scratch []byte
	for {
		typ, payload, err := transfer.ReadFrame(r, in, 64)
		if err != nil {
			return err
		}
		in = payload
		switch typ {
		case transfer.TypeAsk:
			ask, err := transfer.ParseAsk(payload)
			if err != nil {
				return err
			}
			scratch = s.stand(from, ask).Append(scratch[:0])
			out = transfer.AppendFrame(out[:0], transfer.TypeAnswer, scratch)
		case transfer.TypeTake:
			take, err := transfer.ParseTake(payload)
			if err != nil {
				return err
			}
			o, err := s.take(from, take)
			if err != nil {
				scratch = transfer.AppendRefuse(scratch[:0], err.Error())
				out = transfer.AppendFrame(out[:0], transfer.TypeRefuse, scratch)
				break
			}
			out = transfer.AppendFrame(out[:0], transfer.TypeManifest, o.raw)
		case transfer.TypeGet:
			get, err := transfer.ParseGet(payload)
			if err != nil {
				return err
			}
			out, scratch = s.chunk(from, out[:0], scratch, get)
		default:
			return fmt.Errorf("frame of type %d is no request", typ)
		}
		if typ == transfer.TypeGet && s.cfg.StateSent != nil {
			s.cfg.StateSent(len(out))
		}
		if err := s.write(w, out); err != nil {
			return err
		}
	}
}

// write writes a frame at the rate that all joiners together are given: answers and manifests
// are part of it, because a joiner may ask every few milliseconds, and an answer has some 10 KB.
func (s *states) write(w io.Writer, frame []byte) error {
	if s.cfg.StateUpload == 0 {
		_, err := w.Write(frame)
		return err
	}
	for len(frame) > 0 {
		n := min(len(frame), stateSlice)
		s.mu.Lock()
		wait := s.bucket.Take(time.Now(), n)
		s.mu.Unlock()
		if wait > 0 && !mesh.Pause(s.ctx, wait) {
			return s.ctx.Err()
		}
		if _, err := w.Write(frame[:n]); err != nil {
			return err
		}
		frame = frame[n:]
	}
	return nil
}

// stand says where this worker is.
func (s *states) stand(from mesh.ID, ask transfer.Ask) transfer.Answer {
	head, ok := s.cfg.Head()
	if !ok {
		return transfer.Answer{}
	}
	a := transfer.Answer{Ready: true, Round: head.Round, Step: head.Step, Since: head.Since, Tokens: head.Tokens, Digest: head.Digest,
		Oldest: s.log.oldest(head), Marks: head.Past}
	for n := len(a.Marks); n > 0 && a.Marks[n-1].Round >= head.Round; n-- {
		a.Marks = a.Marks[:n-1] // the newest is the head itself
	}
	s.mu.Lock()
	if o := s.held[transfer.State]; o != nil {
		a.HeldRound, a.Held = o.Round, o.id
	}
	s.mu.Unlock()
	if ask.Coming {
		s.served(from, head.Round)
	}
	return a
}

// chunk appends the frame of a chunk, or of a refusal.
func (s *states) chunk(from mesh.ID, dst, scratch []byte, get transfer.Get) (frame, again []byte) {
	o := s.find(from, get.ID)
	if o == nil || int(get.Chunk) >= len(o.Chunks) {
		scratch = transfer.AppendRefuse(scratch[:0], fmt.Sprintf("chunk %d of %x is not served here any more", get.Chunk, get.ID[:8]))
		return transfer.AppendFrame(dst, transfer.TypeRefuse, scratch), scratch
	}
	lo, hi := o.Span(int(get.Chunk))
	scratch = o.read(scratch[:0], lo, hi)
	var number [4]byte
	number[0], number[1], number[2], number[3] = byte(get.Chunk), byte(get.Chunk>>8), byte(get.Chunk>>16), byte(get.Chunk>>24)
	return transfer.AppendFrame(dst, transfer.TypeChunk, number[:], scratch), scratch
}

// find returns what is served under an ID, and notes that it is in use.
func (s *states) find(from mesh.ID, id [32]byte) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.held {
		if o.id == id {
			o.use(from)
			return o
		}
	}
	return s.log.find(id)
}

// take returns what a joiner asks for. A state is copied at most once at a time: a
// joiner that comes while one is served, and that results can bring up to date, gets the same.
func (s *states) take(from mesh.ID, t transfer.Take) (*object, error) {
	if t.Kind == transfer.Result {
		if o := s.log.take(t.Round); o != nil {
			return o, nil
		}
		return nil, fmt.Errorf("the result of round %d is not kept here any more", t.Round)
	}
	select {
	case s.taking <- struct{}{}:
	case <-s.ctx.Done():
		return nil, errClosed
	}
	defer func() { <-s.taking }()
	head, ok := s.cfg.Head()
	if !ok {
		return nil, errors.New("this worker does not hold the run's state yet")
	}
	if o := s.reuse(from, t, head); o != nil {
		return o, nil
	}
	if t.Exact && head.Round != t.Round {
		return nil, fmt.Errorf("round %d starts from another state than round %d", head.Round, t.Round)
	}
	capture := s.cfg.State
	if t.Kind == transfer.Moments {
		capture = s.cfg.Moments
	}
	if capture == nil {
		return nil, errors.New("this worker serves none")
	}
	if t.Kind == transfer.State && s.busy(from) {
		return nil, errors.New("the state of another round is being served; ask again later")
	}
	s.mu.Lock()
	delete(s.held, t.Kind) // before there is another copy
	s.mu.Unlock()
	st, err := capture()
	if err != nil {
		return nil, err
	}
	o := describeState(t.Kind, st)
	s.hold(from, t.Kind, o)
	if t.Exact && (o.Round != t.Round || o.Digest != t.Digest) {
		return nil, fmt.Errorf("round %d starts from state %x", o.Round, o.Digest[:8])
	}
	return o, nil
}

// reuse returns what is held if it will do: the very state, one from which the log leads
// to the present, or moments, which need not be new.
func (s *states) reuse(from mesh.ID, t transfer.Take, head exchange.Head) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.held[t.Kind]
	if o == nil || t.Exact && (o.Round != t.Round || o.Digest != t.Digest) {
		return nil
	}
	if t.Kind == transfer.State && !t.Exact {
		// Replicas that differ need not be up to date, but a copy that nobody uses is made anew.
		use := o.Round >= s.log.oldest(head)
		if !s.replicas {
			use = o.Round == head.Round || s.inUse(o, "")
		}
		if !use {
			return nil
		}
	}
	o.use(from)
	return o
}

// busy says whether another joiner works on the state that is held.
func (s *states) busy(from mesh.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.held[transfer.State]
	return o != nil && s.inUse(o, from)
}

// inUse says whether somebody but except works on a copy. s.mu is held.
func (s *states) inUse(o *object, except mesh.ID) bool {
	if time.Since(o.born) >= s.cfg.StateHold {
		return false
	}
	for id, at := range o.users {
		if id != except && time.Since(at) < 2*s.cfg.Grace {
			return true
		}
	}
	return false
}

// hold replaces what is served, and sees to it that it is given back.
func (s *states) hold(from mesh.ID, kind transfer.Kind, o *object) {
	o.use(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.held[kind] = o
	if s.expiry == nil {
		s.expiry = time.AfterFunc(s.cfg.Deadline, s.expire)
	}
}

// expire gives back what nobody has asked for during Deadline, or what is older than
// StateHold.
func (s *states) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry = nil
	next := s.cfg.Deadline
	for kind, o := range s.held {
		left := min(s.cfg.Deadline-o.idle(), s.cfg.StateHold-time.Since(o.born))
		if left <= 0 {
			delete(s.held, kind)
		}
		next = min(next, max(left, time.Millisecond))
	}
	if len(s.held) > 0 && !s.closed {
		s.expiry = time.AfterFunc(next, s.expire)
	}
}
