package protosim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"loco/gossip/protocol"
)

// PairReport counts what became of the exchanges of a run.
type PairReport struct {
	Averaged int // Averages with a partner
	Alone    int
	Torn     int // of those alone, in doubt of whether the partner averaged
	OneSided int // of those torn, where it did
	Excess   int // alone although the faults had ended 2 rounds ago, and not the odd one
}

// excessMax is how many Averages after the faults have ended may be alone though not the odd
// one. Workers may be a round apart then, with an odd number in each of the two rounds, and two of
// them step alone before they are in one; that may happen twice. Where they are odd in all, each of
// the two rounds has an odd one more, and among many there are more places for it than one. Where
// transfers are long the odd one, which has none, comes by one into the others' next inner phase.
func (p params) excessMax(live int) int {
	many := live / 8
	if live > 8 {
		many = live / 4
	}
	most := 4 + 2*(live%2) + many
	if p.long {
		most *= 2
	}
	return most
}

// vectorOf names a worker's vector.
type vectorOf struct {
	node  int
	part  protocol.Part
	round uint64
}

// deal is an exchange as both sides see it.
type deal struct {
	number uint64
	began  time.Duration
	sides  []*side
}

// side is a process in a deal.
type side struct {
	p       *pairProc
	own     *contribution
	left    bool
	applied bool
	torn    bool
}

// pairChecker holds a world of pairs to the invariants of the protocol.
type pairChecker struct {
	w      *world
	deals  map[uint64]*deal // by number
	used   map[uint64]*deal // by contribution: where it was applied
	goal   []uint64         // by node: from this round on it has partners; nil: faults go on
	end    uint64
	alones map[int]int // by node: since the goal
	rounds int         // Averages of Δ since the goal
}

func newPairChecker(w *world) *pairChecker {
	c := &pairChecker{w: w, deals: map[uint64]*deal{}, used: map[uint64]*deal{}, alones: map[int]int{}}
	if w.params.calm {
		c.goal = make([]uint64, w.params.workers) // nothing is ever wrong
	}
	return c
}

// drawPairs makes the parameters of a world of pairs.
func drawPairs(r *rand.Rand, p params) params {
	p.workers, p.quorum, p.flips = 2+r.IntN(7), 0, false
	if r.IntN(40) == 0 {
		p.workers = 12 + r.IntN(30)
	}
	if r.IntN(2) == 0 {
		p.deadline = time.Duration(8000+r.IntN(8000)) * time.Millisecond
	}
	p.lag, p.fast = uint64(r.IntN(4)), r.IntN(3) == 0
	return p
}

func (c *pairChecker) begin(p *pairProc, call *pairCall, x protocol.Exchange) *deal {
	key := x.Number<<1 | uint64(x.Part)
	d := c.deals[key]
	if d == nil {
		d = &deal{number: x.Number, began: c.w.now}
		c.deals[key] = d
	}
	d.sides = append(d.sides, &side{p: p, own: call.own})
	return d
}

// of is the newest side of a process.
func (d *deal) of(p *pairProc) *side {
	for _, s := range slices.Backward(d.sides) {
		if s.p == p {
			return s
		}
	}
	return nil
}

// leave notes that a process has left its exchange, and looks at it once the process has
// said all about it.
func (c *pairChecker) leave(p *pairProc, call *pairCall) {
	d := call.last
	d.of(p).left = true
	c.w.in(0, func() { c.agree(d) })
}

// agree checks that both sides of an exchange end it alike, or that the one which goes on
// alone says that it may be one-sided.
func (c *pairChecker) agree(d *deal) {
	for _, a := range d.sides {
		for _, b := range d.sides {
			if a.applied && b.left && a.p != b.p && !b.torn {
				c.w.check.fail("w%d averages with w%d in round %d, which goes on without it and does not say so", a.p.v.index, b.p.v.index, b.own.round)
			}
		}
	}
}

// applied checks a mean: it is of the two vectors that were named, with their weights,
// neither of them was used elsewhere, and the partners' rounds are near.
func (c *pairChecker) applied(p *pairProc, call *pairCall, f protocol.PairFinish, mean []*piece) {
	fail := c.w.check.fail
	d := call.last
	s := d.of(p)
	s.applied = true
	c.w.in(0, func() { c.agree(d) })
	c.w.report.Pairs.Averaged++
	i, round, number := p.v.index, call.own.round, d.number
	for b, x := range mean {
		if len(x.from) != 2 {
			fail("w%d averages round %d with w%d, and block %d has %d vectors", i, round, f.Partner, b, len(x.from))
			return
		}
		k, o := c.w.check.contributions[x.from[0]], c.w.check.contributions[x.from[1]]
		if o.node == i {
			k, o = o, k
		}
		apart := max(o.round, round) - min(o.round, round)
		switch want := (k.weight*k.vec[b].value + o.weight*o.vec[b].value) / (k.weight + o.weight); {
		case k != call.own || o.node != f.Partner || o.part != call.own.part:
			fail("w%d averages round %d with w%d, and block %d is of %d and %d", i, round, f.Partner, b, k.node, o.node)
			return
		case apart > c.w.params.lag:
			fail("w%d averages round %d with round %d of w%d, at most %d apart are allowed", i, round, o.round, o.node, c.w.params.lag)
			return
		case math.Abs(x.value-want) > 1e-5*(1+math.Abs(want)):
			fail("w%d averages round %d with %v in block %d, want %v", i, round, x.value, b, want)
			return
		}
		if b > 0 {
			continue
		}
		for _, v := range []*contribution{k, o} {
			if at := c.used[v.id]; at != nil && at != d {
				fail("the vector of w%d for round %d is used in exchanges %d and %d", v.node, v.round, at.number, number)
				return
			}
			c.used[v.id] = d
		}
		took := vectorOf{o.node, o.part, o.round}
		if p.took[took] {
			fail("w%d averages with round %d of w%d twice", i, o.round, o.node)
			return
		}
		p.took[took] = true
	}
	c.together(p, call, false)
}

