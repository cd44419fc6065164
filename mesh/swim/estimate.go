package swim

import (
	"slices"
	"time"

	"loco/kernels/splitmix"
)

const (
	windowSize    = 12 // newest samples that count
	windowEnough  = 3  // fewer say nothing
	deviations    = 4  // above the median: one arrival in thousands comes later, if it comes
	deviationPart = 8  // a deviation counts as at least this part of the median: few samples may be alike by chance
)

// window holds the newest samples of a duration that is not known in advance.
type window struct {
	samples [windowSize]float32 // seconds
	count   uint32              // of all samples so far
}

func (w *window) add(d time.Duration) {
	w.samples[w.count%windowSize] = float32(d.Seconds())
	w.count++
}

// limit is how long the next sample may take: median + 4 deviations, where a deviation
// is the median distance to the median. The median counts as at least typical. ok is
// false as long as there are too few samples to say.
func (w *window) limit(typical time.Duration) (limit time.Duration, ok bool) {
	n := min(w.count, windowSize)
	if n < windowEnough {
		return 0, false
	}
	s := w.samples // a copy: sorted below
	middle := median(s[:n])
	for i := range n {
		if s[i] -= middle; s[i] < 0 {
			s[i] = -s[i]
		}
	}
	spread := median(s[:n])
	middle = max(middle, float32(typical.Seconds()))
	return time.Duration(float64(middle+deviations*max(spread, middle/deviationPart)) * 1e9), true
}

// median sorts s and returns the value in the middle, the upper one of two.
func median(s []float32) float32 {
	slices.Sort(s)
	return s[len(s)/2]
}

// random is what the order of probes follows from.
type random struct{ splitmix.Source }

// below returns a number in [0, n); n > 0. The bias of the remainder does not matter here.
func (r *random) below(n int) int { return int(r.Next() >> 1 % uint64(n)) }
