package protosim

import (
	"time"

	"loco/gossip/protocol"
)

// frame is what crosses a link: a control message, or data with what they stand for.
type frame struct {
	env     protocol.Envelope
	msg     protocol.Message
	header  protocol.Header
	piece   *piece
	request bool   // for the receiver's state
	state   *state // the answer
	place   time.Duration
	past    []mark
	to      int // incarnation of the receiver that the stream was opened to
	stream  int // of data; see lines
}

// The streams of a link: control and data overtake each other.
const (
	control = iota
	data
	streams
)

// link carries frames one way. Control messages are small and only fly; data frames wait for
// the lines of both ends, see lines.go.
type link struct {
	w        *world
	from, to int
	cuts     int                    // outages that cut it
	stuck    time.Duration          // data do not arrive before
	last     [streams]time.Duration // arrival of the newest frame
	held     [streams][]frame       // behind a cut
	epoch    [streams]int           // streams that broke
	lines
}

// send puts a control message on its way.
func (l *link) send(f frame) {
	w := l.w
	w.report.Messages++
	f.to = w.nodes[l.to].incarnation
	if sc := w.opts.scale; sc != nil {
		sc.count(f)
	}
	l.launch(control, f)
}

// launch lets a frame leave its sender.
func (l *link) launch(s int, f frame) {
	if l.blocked() {
		l.hold(s, f)
		return
	}
	l.fly(s, f)
}

// hold keeps a frame back behind a cut, or for a paused process.
func (l *link) hold(s int, f frame) {
	l.held[s] = append(l.held[s], f)
	if l.cuts > 0 && len(l.held[s]) == 1 {
		l.mayBreak(s)
	}
}

// fly brings a frame to the other end.
func (l *link) fly(s int, f frame) {
	w := l.w
	at := w.now + w.jitter(w.params.latency, w.params.sigma)
	for w.rng.Float64() < w.params.loss && !w.healed {
		at += 2*w.params.latency + 200*time.Millisecond // retransmitted
	}
	if s == data {
		at = max(at, l.stuck)
	}
	at = max(at, l.last[s])
	l.last[s] = at
	if w.pairs != nil && at-w.now > w.params.grace { // as good as cut
		w.faults = append(w.faults, outage{w.now, at, l.from, l.to})
	}
	epoch := l.epoch[s]
	w.at(at, func() { l.arrive(s, f, epoch) })
	if w.rng.Float64() < w.params.repeat && !w.healed { // written again after the stream broke
		again := f
		again.stream = repeated
		w.at(at+w.jitter(w.params.latency, 1), func() { l.arrive(s, again, epoch) })
	}
}

// arrive brings a frame to the machine at the other end.
func (l *link) arrive(s int, f frame, epoch int) {
	if dst := l.w.nodes[l.to]; s == data && dst.down > 0 {
		l.inbox = append(l.inbox, arrival{f, epoch})
		dst.drain()
		return
	}
	l.deliver(s, f, epoch)
}

// deliver gives a frame to the process at the other end.
func (l *link) deliver(s int, f frame, epoch int) {
	dst := l.w.nodes[l.to]
	switch {
	case epoch != l.epoch[s], f.to != dst.incarnation, dst.proc == nil:
		return // the stream is no more
	case l.blocked(), len(l.held[s]) > 0:
		l.hold(s, f)
		return
	}
	if s == data {
		l.landed(f)
	}
	dst.proc.take(l.from, s, f)
}

// mayBreak breaks the stream, with all that it holds, if its cut lasts.
func (l *link) mayBreak(s int) {
	w, epoch := l.w, l.epoch[s]
	w.in(w.params.grace+time.Duration(w.rng.Int64N(int64(8*time.Second))), func() {
		if l.epoch[s] == epoch && l.cuts > 0 {
			l.snap(s)
		}
	})
}

// snap breaks a stream, with all that is on its way.
func (l *link) snap(s int) {
	l.epoch[s]++
	l.held[s] = nil
	if s == data {
		l.renew()
	}
}

// resume lets what was held go on, in order.
func (l *link) resume() {
	if l.cuts > 0 || l.w.nodes[l.to].paused {
		return
	}
	for s := range streams {
		held := l.held[s]
		l.held[s] = nil
		for _, f := range held {
			l.fly(s, f)
		}
	}
}

// blocked says that nothing written now is taken soon.
func (l *link) blocked() bool { return l.cuts > 0 || l.w.nodes[l.to].paused }
