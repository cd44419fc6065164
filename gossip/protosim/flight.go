package protosim

import (
	"math/rand/v2"
	"slices"
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
)

// flights is the place of a worker that trains step by step while its exchange is in flight: begun
// after H inner steps, and due some steps later, at most H. docs/protocol.md has the rules.
type flights struct {
	learnt   []uint64         // inner steps that no contribution has yet
	since    int              // steps since the last flight began
	flown    int              // steps since the flight at hand began
	result   *protocol.Result // of the flight at hand, before it is due
	waits    bool             // it is due, and there is no result
	residual uint64           // the contribution whose rounding error the next one carries; 0: none
	slack    time.Duration    // that the call at hand was given
}

// savedFlight is what a checkpoint has beside the state.
type savedFlight struct {
	of           *state
	learnt       []uint64
	since, flown int
	own          *contribution // nil: no flight
	residual     uint64
}

// drawFlights makes the parameters of a world of flights.
func drawFlights(r *rand.Rand, p params) params {
	p.flips, p.cycle = false, 1
	p.steps = 4 + r.IntN(9)
	p.flight = p.steps/3 + 1 + r.IntN(p.steps-p.steps/3)
	p.inner *= time.Duration(1 + r.IntN(4))
	p.differ = r.IntN(2) == 0
	if p.tardy = -1; r.IntN(2) == 0 { // by less than the slack
		p.tardy = r.IntN(p.workers)
	}
	p.until += 2 * p.inner
	return p
}

// stepTime is what an inner step takes on a node.
func (v *node) stepTime() time.Duration {
	p := v.w.params
	by := 1 + (v.speed-1)/2
	if v.index == p.tardy {
		by += 0.2 * float64(p.flight) / float64(p.steps)
	}
	return time.Duration(by * float64(max(p.inner, p.innerMin)) / float64(p.steps))
}

// fly trains, and goes on with the flight at hand, if there is one.
func (p *roundProc) fly(left time.Duration) {
	f, w := p.flights, p.v.w
	if left > 0 && p.own == nil { // at the group's place in the schedule
		f.since = max(0, w.params.steps-1-int(left/p.v.stepTime()))
	}
	if p.own != nil && !p.calling && f.result == nil {
		p.takeOff()
	}
	if !f.waits {
		p.trains++
		p.flyStep(p.trains)
	}
}

func (p *roundProc) flyStep(trains int) {
	w, took := p.v.w, p.v.stepTime()
	took = time.Duration(float64(took) * (0.98 + 0.04*w.rng.Float64()))
	p.inner = w.now + took*time.Duration(max(1, w.params.steps-p.flights.since))
	p.v.later(took, func() {
		if p.trains == trains && !p.flights.waits && p.state != nil {
			p.stepped()
		}
	})
}

// stepped is an inner step: a flight that is due lands, or the worker waits for it; then the next
// begins when its turn has come.
func (p *roundProc) stepped() {
	f, w := p.flights, p.v.w
	w.ids++
	f.learnt = append(f.learnt, w.ids)
	f.since++
	if p.own != nil {
		f.flown++
	}
	if p.own != nil && f.flown >= w.params.flight {
		if f.waits = f.result == nil; f.waits {
			return
		}
		p.land()
	}
	if w.rng.IntN(6) == 0 {
		p.save()
	}
	p.goOn()
}

// goOn begins the next flight when its turn has come, and trains on.
func (p *roundProc) goOn() {
	if f := p.flights; p.own == nil && f.since >= p.v.w.params.steps && len(f.learnt) > 0 {
		p.begin(false)
	}
	p.trains++
	p.flyStep(p.trains)
}

// begin makes a contribution of what was learnt since the last one, and puts it on its way. A
// checkpoint that has it is written before the first word leaves. A late one is of a round that the
// others have committed: it is due at once.
func (p *roundProc) begin(late bool) {
	f, w := p.flights, p.v.w
	p.own = p.bring()
	p.own.weight, p.own.steps, p.own.residual = float64(len(f.learnt)), f.learnt, f.residual
	*f = flights{residual: f.residual}
	if late { // the others have flown for as long, at the most
		f.flown, f.since, f.waits = w.params.flight, w.params.flight, true
	}
	w.check.began(p)
	if w.rng.IntN(2) == 0 {
		p.save()
	}
	p.takeOff()
}

