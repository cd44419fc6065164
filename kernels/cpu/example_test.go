package cpu_test

import (
	"fmt"

	"loco/kernels"
	"loco/kernels/cpu"
)

// A linear layer: y = x·Wᵀ, with W stored (out, in).
func ExampleDevice_MatMul() {
	var d kernels.Device
	d, err := cpu.New(1, kernels.FP32)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	memory, err := d.Alloc(2*3 + 2*3 + 2*2)
	if err != nil {
		fmt.Println(err)
		return
	}
	x, w, y := memory.Slice(0, 6), memory.Slice(6, 12), memory.Slice(12, 16)
	d.Upload(x, []float32{1, 2, 3, 4, 5, 6}) // (2, 3)
	d.Upload(w, []float32{1, 0, 0, 1, 1, 1}) // (2, 3)
	d.MatMul(y, x, w, 2, 2, 3, false, true, false)
	out := make([]float32, 4)
	d.Download(out, y)
	fmt.Println(out)
	// Output: [1 6 4 15]
}
