package protosim

import (
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
)

// pairProc is a worker process of the pair exchange: a toy trainer, which averages φ
// under its inner steps and Δ after them, and the shell around the state machine.
type pairProc struct {
	v       *node
	m       *protocol.Pairing
	state   *state // nil: it must fetch one
	calls   [2]*pairCall
	results [2][]*piece // of the parts of this round that have ended
	inner   time.Duration
	trains  int
	acting  bool
	behind  bool
	pending [][]waiting // data frames of exchanges that have yet to begin, by sender
	asked   int
	source  int
	answer  func(*state, time.Duration)
	took    map[vectorOf]bool
	saved   uint64
	news    int // of the view that the machine has seen at a tick
}

// pairCall is one Average.
type pairCall struct {
	own     *contribution
	started time.Duration
	paused  time.Duration
	plane   *pairPlane
	last    *deal
}

func newPairProc(v *node, s *state, fresh bool) *pairProc {
	w := v.w
	p := &pairProc{v: v, pending: make([][]waiting, len(w.nodes)), took: map[vectorOf]bool{}}
	p.m = protocol.NewPairing(protocol.PairingConfig{Self: v.id, Worker: v.index, Seed: w.opts.Seed, Lag: w.params.lag,
		Deadline: w.params.deadline, Grace: w.params.grace, Nonce: w.rng.Uint32()})
	if w.opts.TamperPair != nil {
		w.opts.TamperPair(p.m)
	}
	p.m.View(v.clock(), v.members())
	if fresh {
		p.state = s
		v.ready = true
		v.later(0, func() { p.train(0) })
	} else {
		v.proc = p
		v.announce(false, 0)
		v.later(0, func() { p.join(s, 10*time.Second) })
	}
	return p
}

func (p *pairProc) holds() *state {
	if p.v.ready {
		return p.state
	}
	return nil
}

func (p *pairProc) at() uint64 {
	if p.state == nil {
		return 0
	}
	return p.state.round
}

func (p *pairProc) corrupt() {} // replicas differ anyway

func (p *pairProc) stall(d time.Duration) {
	for _, c := range p.calls {
		if c != nil {
			c.paused += d
		}
	}
}

func (p *pairProc) view() { p.step(func(now time.Time) { p.m.View(now, p.v.members()) }) }

func (p *pairProc) tick() {
	p.step(func(now time.Time) {
		for part, c := range p.calls {
			if c != nil && c.plane != nil && c.plane.Stalled(now, p.v.w.params.grace) {
				p.m.Fail(now, protocol.Part(part), c.plane.Number, "silent")
			}
		}
		if p.v.news != p.news {
			p.news = p.v.news
			p.m.View(now, p.v.members())
		}
		p.m.Tick(now)
	})
	for _, c := range p.calls {
		if c != nil {
			p.v.w.pairs.waited(p, c)
		}
	}
}

// train runs the inner steps, and exchanges φ meanwhile; left is what remains of them, 0:
// all.
func (p *pairProc) train(left time.Duration) {
	w := p.v.w
	if left == 0 {
		left = time.Duration(float64(w.params.inner) * (1 + 0.1*w.rng.Float64()) * p.v.speed)
	}
	p.inner = w.now + left
	p.trains++
	trains := p.trains
	p.results = [2][]*piece{}
	if !w.params.fast {
		p.average(protocol.Slow)
	}
	p.v.later(left, func() {
		if p.trains == trains {
			p.inner = w.now
			p.average(protocol.Delta)
		}
	})
}

// average calls the state machine as the trainer does.
func (p *pairProc) average(part protocol.Part) {
	w := p.v.w
	own := w.contribute(p.v.index, p.state)
	if own.part = part; part == protocol.Slow {
		own.weight = 1
	}
	p.calls[part] = &pairCall{own: own, started: w.now}
	w.tracef(string(p.v.id), "seeks a partner for part %d of round %d with contribution %d", part, own.round, own.id)
	p.step(func(now time.Time) {
		p.m.View(now, p.v.members())
		p.m.Start(now, part, own.round, own.weight, w.params.blocks*codec.Block)
	})
}

