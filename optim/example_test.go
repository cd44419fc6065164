package optim_test

import (
	"fmt"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/optim"
)

// One outer step of DiLoCo: a worker moved θ to 0.5 while the slow weights φ are 1.
func ExampleNesterov_Step() {
	d, err := cpu.New(1, kernels.FP32)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	vector := func(value float32) kernels.Buffer {
		b, err := d.Alloc(1)
		if err != nil {
			panic(err)
		}
		d.Upload(b, []float32{value})
		return b
	}
	slow, fast, momentum, delta := vector(1), vector(0.5), vector(0), vector(0)
	optim.PseudoGradient(d, delta, slow, fast)
	optim.Nesterov{LR: 0.5, Momentum: 0.5}.Step(d, slow, momentum, delta)
	result := make([]float32, 1)
	d.Download(result, slow)
	fmt.Println("φ =", result[0])
	// Output: φ = 0.625
}

func ExampleSchedule_At() {
	s := optim.Schedule{Kind: "wsd", Warmup: 4, Total: 100, Decay: 16}
	for _, step := range []uint64{0, 3, 50, 88, 100} {
		fmt.Println(step, s.At(step))
	}
	// Output:
	// 0 0.25
	// 3 1
	// 50 1
	// 88 0.5
	// 100 0
}
