//go:build cuda && linux && amd64

package cuda

import (
	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// weight implements kernels.Weight: its parameters, whose halves are what products read.
type weight struct {
	params  *buffer
	out, in int
}

// Shape implements kernels.Weight.
func (w *weight) Shape() (out, in int) { return w.out, w.in }

// NewWeight implements kernels.Device. The parameters' halves take 2 bytes each.
func (d *Device) NewWeight(params kernels.Buffer, out, in int, _ bool) (kernels.Weight, error) {
	if err := kernels.CheckWeight(params, out, in); err != nil {
		return nil, err
	}
	if d.activations == halves {
		if err := d.reserve("parameters in bf16", out*in, 2*int64(out)*int64(in)); err != nil {
			return nil, err
		}
	}
	p := d.of("weight", params)
	return &weight{&buffer{d, p.home, p.at, out * in}, out, in}, nil
}

func (d *Device) weightOf(op string, w kernels.Weight) *weight {
	c, ok := w.(*weight)
	if !ok || c.params.d != d {
		kernels.PanicForeign(op, w)
	}
	return c
}

// UpdateWeight implements kernels.Device.
func (d *Device) UpdateWeight(w kernels.Weight, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	const op = "update weight"
	c := d.weightOf(op, w)
	kernels.CheckUpdateWeight(c.params.n, g, m, v)
	p, copied := d.updateBoth(op, c.params, c.params.n)
	d.adamw(op, p, copied, c.params.n, g, m, v, step)
}

// Sizes of src/gemm.cu.
const (
	tile       = 128
	tileDepth  = 32
	gemmShared = 48 << 10
)

// A product is c (m,n) = op(a)·op(b), in one form or both.
type product struct {
	floats, halves uint64 // where c goes; 0 for nowhere
	add            uint64 // floats that are added, may be those of c; or 0
	a, b           kernels.Buffer
	m, n, k        int
	transA, transB bool
}

// to says where the product goes.
func (p *product) to(v value) {
	if v.form == halves {
		p.halves = v.at
	} else {
		p.floats = v.at
	}
}

// MatMul implements kernels.Device.
func (d *Device) MatMul(c, a, b kernels.Buffer, m, n, k int, transA, transB, accumulate bool) {
	const op = "matmul"
	kernels.CheckMatMul(c, a, b, m, n, k)
	p := product{a: a, b: b, m: m, n: n, k: k, transA: transA, transB: transB}
	if accumulate {
		p.add = d.read(op, c, m*n, floats)
	}
	d.multiply(op, &p, func() { p.floats = d.write(op, c, m*n, floats) })
}

// Linear implements kernels.Device.
func (d *Device) Linear(y, x kernels.Buffer, w kernels.Weight, residual kernels.Buffer, rows int) {
	const op = "linear"
	c := d.weightOf(op, w)
	kernels.CheckLinear("linear", y, x, w, residual, rows)
	p := product{a: x, b: c.params, m: rows, n: c.out, k: c.in, transB: true}
	if residual != nil {
		p.add = d.read(op, residual, rows*c.out, floats)
	}
	d.multiply(op, &p, func() { p.floats = d.write(op, y, rows*c.out, floats) })
}

// Project implements kernels.Device.
func (d *Device) Project(y, x kernels.Buffer, w kernels.Weight, rows int) {
	const op = "project"
	c := d.weightOf(op, w)
	kernels.CheckLinear("linear", y, x, w, nil, rows)
	p := product{a: x, b: c.params, m: rows, n: c.out, k: c.in, transB: true}
	d.multiply(op, &p, func() { p.to(d.result(op, y, rows*c.out)) })
}

// LinearBackward implements kernels.Device.
func (d *Device) LinearBackward(dx, dy kernels.Buffer, w kernels.Weight, rows int) {
	const op = "linear backward"
	c := d.weightOf(op, w)
	kernels.CheckLinearBackward(dx, dy, w, rows)
	p := product{a: dy, b: c.params, m: rows, n: c.in, k: c.out}
	d.multiply(op, &p, func() { p.to(d.result(op, dx, rows*c.in)) })
}

// multiply computes p; results says where it goes, once the operands are known.
func (d *Device) multiply(op string, p *product, results func()) {
	if p.m == 0 || p.n == 0 {
		return
	}
	if d.activations == floats {
		a, b := d.read(op, p.a, p.m*p.k, floats), d.read(op, p.b, p.k*p.n, floats)
		results()
		d.multiplyFloats(p, a, b)
		return
	}
	a, b := d.operand(op, 0, p.a, p.m, p.k, p.transA), d.operand(op, 1, p.b, p.k, p.n, p.transB)
	results()
	if !d.multiplyBlas(p, a, b) {
		d.multiplyHalves(p, a, b)
	}
}

// An operand is a matrix of halves whose rows, stride apart, begin at multiples of 16 bytes.
type operand struct {
	at     uint64
	stride int
}

// operand returns the halves of x, op(x) being (rows, columns): where they are, if the tensor
// cores' copies can read them there, else packed.
func (d *Device) operand(op string, which int, x kernels.Buffer, rows, columns int, transposed bool) operand {
	if transposed {
		rows, columns = columns, rows
	}
	if columns%8 == 0 {
		if at := d.read(op, x, rows*columns, halves); at%16 == 0 {
			return operand{at, columns}
		}
	}
	from := d.either(op, x, rows*columns)
	stride := (columns + 7) &^ 7
	at := d.scratch(&d.operands[which], max(16, 2*int64(rows)*int64(stride)))
	d.launch("pack", rows, blocks(columns, 256), 1, 256, 0, at, from.at, uint64(rows), uint64(columns), uint64(stride), forms(halves, from.form))
	return operand{at, stride}
}

// multiplyHalves is the own kernel. Where the tiles of c are too few for two blocks on each
// multiprocessor, k is cut, in parts of 256 or more.
func (d *Device) multiplyHalves(p *product, a, b operand) {
	tiles := blocks(p.m, tile) * blocks(p.n, tile)
	parts := max(1, min(2*d.driver.Multiprocessors()/tiles, p.k/256))
	split := blocks(blocks(p.k, parts), tileDepth) * tileDepth
	if parts = blocks(p.k, max(split, 1)); parts > 1 {
		to := d.scratch(&d.parts, 4*int64(parts)*int64(p.m)*int64(p.n))
		d.gemm(p, to, 0, 0, a, b, tiles, parts, split)
		d.launch("gemm_join", blocks(p.m*p.n, 256), 1, 1, 256, 0, p.floats, p.halves, p.add, to, uint64(p.m)*uint64(p.n), uint64(parts))
		return
	}
	d.gemm(p, p.floats, p.halves, p.add, a, b, tiles, 1, max(p.k, 1))
}

var gemmNames = [2][2]string{{"gemm_nn", "gemm_nt"}, {"gemm_tn", "gemm_tt"}} // by transA, transB

func (d *Device) gemm(p *product, c, h, add uint64, a, b operand, tiles, parts, split int) {
	d.launch(gemmNames[word(p.transA)][word(p.transB)], tiles, 1, parts, 256, gemmShared,
		c, h, add, a.at, uint64(a.stride), b.at, uint64(b.stride), uint64(p.m), uint64(p.n), uint64(p.k), uint64(split),
		wide(p.n, c|add, h))
}

// wide are the flags of gemm: two floats, four halves can be stored at once in rows of n.
func wide(n int, floats, halves uint64) uint64 {
	return word(n%2 == 0 && floats%8 == 0) | word(n%4 == 0 && halves%8 == 0)<<1
}

// multiplyBlas is cuBLAS's product, where there is cuBLAS and the product is one that it
// computes at once. It reads a dimension as 32 bits.
func (d *Device) multiplyBlas(p *product, a, b operand) bool {
	const most = 1<<31 - 1
	if d.blas == nil || d.err != nil || p.k == 0 || p.floats != 0 && p.halves != 0 || max(p.m, p.n, p.k, a.stride, b.stride) > most {
		return d.err != nil
	}
	var beta float32
	if p.add != 0 {
		beta = 1
		if p.add != p.floats {
			d.failed(d.compute.Copy(driver.Ptr(p.floats), driver.Ptr(p.add), 4*int64(p.m)*int64(p.n)))
		}
	}
	c := driver.Ptr(p.floats | p.halves)
	d.failed(d.blas.Gemm(p.transA, p.transB, p.m, p.n, p.k, driver.Ptr(a.at), a.stride, driver.Ptr(b.at), b.stride, beta, c, p.n, p.halves != 0))
	return true
}

// multiplyFloats is the product in float32.
func (d *Device) multiplyFloats(p *product, a, b uint64) {
	strides := func(trans bool, rows, columns int) (uint64, uint64) {
		if trans {
			return 1, uint64(rows)
		}
		return uint64(columns), 1
	}
	aRow, aCol := strides(p.transA, p.m, p.k)
	bRow, bCol := strides(p.transB, p.k, p.n)
	d.launch("gemm_float", blocks(p.m, tile)*blocks(p.n, tile), 1, 1, 256, 0,
		p.floats, p.add, a, aRow, aCol, b, bRow, bCol, uint64(p.m), uint64(p.n), uint64(p.k))
}

// LinearSwiGLU implements kernels.Device. Without cuBLAS the product's own kernel computes
// SwiGLU before it stores.
func (d *Device) LinearSwiGLU(out, gateUp, x kernels.Buffer, w kernels.Weight, rows int) {
	const op = "linear swiglu"
	c := d.weightOf(op, w)
	kernels.CheckLinearSwiGLU(out, gateUp, x, w, rows)
	width := c.out / 2
	p := product{a: x, b: c.params, m: rows, n: c.out, k: c.in, transB: true}
	if d.activations == floats || d.blas != nil {
		d.multiply(op, &p, func() { p.to(d.result(op, gateUp, rows*c.out)) })
		d.SwiGLU(out, gateUp, rows, width)
		return
	}
	if rows == 0 {
		return
	}
	a, b := d.operand(op, 0, x, rows, c.in, false), d.operand(op, 1, c.params, c.in, c.out, true)
	both, product := d.write(op, gateUp, rows*c.out, halves), d.write(op, out, rows*width, halves)
	d.launch("gemm_swiglu", blocks(rows, tile)*blocks(width, tile/2), 1, 1, 256, gemmShared,
		product, both, a.at, uint64(a.stride), b.at, uint64(b.stride), uint64(rows), uint64(width), uint64(c.in), wide(width, 0, both|product))
}
