//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math"

	"loco/kernels"
	"loco/kernels/cuda/driver"
	"loco/optim"
)

// This file holds the table's rows of what moves bytes.

// values is a vector of n values in (-1/2, 1/2). An error stays with the device.
func (b *table) values(n int) kernels.Buffer {
	v := b.zeros(n)
	if b.d.err != nil {
		return v
	}
	x := make([]float32, min(n, 1<<20))
	for i := range x {
		x[i] = float32(i%977)/977 - 0.5
	}
	b.d.Upload(v.Slice(0, len(x)), x)
	for at := len(x); at < n; at *= 2 { // the bus would take seconds for gigabytes
		end := min(2*at, n)
		b.d.Copy(v.Slice(at, end), v.Slice(0, end-at))
	}
	return v
}

func (b *table) zeros(n int) kernels.Buffer {
	v, err := b.d.Alloc(n)
	if b.d.failed(err) {
		return nil
	}
	b.d.Zero(v) // takes the memory
	return v
}

// memory runs what reads and writes every value once, beside a copy, which counts as fast as the
// faster of the driver's and loco's.
func (b *table) memory() error {
	s := sizes()
	d, n := b.fresh(), s.Parameters
	x, y, m, v := b.values(n), b.values(n), b.zeros(n), b.zeros(n)
	if err := b.wait(); err != nil {
		return err
	}
	from, to := d.Floats("copy", x), d.WriteFloats("copy", y)
	b.copied = max(
		b.measure(row{name: fmt.Sprintf("copy of %d float32, the driver's", n), unit: "GB/s"}, 8*float64(n), func() {
			d.failed(d.compute.Copy(to, from, 4*int64(n)))
		}),
		b.measure(row{name: fmt.Sprintf("copy of %d float32", n), unit: "GB/s"}, 8*float64(n), func() { d.Copy(y, x) }))
	step := kernels.AdamWStep{LR: 1e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 0.1, Correction2: 0.05, GradScale: 1}
	b.beside("adamw of %d float32", 28*float64(n), func() { d.AdamW(y, x, m, v, step) }, n)
	b.beside("scale of %d float32", 8*float64(n), func() { d.Scale(x, 1) }, n)

	d = b.fresh()
	width, rows := s.Width, s.Rows
	in, residual := b.values(rows*width), b.values(rows*width)
	weight, sums, rstd, out := b.values(width), b.zeros(width), b.zeros(rows), b.zeros(rows*width)
	if err := b.wait(); err != nil {
		return err
	}
	each := float64(rows * width)
	b.beside("rmsnorm of %dx%d, float32 to bf16", 6*each, func() { d.RMSNorm(out, rstd, in, weight, rows, width, 1e-5) }, rows, width)
	// out, which is in bf16, stands for the gradient: 2 bytes. The input is read, the residual's
	// gradient read and written as float32 and written as bf16.
	b.beside("rmsnorm backward of %dx%d, each operand once", (2+4+4+4+2)*each, func() {
		d.RMSNormBackward(residual, sums, out, in, weight, rstd, rows, width)
	}, rows, width)
	return nil
}

// beside measures what should be as fast as a copy.
func (b *table) beside(name string, bytes float64, call func(), args ...any) {
	b.measure(row{fmt.Sprintf(name, args...), "GB/s", 0, "the copy", b.copied, 0.85}, bytes, call)
}

// codec runs the kernels of Encode and Decode alone, on a whole vector: no byte crosses PCIe.
func (b *table) codec() error {
	n, f := sizes().Parameters, kernels.FormatInt8
	d, bytes := b.fresh(), f.EncodedLen(n)
	x, y, encoded, bad := b.values(n), b.zeros(n), b.zeros(blocks(bytes, 4)), b.zeros(1)
	if err := b.wait(); err != nil {
		return err
	}
	const op = "codec"
	from, to := d.Floats(op, x), d.WriteFloats(op, y)
	wire, first := d.WriteFloats(op, encoded), d.WriteFloats(op, bad)
	moved := float64(4*n + bytes)
	b.beside("encode of %d float32 in int8, on the device", moved, func() {
		d.encodeValues(uint64(wire), uint64(from), n, f, uint64(first))
	}, n)
	b.beside("decode of %d float32 in int8, on the device", moved, func() {
		d.decodeValues(uint64(to), uint64(wire), n, f, 1, false)
	}, n)
	const last = 1000 // rates are of no use if nothing was computed
	got, want := make([]float32, last), make([]float32, last)
	d.Download(got, y.Slice(n-last, n))
	d.Download(want, x.Slice(n-last, n))
	for i := range want {
		if !(math.Abs(float64(got[i]-want[i])) <= 0.5/127) {
			return fmt.Errorf("value %d of %d is %v after int8, was %v", n-last+i, n, got[i], want[i])
		}
	}
	return d.Err()
}

// bus measures what one copy after another between pinned memory and the device does, in GB/s.
func (b *table) bus(at driver.Ptr, most int) (down, up float64, err error) {
	d, bytes := b.d, min(most, 256<<20)
	pinned, err := d.driver.Pinned(bytes)
	if err != nil {
		return 0, 0, err
	}
	down = b.measure(row{name: fmt.Sprintf("the bus to the host, %d pinned bytes", bytes), unit: "GB/s"}, float64(bytes), func() {
		d.failed(d.copies.CopyOut(pinned, at))
	})
	up = b.measure(row{name: fmt.Sprintf("the bus to the device, %d pinned bytes", bytes), unit: "GB/s"}, float64(bytes), func() {
		d.failed(d.copies.CopyIn(at, pinned)) // what came from there
	})
	return down, up, d.driver.FreePinned(pinned)
}

