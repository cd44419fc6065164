package bench

import (
	"fmt"
	"math"
	"slices"
	"time"

	"loco/kernels"
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
	c          Case
	call       timed
	limit      timed
	last       float64 // newest rate of the limit
	rates      []float64
	limits     []float64
	shares     []float64
	limitsOpen bool // the limit has a rate on this device
}

// timed is a call that is repeated to fill a sample.
type timed struct {
	call  func()
	work  float64
	count int
}

// Prepare sets a case up, and runs it and its limit until their calls have found
// their memory.
func Prepare(d *kernels.CPU, c Case) (*Measurement, error) {
	call, err := c.Setup(d)
	if err != nil {
		return nil, fmt.Errorf("bench: set up %s: %w", c.Name(), err)
	}
	limit, work, err := c.Limit.Prepare(d)
	if err != nil {
		return nil, err
	}
	m := &Measurement{c: c, call: newTimed(call, c.Work), limitsOpen: work > 0}
	if m.limitsOpen {
		m.limit = newTimed(limit, work)
		m.last = m.limit.rate()
	}
	return m, nil
}

func newTimed(call func(), work float64) timed {
	t := timed{call: call, work: work, count: 1}
	call() // grows scratch memory
	once := seconds(1, call)
	const countMax = 1 << 16
	t.count = int(min(countMax, max(1, math.Ceil(sample.Seconds()/max(once, 1e-9)))))
	return t
}

// rate runs one sample and returns its rate in billions a second.
func (t *timed) rate() float64 {
	return t.work * float64(t.count) / seconds(t.count, t.call) / 1e9
}

// Round samples the case and then its limit.
func (m *Measurement) Round() {
	rate := m.call.rate()
	m.rates = append(m.rates, rate)
	if !m.limitsOpen {
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
	if m.limitsOpen {
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
