package cpu

import "loco/kernels"

// swigluBlock is the number of rows a task takes.
const swigluBlock = 16

// swigluJob is SwiGLU, or its backward pass when dout is set.
type swigluJob struct {
	*path
	out, gateUp []float32 // out is dgateUp in the backward pass
	dout        []float32
	rows, width int
}

// SwiGLU implements kernels.Device.
func (d *Device) SwiGLU(out, gateUp kernels.Buffer, rows, width int) {
	kernels.CheckSwiGLU(out, gateUp, rows, width)
	d.swiglu = swigluJob{d.path, d.written("swiglu", out), f32("swiglu", gateUp), nil, rows, width}
	d.run(&d.swiglu, blocks(rows, swigluBlock))
}

// SwiGLUBackward implements kernels.Device. It computes what [Reference.SwiGLUBackward]
// states.
func (d *Device) SwiGLUBackward(dgateUp, dout, gateUp kernels.Buffer, rows, width int) {
	kernels.CheckSwiGLUBackward(dgateUp, dout, gateUp, rows, width)
	const op = "swiglu backward"
	d.swiglu = swigluJob{d.path, d.written(op, dgateUp), f32(op, gateUp), f32(op, dout), rows, width}
	d.run(&d.swiglu, blocks(rows, swigluBlock))
}

func (j *swigluJob) do(_, task int) {
	for r := task * swigluBlock; r < min((task+1)*swigluBlock, j.rows); r++ {
		gate := j.gateUp[2*r*j.width:][:j.width]
		up := j.gateUp[(2*r+1)*j.width:][:len(gate)]
		if j.dout == nil {
			j.path.swiglu(j.out[r*j.width:][:j.width], gate, up)
			continue
		}
		dgate := j.out[2*r*j.width:][:j.width]
		dup := j.out[(2*r+1)*j.width:][:j.width]
		j.swigluGrad(dgate, dup, j.dout[r*j.width:][:j.width], gate, up)
	}
}

func plainSwiglu(out, gate, up []float32) {
	out, up = out[:len(gate)], up[:len(gate)]
	for i, g := range gate {
		out[i] = float32(g*sigmoid(g)) * up[i]
	}
}

func plainSwigluGrad(dgate, dup, dout, gate, up []float32) {
	dgate, dup, dout, up = dgate[:len(gate)], dup[:len(gate)], dout[:len(gate)], up[:len(gate)]
	for i, g := range gate {
		s, u := sigmoid(g), up[i]
		silu := g * s
		dgate[i] = float32(dout[i]*u) * float32(s*(1+float32(g*(1-s))))
		dup[i] = dout[i] * silu
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp32(-x)) }
