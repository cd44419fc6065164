// Package mesh says who is alive in a run and opens streams between peers.
//
// The contract has two implementations, mesh/p2p on libp2p and mesh/sim in
// memory; mesh/meshtest holds both to it.
package mesh

import (
	"context"
	"io"
	"time"
)

// ID names a peer for as long as its identity lasts: the string form of a libp2p
// peer ID in mesh/p2p.
type ID string

// State is where a member stands in its life.
type State uint8

// The states of a member, in the order of a life.
const (
	Joining State = iota // in the mesh, does not hold the run's state yet
	Alive                // takes part in rounds
	Suspect              // silent for longer than expected; still counted
	Dead                 // silent past the deadline
	Left                 // said goodbye
)

// String returns the name that logs and metrics use.
func (s State) String() string {
	switch s {
	case Joining:
		return "joining"
	case Alive:
		return "alive"
	case Suspect:
		return "suspect"
	case Dead:
		return "dead"
	case Left:
		return "left"
	}
	return "unknown"
}

// Status is what a member says about itself in every heartbeat.
type Status struct {
	Worker int  // the worker's number in the run, unique among live members
	Lane   int  // 0 to LaneMax: see [Lane]
	Ready  bool // holds the run's state: Alive rather than Joining
	Begun  bool // has begun to train, so the run is under way
	Done   bool // has finished the run's last round
	Round  uint64
	Step   uint64
	Tokens uint64 // trained so far by this worker
}

// Member is one peer as this machine sees it. Silence is measured on this
// machine's clock alone.
type Member struct {
	ID    ID
	State State
	Status
	Addrs  []string      // dialable addresses, for the operator and for restarts
	Silent time.Duration // since anything was last heard from it; 0 for self
}

// Stream is a reliable, ordered byte stream to a peer. Reset drops it at once, and
// the other end's Read fails. Deadlines are as net.Conn's.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
}

// Mesh is what a worker needs of the network. Every method is safe for concurrent
// use.
type Mesh interface {
	// Self is this peer's ID.
	Self() ID
	// View returns the members as seen now, self included, ordered by worker number
	// and then by ID, and a channel that is closed at the next change of any
	// member's State, Lane, Ready, Begun or Done. Dead and Left members stay in the view
	// for a while.
	View() (members []Member, changed <-chan struct{})
	// Announce replaces the status this peer's heartbeats carry and sends one soon.
	Announce(Status)
	// Open opens a stream for a protocol to a peer, dialing it if needed. It fails
	// when ctx ends, or when the peer is unknown, unreachable or does not speak the
	// protocol.
	Open(ctx context.Context, to ID, protocol string) (Stream, error)
	// Handle runs h in a goroutine of its own for every stream that a peer of this
	// run opens for the protocol. A nil h removes the handler.
	Handle(protocol string, h func(from ID, s Stream))
}
