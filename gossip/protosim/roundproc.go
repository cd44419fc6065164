package protosim

import (
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
	"loco/mesh"
)

// roundProc is a worker process of an all-reduce: a toy trainer and the shell around the
// state machine.
type roundProc struct {
	v       *node
	m       *protocol.Rounds
	state   *state // nil: it must fetch one
	started time.Duration
	waited  time.Duration // of a call that is repeated after its deadline
	paused  time.Duration // that this call has stood still
	inner   time.Duration // when the inner steps end
	calling bool
	acting  bool
	own     *contribution
	plane   *plane
	have    *kept
	kept    *kept
	pending [][]waiting // data frames of attempts that have yet to begin, by sender
	asked   int         // fetches so far
	source  mesh.ID
	answer  func(*state, time.Duration)
	saved   uint64
	trains  int // phases of inner steps so far
	unequal *unequal
}

// kept is a complete result.
type kept struct {
	round   uint64
	attempt uint64
	result  []*piece
	base    [32]byte
}

// waiting is a data frame that waits until a time.
type waiting struct {
	f     frame
	until time.Duration
}

func newRoundProc(v *node, s *state, fresh bool) *roundProc {
	w := v.w
	p := &roundProc{v: v, pending: make([][]waiting, len(w.nodes))}
	p.m = protocol.NewRounds(v.roundsConfig())
	if w.unequal != nil {
		p.unequal = &unequal{Unequal: w.unequal}
	}
	if w.opts.Tamper != nil {
		w.opts.Tamper(p.m)
	}
	p.m.View(v.clock(), v.members())
	if fresh {
		p.state = s
		v.ready = true
		p.train(0)
	} else {
		v.proc = p
		v.announce(false, 0)
		v.later(0, func() { p.join(s, 10*time.Second) })
	}
	return p
}

func (p *roundProc) holds() *state {
	if p.v.ready {
		return p.state
	}
	return nil
}

func (p *roundProc) at() uint64 {
	if p.state == nil {
		return 0
	}
	return p.state.round
}

// corrupt damages the state in memory: the replica differs from now on.
func (p *roundProc) corrupt() {
	if p.state != nil && !p.calling {
		s := p.state.clone()
		s.phi[0] += 3
		s.seal()
		p.state = s
		p.v.w.tracef(string(p.v.id), "its state is damaged: %v", s)
	}
}

