package protosim

import (
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"loco/gossip/protocol"
)

// Unequal describes a run without faults of workers whose devices differ in speed, which
// train step by step as the trainer does.
type Unequal struct {
	Seed      uint64
	Trace     io.Writer       // one line an event; nil: none
	Steps     []time.Duration // of an inner step, by worker; each varies log-normally by a tenth
	H         int             // inner steps in a round, or with InnerTime the most
	InnerTime time.Duration   // of the inner phase; 0: H steps
	Grace     time.Duration
	GraceMin  time.Duration
	Cycle     int    // sync.slow_cycle
	FastAgain uint64 // round from which on all steps are as long as the shortest; 0: never
	Rounds    uint64 // until every worker has finished, or followed
}

// Share is what one worker did. Counts are of inner steps.
type Share struct {
	Compute     float64 // share of the time in inner steps that are in a mean, or will be
	Rounds      int     // whose mean it is in
	Contributed int
	Lost        int
	Carried     int   // at the end
	Late        []int // workers that it sees late at the end
}

// unequal is the place of a worker in the run.
type unequal struct {
	*Unequal
	began   time.Duration // of the round at hand
	step    time.Duration // the last
	steps   int           // of the round
	pending int           // not contributed yet
	carried int           // rounds that pending missed
	time    time.Duration // of pending
	useful  time.Duration // of what was contributed
	share   Share
}

// RunUnequal runs to the end of the rounds, and returns what each worker did.
func RunUnequal(o Unequal) ([]Share, Report) {
	w := &world{opts: Options{Seed: o.Seed, Trace: o.Trace}, rng: rand.New(rand.NewPCG(o.Seed, 0x10c1)), unequal: &o}
	w.params = params{
		workers: len(o.Steps), blocks: 12, grace: o.Grace, graceMin: o.GraceMin, cycle: o.Cycle, deadline: 10 * o.Grace, detection: o.Grace,
		latency: 50 * time.Millisecond, sigma: 0.3, chunkTime: 50 * time.Millisecond, calm: true,
	}
	w.build()
	w.run()
	w.check.atEnd()
	var shares []Share
	for _, v := range w.nodes {
		p := v.proc.(*roundProc)
		u := p.unequal
		u.share.Compute = float64(u.useful+u.time) / float64(w.now)
		u.share.Carried = u.pending
		for _, l := range p.m.Late() {
			u.share.Late = append(u.share.Late, l.Worker)
		}
		shares = append(shares, u.share)
	}
	r := w.reported()
	first := w.nodes[0].proc.holds()
	r.Rounds, r.Tokens = first.round, first.tokens
	return shares, r
}

// trainSteps begins the inner phase of a round.
func (p *roundProc) trainSteps() {
	u := p.unequal
	u.began, u.steps = p.v.w.now, 0
	p.trains++
	p.trainStep(p.trains)
}

func (p *roundProc) trainStep(trains int) {
	u, w := p.unequal, p.v.w
	step := u.Steps[p.v.index]
	if u.FastAgain > 0 && p.state.round >= u.FastAgain {
		step = slices.Min(u.Steps)
	}
	took := w.jitter(step, 0.1)
	p.v.later(took, func() {
		if p.calling || p.trains != trains {
			return
		}
		u.steps++
		u.pending++
		u.step = took
		u.time += took
		switch {
		case u.steps >= u.H,
			u.InnerTime > 0 && w.now-u.began+u.step/2 >= u.InnerTime,
			p.m.Over(p.state.round, p.state.tokens),
			u.carried > 0 && p.m.Awaited(p.state.round):
			p.average()
		default:
			p.trainStep(trains)
		}
	})
}

// settle says what became of the steps at hand, as Trainer.settle does, when rounds were
// averaged by workers.
func (p *roundProc) settle(rounds int, workers []int) {
	u := p.unequal
	switch in := slices.Contains(workers, p.v.index); {
	case in:
		u.share.Contributed += u.pending
		u.useful += u.time
		u.share.Rounds++
	case u.Cycle > 1 && u.carried+rounds <= 2*u.Cycle:
		u.carried += rounds
		return
	default:
		u.share.Lost += u.pending
	}
	u.pending, u.carried, u.time = 0, 0, 0
}

// ends says that all workers have finished the last round.
func (w *world) ends() bool {
	for _, v := range w.nodes {
		if v.proc.holds().round < w.unequal.Rounds {
			return false
		}
	}
	return true
}

// bring makes the contribution to a round of what a worker has trained.
func (p *roundProc) bring() *contribution {
	c := p.v.w.contribute(p.v.index, p.state)
	c.by = p
	if p.unequal != nil {
		c.weight = float64(p.unequal.pending)
	}
	return c
}

// roundsConfig is what the state machine of a worker is made of.
func (v *node) roundsConfig() protocol.RoundsConfig {
	p := v.w.params
	return protocol.RoundsConfig{Self: v.id, Worker: v.index, Deadline: p.deadline, Grace: p.grace, Detection: p.detection, GraceMin: p.graceMin, SlowCycle: p.cycle,
		Quorum: p.quorum, Unequal: p.differ, Nonce: v.w.rng.Uint32()}
}
