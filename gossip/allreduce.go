package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/protocol"
	"loco/kernels"
	"loco/mesh"
)

// AllReduce averages over everybody. Its methods are safe for concurrent use, but
// one Average runs at a time.
type AllReduce struct {
	cfg    Config
	links  *links
	states *states

	mu      sync.Mutex
	rounds  *protocol.Rounds
	call    *call
	now     *reduction // the data plane of the current attempt
	changed chan struct{}
	have    *result     // complete, of the round at hand
	kept    *result     // of the last committed round
	spare   []byte      // a result's bytes to use again
	codec   codec.Codec // of the part
	sums    sync.Pool
	serving map[mesh.ID]*serving
	closed  bool
}

// call is one Average.
type call struct {
	vec      exchange.Vector
	base     [32]byte     // the digest of the state that the round starts from
	works    []*reduction // of all attempts
	finished chan struct{}
	how      protocol.Finish
}

// result is the encoded mean of a round; serving counts the members that it is being sent to.
type result struct {
	round   uint64
	attempt uint64
	length  int
	bytes   []byte
	serving int
}

// serving is a result on its way to a peer.
type serving struct {
	protocol.Serve
	quit atomic.Bool
}

var errClosed = errors.New("gossip: closed")

// allReduceID ends the protocol IDs of the streams of an all-reduce. In version 1 the hash of a
// result was one chain; in version 2 a Group was for its members alone.
const allReduceID = "/allreduce/3"

// NewAllReduce joins the exchange: from now on it answers the peers.
func NewAllReduce(cfg Config) (*AllReduce, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	a := &AllReduce{cfg: cfg, changed: make(chan struct{}), serving: map[mesh.ID]*serving{}}
	a.rounds = protocol.NewRounds(protocol.RoundsConfig{
		Self: cfg.Mesh.Self(), Worker: cfg.Worker, Deadline: cfg.Deadline, Grace: cfg.Grace, GraceMin: cfg.GraceMin, SlowCycle: cfg.SlowCycle, Detection: cfg.Detection,
		Quorum: cfg.Quorum, Nonce: rand.Uint32(), Unequal: cfg.Unequal, Part: cfg.Part})
	a.codec = a.cfg.codecOf(cfg.Part)
	a.sums.New = func() any { return a.codec.NewSum() }
	a.links = newLinks(cfg.Mesh, cfg.Logger, cfg.Grace, allReduceID)
	a.links.onFrame, a.links.onBad = a.onFrame, a.onBad
	a.states = newStates(&a.cfg, !cfg.Unequal, func(joiner mesh.ID, round uint64) {
		a.step(func(_ time.Time, m *protocol.Rounds) { m.Expect(joiner, round+1) })
	})
	a.links.listen()
	a.links.spawn(a.clock)
	return a, nil
}

// Close ends the exchange; an Average under way returns an error.
func (a *AllReduce) Close() error {
	a.step(func(_ time.Time, m *protocol.Rounds) {
		a.closed = true
		m.Close(errClosed)
	})
	a.states.close()
	a.links.close()
	return nil
}

// FetchState gets the state of the run: that of the members' heaviest lineage.
func (a *AllReduce) FetchState(ctx context.Context, want exchange.Want) (exchange.Fetched, error) {
	return a.states.fetch(ctx, want)
}

// Average forms the weighted mean of vec over the group of the round. Without one, Behind
// says that this worker must fetch the state first, an error that it cannot go on. A
// worker that came late gets the result of the others, and is not in Members then. While most
// of the others are alive and not ready, which is slow and not lost, it waits for up to
// Config.Deadlines deadlines: going on without them would fork the run.
func (a *AllReduce) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	out, err := a.average(ctx, round, part, vec, weight, from)
	for n := 1; errors.Is(err, ErrDeadline) && n < a.cfg.Deadlines && ctx.Err() == nil; n++ {
		a.cfg.Logger.Warn("still waiting for the others", "round", round+1, "deadlines", n, "error", err)
		before := out
		vec.Slack = 0 // it is over
		out, err = a.average(ctx, round, part, vec, weight, from)
		out.BytesSent += before.BytesSent
		out.BytesReceived += before.BytesReceived
		out.Attempts += before.Attempts
		out.Rejected = append(before.Rejected, out.Rejected...)
		s := before.Seconds
		out.Seconds.Wait += s.Wait + s.Encode + s.Transfer + s.Decode
	}
	return out, err
}

