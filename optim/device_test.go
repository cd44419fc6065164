package optim

import (
	"loco/kernels"
	"loco/kernels/cpu"
)

// onDevice puts vectors on a device, does something with them, and takes them back.
func onDevice(do func(d *cpu.Device, x []kernels.Buffer), vectors ...[]float32) {
	d, err := cpu.New(1, kernels.FP32)
	if err != nil {
		panic(err)
	}
	var x []kernels.Buffer
	for _, v := range vectors {
		b, err := d.Alloc(len(v))
		if err != nil {
			panic(err)
		}
		d.Upload(b, v)
		x = append(x, b)
	}
	do(d, x)
	for i, v := range vectors {
		d.Download(v, x[i])
	}
}

func stepNesterov(o Nesterov, slow, b, delta []float32) {
	onDevice(func(d *cpu.Device, x []kernels.Buffer) { o.Step(d, x[0], x[1], x[2]) }, slow, b, delta)
}

func stepNoLoCo(o NoLoCo, slow, momentum, meanDelta, meanSlow []float32) {
	onDevice(func(d *cpu.Device, x []kernels.Buffer) { o.Step(d, x[0], x[1], x[2], x[3]) }, slow, momentum, meanDelta, meanSlow)
}

func stepFast(o NoLoCo, slow, momentum, meanFast []float32) {
	onDevice(func(d *cpu.Device, x []kernels.Buffer) { o.StepFast(d, x[0], x[1], x[2]) }, slow, momentum, meanFast)
}

func pseudoGradient(delta, slow, fast []float32) {
	onDevice(func(d *cpu.Device, x []kernels.Buffer) { PseudoGradient(d, x[0], x[1], x[2]) }, delta, slow, fast)
}

func progress(delta, slow, fast []float32) {
	onDevice(func(d *cpu.Device, x []kernels.Buffer) { Progress(d, x[0], x[1], x[2]) }, delta, slow, fast)
}

func rebase(fast, from, to []float32) {
	onDevice(func(d *cpu.Device, x []kernels.Buffer) { Rebase(d, x[0], x[1], x[2]) }, fast, from, to)
}
