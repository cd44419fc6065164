package protosim

import (
	"cmp"
	"slices"
	"time"

	"loco/gossip/protocol"
	"loco/mesh"
)

// proc is what the worker processes of both exchanges share: the state and how it is fetched,
// the inner steps, and the data frames that wait for what they are for.
type proc struct {
	self    worker
	v       *node
	state   *state        // nil: it must fetch one
	inner   time.Duration // when the inner steps end
	began   time.Duration // of the phase
	trains  int           // phases of inner steps so far
	acting  bool
	pending [][]waiting // data frames of what has yet to begin, by sender
	asked   int         // fetches so far
	source  int         // whose answer it waits for, or waited for; -1: nobody's
	answer  func(*state, time.Duration)
	saved   uint64
	book
}

// worker is what differs between them.
type worker interface {
	process
	train(left time.Duration)                                                // runs the inner steps; left is what remains of them, 0: all
	precedes(s, own *state) bool                                             // it takes over s, and has own
	prefers() int                                                            // whom it asks for a state first; -1: nobody
	restore()                                                                // a joiner goes on with what its disk has beside the state
	expect(to int, s *state)                                                 // a joiner goes on with s
	receive(from int, f frame)                                               // a control message
	plane(from int, h protocol.Header) (accept func(frame) error, soon bool) // that a data frame is for; nil: none, or soon
	blame(from int, why string)                                              // for a data frame
}

// waiting is a data frame that waits until a time.
type waiting struct {
	f     frame
	until time.Duration
}

func newProc(v *node, self worker) proc {
	return proc{self: self, v: v, pending: make([][]waiting, len(v.w.nodes)), source: -1}
}

// enter gives the process the state that the run begins with, or has it join.
func (p *proc) enter(s *state, fresh bool) {
	if fresh {
		p.state, p.v.ready = s, true
		p.open(s)
		return
	}
	p.v.proc = p.self
	p.v.announce(false, 0)
	p.v.later(0, func() { p.join(s, 10*time.Second) })
}

func (p *proc) holds() *state {
	if p.v.ready {
		return p.state
	}
	return nil
}

func (p *proc) at() uint64 {
	if p.state == nil {
		return 0
	}
	return p.state.round
}

// join fetches the run's state; a process that has one of its own goes on with that when
// nobody answers in time.
func (p *proc) join(own *state, patience time.Duration) {
	w, began := p.v.w, p.v.w.now
	p.fetch(func(s *state, place time.Duration) {
		switch {
		case s != nil && (own == nil || p.self.precedes(s, own)):
			p.state = s
			p.follow(mark{}, s, p.theirs)
		case own != nil && (s != nil || w.now-began >= patience):
			p.state, place = own, 0
			p.open(own)
		default:
			p.v.later(time.Second, func() { p.join(own, patience-(w.now-began)-time.Second) })
			return
		}
		w.tracef(string(p.v.id), "joins with %v", p.state)
		p.self.restore()
		p.v.announce(true, p.state.round)
		p.self.train(place)
	})
}

// takeOver goes on with another's state.
func (p *proc) takeOver(s *state, place time.Duration) {
	p.state = s
	p.v.w.tracef(string(p.v.id), "takes over %v", s)
	p.v.announce(true, s.round)
	p.self.train(place)
}

// phase begins a phase of inner steps, and returns how long it is and its number. left is
// what remains of them, 0: all.
func (p *proc) phase(left time.Duration) (time.Duration, int) {
	w := p.v.w
	if left == 0 {
		left = w.params.innerMin + time.Duration(float64(w.params.inner)*(1+0.1*w.rng.Float64())*p.v.speed)
		if p.v.index == w.params.tardy && w.params.long && (w.params.slack || !w.healed) && w.rng.IntN(3) == 0 {
			left += 2*w.params.grace + time.Duration(w.rng.Int64N(int64(w.params.innerMin)))
		}
	}
	p.inner, p.began = w.now+left, w.now
	p.trains++
	return left, p.trains
}

