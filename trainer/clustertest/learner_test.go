package clustertest

import (
	"context"
	"math"
	"time"
)

// toy is a learner whose gradient is known: worker w's loss is ½‖θ − c(w)‖², so that what
// the workers can learn together is the mean of their optima. Its steps take time, as
// those of a model do.
type toy struct {
	theta, m, v, grad []float32
	worker            int
	rate              float32
	work              func() error // takes as long as a step
}

const stepTokens = 10

// optimum is c(w), value i.
func optimum(worker, i int) float32 {
	return float32(math.Sin(float64(1+i)*1.7 + float64(worker)*2.3))
}

// meeting is where the workers 0 … n−1 meet, value i.
func meeting(n, i int) float64 {
	sum := 0.0
	for w := range n {
		sum += float64(optimum(w, i))
	}
	return sum / float64(n)
}

func newToy(worker, parameters int, rate float32, work func() error) *toy {
	t := &toy{worker: worker, rate: rate, work: work}
	t.theta, t.m, t.v, t.grad = make([]float32, parameters), make([]float32, parameters), make([]float32, parameters), make([]float32, parameters)
	for i := range t.theta {
		t.theta[i] = 3
	}
	return t
}

func (t *toy) Err() error { return nil }

func (t *toy) Parameters() int { return len(t.theta) }

func (t *toy) Gradient(uint64) (loss float64, tokens int, err error) {
	if err := t.work(); err != nil {
		return 0, 0, err
	}
	for i, x := range t.theta {
		t.grad[i] = x - optimum(t.worker, i)
		loss += float64(t.grad[i] * t.grad[i] / 2)
	}
	return loss, stepTokens, nil
}

func (t *toy) Update(_, _ uint64) (norm float64) {
	for i, g := range t.grad {
		norm += float64(g * g)
		t.m[i] = float32(0.3*t.m[i]) + g
		t.v[i]++
		t.theta[i] -= float32(t.rate * t.m[i])
	}
	return math.Sqrt(norm)
}

func (t *toy) Evaluate() (float64, error) { return 0, nil }

func (t *toy) ReadGradient(dst []float32)  { copy(dst, t.grad) }
func (t *toy) WriteGradient(src []float32) { copy(t.grad, src) }
func (t *toy) ReadParams(dst []float32)    { copy(dst, t.theta) }
func (t *toy) WriteParams(src []float32)   { copy(t.theta, src) }
func (t *toy) ReadMoments(m, v []float32)  { copy(m, t.m); copy(v, t.v) }
func (t *toy) WriteMoments(m, v []float32) { copy(t.m, m); copy(t.v, v) }

// away is how far a state is from where the workers 0 … n−1 meet, root mean square.
func away(phi []float32, n int) float64 {
	sum := 0.0
	for i, x := range phi {
		d := float64(x) - meeting(n, i)
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(phi)))
}

// pause waits, or says why it does not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
