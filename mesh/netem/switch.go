// Package netem is a test bed for real processes: each runs in a network namespace of its
// own, and a switch in this process carries their packets with delay, jitter, loss and
// cuts. It needs no sch_netem in the kernel: a namespace's only way out is a TUN device
// that the switch reads, with the kernel's tbf on it as the node's uplink.
//
// Switch is the pure part: packets and times go in, packets and times come out, the same
// for the same seed. Bed is the shell around it, on Linux alone: it needs CAP_NET_ADMIN,
// /dev/net/tun and iproute2.
package netem

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Limits of a switch.
const (
	NodesMax   = 250
	waitingMax = 1 << 16 // packets; 96 MiB of full ones
)

// Conditions are those of every way between two nodes, in each direction.
type Conditions struct {
	Delay  time.Duration // of a packet, one way
	Jitter time.Duration // mean of what is added to it, exponentially distributed; packets keep their order
	Loss   float64       // probability of each packet to be lost
	// Rate is what a node can receive, in bits a second; 0 is no limit. A packet that would
	// wait longer than Queue for it is lost.
	Rate  float64
	Queue time.Duration
}

func (c Conditions) validate() error {
	switch {
	case c.Delay < 0 || c.Jitter < 0 || c.Queue < 0:
		return fmt.Errorf("delay %v, jitter %v, queue %v: none may be negative", c.Delay, c.Jitter, c.Queue)
	case !(c.Loss >= 0 && c.Loss <= 1):
		return fmt.Errorf("loss %v: want a probability, 0 to 1", c.Loss)
	case !(c.Rate >= 0):
		return fmt.Errorf("rate of %v bits a second: want 0 for no limit, or more", c.Rate)
	}
	return nil
}

// Stats count packets.
type Stats struct {
	Delivered, Lost uint64
	Overflowed      uint64 // the receiver's queue, or the switch, was full
	Cut             uint64 // there was no way
	Foreign         uint64 // not IPv4 between two nodes
}

// Switch carries packets between nodes, numbered from 0. Times are of any clock that does
// not go back. It is not safe for concurrent use.
type Switch struct {
	conditions Conditions
	nodes      int
	rng        *rand.Rand
	cut        map[way]bool
	last       map[way]time.Duration // when the newest packet of a way comes to the downlink: order is kept
	busy       []time.Duration       // until when a node's downlink has work
	flying     packets
	seq        uint64
	stats      Stats
}

type way struct{ from, to int }

// NewSwitch connects all nodes with each other.
func NewSwitch(nodes int, c Conditions, seed uint64) (*Switch, error) {
	if nodes < 1 || nodes > NodesMax {
		return nil, fmt.Errorf("netem: %d nodes, want 1 to %d", nodes, NodesMax)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("netem: conditions: %w", err)
	}
	return &Switch{
		conditions: c, nodes: nodes, rng: rand.New(rand.NewPCG(seed, 0)),
		cut: map[way]bool{}, last: map[way]time.Duration{}, busy: make([]time.Duration, nodes),
	}, nil
}

// Addr is the address of a node.
func Addr(node int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(node + 1)}) }

// Cut closes the way from one node to another, or opens it. What is under way is lost.
func (s *Switch) Cut(from, to int, closed bool) { s.cut[way{from, to}] = closed }

// Stats returns the counts so far.
func (s *Switch) Stats() Stats { return s.stats }

// Accept takes a packet that a node sent. The switch keeps it.
func (s *Switch) Accept(now time.Duration, from int, packet []byte) {
	to, ok := destination(packet, s.nodes)
	w := way{from, to}
	switch c := s.conditions; {
	case !ok:
		s.stats.Foreign++
	case s.cut[w]:
		s.stats.Cut++
	case c.Loss > 0 && s.rng.Float64() < c.Loss:
		s.stats.Lost++
	case len(s.flying) >= waitingMax:
		s.stats.Overflowed++
	default:
		s.launch(now, w, packet)
	}
}

// launch decides when a packet gets to the receiver's downlink.
func (s *Switch) launch(now time.Duration, w way, packet []byte) {
	at := now + s.conditions.Delay
	if s.conditions.Jitter > 0 {
		at += time.Duration(s.rng.ExpFloat64() * float64(s.conditions.Jitter))
	}
	at = max(at, s.last[w])
	s.last[w] = at
	s.push(flight{way: w, at: at, packet: packet, queued: s.conditions.Rate == 0})
}

func (s *Switch) push(f flight) {
	s.seq++
	f.seq = s.seq
	heap.Push(&s.flying, f)
}

// Due returns a packet that has arrived by now and the node it is for, the earliest
// first; ok is false where there is none.
func (s *Switch) Due(now time.Duration) (to int, packet []byte, ok bool) {
	for len(s.flying) > 0 && s.flying[0].at <= now {
		f := heap.Pop(&s.flying).(flight)
		switch {
		case s.cut[f.way]:
			s.stats.Cut++
		case !f.queued:
			s.queue(f)
		default:
			s.stats.Delivered++
			return f.to, f.packet, true
		}
	}
	return 0, nil, false
}

// queue gives a packet its turn on the receiver's downlink.
func (s *Switch) queue(f flight) {
	start := max(f.at, s.busy[f.to])
	if start-f.at > s.conditions.Queue {
		s.stats.Overflowed++
		return
	}
	f.at = start + time.Duration(float64(8*len(f.packet))/s.conditions.Rate*float64(time.Second))
	f.queued = true
	s.busy[f.to] = f.at
	s.push(f)
}

// Next is when to ask Due again; ok is false where nothing is under way.
func (s *Switch) Next() (at time.Duration, ok bool) {
	if len(s.flying) == 0 {
		return 0, false
	}
	return s.flying[0].at, true
}

// destination is the node that an IPv4 packet is for.
func destination(packet []byte, nodes int) (node int, ok bool) {
	const header, address = 20, 16 // bytes, and where the destination is in them
	if len(packet) < header || packet[0]>>4 != 4 {
		return 0, false
	}
	to := [4]byte(packet[address:header])
	first := Addr(0).As4()
	if [3]byte(to[:3]) != [3]byte(first[:3]) || to[3] < first[3] || int(to[3]-first[3]) >= nodes {
		return 0, false
	}
	return int(to[3] - first[3]), true
}

// flight is a packet under way.
type flight struct {
	way
	at     time.Duration
	seq    uint64
	packet []byte
	queued bool // at has the wait for the downlink in it
}

// packets is a heap by arrival.
type packets []flight

func (p packets) Len() int { return len(p) }
func (p packets) Less(i, j int) bool {
	return p[i].at < p[j].at || p[i].at == p[j].at && p[i].seq < p[j].seq
}
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(flight)) }

func (p *packets) Pop() any {
	old := *p
	last := old[len(old)-1]
	old[len(old)-1].packet = nil
	*p = old[:len(old)-1]
	return last
}
