package cpu

import (
	"math"

	"loco/kernels"
)

// sumChunk is the number of values of a chunk of a sum.
const sumChunk = kernels.SumChunk

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
	*path
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
		j.add(dst, j.x[lo:hi])
	case opScale:
		j.scale(dst, j.factor)
	}
}

func plainAdd(dst, x []float32) {
	x = x[:len(dst)]
	for i, v := range x {
		dst[i] += v
	}
}

func plainScale(x []float32, factor float32) {
	for i := range x {
		x[i] *= factor
	}
}

func (d *Device) each(op elementOp, dst, x []float32, factor float32) {
	d.elementwise = elementwiseJob{d.path, op, dst, x, factor}
	d.run(&d.elementwise, blocks(len(dst), elementBlock))
}

// Zero implements kernels.Device.
func (d *Device) Zero(x kernels.Buffer) { d.each(opZero, d.written("zero", x), nil, 0) }

// Copy implements kernels.Device.
func (d *Device) Copy(dst, src kernels.Buffer) {
	kernels.CheckSame("copy", "src", src.Len(), dst.Len())
	d.each(opCopy, d.written("copy", dst), f32("copy", src), 0)
}

// Add implements kernels.Device.
func (d *Device) Add(dst, x kernels.Buffer) {
	kernels.CheckSame("add", "x", x.Len(), dst.Len())
	d.each(opAdd, d.written("add", dst), f32("add", x), 0)
}

// Scale implements kernels.Device.
func (d *Device) Scale(x kernels.Buffer, s float32) { d.each(opScale, d.written("scale", x), nil, s) }

// reduceJob sums x, or its squares, chunk by chunk.
type reduceJob struct {
	*path
	x      []float32
	square bool
	sums   []float64        // of each chunk of sumChunk values
	lanes  [][lanes]float64 // by worker
}

func (j *reduceJob) do(worker, task int) {
	x := j.x[task*elementBlock : min((task+1)*elementBlock, len(j.x))]
	s := &j.lanes[worker]
	for lo := 0; lo < len(x); lo += sumChunk {
		chunk := x[lo:min(lo+sumChunk, len(x))]
		whole := len(chunk) / lanes * lanes
		*s = [lanes]float64{}
		if j.square {
			j.squareLanes(s, chunk[:whole])
		} else {
			j.sumLanes(s, chunk[:whole])
		}
		for l, v := range chunk[whole:] {
			term := float64(v)
			if j.square {
				term *= term
			}
			s[l] += term
		}
		j.sums[task*elementBlock/sumChunk+lo/sumChunk] = kernels.JoinSums(s)
	}
}

func (d *Device) total(x []float32, square bool) float64 {
	j := &d.reduce
	j.path, j.x, j.square = d.path, x, square
	j.sums = grown(j.sums, blocks(len(x), sumChunk))
	d.run(j, blocks(len(x), elementBlock))
	total := 0.0
	for _, s := range j.sums {
		total += s
	}
	return total
}

// Sum implements kernels.Device.
func (d *Device) Sum(x kernels.Buffer) float64 { return d.total(f32("sum", x), false) }

// SquaredNorm implements kernels.Device.
func (d *Device) SquaredNorm(x kernels.Buffer) float64 { return d.total(f32("squared norm", x), true) }

// adamwJob is one AdamW step.
type adamwJob struct {
	*path
	p, g, m, v []float32
	// constants are GradScale, Beta1, 1−Beta1, Beta2, 1−Beta2, LR·WeightDecay, LR,
	// Correction1, Correction2 and Eps.
	constants [10]float32
}

// constantsOf are what adamw's loops read: see adamwJob.
func constantsOf(s kernels.AdamWStep) [10]float32 {
	return [10]float32{
		s.GradScale, s.Beta1, 1 - s.Beta1, s.Beta2, 1 - s.Beta2, s.LR * s.WeightDecay,
		s.LR, s.Correction1, s.Correction2, s.Eps,
	}
}

// AdamW implements kernels.Device.
func (d *Device) AdamW(p, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	kernels.CheckAdamW(p, g, m, v)
	d.adamw = adamwJob{d.path, d.written("adamw", p), f32("adamw", g), d.written("adamw", m), d.written("adamw", v), constantsOf(step)}
	d.run(&d.adamw, blocks(p.Len(), elementBlock))
}

func (j *adamwJob) do(_, task int) {
	lo := task * elementBlock
	hi := min(lo+elementBlock, len(j.p))
	j.path.adamw(j.p[lo:hi], j.g[lo:hi], j.m[lo:hi], j.v[lo:hi], &j.constants)
}

func plainAdamW(p, g, m, v []float32, c *[10]float32) {
	g, m, v = g[:len(p)], m[:len(p)], v[:len(p)]
	for i, w := range p {
		grad := g[i] * c[0]
		mean := float32(c[1]*m[i]) + float32(c[2]*grad)
		square := float32(c[3]*v[i]) + float32(c[4]*float32(grad*grad))
		m[i], v[i] = mean, square
		w -= float32(c[5] * w)
		root := float32(math.Sqrt(float64(square / c[8])))
		p[i] = w - float32(c[6]*(mean/c[7]))/(root+c[9])
	}
}
