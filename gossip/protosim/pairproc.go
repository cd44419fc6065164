package protosim

import (
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
)

// pairProc is a worker process of the pair exchange: a toy trainer, which averages φ
// under its inner steps and Δ after them, and the shell around the state machine.
type pairProc struct {
	proc
	m       *protocol.Pairing
	calls   [2]*pairCall
	results [2][]*piece // of the parts of this round that have ended
	behind  bool
	took    map[vectorOf]bool
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
	p := &pairProc{took: map[vectorOf]bool{}}
	p.proc = newProc(v, p)
	p.m = protocol.NewPairing(protocol.PairingConfig{Self: v.id, Worker: v.index, Seed: w.opts.Seed, Lag: w.params.lag,
		Deadline: w.params.deadline, Grace: w.params.grace, Nonce: w.rng.Uint32()})
	p.m.View(v.clock(), v.members())
	if p.enter(s, fresh); fresh {
		v.later(0, func() { p.train(0) })
	}
	return p
}

func (p *pairProc) precedes(s, own *state) bool { return s.round >= own.round }

func (p *pairProc) prefers() int { return -1 }

func (p *pairProc) restore() {}

func (p *pairProc) expect(int, *state) {} // nobody waits for a joiner

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
			p.v.w.check.waited(p.v.index, c.own.round, c.started, c.paused)
		}
	}
}

// train exchanges φ meanwhile.
func (p *pairProc) train(left time.Duration) {
	w := p.v.w
	left, phase := p.phase(left)
	p.results = [2][]*piece{}
	if !w.params.fast {
		p.average(protocol.Slow)
	}
	p.after(left, phase, func() {
		p.inner = w.now
		p.average(protocol.Delta)
	})
}

// average calls the state machine as the trainer does.
func (p *pairProc) average(part protocol.Part) {
	w := p.v.w
	own := w.contribute(p.v.index, p.state)
	if own.part = part; part == protocol.Slow {
		own.weight = 1
	} else {
		p.trained(own.round)
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
	if !act(&p.proc, p.m.Take, p.act) {
		return
	}
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
		w.links[p.v.index][to].send(frame{env: a.Send.Env, msg: a.Send.Msg})
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
		p.v.cancel(c.plane)
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
	w.check.waited(p.v.index, c.own.round, c.started, c.paused)
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
	p.advance(p.state.apply(p.results[protocol.Delta], c.own.weight))
	p.v.announce(true, p.state.round)
	w.progress(p.state.round, w.pairs.end)
	p.v.later(0, func() { p.train(0) })
}

// resync takes over the state of the worker that is furthest.
func (p *pairProc) resync() {
	p.fetch(func(s *state, place time.Duration) {
		if s == nil || s.round < p.state.round {
			p.v.later(100*time.Millisecond, func() { p.train(time.Millisecond) })
			return
		}
		p.takeOver(s, place)
	})
}
