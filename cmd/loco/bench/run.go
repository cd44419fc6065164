package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"loco/kernels/cpu"
)

// Report is all that a run found.
type Report struct {
	Machine Machine   `json:"machine"`
	Results []Result  `json:"kernels"`
	LeftOut []LeftOut `json:"left_out,omitempty"`
	Seconds float64   `json:"seconds"` // that the run took
}

// Run measures the cases that opt picks, one after another. head is called when the
// machine is known, row after each case; both may be nil. A context that ends stops the
// run after the round under way, with the context's error.
func Run(ctx context.Context, d *cpu.Device, cases []Case, opt Options, head func(Machine), row func(Result)) (Report, error) {
	start := time.Now()
	b := New(d)
	var report Report
	cases, err := pick(cases, opt.Only)
	if err != nil {
		return report, err
	}
	if report.Machine, err = inspect(b, cases); err != nil {
		return report, err
	}
	if head != nil {
		head(report.Machine)
	}
	flops, err := productRate(d)
	if err != nil {
		return report, err
	}
	left := opt.Seconds - time.Since(start).Seconds()
	cases, expected, out := plan(cases, flops, left)
	report.LeftOut = out
	for i, c := range cases {
		// What earlier cases left over is shared by the rest.
		spare := opt.Seconds - time.Since(start).Seconds()
		for _, e := range expected[i:] {
			spare -= e
		}
		result, err := measure(ctx, b, c, expected[i]+max(0, spare)/float64(len(cases)-i))
		if err != nil {
			return report, err
		}
		report.Results = append(report.Results, result)
		if row != nil {
			row(result)
		}
	}
	report.Seconds = time.Since(start).Seconds()
	return report, nil
}

// measure runs one case for about the given seconds.
func measure(ctx context.Context, b *Bench, c Case, budget float64) (Result, error) {
	start := time.Now()
	if c.Memory > 64<<20 {
		runtime.GC() // the operands of the case before, so that memory is what one case needs
	}
	m, err := b.Prepare(c)
	if err != nil {
		return Result{}, err
	}
	for m.Rounds() < roundsMax {
		began := time.Now()
		m.Round()
		if err := ctx.Err(); err != nil {
			return Result{}, fmt.Errorf("bench: stopped at %s: %w", c.Name(), err)
		}
		next := time.Since(began).Seconds()
		if m.Rounds() >= roundsMin && time.Since(start).Seconds()+next > budget {
			break
		}
	}
	return m.Result(), nil
}