// parameters is the length of the outer step's vectors: of a model of 1B, if four such fit.
func (b *table) parameters() int {
	if *small {
		return sizes().Parameters
	}
	const large, less = 1 << 30, 1 << 28
	if need := int64(4*4)*large + 1<<30; b.d.limit < need {
		fmt.Printf("the outer step is of %d parameters: %d would take %.0f GiB, of which %.1f are free\n", less, large, float64(need)/(1<<30), float64(b.d.limit)/(1<<30))
		return less
	}
	return large
}

// outer runs DiLoCo's outer step with int8, beside the rate at which the bus carries pinned memory,
// and the hashes of φ and momentum that a round ends with, beside a copy: alone, and in the step.
func (b *table) outer() error {
	d := b.fresh()
	n, f := b.parameters(), kernels.FormatInt8
	slow, momentum, fast, delta := b.values(n), b.values(n), b.values(n), b.values(n)
	if err := b.wait(); err != nil {
		return err
	}
	down, up, err := b.bus(d.WriteFloats("bus", delta), 4*n)
	if err != nil {
		return err
	}
	host := make([]float32, min(n, 1<<26))
	part := delta.Slice(0, len(host))
	b.measure(row{fmt.Sprintf("Download of %d float32 to pageable memory", len(host)), "GB/s", 0, "the bus", down, 0}, 4*float64(len(host)), func() { d.Download(host, part) })
	b.measure(row{fmt.Sprintf("Upload of %d float32 from pageable memory", len(host)), "GB/s", 0, "the bus", up, 0}, 4*float64(len(host)), func() { d.Upload(part, host) })

	wire, hashes := make([]byte, f.EncodedLen(n)), make([]byte, 2*kernels.HashLen(n))
	step := func() {
		optim.PseudoGradient(d, delta, slow, fast)
		if k := d.Encode(wire, f, delta); k != n {
			d.failed(fmt.Errorf("encoded %d of %d values", k, n))
		}
		d.Decode(delta, f, wire)
		optim.Nesterov{LR: 0.7, Momentum: 0.9}.Step(d, slow, momentum, delta)
	}
	hash := func() {
		half := len(hashes) / 2
		d.Hash(hashes[:half], slow)
		d.Hash(hashes[half:], momentum)
	}
	bus := 2 / (1/down + 1/up) // the same bytes cross both ways, one after the other
	b.measure(row{fmt.Sprintf("outer step of %d float32: Δ, int8, back, Nesterov", n), "GB/s", 0, "the bus", bus, 0.8}, 2*float64(len(wire)), step)
	b.measure(row{fmt.Sprintf("hashes of φ and momentum, 2 × %d float32", n), "GB/s", 0, "the copy", b.copied, 0}, 8*float64(n), hash)
	b.measure(row{fmt.Sprintf("outer step of %d float32 with the hashes", n), "GB/s", 0, "the bus", bus, 0.8}, float64(2*len(wire)+len(hashes)), func() { step(); hash() })
	return nil
}

// peers runs the sum of two GPUs' gradients, beside copies from each to the other at once.
func (b *table) peers() error {
	list, err := driver.Devices()
	if err != nil {
		return err
	}
	if len(list) < 2 {
		fmt.Println("one GPU: there is no sum between two")
		return nil
	}
	if err := list[1].Reason; err != nil {
		fmt.Println(leftOut("sum between two GPUs", err))
		return nil
	}
	b.close() // its memory may be what GPU 0 lacks
	devices, peers, err := OpenAll([]int{0, 1}, kernels.BF16)
	if err != nil {
		return err
	}
	b.d, b.others = devices[0].(*Device), []*Device{devices[1].(*Device)}
	n := 1 << 28
	if *small {
		n = sizes().Parameters
	}
	var vectors []kernels.Buffer
	how := "directly"
	for k, d := range devices {
		v, err := d.Alloc(n)
		if err != nil {
			return err
		}
		d.Zero(v)
		vectors = append(vectors, v)
		direct, err := d.(*Device).driver.EnablePeer(devices[1-k].(*Device).driver)
		if err != nil {
			return err
		}
		if !direct {
			how = "through the host"
		}
	}
	if err := b.wait(); err != nil {
		return err
	}
	m := peers.(*group).members
	at := []driver.Ptr{m[0].WriteFloats("peers", vectors[0]), m[1].WriteFloats("peers", vectors[1])}
	half := 2 * int64(n) // bytes
	link := b.measure(row{name: "copies between GPU 0 and 1, " + how + ", bytes to each", unit: "GB/s"}, float64(half), func() {
		for k := range m { // each the half that the other only reads
			to, other := int64(k)*half, 1-k
			m[k].failed(m[k].copies.CopyPeer(at[k]+driver.Ptr(to), at[other]+driver.Ptr(to), m[other].driver, half))
		}
	})
	b.measure(row{fmt.Sprintf("sum of %d float32 on GPU 0 and 1, bytes to each", n), "GB/s", 0, "these copies", link, 0}, 2*float64(half), func() {
		peers.ReduceScatter(vectors)
		peers.AllGather(vectors)
	})
	return nil
}