// trained notes that a phase has ended, by now.
func (p *proc) trained(round uint64) {
	if sc := p.v.w.opts.scale; sc != nil && round >= sc.from {
		sc.share(p.v.index).inner += p.v.w.now - p.began
	}
}

// after runs do after d, if the phase is still the newest.
func (p *proc) after(d time.Duration, phase int, do func()) {
	p.v.later(d, func() {
		if p.trains == phase {
			do()
		}
	})
}

// advance ends a round with its state, and saves every other one.
func (p *proc) advance(s *state) {
	p.state = s
	if p.saved++; p.saved%2 == 0 {
		p.v.disk = s
	}
}

// act does what a machine says until it says no more. It does nothing, and reports false,
// within itself: the outermost call acts.
func act[A any](p *proc, take func() []A, do func(A)) bool {
	if p.acting {
		return false
	}
	p.acting = true
	for acts := take(); len(acts) > 0; acts = append(acts[1:], take()...) {
		do(acts[0])
	}
	p.acting = false
	return true
}

// take takes a frame off a stream.
func (p *proc) take(from, stream int, f frame) {
	w := p.v.w
	switch {
	case stream == data && f.piece != nil:
		p.pending[from] = append(p.pending[from], waiting{f, w.now + w.params.grace})
		p.retry()
	case f.request: // of a joiner: this worker's state, and its place in the round
		answer := frame{}
		if s := p.holds(); s != nil {
			answer.state, answer.place, answer.past = s, max(time.Millisecond, p.inner-w.now), p.past
			p.self.expect(from, s)
		}
		w.links[p.v.index][from].write(answer, nil, nil)
	case stream == data:
		if answer := p.answer; answer != nil && from == p.source {
			p.answer, p.theirs = nil, f.past
			answer(f.state, f.place)
		}
	default:
		p.self.receive(from, f)
	}
}

// retry gives data frames to what they are for, in the order of each stream. One whose
// attempt or exchange has yet to begin holds up those behind it.
func (p *proc) retry() {
	if p.acting {
		return
	}
	for from := range p.pending {
		for len(p.pending[from]) > 0 {
			x := p.pending[from][0]
			accept, soon := p.self.plane(from, x.f.header)
			if soon && p.v.w.now < x.until {
				break
			}
			p.pending[from] = p.pending[from][1:]
			if accept == nil {
				continue
			}
			if err := accept(x.f); err != nil {
				p.v.w.tracef(string(p.v.id), "refuses a frame of w%d: %v", from, err)
				p.self.blame(from, err.Error())
			}
		}
	}
}

// fetch asks for a state: the one that the worker prefers, then those furthest on. got is
// called with nil when nobody had one.
func (p *proc) fetch(got func(s *state, place time.Duration)) {
	var from []int
	for i, m := range p.v.seen {
		if i != p.v.index && m.Ready && (m.State == mesh.Alive || m.State == mesh.Suspect) {
			from = append(from, i)
		}
	}
	first := p.self.prefers()
	slices.SortFunc(from, func(a, b int) int {
		if a == first || b == first {
			return cmp.Compare(boolean(b == first), boolean(a == first))
		}
		return cmp.Or(cmp.Compare(p.v.seen[b].Round, p.v.seen[a].Round), cmp.Compare(a, b))
	})
	p.ask(from, got)
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *proc) ask(from []int, got func(*state, time.Duration)) {
	if len(from) == 0 {
		got(nil, 0)
		return
	}
	p.asked++
	asked := p.asked
	p.source = from[0]
	p.answer = func(s *state, place time.Duration) {
		p.asked++
		if s == nil {
			p.ask(from[1:], got)
			return
		}
		got(s, place)
	}
	p.v.w.links[p.v.index][from[0]].send(frame{request: true})
	p.v.later(2*p.v.w.params.grace, func() {
		if p.asked == asked {
			p.answer = nil
			p.ask(from[1:], got)
		}
	})
}
