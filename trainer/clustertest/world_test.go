// Package clustertest runs whole workers, the real trainer and the real exchange, in
// virtual time over simulated networks, and holds them to what docs/protocol.md promises.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/sim"
	"loco/trainer"
	"loco/trainer/strategy"
	"loco/worker"
)

// params are what a seed draws.
type params struct {
	workers, quorum, parameters int
	strategy, codec             string
	grace, deadline, join       time.Duration
	detection                   time.Duration
	maxLag                      int
	inner                       uint64        // H
	step                        time.Duration // of one inner step
	link                        sim.Link
	up, down                    int64 // bytes a second of each worker's connection
	relayed                     bool
	until                       time.Duration // faults begin before
	faults                      int
	saveEvery                   uint64
	tail                        uint64  // rounds after everybody is together
	rate                        float32 // of the toy's learning

	graceMin, innerTime time.Duration
	cycle               int   // rounds that a late worker carries its steps
	upload              int64 // bytes a second for joiners
	moments             bool  // a joiner fetches them
}

// network carries the meshes of the workers, and breaks on demand.
type network interface {
	start(p *process) (mesh.Mesh, error)
	kill(p *process)
	leave(p *process)
	stand(p *process) // returns when p's process does not stand still
	stop(i int, on bool)
	cut(from, to int, on bool)
	detection() time.Duration // the shortest silence after which a worker is dead for others
	calm()                    // from now on a chunk crosses a link within Grace
	close()
}

// world is one run of a cluster.
type world struct {
	t        *testing.T
	params   params
	net      network
	check    *checker
	plant    tamper
	watch    func(p *process, event any) // of each trainer's events; may be nil
	begun    time.Time
	healed   chan struct{} // closed when the faults have ended
	over     chan struct{} // closed when the run is
	keeper   sync.WaitGroup
	strikers sync.WaitGroup // faults that follow from what happens

	mu    sync.Mutex
	rng   *rand.Rand
	slots []*slot
	trace []string
}

