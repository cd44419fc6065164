package protosim

import (
	"cmp"
	"slices"
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

// take takes a frame off a stream.
func (p *roundProc) take(from, stream int, f frame) {
	if stream == data && f.piece != nil {
		p.pending[from] = append(p.pending[from], waiting{f, p.v.w.now + p.v.w.params.grace})
		p.retry()
		return
	}
	switch {
	case f.request:
		p.serveState(from)
	case f.state != nil || stream == data:
		if answer := p.answer; answer != nil && p.v.w.nodes[from].id == p.source {
			p.answer = nil
			answer(f.state, f.place)
		}
	default:
		p.v.w.tracef(string(p.v.id), "<- w%d %d/%d %s", from, f.env.Round, f.env.Attempt, protocol.Describe(f.msg))
		p.step(func(now time.Time) { p.m.Receive(now, p.v.w.nodes[from].id, f.env, f.msg) })
	}
}

// retry gives data frames to the attempt that they are for, in the order of each stream.
// One of an attempt that has yet to begin holds up those behind it.
func (p *roundProc) retry() {
	if p.acting {
		return
	}
	for from := range p.pending {
		for len(p.pending[from]) > 0 {
			x := p.pending[from][0]
			h := x.f.header
			d := p.plane
			if d == nil || !d.ledger.For(h) {
				if p.m.Awaits(h.Round, h.Attempt) && p.v.w.now < x.until {
					break
				}
				d = nil
			}
			p.pending[from] = p.pending[from][1:]
			if d == nil {
				continue
			}
			if err := d.accept(from, x.f); err != nil {
				p.v.w.tracef(string(p.v.id), "refuses a frame of w%d: %v", from, err)
				p.step(func(now time.Time) { p.m.Blame(now, p.v.w.nodes[from].id, err.Error()) })
			}
		}
	}
}

// sendData writes a data frame. Where nobody takes it the attempt hears of it.
func (p *roundProc) sendData(to mesh.ID, h protocol.Header, x *piece, number uint64) {
	w, i := p.v.w, p.v.w.node(to)
	l := w.links[p.v.index][i]
	wait := time.Duration(-1)
	switch {
	case w.nodes[i].proc == nil:
		wait = w.params.latency
	case l.blocked():
		wait = w.params.grace
	}
	l.send(data, frame{header: h, piece: x})
	if wait >= 0 {
		d := p.plane
		p.v.later(wait, func() {
			if d != nil && p.plane == d && (w.nodes[i].proc == nil || l.blocked()) {
				p.step(func(now time.Time) { p.m.Fail(now, number, to, "takes no data") })
			}
		})
	}
}

// serve sends a complete result.
func (p *roundProc) serve(s protocol.Serve) {
	w := p.v.w
	from := p.kept
	if p.have != nil && p.have.round == s.Round && p.have.attempt == s.Attempt {
		from = p.have
	}
	var free time.Duration
	if from != nil && from.round == s.Round && from.attempt == s.Attempt {
		for b, x := range from.result {
			h := protocol.Header{Type: protocol.TypeResult, Round: s.Round, Attempt: s.Number, Chunk: uint32(b), Worker: uint32(p.v.index), Count: 256}
			free = w.links[p.v.index][w.node(s.To)].send(data, frame{header: h, piece: x})
		}
	}
	p.v.later(max(0, free-w.now), func() { p.step(func(time.Time) { p.m.Served(s.To) }) })
}

// fetch asks for a state: the one that said that this worker is behind, then those
// furthest on. got is called with nil when nobody had one.
func (p *roundProc) fetch(got func(s *state, place time.Duration)) {
	var from []int
	for i, m := range p.v.seen {
		if i != p.v.index && m.Ready && (m.State == mesh.Alive || m.State == mesh.Suspect) {
			from = append(from, i)
		}
	}
	first := p.v.w.node(p.source)
	slices.SortFunc(from, func(a, b int) int {
		if a == first || b == first {
			return cmp.Compare(boolean(b == first), boolean(a == first))
		}
		return cmp.Or(cmp.Compare(p.v.seen[b].Round, p.v.seen[a].Round), cmp.Compare(a, b))
	})
	p.ask(from, got)
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *roundProc) ask(from []int, got func(*state, time.Duration)) {
	if len(from) == 0 {
		got(nil, 0)
		return
	}
	p.asked++
	asked, i := p.asked, from[0]
	p.source = p.v.w.nodes[i].id
	p.answer = func(s *state, place time.Duration) {
		p.asked++
		if s == nil {
			p.ask(from[1:], got)
			return
		}
		got(s, place)
	}
	p.v.w.links[p.v.index][i].send(control, frame{request: true})
	p.v.later(2*p.v.w.params.grace, func() {
		if p.asked == asked {
			p.answer = nil
			p.ask(from[1:], got)
		}
	})
}

// serveState answers a joiner with this worker's state and its place in the round.
func (p *roundProc) serveState(to int) {
	w := p.v.w
	f := frame{}
	if s := p.holds(); s != nil {
		f.state, f.place = s, max(time.Millisecond, p.inner-w.now)
		p.step(func(time.Time) { p.m.Expect(w.nodes[to].id, s.round+1) })
	}
	w.links[p.v.index][to].send(data, f)
}
