package trainer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/trainer/strategy"
)

// flight is an exchange in flight: begun at some step of a round, collected at the round's end.
type flight struct {
	*strategy.Crossing
	round  uint64
	brings pending // what of this worker's steps is in it
	cancel context.CancelFunc
	done   chan struct{}
	out    exchange.Outcome
	err    error
}

// begin begins the crossings whose time has come: those that fly under at least the inner steps
// that are left, and do not fly yet.
func (t *Trainer) begin(ctx context.Context, left uint64) error {
	for i := range t.strategy.Crossings {
		if c := &t.strategy.Crossings[i]; c.Under >= left && t.inFlight(c.Part) == nil {
			if err := t.beginCrossing(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Trainer) inFlight(part exchange.Part) *flight {
	for _, f := range t.flights {
		if f.Part == part {
			return f
		}
	}
	return nil
}

// beginCrossing encodes what crosses and gives it to the others. The group's members agree on the
// state at hand, so it must be what the host's copy has too.
func (t *Trainer) beginCrossing(ctx context.Context, c *strategy.Crossing) error {
	if c.Under == 0 {
		if err := ctx.Err(); err != nil {
			return err // a stop in the last step: if the others have left already, it would average alone
		}
		if err := t.mirror.check(t.round, t.sums); err != nil {
			return err
		}
	}
	if !t.strategy.EveryStep && (c.Under > 0 || t.strategy.Learnt == nil) {
		t.vectors.pull() // else learnt has
	}
	began := t.hooks.Now()
	vec, err := t.encodeCrossing(c)
	if err != nil {
		return err
	}
	vec.Slack = t.slack(c)
	encoded := t.hooks.Now().Sub(began).Seconds()
	ctx, cancel := context.WithCancel(ctx)
	f := &flight{Crossing: c, round: t.round, brings: t.pending, cancel: cancel, done: make(chan struct{})}
	base, weight := exchange.Base{Digest: t.stateDigest, Tokens: t.runTokens}, t.weight(c.Part)
	go func() {
		defer close(f.done)
		f.out, f.err = t.hooks.Average.Average(ctx, f.round, c.Part, vec, weight, base)
		f.out.Seconds.Encode += encoded
	}()
	t.flights = append(t.flights, f)
	return nil
}

// slack is how long inner steps go on before the mean of a crossing that begins now is needed, as far
// as the last step tells.
func (t *Trainer) slack(c *strategy.Crossing) time.Duration {
	if c.Under == 0 || t.clock.step <= 0 {
		return 0
	}
	steps := (t.round+1)*t.cfg.InnerSteps - min(t.step, (t.round+1)*t.cfg.InnerSteps)
	left := time.Duration(min(steps, c.Under)) * t.clock.step
	if t.cfg.InnerTime > 0 {
		left = min(left, max(0, t.cfg.InnerTime-t.clock.elapsed(t.hooks.Now())))
	}
	return left
}

// weight is this worker's share in a mean: of what was learnt the tokens that it was learnt from;
// states weigh the same.
func (t *Trainer) weight(part exchange.Part) float64 {
	if part == exchange.Slow {
		return 1
	}
	return float64(t.pending.tokens + t.ungiven)
}

// land waits for a flight, which has a deadline of its own. The state does not change meanwhile, so
// Share may have it: a joiner need not wait for an exchange.
func (t *Trainer) land(part exchange.Part) (f *flight, err error) {
	f = t.inFlight(part)
	t.unlock()
	<-f.done
	t.sem <- struct{}{}
	f.cancel()
	t.flights = without(t.flights, f)
	if t.hooks.Exchanged != nil {
		t.hooks.Exchanged(f.round, part, f.out, f.err)
	}
	return f, f.err
}

// missed says that the exchange has ended without this worker's part in a mean.
func (f *flight) missed(worker int) bool {
	select {
	case <-f.done:
		return f.err != nil || f.out.Behind || !slices.Contains(f.out.Members, worker)
	default:
		return false
	}
}

// dropFlights withdraws from what has not landed.
func (t *Trainer) dropFlights() {
	for _, f := range t.flights {
		f.cancel()
		<-f.done
	}
	t.flights = nil
}

func without(flights []*flight, gone *flight) (left []*flight) {
	for _, f := range flights {
		if f != gone {
			left = append(left, f)
		}
	}
	return left
}

// encodeCrossing returns what of a crossing crosses the network. The bytes are the trainer's, until the
// round after the next: the mirror may still read them in the next.
func (t *Trainer) encodeCrossing(c *strategy.Crossing) (exchange.Vector, error) {
	own := &t.encoded[c.Part][t.round%2]
	if t.mirror == nil {
		own = &t.encoded[c.Part][0]
	}
	if c.Encode == nil {
		return t.encode(own, t.formats[c.Part], c.Vector(&t.vectors.Vectors))
	}
	vec, err := c.Encode(&t.vectors.Vectors, *own)
	if err != nil {
		return vec, fmt.Errorf("trainer: round %d, step %d: the contribution cannot be encoded: %w: %w", t.round, t.step, ErrDiverged, err)
	}
	*own = vec.Bytes
	return vec, t.broken()
}

// encode writes x to own in a device's format.
func (t *Trainer) encode(own *[]byte, f kernels.Format, x kernels.Buffer) (exchange.Vector, error) {
	if n := f.EncodedLen(x.Len()); cap(*own) < n {
		*own = make([]byte, n)
	} else {
		*own = (*own)[:n]
	}
	n := t.vectors.Encode(*own, f, x)
	if err := t.broken(); err != nil {
		return exchange.Vector{}, err
	}
	if n < x.Len() {
		return exchange.Vector{}, fmt.Errorf("trainer: round %d, step %d: the contribution is not finite from about parameter %d on: %w; a smaller inner.lr helps", t.round, t.step, n, ErrDiverged)
	}
	return exchange.Vector{Values: x.Len(), Bytes: *own}, nil
}