// average is one Average of one deadline.
func (a *AllReduce) average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	if part != a.cfg.Part {
		return exchange.Outcome{}, fmt.Errorf("gossip: all-reduce: part %d, this one averages part %d", part, a.cfg.Part)
	}
	if err := check(vec, a.codec); err != nil {
		return exchange.Outcome{}, fmt.Errorf("gossip: all-reduce: round %d: %w", round, err)
	}
	if err := protocol.CheckWeight(weight); err != nil {
		return exchange.Outcome{}, fmt.Errorf("gossip: all-reduce: round %d: %w", round, err)
	}
	start := time.Now()
	c := &call{vec: vec, base: from.Digest, finished: make(chan struct{})}
	members, _ := a.cfg.Mesh.View()
	a.mu.Lock()
	if a.closed || a.call != nil {
		defer a.mu.Unlock()
		if a.closed {
			return exchange.Outcome{}, errClosed
		}
		return exchange.Outcome{}, fmt.Errorf("gossip: all-reduce: round %d: another Average is under way", round)
	}
	a.call = c
	if a.have != nil && a.have.round != round {
		a.have = nil
	}
	a.rounds.View(start, members)
	a.rounds.Start(start, round, protocol.Start{Digest: from.Digest, Tokens: from.Tokens, Weight: weight, Length: vec.Values, Slack: vec.Slack})
	a.perform()
	a.mu.Unlock()
	select {
	case <-c.finished:
	case <-ctx.Done():
		a.step(func(_ time.Time, m *protocol.Rounds) { m.Abort() })
		<-c.finished
	}
	return a.conclude(ctx, c, round, start)
}

// Over says that the others have finished the round without this worker, so that it need
// not train for it any longer; tokens is the Base's. It is for use between two Averages.
func (a *AllReduce) Over(round uint64, tokens float64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rounds.Over(round, tokens)
}

// Awaited says that the others wait for this worker, which came too late for the last
// round, to bring what it has: see Config.SlowCycle. It is for use between two Averages.
func (a *AllReduce) Awaited(round uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rounds.Awaited(round)
}

// clock turns time and the view into steps, between rounds too: the machine must know of
// deaths and restarts, and that this process was paused.
func (a *AllReduce) clock() {
	ticker := time.NewTicker(max(a.rounds.TickEvery(), time.Millisecond))
	defer ticker.Stop()
	members, changed := a.cfg.Mesh.View()
	a.step(func(now time.Time, m *protocol.Rounds) { m.View(now, members) })
	for {
		select {
		case <-a.links.ctx.Done():
			return
		case <-changed:
			members, changed = a.cfg.Mesh.View()
			a.step(func(now time.Time, m *protocol.Rounds) { m.View(now, members) })
		case <-ticker.C:
			// The view says more than its channel tells of. A late tick tells the machine that this
			// process was paused, so no time may pass here while the mesh is paused too.
			members, changed = a.cfg.Mesh.View()
			a.step(func(now time.Time, m *protocol.Rounds) {
				m.View(now, members)
				m.Tick(now)
				if work := a.now; work != nil {
					if who, why := work.stalled(now, a.cfg.Grace); who != "" {
						m.Fail(now, work.Number, who, why)
					}
				}
			})
		}
	}
}

// conclude hands over a committed result, once nothing reads vec any more.
func (a *AllReduce) conclude(ctx context.Context, c *call, round uint64, start time.Time) (exchange.Outcome, error) {
	var out exchange.Outcome
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
	out.Attempts, out.Rejected, out.Late = a.rounds.Tries(), a.rounds.Rejected(), a.rounds.Late()
	waitEnd := a.rounds.WaitEnd()
	out.Seconds = split(waitEnd.Sub(start), time.Since(waitEnd), encode, decode)
	how := c.how
	switch {
	case how.Err != nil:
		return out, fmt.Errorf("gossip: all-reduce: %w", how.Err)
	case how.Behind != "":
		out.Behind, out.Why = true, how.Behind
	case how.Result == nil:
		return out, fmt.Errorf("gossip: all-reduce: round %d: %w", round, context.Cause(ctx))
	default:
		out.Mean = []exchange.Term{{Bytes: a.kept.bytes, Share: 1}}
		out.Members, out.Tokens, out.Former = how.Result.Workers, how.Result.Tokens, how.Result.Former
	}
	return out, nil
}

// step moves the state machine and does what it says.
func (a *AllReduce) step(f func(now time.Time, m *protocol.Rounds)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(time.Now(), a.rounds)
	a.perform()
}

