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

// send writes a data frame to a member. Where nobody takes it the attempt hears of it.
func (d *plane) send(to mesh.ID, h protocol.Header, x *piece) {
	p := d.p
	p.v.w.links[p.v.index][p.v.w.node(to)].write(frame{header: h, piece: x}, d, func(ok bool) {
		if !ok && p.data == d {
			p.step(func(now time.Time) { p.m.Fail(now, d.ledger.Number, to, "takes no data") })
		}
	})
}

// serve sends a complete result.
func (p *roundProc) serve(s protocol.Serve) {
	served := func() { p.step(func(time.Time) { p.m.Served(s.To) }) }
	from := p.kept
	if p.have != nil && p.have.round == s.Round && p.have.attempt == s.Attempt {
		from = p.have
	}
	if from == nil || from.round != s.Round || from.attempt != s.Attempt {
		p.v.later(0, served)
		return
	}
	l := p.v.w.links[p.v.index][p.v.w.node(s.To)]
	for b, x := range from.result {
		h := protocol.Header{Type: protocol.TypeResult, Round: s.Round, Attempt: s.Number, Chunk: uint32(b), Worker: uint32(p.v.index), Count: 256}
		l.write(frame{header: h, piece: x}, s, func(ok bool) {
			if !ok || b == len(from.result)-1 {
				served()
			}
		})
	}
}
