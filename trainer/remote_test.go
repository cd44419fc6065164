package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"loco/gossip/exchange"
	"loco/kernels"
	"loco/kernels/cpu"
	"loco/trainer/strategy"
)

// remote is a CPU whose memory the host cannot look into, as a GPU's. It counts the values
// that cross one by one.
type remote struct {
	*cpu.Device
	crossed int
}

// remoteBuffer is memory of a remote.
type remoteBuffer struct{ kernels.Buffer }

func (b remoteBuffer) Slice(lo, hi int) kernels.Buffer { return remoteBuffer{b.Buffer.Slice(lo, hi)} }

func near(b kernels.Buffer) kernels.Buffer { return b.(remoteBuffer).Buffer }

func (d *remote) Alloc(n int) (kernels.Buffer, error) {
	b, err := d.Device.Alloc(n)
	return remoteBuffer{b}, err
}

func (d *remote) Upload(dst kernels.Buffer, src []float32) {
	d.crossed += len(src)
	d.Device.Upload(near(dst), src)
}

func (d *remote) Download(dst []float32, src kernels.Buffer) {
	d.crossed += len(dst)
	d.Device.Download(dst, near(src))
}

func (d *remote) Zero(x kernels.Buffer)                { d.Device.Zero(near(x)) }
func (d *remote) Copy(dst, src kernels.Buffer)         { d.Device.Copy(near(dst), near(src)) }
func (d *remote) SquaredNorm(x kernels.Buffer) float64 { return d.Device.SquaredNorm(near(x)) }
func (d *remote) Hash(dst []byte, x kernels.Buffer)    { d.Device.Hash(dst, near(x)) }
func (d *remote) Axpby(dst kernels.Buffer, a float32, x kernels.Buffer, b float32, y kernels.Buffer) {
	d.Device.Axpby(near(dst), a, near(x), b, near(y))
}

func (d *remote) AxpbSum(dst kernels.Buffer, a float32, x kernels.Buffer, b float32, y kernels.Buffer, c float32, z kernels.Buffer) {
	d.Device.AxpbSum(near(dst), a, near(x), b, near(y), c, near(z))
}

func (d *remote) Encode(dst []byte, f kernels.Format, src kernels.Buffer) int {
	return d.Device.Encode(dst, f, near(src))
}

func (d *remote) Decode(dst kernels.Buffer, f kernels.Format, src []byte) {
	d.Device.Decode(near(dst), f, src)
}

func (d *remote) DecodeAdd(dst kernels.Buffer, f kernels.Format, src []byte, weight float32) {
	d.Device.DecodeAdd(near(dst), f, src, weight)
}

// onDevice is a quadratic on a remote.
type onDevice struct {
	*quadratic
	device       *remote
	params, grad kernels.Buffer
}

func newOnDevice(t *testing.T, q *quadratic) *onDevice {
	t.Helper()
	cpu, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	l := &onDevice{quadratic: q, device: &remote{Device: cpu}}
	for _, x := range []struct {
		to   *kernels.Buffer
		from *[]float32
	}{{&l.params, &q.theta}, {&l.grad, &q.grad}} {
		if *x.to, err = l.device.Alloc(len(*x.from)); err != nil {
			t.Fatal(err)
		}
		values := kernels.HostValues(near(*x.to))
		copy(values, *x.from)
		*x.from = values
	}
	return l
}

func (l *onDevice) Vectors() (d Device, params, grads kernels.Buffer) {
	return l.device, l.params, l.grad
}
func (l *onDevice) SpreadParams()   {}
func (l *onDevice) SpreadGradient() {}

// What computes the outer steps, and where the state lies, changes no bit; and of a round
// nothing but what the workers exchange crosses to a device and back.
func TestOuterStepsOnTheDevice(t *testing.T) {
	noloco := Config{Strategy: "noloco", Rounds: 6, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.6}}
	fast := noloco
	fast.FastOnly, fast.Gamma = true, fast.Beta
	slow := diloco(4, 6)
	slow.SlowCycle = 2
	for name, cfg := range map[string]Config{
		"diloco": diloco(4, 6), "carrying": slow, "noloco": noloco, "fast only": fast,
		"ddp": {Strategy: "ddp", Rounds: 3, InnerSteps: 2}, "alone": {Strategy: "alone", Rounds: 3, InnerSteps: 2},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 3000 // three leaves
			for _, format := range []kernels.Format{kernels.FormatFP32, kernels.FormatInt8} {
				cfg.Format, cfg.StateFormat = format, kernels.FormatFP32
				host := start(t, cfg, newQuadratic(n, drift(0)), Hooks{Average: half{format: format}})
				run(t, host)
				l := newOnDevice(t, newQuadratic(n, drift(0)))
				tr := start(t, cfg, l, Hooks{Average: half{format: format}})
				if tr.OuterDevice() != l.device.Name() || (tr.mirror != nil) != tr.outer() {
					t.Fatalf("outer steps on %q, mirror %v", tr.OuterDevice(), tr.mirror)
				}
				l.device.crossed = 0
				run(t, tr)
				if tr.stateDigest != host.stateDigest || l.device.crossed > 0 {
					t.Errorf("%v: digests equal: %v; %d values crossed", format, tr.stateDigest == host.stateDigest, l.device.crossed)
				}
				var a, b Snapshot
				if err := errors.Join(host.Capture(t.Context(), &a), tr.Capture(t.Context(), &b)); err != nil {
					t.Fatal(err)
				}
				equal(t, "φ", b.Vector(strategy.Slow), a.Vector(strategy.Slow))
				equal(t, "δ", b.Vector(strategy.Momentum), a.Vector(strategy.Momentum))
				cfg.OuterOnHost = true
				far := start(t, cfg, newOnDevice(t, newQuadratic(n, drift(0))), Hooks{Average: half{format: format}})
				run(t, far)
				if far.stateDigest != host.stateDigest || far.mirror != nil {
					t.Errorf("%v: kept on the host the state is another", format)
				}
				cfg.OuterOnHost = false
			}
		})
	}
}

