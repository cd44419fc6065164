package swim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"loco/mesh"
	"loco/mesh/events"
)

// What a member's messages weigh on the wire beside what is simulated.
const (
	idBytes        = 52   // of a libp2p peer ID
	framingBytes   = 36   // length, yamux frame and TLS record
	helloBytes     = 600  // both ways, without the list of members
	heartbeatBytes = 2380 // of gossipsub, sent by each member for each heartbeat: measured
)

// plan is one run: everything in it follows from the seed.
type plan struct {
	seed     uint64
	nodes    int
	cfg      Config
	loss     float64
	joins    []fault // of nodes that are not there at the start
	crashes  []fault
	leaves   []fault
	pauses   []fault
	splits   []fault // nodes [0, a) on one side
	cuts     []fault // from a to b, one way
	end      time.Duration
	settle   time.Duration // after the last fault, until the views must be right
	trace    func(format string, args ...any)
	noGossip bool // no heartbeat arrives

	tick       time.Duration
	deadWithin time.Duration // of a crash, at all; 0 is not checked
}

type fault struct {
	at, until time.Duration
	a, b      int
}

// world is the members, the network between them and the clock.
type world struct {
	plan
	rng    *rand.Rand
	now    time.Duration
	events events.Queue
	nodes  []*node
	split  int // nodes below it are cut off from the rest; 0 is no split
	cut    map[[2]int]bool
	calmAt time.Duration // when the last fault ended
	report report
	err    error
}

// report is what a run came to.
type report struct {
	pings, asks, messages   int
	bytes, hellos           int64 // of life and death; of hellos
	beats                   int64
	falseSuspect, falseDead int // of members that were there, ran and could be reached by most
	deaths                  int // of members that could not be reached, in the views of others
	suspicions, refutals    uint64
	suspectAll, deadAll     time.Duration // from a crash until the last sees it so
	deadFirst               time.Duration // the shortest time from a crash until somebody sees it dead
	rightAfter              time.Duration // from the last fault until every view is right
	memberSeconds           float64
}

type node struct {
	w       *world
	i       int
	core    *Members
	up      bool
	left    bool
	paused  bool
	inbox   []func()
	dialing map[int]bool
	beat    int // generation of the heartbeat timer
	endedAt time.Duration
}

func (w *world) at(t time.Duration, do func()) {
	w.events.Push(max(t, w.now), do)
}

func (w *world) in(d time.Duration, do func()) { w.at(w.now+d, do) }

// latency is log-normal: two standard deviations are 20 and 200 ms.
func (w *world) latency() time.Duration {
	return time.Duration(63 * math.Exp(w.rng.NormFloat64()*0.576) * float64(time.Millisecond))
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%v: %s", w.now.Round(time.Millisecond), fmt.Sprintf(format, args...))
	}
}

var nodeIDs = func() (ids [1000]mesh.ID) {
	for i := range ids {
		ids[i] = mesh.ID(fmt.Sprintf("m%04d", i))
	}
	return ids
}()

func nodeID(i int) mesh.ID { return nodeIDs[i] }

func (w *world) node(id mesh.ID) *node {
	i := 0
	for _, c := range id[1:] {
		i = 10*i + int(c-'0')
	}
	return w.nodes[i]
}

// together reports whether a and b are on one side of the split.
func (w *world) together(a, b int) bool { return w.split == 0 || (a < w.split) == (b < w.split) }

// run plays a plan and returns what it came to. err names the first thing that was
// wrong.
func run(p plan) (report, error) {
	w := &world{plan: p, rng: rand.New(rand.NewPCG(p.seed, 1)), cut: map[[2]int]bool{}}
	joins := map[int]bool{}
	for _, f := range p.joins {
		joins[f.a] = true
	}
	for i := range p.nodes {
		w.nodes = append(w.nodes, &node{w: w, i: i, dialing: map[int]bool{}})
	}
	for i, n := range w.nodes {
		if !joins[i] {
			n.start()
		}
	}
	for i, n := range w.nodes {
		for j, o := range w.nodes {
			if i != j && n.up && o.up {
				n.core.Admit(nodeID(j), o.core.Self(), 0)
			}
		}
		if n.up {
			n.flush()
		}
	}
	w.schedule()
	w.calmAt = p.end - p.settle
	w.at(w.calmAt, w.sample)
	for w.err == nil && w.events.Len() > 0 {
		e := w.events.Pop()
		if e.At > p.end {
			break
		}
		w.now = e.At
		e.Do()
	}
	w.now = p.end
	if w.err == nil {
		w.judge()
	}
	return w.report, w.err
}

