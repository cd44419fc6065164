package protosim

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"loco/mesh"
	"loco/mesh/events"
)

// Options describes one run.
type Options struct {
	Seed    uint64
	Trace   io.Writer // one line an event; nil: none
	Pairs   bool      // the pair exchange instead of the all-reduce
	Flights bool      // an all-reduce that is in flight over several inner steps

	scale *scale // a world of many, to measure; nil: one to look for mistakes in
}

// Report says what a run did.
type Report struct {
	Options  Options
	Workers  int
	Events   int
	Messages int
	Rounds   uint64 // committed by the worker that is furthest
	Forks    int    // commits of rounds that two sides which could not reach each other both decided
	Crashes  int    // of processes
	Adopted  int    // results of earlier attempts that members took over
	Resyncs  int    // states that were taken over
	Lost     uint64 // rounds that workers gave up that took over another's state
	Landings int    // of flights
	LeftOut  int    // landings without the own contribution
	Resumed  int    // flights that a process went on with from its disk
	Long     bool   // transfers took several times grace
	Virtual  time.Duration
	Tokens   float64 // of the state of worker 0 at the end of an unequal run
	Pairs    PairReport
	Err      error // the invariant that does not hold
}

// maxEvents ends a run that does not end by itself.
const maxEvents = 2_000_000

// world is one run.
type world struct {
	opts    Options
	params  params
	rng     *rand.Rand
	now     time.Duration
	events  events.Queue
	count   int
	nodes   []*node
	links   [][]*link // [from][to]
	ids     uint64    // of contributions
	check   *checker
	pairs   *pairChecker // nil: the world averages over everybody
	report  Report
	healed  bool // no more faults
	over    bool // the run's purpose is met
	faults  []outage
	repairs []func() // end the faults
	unequal *Unequal // nil: a random schedule
}

// params is what the seed makes of a world.
type params struct {
	workers   int
	quorum    int
	blocks    int
	grace     time.Duration
	graceMin  time.Duration // 0: grace, nothing is learnt
	cycle     int           // of late workers
	deadline  time.Duration
	detection time.Duration
	latency   time.Duration
	sigma     float64       // of the log-normal jitter
	chunkTime time.Duration // that a chunk takes on the slowest line
	spread    float64       // the fastest line is as many times faster
	long      bool          // a transfer takes several times grace
	loss      float64
	repeat    float64       // chance that a frame comes twice
	inner     time.Duration // workers differ in it
	innerMin  time.Duration // before it, of all alike
	tardy     int           // a worker that now and then takes longer by up to that; -1: none
	slack     bool          // after the faults too
	until     time.Duration // faults happen before
	calm      bool          // no faults at all
	flips     bool          // only bits flip
	lag       uint64        // pairs: that partners may be apart
	fast      bool          // pairs: one part a round
	steps     int           // flights: H inner steps from one to the next
	flight    int           // and from its beginning until it is due
	differ    bool          // and replicas differ
}

// Run runs one schedule to its end.
func Run(o Options) Report {
	w := newWorld(o)
	w.schedule()
	w.run()
	switch {
	case o.scale != nil:
	case w.pairs != nil:
		w.pairs.atEnd()
	default:
		w.check.atEnd()
	}
	return w.reported()
}

// run lets the events happen.
func (w *world) run() {
	for w.check.err == nil && !w.over && w.events.Len() > 0 {
		if w.count++; w.count > maxEvents && w.opts.scale == nil {
			w.check.fail("%d events and no end", maxEvents)
			return
		}
		e := w.events.Pop()
		w.now = e.At
		e.Do()
		w.over = w.over || w.unequal != nil && w.ends()
	}
}

func (w *world) reported() Report {
	r := w.report
	r.Options, r.Workers, r.Events, r.Virtual, r.Err = w.opts, w.params.workers, w.count, w.now, w.check.err
	r.Long = w.params.long
	return r
}

// live are the nodes that have a process.
func (w *world) live() []*node {
	live := make([]*node, 0, len(w.nodes))
	for _, v := range w.nodes {
		if v.proc != nil {
			live = append(live, v)
		}
	}
	return live
}

// progress notes that a worker has finished a round, and ends the run when all live ones are
// in round end; 0: it goes on.
func (w *world) progress(round, end uint64) {
	w.report.Rounds = max(w.report.Rounds, round)
	behind := func(v *node) bool { return v.proc.at() < end }
	w.over = w.over || end > 0 && !slices.ContainsFunc(w.live(), behind)
}

func newWorld(o Options) *world {
	w := &world{opts: o, rng: rand.New(rand.NewPCG(o.Seed, 0x10c0))}
	w.draw()
	w.build()
	return w
}

// build makes the nodes and links, and starts a process on each.
func (w *world) build() {
	w.check = newChecker(w)
	if w.opts.Pairs {
		w.pairs = newPairChecker(w)
	}
	n := w.params.workers
	for i := range n {
		w.nodes = append(w.nodes, newNode(w, i))
		w.links = append(w.links, make([]*link, n))
		for j := range n {
			w.links[i][j] = &link{w: w, from: i, to: j}
		}
	}
	for i, v := range w.nodes {
		for j := range w.nodes {
			v.incoming = append(v.incoming, w.links[j][i])
		}
	}
	if w.params.long { // somebody has it
		w.nodes[w.rng.IntN(n)].up = w.params.chunkTime
	}
	for _, v := range w.nodes {
		for _, p := range w.nodes {
			v.seen[p.index] = mesh.Member{ID: p.id, State: mesh.Alive, Status: mesh.Status{Worker: p.index, Ready: true}}
			v.reach[p.index] = true
		}
	}
	for _, v := range w.nodes {
		v.boot(genesis(w.params.blocks), true)
	}
}

