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
	to      int // incarnation of the receiver that the stream was opened to
}

// The streams of a link: control and data overtake each other.
const (
	control = iota
	data
	streams
)

// link carries frames one way.
type link struct {
	w        *world
	from, to int
	cuts     int                    // outages that cut it
	stuck    time.Duration          // data do not arrive before
	last     [streams]time.Duration // arrival of the newest frame
	held     [streams][]frame       // behind a cut
	epoch    [streams]int           // streams that broke
}

// send puts a frame on its way. free is when the sender may write the next.
func (l *link) send(s int, f frame) (free time.Duration) {
	w := l.w
	w.report.Messages++
	src, dst := w.nodes[l.from], w.nodes[l.to]
	f.to = dst.incarnation
	if sc := w.opts.scale; sc != nil {
		sc.count(f)
		if s == data {
			return l.ship(f)
		}
	}
	start := w.now
	if s == data {
		start = max(w.now, src.up, dst.down)
		src.up, dst.down = start+w.params.chunkTime, start+w.params.chunkTime
		start += w.params.chunkTime
	}
	if l.cuts > 0 || dst.paused {
		l.held[s] = append(l.held[s], f)
		if l.cuts > 0 && len(l.held[s]) == 1 {
			l.mayBreak(s)
		}
		return start
	}
	l.fly(s, f, start)
	return start
}

// fly brings a frame to the other end.
func (l *link) fly(s int, f frame, start time.Duration) {
	w := l.w
	at := start + w.jitter(w.params.latency, w.params.sigma)
	for w.rng.Float64() < w.params.loss && !w.healed {
		at += 2*w.params.latency + 200*time.Millisecond // retransmitted
	}
	if s == data {
		at = max(at, l.stuck)
	}
	at = max(at, l.last[s])
	l.last[s] = at
	if w.pairs != nil && at-start > w.params.grace { // as good as cut
		w.faults = append(w.faults, outage{w.now, at, l.from, l.to})
	}
	epoch := l.epoch[s]
	w.at(at, func() { l.arrive(s, f, epoch) })
	if w.rng.Float64() < w.params.repeat && !w.healed { // written again after the stream broke
		w.at(at+w.jitter(w.params.latency, 1), func() { l.arrive(s, f, epoch) })
	}
}

func (l *link) arrive(s int, f frame, epoch int) {
	dst := l.w.nodes[l.to]
	switch {
	case epoch != l.epoch[s], f.to != dst.incarnation, dst.proc == nil:
		return // the stream is no more
	case l.cuts > 0, dst.paused, len(l.held[s]) > 0:
		l.held[s] = append(l.held[s], f)
		if l.cuts > 0 && len(l.held[s]) == 1 {
			l.mayBreak(s)
		}
		return
	}
	dst.proc.take(l.from, s, f)
}

// mayBreak breaks the stream, with all that it holds, if its cut lasts.
func (l *link) mayBreak(s int) {
	w, epoch := l.w, l.epoch[s]
	w.in(w.params.grace+time.Duration(w.rng.Int64N(int64(8*time.Second))), func() {
		if l.epoch[s] == epoch && l.cuts > 0 {
			l.epoch[s]++
			l.held[s] = nil
		}
	})
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
			l.fly(s, f, l.w.now)
		}
	}
}

// blocked says that nothing written now is taken soon.
func (l *link) blocked() bool { return l.cuts > 0 || l.w.nodes[l.to].paused }
