package sim

import (
	"math"
	"time"
)

// Link shapes what one peer sends to another.
type Link struct {
	Latency   time.Duration // one way, without jitter
	Bandwidth int64         // bytes a second; 0: unlimited
	// Jitter is σ of a log-normal factor on the latency of each write, e^(σ·N(0,1)): its
	// median is 1, and at σ = 1 one in forty takes seven times as long.
	Jitter float64
	// Loss is the chance that a write is lost and sent again, 200 ms and a round trip
	// later: streams are reliable, so loss is delay. A write is lost 20 times at most.
	Loss float64
}

// resendAfter is how long a sender waits for more than a round trip before it sends
// again, as TCP's least timeout.
const resendAfter = 200 * time.Millisecond

const lossesMax = 20 // of one write

// linkState is a link with what is on it.
type linkState struct {
	Link
	cut  bool
	busy time.Time // until then it sends what was written before
}

// access is a peer's own connection to the network, which all of its links share.
type access struct {
	up, down         int64 // bytes a second; 0: unlimited
	upBusy, downBusy time.Time
}

// SetLink shapes what peer from sends to peer to from now on.
func (n *Net) SetLink(from, to int, shape Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link(from, to).Link = shape
}

// SetAccess limits what peer i sends to, and receives from, all the others together, in
// bytes a second; 0: unlimited.
func (n *Net) SetAccess(i int, up, down int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.access[i].up, n.access[i].down = up, down
}

// link returns the state of a link. n.mu is held.
func (n *Net) link(from, to int) *linkState {
	key := [2]int{from, to}
	l := n.links[key]
	if l == nil {
		o := n.opts
		l = &linkState{Link: Link{Latency: o.Latency, Bandwidth: o.Bandwidth, Jitter: o.Jitter, Loss: o.Loss}}
		n.links[key] = l
	}
	return l
}

// delay draws the latency of one write on a link. n.mu is held.
func (n *Net) delay(l *linkState) time.Duration {
	d := l.Latency
	if l.Jitter > 0 {
		d = time.Duration(float64(d) * math.Exp(l.Jitter*n.rng.NormFloat64()))
	}
	for range lossesMax {
		if l.Loss == 0 || n.rng.Float64() >= l.Loss {
			break
		}
		d += 2*l.Latency + resendAfter
	}
	return d
}

// arrival returns when size bytes written now by a reach b, and books their way: a's
// connection, the link, b's connection. n.mu is held.
func (n *Net) arrival(a, b *Peer, size int) time.Time {
	l := n.link(a.index, b.index)
	at := time.Now()
	at = occupy(&n.access[a.index].upBusy, at, size, n.access[a.index].up)
	at = occupy(&l.busy, at, size, l.Bandwidth)
	at = occupy(&n.access[b.index].downBusy, at, size, n.access[b.index].down)
	return at.Add(n.delay(l))
}

// occupy books size bytes on something of a bandwidth that is busy until then, and
// returns when they are through.
func occupy(busy *time.Time, at time.Time, size int, bandwidth int64) time.Time {
	if bandwidth == 0 {
		return at
	}
	if busy.After(at) {
		at = *busy
	}
	*busy = at.Add(time.Duration(float64(size) / float64(bandwidth) * float64(time.Second)))
	return *busy
}
