package swim

import (
	"slices"
	"time"
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

// random is splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
// generators, OOPSLA 2014): the order of probes follows from a seed.
type random uint64

// below returns a number in [0, n); n > 0. The bias of the remainder does not matter here.
func (r *random) below(n int) int {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) >> 1 % uint64(n))
}
