package bench

import (
	"fmt"
	"math"
	"slices"
	"time"

	"loco/kernels/cpu"
)

// sample is the least time of one sample: short enough to sit beside its limit, long
// enough that the clock's steps and the start of threads do not matter.
const sample = 2 * time.Millisecond

// Result is what a case reached. Rates are in Unit.
type Result struct {
	Kernel       string  `json:"kernel"`
	Shape        string  `json:"shape"`
	Unit         string  `json:"unit"`
	Seconds      float64 `json:"seconds"` // of a call, median
	Rate         float64 `json:"rate"`    // median
	RateBest     float64 `json:"rate_best"`
	TokensPerSec float64 `json:"tokens_per_second,omitempty"` // of a training step
	LimitName    string  `json:"limit_name"`
	Limit        float64 `json:"limit,omitempty"` // median; nothing where the device has none
	LimitBest    float64 `json:"limit_best,omitempty"`
	// Share is the median of each round's rate over the limit measured around it.
	Share  float64 `json:"share,omitempty"`
	Rounds int     `json:"rounds"`
}

// A Measurement is a case at work on a device.
type Measurement struct {
	c      Case
	call   timed
	limit  timed   // without work where this device has no such limit
	last   float64 // newest rate of the limit
	rates  []float64
	limits []float64
	shares []float64
}

// timed is a call that is repeated to fill a sample.
type timed struct {
	call  func()
	work  float64
	count int
}

// Bench is a device to measure. Only one Measurement may be at work on it.
type Bench struct {
	cpu     *cpu.Device
	streams *cpu.Streams // memory of the limits
}

// New returns a bench for a device, which the caller closes.
func New(d *cpu.Device) *Bench { return &Bench{d, d.NewStreams()} }

// Prepare sets a case up, and runs it and its limit until their calls have found
// their memory.
func (b *Bench) Prepare(c Case) (*Measurement, error) {
	call, err := c.Setup(b.cpu)
	if err != nil {
		return nil, fmt.Errorf("bench: set up %s: %w", c.Name(), err)
	}
	m := &Measurement{c: c, call: newTimed(call, c.Work)}
	if m.limit, err = b.limit(c.Limit); err != nil {
		return nil, err
	}
	if m.limited() {
		m.last = m.limit.rate()
	}
	return m, nil
}

// limit prepares the fastest call of a limit; its work is 0 where the device has no such
// limit. Calls are tried one after another, each several times, because one leaves the
// caches as another would not.
func (b *Bench) limit(l Limit) (timed, error) {
	calls, work, err := l.Prepare(b)
	if err != nil || work == 0 {
		return timed{}, err
	}
	var fastest timed
	best := 0.0
	for _, call := range calls {
		t := newTimed(call, work)
		rate := 0.0
		for range tries {
			if len(calls) > 1 {
				rate = max(rate, t.rate())
			}
		}
		if rate >= best {
			fastest, best = t, rate
		}
	}
	return fastest, nil
}

// tries of each call that may be a limit.
const tries = 4

func newTimed(call func(), work float64) timed {
	const countMax = 1 << 16
	once := seconds(1, call) // grows scratch memory
	if once < sample.Seconds() {
		once = seconds(1, call)
	}
	count := min(countMax, max(1, math.Ceil(sample.Seconds()/once)))
	return timed{call, work, int(count)}
}

// rate runs one sample and returns its rate in billions a second.
func (t timed) rate() float64 {
	return t.work * float64(t.count) / seconds(t.count, t.call) / 1e9
}

func (m *Measurement) limited() bool { return m.limit.work > 0 }

// Round samples the case and then its limit.
func (m *Measurement) Round() {
	rate := m.call.rate()
	m.rates = append(m.rates, rate)
	if !m.limited() {
		return
	}
	next := m.limit.rate()
	m.limits = append(m.limits, next)
	m.shares = append(m.shares, rate/((m.last+next)/2))
	m.last = next
}

// Rounds is the number of rounds so far.
func (m *Measurement) Rounds() int { return len(m.rates) }

// Result sums up the rounds, of which there must be one.
func (m *Measurement) Result() Result {
	r := Result{
		Kernel: m.c.Kernel, Shape: m.c.Shape, Unit: m.c.Limit.Unit, LimitName: m.c.Limit.Name, Rounds: len(m.rates),
		Rate: median(m.rates), RateBest: slices.Max(m.rates),
	}
	r.Seconds = m.c.Work / r.Rate / 1e9
	r.TokensPerSec = float64(m.c.Tokens) / r.Seconds
	if m.limited() {
		r.Limit, r.LimitBest, r.Share = median(m.limits), slices.Max(m.limits), median(m.shares)
	}
	return r
}

// seconds is the time that count calls take, never 0.
func seconds(count int, call func()) float64 {
	start := time.Now()
	for range count {
		call()
	}
	return max(time.Since(start).Seconds(), 1e-9)
}

// median of values, which are not none; of an even number the mean of the middle two.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}
