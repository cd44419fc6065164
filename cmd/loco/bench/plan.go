package bench

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"loco/kernels/cpu"
)

// Options say what to run and how long.
type Options struct {
	Seconds float64  // of the whole run, about; what does not fit is left out
	Only    []string // run the cases whose names contain one of these; none means all but the extra
}

// LeftOut is a case that the time did not allow.
type LeftOut struct {
	Kernel  string  `json:"kernel"`
	Shape   string  `json:"shape"`
	Seconds float64 `json:"seconds"` // that it was expected to take
}

// roundsMin are the rounds that every case gets: the fewest that have a median between
// others. roundsMax are more than enough.
const (
	roundsMin = 3
	roundsMax = 101
)

// ErrNoCase is returned by Run where Options.Only names nothing.
var ErrNoCase = errors.New("bench: no case is named like")

// pick returns the cases that are asked for.
func pick(cases []Case, only []string) ([]Case, error) {
	var picked []Case
	for _, c := range cases {
		wanted := len(only) == 0 && !c.Extra
		for _, part := range only {
			wanted = wanted || strings.Contains(strings.ToLower(c.Name()), strings.ToLower(part))
		}
		if wanted {
			picked = append(picked, c)
		}
	}
	if len(picked) == 0 {
		var kernels []string
		for _, c := range cases {
			if !slices.Contains(kernels, c.Kernel) {
				kernels = append(kernels, c.Kernel)
			}
		}
		return nil, fmt.Errorf("%w %q; there are %s, each followed by its shape", ErrNoCase, only, strings.Join(kernels, ", "))
	}
	return picked, nil
}

// plan leaves out the longest cases until the rest fit the time. One case always stays. It
// returns the seconds that each case is expected to take at least.
func plan(cases []Case, flops, budget float64) (kept []Case, expected []float64, out []LeftOut) {
	order := make([]int, len(cases))
	need := make([]float64, len(cases))
	total := 0.0
	for i, c := range cases {
		order[i], need[i] = i, expect(c, flops)
		total += need[i]
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(need[b], need[a]) })
	drop := map[int]bool{}
	for _, i := range order[:len(order)-1] {
		if total > budget {
			drop[i], total = true, total-need[i]
		}
	}
	for i, c := range cases {
		if drop[i] {
			out = append(out, LeftOut{c.Kernel, c.Shape, need[i]})
			continue
		}
		kept, expected = append(kept, c), append(expected, need[i])
	}
	return kept, expected, out
}

// expect guesses the seconds that a case takes at least, in roundsMin rounds and what
// Prepare does before. flops is the rate of a product; of memory the guess is what a
// slow machine does.
func expect(c Case, flops float64) float64 {
	const bytes = 8e9 // a second
	rate := flops
	if c.Limit.Unit == gigabytes {
		rate = bytes
	}
	limits := (roundsMin + 2) * 3 * sample.Seconds()
	if c.Limit.Unit == gigabytes {
		limits += (roundsMin + 2) * c.Work / rate
	}
	return float64(c.Memory)/bytes + limits + (roundsMin+1)*max(c.Work/rate, sample.Seconds())
}

// productRate is the rate of a product of matrices that fit the cache, in
// floating-point operations a second.
func productRate(d *cpu.Device) (float64, error) {
	const n = 192
	c := productCase("matmul forward", "", n, n, n, false, true, false)
	call, err := c.Setup(d)
	if err != nil {
		return 0, fmt.Errorf("bench: set up a product: %w", err)
	}
	call()
	return c.Work / min(seconds(1, call), seconds(1, call), seconds(1, call)), nil
}
