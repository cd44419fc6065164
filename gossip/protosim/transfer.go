package protosim

import (
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

func (p *roundProc) receive(from int, f frame) {
	w := p.v.w
	if w.opts.Trace != nil {
		w.tracef(string(p.v.id), "<- w%d %d/%d %s", from, f.env.Round, f.env.Attempt, protocol.Describe(f.msg))
	}
	p.step(func(now time.Time) { p.m.Receive(now, w.nodes[from].id, f.env, f.msg) })
}

// plane is the attempt at hand if a frame is for it.
func (p *roundProc) plane(from int, h protocol.Header) (accept func(frame) error, soon bool) {
	if d := p.data; d != nil && d.ledger.For(h) {
		return func(f frame) error { return d.accept(from, f) }, false
	}
	return nil, p.m.Awaits(h.Round, h.Attempt)
}

func (p *roundProc) blame(from int, why string) {
	p.step(func(now time.Time) { p.m.Blame(now, p.v.w.nodes[from].id, why) })
}

func (p *roundProc) expect(to int, s *state) {
	p.step(func(time.Time) { p.m.Expect(p.v.w.nodes[to].id, s.round+1) })
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
		d := p.data
		p.v.later(wait, func() {
			if d != nil && p.data == d && (w.nodes[i].proc == nil || l.blocked()) {
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
