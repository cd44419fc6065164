package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/trainer/strategy"
)

// landed is what became of a round's exchanges.
type landed struct {
	exchange.Outcome          // of the strategy's main crossing
	brings           pending  // what this worker gave to it
	norm             float64  // of this worker's own Δ
	std              *float64 // estimate of the replicas' spread
}

// oneRound is a round's inner steps, its exchanges and its outer step.
func (t *Trainer) oneRound(ctx context.Context) error {
	t.innerSeconds = 0
	began := t.hooks.Now()
	out, err := t.trainAndExchange(ctx)
	if err != nil {
		return err
	}
	if out.Behind {
		t.pending.doubtful = t.pending.doubtful || out.Attempts > 0
		return t.resync(ctx, out.Why)
	}
	now := t.hooks.Now()
	total := now.Sub(began).Seconds()
	last, done := max(t.step, 1)-1, out.brings
	lost := t.settle(out.Outcome, out.brings)
	late := t.lateness(out.Outcome)
	t.clock.begin(now, late) // an evaluation takes from the next round's time
	t.round++
	t.step = max(t.step, t.round*t.cfg.InnerSteps) // every round is as wide in the schedule
	if t.strategy.Equal {
		t.runTokens += out.Tokens
	}
	t.updateDigest()
	if err := t.broken(); err != nil {
		return err
	}
	t.mark()
	e := &RoundEvent{
		Event: "round", Worker: t.cfg.Worker, Round: t.round, Step: t.step, Tokens: t.tokens,
		RunTokens: t.runTokens, Steps: done.steps, LostTokens: lost, CarriedTokens: t.pending.tokens,
		TrainLoss: done.loss / float64(max(1, done.tokens)), Group: len(out.Members), Members: out.Members,
		Digest: t.SlowDigest(), BytesSent: out.BytesSent, BytesReceived: out.BytesReceived,
		Attempts: out.Attempts, LR: t.lr(last, max(t.updates, 1)-1), GradNorm: t.lastNorm, DeltaNorm: out.norm, ReplicaStd: out.std,
		Seconds: Seconds{
			Inner: t.innerSeconds, Wait: out.Seconds.Wait, Encode: out.Seconds.Encode,
			Transfer: out.Seconds.Transfer, Decode: out.Seconds.Decode,
		},
	}
	s := out.Seconds
	e.Seconds.Outer = max(0, total-t.innerSeconds-s.Wait-s.Encode-s.Transfer-s.Decode)
	t.hooks.Report(e)
	t.step += t.stepsIn(late)
	return t.afterRound(ctx, out.Members)
}

// trainAndExchange is the body of a round, which is the same for all strategies: crossings begin in
// their time, the inner steps are trained, what flies lands, and the outer step is taken.
func (t *Trainer) trainAndExchange(ctx context.Context) (out landed, err error) {
	var grad gradient
	if t.strategy.EveryStep {
		grad, err = t.gradient(ctx)
	} else {
		err = t.innerSteps(ctx) // θ ← InnerOpt(θ, ∇L), H times
	}
	if err != nil {
		return out, err
	}
	if out.norm, err = t.learnt(); err != nil {
		return out, err
	}
	if err := t.begin(ctx, 0); err != nil {
		return out, err
	}
	in, err := t.landAll(&out)
	if err != nil || out.Behind {
		return out, err
	}
	if t.strategy.EveryStep {
		err := t.apply(in, grad)
		out.brings = t.pending
		return out, err
	}
	if t.strategy.Resume == nil { // whatever was learnt in flight is given up for φ
		out.brings = t.pending
	}
	t.outerStep(in, &out)
	return out, nil
}

// learnt makes Δ, and returns the norm of this worker's own contribution, or an error: nothing that
// is not finite, or not what a device computed, may reach the others.
func (t *Trainer) learnt() (norm float64, err error) {
	v := t.vectors
	switch {
	case t.strategy.EveryStep:
		v.pullGradient()
	case t.strategy.Learnt == nil:
		return 0, nil
	default:
		v.pull()
		t.strategy.Learnt(&v.Vectors)
	}
	return t.finite(v.Grad)
}

