package gossip

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"loco/gossip/codec"
	"loco/mesh"
)

// Pairs averages over random pairs. Its methods are safe for concurrent use, and the
// two parts of a round may be averaged at the same time.
type Pairs struct {
	cfg    Config
	links  *links
	states *states

	mu      sync.Mutex
	pairing *pairing
	calls   [2]*pairCall
	changed chan struct{}
	closed  bool
}

// pairCall is one Average.
type pairCall struct {
	vec      []float32
	works    []*swap
	now      *swap
	finished chan struct{}
	how      pairFinished
}

// tickMax bounds how late a worker notices that its partner has finished the round.
const tickMax = 100 * time.Millisecond

// NewPairs joins the exchange: from now on it answers the peers.
func NewPairs(cfg Config) (*Pairs, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Pairs{cfg: cfg, changed: make(chan struct{})}
	p.pairing = newPairing(cfg.Mesh.Self(), cfg.Worker, cfg.Seed, uint64(cfg.MaxLag), cfg.Deadline, cfg.Grace)
	p.links = newLinks(cfg.Mesh, cfg.Logger, cfg.Grace, "/pairs")
	p.links.onFrame, p.links.onBad = p.onFrame, p.onBad
	p.states = newStates(&p.cfg, p.links, func(mesh.ID, uint64) {})
	p.links.listen()
	return p, nil
}

// Close ends the exchange; an Average under way returns alone.
func (p *Pairs) Close() error {
	p.step(func(_ time.Time, m *pairing) {
		p.closed = true
		for _, s := range m.seeks {
			if s != nil {
				m.finish(s, pairFinished{partner: -1})
			}
		}
	})
	p.states.close()
	p.links.close()
	return nil
}

// FetchState gets the state of a ready member.
func (p *Pairs) FetchState(ctx context.Context) (State, error) { return p.states.fetch(ctx) }

// Average replaces vec by the weighted mean of this worker's and its partner's. A
// worker without one goes on with vec as it is, the only member of its outcome. The
// digest is not used: partners hold different states.
func (p *Pairs) Average(ctx context.Context, round uint64, part Part, vec []float32, weight float64, _ [32]byte) (Outcome, error) {
	if part > Slow {
		return Outcome{}, fmt.Errorf("gossip: pairs: part %d is unknown", part)
	}
	if err := checkVector(vec); err != nil {
		return Outcome{}, fmt.Errorf("gossip: pairs: round %d, part %d: %w", round, part, err)
	}
	if err := checkWeight(weight); err != nil {
		return Outcome{}, fmt.Errorf("gossip: pairs: round %d, part %d: %w", round, part, err)
	}
	start := time.Now()
	c := &pairCall{vec: vec, finished: make(chan struct{})}
	members, changed := p.cfg.Mesh.View()
	p.mu.Lock()
	if p.closed || p.calls[part] != nil {
		defer p.mu.Unlock()
		if p.closed {
			return Outcome{}, errClosed
		}
		return Outcome{}, fmt.Errorf("gossip: pairs: round %d: another Average of part %d is under way", round, part)
	}
	p.calls[part] = c
	p.pairing.view(start, members)
	p.pairing.start(start, part, round, terms{weight, uint64(len(vec))})
	p.perform()
	p.mu.Unlock()
	err := p.drive(ctx, c, part, changed)
	return p.conclude(c, part, start, err)
}

// drive turns the clock and the view into steps until the part is done. When ctx ends
// it withdraws, but from an exchange that has begun: the partner may have its mean.
func (p *Pairs) drive(ctx context.Context, c *pairCall, part Part, changed <-chan struct{}) error {
	ticker := time.NewTicker(max(min(p.cfg.Grace/4, tickMax), time.Millisecond))
	defer ticker.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case <-c.finished:
			if c.how.partner < 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil
		case <-cancelled:
			cancelled = nil
			p.step(func(_ time.Time, m *pairing) {
				if s := m.seeks[part]; s != nil && !s.exchange {
					m.finish(s, pairFinished{partner: -1})
				}
			})
		case <-changed:
			var members []mesh.Member
			members, changed = p.cfg.Mesh.View()
			p.step(func(now time.Time, m *pairing) { m.view(now, members) })
		case <-ticker.C:
			p.step(func(now time.Time, m *pairing) {
				if work := c.now; work != nil && work.stalled(now, p.cfg.Grace) {
					m.fail(now, part, work.number, fmt.Sprintf("silent: sent nothing for %v", p.cfg.Grace))
				}
				m.tick(now)
			})
		}
	}
}