// alone checks an Average that ends without a partner: only a fault between the two may
// leave one in doubt.
func (c *pairChecker) alone(p *pairProc, call *pairCall, f protocol.PairFinish) {
	c.w.report.Pairs.Alone++
	if f.Torn {
		c.w.report.Pairs.Torn++
		d := call.last
		mine := d.of(p)
		mine.torn = true
		for _, o := range d.sides {
			if o.p == p {
				continue
			}
			if !c.faulty(p.v.index, o.p.v.index, d.began) {
				c.w.check.fail("w%d is in doubt of round %d with w%d, and nothing has cut them off", p.v.index, call.own.round, o.p.v.index)
			}
			since := c.w.now - 3*c.w.params.grace
			if c.w.nodes[o.p.v.index].proc == o.p && !c.faulty(p.v.index, o.p.v.index, since) {
				c.w.check.fail("w%d is still in doubt of round %d, and could ask w%d since %.3f s", p.v.index, call.own.round, o.p.v.index, since.Seconds())
			}
			if o.applied {
				c.w.report.Pairs.OneSided++
			}
		}
	}
	c.together(p, call, true)
}

// faulty says that two nodes, or the way between them, did not work at some time since.
func (c *pairChecker) faulty(a, b int, since time.Duration) bool {
	return slices.ContainsFunc(c.w.faults, func(f outage) bool {
		if f.to < since {
			return false
		}
		return f.b < 0 && (f.a == a || f.a == b) || f.a == a && f.b == b || f.a == b && f.b == a
	})
}

// memory checks that what is remembered is bounded by the number of peers.
func (c *pairChecker) memory(p *pairProc) {
	if size, most := p.m.Size(), 7*len(c.w.nodes)+4*int(c.w.params.lag+1); size > most {
		c.w.check.fail("w%d remembers %d things of %d workers, at most %d are allowed", p.v.index, size, len(c.w.nodes), most)
	}
}

// settled begins to hold the workers to having partners: the faults have ended, and all
// have had the time to see it.
func (c *pairChecker) settled() {
	var newest uint64
	goal := make([]uint64, len(c.w.nodes))
	for _, v := range c.w.live() {
		newest = max(newest, v.proc.at())
		goal[v.index] = v.proc.at() + 2
	}
	if !c.w.params.calm {
		c.goal = goal
	}
	c.end = newest + 6
	lasts := 8*c.w.params.deadline + 2*time.Minute
	c.w.in(lasts, func() {
		if !c.w.over {
			c.w.check.fail("the faults ended %v ago, and not all workers go on", lasts)
		}
	})
}

// together counts the workers that are alone although the faults have ended.
func (c *pairChecker) together(p *pairProc, call *pairCall, alone bool) {
	if sc := c.w.opts.scale; sc != nil && call.own.part == protocol.Delta {
		sc.alone += boolean(alone)
		if call.own.round >= sc.from {
			sc.share(p.v.index).alone += boolean(alone)
		}
		sc.done(c.w, p.v.index, c.w.now-call.started, call.own.round)
		return
	}
	if c.goal == nil || call.own.part != protocol.Delta || call.own.round < c.goal[p.v.index] {
		return
	}
	c.rounds++
	if alone {
		c.alones[p.v.index]++
		c.w.tracef("check", "w%d is alone in round %d", p.v.index, call.own.round)
	}
}

func (c *pairChecker) atEnd() {
	if c.w.check.err != nil {
		return
	}
	if !c.w.over {
		c.w.check.fail("the run ended before its purpose was met")
		return
	}
	live, alones := len(c.w.live()), 0
	for _, n := range c.alones {
		alones += n
	}
	odd := 0
	if live%2 == 1 {
		odd = (c.rounds + live - 1) / live
	}
	c.w.report.Pairs.Excess = max(0, alones-odd)
	if alones > odd+c.w.params.excessMax(live) {
		c.w.check.fail("%d of %d Averages of %d workers were alone, 2 rounds after the faults ended", alones, c.rounds, live)
	}
}

// strike hits where it hurts most, now and then: between one side's last byte and the
// other's word that it has everything.
func (c *pairChecker) strike(d *pairPlane) {
	w := c.w
	if p := w.params; w.healed || p.calm || w.now > p.until || w.rng.IntN(12) > 0 {
		return
	}
	a, b := d.p.v.index, w.node(d.Peer)
	lasts := time.Duration(w.rng.Int64N(int64(20*time.Second))) + 100*time.Millisecond
	switch w.rng.IntN(5) {
	case 0:
		w.cut(lasts, func(i, j int) bool { return i == a && j == b })
	case 1:
		w.cut(lasts, func(i, j int) bool { return i == a && j == b || i == b && j == a })
	case 2:
		w.cut(lasts, func(i, j int) bool { return i == b || j == b })
	case 3:
		w.in(0, func() { w.pause(w.nodes[b], lasts/2) })
	default:
		w.in(0, func() { w.kill(w.nodes[b], lasts/4) })
	}
}
