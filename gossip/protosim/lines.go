package protosim

import (
	"slices"
	"time"

	"loco/gossip/protocol"
)

// window is how many data frames are on their way over a link at a time: further ones wait at
// the sender, as behind the window of a stream.
const window = 4

// repeated marks a frame that comes again and is in no window.
const repeated = -1

// lines is what a link has of the lines of its two ends. Each machine has one line up and one
// down, which carry one data frame at a time and serve the links in turn.
type lines struct {
	writes  []write
	turn    any           // whose frame was taken last
	since   time.Duration // when the link last took a frame, or found the first one waiting
	watched bool
	stream  int // of data: grows where what is on its way counts no more
	flying  int // frames of the stream between the two processes
	inbox   []arrival
}

// write is a data frame that waits for its sender's line.
type write struct {
	f     frame
	owner any           // the attempt or exchange, which may end before
	taken func(ok bool) // false: not within grace; nil: nobody asks
}

// arrival is a data frame that waits for its receiver's line.
type arrival struct {
	f     frame
	epoch int
}

// write hands a data frame to the link, which takes it when its turn has come.
func (l *link) write(f frame, owner any, taken func(ok bool)) {
	w, src := l.w, l.w.nodes[l.from]
	w.report.Messages++
	if sc := w.opts.scale; sc != nil {
		f.to = w.nodes[l.to].incarnation
		sc.count(f)
		free := l.ship(f)
		src.later(free-w.now, func() { write{f, owner, taken}.end(true) })
		return
	}
	l.writes = append(l.writes, write{f, owner, taken})
	if len(l.writes) == 1 {
		l.since = w.now
		l.missed()
		if !l.watched {
			l.watched = true
			l.watch(w.params.grace)
		}
	}
	src.transmit()
}

// end says what became of a write.
func (x write) end(ok bool) {
	if x.taken != nil {
		x.taken(ok)
	}
}

// watch refuses what waits when the link has taken nothing for grace.
func (l *link) watch(in time.Duration) {
	l.w.nodes[l.from].later(in, func() {
		left := l.since + l.w.params.grace - l.w.now
		switch {
		case len(l.writes) == 0:
			l.watched = false
			return
		case left <= 0:
			l.refuse()
			left = l.w.params.grace
		}
		l.watch(left)
	})
}

// missed refuses what waits for a process that is not there.
func (l *link) missed() {
	gone := func() bool { return len(l.writes) > 0 && l.w.nodes[l.to].proc == nil }
	if gone() {
		l.w.nodes[l.from].later(l.w.params.latency, func() {
			if gone() {
				l.refuse()
				l.missed()
			}
		})
	}
}

// refuse fails the writer whose turn it is. A frame that is cut short would garble the next, so
// the stream ends.
func (l *link) refuse() {
	x := l.writes[0]
	l.cancel(x.owner)
	l.since = l.w.now
	l.snap(data)
	x.end(false)
}

// cancel takes back what has not been taken of an attempt or exchange.
func (l *link) cancel(owner any) {
	l.writes = slices.DeleteFunc(l.writes, func(x write) bool { return x.owner == owner })
}

// cancel takes back what has not been taken of an attempt or exchange that is over.
func (v *node) cancel(owner any) {
	for _, l := range v.w.links[v.index] {
		l.cancel(owner)
	}
}

// quit takes back what has not been taken of a result, if there is any.
func (v *node) quit(s protocol.Serve) bool {
	l := v.w.links[v.index][v.w.node(s.To)]
	n := len(l.writes)
	l.cancel(s)
	return len(l.writes) < n
}

// renew begins to count the window anew: the other end is another process, or the stream is.
func (l *link) renew() {
	l.stream++
	l.flying = 0
	l.w.nodes[l.from].transmit()
}

// landed gives a frame's place in the window to the next.
func (l *link) landed(f frame) {
	if f.stream == l.stream {
		l.flying--
		l.w.nodes[l.from].transmit()
	}
}

// next takes the frame of another writer than the last, if there is one.
func (l *link) next() write {
	i := max(0, slices.IndexFunc(l.writes, func(x write) bool { return x.owner != l.turn }))
	x := l.writes[i]
	l.writes = slices.Delete(l.writes, i, i+1)
	l.turn, l.since = x.owner, l.w.now
	return x
}

// transmit puts the next frame on the line up, if that is free.
func (v *node) transmit() {
	w := v.w
	if v.sending || v.paused || v.proc == nil {
		return
	}
	l := inTurn(w.links[v.index], &v.turnUp, func(l *link) bool {
		return len(l.writes) > 0 && l.flying < window && w.nodes[l.to].proc != nil
	})
	if l == nil {
		return
	}
	x, epoch, incarnation := l.next(), l.epoch[data], v.incarnation
	x.f.to, x.f.stream = w.nodes[l.to].incarnation, l.stream
	v.sending = true
	l.flying++
	w.in(v.up, func() {
		if v.incarnation != incarnation {
			return
		}
		v.sending = false
		if l.epoch[data] == epoch {
			l.launch(data, x.f)
		}
		v.exec(func() { x.end(true) })
		v.transmit()
	})
}

// drain takes the next frame off the line down, if that is free.
func (v *node) drain() {
	if v.taking {
		return
	}
	l := inTurn(v.incoming, &v.turnDown, func(l *link) bool { return len(l.inbox) > 0 })
	if l == nil {
		return
	}
	v.taking = true
	v.w.in(v.down, func() {
		v.taking = false
		x := l.inbox[0]
		l.inbox = l.inbox[1:]
		l.deliver(data, x.f, x.epoch)
		v.drain()
	})
}

// inTurn finds the next link that has something to carry.
func inTurn(links []*link, turn *int, has func(*link) bool) *link {
	for k := range links {
		i := (*turn + 1 + k) % len(links)
		if has(links[i]) {
			*turn = i
			return links[i]
		}
	}
	return nil
}

// hangUp ends all streams of a process that has crashed.
func (v *node) hangUp() {
	v.sending = false
	for i := range v.w.nodes {
		in, out := v.incoming[i], v.w.links[v.index][i]
		in.held = [streams][]frame{}
		in.renew()
		in.missed()
		out.writes, out.watched = nil, false
		out.renew()
	}
}
