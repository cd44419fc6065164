package process

import (
	"encoding/json"
	"fmt"
	"time"

	"loco/trainer"
	"loco/worker"
)

// Events that a worker prints beside the trainer's, for its supervisor.

// AddressEvent says where a worker can be reached.
type AddressEvent struct {
	Event   string   `json:"event"` // "address"
	Worker  int      `json:"worker"`
	Peer    string   `json:"peer"`
	Addrs   []string `json:"addrs"` // with /p2p/ID
	Metrics string   `json:"metrics,omitempty"`
}

// CheckpointEvent reports a checkpoint that is complete.
type CheckpointEvent struct {
	Event   string  `json:"event"` // "checkpoint"
	Worker  int     `json:"worker"`
	Round   uint64  `json:"round"`
	Path    string  `json:"path"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// ResultEvent is a worker's last: what it did in this process, and where it ended.
type ResultEvent struct {
	Event         string  `json:"event"` // "result"
	Worker        int     `json:"worker"`
	Complete      bool    `json:"complete"` // the run's last round is done
	Round         uint64  `json:"round"`
	Step          uint64  `json:"step"`
	Tokens        uint64  `json:"tokens"`         // since the run's start
	SessionTokens uint64  `json:"session_tokens"` // in this process
	Digest        string  `json:"digest"`
	Seconds       float64 `json:"session_seconds"` // of training in this process
	InnerSeconds  float64 `json:"inner_seconds"`   // of those, in inner steps
	BytesSent     uint64  `json:"bytes_sent"`
	BytesReceived uint64  `json:"bytes_received"`
	Checkpoint    string  `json:"checkpoint"`
}

// DeviceEvent says what a worker computes on. It is for people: it is no line of JSON.
type DeviceEvent struct {
	Worker int
	Device string
	Why    string // it is the CPU, where a GPU was looked for
}

// TakenEvent says that a worker's number is taken by another process, and that the worker
// tries on. It is for people: it is no line of JSON.
type TakenEvent struct {
	Worker   int
	By       string        // a peer
	Patience time.Duration // how long it tries
}

// ParseEvent decodes one line of a worker's output. It returns nil for an event that
// this version does not know.
func ParseEvent(line []byte) (any, error) {
	var kind struct {
		Event string `json:"event"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return nil, fmt.Errorf("event %.80q: %w", line, err)
	}
	var e any
	switch kind.Event {
	case "address":
		e = new(AddressEvent)
	case "peers":
		e = new(worker.PeersEvent)
	case "checkpoint":
		e = new(CheckpointEvent)
	case "result":
		e = new(ResultEvent)
	case "round":
		e = new(trainer.RoundEvent)
	case "eval":
		e = new(trainer.EvalEvent)
	case "step":
		e = new(trainer.StepEvent)
	case "late":
		e = new(worker.LateEvent)
	case "resync":
		e = new(trainer.ResyncEvent)
	default:
		return nil, nil
	}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, fmt.Errorf("event %.80q: %w", line, err)
	}
	return e, nil
}
