package cpu

import (
	"sync"
	"sync/atomic"
)

// A job is one operation cut into tasks that may run in any order and at the same
// time. Devices keep one value of each job type and hand out its address, so that
// starting an operation allocates nothing.
type job interface {
	// do runs one task. worker is below the pool's width and is held by one task at
	// a time: it names scratch memory.
	do(worker, task int)
}

// A pool runs jobs on a fixed set of goroutines and on the caller's.
//
// The caller never waits for a goroutine that has not begun: it works through the
// tasks itself, and waits only for those that joined. Where more processes than
// cores train at once, a worker that the system does not schedule costs nothing.
type pool struct {
	epoch atomic.Uint64 // rises with every job: what idle workers spin on
	next  atomic.Int64  // next task of the current job

	mu     sync.Mutex
	wake   sync.Cond // workers wait here for a job
	idle   sync.Cond // run waits here for the workers that joined
	job    job
	tasks  int
	open   bool // workers may join the current job
	active atomic.Int64
	asleep int
	closed bool
	done   sync.WaitGroup
}

// spins is how often a worker looks for the next job before it parks, and the caller
// for the end of this one: a few hundred microseconds, longer than what lies between
// the operations of a step and than most waits for another's last task. To wake a
// parked one takes ten to fifty. Where processes share the cores each is given as
// many threads as it has of them.
const spins = 1 << 11

// newPool starts width−1 goroutines; the caller of run is the first worker.
func newPool(width int) *pool {
	p := &pool{}
	p.wake.L, p.idle.L = &p.mu, &p.mu
	for w := 1; w < width; w++ {
		p.done.Add(1)
		go p.work(w)
	}
	return p
}

// run runs all tasks of j and returns when the last has ended.
func (p *pool) run(j job, tasks int) {
	p.mu.Lock()
	p.job, p.tasks, p.open = j, tasks, true
	p.next.Store(0)
	p.epoch.Add(1)
	for range min(p.asleep, tasks-1) {
		p.wake.Signal()
	}
	p.mu.Unlock()

	p.drain(j, 0, tasks)

	p.mu.Lock()
	p.open, p.job = false, nil
	p.mu.Unlock()
	for range spins {
		if p.active.Load() == 0 {
			return
		}
		rest()
	}
	p.mu.Lock()
	for p.active.Load() != 0 {
		p.idle.Wait()
	}
	p.mu.Unlock()
}

// drain runs tasks until none is left.
func (p *pool) drain(j job, worker, tasks int) {
	for {
		t := int(p.next.Add(1)) - 1
		if t >= tasks {
			return
		}
		j.do(worker, t)
	}
}

// work is the life of one worker.
func (p *pool) work(worker int) {
	defer p.done.Done()
	seen := uint64(0)
	for {
		for i := 0; i < spins && p.epoch.Load() == seen; i++ {
			rest()
		}
		p.mu.Lock()
		for p.epoch.Load() == seen && !p.closed {
			p.asleep++
			p.wake.Wait()
			p.asleep--
		}
		seen = p.epoch.Load()
		if p.closed {
			p.mu.Unlock()
			return
		}
		j, tasks, open := p.job, p.tasks, p.open
		if open {
			p.active.Add(1)
		}
		p.mu.Unlock()
		if !open {
			continue
		}
		p.drain(j, worker, tasks)
		if p.active.Add(-1) == 0 {
			// The lock orders this after run's look at active, so that the signal
			// cannot fall between its look and its wait.
			p.mu.Lock()
			p.idle.Signal()
			p.mu.Unlock()
		}
	}
}

// close ends the goroutines and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.wake.Broadcast()
	p.mu.Unlock()
	p.done.Wait()
}
