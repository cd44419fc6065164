package kernels

// swigluBlock is the number of rows a task takes.
const swigluBlock = 16

// swigluJob is SwiGLU, or its backward pass when dout is set.
type swigluJob struct {
	out, gateUp []float32 // out is dgateUp in the backward pass
	dout        []float32
	rows, width int
}

// SwiGLU implements Device.
func (d *CPU) SwiGLU(out, gateUp Buffer, rows, width int) {
	checkSwiGLU(out, gateUp, rows, width)
	d.swiglu = swigluJob{f32("swiglu", out), f32("swiglu", gateUp), nil, rows, width}
	d.run(&d.swiglu, blocks(rows, swigluBlock))
}

// SwiGLUBackward implements Device. It computes what [Reference.SwiGLUBackward]
// states.
func (d *CPU) SwiGLUBackward(dgateUp, dout, gateUp Buffer, rows, width int) {
	checkSwiGLUBackward(dgateUp, dout, gateUp, rows, width)
	const op = "swiglu backward"
	d.swiglu = swigluJob{f32(op, dgateUp), f32(op, gateUp), f32(op, dout), rows, width}
	d.run(&d.swiglu, blocks(rows, swigluBlock))
}

func (j *swigluJob) do(_, task int) {
	for r := task * swigluBlock; r < min((task+1)*swigluBlock, j.rows); r++ {
		gate := j.gateUp[2*r*j.width:][:j.width]
		up := j.gateUp[(2*r+1)*j.width:][:len(gate)]
		if j.dout == nil {
			out := j.out[r*j.width:][:len(gate)]
			for i, g := range gate {
				out[i] = float32(g*sigmoid(g)) * up[i]
			}
			continue
		}
		dout := j.dout[r*j.width:][:len(gate)]
		dgate := j.out[2*r*j.width:][:len(gate)]
		dup := j.out[(2*r+1)*j.width:][:len(gate)]
		for i, g := range gate {
			s := sigmoid(g)
			silu, u := g*s, up[i]
			dgate[i] = float32(dout[i]*u) * float32(s*(1+float32(g*(1-s))))
			dup[i] = dout[i] * silu
		}
	}
}

func sigmoid(x float32) float32 { return 1 / (1 + exp32(-x)) }