// conclude applies the mean, once nothing reads vec any more.
func (p *Pairs) conclude(c *pairCall, part Part, start time.Time, err error) (Outcome, error) {
	how := c.how
	out := Outcome{Attempts: how.tries, Rejected: how.reject, Behind: how.behind != "", Why: how.behind}
	var encode, decode time.Duration
	for _, work := range c.works {
		work.stop()
		work.wg.Wait()
		encode += time.Duration(work.encodeTime.Load())
		decode += time.Duration(work.decodeTime.Load())
		out.BytesSent += work.sent.Load()
		out.BytesReceived += work.received.Load()
	}
	if err == nil && !out.Behind {
		out.Members = []int{p.cfg.Worker}
		if how.partner >= 0 {
			began := time.Now()
			err = c.works[len(c.works)-1].apply(p.cfg.Worker)
			decode += time.Since(began)
			out.Members = append(out.Members, how.partner)
			slices.Sort(out.Members)
		}
	}
	p.mu.Lock()
	p.calls[part] = nil
	p.mu.Unlock()
	out.Seconds = split(how.waitEnd.Sub(start), time.Since(how.waitEnd), encode, decode)
	if err != nil {
		return out, fmt.Errorf("gossip: pairs: part %d: %w", part, err)
	}
	return out, nil
}

func (p *Pairs) step(f func(now time.Time, m *pairing)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(time.Now(), p.pairing)
	p.perform()
}

// perform carries out the machine's actions; none of them blocks. p.mu is held.
func (p *Pairs) perform() {
	for _, act := range p.pairing.take() {
		switch {
		case act.send != nil:
			p.links.send(act.send.to, act.send.env, act.send.msg)
		case act.begin != nil:
			p.begin(*act.begin)
		case act.stop != nil:
			if c := p.calls[*act.stop]; c != nil && c.now != nil {
				c.now.stop()
				c.now = nil
			}
		case act.finish != nil:
			c := p.calls[act.finish.part]
			c.how, c.now = *act.finish, nil
			close(c.finished)
		}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Pairs) codec(part Part) codec.Codec {
	if part == Slow {
		return p.cfg.StateCodec
	}
	return p.cfg.Codec
}

func (p *Pairs) begin(x exchange) {
	c := p.calls[x.part]
	w := newSwap(x, p.codec(x.part), p.links, c.vec, p.cfg.Worker)
	w.onDone = func() { p.step(func(_ time.Time, m *pairing) { m.complete(x.part, x.number, x.peerWorker) }) }
	w.onFail = func(why string) {
		p.step(func(now time.Time, m *pairing) { m.fail(now, x.part, x.number, why) })
	}
	c.now = w
	c.works = append(c.works, w)
	w.begin(time.Now())
}

func (p *Pairs) onFrame(from mesh.ID, h header, payload []byte) (keep bool, err error) {
	if h.Type == typePair {
		w := p.await(from, h)
		if w == nil {
			return false, nil
		}
		return false, w.accept(time.Now(), h, payload)
	}
	if h.Type < typeOffer {
		return false, fmt.Errorf("frame type %d is of an all-reduce", h.Type)
	}
	msg, err := parseMessage(h.Type, payload)
	if err != nil {
		return false, err
	}
	env := envelope{round: h.Round, attempt: h.Attempt, part: h.Part, worker: int(h.Worker)}
	p.step(func(now time.Time, m *pairing) { m.receive(now, from, env, msg) })
	return false, nil
}

// await returns the exchange that a frame is for: the peer may send before its Accept
// has been seen here. Control and data cross on two streams.
func (p *Pairs) await(from mesh.ID, h header) *swap {
	return await(p.links, p.cfg.Grace, func() (w *swap, wait bool, changed <-chan struct{}) {
		p.mu.Lock()
		defer p.mu.Unlock()
		c, s := p.calls[h.Part], p.pairing.seeks[h.Part]
		if c == nil || s == nil {
			return nil, false, nil
		}
		if c.now != nil && c.now.peer == from && c.now.number == h.Attempt {
			return c.now, false, nil
		}
		return nil, s.peer == from && s.number == h.Attempt, p.changed
	})
}

// onBad blames a peer for what it sent.
func (p *Pairs) onBad(from mesh.ID, err error) {
	p.step(func(now time.Time, m *pairing) {
		for _, s := range m.seeks {
			if s != nil && s.peer == from {
				m.fail(now, s.part, s.number, err.Error())
			}
		}
	})
}
