package cpu

import (
	"math"

	"loco/kernels"
)

// normBlock is the number of rows a task normalises; RMSNormBackward sums dweight
// within such a block.
const normBlock = 64

// normJob is RMSNorm, or its backward pass, which runs in two phases: the rows, then
// the sum over blocks of rows of what they add to dweight.
type normJob struct {
	*path
	backward     bool
	out, rstd, x []float32 // out is dx in the backward pass
	weight, dout []float32
	rows, width  int
	eps          float32
	keeping      *roundedRows // out, or nil
	partial      []float32    // (blocks of rows, width): dweight of each block
	dweight      []float32
}

// RMSNorm implements kernels.Device. The mean of a row has the tree of the lanes.
func (d *Device) RMSNorm(out, rstd, x, weight kernels.Buffer, rows, width int, eps float32) {
	kernels.CheckRMSNorm(out, rstd, x, weight, rows, width)
	const op = "rmsnorm"
	j := &d.norm
	j.path, j.backward, j.rows, j.width, j.eps = d.path, false, rows, width, eps
	j.out, j.rstd, j.x, j.weight = d.written(op, out), d.written(op, rstd), f32(op, x), f32(op, weight)
	j.keeping = d.keepRounded(out, rows, width)
	d.run(j, blocks(rows, normBlock))
	j.keeping.keptAll()
}

// RMSNormBackward implements kernels.Device. It computes what [Reference.RMSNormBackward]
// states.
func (d *Device) RMSNormBackward(dx, dweight, dout, x, weight, rstd kernels.Buffer, rows, width int) {
	kernels.CheckRMSNormBackward(dx, dweight, dout, x, weight, rstd, rows, width)
	const op = "rmsnorm backward"
	j := &d.norm
	j.path, j.backward, j.rows, j.width = d.path, true, rows, width
	j.out, j.rstd, j.x, j.weight = d.written(op, dx), f32(op, rstd), f32(op, x), f32(op, weight)
	j.dweight, j.dout = d.written(op, dweight), f32(op, dout)
	count := blocks(rows, normBlock)
	j.partial = grown(j.partial, count*width)
	d.run(j, count)
	if count == 0 {
		return
	}
	sum := j.partial[:width]
	for b := 1; b < count; b++ {
		j.add(sum, j.partial[b*width:][:width])
	}
	j.add(j.dweight[:width], sum)
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
		rstd := 1 / float32(math.Sqrt(float64(j.dot(x, x)/float32(j.width)+j.eps)))
		j.rstd[r] = rstd
		out := j.out[r*j.width:][:j.width]
		j.normRow(out, x, j.weight[:j.width], rstd)
		if j.keeping != nil {
			j.keeping.keep(r, out)
		}
	}
}

// rowBackward adds row r's share to dx and dweight.
func (j *normJob) rowBackward(r int, dweight []float32) {
	x, dout := j.x[r*j.width:][:j.width], j.dout[r*j.width:][:j.width]
	w, rstd := j.weight[:j.width], j.rstd[r]
	mean := j.normGradSum(dweight, dout, x, w, rstd) / float32(j.width)
	j.normGrad(j.out[r*j.width:][:j.width], dout, x, w, rstd, mean)
}

func plainNormRow(out, x, w []float32, rstd float32) {
	out, w = out[:len(x)], w[:len(x)]
	for i, v := range x {
		out[i] = float32(v*rstd) * w[i]
	}
}

func plainNormGradSum(dweight, dout, x, w []float32, rstd float32) float32 {
	dweight, dout, w = dweight[:len(x)], dout[:len(x)], w[:len(x)]
	var s [lanes]float32
	for i, v := range x {
		normed := v * rstd
		dweight[i] += float32(dout[i] * normed)
		s[i%lanes] += float32(float32(dout[i]*w[i]) * normed)
	}
	return joinLanes(&s)
}

func plainNormGrad(dx, dout, x, w []float32, rstd, mean float32) {
	dx, dout, w = dx[:len(x)], dout[:len(x)], w[:len(x)]
	for i, v := range x {
		dx[i] += float32(rstd * (float32(dout[i]*w[i]) - float32(float32(v*rstd)*mean)))
	}
}

// ropeBlock is the number of rows a task rotates.
const ropeBlock = 64

// ropeJob is RoPE.
type ropeJob struct {
	*path
	qkv, cos, sin []float32
	s             kernels.AttentionShape
	sign          float32 // −1 rotates back
}

// RoPE implements kernels.Device.
func (d *Device) RoPE(qkv, cos, sin kernels.Buffer, s kernels.AttentionShape, inverse bool) {
	kernels.CheckRoPE(qkv, cos, sin, s)
	d.rotary = ropeJob{d.path, d.written("rope", qkv), f32("rope", cos), f32("rope", sin), s, 1}
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
			head := row[h*j.s.HeadDim:][:2*half]
			j.rotate(head[:half], head[half:], cos, sin, j.sign)
		}
	}
}

func plainRotate(lo, hi, cos, sin []float32, sign float32) {
	hi, cos, sin = hi[:len(lo)], cos[:len(lo)], sin[:len(lo)]
	for i, a := range lo {
		b, c, s := hi[i], cos[i], sign*sin[i]
		lo[i] = float32(a*c) - float32(b*s)
		hi[i] = float32(b*c) + float32(a*s)
	}
}
