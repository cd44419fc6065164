package protosim

import (
	"slices"

	"loco/gossip/protocol"
)

// began checks a contribution as a flight begins with it: the residual that it carries is of one that
// was committed.
func (c *checker) began(p *roundProc) {
	k := p.own
	if k.residual != 0 && !c.committed[k.residual] {
		c.fail("w%d carries the residual of contribution %d, which no round has committed", p.v.index, k.residual)
	}
	for _, s := range k.steps {
		c.bearers[s] = append(c.bearers[s], k.id)
	}
	if k.residual != 0 {
		c.bearers[k.residual] = append(c.bearers[k.residual], k.id)
	}
}

// behind checks that replicas that differ are behind by their rounds alone.
func (c *checker) behind(p *roundProc) {
	if c.w.params.differ && c.furthest <= p.state.round {
		c.fail("w%d is behind in round %d, and nobody has committed it", p.v.index, p.state.round)
	}
}

// once checks that neither an inner step nor a residual of a mean's contributions was counted on the
// way to the state before.
func (c *checker) once(p *roundProc, from []uint64) {
	for _, id := range from {
		k := c.contributions[id]
		c.committed[id] = true
		for _, s := range append(slices.Clip(k.steps), k.residual) {
			for _, other := range c.bearers[s] {
				if other != id && p.state.counts(other) && !c.forkedIn(c.contributions[other].round) {
					c.fail("w%d commits round %d with contribution %d, of which %d has counted something before", p.v.index, p.state.round, id, other)
					return
				}
			}
		}
	}
}

// forkedIn says that replicas that differ had several means of a round: one that is in the mean of the
// others, and takes that of its own side, gives them its residual again.
func (c *checker) forkedIn(round uint64) bool {
	return c.w.params.differ && slices.ContainsFunc(c.commits[round], func(d *decided) bool { return d.hash != c.commits[round][0].hash })
}

// counts says that a contribution is in a state.
func (s *state) counts(id uint64) bool {
	for ; s != nil; s = s.parent {
		if slices.Contains(s.from, id) {
			return true
		}
	}
	return false
}

// lands checks a landing: of the round at hand, with the worker's state as it was, not before it is
// due where the own contribution is in it, and the worker knows whether its own contribution is in it.
func (c *checker) lands(p *roundProc, r *protocol.Result, in bool) {
	f := p.flights
	switch k := p.kept; {
	case r.Round != p.state.round || k == nil || k.round != r.Round || k.attempt != r.Attempt || k.base != p.state.id:
		c.fail("w%d lands round %d on %v", p.v.index, r.Round, p.state)
	case f.flown < c.w.params.flight && in:
		c.fail("w%d lands round %d after %d steps, due after %d", p.v.index, r.Round, f.flown, c.w.params.flight)
	case in != slices.Contains(k.result[0].from, p.own.id) && (in || !r.Former):
		c.fail("w%d lands round %d and holds its contribution %d to be in the mean: %v", p.v.index, r.Round, p.own.id, in)
	}
	c.w.report.Landings++
	if !in {
		c.w.report.LeftOut++
	}
	if c.w.params.differ {
		return
	}
	next := p.state.apply(p.kept.result, r.Tokens).id
	for _, o := range c.landed[r.Round] {
		if o.base == p.state.id && o.hash == r.Hash && o.next != next {
			c.fail("w%d lands round %d in another state than w%d, from the same and with the same mean", p.v.index, r.Round, o.node)
		}
	}
	c.landed[r.Round] = append(c.landed[r.Round], &decided{node: p.v.index, base: p.state.id, hash: r.Hash, next: next})
}
