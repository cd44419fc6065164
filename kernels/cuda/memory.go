//go:build cuda && linux && amd64

package cuda

import (
	"fmt"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// A form is one in which a buffer's values can be.
type form int

const (
	floats form = iota // float32
	halves             // bf16
)

func (f form) bytes() int64 { return 4 >> f }

// memory is what one Alloc returned. Every value is current in at least one form; floats that
// no operation has written are current and zero, and have no memory.
type memory struct {
	n       int
	at      [2]driver.Ptr // of each form; 0 until it is needed
	current [2]spans
}

// buffer implements kernels.Buffer.
type buffer struct {
	d    *Device
	home *memory
	at   int // in home
	n    int
}

// Len implements kernels.Buffer.
func (b *buffer) Len() int { return b.n }

// Slice implements kernels.Buffer.
func (b *buffer) Slice(lo, hi int) kernels.Buffer {
	if lo < 0 || hi < lo || hi > b.n {
		panic(fmt.Sprintf("cuda: slice [%d, %d) of %d values", lo, hi, b.n))
	}
	return &buffer{b.d, b.home, b.at + lo, hi - lo}
}

// of returns a buffer of this device.
func (d *Device) of(op string, b kernels.Buffer) *buffer {
	c, ok := b.(*buffer)
	if !ok || c.d != d {
		kernels.PanicForeign(op, b)
	}
	return c
}

// address returns where the first value of b is in a form, taking the form's memory if it has
// none yet.
func (d *Device) address(b *buffer, f form) uint64 {
	m := b.home
	if m.at[f] == 0 && m.n > 0 {
		m.at[f] = d.take(int64(m.n) * f.bytes())
		if f == floats && m.at[f] != 0 && !m.current[floats].empty() {
			d.failed(d.compute.Fill(m.at[f], 0, int64(m.n)*f.bytes()))
		}
	}
	return uint64(m.at[f]) + uint64(b.at)*uint64(f.bytes())
}

// read returns the address of the first n values of b in a form, converting those that are
// current only in the other.
func (d *Device) read(op string, b kernels.Buffer, n int, f form) uint64 {
	c := d.of(op, b)
	at := d.address(c, f)
	m := c.home
	for lo, end := c.at, c.at+n; ; {
		gapLo, gapHi := m.current[f].gap(lo, end)
		if gapLo == gapHi {
			return at
		}
		part := buffer{d, m, gapLo, gapHi - gapLo}
		to, from := d.address(&part, f), d.address(&part, 1-f)
		d.convert(to, f, from, 1-f, part.n)
		m.current[f].add(gapLo, gapHi)
		lo = gapHi
	}
}

// write returns the address of the first n values of b in a form, in which alone they are
// current from now on: an operation that reads them too asks for that first.
func (d *Device) write(op string, b kernels.Buffer, n int, f form) uint64 {
	c := d.of(op, b)
	at := d.address(c, f)
	if n > 0 {
		c.home.current[f].add(c.at, c.at+n)
		c.home.current[1-f].remove(c.at, c.at+n)
	}
	return at
}

// update is read and write in one, of floats.
func (d *Device) update(op string, b kernels.Buffer, n int) uint64 {
	d.read(op, b, n, floats)
	return d.write(op, b, n, floats)
}

// updateBoth is update by a kernel that also writes the halves, whose address is 0 where
// nothing is kept in halves.
func (d *Device) updateBoth(op string, b kernels.Buffer, n int) (at, copied uint64) {
	at = d.update(op, b, n)
	if c := b.(*buffer); d.activations == halves && n > 0 {
		copied = d.address(c, halves)
		c.home.current[halves].add(c.at, c.at+n)
	}
	return at, copied
}

// A value is an operand that a kernel reads in either form.
type value struct {
	at   uint64
	form form
}

// either returns the first n values of b in floats if they are all current so, else in halves if
// they are, else in floats.
func (d *Device) either(op string, b kernels.Buffer, n int) value {
	c := d.of(op, b)
	if current := &c.home.current; n > 0 && !current[floats].covers(c.at, c.at+n) && current[halves].covers(c.at, c.at+n) {
		return value{d.address(c, halves), halves}
	}
	return value{d.read(op, b, n, floats), floats}
}

// result returns the first n values of b to be written in the form in which activations are.
func (d *Device) result(op string, b kernels.Buffer, n int) value {
	return value{d.write(op, b, n, d.activations), d.activations}
}

// Floats returns the address of b's values as float32, for reading, until the next operation
// on b.
func (d *Device) Floats(op string, b kernels.Buffer) driver.Ptr {
	return driver.Ptr(d.read(op, b, b.Len(), floats))
}

// WriteFloats returns the address of b's values as float32, which the caller changes on the
// device's stream before the next operation on b.
func (d *Device) WriteFloats(op string, b kernels.Buffer) driver.Ptr {
	return driver.Ptr(d.update(op, b, b.Len()))
}

// slabBytes is how much the arena asks the driver for at once, at least.
const slabBytes = 32 << 20

// slab is one piece of the device's arena.
type slab struct {
	at          driver.Ptr
	bytes, used int64
}

// take returns bytes of the arena, aligned to 256; 0, with the device's error set, where memory
// is missing.
func (d *Device) take(bytes int64) driver.Ptr {
	if d.err != nil || bytes == 0 {
		return 0
	}
	if n := len(d.slabs); n > 0 && d.slabs[n-1].bytes-d.slabs[n-1].used >= bytes {
		s := &d.slabs[n-1]
		at := s.at + driver.Ptr(s.used)
		s.used += (bytes + 255) &^ 255
		return at
	}
	size := max(bytes, d.slabBytes)
	at, err := d.driver.Alloc(size)
	if driver.IsOutOfMemory(err) && size > bytes {
		size = bytes
		at, err = d.driver.Alloc(size)
	}
	if d.failed(err); err != nil {
		return 0
	}
	d.slabs = append(d.slabs, slab{at, size, (bytes + 255) &^ 255})
	if n := len(d.slabs); size == bytes && n > 1 { // keep the one with room last
		d.slabs[n-1], d.slabs[n-2] = d.slabs[n-2], d.slabs[n-1]
	}
	return at
}

// room is device memory that an operation uses while it runs and that grows with the largest.
type room struct {
	at    driver.Ptr
	bytes int64
}

// scratch returns at least bytes of a room. Operations run in turn, so the next may have it.
func (d *Device) scratch(r *room, bytes int64) uint64 {
	if r.bytes < bytes {
		r.at, r.bytes = d.take(bytes), bytes
	}
	return uint64(r.at)
}
