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
	"loco/optim"
)

// oneRound is H inner steps, one exchange, one outer step.
func (t *Trainer) oneRound(ctx context.Context) error {
	t.innerSeconds = 0
	var delta float64
	var std *float64
	var out exchange.Outcome
	var err error
	began := t.hooks.Now()
	switch t.cfg.Strategy {
	case "diloco":
		out, delta, err = t.diloco(ctx)
	case "noloco":
		out, delta, std, err = t.nolocoRound(ctx)
	case "ddp":
		out, delta, err = t.ddp(ctx)
	case "alone":
		out, err = t.alone(ctx)
	}
	if err != nil {
		return err
	}
	if out.Behind {
		t.pending.doubtful = t.pending.doubtful || out.Attempts > 0
		return t.resync(ctx, out.Why)
	}
	now := t.hooks.Now()
	total := now.Sub(began).Seconds()
	last, done := max(t.step, 1)-1, t.pending
	lost := t.settle(out)
	late := t.lateness(out)
	t.clock.begin(now, late) // an evaluation takes from the next round's time
	t.round++
	t.step = max(t.step, t.round*t.cfg.InnerSteps) // every round is as wide in the schedule
	t.runTokens += out.Tokens
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
		Attempts: out.Attempts, LR: t.lr(last, max(t.updates, 1)-1), GradNorm: t.lastNorm, DeltaNorm: delta, ReplicaStd: std,
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

// diloco is one round of Algorithm 1 of arXiv 2311.08105.
func (t *Trainer) diloco(ctx context.Context) (out exchange.Outcome, norm float64, err error) {
	if err := t.innerSteps(ctx); err != nil { // θ ← InnerOpt(θ, ∇L), H times
		return out, 0, err
	}
	v := t.vectors
	v.pull()
	optim.PseudoGradient(v, v.grad, v.slow, v.fast) // Δ ← φ − θ
	if norm, err = t.finite(v.grad); err != nil {
		return out, norm, err
	}
	out, err = t.average(ctx, v.grad, t.cfg.Format, float64(t.pending.tokens))
	if err != nil || out.Behind {
		return out, norm, err
	}
	carries := t.carriesFrom(out)
	if carries {
		v.Copy(v.before, v.slow)
	}
	t.outerStep(out.Mean) // φ ← OuterOpt(φ, mean Δ)
	if carries {
		t.rebase()
		return out, norm, nil
	}
	v.restart() // θ ← φ
	return out, norm, nil
}

// nolocoRound is one round of section 3 of arXiv 2506.10911, with φ exchanged
// under the inner steps.
func (t *Trainer) nolocoRound(ctx context.Context) (out exchange.Outcome, norm float64, std *float64, err error) {
	if !t.cfg.FastOnly {
		if err := t.startPrefetch(ctx); err != nil { // mean φ
			return out, 0, nil, err
		}
	}
	if err := t.innerSteps(ctx); err != nil {
		return out, 0, nil, err
	}
	v := t.vectors
	v.pull()
	optim.Progress(v, v.grad, v.slow, v.fast) // Δ ← θ − φ
	if norm, err = t.finite(v.grad); err != nil {
		return out, norm, nil, err
	}
	if t.cfg.FastOnly {
		v.Copy(v.grad, v.fast) // what crosses is θ itself
	}
	out, err = t.average(ctx, v.grad, t.cfg.Format, float64(t.pending.tokens))
	if err != nil || out.Behind {
		return out, norm, nil, err
	}
	var slow exchange.Outcome
	members := out.Members
	if !t.cfg.FastOnly {
		began := t.hooks.Now()
		if slow, err = t.joinPrefetch(); err != nil {
			return out, norm, nil, err
		}
		out.Seconds.Wait += t.hooks.Now().Sub(began).Seconds()
		out.BytesSent += slow.BytesSent
		out.BytesReceived += slow.BytesReceived
		members = slow.Members
	}
	std = t.outerPair(out.Mean, slow.Mean, len(members))
	v.restart()
	return out, norm, std, nil
}

// ddp is one step of data-parallel training: the mean gradient, then AdamW.
func (t *Trainer) ddp(ctx context.Context) (out exchange.Outcome, norm float64, err error) {
	if err := ctx.Err(); err != nil {
		return out, 0, err
	}
	began := t.hooks.Now()
	loss, n, err := t.learner.Gradient(t.batch)
	if err != nil {
		return out, 0, fmt.Errorf("trainer: step %d: %w", t.step, err)
	}
	v := t.vectors
	v.pullGradient()
	spent := t.hooks.Now().Sub(began)
	if norm, err = t.finite(v.grad); err != nil {
		return out, norm, err
	}
	out, err = t.average(ctx, v.grad, t.cfg.Format, float64(n))
	if err != nil || out.Behind {
		return out, norm, err
	}
	began = t.hooks.Now().Add(-spent) // the exchange is not part of the inner step
	v.apply(v.grad, t.cfg.Format, out.Mean)
	v.pushGradient()
	return out, norm, t.update(loss, n, began)
}

// alone is the inner steps of one round, and nothing else.
func (t *Trainer) alone(ctx context.Context) (exchange.Outcome, error) {
	return exchange.Outcome{Members: []int{t.cfg.Worker}, Attempts: 1}, t.innerSteps(ctx)
}

// innerSteps trains to the end of the round in progress.
func (t *Trainer) innerSteps(ctx context.Context) error {
	for t.step < (t.round+1)*t.cfg.InnerSteps && !t.timeIsUp() {
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
		t.yield()
		if t.hooks.Over(t.round, t.runTokens) || t.pending.rounds > 0 && t.hooks.Awaited(t.round) {
			return nil
		}
	}
	return nil
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
	if t.cfg.Strategy == "noloco" || t.cfg.Strategy == "alone" {
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
	t.dropPrefetch()
	s, err := t.fetch(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, ErrNobody) {
		return nil // as below; they say it again when they can be reached
	}
	if err != nil {
		return fmt.Errorf("trainer: round %d: take over the others' state (%s): %w", t.round, why, err)
	}
	e, err := t.TakeOver(s, why)
	if e == nil || err != nil {
		return err
	}
	if t.cfg.Strategy == "ddp" {
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

// fetch gets the others' state. This worker's own does not change meanwhile, so CaptureShared may
// have it: two workers that fetch from each other must not wait for each other.
func (t *Trainer) fetch(ctx context.Context) (s *Snapshot, err error) {
	t.unlock()
	defer func() { t.sem <- struct{}{} }()
	for try := range fetchTries {
		s, err = t.hooks.Fetch(ctx)
		if err == nil || ctx.Err() != nil || try == fetchTries-1 || errors.Is(err, ErrNobody) && try == nobodyTries-1 {
			break
		}
		again := time.NewTimer(fetchPause << try)
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
	return s, err
}

// lr is the inner learning rate of a step, for moments of so many updates.
func (t *Trainer) lr(step, updates uint64) float64 {
	if t.cfg.InnerLR == nil {
		return 0
	}
	return t.cfg.InnerLR(step, updates)
}

// finite returns the norm of this worker's own contribution, or an error: nothing
// that is not finite, or not what a device computed, may reach the others.
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
