package trainer_test

import (
	"context"
	"fmt"

	"loco/trainer"
)

// line is a learner of one parameter, which is pulled towards 3.
type line struct{ theta, grad, m, v float32 }

func (l *line) Parameters() int { return 1 }
func (l *line) Err() error      { return nil }

func (l *line) Gradient(uint64) (float64, int, error) {
	l.grad = l.theta - 3
	return float64(l.grad*l.grad) / 2, 1, nil
}

func (l *line) Update(_, _ uint64) float64 {
	l.theta -= 0.5 * l.grad
	return float64(l.grad)
}

func (l *line) Evaluate() (float64, error)  { return float64((l.theta - 3) * (l.theta - 3) / 2), nil }
func (l *line) ReadGradient(dst []float32)  { dst[0] = l.grad }
func (l *line) WriteGradient(src []float32) { l.grad = src[0] }
func (l *line) ReadParams(dst []float32)    { dst[0] = l.theta }
func (l *line) WriteParams(src []float32)   { l.theta = src[0] }
func (l *line) ReadMoments(m, v []float32)  { m[0], v[0] = l.m, l.v }
func (l *line) WriteMoments(m, v []float32) { l.m, l.v = m[0], v[0] }

// A worker alone trains two rounds of three steps, and says how far it has come after each.
func Example() {
	t, err := trainer.New(trainer.Config{Strategy: "alone", Rounds: 2, InnerSteps: 3, EvalEvery: 1}, &line{}, trainer.Hooks{
		Report: func(event any) {
			if e, ok := event.(*trainer.EvalEvent); ok {
				fmt.Printf("round %d: loss %.4f\n", e.Round, e.HeldoutLoss)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := t.Run(context.Background(), nil); err != nil {
		fmt.Println(err)
	}
	// Output:
	// round 1: loss 0.0703
	// round 2: loss 0.0011
}