// schedule puts the faults on the clock.
func (w *world) schedule() {
	for _, f := range w.joins {
		w.at(f.at, func() {
			w.nodes[f.a].start()
			w.nodes[f.a].dial(f.b)
		})
	}
	for _, f := range w.crashes {
		w.at(f.at, func() { w.nodes[f.a].stop() })
		if w.deadWithin > 0 {
			w.at(f.at+w.deadWithin, func() { w.checkCrash(f) })
		}
	}
	for _, f := range w.leaves {
		w.at(f.at, func() { w.nodes[f.a].leave() })
	}
	for _, f := range w.pauses {
		w.at(f.at, func() { w.nodes[f.a].paused = true })
		w.at(f.until, func() { w.nodes[f.a].resume() })
	}
	for _, f := range w.splits {
		w.at(f.at, func() { w.split = f.a })
		w.at(f.until, func() { w.split = 0 })
	}
	for _, f := range w.cuts {
		w.at(f.at, func() { w.cut[[2]int{f.a, f.b}] = true })
		w.at(f.until-1, func() { w.checkCut(f) })
		w.at(f.until, func() { delete(w.cut, [2]int{f.a, f.b}) })
	}
}

func (n *node) start() {
	n.up = true
	c := n.w.cfg
	c.Seed = n.w.seed + uint64(n.i)*7919
	beat := Heartbeat{Status: mesh.Status{Worker: n.i, Ready: true}, Incarnation: Incarnation{Life: 1}}
	n.core = New(c, nodeID(n.i), beat)
	n.core.ticked = n.w.now // its own clock starts with the world's, for the reader's sake
	n.core.next += n.w.now
	n.w.in(time.Duration(n.w.rng.Int64N(int64(n.w.tick))), n.tick)
	n.w.in(time.Duration(n.w.rng.Int64N(int64(c.Heartbeat))), func() { n.heartbeat(0) })
}

func (n *node) stop() { n.up, n.endedAt = false, n.w.now }

func (n *node) leave() {
	n.core.Leave(n.w.now)
	n.left, n.endedAt = true, n.w.now
	n.publish()
	n.up = false
	for _, o := range n.w.nodes { // the goodbyes of mesh/p2p, on streams
		if o != n && n.w.together(n.i, o.i) && !n.w.cut[[2]int{n.i, o.i}] {
			n.w.in(n.w.latency(), func() {
				o.take(func() { o.core.Goodbye(nodeID(n.i), 1, n.w.now) })
			})
		}
	}
}

func (n *node) resume() {
	n.paused = false
	n.core.Tick(n.w.now)
	n.flush()
	held := n.inbox
	n.inbox = nil
	for _, do := range held {
		do()
	}
	n.heartbeat(n.beat)
}

// take runs what arrives, or keeps it for a process that is paused.
func (n *node) take(do func()) {
	switch {
	case !n.up:
	case n.paused:
		n.inbox = append(n.inbox, do)
	default:
		do()
		n.flush()
	}
}

func (n *node) tick() {
	if !n.up {
		return
	}
	if !n.paused {
		n.core.Tick(n.w.now)
		n.flush()
	}
	n.w.in(n.w.tick, n.tick)
}

// heartbeat publishes, if its timer is still the newest, and sets the next.
func (n *node) heartbeat(generation int) {
	if !n.up || n.paused || generation != n.beat {
		return
	}
	n.beat++
	n.publish()
	next := n.beat
	n.w.in(n.w.cfg.Heartbeat, func() { n.heartbeat(next) })
}

// gossipClasses is how many arrival times one heartbeat has.
const gossipClasses = 8

// publish brings a heartbeat to all that gossip connects: a few hops.
func (n *node) publish() {
	w := n.w
	beat := n.core.Beat(nil)
	if w.noGossip {
		return
	}
	shift := w.rng.IntN(gossipClasses)
	for c := range gossipClasses {
		w.in(w.latency()+w.latency()+w.latency(), func() {
			for j := (c + shift) % gossipClasses; j < len(w.nodes); j += gossipClasses {
				if o := w.nodes[j]; o != n && o.up && w.together(n.i, j) {
					w.report.beats++
					if o.paused {
						o.inbox = append(o.inbox, func() { o.hearBeat(n.i, beat) })
						continue
					}
					o.hearBeat(n.i, beat)
				}
			}
		})
	}
}

func (n *node) hearBeat(from int, beat Heartbeat) {
	if n.core.Heartbeat(nodeID(from), beat, n.w.now) == Unreached {
		n.dial(from)
	}
	if n.core.out.Changed || n.core.out.Publish {
		n.flush()
	}
}

// flush does what the state machine wants.
func (n *node) flush() {
	out := n.core.Take()
	for _, t := range out.News {
		n.news(t)
	}
	for _, e := range out.Send {
		n.send(n.w.node(e.To), e.Message)
	}
	for _, id := range out.Dial {
		n.dial(n.w.node(id).i)
	}
	if out.Publish {
		n.heartbeat(n.beat)
	}
}