// perform carries out the machine's actions; none of them blocks. a.mu is held.
func (a *AllReduce) perform() {
	for acts := a.rounds.Take(); len(acts) > 0; acts = append(acts[1:], a.rounds.Take()...) {
		switch act := acts[0]; {
		case act.Send != nil:
			a.links.send(act.Send.To, act.Send.Env, act.Send.Msg)
		case act.Begin != nil:
			a.begin(*act.Begin)
		case act.Stop:
			a.end()
		case act.Serve != nil:
			a.serve(*act.Serve)
		case act.Quit != nil:
			if s := a.serving[act.Quit.To]; s != nil && s.Serve == *act.Quit {
				s.quit.Store(true)
			}
		case act.Finish != nil:
			a.finish(*act.Finish)
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// begin starts the data plane of an attempt.
func (a *AllReduce) begin(p protocol.Plan) {
	work := newReduction(time.Now(), p, a.cfg.Part, a.codec, &a.sums, a.links, a.call.vec, a.spare)
	a.spare = nil
	work.onDone = a.onDone
	work.onFail = func(number uint64, who mesh.ID, why string) {
		a.step(func(now time.Time, m *protocol.Rounds) { m.Fail(now, number, who, why) })
	}
	a.now = work
	a.call.works = append(a.call.works, work)
	work.begin()
}

// onDone files the complete result of an attempt.
func (a *AllReduce) onDone(number uint64, bytes []byte) {
	hash := kernels.Digest(bytes)
	a.step(func(now time.Time, m *protocol.Rounds) {
		work := a.now
		if work == nil || work.Number != number {
			return
		}
		if formed, ok := m.Keeps(number, hash); ok {
			a.have = &result{round: work.Round, attempt: formed, length: work.Length, bytes: bytes}
		}
		m.Complete(now, number, hash)
	})
}

// end stops the data plane and gives back what it holds. A complete result stays: have
// has its bytes.
func (a *AllReduce) end() {
	if work := a.now; work != nil {
		a.now = nil
		work.stop()
		a.links.spawn(work.discard)
	}
}

// finish ends the call and keeps what was committed for members that come late.
func (a *AllReduce) finish(f protocol.Finish) {
	a.end()
	if f.Result != nil {
		if old := a.kept; old != nil && old.serving == 0 && !a.states.log.holds(old.round) {
			a.spare = old.bytes
		}
		a.kept, a.have = a.have, nil
		if !a.cfg.Unequal { // a step from another state than a joiner's
			a.states.log.add(exchange.Result{Round: f.Result.Round, Base: a.call.base, Tokens: f.Result.Tokens, Bytes: a.kept.bytes})
		}
	}
	a.call.how = f
	close(a.call.finished)
}

// serve sends a complete result to a peer, in a goroutine of its own.
func (a *AllReduce) serve(s protocol.Serve) {
	from := a.kept
	if a.have != nil && a.have.round == s.Round && a.have.attempt == s.Attempt {
		from = a.have
	}
	if a.closed || from == nil || from.round != s.Round || from.attempt != s.Attempt {
		a.rounds.Served(s.To)
		return
	}
	from.serving++
	x := &serving{Serve: s}
	a.serving[s.To] = x
	a.links.spawn(func() {
		all, down := protocol.Span{Hi: from.length}, a.codec.Down()
		for c := range all.Chunks(chunkValues(down)) {
			// The stream carries other frames too, so that no write is cut short.
			if x.quit.Load() {
				break
			}
			k := all.Chunk(c, chunkValues(down))
			payload := down.Cut(from.bytes, k.Lo, k.Hi)
			h := protocol.Header{Type: protocol.TypeResult, Part: a.cfg.Part, Round: s.Round, Attempt: s.Number, Chunk: uint32(c),
				Worker: uint32(a.cfg.Worker), Count: uint32(k.Hi - k.Lo)}
			if err := a.links.writeData(a.links.ctx, s.To, h, payload); err != nil {
				a.cfg.Logger.Warn("gossip: send a result to a late member", "peer", s.To, "round", s.Round, "error", err)
				break
			}
		}
		a.step(func(_ time.Time, m *protocol.Rounds) {
			from.serving--
			delete(a.serving, s.To)
			m.Served(s.To)
		})
	})
}

// onFrame takes a frame of a peer.
func (a *AllReduce) onFrame(from mesh.ID, h protocol.Header, payload []byte) (keep bool, err error) {
	if h.Part != a.cfg.Part {
		return false, fmt.Errorf("frame type %d is of part %d, this all-reduce averages part %d", h.Type, h.Part, a.cfg.Part)
	}
	if h.Type == protocol.TypeContribution || h.Type == protocol.TypeResult {
		work := a.await(h)
		if work == nil {
			return false, nil
		}
		return work.accept(time.Now(), from, h, payload)
	}
	if h.Type >= protocol.TypeOffer {
		return false, fmt.Errorf("frame type %d is of a pair exchange", h.Type)
	}
	msg, err := protocol.ParseMessage(h.Type, payload)
	if err != nil {
		return false, err
	}
	env := protocol.Envelope{Round: h.Round, Attempt: h.Attempt, Part: h.Part, Worker: int(h.Worker)}
	a.step(func(now time.Time, m *protocol.Rounds) { m.Receive(now, from, env, msg) })
	return false, nil
}

// await returns the data plane that a frame is for, waiting for it where the peer is
// ahead, or nil where it is over.
func (a *AllReduce) await(h protocol.Header) *reduction {
	return await(a.links, a.cfg.Grace, func() (work *reduction, wait bool, changed <-chan struct{}) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if work := a.now; work != nil && work.ledger.For(h) {
			return work, false, nil
		}
		return nil, a.rounds.Awaits(h.Round, h.Attempt), a.changed
	})
}

// onBad blames a peer for what it sent in the attempt under way.
func (a *AllReduce) onBad(from mesh.ID, err error) {
	a.step(func(now time.Time, m *protocol.Rounds) { m.Blame(now, from, err.Error()) })
}
