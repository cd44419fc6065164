package cpu

import "loco/kernels"

var _ kernels.Exchanger = (*Device)(nil)

// axpbyJob is one Axpby or, where there is a z, one AxpbSum.
type axpbyJob struct {
	*path
	dst, x, y, z []float32
	a, b, c      float32
}

// Axpby implements kernels.Exchanger.
func (d *Device) Axpby(dst kernels.Buffer, a float32, x kernels.Buffer, b float32, y kernels.Buffer) {
	kernels.CheckAxpby(dst, x, y, nil)
	const op = "axpby"
	d.combine(axpbyJob{d.path, d.written(op, dst), f32(op, x), f32(op, y), nil, a, b, 0})
}

// AxpbSum implements kernels.Exchanger.
func (d *Device) AxpbSum(dst kernels.Buffer, a float32, x kernels.Buffer, b float32, y kernels.Buffer, c float32, z kernels.Buffer) {
	kernels.CheckAxpby(dst, x, y, z)
	const op = "axpby"
	d.combine(axpbyJob{d.path, d.written(op, dst), f32(op, x), f32(op, y), f32(op, z), a, b, c})
}

func (d *Device) combine(j axpbyJob) {
	d.combining = j
	d.run(&d.combining, blocks(len(j.dst), elementBlock))
}

func (j *axpbyJob) do(_, task int) {
	lo := task * elementBlock
	hi := min(lo+elementBlock, len(j.dst))
	if j.z == nil {
		j.axpby(j.dst[lo:hi], j.x[lo:hi], j.y[lo:hi], j.a, j.b)
		return
	}
	j.axpbSum(j.dst[lo:hi], j.x[lo:hi], j.y[lo:hi], j.z[lo:hi], j.a, j.b, j.c)
}

func plainAxpby(dst, x, y []float32, a, b float32) {
	x, y = x[:len(dst)], y[:len(dst)]
	for i := range dst {
		dst[i] = float32(a*x[i]) + float32(b*y[i])
	}
}

func plainAxpbSum(dst, x, y, z []float32, a, b, c float32) {
	x, y, z = x[:len(dst)], y[:len(dst)], z[:len(dst)]
	for i := range dst {
		inner := y[i] + float32(c*z[i])
		dst[i] = float32(a*x[i]) + float32(b*inner)
	}
}
