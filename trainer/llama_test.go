package trainer

import (
	"math"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/optim"
	"loco/trainer/data"
	"loco/trainer/model"
)

// counting is a stream of tokens with a pattern that can be learned.
type counting struct{}

func (counting) Len() int64 { return 5000 }

func (counting) Read(dst []int32, at int64) error {
	for i := range dst {
		n := at + int64(i)
		dst[i] = int32((n*n/7 + n) % 32)
	}
	return nil
}

// learner is a tiny Llama on as many CPU devices, in micro-batches of 2 of batches of 8.
func learner(t *testing.T, devices int) *Llama {
	t.Helper()
	cfg := model.Config{Vocab: 32, Layers: 2, Width: 16, Heads: 2, KVHeads: 1, FFN: 32, Context: 16, RopeTheta: 1e4, NormEps: 1e-5, InitStd: 0.2}
	var replicas []Replica
	var all []kernels.Device
	for range devices {
		d, err := cpu.New(1, kernels.FP32)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		m, err := model.New(d, cfg, 2)
		if err != nil {
			t.Fatal(err)
		}
		d.Upload(m.Params(), cfg.Init(3))
		replicas, all = append(replicas, Replica{d, m}), append(all, d)
	}
	sampler, err := data.NewSampler(counting{}, data.SamplerConfig{Seed: 5, Workers: 1, Batch: 8, Context: 16})
	if err != nil {
		t.Fatal(err)
	}
	heldout, err := data.NewHeldout(counting{}, 2, 16, 100)
	if err != nil {
		t.Fatal(err)
	}
	adamw := optim.AdamW{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Clip: 1, Schedule: optim.Schedule{Kind: "constant", Total: 100}}
	l, err := NewLlama(replicas, kernels.NewHostPeers(all), adamw, sampler, 8, heldout)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func train(t *testing.T, l *Llama, steps uint64) (losses []float64) {
	t.Helper()
	for step := range steps {
		loss, n, err := l.Gradient(step)
		if err != nil {
			t.Fatal(err)
		}
		if n != 8*16 {
			t.Fatalf("%d tokens", n)
		}
		l.Update(step, step)
		losses = append(losses, loss/float64(n))
	}
	return losses
}

// Two or four devices train what one does with the same micro-batches, up to the order of
// sums, and their replicas stay the same to the bit.
func TestSeveralDevicesTrainAsOne(t *testing.T) {
	want := train(t, learner(t, 1), 20)
	if want[19] > want[0]-0.3 {
		t.Fatalf("loss from %.3f to %.3f: nothing is learned, so nothing is compared", want[0], want[19])
	}
	for _, devices := range []int{2, 4} {
		l := learner(t, devices)
		for i, loss := range train(t, l, 20) {
			if diff := math.Abs(loss - want[i]); !(diff <= 1e-4*want[i]) {
				t.Errorf("%d devices, step %d: loss %v, one has %v", devices, i, loss, want[i])
			}
		}
		first, other := make([]float32, l.Parameters()), make([]float32, l.Parameters())
		l.ReadParams(first)
		for _, r := range l.replicas[1:] {
			r.Device.Download(other, r.Model.Params())
			equal(t, "parameters", other, first)
			m, v := r.Model.Moments()
			w0, w1 := l.replicas[0].Model.Moments()
			for _, pair := range [][2]kernels.Buffer{{m, w0}, {v, w1}} {
				a, b := make([]float32, pair[0].Len()), make([]float32, pair[0].Len())
				r.Device.Download(a, pair[0])
				l.replicas[0].Device.Download(b, pair[1])
				equal(t, "moments", a, b)
			}
		}
	}
}

// What is written reaches every replica.
func TestSeveralDevicesTakeOverState(t *testing.T) {
	one, two := learner(t, 1), learner(t, 2)
	train(t, one, 5)
	p, m, v := make([]float32, one.Parameters()), make([]float32, one.Parameters()), make([]float32, one.Parameters())
	one.ReadParams(p)
	one.ReadMoments(m, v)
	two.WriteParams(p)
	two.WriteMoments(m, v)
	for step := uint64(5); step < 8; step++ {
		a, _, errA := one.Gradient(step)
		b, _, errB := two.Gradient(step)
		if errA != nil || errB != nil || !(math.Abs(a-b) <= 1e-4*a) {
			t.Fatalf("step %d: losses %v and %v, %v, %v", step, a, b, errA, errB)
		}
		one.ReadGradient(p)
		two.WriteGradient(p) // as ddp does
		one.Update(step, step)
		two.Update(step, step)
	}
	one.ReadParams(p)
	two.ReadParams(m)
	equal(t, "parameters", m, p)
	a, err := one.Evaluate()
	if b, err2 := two.Evaluate(); err != nil || err2 != nil || a != b {
		t.Errorf("held-out losses %v and %v, %v, %v", a, b, err, err2)
	}
	scratch := make([]int32, 2*one.replicas[0].Model.Rows())
	if c, err := Loss(one.replicas[0].Model, one.heldout, scratch[:len(scratch)/2], scratch[len(scratch)/2:]); err != nil || c != a {
		t.Errorf("a model alone has the held-out loss %v, %v, want %v", c, err, a)
	}
	if one.heldout.Batches()%2 == 0 {
		t.Error("an odd number of batches leaves one replica without its turn: make it so")
	}
}

func TestBatchesMustBeSharedEqually(t *testing.T) {
	l := learner(t, 2)
	if _, err := NewLlama(l.replicas, l.peers, l.adamw, l.sampler, 6, l.heldout); err == nil {
		t.Error("6 sequences in micro-batches of 2 on 2 devices are accepted")
	}
}

// What a learner cannot train with is refused.
func TestNewLlamaRefuses(t *testing.T) {
	l := learner(t, 1)
	good := l.adamw
	for want, c := range map[string]struct {
		batch int
		spoil func(*optim.AdamW)
	}{
		"batch = 0 is not a multiple":                                         {0, func(*optim.AdamW) {}},
		"batch = 7 is not a multiple of micro-batch = 2 on each of 1 devices": {7, func(*optim.AdamW) {}},
		"schedule": {8, func(a *optim.AdamW) { a.Schedule.Kind = "magic" }},
	} {
		adamw := good
		c.spoil(&adamw)
		if _, err := NewLlama(l.replicas, nil, adamw, l.sampler, c.batch, l.heldout); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
