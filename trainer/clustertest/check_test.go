package clustertest

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"loco/gossip/exchange"
	"loco/trainer"
	"loco/trainer/strategy"
)

// checker holds a world to the invariants of docs/protocol.md, as far as they can be
// seen from outside of the exchange.
type checker struct {
	w *world

	mu      sync.Mutex
	why     string
	given   map[place]map[int][]contribution // by worker: those that are started again give twice
	brought map[int]uint64                   // rounds until the last that each worker brought something to
	commit  map[place][]decided
	slow    map[[32]byte]string // digest of φ after a result
	last    map[*process]*progress
	outages []outage
	still   []time.Duration // that each worker was paused
	goal    uint64          // every round from here on has everybody
	settled bool
	tally   tally
	history uint64            // rounds that contributions and results are kept for
	states  map[uint64]string // digest of φ after each round, the last that was reported
	final   map[int]string    // digests of φ at the end
	learnt  map[int][]float32 // and φ itself
	strike  func(p *process)
	events  map[int][]*trainer.ResyncEvent // of each worker
	ledger  ledger
}

// tally counts what a world has been through.
type tally struct{ results, restarts, resyncs, lostRounds, unknown, carried, forks, gaveUp int }

// place is where a contribution or a result belongs.
type place struct {
	part  exchange.Part
	round uint64
	base  [32]byte
}

type contribution struct {
	vec     [32]byte // its hash
	encoded []byte
	weight  float64
	steps   []uint64 // that are in it, by their number
}

// decided is a round that a process took as averaged.
type decided struct {
	place
	p         *process
	members   []int
	result    [32]byte
	since, at time.Time // it was brought a contribution, and taken
}

// progress is what a process did last.
type progress struct {
	round  uint64   // completed
	base   [32]byte // the state that the last result was applied to
	result [32]byte
	picked []contribution // that it is the mean of
	asked  time.Time      // it began to wait for the others

	former uint64 // rounds until the last that a process before this one brought something to
	work
}

func newChecker(w *world) *checker {
	history := uint64(40)
	if w.params.strategy == "ddp" { // its rounds are short: a side of a fork may be that far behind
		history = 400
	}
	return &checker{w: w, given: map[place]map[int][]contribution{}, brought: map[int]uint64{}, commit: map[place][]decided{}, slow: map[[32]byte]string{},
		last: map[*process]*progress{}, still: make([]time.Duration, w.params.workers), final: map[int]string{}, learnt: map[int][]float32{},
		history: history, states: map[uint64]string{}, events: map[int][]*trainer.ResyncEvent{}, ledger: newLedger()}
}

// fail keeps the first thing that is wrong.
func (c *checker) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed(format, args...)
}

// failed is fail with c.mu held.
func (c *checker) failed(format string, args ...any) {
	if c.why == "" {
		c.why = fmt.Sprintf("at %.3f s: ", time.Since(c.w.begun).Seconds()) + fmt.Sprintf(format, args...)
		c.w.tracef("check", "%s", c.why)
	}
}

func (c *checker) failure() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.why
}

// begins takes in where a process starts from, and what became of its worker's steps.
func (c *checker) begins(p *process, done work) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if done = done.clone(); done.brought == nil {
		done.brought = map[[32]byte]uint64{}
	}
	state := p.head()
	if done.state != ([32]byte{}) && done.state != state {
		c.failed("%s resumes in another state than it saved", p.name())
	}
	done.state = state
	c.last[p] = &progress{round: p.round.Load(), former: c.brought[p.index], work: done}
	if p.life > 0 {
		c.tally.restarts++
	}
}

// ends forgets a process.
func (c *checker) ends(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, p)
}

// resyncs takes in that a process went over to the state of others.
func (c *checker) resyncs(p *process, e *trainer.ResyncEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.last[p]
	if l == nil {
		return
	}
	c.gives(p, l, e)
	c.last[p] = &progress{round: e.Round, former: l.former, work: l.work}
	c.tally.resyncs++
	c.events[p.index] = append(c.events[p.index], e)
}

// contributes takes in what a worker brings to a round.
func (c *checker) contributes(p *process, round uint64, part exchange.Part, own []byte, weight float64, from exchange.Base) {
	encoded := slices.Clone(own)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brought[p.index] = max(c.brought[p.index], round+1)
	if err := c.w.codec().Check(c.w.params.parameters, own); err != nil {
		c.failed("%s brings what nobody can decode: %v", p.name(), err)
	}
	at := c.place(round, part, from)
	if c.given[at] == nil {
		c.given[at] = map[int][]contribution{}
	}
	l := c.last[p]
	if l != nil {
		l.asked = time.Now()
	}
	var steps []uint64
	if l != nil && part == exchange.Delta && c.w.params.strategy != "ddp" {
		steps = slices.Clone(l.pending)
		if want := float64(len(steps) * stepTokens); weight != want {
			c.failed("%s brings %v tokens to round %d, and has trained %v since what it gave last", p.name(), weight, round, want)
		}
	}
	c.given[at][p.index] = append(c.given[at][p.index], contribution{bits(c.w.mean(encoded, nil)), encoded, weight, steps})
	if l != nil && part == exchange.Delta && c.w.row().Equal && c.w.params.strategy != "ddp" && l.base == from.Digest && l.result != ([32]byte{}) {
		c.failed("%s begins round %d from the state that it has applied a result to", p.name(), round)
	}
	// What lies far back is not looked at again: worlds live long.
	for old := range c.given {
		if old.round+c.history < round {
			delete(c.given, old)
		}
	}
	for old := range c.commit {
		if old.round+c.history < round {
			delete(c.commit, old)
		}
	}
}