// step moves the machine and does what it says.
func (p *pairProc) step(f func(now time.Time)) {
	f(p.v.clock())
	if p.acting {
		return // the outermost call acts
	}
	p.acting = true
	for acts := p.m.Take(); len(acts) > 0; acts = append(acts[1:], p.m.Take()...) {
		p.act(acts[0])
	}
	p.acting = false
	p.v.w.pairs.memory(p)
	p.retry()
	if p.inner > p.v.w.now && p.state != nil && p.v.ready && p.m.Over(p.v.clock(), p.state.round) {
		p.v.w.tracef(string(p.v.id), "hears that most have finished round %d", p.state.round)
		p.inner = p.v.w.now
		p.trains++
		p.average(protocol.Delta)
	}
}

func (p *pairProc) act(a protocol.PairAction) {
	w := p.v.w
	switch {
	case a.Send != nil:
		to := w.node(a.Send.To)
		if w.opts.Trace != nil {
			w.tracef(string(p.v.id), "-> w%d part %d, %d/%d %s", to, a.Send.Env.Part, a.Send.Env.Round, a.Send.Env.Attempt, protocol.Describe(a.Send.Msg))
		}
		w.links[p.v.index][to].send(control, frame{env: a.Send.Env, msg: a.Send.Msg})
	case a.Begin != nil:
		x := *a.Begin
		w.tracef(string(p.v.id), "begins exchange %d of part %d with w%d", x.Number, x.Part, x.PeerWorker)
		c := p.calls[x.Part]
		c.last = w.pairs.begin(p, c, x)
		c.plane = newPairPlane(p, c, x)
		c.plane.begin()
	case a.Stop != nil:
		c := p.calls[*a.Stop]
		w.pairs.leave(p, c)
		c.plane = nil
	case a.Finish != nil:
		p.finish(*a.Finish)
	}
}

// finish ends an Average as the trainer does, and the round with its last.
func (p *pairProc) finish(f protocol.PairFinish) {
	w := p.v.w
	c := p.calls[f.Part]
	p.calls[f.Part] = nil
	w.pairs.waited(p, c)
	p.results[f.Part] = c.own.vec
	switch {
	case f.Behind != "" && f.Part == protocol.Delta:
		w.tracef(string(p.v.id), "is behind: %s", f.Behind)
		p.behind = true
	case f.Partner >= 0:
		mean := c.plane.mean()
		w.tracef(string(p.v.id), "averages part %d of round %d with w%d", f.Part, c.own.round, f.Partner)
		p.results[f.Part] = mean
		w.pairs.applied(p, c, f, mean)
	default:
		w.tracef(string(p.v.id), "goes on alone in part %d of round %d, torn %v", f.Part, c.own.round, f.Torn)
		w.pairs.alone(p, c, f)
	}
	if p.behind && p.calls[protocol.Delta] == nil {
		if p.calls[protocol.Slow] != nil && !p.m.Exchanges(protocol.Slow) {
			p.m.Abort(p.v.clock(), protocol.Slow)
		}
		if p.calls[protocol.Slow] == nil {
			p.behind = false
			p.resync()
		}
		return
	}
	if p.results[protocol.Delta] == nil || !w.params.fast && p.results[protocol.Slow] == nil {
		return
	}
	p.state = p.state.apply(p.results[protocol.Delta], c.own.weight)
	if p.saved++; p.saved%2 == 0 {
		p.v.disk = p.state
	}
	w.report.Rounds = max(w.report.Rounds, p.state.round)
	p.v.announce(true, p.state.round)
	w.pairs.progress(p)
	p.v.later(0, func() { p.train(0) })
}

// resync takes over the state of whoever is furthest.
func (p *pairProc) resync() {
	p.fetch(func(s *state, place time.Duration) {
		if s == nil || s.round < p.state.round {
			p.v.later(100*time.Millisecond, func() { p.train(time.Millisecond) })
			return
		}
		p.state = s
		p.v.w.tracef(string(p.v.id), "takes over %v", s)
		p.v.announce(true, s.round)
		p.train(place)
	})
}

// join fetches the run's state; a process that has one of its own goes on with that when
// nobody answers in time.
func (p *pairProc) join(own *state, patience time.Duration) {
	w, began := p.v.w, p.v.w.now
	p.fetch(func(s *state, place time.Duration) {
		switch {
		case s != nil && (own == nil || s.round >= own.round):
			p.state = s
		case own != nil && (s != nil || w.now-began >= patience):
			p.state, place = own, 0
		default:
			p.v.later(time.Second, func() { p.join(own, patience-(w.now-began)-time.Second) })
			return
		}
		w.tracef(string(p.v.id), "joins with %v", p.state)
		p.v.announce(true, p.state.round)
		p.train(place)
	})
}