// half is an exchange whose mean is half of what a worker brings, one in three of which is
// over without it, or of a pair that did not meet.
type half struct {
	prompt
	format kernels.Format
}

func (h half) Average(_ context.Context, round uint64, part exchange.Part, v exchange.Vector, weight float64, _ exchange.Base) (exchange.Outcome, error) {
	switch {
	case part == exchange.Slow:
		other := slices.Clone(v.Bytes)
		return exchange.Outcome{Members: []int{0, 1}, Mean: []exchange.Term{{Bytes: v.Bytes, Share: 0.25}, {Bytes: other, Share: 0.5}}, Attempts: 1}, nil
	case round%3 == 1:
		return exchange.Outcome{Members: []int{1, 2}, Tokens: weight, Mean: []exchange.Term{{Bytes: slices.Clone(v.Bytes), Share: 0.5}}, Attempts: 1}, nil
	}
	return exchange.Outcome{Members: []int{0, 1}, Tokens: weight, Mean: []exchange.Term{{Bytes: v.Bytes, Share: 0.5}}, Attempts: 1}, nil
}

// A pair that does not meet goes on with its own vector, which never was encoded.
func TestAloneOnTheDevice(t *testing.T) {
	for _, fast := range []bool{false, true} {
		cfg := Config{Strategy: "noloco", Rounds: 6, InnerSteps: 4, Options: strategy.Options{OuterMomentum: 0.5, Beta: 0.7, Gamma: 0.7, FastOnly: fast}, Format: kernels.FormatInt8}
		host := start(t, cfg, newQuadratic(300, drift(0)), Hooks{Average: nobody{}})
		run(t, host)
		tr := start(t, cfg, newOnDevice(t, newQuadratic(300, drift(0))), Hooks{Average: nobody{}})
		run(t, tr)
		var s Snapshot
		if err := tr.Capture(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
		equal(t, "φ", s.Vector(strategy.Slow), values(host.vectors.slow()))
		if tr.stateDigest != host.stateDigest {
			t.Errorf("fast only %v: another state than the host's", fast)
		}
	}
}

type nobody struct{ prompt }

func (nobody) Average(context.Context, uint64, exchange.Part, exchange.Vector, float64, exchange.Base) (exchange.Outcome, error) {
	return exchange.Outcome{Members: []int{0}, Attempts: 1}, nil
}

// A bit that flips in the memory of a device is found before the next exchange, and what is
// saved is the host's.
func TestDamagedMemoryOfADeviceIsFound(t *testing.T) {
	cfg := diloco(4, 5)
	for _, which := range []string{"φ", "δ"} {
		for _, at := range []uint64{1, 2, 3} {
			t.Run(fmt.Sprint(which, at), func(t *testing.T) {
				l := newOnDevice(t, newQuadratic(50, drift(0)))
				var saved Snapshot
				exchanges := uint64(0)
				tr := start(t, cfg, l, Hooks{
					Average: averagerFunc(func([]float32) { exchanges++ }),
					Save:    func(_ context.Context, capture func(*Snapshot) error) error { return capture(&saved) },
				})
				good := map[uint64][]float32{}
				l.onStep = func(step uint64) {
					if step%4 != 0 {
						return
					}
					var s Snapshot
					tr.captureOuter(&s)
					good[step/4] = s.Vector(strategy.Slow)
				}
				damaged := false
				over := func(round uint64, _ float64) bool {
					if round == at && !damaged {
						damaged = true
						b := tr.vectors.slow()
						if which == "δ" {
							b = tr.vectors.Of(strategy.Momentum)
						}
						x := kernels.HostValues(near(b))
						x[7] = math.Float32frombits(math.Float32bits(x[7]) ^ 1<<15) // what rounding would not take away
					}
					return false
				}
				tr.hooks.Average = hurried{Averager: tr.hooks.Average, over: over}
				err := tr.Run(t.Context(), nil)
				// The digest of a round is taken at its end: what changes later is found a round on.
				if !errors.Is(err, ErrDevice) || !strings.Contains(err.Error(), "the host's copy") {
					t.Fatal(err)
				}
				if exchanges > at+1 {
					t.Errorf("%d exchanges after damage in round %d", exchanges, at)
				}
				equal(t, "φ", saved.Vector(strategy.Slow), good[saved.Round])
			})
		}
	}
}
