package cpu

import "loco/kernels"

// cpuWeight is a [kernels.Weight] of the CPU: its parameters, packed as both operands that a
// training step multiplies with.
type cpuWeight struct {
	buffer  *cpuBuffer // the parameters
	params  []float32  // (out, in)
	out, in int
	forward []float32 // op(b) of y = x·Wᵀ
	inputs  []float32 // op(b) of dx = dy·W; nil if it is not trained
	stale   bool      // the parameters changed since
}

// Shape implements Weight.
func (w *cpuWeight) Shape() (out, in int) { return w.out, w.in }

// NewWeight implements kernels.Device. It takes a copy of the parameters, two to train, in
// bf16 half as large.
func (d *Device) NewWeight(params kernels.Buffer, out, in int, trained bool) (kernels.Weight, error) {
	if err := kernels.CheckWeight(params, out, in); err != nil {
		return nil, err
	}
	p := packing{d.path, d.half}
	b, ok := params.(*cpuBuffer)
	if !ok {
		kernels.PanicForeign("weight", params)
	}
	w := &cpuWeight{buffer: b, params: b.v[:out*in], out: out, in: in, stale: true}
	w.forward = floats(p.packed(out, in))
	if trained {
		w.inputs = floats(p.packed(in, out))
	}
	d.bytes += 4 * int64(len(w.forward)+len(w.inputs))
	b.home.weights = append(b.home.weights, w)
	return w, nil
}

// cpuMemory is what one Alloc returned, with the weights whose parameters lie in it.
type cpuMemory struct{ weights []*cpuWeight }

// written returns the memory of a buffer that an operation writes, and makes what was
// packed or rounded of it be made anew before its next use.
func (d *Device) written(op string, b kernels.Buffer) []float32 {
	v := f32(op, b)
	c := b.(*cpuBuffer)
	for i := range d.rounded {
		d.rounded[i].forget(c)
	}
	for _, w := range c.home.weights {
		if w.buffer.at < c.at+len(v) && c.at < w.buffer.at+len(w.params) {
			w.stale = true
		}
	}
	return v
}

// weight returns a weight of this device, packed.
func (d *Device) weight(op string, w kernels.Weight) *cpuWeight {
	c, ok := w.(*cpuWeight)
	if !ok {
		kernels.PanicForeign(op, w)
	}
	if c.stale {
		d.repack(c, nil)
	}
	return c
}

// slab is the number of rows of a weight that a task packs: a multiple of every path's
// panels and of the pairs that pad a row.
const slab = 32

// weightJob packs a weight, after an AdamW step on the same rows if adamw is set: what
// it packs is still in the cache.
type weightJob struct {
	packing
	w     *cpuWeight
	adamw *adamwJob // with the weight's operands
	tmp   [][]float32
}

func (d *Device) repack(w *cpuWeight, adamw *adamwJob) {
	j := &d.repacking
	j.packing, j.w, j.adamw = packing{d.path, d.half}, w, adamw
	for t := range j.tmp {
		j.tmp[t] = grownFloats(j.tmp[t], j.scratch(w.in))
	}
	d.run(j, blocks(w.out, slab))
	w.stale = false
}

func (j *weightJob) do(worker, task int) {
	w := j.w
	row := task * slab
	count := min(slab, w.out-row)
	lo, hi := row*w.in, (row+count)*w.in
	if a := j.adamw; a != nil {
		j.path.adamw(w.params[lo:hi], a.g[lo:hi], a.m[lo:hi], a.v[lo:hi], &a.constants)
	}
	rows := w.params[lo:hi]
	j.transposed(w.forward[row*j.words(w.in):], rows, w.in, count, w.in, j.tmp[worker])
	if w.inputs == nil {
		return
	}
	before := row
	if j.half != nil {
		before /= 2
	}
	j.straight(w.inputs[before*j.cols:], j.words(w.out), rows, w.in, w.in, count)
}

// UpdateWeight implements kernels.Device.
func (d *Device) UpdateWeight(w kernels.Weight, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	const op = "update weight"
	c, ok := w.(*cpuWeight)
	if !ok {
		kernels.PanicForeign(op, w)
	}
	kernels.CheckUpdateWeight(len(c.params), g, m, v)
	d.adamw = adamwJob{d.path, nil, f32(op, g), d.written(op, m), d.written(op, v), constantsOf(step)}
	d.written(op, c.buffer)
	d.repack(c, &d.adamw)
}

// Linear implements kernels.Device.
func (d *Device) Linear(y, x kernels.Buffer, w kernels.Weight, residual kernels.Buffer, rows int) {
	const op = "linear"
	kernels.CheckLinear(op, y, x, w, residual, rows)
	c := d.weight(op, w)
	j := &d.matmul
	j.c, j.a, j.m, j.n, j.k = d.written(op, y), f32(op, x), rows, c.out, c.in
	j.residual, j.gated = nil, nil
	if residual != nil {
		j.residual = f32(op, residual)
	}
	j.rounded, j.keeping = d.roundedOf(x, rows, c.in), nil
	d.multiply(j, c.forward)
}

// Project implements kernels.Device.
func (d *Device) Project(y, x kernels.Buffer, w kernels.Weight, rows int) {
	d.Linear(y, x, w, nil, rows)
}

// LinearSwiGLU implements kernels.Device.
func (d *Device) LinearSwiGLU(out, gateUp, x kernels.Buffer, w kernels.Weight, rows int) {
	const op = "linear swiglu"
	kernels.CheckLinearSwiGLU(out, gateUp, x, w, rows)
	c := d.weight(op, w)
	j := &d.matmul
	j.c, j.a, j.m, j.n, j.k = d.written(op, gateUp), f32(op, x), rows, c.out, c.in
	j.residual, j.gated = nil, d.written(op, out)
	j.keeping = d.keepRounded(out, rows, c.out/2) // first: it moves what roundedOf finds
	j.rounded = d.roundedOf(x, rows, c.in)
	d.multiply(j, c.forward)
	j.keeping.keptAll()
}

// LinearBackward implements kernels.Device.
func (d *Device) LinearBackward(dx, dy kernels.Buffer, w kernels.Weight, rows int) {
	const op = "linear backward"
	kernels.CheckLinearBackward(dx, dy, w, rows)
	c := d.weight(op, w)
	j := &d.matmul
	j.c, j.a, j.m, j.n, j.k = d.written(op, dx), f32(op, dy), rows, c.in, c.out
	j.residual, j.gated, j.rounded, j.keeping = nil, nil, nil, nil
	d.multiply(j, c.inputs)
}
