package trainer

import (
	"context"

	"loco/gossip/exchange"
)

// prefetch is NoLoCo's exchange of φ while the inner steps run: φ is known when the
// round begins, so only Δ is on the critical path.
type prefetch struct {
	cancel context.CancelFunc
	done   chan struct{}
	out    exchange.Outcome
	err    error
}

// startPrefetch begins the exchange of φ.
func (t *Trainer) startPrefetch(ctx context.Context) error {
	if t.prefetch != nil {
		return nil // of a round that is done again after a resync found nothing newer
	}
	vec, err := t.encode(exchange.Slow, t.cfg.StateFormat, t.vectors.slow)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &prefetch{cancel: cancel, done: make(chan struct{})}
	round := t.round
	go func() {
		defer close(p.done)
		p.out, p.err = t.hooks.Average.Average(ctx, round, exchange.Slow, vec, 1, exchange.Base{})
	}()
	t.prefetch = p
	return nil
}

// joinPrefetch waits for the exchange of φ, which has a deadline of its own.
func (t *Trainer) joinPrefetch() (exchange.Outcome, error) {
	p := t.prefetch
	<-p.done
	p.cancel()
	t.prefetch = nil
	return p.out, p.err
}

// dropPrefetch withdraws from the exchange of φ.
func (t *Trainer) dropPrefetch() {
	if p := t.prefetch; p != nil {
		p.cancel()
		<-p.done
		t.prefetch = nil
	}
}