func (c *checker) place(round uint64, part exchange.Part, from exchange.Base) place {
	if !c.w.row().Equal {
		from.Digest = [32]byte{} // partners hold different states
	}
	return place{part, round, from.Digest}
}

// commits checks what a worker takes as the mean of a round.
func (c *checker) commits(p *process, round uint64, part exchange.Part, vec []float32, from exchange.Base, out exchange.Outcome) {
	c.mu.Lock()
	c.tally.results++
	at := c.place(round, part, from)
	if with, _ := c.w.row().With(); with == strategy.Pair {
		c.pair(p, at, vec, out)
	} else {
		c.mean(p, at, vec, out)
	}
	strike := c.strike
	c.mu.Unlock()
	if strike != nil {
		strike(p)
	}
}

// mean checks a result of an all-reduce against what its members brought.
func (c *checker) mean(p *process, at place, vec []float32, out exchange.Outcome) {
	picked, ok := c.isMean(at, vec, out.Members, out.Tokens, nil, 0)
	if !ok {
		c.failed("%s takes as the mean of %v over %v tokens in round %d what is not", p.name(), out.Members, out.Tokens, at.round)
	}
	d := decided{at, p, out.Members, bits(vec), time.Now(), time.Now()}
	if l := c.last[p]; l != nil {
		d.since = l.asked
	}
	for _, o := range c.commit[at] {
		if o.result == d.result {
			continue
		}
		c.tally.forks++
		alive := o.p == c.w.process(o.p.index)
		if c.w.params.quorum > 0 && alive {
			c.failed("%s and %s take different bytes for round %d under a quorum: the mean of %v and that of %v", o.p.name(), p.name(), at.round, o.members, d.members)
		} else if alive && !c.apart(o, d) {
			c.failed("%s takes the mean of %v for round %d, and %s, which it could reach all the time, that of %v", p.name(), d.members, at.round, o.p.name(), o.members)
		}
	}
	c.commit[at] = append(c.commit[at], d)
	if l := c.last[p]; l != nil {
		l.base, l.result, l.picked = at.base, d.result, picked
	}
	least := c.w.params.workers
	if c.w.params.graceMin > 0 { // they do not wait for a worker that is late, or has been so far
		least = (least + 1) / 2
	}
	if (c.goal > 0 && at.round >= c.goal || c.w.params.faults == 0 && !c.settled) && len(out.Members) < least {
		c.failed("%s takes the mean of %v for round %d, and every round from %d on has %d", p.name(), out.Members, at.round, c.goal, least)
	}
}

// isMean tries the contributions of each member in turn, and returns those that make the mean.
func (c *checker) isMean(at place, vec []float32, members []int, tokens float64, picked []contribution, total float64) ([]contribution, bool) {
	if len(picked) < len(members) {
		for _, g := range c.given[at][members[len(picked)]] {
			if all, ok := c.isMean(at, vec, members, tokens, append(picked, g), total+g.weight); ok {
				return all, true
			}
		}
		return nil, false
	}
	if total != tokens {
		return nil, false
	}
	sum := make([]float32, len(vec))
	for _, g := range picked {
		if c.w.codec().DecodeAdd(sum, g.encoded, float32(g.weight/total)) != nil {
			return nil, false
		}
	}
	encoded, err := c.w.codec().AppendEncode(nil, sum)
	if err != nil || c.w.codec().Decode(sum, encoded) != nil {
		return nil, false
	}
	return picked, bits(sum) == bits(vec)
}

