package trainer

import "context"

// Part says which vector of a round is averaged.
type Part uint8

// The vectors that cross the network.
const (
	Delta Part = iota // pseudo-gradient, or the gradient when H = 1 (ddp)
	Slow              // NoLoCo's φ, known before the inner phase ends
)

// Averager is everything a trainer needs of the other workers: the weighted mean
// of a flat vector over one round's group.
type Averager interface {
	// Average forms Σ wᵢ·vecᵢ / Σ wᵢ over this round's group and says who took part. A
	// slow, lost or lying peer is data in the outcome, not an error; an error means that
	// this worker cannot go on. from is the state the round starts from; members of an
	// all-reduce must agree on it.
	Average(ctx context.Context, round uint64, part Part, vec Vector, weight float64, from Base) (Outcome, error)
}

// Vector is a vector as it crosses the network: the part's format's encoding of so many
// values. The bytes do not change until Average returns.
type Vector struct {
	Values int
	Bytes  []byte
}

// Term is Share·decoded(Bytes), the bytes being sound in the part's format.
type Term struct {
	Bytes []byte
	Share float32
}

// Base is the state that a round starts from.
type Base struct {
	Digest [32]byte
	Tokens float64 // that all workers trained to get there
}

// Outcome says what became of one Average.
type Outcome struct {
	Members []int   // worker numbers that are in the mean, ascending
	Tokens  float64 // Σ of their weights; 0 for a pair
	Former  bool    // what the mean has of this worker is of a process before this one
	// Mean is the mean: its terms' sum in their order, from 0. Its bytes stay as they are until
	// the next Average of the part. Without any the vector stays as it is.
	Mean []Term
	// Behind is set when this worker may not use the result: the others are in
	// another round or hold other bytes. It must fetch their state; Why says more.
	Behind bool
	Why    string

	Attempts                 int // with 0 nothing of the vector has left this worker
	BytesSent, BytesReceived uint64
	Seconds                  ExchangeSeconds
}

// ExchangeSeconds splits an exchange by phase.
type ExchangeSeconds struct{ Wait, Encode, Transfer, Decode float64 }
