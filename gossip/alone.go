package gossip

import (
	"context"
	"fmt"
)

// Alone averages over nobody: a worker that trains without an exchange.
type Alone struct{ cfg Config }

// NewAlone needs only Config.Worker.
func NewAlone(cfg Config) *Alone { return &Alone{cfg} }

// Average leaves vec as it is; its only member is this worker.
func (a *Alone) Average(ctx context.Context, round uint64, _ Part, vec []float32, weight float64, _ [32]byte) (Outcome, error) {
	if err := ctx.Err(); err != nil {
		return Outcome{}, err
	}
	if err := checkVector(vec); err != nil {
		return Outcome{}, fmt.Errorf("gossip: alone: round %d: %w", round, err)
	}
	if err := checkWeight(weight); err != nil {
		return Outcome{}, fmt.Errorf("gossip: alone: round %d: %w", round, err)
	}
	return Outcome{Members: []int{a.cfg.Worker}, Attempts: 1}, nil
}

// Close does nothing.
func (a *Alone) Close() error { return nil }
