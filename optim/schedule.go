package optim

import (
	"fmt"
	"math"
)

// Schedule is the inner learning rate as a function of the step: a linear warmup
// to 1 and then one of the shapes below, as a factor of the peak rate.
type Schedule struct {
	Kind     string  // "cosine", "wsd", "linear" or "constant"
	Warmup   int     // steps of linear warmup
	Total    int     // steps of the whole run
	Decay    int     // wsd: steps of the tail in which the rate falls
	MinRatio float64 // factor at the end of cosine and linear, in [0, 1]
}

// Validate says what is wrong with a schedule.
func (s Schedule) Validate() error {
	switch s.Kind {
	case "cosine", "wsd", "linear", "constant":
	default:
		return fmt.Errorf("optim: schedule %q: allowed are cosine, wsd, linear, constant", s.Kind)
	}
	if s.Total < 1 || s.Warmup < 0 || s.Warmup > s.Total {
		return fmt.Errorf("optim: warmup of %d steps does not fit a run of %d", s.Warmup, s.Total)
	}
	if s.Kind == "wsd" && (s.Decay < 0 || s.Warmup+s.Decay > s.Total) {
		return fmt.Errorf("optim: warmup %d and decay %d do not fit a run of %d steps", s.Warmup, s.Decay, s.Total)
	}
	if !(s.MinRatio >= 0 && s.MinRatio <= 1) {
		return fmt.Errorf("optim: smallest ratio %v: allowed is [0, 1]", s.MinRatio)
	}
	return nil
}

// At returns the factor for step, counted from 0. The first step of a warmup of W
// has 1/W, the last 1. Past Total the factor stays what it was at Total.
//
//   - cosine: MinRatio + (1−MinRatio)·(1 + cos πx)/2, x from 0 to 1 after the warmup.
//   - linear: 1 − (1−MinRatio)·x.
//   - wsd: 1 until the last Decay steps, then 1 − sqrt(y), y from 0 to 1
//     (warmup-stable-decay with a square-root tail, as INTELLECT-1's run had).
func (s Schedule) At(step uint64) float64 {
	if t := int(min(step, uint64(s.Total))); t < s.Warmup {
		return float64(t+1) / float64(s.Warmup)
	} else if s.Kind == "wsd" {
		past := t - (s.Total - s.Decay)
		if past <= 0 {
			return 1
		}
		return 1 - math.Sqrt(float64(past)/float64(s.Decay))
	} else {
		x := float64(t-s.Warmup) / float64(max(1, s.Total-s.Warmup))
		switch s.Kind {
		case "cosine":
			return s.MinRatio + float64((1-s.MinRatio)*(1+math.Cos(math.Pi*x))/2)
		case "linear":
			return 1 - float64((1-s.MinRatio)*x)
		}
		return 1
	}
}
