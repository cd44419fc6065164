package optim

import (
	"fmt"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
)

// BenchmarkOuterStep takes the outer steps of a model of 2²⁴ parameters.
func BenchmarkOuterStep(b *testing.B) {
	const n = 1 << 24
	for _, s := range []struct {
		name string
		step func(on kernels.Exchanger, v []kernels.Buffer)
	}{
		{"pseudo-gradient", func(on kernels.Exchanger, v []kernels.Buffer) { PseudoGradient(on, v[2], v[0], v[3]) }},
		{"rebase", func(on kernels.Exchanger, v []kernels.Buffer) { Rebase(on, v[3], v[2], v[0]) }},
		{"Nesterov", func(on kernels.Exchanger, v []kernels.Buffer) { Nesterov{0.7, 0.9}.Step(on, v[0], v[1], v[2]) }},
		{"NoLoCo", func(on kernels.Exchanger, v []kernels.Buffer) {
			NoLoCo{0.5, 0.7, 0.6}.Step(on, v[0], v[1], v[2], v[3])
		}},
		{"NoLoCo of equal factors", func(on kernels.Exchanger, v []kernels.Buffer) {
			NoLoCo{0.5, 0.7, 0.7}.StepFast(on, v[0], v[1], v[3])
		}},
	} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/threads=%d", s.name, threads), func(b *testing.B) {
				d, err := cpu.New(threads, kernels.FP32)
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				var v []kernels.Buffer
				for range 4 {
					x, err := d.Alloc(n)
					if err != nil {
						b.Fatal(err)
					}
					v = append(v, x)
				}
				b.SetBytes(4 * n)
				for b.Loop() {
					s.step(d, v)
				}
			})
		}
	}
}
