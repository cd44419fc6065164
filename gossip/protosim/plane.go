package protosim

import (
	"slices"

	"loco/gossip/codec"
	"loco/gossip/protocol"
)

// plane is the data plane of one attempt: a ledger, and the pieces that it is about. A
// chunk is one block.
type plane struct {
	p      *roundProc
	ledger *protocol.Ledger
	vec    []*piece
	result []*piece
	slots  [][]*piece
}

func newPlane(p *roundProc, plan protocol.Plan, vec []*piece) *plane {
	d := &plane{p: p, ledger: protocol.NewLedger(p.v.clock(), plan, codec.Block, codec.Block), vec: vec, result: make([]*piece, len(vec))}
	if plan.Source == "" {
		for range d.ledger.Chunks(plan.Self) {
			d.slots = append(d.slots, make([]*piece, len(plan.Members)))
		}
	}
	return d
}

func (d *plane) block(shard, chunk int) int { return d.ledger.Chunk(shard, chunk).Lo / codec.Block }

// begin sends what this member knows: its vector's shards to their owners.
func (d *plane) begin() {
	l := d.ledger
	if l.Source != "" {
		return
	}
	for j := range l.Members {
		for c := range l.Chunks(j) {
			x := d.vec[d.block(j, c)]
			if j == l.Self {
				d.contribute(j, c, x)
			} else {
				d.send(l.Members[j].ID, d.header(protocol.TypeContribution, j, c), x)
			}
		}
	}
}

func (d *plane) header(t protocol.Type, shard, chunk int) protocol.Header {
	s := d.ledger.Chunk(shard, chunk)
	return protocol.Header{Type: t, Round: d.ledger.Round, Attempt: d.ledger.Number, Shard: uint32(shard), Chunk: uint32(chunk),
		Worker: uint32(d.p.v.index), Count: uint32(s.Hi - s.Lo)}
}

// accept takes a frame.
func (d *plane) accept(from int, f frame) error {
	t, err := d.ledger.Accept(d.p.v.clock(), d.p.v.w.nodes[from].id, f.header)
	if err != nil || !t.Use {
		return err
	}
	shard, chunk := int(f.header.Shard), int(f.header.Chunk)
	if f.header.Type == protocol.TypeContribution {
		d.contribute(t.Member, chunk, f.piece)
		return nil
	}
	if d.ledger.Has(shard, chunk) {
		return nil
	}
	x := f.piece
	if d.p.v.flip {
		d.p.v.flip = false
		x = &piece{x.value + 1, x.from}
		d.p.v.w.tracef(string(d.p.v.id), "a bit flips in block %d", d.block(shard, chunk))
	}
	d.arrived(shard, chunk, x)
	return nil
}

func (d *plane) contribute(j, chunk int, x *piece) {
	fresh, full := d.ledger.Contribute(j, chunk)
	if !fresh {
		return
	}
	if d.slots[chunk][j] != nil { // counted again: it is added again
		x = &piece{d.slots[chunk][j].value + x.value, append(slices.Clone(d.slots[chunk][j].from), x.from...)}
	}
	d.slots[chunk][j] = x
	if full {
		d.reduce(chunk)
	}
}

// reduce forms a chunk of the mean and sends it to everybody.
func (d *plane) reduce(chunk int) {
	l := d.ledger
	mean := &piece{}
	for j, x := range d.slots[chunk] {
		if x == nil {
			continue
		}
		mean.value += float64(l.Share(j)) * x.value
		mean.from = append(mean.from, x.from...)
	}
	for j, m := range l.Members {
		if j != l.Self {
			d.send(m.ID, d.header(protocol.TypeResult, l.Self, chunk), mean)
		}
	}
	d.arrived(l.Self, chunk, mean)
}

func (d *plane) arrived(shard, chunk int, x *piece) {
	b := d.block(shard, chunk)
	if d.result[b] == nil {
		d.result[b] = x
	}
	if d.ledger.Arrived(shard, chunk) {
		d.p.complete(d)
	}
}
