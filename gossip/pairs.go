package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/protocol"
	"loco/mesh"
)

// Pairs averages over random pairs. Its methods are safe for concurrent use, and the
// two parts of a round may be averaged at the same time.
type Pairs struct {
	cfg    Config
	links  *links
	states *states

	mu      sync.Mutex
	pairing *protocol.Pairing
	calls   [2]*pairCall
	changed chan struct{}
	closed  bool
	looked  time.Time // when the machine last saw the view
}

// pairCall is one Average.
type pairCall struct {
	vec      exchange.Vector
	works    []*swap
	now      *swap
	finished chan struct{}
	how      protocol.PairFinish
}

// pairsID ends the protocol IDs of the streams between pairs. Those of version 1 had no
// Holds and another matching.
const pairsID = "/pairs/2"

// tickMax bounds how late a worker notices that another has finished a round.
const tickMax = 100 * time.Millisecond

// NewPairs joins the exchange: from now on it answers the peers.
func NewPairs(cfg Config) (*Pairs, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Pairs{cfg: cfg, changed: make(chan struct{})}
	p.pairing = protocol.NewPairing(protocol.PairingConfig{Self: cfg.Mesh.Self(), Worker: cfg.Worker, Seed: cfg.Seed, Lag: uint64(cfg.MaxLag),
		Deadline: cfg.Deadline, Grace: cfg.Grace, Nonce: rand.Uint32()})
	p.links = newLinks(cfg.Mesh, cfg.Logger, cfg.Grace, pairsID)
	p.links.onFrame, p.links.onBad = p.onFrame, p.onBad
	p.states = newStates(&p.cfg, false, func(mesh.ID, uint64) {})
	p.links.listen()
	return p, nil
}

// Close ends the exchange; an Average under way returns alone.
func (p *Pairs) Close() error {
	p.step(func(now time.Time, m *protocol.Pairing) {
		p.closed = true
		m.Abort(now, exchange.Delta)
		m.Abort(now, exchange.Slow)
	})
	p.states.close()
	p.links.close()
	return nil
}

// FetchState gets the state of a ready member; each has its own.
func (p *Pairs) FetchState(ctx context.Context, want exchange.Want) (exchange.Fetched, error) {
	return p.states.fetch(ctx, want)
}

// Over says that most of the others have finished the round and this worker's partner has
// given it up or soon will, so that it stops its inner steps: it would only fall further behind. It may be asked at every step.
func (p *Pairs) Over(round uint64, _ float64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.looked) >= tickMax {
		p.looked = now
		members, _ := p.cfg.Mesh.View()
		p.pairing.View(now, members)
		p.perform()
	}
	return p.pairing.Over(now, round)
}

// Awaited is false: nobody waits for a late worker of pairs.
func (p *Pairs) Awaited(uint64) bool { return false }

// Average forms the weighted mean of this worker's vec and its partner's. A worker
// without a partner goes on with its own values, the only member of its outcome. The
// digest is not used: partners hold different states.
func (p *Pairs) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, _ exchange.Base) (exchange.Outcome, error) {
	if part > exchange.Slow {
		return exchange.Outcome{}, fmt.Errorf("gossip: pairs: part %d is unknown", part)
	}
	if err := check(vec, p.codec(part)); err != nil {
		return exchange.Outcome{}, fmt.Errorf("gossip: pairs: round %d, part %d: %w", round, part, err)
	}
	if err := protocol.CheckWeight(weight); err != nil {
		return exchange.Outcome{}, fmt.Errorf("gossip: pairs: round %d, part %d: %w", round, part, err)
	}
	start := time.Now()
	c := &pairCall{vec: vec, finished: make(chan struct{})}
	members, changed := p.cfg.Mesh.View()
	p.mu.Lock()
	if p.closed || p.calls[part] != nil {
		defer p.mu.Unlock()
		if p.closed {
			return exchange.Outcome{}, errClosed
		}
		return exchange.Outcome{}, fmt.Errorf("gossip: pairs: round %d: another Average of part %d is under way", round, part)
	}
	p.calls[part] = c
	p.pairing.View(start, members)
	p.pairing.Start(start, part, round, weight, vec.Values)
	p.perform()
	p.mu.Unlock()
	err := p.drive(ctx, c, part, changed)
	return p.conclude(c, part, start, err)
}

// drive turns the clock and the view into steps until the part is done. When ctx ends
// it withdraws, but from an exchange that has begun: the partner may have its mean.
func (p *Pairs) drive(ctx context.Context, c *pairCall, part exchange.Part, changed <-chan struct{}) error {
	ticker := time.NewTicker(max(min(p.cfg.Grace/4, tickMax), time.Millisecond))
	defer ticker.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case <-c.finished:
			if c.how.Partner < 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		case <-cancelled:
			cancelled = nil
			p.step(func(now time.Time, m *protocol.Pairing) {
				if !m.Exchanges(part) {
					m.Abort(now, part)
				}
			})
		case <-changed:
			var members []mesh.Member
			members, changed = p.cfg.Mesh.View()
			p.step(func(now time.Time, m *protocol.Pairing) { m.View(now, members) })
		case <-ticker.C:
			var members []mesh.Member
			members, changed = p.cfg.Mesh.View() // a round that a member has finished is no change
			p.step(func(now time.Time, m *protocol.Pairing) {
				m.View(now, members)
				if work := c.now; work != nil && work.stalled(now, p.cfg.Grace) {
					m.Fail(now, part, work.Number, fmt.Sprintf("silent: sent nothing for %v", p.cfg.Grace))
				}
				m.Tick(now)
			})
		}
	}
}

