package protosim

import (
	"fmt"
	"math"
	"slices"
	"time"

	"loco/gossip/protocol"
)

// turnsWithin is after how many rounds every worker has been in a group that is waited for in turns.
const turnsWithin = 16

// flownWithin is after how many rounds everybody has been in a group whose exchanges are in flight.
const flownWithin = 6

// checker holds a world to the invariants of the protocol.
type checker struct {
	w             *world
	err           error
	contributions map[uint64]*contribution
	commits       map[uint64][]*decided // by round
	goal          uint64                // every round from here on has everybody
	end           uint64                // and when all have finished this one the run is over
	deadline      time.Duration         // of the run, once the faults have ended
	turns         bool                  // everybody is in a group at least once from goal to end
	in            map[int]bool          // the workers that were

	committed map[uint64]bool       // flights: contributions in a committed mean
	furthest  uint64                // the round after the newest that was committed
	bearers   map[uint64][]uint64   // contributions that have an inner step or a residual
	landed    map[uint64][]*decided // by round
}

// decided is a commit of one process.
type decided struct {
	p       *roundProc
	node    int
	at      time.Duration
	since   time.Duration // when the process called Average
	base    [32]byte
	hash    [32]byte
	next    [32]byte // the state that follows
	round   uint64
	workers []int
}

func newChecker(w *world) *checker {
	return &checker{w: w, contributions: map[uint64]*contribution{}, commits: map[uint64][]*decided{}, in: map[int]bool{},
		committed: map[uint64]bool{}, bearers: map[uint64][]uint64{}, landed: map[uint64][]*decided{}}
}

func (c *checker) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("at %.3f s: %s", c.w.now.Seconds(), fmt.Sprintf(format, args...))
		c.w.tracef("check", "%v", c.err)
	}
}

// commit checks what a process takes as the mean of a round.
func (c *checker) commit(p *roundProc, r *protocol.Result) bool {
	before := c.err
	h := p.have
	if sc := c.w.opts.scale; sc != nil {
		sc.done(c.w, p.v.index, c.w.now-p.started, r.Round)
		return true
	}
	if h == nil || h.round != r.Round || h.attempt != r.Attempt || h.base != p.state.id {
		c.fail("w%d commits round %d without its bytes", p.v.index, r.Round)
		return false
	}
	if r.Round != p.state.round {
		c.fail("w%d in round %d commits round %d", p.v.index, p.state.round, r.Round)
		return false
	}
	if got := hashOf(h.result); got != r.Hash {
		c.fail("w%d commits round %d with bytes of another hash", p.v.index, r.Round)
		return false
	}
	for b, x := range h.result {
		if !c.mean(p, r, b, x) {
			return false
		}
	}
	known := slices.Contains(r.Workers, p.v.index) && !(p.flights != nil && r.Former) // of a resumed flight it cannot be
	p.own.seen = p.own.seen || known
	next := p.state.apply(h.result, r.Tokens)
	d := &decided{p, p.v.index, c.w.now, p.started, p.state.id, r.Hash, next.id, r.Round, r.Workers}
	if p.flights != nil {
		c.furthest = max(c.furthest, r.Round+1)
		c.once(p, h.result[0].from)
	}
	if c.w.params.differ {
		d.base, d.next = [32]byte{}, r.Hash // whatever they apply the mean to
	}
	c.agree(d)
	if (c.goal > 0 && r.Round >= c.goal || c.w.params.calm) && c.err == nil && c.w.unequal == nil {
		c.together(p, r)
	}
	return c.err == before
}

// mean checks one block: whose values are in it, each once, and what they sum to.
func (c *checker) mean(p *roundProc, r *protocol.Result, b int, x *piece) bool {
	if x == nil {
		c.fail("w%d commits round %d without block %d", p.v.index, r.Round, b)
		return false
	}
	var workers []int
	sum, total := 0.0, 0.0
	for _, id := range x.from {
		k := c.contributions[id]
		if k.round != r.Round || k.base != p.state.id && !c.w.params.differ {
			c.fail("w%d commits round %d with a contribution of w%d to round %d from another state", p.v.index, r.Round, k.node, k.round)
			return false
		}
		workers = append(workers, k.node)
		sum += k.weight * k.vec[b].value
		total += k.weight
	}
	slices.Sort(workers)
	if !slices.Equal(workers, r.Workers) {
		c.fail("w%d commits round %d as the mean of %v, and block %d has values of %v", p.v.index, r.Round, r.Workers, b, workers)
		return false
	}
	if math.Abs(x.value-sum/total) > 1e-5*(1+math.Abs(sum/total)) || r.Tokens != total {
		c.fail("w%d commits round %d with %v in block %d over %v tokens, want %v over %v", p.v.index, r.Round, x.value, b, r.Tokens, sum/total, total)
		return false
	}
	return true
}

