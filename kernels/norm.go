package kernels

import "math"

// normBlock is the number of rows a task normalises; RMSNormBackward sums dweight
// within such a block.
const normBlock = 64

// normJob is RMSNorm, or its backward pass, which runs in two phases: the rows, then
// the sum over blocks of rows of what they add to dweight.
type normJob struct {
	backward     bool
	out, rstd, x []float32 // out is dx in the backward pass
	weight, dout []float32
	rows, width  int
	eps          float32
	partial      []float32 // (blocks of rows, width): dweight of each block
	dweight      []float32
}

// RMSNorm implements Device. The mean of a row has the tree of the 8 lanes.
func (d *CPU) RMSNorm(out, rstd, x, weight Buffer, rows, width int, eps float32) {
	checkRMSNorm(out, rstd, x, weight, rows, width)
	const op = "rmsnorm"
	j := &d.norm
	j.backward, j.rows, j.width, j.eps = false, rows, width, eps
	j.out, j.rstd, j.x, j.weight = f32(op, out), f32(op, rstd), f32(op, x), f32(op, weight)
	d.run(j, blocks(rows, normBlock))
}

// RMSNormBackward implements Device. It computes what [Reference.RMSNormBackward]
// states.
func (d *CPU) RMSNormBackward(dx, dweight, dout, x, weight, rstd Buffer, rows, width int) {
	checkRMSNormBackward(dx, dweight, dout, x, weight, rstd, rows, width)
	const op = "rmsnorm backward"
	j := &d.norm
	j.backward, j.rows, j.width = true, rows, width
	j.out, j.rstd, j.x, j.weight = f32(op, dx), f32(op, rstd), f32(op, x), f32(op, weight)
	j.dweight, j.dout = f32(op, dweight), f32(op, dout)
	count := blocks(rows, normBlock)
	j.partial = grown(j.partial, count*width)
	d.run(j, count)
	for i := range width {
		sum := float32(0)
		for b := range count {
			sum += j.partial[b*width+i]
		}
		j.dweight[i] += sum
	}
}

func (j *normJob) do(_, task int) {
	lo, hi := task*normBlock, min((task+1)*normBlock, j.rows)
	if j.backward {
		partial := j.partial[task*j.width:][:j.width]
		clear(partial)
		for r := lo; r < hi; r++ {
			j.rowBackward(r, partial)
		}
		return
	}
	for r := lo; r < hi; r++ {
		x := j.x[r*j.width:][:j.width]
		rstd := 1 / float32(math.Sqrt(float64(dotLanes(x, x)/float32(j.width)+j.eps)))
		j.rstd[r] = rstd
		out, w := j.out[r*j.width:][:len(x)], j.weight[:len(x)]
		for i, v := range x {
			out[i] = float32(v*rstd) * w[i]
		}
	}
}

// rowBackward adds row r's share to dx and dweight.
func (j *normJob) rowBackward(r int, dweight []float32) {
	x := j.x[r*j.width:][:j.width]
	dout, dx := j.dout[r*j.width:][:len(x)], j.out[r*j.width:][:len(x)]
	w, rstd := j.weight[:len(x)], j.rstd[r]
	dweight = dweight[:len(x)]
	var lanes [8]float32
	for i, v := range x {
		normed := v * rstd
		dweight[i] += float32(dout[i] * normed)
		lanes[i&7] += float32(float32(dout[i]*w[i]) * normed)
	}
	mean := joinLanes(&lanes) / float32(j.width)
	for i, v := range x {
		dx[i] += float32(rstd * (float32(dout[i]*w[i]) - float32(float32(v*rstd)*mean)))
	}
}

// ropeBlock is the number of rows a task rotates.
const ropeBlock = 64

// ropeJob is RoPE.
type ropeJob struct {
	qkv, cos, sin []float32
	s             AttentionShape
	sign          float32 // −1 rotates back
}

// RoPE implements Device.
func (d *CPU) RoPE(qkv, cos, sin Buffer, s AttentionShape, inverse bool) {
	checkRoPE(qkv, cos, sin, s)
	d.rotary = ropeJob{f32("rope", qkv), f32("rope", cos), f32("rope", sin), s, 1}
	if inverse {
		d.rotary.sign = -1
	}
	d.run(&d.rotary, blocks(s.Rows(), ropeBlock))
}

func (j *ropeJob) do(_, task int) {
	half := j.s.HeadDim / 2
	for r := task * ropeBlock; r < min((task+1)*ropeBlock, j.s.Rows()); r++ {
		t := r % j.s.Seq
		cos, sin := j.cos[t*half:][:half], j.sin[t*half:][:half]
		row := j.qkv[r*j.s.QKVWidth():]
		for h := range j.s.Heads + j.s.KVHeads {
			lo := row[h*j.s.HeadDim:][:half]
			hi := row[h*j.s.HeadDim+half:][:half]
			for i, c := range cos {
				s := j.sign * sin[i]
				a, b := lo[i], hi[i]
				lo[i] = float32(a*c) - float32(b*s)
				hi[i] = float32(b*c) + float32(a*s)
			}
		}
	}
}
