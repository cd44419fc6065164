package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/trainer/strategy"
)

// quadratic is a learner whose gradient is known: the loss of worker w at step s is
// ½‖θ − c(w, s)‖², and the inner optimiser is SGD with a momentum m, so that there
// is inner state to lose. v counts the updates.
type quadratic struct {
	theta, m, v, grad []float32
	center            func(step uint64, i int) float32
	lr                float32
	onStep            func(step uint64)
	lost              error
}

func newQuadratic(n int, center func(step uint64, i int) float32) *quadratic {
	q := &quadratic{theta: make([]float32, n), m: make([]float32, n), v: make([]float32, n), grad: make([]float32, n), center: center, lr: 0.05}
	for i := range q.theta {
		q.theta[i] = 1 + float32(i)/8
	}
	return q
}

func (q *quadratic) Parameters() int { return len(q.theta) }

func (q *quadratic) Err() error { return q.lost }

// lose leaves nothing of use behind, as a device does that fell off the bus.
func (q *quadratic) lose() {
	q.lost = errors.New("fell off the bus")
	for _, x := range [][]float32{q.theta, q.m, q.v, q.grad} {
		for i := range x {
			x[i] = float32(math.NaN())
		}
	}
}

func (q *quadratic) Gradient(step uint64) (loss float64, tokens int, err error) {
	if q.onStep != nil {
		q.onStep(step)
	}
	for i, x := range q.theta {
		q.grad[i] = x - q.center(step, i)
		loss += float64(q.grad[i]*q.grad[i]) / 2
	}
	return loss, 10, nil
}

func (q *quadratic) Update(_, _ uint64) (norm float64) {
	for i, g := range q.grad {
		norm += float64(g * g)
		q.m[i] = float32(0.5*q.m[i]) + g
		q.v[i]++
		q.theta[i] -= float32(q.lr * q.m[i])
	}
	return math.Sqrt(norm)
}

func (q *quadratic) Evaluate() (float64, error) {
	loss, _, err := q.Gradient(0)
	return loss, err
}

func (q *quadratic) ReadGradient(dst []float32)  { copy(dst, q.grad) }
func (q *quadratic) WriteGradient(src []float32) { copy(q.grad, src) }
func (q *quadratic) ReadParams(dst []float32)    { copy(dst, q.theta) }
func (q *quadratic) WriteParams(src []float32)   { copy(q.theta, src) }
func (q *quadratic) ReadMoments(m, v []float32)  { copy(m, q.m); copy(v, q.v) }
func (q *quadratic) WriteMoments(m, v []float32) { copy(q.m, m); copy(q.v, v) }

func values(b kernels.Buffer) []float32 { return kernels.HostValues(b) }

// momentum is δ, nil in ddp.
func momentum(t *Trainer) []float32 {
	if !t.outer() {
		return nil
	}
	return values(t.vectors.Of(strategy.Momentum))
}

// Capture copies the whole state, between two inner steps of a trainer that runs.
func (t *Trainer) Capture(ctx context.Context, s *Snapshot) error {
	if err := t.lock(ctx); err != nil {
		return fmt.Errorf("trainer: capture the state: %w", err)
	}
	defer t.unlock()
	return t.capture(s)
}

// exact averages among n workers of one process, in worker order, in fp32.
type exact struct {
	n    int
	mu   sync.Mutex
	open map[[2]uint64]*meeting
}

type meeting struct {
	vecs   [][]float32
	weight []float64
	digest map[[32]byte]bool
	here   int
	full   chan struct{}
}

func newExact(n int) *exact { return &exact{n: n, open: map[[2]uint64]*meeting{}} }

func (x *exact) worker(k int) Averager { return &exactWorker{exact: x, k: k} }

type exactWorker struct {
	prompt
	*exact
	k int
}

// onFloats does with the values of a vector in fp32 what a test wants to be its mean.
func onFloats(v exchange.Vector, f func(vec []float32) (exchange.Outcome, error)) (exchange.Outcome, error) {
	vec := make([]float32, v.Values)
	kernels.FormatFP32.Decode(vec, v.Bytes)
	out, err := f(vec)
	mean := make([]byte, len(v.Bytes))
	kernels.FormatFP32.Encode(mean, vec)
	out.Mean = []exchange.Term{{Bytes: mean, Share: 1}}
	return out, err
}

