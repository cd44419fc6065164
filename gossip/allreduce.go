package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"loco/mesh"
)

// AllReduce averages over everybody. Its methods are safe for concurrent use, but
// one Average runs at a time.
type AllReduce struct {
	cfg    Config
	links  *links
	states *states

	mu      sync.Mutex
	rounds  *rounds
	call    *call
	now     *reduction // the data plane of the current attempt
	changed chan struct{}
	have    *result // complete, of the round at hand
	kept    *result // of the last committed round
	spare   []byte  // a result's bytes to use again
	closed  bool
}

// call is one Average.
type call struct {
	vec      []float32
	works    []*reduction // of all attempts
	finished chan struct{}
	how      finished
}

// result is the encoded mean of a round; serving counts who sends it.
type result struct {
	round   uint64
	attempt uint32
	length  int
	bytes   []byte
	serving int
}

var errClosed = errors.New("gossip: closed")

// NewAllReduce joins the exchange: from now on it answers the peers.
func NewAllReduce(cfg Config) (*AllReduce, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	a := &AllReduce{cfg: cfg, changed: make(chan struct{})}
	a.rounds = newRounds(cfg.Mesh.Self(), cfg.Worker, cfg.Deadline, cfg.Grace)
	a.links = newLinks(cfg.Mesh, cfg.Logger, cfg.Grace, "/allreduce")
	a.links.onFrame, a.links.onBad = a.onFrame, a.onBad
	a.states = newStates(&a.cfg, a.links, func(joiner mesh.ID, round uint64) {
		a.step(func(now time.Time, m *rounds) { m.expect(joiner, round+1) })
	})
	a.links.listen()
	return a, nil
}

// Close ends the exchange; an Average under way returns an error.
func (a *AllReduce) Close() error {
	a.step(func(_ time.Time, m *rounds) {
		a.closed = true
		if m.active {
			m.finish(finished{err: errClosed})
		}
	})
	a.states.close()
	a.links.close()
	return nil
}

// FetchState gets the state of the run from a ready member, those furthest on first.
func (a *AllReduce) FetchState(ctx context.Context) (State, error) { return a.states.fetch(ctx) }

// Average replaces vec by the weighted mean over the group of the round. Unless the
// round was averaged vec stays as it is: Behind says that this worker must fetch the
// state first, an error that it cannot go on. A worker that came late gets the
// result of the others, and is not in Members then.
func (a *AllReduce) Average(ctx context.Context, round uint64, part Part, vec []float32, weight float64, digest [32]byte) (Outcome, error) {
	if part != Delta {
		return Outcome{}, fmt.Errorf("gossip: all-reduce: part %d: only the delta is averaged over everybody", part)
	}
	if err := checkVector(vec); err != nil {
		return Outcome{}, fmt.Errorf("gossip: all-reduce: round %d: %w", round, err)
	}
	if err := checkWeight(weight); err != nil {
		return Outcome{}, fmt.Errorf("gossip: all-reduce: round %d: %w", round, err)
	}
	start := time.Now()
	c := &call{vec: vec, finished: make(chan struct{})}
	members, changed := a.cfg.Mesh.View()
	a.mu.Lock()
	if a.closed || a.call != nil {
		defer a.mu.Unlock()
		if a.closed {
			return Outcome{}, errClosed
		}
		return Outcome{}, fmt.Errorf("gossip: all-reduce: round %d: another Average is under way", round)
	}
	a.call, a.have = c, nil
	a.rounds.view(start, members)
	a.rounds.start(start, round, ready{digest: digest, weight: weight, length: uint64(len(vec))})
	a.perform()
	a.mu.Unlock()
	a.drive(ctx, c, changed)
	return a.conclude(ctx, c, start)
}

// drive turns the clock and the view into steps until the round is over.
func (a *AllReduce) drive(ctx context.Context, c *call, changed <-chan struct{}) {
	ticker := time.NewTicker(max(a.cfg.Grace/4, time.Millisecond))
	defer ticker.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case <-c.finished:
			return
		case <-cancelled:
			cancelled = nil
			a.step(func(_ time.Time, m *rounds) { m.abort() })
		case <-changed:
			var members []mesh.Member
			members, changed = a.cfg.Mesh.View()
			a.step(func(now time.Time, m *rounds) { m.view(now, members) })
		case <-ticker.C:
			a.step(func(now time.Time, m *rounds) {
				if work := a.now; work != nil {
					if who, why := work.stalled(now, a.cfg.Grace); who != "" {
						m.fail(now, work.number, who, why)
					}
				}
				m.tick(now)
			})
		}
	}
}

