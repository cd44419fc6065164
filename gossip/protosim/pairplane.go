package protosim

import (
	"cmp"
	"slices"
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
	"loco/mesh"
)

// pairPlane is the data plane of one exchange: the ledger, and the pieces that it is about.
// A chunk is one block.
type pairPlane struct {
	*protocol.PairLedger
	p      *pairProc
	call   *pairCall
	theirs []*piece
}

func newPairPlane(p *pairProc, c *pairCall, x protocol.Exchange) *pairPlane {
	blocks := len(c.own.vec)
	return &pairPlane{protocol.NewPairLedger(p.v.clock(), x, p.v.index, blocks*codec.Block, codec.Block), p, c, make([]*piece, blocks)}
}

// begin sends the own vector. Where nobody takes it the exchange hears of it.
func (d *pairPlane) begin() {
	w, i := d.p.v.w, d.p.v.w.node(d.Peer)
	l := w.links[d.p.v.index][i]
	for c := range d.Chunks() {
		s := d.Chunk(c)
		h := protocol.Header{Type: protocol.TypePair, Part: d.Part, Round: d.Round, Attempt: d.Number, Chunk: uint32(c),
			Worker: uint32(d.p.v.index), Count: uint32(s.Hi - s.Lo)}
		taken := l.send(data, frame{header: h, piece: d.call.own.vec[c]}) - w.now
		switch {
		case w.nodes[i].proc == nil:
			taken = w.params.latency
		case l.blocked():
			taken = w.params.grace
		}
		d.p.v.later(taken, func() {
			switch {
			case d.call.plane != d:
			case w.nodes[i].proc == nil || l.blocked():
				d.p.step(func(now time.Time) { d.p.m.Fail(now, d.Part, d.Number, "takes no data") })
			case d.Sent():
				d.complete()
			}
		})
	}
}

func (d *pairPlane) complete() {
	w := d.p.v.w
	w.pairs.strike(d)
	d.p.step(func(now time.Time) { d.p.m.Complete(now, d.Part, d.Number) })
}

// accept takes a frame.
func (d *pairPlane) accept(f frame) error {
	fresh, err := d.Accept(d.p.v.clock(), f.header)
	if err != nil || !fresh {
		return err
	}
	d.theirs[f.header.Chunk] = f.piece
	if d.Arrived(int(f.header.Chunk)) {
		d.complete()
	}
	return nil
}

// mean forms the mean of both.
func (d *pairPlane) mean() []*piece {
	out := make([]*piece, d.Chunks())
	for c := range out {
		out[c] = &piece{}
		for _, half := range d.Halves() {
			x := d.theirs[c]
			if half.Own {
				x = d.call.own.vec[c]
			}
			if x == nil {
				continue
			}
			out[c].value += float64(half.Share) * x.value
			out[c].from = append(out[c].from, x.from...)
		}
	}
	return out
}

// take takes a frame off a stream.
func (p *pairProc) take(from, stream int, f frame) {
	w := p.v.w
	switch {
	case stream == data && f.piece != nil:
		p.pending[from] = append(p.pending[from], waiting{f, w.now + w.params.grace})
		p.retry()
	case f.request:
		answer := frame{}
		if s := p.holds(); s != nil {
			answer.state, answer.place = s, max(time.Millisecond, p.inner-w.now)
		}
		w.links[p.v.index][from].send(data, answer)
	case stream == data:
		if answer := p.answer; answer != nil && from == p.source {
			p.answer = nil
			answer(f.state, f.place)
		}
	default:
		if w.opts.Trace != nil {
			w.tracef(string(p.v.id), "<- w%d part %d, %d/%d %s", from, f.env.Part, f.env.Round, f.env.Attempt, protocol.Describe(f.msg))
		}
		p.step(func(now time.Time) { p.m.Receive(now, w.nodes[from].id, f.env, f.msg) })
	}
}

// retry gives data frames to the exchange that they are for, in the order of each stream.
// One of an exchange that has yet to begin holds up those behind it.
func (p *pairProc) retry() {
	if p.acting {
		return
	}
	w := p.v.w
	for from := range p.pending {
		for len(p.pending[from]) > 0 {
			x := p.pending[from][0]
			h, id := x.f.header, w.nodes[from].id
			var d *pairPlane
			if c := p.calls[h.Part]; c != nil && c.plane != nil && c.plane.Peer == id && c.plane.Number == h.Attempt {
				d = c.plane
			} else if c != nil && p.m.Awaits(h.Part, id, h.Attempt) && w.now < x.until {
				break
			}
			p.pending[from] = p.pending[from][1:]
			if d == nil {
				continue
			}
			if err := d.accept(x.f); err != nil {
				w.tracef(string(p.v.id), "refuses a frame of w%d: %v", from, err)
				p.step(func(now time.Time) { p.m.Blame(now, id, err.Error()) })
			}
		}
	}
}

// fetch asks for a state, those furthest on first. got is called with nil when nobody had
// one.
func (p *pairProc) fetch(got func(s *state, place time.Duration)) {
	var from []int
	for i, m := range p.v.seen {
		if i != p.v.index && m.Ready && (m.State == mesh.Alive || m.State == mesh.Suspect) {
			from = append(from, i)
		}
	}
	slices.SortFunc(from, func(a, b int) int {
		return cmp.Or(cmp.Compare(p.v.seen[b].Round, p.v.seen[a].Round), cmp.Compare(a, b))
	})
	p.ask(from, got)
}

func (p *pairProc) ask(from []int, got func(*state, time.Duration)) {
	if len(from) == 0 {
		got(nil, 0)
		return
	}
	p.asked++
	asked := p.asked
	p.source = from[0]
	p.answer = func(s *state, place time.Duration) {
		p.asked++
		if s == nil {
			p.ask(from[1:], got)
			return
		}
		got(s, place)
	}
	p.v.w.links[p.v.index][from[0]].send(control, frame{request: true})
	p.v.later(2*p.v.w.params.grace, func() {
		if p.asked == asked {
			p.answer = nil
			p.ask(from[1:], got)
		}
	})
}