// conclude hands over the mean, once nothing reads vec any more.
func (p *Pairs) conclude(c *pairCall, part exchange.Part, start time.Time, err error) (exchange.Outcome, error) {
	how := c.how
	out := exchange.Outcome{Attempts: how.Tries, Rejected: how.Reject, Behind: how.Behind != "", Why: how.Behind, Torn: how.Torn}
	var decode time.Duration
	for _, work := range c.works {
		work.stop()
		work.wg.Wait()
		decode += time.Duration(work.decodeTime.Load())
		out.BytesSent += work.sent.Load()
		out.BytesReceived += work.received.Load()
	}
	if err == nil && !out.Behind {
		out.Members = []int{p.cfg.Worker}
		if how.Partner >= 0 {
			out.Mean = c.works[len(c.works)-1].mean()
			out.Members = append(out.Members, how.Partner)
			slices.Sort(out.Members)
		}
	}
	p.mu.Lock()
	p.calls[part] = nil
	p.mu.Unlock()
	out.Seconds = split(how.WaitEnd.Sub(start), time.Since(how.WaitEnd), 0, decode)
	if err != nil {
		return out, fmt.Errorf("gossip: pairs: part %d: %w", part, err)
	}
	return out, nil
}

func (p *Pairs) step(f func(now time.Time, m *protocol.Pairing)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(time.Now(), p.pairing)
	p.perform()
}

// perform carries out the machine's actions; none of them blocks. p.mu is held.
func (p *Pairs) perform() {
	for _, act := range p.pairing.Take() {
		switch {
		case act.Send != nil:
			p.links.send(act.Send.To, act.Send.Env, act.Send.Msg)
		case act.Begin != nil:
			p.begin(*act.Begin)
		case act.Stop != nil:
			if c := p.calls[*act.Stop]; c != nil && c.now != nil {
				c.now.stop()
				c.now = nil
			}
		case act.Finish != nil:
			c := p.calls[act.Finish.Part]
			c.how, c.now = *act.Finish, nil
			close(c.finished)
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Pairs) codec(part exchange.Part) codec.Codec { return p.cfg.codecOf(part) }

func (p *Pairs) begin(x protocol.Exchange) {
	c := p.calls[x.Part]
	w := newSwap(time.Now(), x, p.codec(x.Part), p.links, c.vec, p.cfg.Worker)
	w.onDone = func() { p.step(func(now time.Time, m *protocol.Pairing) { m.Complete(now, x.Part, x.Number) }) }
	w.onFail = func(why string) {
		p.step(func(now time.Time, m *protocol.Pairing) { m.Fail(now, x.Part, x.Number, why) })
	}
	c.now = w
	c.works = append(c.works, w)
	w.begin()
}

func (p *Pairs) onFrame(from mesh.ID, h protocol.Header, payload []byte) (keep bool, err error) {
	if h.Type == protocol.TypePair {
		w := p.await(from, h)
		if w == nil {
			return false, nil
		}
		return false, w.accept(time.Now(), h, payload)
	}
	if h.Type < protocol.TypeOffer {
		return false, fmt.Errorf("frame type %d is of an all-reduce", h.Type)
	}
	msg, err := protocol.ParseMessage(h.Type, payload)
	if err != nil {
		return false, err
	}
	env := protocol.Envelope{Round: h.Round, Attempt: h.Attempt, Part: h.Part, Worker: int(h.Worker)}
	p.step(func(now time.Time, m *protocol.Pairing) { m.Receive(now, from, env, msg) })
	return false, nil
}

// await returns the exchange that a frame is for: the peer may send before its Accept
// has been seen here. Control and data cross on two streams.
func (p *Pairs) await(from mesh.ID, h protocol.Header) *swap {
	return await(p.links, p.cfg.Grace, func() (w *swap, wait bool, changed <-chan struct{}) {
		p.mu.Lock()
		defer p.mu.Unlock()
		c := p.calls[h.Part]
		if c != nil && c.now != nil && c.now.Peer == from && c.now.Number == h.Attempt {
			return c.now, false, nil
		}
		return nil, c != nil && p.pairing.Awaits(h.Part, from, h.Attempt), p.changed
	})
}

// onBad blames a peer for what it sent.
func (p *Pairs) onBad(from mesh.ID, err error) {
	p.step(func(now time.Time, m *protocol.Pairing) { m.Blame(now, from, err.Error()) })
}
