package cpu_test

import (
	"fmt"
	"testing"

	"loco/cmd/loco/bench"
	"loco/kernels/cpu"
)

// run runs a case as the benchmark: rates are medians, best and the share of the limit
// measured around each call, as `loco bench kernels` prints them.
func run(b *testing.B, d *cpu.Device, c bench.Case) {
	m, err := bench.New(d).Prepare(c)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m.Round()
	}
	r := m.Result()
	b.ReportMetric(r.Rate, "median-"+r.Unit)
	b.ReportMetric(r.RateBest, "best-"+r.Unit)
	b.ReportMetric(r.Seconds*1e3, "median-ms")
	if r.Limit > 0 {
		b.ReportMetric(100*r.Share, "%limit")
	}
}

// BenchmarkKernels runs the table of package bench on one thread and on two.
func BenchmarkKernels(b *testing.B) {
	for _, c := range bench.Cases(bench.Standard(1 << 20)) {
		if c.Tokens > 0 {
			continue // see BenchmarkTrainingStep
		}
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", c.Name(), threads), func(b *testing.B) {
				d := deviceOf(b, threads)
				defer d.Close()
				run(b, d, c)
			})
		}
	}
}

// BenchmarkTrainingStep runs whole steps on every path, and in bf16 every way that there is.
func BenchmarkTrainingStep(b *testing.B) {
	for _, c := range bench.Cases(bench.Standard(1)) {
		if c.Tokens == 0 || c.Extra {
			continue
		}
		for _, threads := range []int{1, 2} {
			for _, path := range cpu.Paths() {
				if path == "plain Go" && c.Work > 20e9 {
					continue // a minute and a half a step
				}
				b.Run(fmt.Sprintf("%s/%s/threads=%d", c.Shape, path, threads), func(b *testing.B) {
					d := deviceOn(b, threads, path)
					defer d.Close()
					run(b, d, c)
				})
			}
			for _, half := range cpu.Halves() {
				b.Run(fmt.Sprintf("%s/%s/threads=%d", c.Shape, half, threads), func(b *testing.B) {
					d := deviceBF16(b, threads, half)
					defer d.Close()
					run(b, d, c)
				})
			}
		}
	}
}
