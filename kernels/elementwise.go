package kernels

import "math"

// elementBlock is the number of values in a task of an operation that treats each
// value by itself. It is a multiple of sumChunk, so that reductions can share it.
const elementBlock = 4 * sumChunk

type elementOp uint8

const (
	opZero elementOp = iota
	opCopy
	opAdd
	opScale
)

// elementwiseJob is one of the operations on whole vectors.
type elementwiseJob struct {
	op     elementOp
	dst, x []float32
	factor float32
}

func (j *elementwiseJob) do(_, task int) {
	lo := task * elementBlock
	hi := min(lo+elementBlock, len(j.dst))
	dst := j.dst[lo:hi]
	switch j.op {
	case opZero:
		clear(dst)
	case opCopy:
		copy(dst, j.x[lo:hi])
	case opAdd:
		for i, v := range j.x[lo:hi][:len(dst)] {
			dst[i] += v
		}
	case opScale:
		for i := range dst {
			dst[i] *= j.factor
		}
	}
}

func (d *CPU) each(op elementOp, dst, x []float32, factor float32) {
	d.elementwise = elementwiseJob{op, dst, x, factor}
	d.run(&d.elementwise, blocks(len(dst), elementBlock))
}

// Zero implements Device.
func (d *CPU) Zero(x Buffer) { d.each(opZero, f32("zero", x), nil, 0) }

// Copy implements Device.
func (d *CPU) Copy(dst, src Buffer) {
	same("copy", "src", src.Len(), dst.Len())
	d.each(opCopy, f32("copy", dst), f32("copy", src), 0)
}

// Add implements Device.
func (d *CPU) Add(dst, x Buffer) {
	same("add", "x", x.Len(), dst.Len())
	d.each(opAdd, f32("add", dst), f32("add", x), 0)
}

// Scale implements Device.
func (d *CPU) Scale(x Buffer, s float32) { d.each(opScale, f32("scale", x), nil, s) }

// reduceJob sums x, or its squares, chunk by chunk.
type reduceJob struct {
	x      []float32
	square bool
	sums   []float64 // of each chunk of sumChunk values
}

// do sums four chunks side by side, so that the additions of one do not wait for
// those of another.
func (j *reduceJob) do(_, task int) {
	first := task * elementBlock / sumChunk
	x := j.x[task*elementBlock : min((task+1)*elementBlock, len(j.x))]
	if len(x) == elementBlock {
		sum := sumFour
		if j.square {
			sum = squareFour
		}
		*(*[4]float64)(j.sums[first:]) = sum(x[:sumChunk], x[sumChunk:], x[2*sumChunk:], x[3*sumChunk:])
		return
	}
	for lo := 0; lo < len(x); lo += sumChunk {
		s := 0.0
		for _, v := range x[lo:min(lo+sumChunk, len(x))] {
			if j.square {
				s += float64(float64(v) * float64(v))
			} else {
				s += float64(v)
			}
		}
		j.sums[first+lo/sumChunk] = s
	}
}

func sumFour(a, b, c, e []float32) (s [4]float64) {
	b, c, e = b[:len(a)], c[:len(a)], e[:len(a)]
	var s0, s1, s2, s3 float64
	for i := range a {
		s0 += float64(a[i])
		s1 += float64(b[i])
		s2 += float64(c[i])
		s3 += float64(e[i])
	}
	return [4]float64{s0, s1, s2, s3}
}

func squareFour(a, b, c, e []float32) (s [4]float64) {
	b, c, e = b[:len(a)], c[:len(a)], e[:len(a)]
	var s0, s1, s2, s3 float64
	for i := range a {
		s0 += float64(float64(a[i]) * float64(a[i]))
		s1 += float64(float64(b[i]) * float64(b[i]))
		s2 += float64(float64(c[i]) * float64(c[i]))
		s3 += float64(float64(e[i]) * float64(e[i]))
	}
	return [4]float64{s0, s1, s2, s3}
}

func (d *CPU) total(x []float32, square bool) float64 {
	j := &d.reduce
	j.x, j.square = x, square
	j.sums = grown(j.sums, blocks(len(x), sumChunk))
	d.run(j, blocks(len(x), elementBlock))
	total := 0.0
	for _, s := range j.sums {
		total += s
	}
	return total
}

// Sum implements Device.
func (d *CPU) Sum(x Buffer) float64 { return d.total(f32("sum", x), false) }

// SquaredNorm implements Device.
func (d *CPU) SquaredNorm(x Buffer) float64 { return d.total(f32("squared norm", x), true) }

// adamwJob is one AdamW step.
type adamwJob struct {
	p, g, m, v []float32
	step       AdamWStep
}

// AdamW implements Device.
func (d *CPU) AdamW(p, g, m, v Buffer, step AdamWStep) {
	checkAdamW(p, g, m, v)
	d.adamw = adamwJob{f32("adamw", p), f32("adamw", g), f32("adamw", m), f32("adamw", v), step}
	d.run(&d.adamw, blocks(p.Len(), elementBlock))
}

func (j *adamwJob) do(_, task int) {
	lo := task * elementBlock
	hi := min(lo+elementBlock, len(j.p))
	p := j.p[lo:hi]
	g, m, v := j.g[lo:hi][:len(p)], j.m[lo:hi][:len(p)], j.v[lo:hi][:len(p)]
	s := j.step
	rest1, rest2, decay := 1-s.Beta1, 1-s.Beta2, s.LR*s.WeightDecay
	for i, w := range p {
		grad := g[i] * s.GradScale
		mean := float32(s.Beta1*m[i]) + float32(rest1*grad)
		square := float32(s.Beta2*v[i]) + float32(rest2*float32(grad*grad))
		m[i], v[i] = mean, square
		w -= float32(decay * w)
		root := float32(math.Sqrt(float64(square / s.Correction2)))
		p[i] = w - float32(s.LR*(mean/s.Correction1))/(root+s.Eps)
	}
}
