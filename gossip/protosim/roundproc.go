package protosim

import (
	"slices"
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
	"loco/mesh"
)

// roundProc is a worker process of an all-reduce: a toy trainer and the shell around the
// state machine.
type roundProc struct {
	proc
	m        *protocol.Rounds
	started  time.Duration
	fetching time.Duration // since when the newest attempt is under way
	paused   time.Duration // that this call was paused for
	calling  bool
	own      *contribution
	data     *plane
	have     *kept
	kept     *kept
	unequal  *unequal
	flights  *flights // nil: it averages between its inner phases
}

// kept is a complete result.
type kept struct {
	round   uint64
	attempt uint64
	result  []*piece
	base    [32]byte
}

func newRoundProc(v *node, s *state, fresh bool) *roundProc {
	w := v.w
	p := &roundProc{m: protocol.NewRounds(v.roundsConfig())}
	p.proc = newProc(v, p)
	if w.unequal != nil {
		p.unequal = &unequal{Unequal: w.unequal}
	}
	if w.opts.Flights {
		p.flights = &flights{}
	}
	p.m.View(v.clock(), v.members())
	if p.enter(s, fresh); fresh {
		p.train(0)
	}
	return p
}

// precedes is by what the lineages weigh, or where replicas differ by the round.
func (p *roundProc) precedes(s, own *state) bool {
	if p.v.w.params.differ {
		return s.round > own.round
	}
	return s.tokens >= own.tokens
}

// prefers is the one that said that this worker is behind, or was asked last.
func (p *roundProc) prefers() int { return p.source }

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

func (p *roundProc) train(left time.Duration) {
	if p.flights != nil {
		p.fly(left)
		return
	}
	if p.unequal != nil {
		p.trainSteps()
		return
	}
	p.averageAfter(p.phase(left))
}

// trainLate trains for as much less than a phase as the others have trained for already, which had
// the result before this worker fetched it.
func (p *roundProc) trainLate(late time.Duration) {
	if p.unequal != nil || late == 0 {
		p.train(0)
		return
	}
	left, phase := p.phase(0)
	left = max(time.Millisecond, left-late)
	p.inner = p.v.w.now + left
	p.averageAfter(left, phase)
}

// averageAfter averages at the end of a phase, unless that is under way.
func (p *roundProc) averageAfter(d time.Duration, phase int) {
	p.after(d, phase, func() {
		if !p.calling {
			p.average()
		}
	})
}

// average calls the state machine as the trainer does.
func (p *roundProc) average() {
	w := p.v.w
	p.calling, p.started, p.paused = true, w.now, 0
	p.trains++
	p.trained(p.state.round)
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
		if d := p.data; d != nil {
			if who, why := d.ledger.Stalled(now, p.v.w.params.grace); who != "" {
				p.m.Fail(now, d.ledger.Number, who, why)
			}
		}
	})
	if p.calling {
		p.v.w.check.waited(p.v.index, p.state.round, p.due(), p.paused)
	}
}

// due is since when the caller waits.
func (p *roundProc) due() time.Duration {
	if p.flights != nil {
		return p.started + p.flights.slack
	}
	return p.started
}

// step moves the machine and does what it says.
func (p *roundProc) step(f func(now time.Time)) {
	f(p.v.clock())
	if !act(&p.proc, p.m.Take, p.act) {
		return
	}
	p.v.w.check.memory(p)
	p.retry()
	if p.flights != nil {
		p.hurry()
		return
	}
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
		if p.v.w.opts.Trace != nil {
			p.v.w.tracef(string(p.v.id), "-> w%d %d/%d %s", to, a.Send.Env.Round, a.Send.Env.Attempt, protocol.Describe(a.Send.Msg))
		}
		p.v.w.links[p.v.index][to].send(frame{env: a.Send.Env, msg: a.Send.Msg})
	case a.Begin != nil:
		p.v.w.tracef(string(p.v.id), "begins attempt %d of round %d, %d members, source %q", a.Begin.Number, a.Begin.Round, len(a.Begin.Members), a.Begin.Source)
		p.v.w.report.Adopted += boolean(a.Begin.Source != "" && len(a.Begin.Members) > 0)
		p.fetching = p.v.w.now
		p.data = newPlane(p, *a.Begin, p.own.vec)
		p.data.begin()
		p.v.w.ambush(p.v)
	case a.Stop:
		p.stop()
	case a.Serve != nil:
		p.serve(*a.Serve)
	case a.Quit != nil:
		if p.v.quit(*a.Quit) {
			p.v.later(0, func() { p.step(func(time.Time) { p.m.Served(a.Quit.To) }) })
		}
	case a.Finish != nil:
		p.finish(*a.Finish)
	}
}

// complete files the result of an attempt.
func (p *roundProc) complete(d *plane) {
	if p.data != d {
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
	p.stop()
	p.calling = false
	w.check.waited(p.v.index, p.state.round, p.due(), p.paused)
	switch {
	case f.Result != nil:
		w.tracef(string(p.v.id), "commits round %d: %v of attempt %d, hash %x", f.Result.Round, f.Result.Workers, f.Result.Attempt, f.Result.Hash[:3])
		if !w.check.commit(p, f.Result) {
			return
		}
		if p.flights != nil {
			p.arrived(f.Result)
			return
		}
		own, late := p.own.weight, time.Duration(0)
		if f.Result.Former || !slices.Contains(f.Result.Workers, p.v.index) {
			own, late = 0, w.now-p.fetching
		}
		p.kept, p.have, p.own = p.have, nil, nil
		p.advance(p.state.apply(p.kept.result, f.Result.Tokens))
		p.note(p.state, own)
		p.v.done = p.state.round
		if p.unequal != nil {
			p.settle(1, f.Result.Workers)
		}
		p.trainLate(late)
		w.progress(p.state.round, w.check.end)
	case f.Behind != "":
		w.tracef(string(p.v.id), "is behind: %s; source %s", f.Behind, f.Source)
		p.source = w.node(f.Source)
		w.check.behind(p)
		p.resync()
	default:
		w.tracef(string(p.v.id), "ends round %d: %v", p.state.round, f.Err)
		p.rest(10 * time.Millisecond)
	}
}

// stop ends the data plane.
func (p *roundProc) stop() {
	if p.data != nil {
		p.v.cancel(p.data)
		p.data = nil
	}
}

// rest calls again after a pause.
func (p *roundProc) rest(d time.Duration) {
	if p.flights != nil {
		own := p.own
		p.v.later(d, func() {
			if p.own == own && own != nil && !p.calling && p.flights.result == nil {
				p.takeOff()
			}
		})
		return
	}
	p.trains++
	p.averageAfter(d, p.trains)
}

// resync takes over the others' state, if it is not a lighter one.
func (p *roundProc) resync() {
	p.fetch(func(s *state, place time.Duration) {
		// A source whose flight is still out has the state that this worker has: it keeps its contribution,
		// for the machine may hold a result that has it.
		if s == nil || !p.precedes(s, p.state) || p.flights != nil && s.id == p.state.id {
			p.rest(100 * time.Millisecond)
			return
		}
		fork := p.fork(p.theirs)
		rounds, tokens := p.state.round-fork.round, p.given-fork.tokens
		p.v.w.check.lost(p, s, rounds, tokens)
		p.follow(fork, s, p.theirs)
		if p.flights != nil {
			p.fall()
		}
		if p.unequal != nil {
			p.settle(int(s.round-p.state.round), nil)
		}
		p.takeOver(s, place)
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
