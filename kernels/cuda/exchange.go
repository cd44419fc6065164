//go:build cuda && linux && amd64

package cuda

import (
	"encoding/binary"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

// Axpby implements kernels.Exchanger.
func (d *Device) Axpby(dst kernels.Buffer, a float32, x kernels.Buffer, b float32, y kernels.Buffer) {
	kernels.CheckAxpby(dst, x, y, nil)
	const op = "axpby"
	n := dst.Len()
	first, second := d.read(op, x, n, floats), d.read(op, y, n, floats)
	to := d.write(op, dst, n, floats)
	d.launch("axpby", elements(n), 1, 1, 256, 0, to, first, second, uint64(n), bits(a), bits(b), vector(0, to, first, second))
}

// AxpbSum implements kernels.Exchanger.
func (d *Device) AxpbSum(dst kernels.Buffer, a float32, x kernels.Buffer, b float32, y kernels.Buffer, c float32, z kernels.Buffer) {
	kernels.CheckAxpby(dst, x, y, z)
	const op = "axpby"
	n := dst.Len()
	first, second, third := d.read(op, x, n, floats), d.read(op, y, n, floats), d.read(op, z, n, floats)
	to := d.write(op, dst, n, floats)
	d.launch("axpb_sum", elements(n), 1, 1, 256, 0, to, first, second, third, uint64(n), bits(a), bits(b), bits(c), vector(0, to, first, second, third))
}

// pieceValues is how many values of a format fill a slot, in whole blocks.
func pieceValues(f kernels.Format) int {
	return slotBytes / f.EncodedLen(kernels.CodecBlock) * kernels.CodecBlock
}

// encodeValues and decodeValues queue the kernels of the codec for n values on the device.
func (d *Device) encodeValues(to, from uint64, n int, f kernels.Format, firstBad uint64) {
	d.launch("encode", blocks(n, 8*kernels.CodecBlock), 1, 1, 256, 0, to, from, uint64(n), uint64(f), firstBad)
}

func (d *Device) decodeValues(to, from uint64, n int, f kernels.Format, weight float32, add bool) {
	d.launch("decode", blocks(n, 8*kernels.CodecBlock), 1, 1, 256, 0, to, from, uint64(n), uint64(f), bits(weight), word(add))
}

// Encode implements kernels.Exchanger: the device encodes piece by piece, and while it does the
// bytes of those before cross to the host. After an error of the device it returns 0.
func (d *Device) Encode(dst []byte, f kernels.Format, src kernels.Buffer) int {
	const op = "encode"
	n := src.Len()
	kernels.CheckSame(op, "dst", len(dst), f.EncodedLen(n))
	if n == 0 {
		return 0
	}
	from, values := d.read(op, src, n, floats), pieceValues(f)
	size, pieces := f.EncodedLen(values), blocks(n, values)
	to := d.scratch(&d.encoded, slotCount*slotBytes)
	const none = 0x7f7f7f7f // what the words of bad are filled with, above every block's index
	bad := d.scratch(&d.bad, 4*int64(pieces))
	if d.err == nil {
		d.failed(d.compute.Fill(driver.Ptr(bad), none&0xff, 4*int64(pieces)))
	}
	d.out(dst, size, func(i int) uint64 {
		at, count := to+uint64(i%slotCount)*slotBytes, min(values, n-i*values)
		d.encodeValues(at, from+4*uint64(i)*uint64(values), count, f, bad+4*uint64(i))
		return at
	})
	d.pin(4 * pieces)
	if d.err != nil || d.failed(d.compute.CopyOut(d.pinned[:4*pieces], driver.Ptr(bad))) || d.failed(d.compute.Synchronize()) {
		return 0
	}
	for i := range pieces {
		if block := binary.LittleEndian.Uint32(d.pinned[4*i:]); block != none {
			return i*values + int(block)*kernels.CodecBlock
		}
	}
	return n
}

// Decode implements kernels.Exchanger.
func (d *Device) Decode(dst kernels.Buffer, f kernels.Format, src []byte) {
	kernels.CheckSame("decode", "src", len(src), f.EncodedLen(dst.Len()))
	d.decode(d.write("decode", dst, dst.Len(), floats), dst.Len(), f, src, 0, false)
}

// DecodeAdd implements kernels.Exchanger.
func (d *Device) DecodeAdd(dst kernels.Buffer, f kernels.Format, src []byte, weight float32) {
	kernels.CheckSame("decode-add", "src", len(src), f.EncodedLen(dst.Len()))
	d.decode(d.update("decode-add", dst, dst.Len()), dst.Len(), f, src, weight, true)
}

// decode copies piece by piece to the device, which decodes one while the next crosses.
func (d *Device) decode(to uint64, n int, f kernels.Format, src []byte, weight float32, add bool) {
	values := pieceValues(f)
	size, at := f.EncodedLen(values), d.scratch(&d.encoded, slotCount*slotBytes)
	d.follow(d.copies, d.compute)
	for i := 0; i < blocks(n, values) && d.err == nil; i++ {
		s, count := &d.slots[i%slotCount], min(values, n-i*values)
		piece, place := src[i*size:min((i+1)*size, len(src))], at+uint64(i%slotCount)*slotBytes
		if d.failed(s.free.Synchronize()) || i >= slotCount && d.failed(d.copies.Wait(s.read)) {
			return
		}
		copyWide(s.memory, piece)
		d.failed(d.copies.CopyIn(driver.Ptr(place), s.memory[:len(piece)]))
		d.failed(d.copies.Record(s.free))
		if d.err == nil {
			d.failed(d.compute.Wait(s.free))
		}
		d.decodeValues(to+4*uint64(i)*uint64(values), place, count, f, weight, add)
		if d.err == nil {
			d.failed(d.compute.Record(s.read))
		}
	}
}