// gradient is one batch's, not yet given to the optimizer.
type gradient struct {
	loss   float64
	tokens int
	spent  time.Duration
}

// gradient trains on the next batch up to its gradient.
func (t *Trainer) gradient(ctx context.Context) (g gradient, err error) {
	if err := ctx.Err(); err != nil {
		return g, err
	}
	began := t.hooks.Now()
	if g.loss, g.tokens, err = t.learner.Gradient(t.batch); err != nil {
		return g, fmt.Errorf("trainer: step %d: %w", t.step, err)
	}
	t.ungiven = uint64(g.tokens)
	g.spent = t.hooks.Now().Sub(began)
	return g, nil
}

// apply takes the inner optimizer's step from the mean of the workers' gradients.
func (t *Trainer) apply(in *strategy.Landing, g gradient) error {
	began := t.hooks.Now().Add(-g.spent) // the exchange is not part of the inner step
	v := t.vectors
	in.Mean(&v.Vectors, exchange.Delta, v.Grad)
	v.pushGradient()
	return t.update(g.loss, g.tokens, began)
}

// innerSteps trains to the end of the round in progress, and begins on its way what flies under the
// steps that are left.
func (t *Trainer) innerSteps(ctx context.Context) error {
	end := (t.round + 1) * t.cfg.InnerSteps
	left := func() uint64 { return max(end, t.step+1) - t.step } // at 0 the critical ones begin
	if err := t.begin(ctx, left()); err != nil {
		return err
	}
	for t.step < end && !t.timeIsUp() {
		if err := ctx.Err(); err != nil {
			return err
		}
		began := t.hooks.Now()
		loss, n, err := t.learner.Gradient(t.batch)
		if err != nil {
			return fmt.Errorf("trainer: step %d: %w", t.step, err)
		}
		if err := t.update(loss, n, began); err != nil {
			return err
		}
		if err := t.begin(ctx, left()); err != nil {
			return err
		}
		t.yield()
		if t.hurried() {
			return nil
		}
	}
	return nil
}

// hurried says that no more of this worker's steps will count in the round, or that the others wait
// for what it carries. With its own part in flight it trains on, because the mean comes to it, unless
// the others have gone on without that part: else it would be a round late for ever.
func (t *Trainer) hurried() bool {
	main := t.strategy.Main()
	if main == nil {
		return false
	}
	if f := t.inFlight(main.Part); f != nil {
		return f.missed(t.cfg.Worker)
	}
	return t.hooks.Average.Over(t.round, t.runTokens) || t.pending.rounds > 0 && t.hooks.Average.Awaited(t.round)
}

// update takes one AdamW step from the learner's gradient and counts it, with the time
// since began.
func (t *Trainer) update(loss float64, n int, began time.Time) error {
	t.lastNorm = t.learner.Update(t.step, t.updates)
	if err := t.broken(); err != nil {
		return err
	}
	mean := loss / float64(max(1, n))
	if math.IsNaN(mean+t.lastNorm) || math.IsInf(mean+t.lastNorm, 0) {
		return fmt.Errorf("trainer: step %d: loss %v, gradient norm %v: %w; a smaller inner.lr (now %.3g) or a longer inner.warmup helps, and the last checkpoint is from before", t.step, mean, t.lastNorm, ErrDiverged, t.lr(t.step, t.updates))
	}
	t.ungiven = 0
	t.step++
	t.batch++
	t.updates++
	t.trained++
	t.tokens += uint64(n)
	t.pending.steps++
	t.pending.tokens += uint64(n)
	t.pending.loss += loss
	t.publish()
	t.clock.step = t.hooks.Now().Sub(began)
	seconds := t.clock.step.Seconds()
	t.innerSeconds += seconds
	t.hooks.Report(&StepEvent{
		Event: "step", Worker: t.cfg.Worker, Round: t.round, Step: t.step, Tokens: t.tokens,
		Loss: mean, LR: t.lr(t.step-1, t.updates-1), GradNorm: t.lastNorm, Seconds: seconds,
	})
	return nil
}