// takeOff calls the state machine with the contribution at hand. What is left until it is due is
// slack.
func (p *roundProc) takeOff() {
	f, w := p.flights, p.v.w
	f.slack = p.v.stepTime() * time.Duration(max(0, w.params.flight-f.flown))
	p.calling, p.started, p.paused = true, w.now, 0
	if p.have != nil && p.have.round != p.state.round {
		p.have = nil
	}
	w.tracef(string(p.v.id), "begins a flight from %v with contribution %d of %d steps, due in %v", p.state, p.own.id, len(p.own.steps), f.slack)
	w.ambush(p.v)
	p.step(func(now time.Time) {
		p.m.Start(now, p.state.round, protocol.Start{Digest: p.state.id, Tokens: p.state.tokens, Weight: p.own.weight,
			Length: w.params.blocks * codec.Block, Slack: f.slack})
	})
}

// arrived keeps a committed result until it is due. It lands at once where the worker waits for it,
// or has come too late for the group: then the worker takes the place in the schedule of one whose
// flight was due when the result began to come, or it would be late again.
func (p *roundProc) arrived(r *protocol.Result) {
	f := p.flights
	p.kept, p.have, f.result = p.have, nil, r
	p.v.w.ambush(p.v)
	late := !slices.Contains(r.Workers, p.v.index)
	if late {
		f.since = max(f.since, p.v.w.params.flight+int((p.v.w.now-p.fetching)/p.v.stepTime()))
	}
	if f.waits || late {
		f.waits = false
		p.land()
		p.goOn()
	}
}

// land applies the flight's result. What was learnt since it began stays. Where the mean has a
// former process's vector in place of this one's, that one has carried the residual. It may be the
// same vector, of a flight that a checkpoint has kept, or one that no checkpoint knows of: nobody can
// tell, so it counts as another.
func (p *roundProc) land() {
	f, w, r := p.flights, p.v.w, p.flights.result
	named := slices.Contains(r.Workers, p.v.index)
	in := named && !r.Former
	w.check.lands(p, r, in)
	own := 0.0
	switch {
	case in:
		f.residual, own = p.own.id, p.own.weight
	case named:
		f.residual = 0
	}
	p.own, f.result, f.flown = nil, nil, 0
	if w.params.differ {
		p.state = p.state.mix(p.kept.result, r.Tokens)
	} else {
		p.state = p.state.apply(p.kept.result, r.Tokens)
	}
	p.note(p.state, own)
	p.v.done = p.state.round
	if w.rng.IntN(2) == 0 {
		p.save()
	}
	w.tracef(string(p.v.id), "lands: %v, in the mean %v", p.state, in)
	w.ambush(p.v)
	w.progress(p.state.round, w.check.end)
}

// save writes a checkpoint.
func (p *roundProc) save() {
	f := p.flights
	p.v.disk = p.state
	p.v.flight = &savedFlight{p.state, slices.Clone(f.learnt), f.since, f.flown, p.own, f.residual}
}

// restore goes on from a checkpoint, as far as it is of the state that the worker goes on from: a
// flight from another state is lost, and so is what was learnt on it.
func (p *roundProc) restore() {
	if p.flights == nil {
		return
	}
	f, s := p.flights, p.v.flight
	*f = flights{}
	if p.own = nil; s == nil || p.v.disk != s.of || s.of.id != p.state.id || s.of.round != p.state.round {
		return
	}
	f.learnt, f.since, f.flown, f.residual = slices.Clone(s.learnt), s.since, s.flown, s.residual
	if s.own != nil {
		p.own = s.own
		p.own.by, p.own.seen, p.own.lost = p, false, false
		p.v.w.report.Resumed++
	}
}

// fall gives up what is in the air and what was learnt: the worker goes on from another's state.
func (p *roundProc) fall() {
	p.own = nil
	*p.flights = flights{}
}

// hurry begins the flight of a round that the others have committed already, if there is anything to
// bring.
func (p *roundProc) hurry() {
	f := p.flights
	if p.own == nil && !p.calling && p.state != nil && p.v.ready && len(f.learnt) > 0 && p.m.Over(p.state.round, p.state.tokens) {
		p.v.w.tracef(string(p.v.id), "hears that round %d is over", p.state.round)
		p.begin(true)
	}
}
