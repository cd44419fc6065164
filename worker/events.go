package worker

import (
	"loco/gossip/exchange"
)

// Events of a worker beside the trainer's. Those with a field Event are lines of JSON for
// people and supervisors.

// PeersEvent says how many members a worker sees while it waits for the run to begin.
type PeersEvent struct {
	Event  string `json:"event"` // "peers"
	Worker int    `json:"worker"`
	Live   int    `json:"live"`  // alive, joining or suspect, itself included
	Ready  int    `json:"ready"` // of those, the ones that take part in rounds
}

// LateEvent says that a worker began to be late in most rounds, or is not any more, as the
// worker that reports it sees it.
type LateEvent struct {
	Event  string  `json:"event"` // "late"
	Worker int     `json:"worker"`
	Round  uint64  `json:"round"` // rounds completed
	Who    int     `json:"who"`
	Late   bool    `json:"late"`
	By     float64 `json:"late_seconds"` // median; 0: it mostly does not come before the round is over
}

// Exchanged is one exchange of a part of a round.
type Exchanged struct {
	Round   uint64 // that it belongs to, from 0
	Part    exchange.Part
	Outcome exchange.Outcome
	Err     error
}

// Fetched is a try to get the others' state.
type Fetched struct {
	State   exchange.Fetched
	Seconds float64
	Err     error
}
