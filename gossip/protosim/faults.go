package protosim

import (
	"time"

	"loco/mesh"
)

// outage is a time in which a node, or a link, did not work. It justifies that two sides
// decide a round each.
type outage struct {
	from, to time.Duration
	a, b     int // the link from a to b; b −1: node a
}

// forever is the end of an outage that has not ended.
const forever = time.Duration(1<<62 - 1)

// begin notes an outage, and returns what ends it.
func (w *world) begin(a, b int) (end func()) {
	i := len(w.faults)
	w.faults = append(w.faults, outage{w.now, forever, a, b})
	return func() { w.faults[i].to = w.now }
}

// fault makes one thing go wrong.
func (w *world) fault() {
	if w.healed {
		return
	}
	n := w.params.workers
	i := w.rng.IntN(n)
	v := w.nodes[i]
	lasts := time.Duration(w.rng.Int64N(int64(15*time.Second))) + 200*time.Millisecond
	if w.params.flips {
		// Either states or results: a damaged state ends attempts, and the worker that holds the
		// result of such an attempt, damaged, is believed.
		if w.opts.Seed%2 == 0 && v.proc != nil {
			v.proc.corrupt()
		} else {
			v.flip = true
		}
		return
	}
	switch w.rng.IntN(9) {
	case 0, 1: // two sides
		side := make([]bool, n)
		for k := range side {
			side[k] = w.rng.IntN(2) == 0
		}
		w.cut(lasts, func(a, b int) bool { return side[a] != side[b] })
	case 2: // one link, or one direction of it
		j := w.rng.IntN(n)
		both := w.rng.IntN(2) == 0
		w.cut(lasts, func(a, b int) bool { return a == i && b == j || both && a == j && b == i })
	case 3: // one node, or one direction of all its links
		both := w.rng.IntN(2) == 0
		w.cut(lasts, func(a, b int) bool { return a == i || both && b == i })
	case 4, 5:
		w.pause(v, lasts)
	case 6:
		w.stick(i, w.rng.IntN(n))
	default:
		w.kill(v, lasts)
	}
}

// strike hits where it hurts most, now and then: it cuts off a node that has decided
// before it has told anybody, and restarts one that knows only its own promise.
func (w *world) strike(d *decided) {
	p := w.params
	rare := 50
	if p.quorum > 0 && len(d.workers) < p.workers {
		rare = 12 // what this one has decided few know
	}
	if w.healed || p.calm || p.flips || w.now > p.until || w.rng.IntN(rare) > 0 {
		return
	}
	w.cut(time.Duration(w.rng.Int64N(int64(10*time.Second)))+time.Second, func(a, b int) bool { return a == d.node || b == d.node })
	if i := d.workers[w.rng.IntN(len(d.workers))]; i != d.node {
		w.in(0, func() { w.kill(w.nodes[i], time.Duration(w.rng.Int64N(int64(2*time.Second)))) })
	}
}

// ambush stops or restarts a process, now and then, that has just said that it is ready or
// entered a group: its former word is still under way. Another one may stand still meanwhile
// and come back to what the former process said.
func (w *world) ambush(v *node) {
	p := w.params
	if w.healed || p.calm || p.flips || w.now > p.until || w.rng.IntN(40) > 0 {
		return
	}
	lasts, stop := time.Duration(w.rng.Int64N(int64(3*time.Second))), w.rng.IntN(2) == 0
	if o := w.nodes[w.rng.IntN(p.workers)]; !stop && o != v {
		w.pause(o, lasts+p.inner+time.Duration(w.rng.Int64N(int64(p.inner))))
	}
	w.in(w.jitter(p.latency, 1), func() {
		if stop {
			w.pause(v, lasts)
		} else {
			w.kill(v, lasts)
		}
	})
}

func (w *world) cut(lasts time.Duration, hit func(a, b int) bool) {
	var ends []func()
	var cut []*link
	for a := range w.nodes {
		for b := range w.nodes {
			if a != b && hit(a, b) {
				l := w.links[a][b]
				l.cuts++
				cut = append(cut, l)
				ends = append(ends, w.begin(a, b))
				w.tracef("fault", "cuts w%d -> w%d for %v", a, b, lasts)
			}
		}
	}
	w.lookAround()
	w.undo(lasts, func() {
		for i, l := range cut {
			l.cuts--
			ends[i]()
			l.resume()
		}
		w.tracef("fault", "%d links are back", len(cut))
		w.lookAround()
	})
}

// stick lets no data through between two nodes for a while: they blame each other, and
// reach each other all the time.
func (w *world) stick(i, j int) {
	until := w.now + time.Duration(w.rng.Int64N(int64(5*w.params.grace/2)))
	w.tracef("fault", "data between w%d and w%d stick until %v", i, j, until)
	w.links[i][j].stuck, w.links[j][i].stuck = until, until
}

// undo ends a fault after a while, or when the world heals.
func (w *world) undo(lasts time.Duration, end func()) {
	done := false
	once := func() {
		if !done {
			done = true
			end()
		}
	}
	w.in(lasts, once)
	w.repairs = append(w.repairs, once)
}

func (w *world) pause(v *node, lasts time.Duration) {
	if v.paused || v.proc == nil {
		return
	}
	w.tracef("fault", "stops %s for %v", v.id, lasts)
	v.paused, v.pausedAt = true, w.now
	incarnation, end := v.incarnation, w.begin(v.index, -1)
	w.lookAround()
	blind := w.rng.IntN(2) == 0
	w.undo(lasts, func() {
		end()
		if v.incarnation != incarnation || !v.paused {
			return
		}
		w.tracef("fault", "lets %s go on", v.id)
		v.resume(blind)
	})
}

// resume lets a process go on. A blind one finds the others silent first, by its own
// clock, and only then what they said.
func (v *node) resume(blind bool) {
	w := v.w
	v.paused = false
	v.proc.stall(w.now - v.pausedAt)
	if blind {
		for _, p := range w.nodes {
			if p != v {
				v.see(p.index, mesh.Dead)
				w.in(w.jitter(w.params.latency, w.params.sigma), func() { v.exec(func() { v.observe(p.index) }) })
			}
		}
	}
	queued := v.queued
	v.queued = nil
	for _, do := range queued {
		incarnation := v.incarnation
		w.in(0, func() {
			if v.incarnation == incarnation && v.proc != nil {
				v.exec(do)
			}
		})
	}
	for i := range w.nodes {
		w.links[i][v.index].resume()
	}
	v.transmit()
	w.lookAround()
}

// kill ends a process, and perhaps starts it again.
func (w *world) kill(v *node, lasts time.Duration) {
	if v.proc == nil {
		return
	}
	others := 0
	for _, o := range w.nodes {
		if o != v && o.proc != nil && o.proc.holds() != nil {
			others++
		}
	}
	if others == 0 {
		return // the run's state would be gone
	}
	end := w.begin(v.index, -1)
	v.crash()
	if w.params.quorum == 0 && w.rng.IntN(3) == 0 {
		return // for good
	}
	disk := w.rng.IntN(3) > 0
	if !disk {
		v.disk = nil
	}
	w.undo(lasts, func() {
		end()
		v.boot(v.disk, false)
		w.lookAround()
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.tracef("fault", "all faults end")
	w.healed = true
	for _, r := range w.repairs {
		r()
	}
	settled := w.params.detection + 4*w.params.latency + w.params.grace
	w.in(settled, func() {
		if w.pairs != nil {
			w.pairs.settled()
			return
		}
		w.check.settled()
	})
}