// conclude applies a committed result, once nothing reads vec any more.
func (a *AllReduce) conclude(ctx context.Context, c *call, start time.Time) (Outcome, error) {
	var out Outcome
	var encode, decode time.Duration
	for _, work := range c.works {
		work.stop()
		work.join()
		encode += time.Duration(work.encodeTime.Load())
		decode += time.Duration(work.decodeTime.Load())
		out.BytesSent += work.sent.Load()
		out.BytesReceived += work.received.Load()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.call = nil
	out.Attempts, out.Rejected = a.rounds.tries, a.rounds.rejected()
	waitEnd := a.rounds.waitEnd
	how := c.how
	switch {
	case how.err != nil:
		return out, how.err
	case how.behind != "":
		out.Behind, out.Why = true, how.behind
	case how.committed == nil:
		return out, fmt.Errorf("gossip: all-reduce: round %d: %w", a.rounds.own.round, context.Cause(ctx))
	default:
		began := time.Now()
		if err := a.cfg.Codec.Decode(c.vec, a.kept.bytes); err != nil {
			return out, fmt.Errorf("gossip: all-reduce: round %d: apply the result: %w", a.kept.round, err)
		}
		decode += time.Since(began)
		out.Members = how.committed.workers
	}
	out.Seconds = split(waitEnd.Sub(start), time.Since(waitEnd), encode, decode)
	return out, nil
}

// step moves the state machine and does what it says.
func (a *AllReduce) step(f func(now time.Time, m *rounds)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(time.Now(), a.rounds)
	a.perform()
}

// perform carries out the machine's actions; none of them blocks. a.mu is held.
func (a *AllReduce) perform() {
	for _, act := range a.rounds.take() {
		switch {
		case act.send != nil:
			a.links.send(act.send.to, act.send.env, act.send.msg)
		case act.begin != nil:
			a.begin(act.begin)
		case act.stop:
			a.end()
		case act.serve != nil:
			a.serve(*act.serve)
		case act.finish != nil:
			a.finish(*act.finish)
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// begin starts the data plane of an attempt.
func (a *AllReduce) begin(at *attempt) {
	m := a.rounds
	p := plan{round: m.own.round, number: at.number, members: at.group.members, self: -1, length: len(a.call.vec)}
	for i, g := range p.members {
		if g.id == m.self {
			p.self = i
		}
	}
	if at.fetch || at.group.adopt.attempt != 0 {
		p.source = at.source
	}
	work := newReduction(p, a.cfg.Codec, a.links, a.call.vec, a.spare)
	a.spare = nil
	work.onDone = a.onDone
	work.onFail = func(number uint32, who mesh.ID, why string) {
		a.step(func(now time.Time, m *rounds) { m.fail(now, number, who, why) })
	}
	a.now = work
	a.call.works = append(a.call.works, work)
	work.begin(time.Now())
}

// onDone files the complete result of an attempt.
func (a *AllReduce) onDone(number uint32, hash [32]byte) {
	a.step(func(now time.Time, m *rounds) {
		work := a.now
		if work == nil || work.number != number || m.attempt == nil || m.attempt.number != number {
			return
		}
		// An adopted result keeps the number of the attempt that formed it.
		formed := number
		if adopt := m.attempt.group.adopt; adopt.attempt != 0 {
			formed = adopt.attempt
		}
		if m.attempt.agrees(hash) {
			a.have = &result{round: work.round, attempt: formed, length: work.length, bytes: work.result}
		}
		m.complete(now, number, hash)
	})
}

// end stops the data plane.
func (a *AllReduce) end() {
	if a.now != nil {
		a.now.stop()
		a.now = nil
	}
}

// finish ends the call and keeps what was committed for those who come late.
func (a *AllReduce) finish(f finished) {
	a.end()
	if f.committed != nil {
		if old := a.kept; old != nil && old.serving == 0 {
			a.spare = old.bytes
		}
		a.kept, a.have = a.have, nil
	}
	a.call.how = f
	close(a.call.finished)
}

// serve sends a complete result to a peer, in a goroutine of its own.
func (a *AllReduce) serve(s serving) {
	from := a.kept
	if a.have != nil && a.have.round == s.round && a.have.attempt == s.attempt {
		from = a.have
	}
	if from == nil || from.round != s.round || from.attempt != s.attempt {
		return
	}
	from.serving++
	a.links.spawn(func() {
		all := span{0, from.length}
		for c := range all.chunks() {
			k := all.chunk(c)
			lo := a.cfg.Codec.EncodedLen(k.lo)
			payload := from.bytes[lo : lo+a.cfg.Codec.EncodedLen(k.hi-k.lo)]
			h := header{Type: typeResult, Round: s.round, Attempt: s.number, Chunk: uint32(c),
				Worker: uint32(a.cfg.Worker), Count: uint32(k.hi - k.lo)}
			if err := a.links.writeData(a.links.ctx, s.to, h, payload); err != nil {
				a.cfg.Logger.Warn("gossip: send a result to a late member", "peer", s.to, "round", s.round, "error", err)
				break
			}
		}
		a.mu.Lock()
		from.serving--
		a.mu.Unlock()
	})
}

// onFrame takes a frame of a peer.
func (a *AllReduce) onFrame(from mesh.ID, h header, payload []byte) (keep bool, err error) {
	if h.Type == typeContribution || h.Type == typeResult {
		work := a.await(h)
		if work == nil {
			return false, nil
		}
		return work.accept(time.Now(), from, h, payload)
	}
	if h.Type >= typeOffer {
		return false, fmt.Errorf("frame type %d is of a pair exchange", h.Type)
	}
	msg, err := parseMessage(h.Type, payload)
	if err != nil {
		return false, err
	}
	env := envelope{round: h.Round, attempt: h.Attempt, part: h.Part, worker: int(h.Worker)}
	a.step(func(now time.Time, m *rounds) { m.receive(now, from, env, msg) })
	return false, nil
}

// await returns the data plane that a frame is for, waiting for it where the peer is
// ahead, or nil where it is over.
func (a *AllReduce) await(h header) *reduction {
	return await(a.links, a.cfg.Grace, func() (work *reduction, wait bool, changed <-chan struct{}) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if work := a.now; work != nil && work.round == h.Round && work.number == h.Attempt {
			return work, false, nil
		}
		m := a.rounds
		over := m.over(h.Round) || m.own.round > h.Round || m.own.round == h.Round && m.own.last >= h.Attempt
		return nil, !over, a.changed
	})
}

// onBad blames a peer for what it sent in the attempt under way.
func (a *AllReduce) onBad(from mesh.ID, err error) {
	a.step(func(now time.Time, m *rounds) {
		if m.active {
			m.blame(now, from, err.Error())
		}
	})
}