func (w *exactWorker) Average(ctx context.Context, round uint64, part exchange.Part, v exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	return onFloats(v, func(vec []float32) (exchange.Outcome, error) { return w.average(ctx, round, part, vec, weight, from) })
}

func (w *exactWorker) average(ctx context.Context, round uint64, part exchange.Part, vec []float32, weight float64, from exchange.Base) (exchange.Outcome, error) {
	w.mu.Lock()
	key := [2]uint64{round, uint64(part)}
	m := w.open[key]
	if m == nil {
		m = &meeting{vecs: make([][]float32, w.n), weight: make([]float64, w.n), digest: map[[32]byte]bool{}, full: make(chan struct{})}
		w.open[key] = m
	}
	m.vecs[w.k], m.weight[w.k] = slices.Clone(vec), weight
	m.digest[from.Digest] = true
	if m.here++; m.here == w.n {
		close(m.full)
	}
	w.mu.Unlock()
	select {
	case <-m.full:
	case <-ctx.Done():
		w.mu.Lock()
		m.here--
		w.mu.Unlock()
		return exchange.Outcome{}, ctx.Err()
	}
	out := exchange.Outcome{Attempts: 1}
	total := 0.0
	for k, v := range m.weight {
		total += v
		out.Members = append(out.Members, k)
	}
	clear(vec)
	for k, v := range m.vecs {
		for i := range vec {
			vec[i] += float32(m.weight[k]/total) * v[i]
		}
	}
	return out, nil
}

func diloco(h, rounds uint64) Config {
	return Config{Strategy: "diloco", Rounds: rounds, InnerSteps: h, Options: strategy.Options{OuterLR: 0.7, OuterMomentum: 0.9}}
}

func drift(worker int) func(uint64, int) float32 {
	return func(step uint64, i int) float32 {
		return float32(math.Sin(float64(step*7)+float64(i)+float64(worker)*3)) / 4
	}
}

