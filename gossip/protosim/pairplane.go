package protosim

import (
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
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
	w := d.p.v.w
	l := w.links[d.p.v.index][w.node(d.Peer)]
	for c := range d.Chunks() {
		s := d.Chunk(c)
		h := protocol.Header{Type: protocol.TypePair, Part: d.Part, Round: d.Round, Attempt: d.Number, Chunk: uint32(c),
			Worker: uint32(d.p.v.index), Count: uint32(s.Hi - s.Lo)}
		l.write(frame{header: h, piece: d.call.own.vec[c]}, d, func(ok bool) {
			switch {
			case d.call.plane != d:
			case !ok:
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

func (p *pairProc) receive(from int, f frame) {
	w := p.v.w
	if w.opts.Trace != nil {
		w.tracef(string(p.v.id), "<- w%d part %d, %d/%d %s", from, f.env.Part, f.env.Round, f.env.Attempt, protocol.Describe(f.msg))
	}
	p.step(func(now time.Time) { p.m.Receive(now, w.nodes[from].id, f.env, f.msg) })
}

// plane is the exchange at hand if a frame is for it.
func (p *pairProc) plane(from int, h protocol.Header) (accept func(frame) error, soon bool) {
	id, c := p.v.w.nodes[from].id, p.calls[h.Part]
	if c != nil && c.plane != nil && c.plane.Peer == id && c.plane.Number == h.Attempt {
		return c.plane.accept, false
	}
	return nil, c != nil && p.m.Awaits(h.Part, id, h.Attempt)
}

func (p *pairProc) blame(from int, why string) {
	p.step(func(now time.Time) { p.m.Blame(now, p.v.w.nodes[from].id, why) })
}
