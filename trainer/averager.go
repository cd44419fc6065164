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
}
