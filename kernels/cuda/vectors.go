//go:build cuda && linux && amd64

package cuda

import (
	"encoding/binary"
	"math"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// convert copies n values from one form to the other.
func (d *Device) convert(to uint64, toForm form, from uint64, fromForm form, n int) {
	d.launch("copy_values", elements(n), 1, 1, 256, 0, to, from, uint64(n), forms(toForm, fromForm)|vector(0, to, from))
}

// Zero implements kernels.Device.
func (d *Device) Zero(x kernels.Buffer) {
	at := d.write("zero", x, x.Len(), floats)
	if d.err == nil && x.Len() > 0 {
		d.failed(d.compute.Fill(driver.Ptr(at), 0, 4*int64(x.Len())))
	}
}

// Copy implements kernels.Device. dst gets the form that src is in.
func (d *Device) Copy(dst, src kernels.Buffer) {
	kernels.CheckSame("copy", "src", src.Len(), dst.Len())
	n := src.Len()
	from := d.either("copy", src, n)
	d.convert(d.write("copy", dst, n, from.form), from.form, from.at, from.form, n)
}

// Add implements kernels.Device.
func (d *Device) Add(dst, x kernels.Buffer) {
	kernels.CheckSame("add", "x", x.Len(), dst.Len())
	n := x.Len()
	from := d.either("add", x, n)
	to := d.update("add", dst, n)
	d.launch("add_values", elements(n), 1, 1, 256, 0, to, from.at, uint64(n), forms(floats, from.form)|vector(0, to, from.at))
}

// Scale implements kernels.Device.
func (d *Device) Scale(x kernels.Buffer, s float32) {
	at := d.update("scale", x, x.Len())
	d.launch("scale_values", elements(x.Len()), 1, 1, 256, 0, at, bits(s), uint64(x.Len()), vector(0, at))
}

// Sum implements kernels.Device.
func (d *Device) Sum(x kernels.Buffer) float64 { return d.total("sum", x, false) }

// SquaredNorm implements kernels.Device.
func (d *Device) SquaredNorm(x kernels.Buffer) float64 { return d.total("squared norm", x, true) }

// total adds the chunks on the device and the chunks' sums here: a chain of additions is what
// a processor is better at, and it waits for the result anyway.
func (d *Device) total(op string, x kernels.Buffer, square bool) float64 {
	const chunk, warps = 4096, 8
	n := x.Len()
	at, count := d.read(op, x, n, floats), blocks(n, chunk)
	sums := d.scratch(&d.sums, 8*int64(count))
	d.launch("chunk_sums", blocks(count, warps), 1, 1, 32*warps, 0, sums, at, uint64(n), word(square))
	d.pin(8 * count)
	if d.err == nil {
		d.failed(d.compute.CopyOut(d.pinned[:8*count], driver.Ptr(sums)))
		d.failed(d.compute.Synchronize())
	}
	if d.err != nil {
		return math.NaN()
	}
	total := 0.0
	for i := range count {
		total += math.Float64frombits(binary.LittleEndian.Uint64(d.pinned[8*i:]))
	}
	return total
}

// pin makes d.pinned at least n bytes.
func (d *Device) pin(n int) {
	if len(d.pinned) >= n || d.err != nil {
		return
	}
	if d.pinned != nil && d.failed(d.driver.FreePinned(d.pinned)) {
		return
	}
	var err error
	d.pinned, err = d.driver.Pinned(max(n, 1<<16))
	d.failed(err)
}

// AdamW implements kernels.Device.
func (d *Device) AdamW(p, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	kernels.CheckAdamW(p, g, m, v)
	d.adamw("adamw", d.update("adamw", p, p.Len()), 0, p.Len(), g, m, v, step)
}

// adamw also writes the parameters' halves, unless their address is 0.
func (d *Device) adamw(op string, p, copied uint64, n int, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	gradient := d.read(op, g, n, floats)
	first, second := d.update(op, m, n), d.update(op, v, n)
	d.launch("adamw", elements(n), 1, 1, 256, 0, p, gradient, first, second, copied, uint64(n),
		bits(step.GradScale), bits(step.Beta1), bits(1-step.Beta1), bits(step.Beta2), bits(1-step.Beta2),
		bits(step.LR*step.WeightDecay), bits(step.LR), bits(step.Correction1), bits(step.Correction2), bits(step.Eps),
		vector(0, p, gradient, first, second, copied))
}