// afterRound evaluates and saves where they are due.
func (t *Trainer) afterRound(ctx context.Context, members []int) error {
	last := t.round == t.cfg.Rounds
	if (due(t.round, t.cfg.EvalEvery) || last) && t.evaluates(members) {
		began := t.hooks.Now()
		loss, err := t.learner.Evaluate()
		if err == nil {
			err = t.broken()
		}
		if err != nil {
			return fmt.Errorf("trainer: evaluate round %d: %w", t.round, err)
		}
		t.hooks.Report(&EvalEvent{
			Event: "eval", Worker: t.cfg.Worker, Round: t.round, Step: t.step, Tokens: t.tokens,
			RunTokens: t.runTokens, HeldoutLoss: loss, Seconds: t.hooks.Now().Sub(began).Seconds(),
		})
		t.yield()
	}
	if due(t.round, t.cfg.SaveEvery) && t.round < t.cfg.StopAfter {
		return t.save(ctx)
	}
	return nil
}

// evaluates says whether it is this worker's turn: replicas that are identical take
// turns, replicas that differ each have a loss of their own.
func (t *Trainer) evaluates(members []int) bool {
	if !t.strategy.Equal {
		return true
	}
	if len(members) == 0 { // the result of others, adopted by a worker that came late
		return false
	}
	turn := t.round / max(1, t.cfg.EvalEvery) % uint64(len(members))
	return members[turn] == t.cfg.Worker
}

func due(round, every uint64) bool { return every > 0 && round%every == 0 }

// resync takes over the others' state, and counts what that discards.
func (t *Trainer) resync(ctx context.Context, why string) error {
	t.dropFlights()
	f, err := t.fetch(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exchange.ErrNobody) {
		return nil // as below; they say it again when they can be reached
	}
	if err != nil {
		return fmt.Errorf("trainer: round %d: take over the others' state (%s): %w", t.round, why, err)
	}
	e, err := t.TakeOver(f, why)
	if e == nil || err != nil {
		return err
	}
	if t.strategy.EveryStep {
		e.LostSteps++ // the gradient just computed
	}
	t.hooks.Report(e)
	return nil
}

// How a worker that is behind asks for the others' state: sources die and links break just
// when rounds fail, so it asks again, half a minute in all.
const (
	fetchTries  = 7
	nobodyTries = 4               // where nobody is there to ask
	fetchPause  = time.Second / 2 // doubles after each
)

// fetch gets the others' state. This worker's own does not change meanwhile, so Share may
// have it: two workers that fetch from each other must not wait for each other.
func (t *Trainer) fetch(ctx context.Context) (f *exchange.Fetched, err error) {
	t.unlock()
	defer func() { t.sem <- struct{}{} }()
	for try := range fetchTries {
		f, err = t.hooks.Fetch(ctx)
		if err == nil || ctx.Err() != nil || try == fetchTries-1 || errors.Is(err, exchange.ErrNobody) && try == nobodyTries-1 {
			break
		}
		again := time.NewTimer(fetchPause << try)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
	return f, err
}

// lr is the inner learning rate of a step, for moments of so many updates.
func (t *Trainer) lr(step, updates uint64) float64 {
	if t.cfg.InnerLR == nil {
		return 0
	}
	return t.cfg.InnerLR(step, updates)
}

// finite returns the norm of x, or an error where that is not finite.
func (t *Trainer) finite(x kernels.Buffer) (float64, error) {
	sum := t.vectors.SquaredNorm(x)
	if err := t.broken(); err != nil {
		return 0, err
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		values := make([]float32, x.Len())
		t.vectors.Download(values, x)
		i := slices.IndexFunc(values, func(v float32) bool { return v-v != 0 })
		return sum, fmt.Errorf("trainer: round %d, step %d: parameter %d of the contribution is not finite: %w; a smaller inner.lr helps", t.round, t.step, i, ErrDiverged)
	}
	return math.Sqrt(sum), nil
}
