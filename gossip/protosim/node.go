package protosim

import (
	"fmt"
	"time"

	"loco/mesh"
)

// process is a worker process on a node.
type process interface {
	take(from, stream int, f frame) // a frame off a stream
	view()                          // the view has changed
	tick()
	stall(d time.Duration) // it was paused
	holds() *state         // that it would serve to a joiner
	at() uint64            // the round it is in
	corrupt()              // damage its state
}

// node is a machine: what outlives a process.
type node struct {
	w           *world
	index       int
	id          mesh.ID
	offset      time.Duration // of its clock
	speed       float64       // of its inner steps
	up, down    time.Duration // that a data frame takes on its lines
	sending     bool          // a frame is on the line up
	taking      bool          // and on the line down
	turnUp      int           // the link that had it last
	turnDown    int
	incoming    []*link
	free        [2]time.Duration // scale: when its lines are, up and down
	incarnation int
	proc        process
	paused      bool
	pausedAt    time.Duration
	queued      []func() // that the process will do once it runs again
	disk        *state
	flight      *savedFlight // beside it; nil: none
	flip        bool         // the next result that it receives is damaged

	seen  []mesh.Member // its view, in the order of the contract
	reach []bool        // the nodes that reach it now
	epoch []int         // of reach
	ready bool          // its status
	done  uint64        // its status: rounds finished
	news  int           // changes of the view so far
}

func newNode(w *world, i int) *node {
	n := w.params.workers
	v := &node{w: w, index: i, id: mesh.ID(fmt.Sprintf("w%d", i)), seen: make([]mesh.Member, n), reach: make([]bool, n), epoch: make([]int, n)}
	v.offset = time.Duration(w.rng.Int64N(int64(2000 * time.Hour)))
	v.speed = 1 + 0.15*w.rng.Float64()
	v.up, v.down = w.drawLine(), w.drawLine()
	return v
}

// clock is the node's own.
func (v *node) clock() time.Time { return time.Unix(0, int64(v.w.now+v.offset)) }

// boot starts a process with a state, or without one, which it must fetch. fresh says
// that the run begins.
func (v *node) boot(s *state, fresh bool) {
	v.incarnation++
	v.queued, v.paused = nil, false
	v.w.tracef(string(v.id), "boots, incarnation %d, state %v", v.incarnation, s)
	if !fresh {
		v.forget()
	}
	if v.w.pairs != nil {
		v.proc = newPairProc(v, s, fresh)
	} else {
		v.proc = newRoundProc(v, s, fresh)
	}
	for _, l := range v.incoming {
		l.w.nodes[l.from].transmit()
	}
	v.ticks(v.incarnation)
}

// forget empties the view: a new process knows nobody until it hears of them.
func (v *node) forget() {
	for _, p := range v.w.nodes {
		v.seen[p.index] = mesh.Member{ID: p.id, State: mesh.Left, Status: mesh.Status{Worker: p.index}}
		v.later(v.w.jitter(v.w.params.latency, v.w.params.sigma), func() { v.observe(p.index) })
	}
}

// ticks drives the process's ticker.
func (v *node) ticks(incarnation int) {
	v.w.in(min(v.w.params.grace, v.w.params.detection)/4, func() {
		if v.incarnation != incarnation || v.proc == nil {
			return
		}
		if !v.paused { // a ticker does not queue
			v.proc.tick()
		}
		v.ticks(incarnation)
	})
}

// later runs do in this process after d, or once it runs again.
func (v *node) later(d time.Duration, do func()) {
	incarnation := v.incarnation
	v.w.in(d, func() {
		if v.incarnation != incarnation || v.proc == nil {
			return
		}
		v.exec(do)
	})
}

func (v *node) exec(do func()) {
	if v.paused {
		v.queued = append(v.queued, do)
		return
	}
	do()
}

// crash ends the process.
func (v *node) crash() {
	v.w.tracef(string(v.id), "crashes")
	v.w.report.Crashes++
	v.proc, v.paused, v.queued, v.ready = nil, false, nil, false
	v.incarnation++
	v.hangUp()
	v.w.lookAround()
}

// announce tells the others this node's status.
func (v *node) announce(ready bool, done uint64) {
	v.ready, v.done = ready, done
	for _, o := range v.w.nodes {
		if o == v {
			o.observe(v.index)
			continue
		}
		if o.reach[v.index] {
			v.w.in(v.w.jitter(v.w.params.latency, v.w.params.sigma), func() { o.exec(func() { o.observe(v.index) }) })
		}
	}
}

// lookAround schedules what follows from a change of which nodes reach which.
func (w *world) lookAround() {
	for _, o := range w.nodes {
		for _, p := range w.nodes {
			i := p.index
			now := o == p || p.proc != nil && !p.paused && w.links[i][o.index].cuts == 0
			if now == o.reach[i] {
				continue
			}
			o.reach[i] = now
			o.epoch[i]++
			epoch := o.epoch[i]
			if now {
				w.in(w.jitter(w.params.latency, w.params.sigma), func() { o.exec(func() { o.observe(i) }) })
				continue
			}
			for _, as := range []struct {
				after time.Duration
				state mesh.State
			}{{w.params.detection / 2, mesh.Suspect}, {w.params.detection, mesh.Dead}} {
				w.in(as.after, func() {
					if o.epoch[i] == epoch {
						o.exec(func() { o.see(i, as.state) })
					}
				})
			}
		}
	}
}

// observe takes in the status of a peer that reaches this node.
func (v *node) observe(i int) {
	p := v.w.nodes[i]
	if !v.reach[i] || p.proc == nil {
		return
	}
	m := v.seen[i]
	m.State, m.Ready, m.Round = mesh.Joining, p.ready, p.done
	if p.ready {
		m.State = mesh.Alive
	}
	v.set(i, m)
}

func (v *node) see(i int, s mesh.State) {
	m := v.seen[i]
	m.State = s
	v.set(i, m)
}

func (v *node) set(i int, m mesh.Member) {
	was := v.seen[i]
	if was.State == m.State && was.Ready == m.Ready && was.Round == m.Round {
		return
	}
	v.seen[i] = m
	v.news++
	if v.w.opts.scale != nil && was.State == m.State && was.Ready == m.Ready {
		return // as in the contract of the mesh: a round is no change
	}
	if v.proc != nil {
		v.w.tracef(string(v.id), "sees w%d %v, ready %v", i, m.State, m.Ready)
		v.proc.view()
	}
}

// members is the view: a state machine copies what it keeps of it.
func (v *node) members() []mesh.Member { return v.seen }