// pair checks what a worker of NoLoCo goes on with: its own vector, or the mean of it and
// one that its partner brought to a round nearby.
func (c *checker) pair(p *process, at place, vec []float32, out exchange.Outcome) {
	own := c.given[at][p.index]
	mine := own[len(own)-1]
	if len(out.Members) == 1 && out.Members[0] == p.index {
		if bits(vec) != mine.vec {
			c.failed("%s goes on alone in round %d with another vector than its own", p.name(), at.round)
		}
		return
	}
	if len(out.Members) != 2 || !slices.Contains(out.Members, p.index) {
		c.failed("%s is in the pair %v", p.name(), out.Members)
		return
	}
	other := out.Members[0] + out.Members[1] - p.index
	lag := uint64(c.w.params.maxLag)
	for near := at.round - min(lag, at.round); near <= at.round+lag; near++ {
		for _, g := range c.given[place{at.part, near, at.base}][other] {
			two := []contribution{mine, g}
			if other < p.index {
				two = []contribution{g, mine}
			}
			sum := make([]float32, len(vec))
			for _, g := range two {
				if c.w.codec().DecodeAdd(sum, g.encoded, float32(g.weight/(two[0].weight+two[1].weight))) != nil {
					c.failed("a vector of the pair %v does not decode", out.Members)
				}
			}
			if bits(sum) == bits(vec) {
				return
			}
		}
	}
	c.failed("%s takes for the mean of the pair %v in round %d what is not", p.name(), out.Members, at.round)
}

// completes checks that rounds follow each other, and that workers of one lineage stay
// replicas of each other.
func (c *checker) completes(p *process, e *trainer.RoundEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.last[p]
	if e.Round != l.round+1 {
		c.failed("%s completes round %d after round %d", p.name(), e.Round, l.round)
	}
	l.round = e.Round
	c.credits(p, l, e)
	c.states[e.Round] = e.Digest
	if c.w.row().Equal {
		key := sha256.Sum256(append(l.base[:], l.result[:]...))
		if was, ok := c.slow[key]; ok && was != e.Digest {
			c.failed("%s has another φ than others after round %d, from the same state and result", p.name(), e.Round)
		}
		c.slow[key] = e.Digest
	}
	if !c.settled || e.Round != c.goal+c.w.params.tail {
		return
	}
	c.final[p.index] = e.Digest
	phi := make([]float32, p.learner.Parameters())
	p.learner.ReadParams(phi)
	c.learnt[p.index] = phi
}

// waiting is when a wait began, and how long the worker had been paused by then.
type waiting struct {
	since time.Time
	still time.Duration
}

func (c *checker) waits(p *process) waiting {
	c.mu.Lock()
	defer c.mu.Unlock()
	return waiting{time.Now(), c.still[p.index]}
}

// waited checks that an exchange ended by its deadline.
func (c *checker) waited(p *process, b waiting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.w.params.deadline + 2*c.w.params.grace + c.still[p.index] - b.still
	if took := time.Since(b.since); took > limit {
		c.failed("%s waited %v, at most %v are allowed", p.name(), took, limit)
	}
}

// gaveUp takes in that a worker could not go on: allowed while something is wrong.
func (c *checker) gaveUp(p *process, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.gaveUp++
	if c.settled || err == nil || errors.Is(err, trainer.ErrDiverged) {
		c.failed("%s gives up: %v", p.name(), err)
	}
}

// settle begins to hold the workers to being together.
func (c *checker) settle() {
	var newest uint64
	for i := range c.w.slots {
		if p := c.w.process(i); p != nil {
			newest = max(newest, p.round.Load())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled, c.goal = true, newest+2
	c.w.tracef("check", "from round %d on every round has everybody", c.goal)
}

// done says that everybody has finished the last round, in the same state.
func (c *checker) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.final) < c.w.params.workers {
		return false
	}
	c.goal = 0 // workers that have left are missing in the rounds of the last
	c.useful()
	for i, d := range c.final {
		if d != c.final[0] && c.w.row().Equal {
			c.failed("w%d ends in another state than w0", i)
		}
	}
	return true
}

// useful checks that the workers have learnt what there is to learn: the replicas of an
// all-reduce each, the workers of NoLoCo in the mean. c.mu is held.
func (c *checker) useful() {
	mean := make([]float32, c.w.params.parameters)
	for i, phi := range c.learnt {
		most := 0.05
		if !c.w.row().Equal {
			most = 0.6
		}
		if d := away(phi, c.w.params.workers); !(d < most) {
			c.failed("w%d is %.3f away from what there is to learn", i, d)
		}
		for k, x := range phi {
			mean[k] += x / float32(len(c.learnt))
		}
	}
	most := 0.15
	if p := c.w.params; p.innerTime > 0 && p.innerTime < 2*p.step {
		most = 0.4 // a round has one step
	}
	if d := away(mean, c.w.params.workers); !(d < most) {
		c.failed("the mean of all is %.3f away from what there is to learn", d)
	}
}

// where says where everybody is.
func (c *checker) where() string {
	text := ""
	for i := range c.w.slots {
		if p := c.w.process(i); p == nil {
			text += fmt.Sprintf("w%d is down; ", i)
		} else {
			text += fmt.Sprintf("%s in round %d; ", p.name(), p.round.Load())
		}
	}
	return text
}

// bits hashes a vector.
func bits(x []float32) (sum [32]byte) {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return sha256.Sum256(b)
}
