// Package sim is a mesh in memory, for tests: peers joined by buffered pipes over
// shaped links, and faults on demand.
//
// It works inside testing/synctest bubbles: every wait is on a channel or a timer
// and no mutex is held across one, so hours of a run pass in milliseconds. It works
// outside of them too, in real time. Its random choices come from [Options.Seed]; which
// of two goroutines is first is up to the scheduler, so the same seed gives the same
// links and not the same run.
//
// # Links
//
// Each direction between two peers is a link of its own, see [Link]. Bytes of one stream
// stay in order, those of two streams overtake each other.
//
// # Faults
//
// [Net.Kill] and [Net.Restart] end and begin a process, [Net.Partition] splits the
// network, [Net.Cut] cuts one direction of a link, [Net.Corrupt] flips a bit of what a
// peer writes next, and [Net.Blackhole] swallows what it writes. Peers see the
// consequences as they would on a network: a killed peer's streams break at once, a
// partitioned one's go silent; after half of [Options.Detection] it is Suspect in the
// views of those that no longer hear of it, after all of it Dead, and what streams are
// left between them break.
//
// [Net.Stop] and [Net.Continue] do what SIGSTOP and SIGCONT do to a process, as far as
// a mesh can: its streams and its view stand still, and so does each of its goroutines
// that calls View or a method which may wait. [Net.Pause] and [Net.Resume] leave its
// goroutines alone: the peer is cut off and does not know it.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"loco/mesh"
)

// Options describes a network.
type Options struct {
	Peers     int
	Latency   time.Duration // of every link, until SetLink says otherwise
	Bandwidth int64         // likewise, bytes a second; 0: unlimited
	Jitter    float64       // likewise, see Link
	Loss      float64       // likewise
	Detection time.Duration // from losing a peer to its being Dead; 0: 1 s
	Buffer    int           // bytes a stream holds in flight; 0: 1 MiB
	// Relayed says that a peer is heard of as long as some path of peers leads from it, as
	// where heartbeats are gossiped; otherwise only what it sends itself counts.
	Relayed bool
	Seed    uint64
}

// Net is a network of peers numbered from 0. Its methods are safe for concurrent
// use.
type Net struct {
	opts Options

	mu      sync.Mutex
	rng     *rand.Rand
	peers   []*Peer
	side    []int // the partition's side of each peer
	links   map[[2]int]*linkState
	access  []access // of each peer
	pipes   map[*pipe]struct{}
	timers  map[*time.Timer]struct{}
	faulted chan struct{} // closed and replaced at every fault
	closed  bool
}

// New returns a network of n peers without latency.
func New(n int) *Net { return NewWith(Options{Peers: n}) }

// NewWith returns a network as opts describes it. Each peer starts as worker i of
// its number, not Ready.
func NewWith(opts Options) *Net {
	if opts.Detection == 0 {
		opts.Detection = time.Second
	}
	if opts.Buffer == 0 {
		opts.Buffer = 1 << 20
	}
	n := &Net{
		opts: opts, side: make([]int, opts.Peers), rng: rand.New(rand.NewPCG(opts.Seed, 0x51a)),
		links: map[[2]int]*linkState{}, access: make([]access, opts.Peers),
		pipes: map[*pipe]struct{}{}, timers: map[*time.Timer]struct{}{}, faulted: make(chan struct{}),
	}
	for i := range opts.Peers {
		n.peers = append(n.peers, newPeer(n, i))
	}
	for _, o := range n.peers {
		for _, p := range n.peers {
			o.seen[p.index] = n.truth(o, p)
		}
	}
	return n
}

// ID returns the identity of peer i, which outlives its restarts.
func ID(i int) mesh.ID { return mesh.ID(fmt.Sprintf("peer-%03d", i)) }

// Peer returns peer i as it runs now.
func (n *Net) Peer(i int) *Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[i]
}

// Close breaks every stream and stops every timer.
func (n *Net) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for p := range n.pipes {
		p.reset(errClosed)
	}
	for t := range n.timers {
		t.Stop()
	}
	clear(n.timers)
	n.fault()
}

// Kill ends the process of peer i: its streams break and it answers no more.
func (n *Net) Kill(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end(n.peers[i], mesh.Dead)
}

// Restart begins peer i anew, without handlers or status, and returns it. The
// former Peer stays dead.
func (n *Net) Restart(i int) *Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end(n.peers[i], mesh.Dead)
	p := newPeer(n, i)
	n.peers[i] = p
	for _, o := range n.peers {
		p.seen[o.index] = n.truth(p, o)
		n.later(n.opts.Latency, func() { n.observe(o, i, false) })
	}
	n.fault()
	return p
}

// Pause stops the streams and the view of peer i until Resume.
func (n *Net) Pause(i int) { n.setPaused(i, true, false) }

// Resume undoes Pause.
func (n *Net) Resume(i int) { n.setPaused(i, false, false) }

// Stop makes the process of peer i stand still until Continue, or until it is killed.
func (n *Net) Stop(i int) { n.setPaused(i, true, true) }

