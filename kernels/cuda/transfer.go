//go:build cuda && linux && amd64

package cuda

import (
	"math"
	"sync"
	"unsafe"

	"loco/kernels"
	"loco/kernels/cuda/driver"
)

const (
	slotBytes = 4 << 20
	slotCount = 4
)

// A slot is pinned memory that something passes through on the way to or from the device.
type slot struct {
	memory []byte
	free   *driver.Event // the device has read it, or it has been filled
	read   *driver.Event // the compute stream has read what was copied from it
}

func (d *Device) makeSlots() error {
	for range slotCount {
		var s slot
		var err error
		if s.memory, err = d.driver.Pinned(slotBytes); err != nil {
			return err
		}
		if s.free, err = d.driver.NewEvent(false); err != nil {
			return err
		}
		if s.read, err = d.driver.NewEvent(false); err != nil {
			return err
		}
		d.slots = append(d.slots, s)
	}
	return nil
}

// follow makes one stream wait for what the other was given until now.
func (d *Device) follow(later, earlier *driver.Stream) {
	if d.err == nil && !d.failed(earlier.Record(d.reached)) {
		d.failed(later.Wait(d.reached))
	}
}

// bytesOf views values as bytes.
func bytesOf[T any](v []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(one)))
}

// copyWide is copy by several threads where there is much: one moves some 10 GB/s between
// pageable and pinned memory, a bus of today 50.
func copyWide(dst, src []byte) {
	const ways, least = 4, 1 << 20
	n := min(len(dst), len(src))
	if n < least {
		copy(dst, src)
		return
	}
	var wg sync.WaitGroup
	for k := 1; k < ways; k++ {
		wg.Go(func() { copy(dst[k*n/ways:(k+1)*n/ways], src[k*n/ways:n]) })
	}
	copy(dst[:n/ways], src)
	wg.Wait()
}

// in copies src to the device, in pieces: while one crosses, the host copies the next.
func (d *Device) in(dst uint64, src []byte) {
	if d.err != nil || len(src) == 0 {
		return
	}
	d.follow(d.copies, d.compute) // what reads dst now is done
	for ; len(src) > 0 && d.err == nil; d.turn++ {
		s := &d.slots[d.turn%slotCount] // the one that has been on its way for longest
		n := min(len(src), slotBytes)
		if d.failed(s.free.Synchronize()) {
			return
		}
		copyWide(s.memory, src[:n])
		d.failed(d.copies.CopyIn(driver.Ptr(dst), s.memory[:n]))
		d.failed(d.copies.Record(s.free))
		dst, src = dst+uint64(n), src[n:]
	}
	d.follow(d.compute, d.copies)
}

// out copies from the device to dst and waits: piece by piece, the host copying one while
// others cross. size is that of a piece, make what the compute stream has to do for piece i
// first, which returns its address.
func (d *Device) out(dst []byte, size int, make func(i int) uint64) {
	count := blocks(len(dst), size)
	piece := func(i int) []byte { return dst[i*size : min((i+1)*size, len(dst))] }
	for i := 0; i < count+slotCount-1 && d.err == nil; i++ {
		if i < count {
			s, at := &d.slots[i%slotCount], make(i)
			d.follow(d.copies, d.compute)
			if d.err == nil {
				d.failed(d.copies.CopyOut(s.memory[:len(piece(i))], driver.Ptr(at)))
				d.failed(d.copies.Record(s.free))
			}
		}
		if j := i - (slotCount - 1); j >= 0 && j < count && d.err == nil {
			s := &d.slots[j%slotCount]
			if !d.failed(s.free.Synchronize()) {
				copyWide(piece(j), s.memory)
			}
		}
	}
}

// Upload implements kernels.Device.
func (d *Device) Upload(dst kernels.Buffer, src []float32) {
	kernels.CheckSame("upload", "src", len(src), dst.Len())
	d.in(d.write("upload", dst, len(src), floats), bytesOf(src))
}

// Download implements kernels.Device. After an error dst is NaNs.
func (d *Device) Download(dst []float32, src kernels.Buffer) {
	kernels.CheckSame("download", "dst", len(dst), src.Len())
	if len(dst) == 0 {
		return
	}
	from := d.read("download", src, len(dst), floats)
	d.out(bytesOf(dst), slotBytes, func(i int) uint64 { return from + uint64(i)*slotBytes })
	if d.err != nil {
		for i := range dst {
			dst[i] = float32(math.NaN())
		}
	}
}

// tokens implements kernels.Tokens. The host has the ids too: it checks them, and sorts them
// for EmbeddingBackward.
type tokens struct {
	d   *Device
	ids []int32
	at  driver.Ptr
}

// Len implements kernels.Tokens.
func (t *tokens) Len() int { return len(t.ids) }

func (d *Device) idsOf(op string, t kernels.Tokens) *tokens {
	c, ok := t.(*tokens)
	if !ok || c.d != d {
		kernels.PanicForeign(op, t)
	}
	return c
}

// AllocTokens implements kernels.Device.
func (d *Device) AllocTokens(n int) (kernels.Tokens, error) {
	if err := kernels.CheckAlloc("tokens", n); err != nil {
		return nil, err
	}
	if err := d.reserve("tokens", n, 4*int64(n)); err != nil {
		return nil, err
	}
	t := &tokens{d: d, ids: make([]int32, n), at: d.take(4 * int64(n))}
	if n > 0 && d.err == nil {
		d.failed(d.compute.Fill(t.at, 0, 4*int64(n)))
	}
	return t, d.err
}

// UploadTokens implements kernels.Device.
func (d *Device) UploadTokens(dst kernels.Tokens, src []int32) {
	kernels.CheckSame("upload tokens", "src", len(src), dst.Len())
	t := d.idsOf("upload tokens", dst)
	copy(t.ids, src)
	d.in(uint64(t.at), bytesOf(src))
}
