package trainer

import (
	"context"

	"loco/gossip/exchange"
)

// Averager is everything a trainer needs of the other workers: the weighted mean
// of a flat vector over one round's group.
type Averager interface {
	// Average forms Σ wᵢ·vecᵢ / Σ wᵢ over this round's group and says who took part. A
	// slow, lost or lying peer is data in the outcome, not an error; an error means that
	// this worker cannot go on. from is the state the round starts from; members of an
	// all-reduce must agree on it.
	Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error)
	// Over says that the others have finished the round, which began from a state of tokens,
	// without this worker, so that no more of its steps will count in it.
	Over(round uint64, tokens float64) bool
	// Awaited says that the others wait for this worker to bring what it carries.
	Awaited(round uint64) bool
}