// Continue undoes Stop.
func (n *Net) Continue(i int) { n.setPaused(i, false, false) }

func (n *Net) setPaused(i int, paused, stopped bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers[i].paused, n.peers[i].stopped = paused, stopped
	n.lost()
}

// Partition splits the network into groups that do not reach each other; peers in
// none of them form one more. Without groups it heals.
func (n *Net) Partition(groups ...[]int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.side {
		n.side[i] = slices.IndexFunc(groups, func(g []int) bool { return slices.Contains(g, i) })
	}
	n.lost()
}

// Cut stops, or no longer stops, what peer from sends to peer to. Nothing is lost of what
// streams carry, unless the cut lasts until one of the two is Dead to the other.
func (n *Net) Cut(from, to int, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).cut = on
	n.lost()
}

// Corrupt flips one bit in the middle of the next write of peer i for the protocol.
func (n *Net) Corrupt(i int, protocol string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers[i].corrupt[protocol]++
}

// Blackhole swallows what peer i writes for the protocol, or no longer does.
func (n *Net) Blackhole(i int, protocol string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers[i].blackhole[protocol] = on
}

// end makes p dead or left: its streams break, and the others find out. n.mu is
// held.
func (n *Net) end(p *Peer, as mesh.State) {
	if p.ended {
		return
	}
	p.ended, p.as = true, as
	for s := range n.pipes {
		if s.from == p || s.to == p {
			s.reset(errReset)
		}
	}
	if as == mesh.Left {
		for _, o := range n.peers {
			n.later(n.opts.Latency, func() { n.observe(o, p.index, false) })
		}
	}
	n.lost()
}

// lost schedules what follows when a path between two peers breaks or heals. n.mu is held.
func (n *Net) lost() {
	n.fault()
	for _, o := range n.peers {
		for i := range n.peers {
			if n.truth(o, n.peers[i]).State == mesh.Dead {
				n.later(n.opts.Detection/2, func() { n.observe(o, i, true) })
				n.later(n.opts.Detection, func() { n.observe(o, i, false) })
			} else {
				n.later(n.opts.Latency, func() { n.observe(o, i, false) })
			}
		}
	}
}

// fault wakes everything that waits. n.mu is held.
func (n *Net) fault() {
	close(n.faulted)
	n.faulted = make(chan struct{})
	for p := range n.pipes {
		p.wake()
	}
}

// later runs f under n.mu after d. n.mu is held.
func (n *Net) later(d time.Duration, f func()) {
	if n.closed {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.timers, t)
		if !n.closed {
			f()
		}
	})
	n.timers[t] = struct{}{}
}

// passes says whether bytes pass from a to b. n.mu is held.
func (n *Net) passes(a, b *Peer) bool {
	if a == b {
		return !a.ended
	}
	return !a.ended && !b.ended && !a.paused && !b.paused && n.side[a.index] == n.side[b.index] && !n.link(a.index, b.index).cut
}

// hears says whether o hears of p, from itself or from others. n.mu is held.
func (n *Net) hears(o, p *Peer) bool {
	if n.passes(p, o) || !n.opts.Relayed {
		return n.passes(p, o)
	}
	know, seen := []*Peer{p}, map[*Peer]bool{p: true}
	for len(know) > 0 {
		for _, q := range n.peers {
			if !seen[q] && n.passes(know[0], q) {
				seen[q] = true
				know = append(know, q)
			}
		}
		know = know[1:]
	}
	return seen[o]
}

// truth returns p as o would see it if it could see at once. n.mu is held.
func (n *Net) truth(o, p *Peer) mesh.Member {
	m := mesh.Member{ID: p.id, State: mesh.Joining, Status: p.status, Addrs: []string{"sim/" + string(p.id)}}
	switch {
	case p.ended:
		m.State = p.as
	case o != p && !n.hears(o, p):
		m.State = mesh.Dead
	case p.status.Ready:
		m.State = mesh.Alive
	}
	return m
}

// observe brings o's view of peer i up to date; early says that there was not yet
// time enough to call a lost peer dead. n.mu is held.
func (n *Net) observe(o *Peer, i int, early bool) {
	if o.ended || o.paused {
		return
	}
	was, now := o.seen[i], n.truth(o, n.peers[i])
	if now.State == mesh.Dead {
		now.Status = was.Status
		if early && was.State != mesh.Dead {
			now.State = mesh.Suspect
		} else if early {
			return
		} else {
			n.sever(o, n.peers[i])
		}
	}
	o.seen[i] = now
	if was.State != now.State || was.Ready != now.Ready || was.Begun != now.Begun || was.Done != now.Done || was.Lane != now.Lane {
		close(o.changed)
		o.changed = make(chan struct{})
	}
}

// sever breaks the streams between a and b. n.mu is held.
func (n *Net) sever(a, b *Peer) {
	for s := range n.pipes {
		if s.from == a && s.to == b || s.from == b && s.to == a {
			s.reset(errReset)
		}
	}
}
