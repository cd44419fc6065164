package trainer

// The events of a run, one JSON object a line in DIR/worker-K/metrics.jsonl. Names
// and units are documented in docs/metrics.md; scripts rely on them.

// RoundEvent reports one completed round.
type RoundEvent struct {
	Event         string  `json:"event"` // "round"
	Worker        int     `json:"worker"`
	Round         uint64  `json:"round"`                // rounds completed, this one included
	Step          uint64  `json:"step"`                 // inner steps of the schedule, to the end of this round
	Tokens        uint64  `json:"tokens"`               // trained by this worker since the run's start
	RunTokens     float64 `json:"run_tokens,omitempty"` // of all workers, in all the means until now
	Steps         uint64  `json:"steps"`                // inner steps in this worker's contribution
	LostTokens    uint64  `json:"lost_tokens"`          // trained by this worker, too late for the round, and given up
	CarriedTokens uint64  `json:"carried_tokens"`       // too late for the round, and kept for a later one
	TrainLoss     float64 `json:"train_loss"`
	Group         int     `json:"group"` // workers in the mean, this one included
	Members       []int   `json:"members"`
	Digest        string  `json:"digest"` // SHA-256 of φ
	BytesSent     uint64  `json:"bytes_sent"`
	BytesReceived uint64  `json:"bytes_received"`
	Seconds       Seconds `json:"seconds"`

	Attempts   int      `json:"attempts"`
	LR         float64  `json:"lr"`                    // inner learning rate of the last step
	GradNorm   float64  `json:"grad_norm"`             // of the last step, before clipping
	DeltaNorm  float64  `json:"delta_norm"`            // of this worker's own Δ
	ReplicaStd *float64 `json:"replica_std,omitempty"` // where replicas differ: estimate from the group
}

// Seconds splits a round by phase, in seconds. Transfer and the phases beside it
// overlap in an all-reduce, so they need not add up to the round's length.
type Seconds struct {
	Inner    float64 `json:"inner"`
	Wait     float64 `json:"wait"`
	Encode   float64 `json:"encode"`
	Transfer float64 `json:"transfer"`
	Decode   float64 `json:"decode"`
	Outer    float64 `json:"outer"`
}

// EvalEvent reports the loss on held-out data.
type EvalEvent struct {
	Event       string  `json:"event"` // "eval"
	Worker      int     `json:"worker"`
	Round       uint64  `json:"round"`
	Step        uint64  `json:"step"`
	Tokens      uint64  `json:"tokens"`
	RunTokens   float64 `json:"run_tokens,omitempty"`
	HeldoutLoss float64 `json:"heldout_loss"` // nats per token, of φ
	Seconds     float64 `json:"eval_seconds"` // not "seconds", which is an object in a round
}

// StepEvent reports progress between rounds. It is shown, not recorded.
type StepEvent struct {
	Event    string  `json:"event"` // "step"
	Worker   int     `json:"worker"`
	Round    uint64  `json:"round"` // rounds completed
	Step     uint64  `json:"step"`
	Tokens   uint64  `json:"tokens"`
	Loss     float64 `json:"loss"` // of this step, nats per token
	LR       float64 `json:"lr"`
	GradNorm float64 `json:"grad_norm"`
	Seconds  float64 `json:"seconds"` // of this step
}

// ResyncEvent reports that this worker took over the state of the others.
type ResyncEvent struct {
	Event     string `json:"event"` // "resync"
	Worker    int    `json:"worker"`
	Why       string `json:"why"`
	FromRound uint64 `json:"from_round"`
	Round     uint64 `json:"round"`
	LostSteps uint64 `json:"lost_steps"` // inner steps whose work was discarded
	// Rounds and tokens of this worker since its state and the others' were last the same.
	LostRounds uint64 `json:"lost_rounds"`
	LostTokens uint64 `json:"lost_tokens"`
	// Tokens that were too late for their round, and are kept for a later one.
	CarriedTokens uint64 `json:"carried_tokens"`
	Digest        string `json:"digest"`
}