func (n *node) send(to *node, g Message) {
	w := n.w
	size := messageFixed + len(g.Target)/len("m0000")*idBytes + len(g.Rumors)*(rumorFixed+idBytes) + framingBytes
	w.report.messages++
	w.report.bytes += int64(size)
	switch g.Kind {
	case Ping:
		w.report.pings++
	case Ask:
		w.report.asks++
	}
	if !w.together(n.i, to.i) || w.cut[[2]int{n.i, to.i}] || w.rng.Float64() < w.loss {
		return
	}
	from := nodeID(n.i)
	w.in(w.latency(), func() {
		to.take(func() { to.core.Receive(from, g, w.now) })
	})
}

// dial tries to pass a hello until the other is a live member, as mesh/p2p does.
func (n *node) dial(to int) {
	if n.dialing[to] || to == n.i {
		return
	}
	n.dialing[to] = true
	n.attempt(to, 50*time.Millisecond, 1)
}

func (n *node) attempt(to int, wait time.Duration, tries int) {
	w := n.w
	k, known := n.core.Find(nodeID(to))
	if !n.up || k.Live() && known || known && k.State == mesh.Left || !known && tries > 3 {
		delete(n.dialing, to)
		return
	}
	o := w.nodes[to]
	w.report.hellos += helloBytes
	if !n.paused && o.up && !o.paused && w.together(n.i, to) && !w.cut[[2]int{n.i, to}] && !w.cut[[2]int{to, n.i}] {
		w.in(w.latency()+w.latency()+w.latency(), func() { n.hello(o) })
	}
	w.in(wait/2+time.Duration(w.rng.Int64N(int64(wait)))+time.Second/2, func() { n.attempt(to, min(2*wait, 30*time.Second), tries+1) })
}

// hello makes both members of each other. A new one learns of the others.
func (n *node) hello(o *node) {
	w := n.w
	if !n.up || !o.up || n.paused || o.paused {
		return
	}
	for _, pair := range [][2]*node{{n, o}, {o, n}} {
		a, b := pair[0], pair[1]
		old, _ := a.core.Find(nodeID(b.i))
		a.core.Admit(nodeID(b.i), b.core.Beat(nil), w.now)
		if now, _ := a.core.Find(nodeID(b.i)); old.State == mesh.Left && now.Live() && old.Beat.Incarnation.Life == now.Beat.Incarnation.Life && old.Beat.Incarnation.Life > 0 {
			w.fail("%s is taken in by %s again in the life that it left", nodeID(b.i), nodeID(a.i))
		}
	}
	if len(n.core.all) < 5 {
		for _, m := range o.core.all {
			if _, known := n.core.Find(m.id); m.live() && !known {
				w.report.hellos += idBytes + 40
				n.dial(w.node(m.id).i)
			}
		}
	}
	n.flush()
	o.flush()
}

// news counts what a member comes to believe, and dials the dead.
func (n *node) news(t Transition) {
	w := n.w
	o := w.node(t.ID)
	if w.trace != nil {
		w.trace("%v %s sees %s %s", w.now.Round(time.Millisecond), nodeID(n.i), t.ID, t.To)
	}
	// A pause is a fault for as long as what it left behind is under way.
	there := o.up && !o.paused && !w.disturbed(o.i) && !w.disturbed(n.i) && o != n
	switch t.To {
	case mesh.Suspect:
		if there {
			w.report.falseSuspect++
		}
		if !o.up && !o.left {
			w.report.suspectAll = max(w.report.suspectAll, w.now-o.endedAt)
		}
	case mesh.Dead:
		w.report.deaths++
		if there {
			w.report.falseDead++
			w.fail("%s sees %s dead, which runs and can be reached", nodeID(n.i), t.ID)
		}
		if !o.up || !w.together(n.i, o.i) || w.cut[[2]int{n.i, o.i}] || w.cut[[2]int{o.i, n.i}] {
			n.dial(o.i) // as mesh/p2p does with a lost connection; that to a paused process stands
		}
		if !o.up && !o.left {
			took := w.now - o.endedAt
			w.report.deadAll = max(w.report.deadAll, took)
			if w.report.deadFirst == 0 || took < w.report.deadFirst {
				w.report.deadFirst = took
			}
		}
	default:
		if t.To != mesh.Left && !o.up && o.endedAt > 0 && w.now-o.endedAt > w.cfg.ProbeEvery+2*time.Second && t.From == mesh.Dead {
			w.fail("%s sees %s alive again %v after its end", nodeID(n.i), t.ID, (w.now - o.endedAt).Round(time.Millisecond))
		}
	}
}