// row is the world's strategy.
func (w *world) row() *strategy.Strategy {
	row, err := strategy.New(w.params.strategy, w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	return &row
}

func (w *world) options() strategy.Options {
	return strategy.Options{OuterLR: 0.7, OuterMomentum: 0.4, Beta: 0.7, Gamma: 0.9, SlowCycle: w.params.cycle}
}

// slot is a worker's machine.
type slot struct {
	now   *process // nil while there is none
	lives int
	disk  *trainer.Snapshot
	work  work      // the checker's, of when the disk was written
	hold  time.Time // no process is started before
	slow  float64
	skew  time.Duration
}

func newWorld(t *testing.T, seed uint64, p params) *world {
	w := &world{t: t, params: p, rng: rand.New(rand.NewPCG(seed, 0xc1)), begun: time.Now(), healed: make(chan struct{}), over: make(chan struct{})}
	w.check = newChecker(w)
	for range p.workers {
		w.slots = append(w.slots, &slot{slow: 1})
	}
	w.tracef("world", "%+v", p)
	return w
}

// plain draws a world of DiLoCo as most are.
func plain(seed uint64) params {
	r := rand.New(rand.NewPCG(seed, 0xc0))
	ms := func(lo, hi int) time.Duration { return time.Duration(lo+r.IntN(hi-lo)) * time.Millisecond }
	p := params{
		workers: 3 + r.IntN(4), parameters: 1 + r.IntN(600), strategy: "diloco", codec: []string{"fp32", "bf16", "int8"}[r.IntN(3)],
		grace: 2 * time.Second, deadline: 40 * time.Second, join: 15 * time.Second, detection: ms(800, 4000),
		inner: uint64(2 + r.IntN(6)), step: ms(200, 900), relayed: r.IntN(2) == 0, until: ms(20_000, 60_000),
		faults: 1 + r.IntN(8), saveEvery: uint64(1 + r.IntN(3)), tail: 14, rate: 0.15,
		link: sim.Link{Latency: ms(1, 100), Jitter: r.Float64(), Loss: 0.02 * r.Float64(), Bandwidth: 1 << (17 + r.IntN(6))},
	}
	if r.IntN(2) == 0 {
		p.up, p.down = 1<<(16+r.IntN(6)), 1<<(18+r.IntN(6))
	}
	if r.IntN(10) < 3 {
		p.quorum = p.workers
	}
	switch r.IntN(10) {
	case 0:
		p.faults, p.link.Jitter, p.link.Loss = 0, min(p.link.Jitter, 0.3), 0
	case 1, 2:
		p.faults *= 3
	}
	return p
}

// draw makes a random world's parameters: half of them plain, the others with what few runs have.
func draw(seed uint64) params {
	p, r := plain(seed), rand.New(rand.NewPCG(seed, 0xc2))
	switch r.IntN(10) {
	case 0, 1:
		p.strategy, p.inner, p.rate, p.tail = "ddp", 1, 0.1, 25
	case 2:
		p.graceMin = p.grace / 8
	case 3, 4:
		p.cycle, p.graceMin = 2+r.IntN(3), p.grace/time.Duration(1+r.IntN(8))
	case 5:
		p.innerTime, p.inner = time.Duration(p.inner)*p.step, 2*p.inner
	}
	return p.joins(r)
}

// joins draws how joiners are served.
func (p params) joins(r *rand.Rand) params {
	p.moments = r.IntN(3) == 0 && p.strategy != "ddp" // whose moments are part of the state
	if r.IntN(4) == 0 {
		p.upload = 1 << (16 + r.IntN(3))           // a slice of 16 KiB to each joiner within grace
		if r.IntN(6) == 0 && p.strategy != "ddp" { // more than the burst, and results that come faster than rounds pass
			p.parameters, p.codec = 9000+r.IntN(3000), "int8"
			p.upload, p.step = 1<<18, max(p.step, 500*time.Millisecond)
			p.link.Bandwidth = max(p.link.Bandwidth, 1<<20)
			p.up, p.down = 0, 0
		}
	}
	return p
}

func (w *world) codec() codec.Codec {
	c, err := codec.ByName(w.params.codec)
	if err != nil {
		panic(err) // the test's own mistake
	}
	return c
}

// mean is the sum of terms, or what own stands for where there are none.
func (w *world) mean(own []byte, terms []exchange.Term) []float32 {
	if len(terms) == 0 {
		terms = []exchange.Term{{Bytes: own, Share: 1}}
	}
	sum := make([]float32, w.params.parameters)
	for _, term := range terms {
		w.codec().Format().DecodeAdd(sum, term.Bytes, term.Share)
	}
	return sum
}

func (w *world) workerConfig(number int) worker.Config {
	p := w.params
	return worker.Config{
		Number: number, Workers: p.workers, FetchMoments: p.moments, Heartbeat: time.Second, JoinTimeout: p.join,
		Trainer: trainer.Config{Format: w.codec().Format(), StateFormat: w.codec().Format(), Strategy: p.strategy, Rounds: 1 << 20, InnerSteps: p.inner,
			InnerTime: p.innerTime, Options: w.options(), SaveEvery: p.saveEvery, EvalEvery: 1 << 20},
		Gossip: gossip.Config{Codec: w.codec(), Waits: gossip.Waits{MaxLag: p.maxLag, Deadline: p.deadline, Grace: p.grace, GraceMin: p.graceMin}, SlowCycle: p.cycle, Detection: w.net.detection(), Quorum: p.quorum, Seed: 7,
			Serving: gossip.Serving{ReplayRounds: 8, ReplayBytes: 1 << 20, StateUpload: p.upload}},
	}
}

// run is live, and fails the test where something was wrong.
func (w *world) run(faults func()) {
	w.live(faults)
	if why := w.check.failure(); why != "" {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t.Errorf("%s\n%s", why, strings.Join(w.trace, "\n"))
	}
}

// live lets the workers go through the faults, come together, and learn something.
func (w *world) live(faults func()) {
	defer w.net.close()
	for i := range w.slots {
		w.keeper.Go(func() { w.keep(i) })
	}
	faults()
	close(w.healed)
	w.net.calm()
	w.tracef("world", "the faults have ended")
	w.mu.Lock()
	for _, s := range w.slots {
		s.slow = 1
	}
	w.mu.Unlock()
	ctx := context.Background()
	w.settle(ctx)
	patience := 4*w.params.deadline + time.Duration(w.params.tail+4)*(time.Duration(w.params.inner)*w.params.step+w.params.grace)
	for end := time.Now().Add(patience); !w.check.done() && w.check.failure() == ""; _ = pause(ctx, time.Second) {
		if time.Now().After(end) {
			w.check.fail("the faults ended %v ago, and the workers are not together: %s", patience, w.check.where())
		}
	}
	close(w.over)
	for i := range w.slots {
		if p := w.process(i); p != nil {
			p.quit()
		}
	}
	ended := make(chan struct{})
	go func() { w.keeper.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(4 * w.params.deadline):
		w.check.fail("workers do not end")
		for i := range w.slots {
			if p := w.process(i); p != nil {
				w.kill(p, 0)
			}
		}
		<-ended
	}
}

// settle waits until every worker that was started again has joined, and until the others have
// seen that what was wrong has ended. From two rounds later on all are together.
func (w *world) settle(ctx context.Context) {
	begun := func() bool {
		for i := range w.slots {
			if p := w.process(i); p == nil || !p.begun.Load() {
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(3 * w.params.join); !begun() && time.Now().Before(end); _ = pause(ctx, 100*time.Millisecond) {
	}
	if !begun() {
		w.check.fail("not all workers have come into the run %v after the faults ended", 3*w.params.join)
	}
	_ = pause(ctx, w.params.detection+2*w.params.grace)
	w.check.settle()
}

// keep runs a worker's processes, one after another, until the run is over.
func (w *world) keep(i int) {
	for {
		p := w.born(i)
		m, err := w.net.start(p)
		if err == nil {
			w.tracef(p.name(), "starts")
			err = p.live(m)
		}
		w.died(p, err)
		if w.isOver() {
			return
		}
		w.mu.Lock()
		hold := time.Until(w.slots[i].hold)
		w.mu.Unlock()
		t := time.NewTimer(max(hold, 500*time.Millisecond))
		select {
		case <-t.C:
		case <-w.sooner(hold):
		case <-w.over:
		}
		t.Stop()
		if w.isOver() {
			return
		}
	}
}

// sooner ends a hold when the faults end; nothing else has reason to hurry.
func (w *world) sooner(hold time.Duration) <-chan struct{} {
	if hold > 0 {
		return w.healed
	}
	return nil
}

func (w *world) isOver() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

func (w *world) born(i int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.slots[i]
	p := &process{w: w, index: i, life: s.lives, ended: make(chan struct{}), skew: s.skew}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.stop, p.quit = context.WithCancel(p.ctx)
	s.lives++
	s.now = p
	return p
}

// died notes how a process ended, and takes it off the network.
func (w *world) died(p *process, err error) {
	killed := context.Cause(p.ctx) != nil
	w.mu.Lock()
	w.slots[p.index].now = nil
	w.mu.Unlock()
	w.tracef(p.name(), "ends: %v", err)
	switch {
	case killed:
		w.net.kill(p) // again, because it may have been about to come up
	case errors.Is(err, errQuit):
		w.net.leave(p)
	default:
		w.net.kill(p)
		w.check.gaveUp(p, err)
	}
	p.cancel(errQuit)
	p.quit()
	p.shut()
	w.check.ends(p)
	close(p.ended)
}

func (w *world) process(i int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots[i].now
}

// kill ends a process as kill -9 does, and keeps its worker down for a while.
func (w *world) kill(p *process, down time.Duration) {
	w.tracef(p.name(), "is killed for %v", down)
	w.check.down(p.index, down)
	w.mu.Lock()
	w.slots[p.index].hold = time.Now().Add(down)
	w.mu.Unlock()
	p.cancel(errKilled)
	w.net.kill(p)
	<-p.ended
}

func (w *world) wipe(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slots[i].disk, w.slots[i].work = nil, work{}
}

func (w *world) disk(i int) *trainer.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots[i].disk
}

// work is what the checker has noted with a worker's disk.
func (w *world) work(i int) work {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots[i].work
}

func (w *world) store(i int, s *trainer.Snapshot, done work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slots[i].disk, w.slots[i].work = s, done
}

func (w *world) slowness(i int) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slots[i].slow
}

func (w *world) tracef(who, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const linesMax = 400
	line := fmt.Sprintf("%10.3f  %-6s ", time.Since(w.begun).Seconds(), who) + fmt.Sprintf(format, args...)
	if w.trace = append(w.trace, line); len(w.trace) > linesMax {
		w.trace = append(w.trace[:1:1], w.trace[len(w.trace)-linesMax/2:]...)
	}
}