func start(t *testing.T, cfg Config, q Learner, hooks Hooks) *Trainer {
	t.Helper()
	tr, err := New(cfg, q, hooks)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func run(t *testing.T, tr *Trainer) {
	t.Helper()
	if err := tr.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// together runs n workers to the end and returns their learners and trainers.
func together(t *testing.T, n int, cfg Config, center func(worker int) func(uint64, int) float32) ([]*quadratic, []*Trainer) {
	t.Helper()
	net := newExact(n)
	qs, trs := make([]*quadratic, n), make([]*Trainer, n)
	var wg sync.WaitGroup
	for k := range n {
		c := cfg
		c.Worker = k
		qs[k] = newQuadratic(5, center(k))
		trs[k] = start(t, c, qs[k], Hooks{Average: net.worker(k)})
		wg.Go(func() {
			if err := trs[k].Run(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return qs, trs
}

func equal(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// Reference: DiLoCo §2: with one worker, H = 1, η = 1 and μ = 0 the outer step lands
// on θ, so the run is plain training.
func TestOneWorkerWithoutMomentumIsPlainTraining(t *testing.T) {
	cfg := Config{Strategy: "diloco", Rounds: 40, InnerSteps: 1, Options: strategy.Options{OuterLR: 1}}
	a, _ := together(t, 1, cfg, drift)
	cfg.Strategy = "alone"
	b := newQuadratic(5, drift(0))
	run(t, start(t, cfg, b, Hooks{}))
	for i := range b.theta {
		if !(math.Abs(float64(a[0].theta[i]-b.theta[i])) <= 1e-6) {
			t.Fatalf("parameter %d: DiLoCo %v, plain %v", i, a[0].theta[i], b.theta[i])
		}
	}
}

func TestIdenticalWorkersEqualOne(t *testing.T) {
	same := func(int) func(uint64, int) float32 { return drift(0) }
	for _, cfg := range []Config{
		diloco(4, 6),
		{Strategy: "noloco", Rounds: 6, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7}},
		{Strategy: "noloco", Rounds: 6, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7, FastOnly: true}},
		{Strategy: "ddp", Rounds: 6, InnerSteps: 4},
	} {
		one, _ := together(t, 1, cfg, same)
		many, trs := together(t, 4, cfg, same)
		for k := range many {
			equal(t, cfg.Strategy, many[k].theta, one[0].theta)
			if trs[k].SlowDigest() != trs[0].SlowDigest() {
				t.Fatalf("%s: digests differ", cfg.Strategy)
			}
		}
	}
}

// Reference: DiLoCo §2: every replica starts the next round from the same φ.
func TestReplicasAgreeAfterEveryRound(t *testing.T) {
	var mu sync.Mutex
	digests := map[uint64]map[string]bool{}
	net := newExact(3)
	var wg sync.WaitGroup
	for k := range 3 {
		cfg := diloco(5, 8)
		cfg.Worker = k
		tr := start(t, cfg, newQuadratic(5, drift(k)), Hooks{Average: net.worker(k), Report: func(e any) {
			if r, ok := e.(*RoundEvent); ok {
				mu.Lock()
				defer mu.Unlock()
				if digests[r.Round] == nil {
					digests[r.Round] = map[string]bool{}
				}
				digests[r.Round][r.Digest] = true
			}
		}})
		wg.Go(func() { run(t, tr) })
	}
	wg.Wait()
	for r := uint64(1); r <= 8; r++ {
		if len(digests[r]) != 1 {
			t.Errorf("round %d has %d digests, want 1", r, len(digests[r]))
		}
	}
}

// Reference: DiLoCo §2 "inner optimizer states are not synchronised": an exchange
// changes neither the moments nor their count, and the schedule goes on.
func TestInnerStateIsUntouchedByTheOuterStep(t *testing.T) {
	q := newQuadratic(5, drift(0))
	m, v := make([]float32, 5), make([]float32, 5)
	spy := averagerFunc(func(vec []float32) { q.ReadMoments(m, v); clear(vec) })
	tr := start(t, diloco(5, 1), q, Hooks{Average: spy})
	run(t, tr)
	equal(t, "m", q.m, m)
	equal(t, "v", q.v, v)
	if _, step, _ := tr.Position(); step != 5 || q.v[0] != 5 {
		t.Fatalf("step %d, %v updates, want 5 of each", step, q.v[0])
	}
}

type averagerFunc func(vec []float32)

func (averagerFunc) Over(uint64, float64) bool { return false }
func (averagerFunc) Awaited(uint64) bool       { return false }

func (f averagerFunc) Average(_ context.Context, _ uint64, _ exchange.Part, v exchange.Vector, _ float64, _ exchange.Base) (exchange.Outcome, error) {
	return onFloats(v, func(vec []float32) (exchange.Outcome, error) {
		f(vec)
		return exchange.Outcome{Members: []int{0}, Attempts: 1}, nil
	})
}

// ddp's mean gradient over workers is the gradient of the whole batch.
func TestDDPEqualsOneWorkerWithTheWholeBatch(t *testing.T) {
	cfg := Config{Strategy: "ddp", Rounds: 5, InnerSteps: 4}
	many, _ := together(t, 2, cfg, drift)
	whole := newQuadratic(5, func(s uint64, i int) float32 { return (drift(0)(s, i) + drift(1)(s, i)) / 2 })
	cfg.Strategy = "alone"
	run(t, start(t, cfg, whole, Hooks{}))
	for i := range whole.theta {
		if !(math.Abs(float64(many[0].theta[i]-whole.theta[i])) <= 1e-5) {
			t.Fatalf("parameter %d: ddp %v, whole batch %v", i, many[0].theta[i], whole.theta[i])
		}
	}
}

// Stopping after any step and going on from the snapshot gives the same bits as
// never having stopped.
func TestResumeEqualsNeverHavingStopped(t *testing.T) {
	for _, cfg := range []Config{
		diloco(4, 5),
		{Strategy: "noloco", Rounds: 5, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}},
		{Strategy: "ddp", Rounds: 2, InnerSteps: 4},
		{Strategy: "alone", Rounds: 3, InnerSteps: 4},
	} {
		want, trs := together(t, 1, cfg, drift)
		for at := uint64(0); at < cfg.Rounds*cfg.InnerSteps; at++ {
			stop := make(chan struct{})
			q := newQuadratic(5, drift(0))
			q.onStep = func(step uint64) {
				if step == at {
					close(stop)
					q.onStep = nil
				}
			}
			var saved Snapshot
			hooks := Hooks{Average: newExact(1).worker(0), Save: func(_ context.Context, capture func(*Snapshot) error) error {
				return capture(&saved)
			}}
			err := start(t, cfg, q, hooks).Run(t.Context(), stop)
			if err != nil && !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
			again := newQuadratic(5, drift(0))
			clear(again.theta)
			hooks.Average = newExact(1).worker(0)
			tr := start(t, cfg, again, hooks)
			if err := tr.Restore(&saved); err != nil {
				t.Fatal(err)
			}
			run(t, tr)
			equal(t, cfg.Strategy, again.theta, want[0].theta)
			if tr.stateDigest != trs[0].stateDigest {
				t.Fatalf("%s stopped at step %d: digest of the state differs", cfg.Strategy, at)
			}
		}
	}
}

func TestStopWhileWaitingKeepsTheInnerPhase(t *testing.T) {
	stop := make(chan struct{})
	net := newExact(2) // worker 1 never comes
	var saved Snapshot
	q := newQuadratic(5, drift(0))
	q.onStep = func(step uint64) {
		if step == 3 {
			close(stop)
		}
	}
	tr := start(t, diloco(4, 5), q, Hooks{Average: net.worker(0), Save: func(_ context.Context, capture func(*Snapshot) error) error {
		return capture(&saved)
	}})
	if err := tr.Run(t.Context(), stop); !errors.Is(err, ErrStopped) {
		t.Fatalf("error %v, want ErrStopped", err)
	}
	if saved.Round != 0 || saved.Step != 4 || len(saved.Vector(Fast)) != 5 || saved.RoundTokens != 40 {
		t.Fatalf("snapshot %+v, want round 0, step 4, its θ and 40 tokens", saved)
	}
}

func TestStopAfterIsExact(t *testing.T) {
	cfg := diloco(4, 9)
	cfg.StopAfter = 5
	tr := start(t, cfg, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0)})
	if err := tr.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatalf("error %v, want ErrStopped", err)
	}
	if round, step, _ := tr.Position(); round != 5 || step != 20 {
		t.Fatalf("round %d, step %d, want 5, 20", round, step)
	}
}

// A worker that is behind takes the others' state, keeps its inner moments, and
// counts what it lost.
func TestBehindTakesOverTheOthersState(t *testing.T) {
	source := start(t, diloco(4, 9), newQuadratic(5, drift(1)), Hooks{Average: newExact(1).worker(0)})
	source.cfg.StopAfter = 3
	if err := source.Run(t.Context(), nil); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	shared := fetchedFrom(t, source)
	q := newQuadratic(5, drift(0))
	var event *ResyncEvent
	tr := start(t, diloco(4, 9), q, Hooks{
		Average: behindOnce{newExact(1).worker(0), new(bool)},
		Fetch:   func(context.Context) (*exchange.Fetched, error) { return shared, nil },
		Report: func(e any) {
			if r, ok := e.(*ResyncEvent); ok {
				event = r
			}
		},
	})
	tr.cfg.StopAfter = 1
	if err := tr.oneRound(lockedContext(t, tr)); err != nil {
		t.Fatal(err)
	}
	if event == nil || event.LostSteps != 4 || event.Round != 3 || event.Why != "round 3 is under way" {
		t.Fatalf("resync event %+v", event)
	}
	if tr.stateDigest != shared.Digest || q.v[0] != 4 {
		t.Fatalf("digest equal %v, %v updates kept, want 4", tr.stateDigest == shared.Digest, q.v[0])
	}
}

type behindOnce struct {
	Averager
	told *bool
}

func (b behindOnce) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, w float64, d exchange.Base) (exchange.Outcome, error) {
	if !*b.told {
		*b.told = true
		return exchange.Outcome{Behind: true, Why: "round 3 is under way"}, nil
	}
	return b.Averager.Average(ctx, round, part, vec, w, d)
}