// agree checks that nobody decided the round otherwise without being cut off.
func (c *checker) agree(d *decided) {
	round := d.p.state.round
	forked := false
	for _, o := range c.commits[round] {
		if o.hash == d.hash && o.base == d.base {
			continue
		}
		counts := c.counts(o)
		switch {
		case c.w.params.quorum > 0 && counts:
			c.fail("w%d and w%d commit different bytes for round %d under a quorum", o.node, d.node, round)
			return
		case c.w.params.quorum == 0 && o.base == d.base && counts && !c.apart(o, d):
			c.fail("w%d commits round %d as the mean of %v, and w%d, which it could reach all the time, as that of %v", d.node, round, d.workers, o.node, o.workers)
			return
		}
		forked = forked || o.base == d.base
	}
	if forked {
		c.w.report.Forks++
	}
	c.commits[round] = append(c.commits[round], d)
	c.w.strike(d)
}

// counts says that a decision has not vanished with the process that made it: it lives, or
// somebody holds, or would come back with, a state that descends from it.
func (c *checker) counts(d *decided) bool {
	lives := func(s *state) bool { return s.descends(d.round+1, d.next) }
	if c.w.params.differ {
		lives = func(s *state) bool { return s.took(d.round+1, d.hash) }
	}
	return slices.ContainsFunc(c.w.nodes, func(v *node) bool {
		if v.proc != nil && (v.proc == d.p || lives(v.proc.holds())) {
			return true
		}
		return lives(v.disk)
	})
}

// apart says that two that decided differently could not reach each other for a while:
// a link between their groups was cut, or one of the two was paused or gone after it
// decided. That it was paused before is no excuse.
func (c *checker) apart(a, b *decided) bool {
	from := min(a.since, b.since) - c.w.params.detection - 2*c.w.params.grace
	until := max(a.at, b.at)
	in := func(d *decided, i int) bool { return d.node == i || slices.Contains(d.workers, i) }
	for _, f := range c.w.faults {
		if f.to < from || f.from > until {
			continue
		}
		if f.b < 0 {
			if a.by(f.a) && c.first(a) <= f.to || b.by(f.a) && c.first(b) <= f.to {
				return true
			}
			continue
		}
		if in(a, f.a) && in(b, f.b) || in(a, f.b) && in(b, f.a) {
			return true
		}
	}
	return false
}

// first is when the first process decided as d did.
func (c *checker) first(d *decided) time.Duration {
	at := d.at
	for _, o := range c.commits[d.round] {
		if o.hash == d.hash && o.base == d.base {
			at = min(at, o.at)
		}
	}
	return at
}

// by says that a node decided, or is one of those whose result the node that decided took
// over.
func (d *decided) by(i int) bool {
	return d.node == i || !slices.Contains(d.workers, d.node) && slices.Contains(d.workers, i)
}

// waited checks that a worker's call ends by its deadline, which is longer by what the
// worker was paused.
func (c *checker) waited(worker int, round uint64, started, paused time.Duration) {
	limit := c.w.params.deadline + c.w.params.grace + paused
	if took := c.w.now - started; took > limit {
		c.fail("w%d waited %v for round %d, its deadline is %v", worker, took, round, c.w.params.deadline)
	}
}

// memory checks that what is remembered is bounded by the number of peers.
func (c *checker) memory(p *roundProc) {
	if size := p.m.Size(); size > 11*len(c.w.nodes) {
		c.fail("w%d remembers %d things of %d workers", p.v.index, size, len(c.w.nodes))
	}
}