// join fetches the run's state; a process that has one of its own goes on with that when
// nobody answers in time.
func (p *roundProc) join(own *state, patience time.Duration) {
	w, began := p.v.w, p.v.w.now
	p.fetch(func(s *state, place time.Duration) {
		switch {
		case s != nil && (own == nil || s.tokens >= own.tokens):
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

// train runs the inner steps; left is what remains of them, 0: all.
func (p *roundProc) train(left time.Duration) {
	w := p.v.w
	if p.unequal != nil {
		p.trainSteps()
		return
	}
	if left == 0 {
		left = time.Duration(float64(w.params.inner) * (1 + 0.1*w.rng.Float64()) * p.v.speed)
	}
	p.inner = w.now + left
	p.trains++
	trains := p.trains
	p.v.later(left, func() {
		if !p.calling && p.trains == trains {
			p.average()
		}
	})
}

// average calls the state machine as the trainer does.
func (p *roundProc) average() {
	w := p.v.w
	p.calling, p.started, p.paused = true, w.now, 0
	p.trains++
	if p.own == nil || p.own.round != p.state.round || p.own.base != p.state.id {
		p.own = p.bring()
	}
	if p.have != nil && p.have.round != p.state.round {
		p.have = nil
	}
	w.tracef(string(p.v.id), "starts %v with contribution %d", p.state, p.own.id)
	w.ambush(p.v)
	p.step(func(now time.Time) {
		p.m.Start(now, p.state.round, protocol.Start{Digest: p.state.id, Tokens: p.state.tokens, Weight: p.own.weight,
			Length: w.params.blocks * codec.Block})
	})
}

func (p *roundProc) view() { p.step(func(now time.Time) { p.m.View(now, p.v.members()) }) }

func (p *roundProc) stall(d time.Duration) { p.paused += d }

func (p *roundProc) tick() {
	p.step(func(now time.Time) {
		p.m.Tick(now)
		if d := p.plane; d != nil {
			if who, why := d.ledger.Stalled(now, p.v.w.params.grace); who != "" {
				p.m.Fail(now, d.ledger.Number, who, why)
			}
		}
	})
	p.v.w.check.waits(p)
}

// step moves the machine and does what it says.
func (p *roundProc) step(f func(now time.Time)) {
	f(p.v.clock())
	if p.acting {
		return // the outermost call acts
	}
	p.acting = true
	for acts := p.m.Take(); len(acts) > 0; acts = append(acts[1:], p.m.Take()...) {
		p.act(acts[0])
	}
	p.acting = false
	p.v.w.check.memory(p)
	p.retry()
	if !p.calling && p.state != nil && p.v.ready && p.inner > p.v.w.now && p.m.Over(p.state.round, p.state.tokens) {
		p.inner = p.v.w.now
		p.v.w.tracef(string(p.v.id), "hears that round %d is over", p.state.round)
		p.average()
	}
}

func (p *roundProc) act(a protocol.Action) {
	switch {
	case a.Send != nil:
		to := p.v.w.node(a.Send.To)
		p.v.w.tracef(string(p.v.id), "-> w%d %d/%d %s", to, a.Send.Env.Round, a.Send.Env.Attempt, protocol.Describe(a.Send.Msg))
		p.v.w.links[p.v.index][to].send(control, frame{env: a.Send.Env, msg: a.Send.Msg})
	case a.Begin != nil:
		p.v.w.tracef(string(p.v.id), "begins attempt %d of round %d, %d members, source %q", a.Begin.Number, a.Begin.Round, len(a.Begin.Members), a.Begin.Source)
		p.plane = newPlane(p, *a.Begin, p.own.vec)
		p.plane.begin()
		p.v.w.ambush(p.v)
	case a.Stop:
		p.plane = nil
	case a.Serve != nil:
		p.serve(*a.Serve)
	case a.Finish != nil:
		p.finish(*a.Finish)
	}
}

// complete files the result of an attempt.
func (p *roundProc) complete(d *plane) {
	if p.plane != d {
		return
	}
	hash := hashOf(d.result)
	p.step(func(now time.Time) {
		if formed, ok := p.m.Keeps(d.ledger.Number, hash); ok {
			p.have = &kept{d.ledger.Round, formed, d.result, p.state.id}
		}
		p.m.Complete(now, d.ledger.Number, hash)
	})
}

// finish ends a round as the trainer does.
func (p *roundProc) finish(f protocol.Finish) {
	w := p.v.w
	p.plane, p.calling = nil, false
	w.check.waited(p)
	p.waited = 0
	switch {
	case f.Result != nil:
		w.tracef(string(p.v.id), "commits round %d: %v of attempt %d, hash %x", f.Result.Round, f.Result.Workers, f.Result.Attempt, f.Result.Hash[:3])
		if !w.check.commit(p, f.Result) {
			return
		}
		p.kept, p.have, p.own = p.have, nil, nil
		p.state = p.state.apply(p.kept.result, f.Result.Tokens)
		if p.saved++; p.saved%2 == 0 {
			p.v.disk = p.state
		}
		p.v.done = p.state.round
		if p.unequal != nil {
			p.settle(1, f.Result.Workers)
		}
		p.train(0)
		w.check.progress(p)
	case f.Behind != "":
		w.tracef(string(p.v.id), "is behind: %s; source %s", f.Behind, f.Source)
		p.source = f.Source
		p.resync()
	default:
		w.tracef(string(p.v.id), "ends round %d: %v", p.state.round, f.Err)
		p.rest(10 * time.Millisecond)
	}
}

// rest calls again after a pause.
func (p *roundProc) rest(d time.Duration) {
	p.trains++
	trains := p.trains
	p.v.later(d, func() {
		if !p.calling && p.trains == trains {
			p.average()
		}
	})
}

// resync takes over the others' state, if it is not a lighter one.
func (p *roundProc) resync() {
	p.fetch(func(s *state, place time.Duration) {
		if s == nil || s.tokens < p.state.tokens {
			p.rest(100 * time.Millisecond)
			return
		}
		p.v.w.check.lost(p, s)
		if p.unequal != nil {
			p.settle(int(s.round-p.state.round), nil)
		}
		p.state = s
		p.v.w.tracef(string(p.v.id), "takes over %v", s)
		p.v.announce(true, s.round)
		p.train(place)
	})
}

func (w *world) node(id mesh.ID) int {
	for i, v := range w.nodes {
		if v.id == id {
			return i
		}
	}
	return -1
}