func lockedContext(t *testing.T, tr *Trainer) context.Context {
	t.Helper()
	if err := tr.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.unlock)
	return t.Context()
}

// Nothing that is not finite may reach the others.
func TestDivergenceIsAnErrorThatNamesTheStep(t *testing.T) {
	q := newQuadratic(5, func(step uint64, _ int) float32 {
		if step == 6 {
			return float32(math.NaN())
		}
		return 0
	})
	tr := start(t, diloco(4, 5), q, Hooks{Average: newExact(1).worker(0)})
	err := tr.Run(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "step 6") || !strings.Contains(err.Error(), "inner.lr") {
		t.Fatalf("error %v, want one that names step 6 and inner.lr", err)
	}
}

// A joiner can be served while the source trains.
func TestCaptureWhileTraining(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	q := newQuadratic(5, drift(0))
	q.onStep = func(step uint64) {
		if step == 2 {
			close(entered)
			<-release
		}
	}
	tr := start(t, diloco(4, 2), q, Hooks{Average: newExact(1).worker(0)})
	var wg sync.WaitGroup
	wg.Go(func() { run(t, tr) })
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := tr.Capture(ctx, &Snapshot{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("capture during a step: %v, want its deadline", err)
	}
	got := make(chan uint64)
	go func() {
		s, err := tr.Share(t.Context())
		if err != nil || len(s.Vectors) != 2 {
			t.Errorf("%d vectors, %v", len(s.Vectors), err)
		}
		got <- tr.Head().Step
	}()
	close(release)
	if step := <-got; step < 3 || step > 8 {
		t.Errorf("captured at step %d", step)
	}
	wg.Wait()
}

func TestReplicaStd(t *testing.T) {
	alone := Config{Strategy: "noloco", Rounds: 2, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
	run(t, start(t, alone, newQuadratic(5, drift(0)), Hooks{Average: newExact(1).worker(0), Report: func(e any) {
		if r, ok := e.(*RoundEvent); ok && r.ReplicaStd != nil {
			t.Errorf("one replica has the deviation %v", *r.ReplicaStd)
		}
	}}))
	// Pair (1, 3): mean 2, sample variance 2.
	if got := *replicaStd(1, 1, 2); !(math.Abs(got-math.Sqrt2) <= 1e-12) {
		t.Errorf("std of the pair (1, 3) is %v, want √2", got)
	}
}

func TestNewRefuses(t *testing.T) {
	q := newQuadratic(1, drift(0))
	for want, cfg := range map[string]Config{
		"0 rounds":          {Strategy: "alone", InnerSteps: 1},
		`strategy "magic"`:  {Strategy: "magic", Rounds: 1, InnerSteps: 1},
		"needs an averager": {Strategy: "diloco", Rounds: 1, InnerSteps: 1},
	} {
		if _, err := New(cfg, q, Hooks{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", cfg, err, want)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	tr := start(t, diloco(4, 2), newQuadratic(2, drift(0)), Hooks{Average: newExact(1).worker(0)})
	two := []float32{1, 2}
	for want, s := range map[string]Snapshot{
		`0 values of vector "slow"`:     {Vectors: named(MomentM, two, MomentV, two)},
		`0 values of vector "momentum"`: {Vectors: named(strategy.Slow, two, MomentM, two, MomentV, two)},
		"not within":                    {Vectors: named(strategy.Slow, two, strategy.Momentum, two), Round: 1, Step: 3},
		"inner state of 0,":             {Vectors: named(strategy.Slow, two, strategy.Momentum, two)},
		"inner state of 1, 2":           {Vectors: named(strategy.Slow, two, strategy.Momentum, two, MomentM, two, MomentV, two, Fast, two[:1])},
		"round 184467440737":            {Vectors: named(strategy.Slow, two, strategy.Momentum, two), Round: math.MaxUint64},
	} {
		if err := tr.Restore(&s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// named lists vectors by name.
func named(pairs ...any) (vectors []exchange.Named) {
	for i := 0; i < len(pairs); i += 2 {
		vectors = append(vectors, exchange.Named{Name: pairs[i].(string), Data: pairs[i+1].([]float32)})
	}
	return vectors
}

// prompt is what averagers of tests say where nobody is late.
type prompt struct{}

func (prompt) Over(uint64, float64) bool { return false }
func (prompt) Awaited(uint64) bool       { return false }

// hurried ends inner phases early.
type hurried struct {
	Averager
	over    func(round uint64, tokens float64) bool
	awaited func(round uint64) bool
}

func (h hurried) Over(round uint64, tokens float64) bool {
	return h.over != nil && h.over(round, tokens)
}

func (h hurried) Awaited(round uint64) bool { return h.awaited != nil && h.awaited(round) }
