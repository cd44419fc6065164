package cpu_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer/model"
)

// training is a model, random tokens and a clipped AdamW step: what a worker runs.
type training struct {
	d       *cpu.Device
	m       *model.Model
	inputs  []int32
	targets []int32
	steps   int
}

func newTraining(t testing.TB, d *cpu.Device, cfg model.Config, batch int) *training {
	t.Helper()
	m, err := model.New(d, cfg, batch)
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(m.Params(), cfg.Init(1))
	s := &training{d: d, m: m}
	seed := uint64(1)
	for range m.Rows() + 1 {
		seed = seed*6364136223846793005 + 1442695040888963407
		// The product of two draws: some tokens are common, so there is something to learn.
		s.inputs = append(s.inputs, int32((seed>>40&0xff)*(seed>>52&0xff)>>8)%int32(cfg.Vocab))
	}
	s.targets, s.inputs = s.inputs[1:], s.inputs[:m.Rows()]
	return s
}

// step trains one step and returns the mean loss in nats.
func (s *training) step() float64 {
	s.m.ZeroGrad()
	loss := s.m.Accumulate(s.inputs, s.targets, 1/float32(s.m.Rows()))
	s.steps++
	norm := math.Sqrt(s.d.SquaredNorm(s.m.Grads()))
	s.m.Update(kernels.AdamWStep{
		LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1,
		Correction1: float32(1 - math.Pow(0.9, float64(s.steps))), Correction2: float32(1 - math.Pow(0.95, float64(s.steps))),
		GradScale: float32(min(1, 1/norm)),
	})
	return loss / float64(s.m.Rows())
}

func (s *training) digest() string {
	values := make([]float32, s.m.Params().Len())
	s.d.Download(values, s.m.Params())
	bytes := make([]byte, 0, 4*len(values))
	for _, v := range values {
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
	}
	return fmt.Sprintf("%x", sha256.Sum256(bytes))
}

// TestTrainingInBF16 trains 50 steps in bf16 by every way that there is: the same bits at
// any number of threads, and the losses of float32 within what rounding explains.
func TestTrainingInBF16(t *testing.T) {
	cfg := model.Default()
	cfg.Layers, cfg.Width, cfg.Heads, cfg.KVHeads, cfg.FFN, cfg.Context, cfg.Vocab = 2, 40, 4, 2, 56, 37, 67
	train := func(d *cpu.Device) (losses []float64, digest string) {
		s := newTraining(t, d, cfg, 2)
		for range 50 {
			losses = append(losses, s.step())
		}
		digest = s.digest()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		return losses, digest
	}
	exact, _ := train(deviceOf(t, 1))
	cpu.EachHalf(t, func(t *testing.T, half string) {
		want := ""
		for _, threads := range []int{1, 2, 3, 8} {
			losses, digest := train(deviceBF16(t, threads, half))
			if want == "" {
				want = digest
			}
			if digest != want {
				t.Errorf("%s: SHA-256 of the parameters at %d threads is %s, at 1 %s", half, threads, digest, want)
			}
			for i, loss := range losses {
				if !(math.Abs(loss/exact[i]-1) <= 0.005) {
					t.Fatalf("%s, %d threads: the loss of step %d is %v, in float32 %v", half, threads, i, loss, exact[i])
				}
			}
		}
	})
}

// TestTrainingHasTheSameBits trains 50 steps on every path and at several numbers of
// threads. The widths leave tails of every vector.
func TestTrainingHasTheSameBits(t *testing.T) {
	cfg := model.Default()
	cfg.Layers, cfg.Width, cfg.Heads, cfg.KVHeads, cfg.FFN, cfg.Context, cfg.Vocab = 2, 40, 4, 2, 56, 37, 67
	want := ""
	for i, path := range cpu.Paths() {
		if path == "plain Go" && i > 0 && testing.Short() {
			continue // TestStepBits compares it, too
		}
		for _, threads := range []int{1, 2, 3, 8} {
			if threads > 2 && i > 0 || threads > 1 && testing.Short() {
				continue // the first path has shown that threads do not matter
			}
			d := deviceOn(t, threads, path)
			s := newTraining(t, d, cfg, 2)
			first := s.step()
			last := first
			for range 49 {
				last = s.step()
			}
			if !(last < first-0.5) {
				t.Errorf("%s: the loss goes from %v to %v in 50 steps: this is no training", d.Name(), first, last)
			}
			got := s.digest()
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s: SHA-256 of the parameters after 50 steps is %s, %s has %s", d.Name(), got, cpu.Paths()[0], want)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