// disturbed reports whether a fault of a node, or of the network, can still be what
// others believe of it, or it of others.
func (w *world) disturbed(i int) bool {
	for _, f := range w.pauses {
		if f.a == i && w.now >= f.at && w.now < f.until+w.settle {
			return true
		}
	}
	for _, f := range w.splits {
		if w.now >= f.at && w.now < f.until+w.settle {
			return true
		}
	}
	for _, f := range w.joins {
		if f.a == i && w.now < f.at+w.settle {
			return true
		}
	}
	return false
}

// sample notes until when a view was wrong.
func (w *world) sample() {
	for _, n := range w.nodes {
		for _, o := range w.nodes {
			if k, known := n.core.view(o.i); n.up && (o.up && !known || known && k.live() != o.up) {
				w.report.rightAfter = w.now + w.cfg.ProbeEvery - w.calmAt
				w.in(w.cfg.ProbeEvery, w.sample)
				return
			}
		}
	}
	w.in(w.cfg.ProbeEvery, w.sample)
}

// view is Find without a copy.
func (m *Members) view(i int) (*record, bool) {
	r, ok := m.by[nodeID(i)]
	return r, ok
}

// checkCrash looks whether all have seen a crash in time.
func (w *world) checkCrash(f fault) {
	for _, n := range w.nodes {
		if n.up && !w.disturbed(n.i) {
			if k, known := n.core.Find(nodeID(f.a)); known && k.Live() {
				w.fail("%s sees %s %s, which crashed %v ago", nodeID(n.i), nodeID(f.a), k.State, w.deadWithin)
			}
		}
	}
}

// faulty reports whether a goodbye may have been missed.
func (w *world) faulty() bool { return len(w.splits)+len(w.pauses)+len(w.cuts)+len(w.joins) > 0 }

// checkCut looks at two members of which one hears nothing from the other: neither is
// dead for anybody, and each is suspect for the one that does not reach it.
func (w *world) checkCut(f fault) {
	a, b := w.nodes[f.a], w.nodes[f.b]
	if !a.up || !b.up || a.paused || b.paused || w.disturbed(f.a) || w.disturbed(f.b) {
		return
	}
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		if k, _ := pair[0].core.Find(nodeID(pair[1].i)); k.State != mesh.Suspect {
			w.fail("%s gets no answer from %s and sees it %s, want suspect", nodeID(pair[0].i), nodeID(pair[1].i), k.State)
		}
	}
}

// judge looks at the end of a run: every view is right, and the cost is as promised.
func (w *world) judge() {
	r := &w.report
	live := 0
	for _, n := range w.nodes {
		if n.up {
			live++
		}
	}
	for _, n := range w.nodes {
		if n.core == nil {
			continue
		}
		c := n.core.Counts()
		r.suspicions += c.Suspicions
		r.refutals += c.Refutations
		if !n.up {
			continue
		}
		r.memberSeconds += w.now.Seconds()
		for _, o := range w.nodes {
			k, known := n.core.Find(nodeID(o.i))
			switch {
			case o.up && !known:
				w.fail("%s does not know %s", nodeID(n.i), nodeID(o.i))
			case o.up && !k.Live():
				w.fail("%s sees %s %s, which runs", nodeID(n.i), nodeID(o.i), k.State)
			case o.left && known && k.State != mesh.Left && !w.disturbed(n.i) && !w.faulty():
				w.fail("%s sees %s %s, which left", nodeID(n.i), nodeID(o.i), k.State)
			case !o.up && known && k.Live():
				w.fail("%s sees %s %s, which ended %v ago", nodeID(n.i), nodeID(o.i), k.State, (w.now - o.endedAt).Round(time.Second))
			}
		}
		for _, t := range n.core.rumors {
			if t.times > n.core.retells() || w.now > t.until+w.cfg.ProbeEvery {
				w.fail("%s has told %d times, at most %d, until %v: %+v", nodeID(n.i), t.times, n.core.retells(), t.until, t.Rumor)
			}
		}
		if len(n.core.probes)+len(n.core.relays) > 8+helpers*live {
			w.fail("%s keeps %d probes and %d relays", nodeID(n.i), len(n.core.probes), len(n.core.relays))
		}
	}
	if calm := len(w.crashes)+len(w.leaves) == 0 && !w.faulty(); calm {
		if asks := float64(r.asks) / float64(r.pings); asks > 0.45 {
			w.fail("%.2f members are asked for each ping, when a tenth of the answers is lost", asks)
		}
		if part := float64(r.suspicions) / float64(r.pings); part > 0.01 {
			w.fail("%.3f of the pings end in a suspicion, and nobody is gone", part)
		}
	}
}