// draw makes the parameters.
func (w *world) draw() {
	if w.opts.scale != nil {
		w.params = w.opts.scale.params()
		return
	}
	r := w.rng
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+r.IntN(hi-lo)) * time.Millisecond }
	p := params{
		workers: 2 + r.IntN(6), blocks: 1 + r.IntN(12), grace: 2 * time.Second, deadline: ms(12_000, 40_000),
		detection: ms(800, 4000), latency: ms(2, 100), sigma: r.Float64(), chunkTime: ms(0, 40),
		loss: 0.03 * r.Float64(), repeat: 0.01 * r.Float64(), inner: ms(2000, 6000), until: ms(20_000, 50_000),
	}
	if r.IntN(10) < 3 {
		p.quorum = p.workers
	}
	switch r.IntN(10) {
	case 0:
		p.calm, p.sigma = true, min(p.sigma, 0.5)
	case 1:
		p.flips, p.sigma, p.loss, p.repeat = true, 0.2, 0, 0
	}
	if w.opts.Seed%8 == 6 { // impatient: a worker that is a little late is left out
		p.graceMin, p.cycle = p.grace/8, 1+int(w.opts.Seed/8%3)
	}
	if w.opts.Pairs {
		p = drawPairs(r, p)
	}
	if w.opts.Flights {
		p = drawFlights(r, p)
	}
	if r.IntN(3) > 0 {
		p.spread = math.Pow(20, r.Float64())
	}
	if r.IntN(6) == 0 && p.workers <= 8 {
		w.drawLong(&p)
	}
	w.params = p
	w.tracef("world", "%+v", p)
}

// drawLong makes lines so slow that a transfer takes several times grace, while a chunk crosses
// within it though others share the lines, and the deadline leaves the time.
func (w *world) drawLong(p *params) {
	r := w.rng
	share, sent := float64(p.workers-1), 2*float64(p.workers-1)/float64(p.workers) // lines in use, vectors that a member sends
	if w.opts.Pairs {
		share, sent = 2, 1
		if !p.fast {
			sent = 2
		}
	}
	p.long = true
	p.latency, p.loss = min(p.latency, 50*time.Millisecond), p.loss/5
	p.chunkTime = time.Duration(float64(p.grace) / 4 / share * (0.5 + 0.5*r.Float64()))
	lasts := time.Duration(float64(p.grace) * (2 + 8*r.Float64()))
	p.blocks = int(float64(lasts) / float64(p.chunkTime) / sent)
	if p.flips = false; r.IntN(3) == 0 {
		p.calm, p.sigma = true, min(p.sigma, 0.5)
	}
	switch {
	case w.opts.Pairs:
		p.deadline = max(p.deadline, lasts*3/2+6*p.grace)
	case p.calm: // more than half of it may be needed
		p.deadline = lasts*5/4 + 5*p.grace
	default: // one may have to send a whole result to all the others
		p.deadline = max(p.deadline, lasts*3/4*time.Duration(p.workers)+6*p.grace)
	}
	if p.tardy = -1; !p.calm && p.workers > 2 && !w.opts.Pairs {
		p.tardy, p.slack = r.IntN(p.workers), w.opts.Seed%4 != 0
	}
	p.innerMin = lasts // a worker that fetches the others' result is there when they have trained
	p.until += 3 * lasts
}

// drawLine is what a data frame takes on one machine's line one way.
func (w *world) drawLine() time.Duration {
	p := w.params
	if p.spread <= 1 {
		return p.chunkTime
	}
	return time.Duration(float64(p.chunkTime) * math.Pow(p.spread, -w.rng.Float64()))
}

// schedule draws the faults, and when the run ends.
func (w *world) schedule() {
	p := w.params
	if w.opts.scale != nil {
		w.opts.scale.schedule(w)
		return
	}
	if !p.calm {
		for range 1 + w.rng.IntN(8) {
			at := time.Duration(w.rng.Int64N(int64(p.until)))
			w.at(at, w.fault)
		}
	}
	w.at(p.until+20*time.Second, w.heal)
}

// at makes something happen at a time, in after a while.
func (w *world) at(t time.Duration, do func()) {
	w.events.Push(max(t, w.now), do)
}

func (w *world) in(d time.Duration, do func()) { w.at(w.now+d, do) }

// jitter stretches d log-normally; once the faults have ended by no more than five times.
func (w *world) jitter(d time.Duration, sigma float64) time.Duration {
	by := math.Exp(sigma * w.rng.NormFloat64())
	if w.healed || w.params.calm {
		by = min(by, 5)
	}
	return time.Duration(float64(d) * by)
}

func (w *world) tracef(who, format string, args ...any) {
	if w.opts.Trace != nil {
		fmt.Fprintf(w.opts.Trace, "%10.3f  %-8s ", w.now.Seconds(), who)
		fmt.Fprintf(w.opts.Trace, format+"\n", args...)
	}
}