// lost checks what a process says that it gives up when it takes over another's state: the
// rounds and its own tokens since the newest state that both had. It is not held to what one of
// the two does not remember, because its process has begun later, nor to damage, which is no round.
func (c *checker) lost(p *roundProc, s *state, rounds uint64, tokens float64) {
	if c.w.params.differ { // it takes one member's state, and none is lighter
		c.w.report.Resyncs++
		return
	}
	if s.tokens < p.state.tokens {
		c.fail("w%d gives up %v for the lighter %v", p.v.index, p.state, s)
	}
	c.w.report.Resyncs++
	fork := p.state.fork(s)
	if c.w.params.flips || fork == nil || fork.round < p.past[0].round || len(p.theirs) == 0 || fork.round < p.theirs[0].round {
		return
	}
	own := 0.0
	for at := p.state; at != fork; at = at.parent {
		for _, id := range at.from {
			// It knows of those that it committed itself; of a lineage that it goes back to and leaves
			// again it has counted them before.
			if k := c.contributions[id]; k.by == p && k.seen && !k.lost {
				k.lost = true
				own += k.weight
			}
		}
	}
	c.w.report.Lost += rounds
	if rounds != p.state.round-fork.round || tokens != own {
		c.fail("w%d gives up %v for %v and counts %d rounds and %v tokens as lost, of %d and %v since %v", p.v.index, p.state, s, rounds, tokens,
			p.state.round-fork.round, own, fork)
	}
}

// settled begins to hold the workers to being together: the faults have ended, and all
// have had the time to see it.
func (c *checker) settled() {
	var newest uint64
	for _, v := range c.w.live() {
		newest = max(newest, v.proc.at())
	}
	c.goal, c.end = newest+2, newest+4
	lasts := 4 * (c.w.params.deadline + c.w.params.innerMin)
	if p := c.w.params; p.graceMin > 0 && p.cycle > 1 && !p.long {
		// A late worker has its turn in each cycle, and is waited for then as long as it takes.
		c.turns, c.end = true, c.goal+turnsWithin
		lasts += turnsWithin * 2 * (p.inner + p.grace)
	}
	if p := c.w.params; p.steps > 0 {
		// Without a barrier the workers drift apart until one is late by more than the slack. It is
		// left out then, and in time for the next round, if it fetches a result in less than what is
		// left of the inner steps when a flight is due.
		c.turns, c.end = !p.long, c.goal+flownWithin
		lasts += flownWithin * 2 * (p.inner + p.innerMin)
	}
	c.deadline = c.w.now + lasts
	c.w.tracef("check", "from round %d on every round has everybody", c.goal)
	c.w.at(c.deadline, func() {
		if !c.w.over {
			c.fail("the faults ended %v ago, and the workers are not together", lasts)
		}
	})
}

// together checks that a round has all the live, or half of them where they do not wait for late
// ones, or somebody goes on being late.
func (c *checker) together(p *roundProc, r *protocol.Result) {
	var live []int
	for _, v := range c.w.live() {
		live = append(live, v.index)
	}
	for _, i := range r.Workers {
		c.in[i] = c.in[i] || r.Round >= c.goal && c.goal > 0
	}
	params := c.w.params
	if n := p.m.Tries(); n > 1 && params.graceMin == 0 && params.steps == 0 {
		c.fail("w%d commits round %d in attempt %d and blames %q, where nothing is wrong any more", p.v.index, r.Round, n, p.m.Rejected())
		return
	}
	if (params.graceMin > 0 || params.slack || params.steps > 0) && 2*len(r.Workers) >= len(live) {
		return
	}
	if !slices.Equal(live, r.Workers) {
		c.fail("w%d commits round %d as the mean of %v, and %v are alive, %d rounds after the faults ended", p.v.index, r.Round, r.Workers, live, r.Round-c.goal+2)
	}
}

// atEnd checks that all live workers hold the same state.
func (c *checker) atEnd() {
	if c.err != nil {
		return
	}
	if !c.w.over {
		c.fail("the run ended before its purpose was met")
		return
	}
	byRound := map[uint64][32]byte{}
	for _, v := range c.w.live() {
		if c.turns && !c.in[v.index] {
			c.fail("w%d was in no group for %d rounds, and has had its turn", v.index, c.end-c.goal)
			return
		}
		s := v.proc.holds()
		if s == nil {
			c.fail("w%d has no state at the end", v.index)
			return
		}
		if id, ok := byRound[s.round]; ok && id != s.id && !c.w.params.differ {
			c.fail("w%d ends round %d in another state than the others", v.index, s.round)
			return
		}
		byRound[s.round] = s.id
	}
}
