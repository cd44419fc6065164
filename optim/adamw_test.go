package optim

import (
	"fmt"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/reference"
)

// Reference: Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2, on one parameter
// by hand: three steps with clipping and decoupled decay.
func TestAdamWOnADevice(t *testing.T) {
	dev := reference.New()
	defer dev.Close()
	alloc := func(x float32) kernels.Buffer {
		b, err := dev.Alloc(1)
		if err != nil {
			t.Fatal(err)
		}
		dev.Upload(b, []float32{x})
		return b
	}
	p, g, m, v := alloc(2), alloc(0), alloc(0), alloc(0)
	a := AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1, Schedule: Schedule{Kind: "linear", Warmup: 2, Total: 10}}
	want, wm, wv := 2.0, 0.0, 0.0
	for step, grad := range []float64{0.5, 3, -0.25} {
		clipped := grad * min(1, 1/(math.Abs(grad)+1e-6))
		lr := 0.1 * []float64{0.5, 1, 1}[step]
		wm = 0.9*wm + 0.1*clipped
		wv = 0.95*wv + 0.05*clipped*clipped
		n := float64(step + 1)
		want -= lr * 0.1 * want
		want -= lr * (wm / (1 - math.Pow(0.9, n))) / (math.Sqrt(wv/(1-math.Pow(0.95, n))) + 1e-8)

		dev.Upload(g, []float32{float32(grad)})
		norm := math.Sqrt(dev.SquaredNorm(g))
		dev.AdamW(p, g, m, v, a.Step(norm, uint64(step), uint64(step)))
		got := make([]float32, 1)
		dev.Download(got, p)
		near(t, fmt.Sprintf("the parameter after step %d", step), float64(got[0]), want, 1e-5)
	}
}

// Fresh moments at a late step of the schedule are corrected as at their own first
// step: the update has the size of the learning rate, not a hundredth of it.
func TestAdamWCorrectsByUpdatesNotByStep(t *testing.T) {
	a := AdamW{LR: 1, Beta1: 0.9, Beta2: 0.95, Schedule: Schedule{Kind: "constant", Total: 1000}}
	late := a.Step(1, 900, 0)
	near(t, "the correction of the first moment", float64(late.Correction1), 0.1, 1e-7)
	near(t, "the correction of the second", float64(late.Correction2), 0.05, 1e-7)
	near(t, "the rate", float64(late.LR), 1, 0)
}

func TestClipScale(t *testing.T) {
	for _, c := range []struct{ norm, clip, want float64 }{
		{2, 1, 1 / (2 + 1e-6)}, {0.5, 1, 1}, {100, 0, 1}, {0, 1, 1},
	} {
		if got := clipScale(c.norm, c.clip); got != c.want {
			t.Errorf("norm %v, clip %v: scale %v, want %v", c.norm, c.clip, got, c.want)
		}
	}
}

// The rate of a worker that joined late rises again, and that of one that did not is the
// schedule's.
func TestRewarm(t *testing.T) {
	a := AdamW{LR: 0.4, Schedule: Schedule{Kind: "constant", Total: 1000}, Rewarm: 4}
	for _, c := range []struct {
		step, updates uint64
		want          float64
	}{{0, 0, 0.4}, {2, 2, 0.4}, {1, 0, 0.1}, {100, 0, 0.1}, {102, 2, 0.3}, {101, 1, 0.2}, {103, 3, 0.4}, {104, 4, 0.4}, {900, 800, 0.4}} {
		near(t, fmt.Sprintf("the rate of step %d after %d updates", c.step, c.updates), a.Rate(c.step, c.updates), c.want, 1e-12)
	}
}
