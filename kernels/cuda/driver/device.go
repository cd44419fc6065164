//go:build cuda && linux && amd64

package driver

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync/atomic"
	"unsafe"

	"gorgonia.org/cu"
)

// Ptr is an address in device memory. It may be computed with.
type Ptr uint64

// A Device is one GPU and its primary context, which cuBLAS shares.
type Device struct {
	info            Info
	dev             cu.Device
	ctx             cu.CUContext
	multiprocessors int
	sharedMax       int
	taken           atomic.Int64 // bytes
}

// Present lists the machine's GPUs without opening one, so without what is free on them.
func Present() ([]Info, error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("cuda: count devices: %w", result(err))
	}
	list := make([]Info, n)
	for i := range list {
		list[i].Index = i
		describe(&list[i])
		list[i].Reason = list[i].tooOld()
	}
	return list, nil
}

// Devices lists the machine's GPUs, those that cannot train too. It opens each, which takes some
// hundred MB of its memory while it does.
func Devices() ([]Info, error) {
	list, err := Present()
	for i := range list {
		if list[i].Reason != nil {
			continue
		}
		d, err := Open(i)
		if err != nil {
			list[i].Reason = err
			continue
		}
		list[i] = d.info
		d.Close()
	}
	return list, err
}

// tooOld says why a device cannot train whatever its state, or nil.
func (i *Info) tooOld() error {
	if i.Major >= majorMin {
		return nil
	}
	return fmt.Errorf("cuda: device %d (%s) has compute capability %d.%d: %d.0 is needed, which is an A100, an RTX 30 or newer",
		i.Index, i.Name, i.Major, i.Minor, majorMin)
}

// describe fills in what can be known of a device without its context.
func describe(info *Info) {
	info.Driver = cu.Version()
	dev, err := cu.GetDevice(info.Index)
	if err != nil {
		return
	}
	// What a device does not tell stays empty: Reason says why it is of no use anyway.
	info.Name, _ = dev.Name()
	info.Major, _ = dev.Attribute(cu.ComputeCapabilityMajor)
	info.Minor, _ = dev.Attribute(cu.ComputeCapabilityMinor)
	info.Total, _ = dev.TotalMem()
}

// Open prepares the device with this index. Close it when it is no longer needed.
func Open(index int) (*Device, error) {
	if err := Load(""); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("cuda: count devices: %w", result(err))
	}
	if index < 0 || index >= n {
		return nil, fmt.Errorf("cuda: there is no device %d: this machine has %s", index, indices(n))
	}
	d := &Device{info: Info{Index: index}}
	describe(&d.info)
	if err := d.info.tooOld(); err != nil {
		return nil, err
	}
	if d.dev, err = cu.GetDevice(index); err != nil {
		return nil, d.failed(err, "open")
	}
	if d.multiprocessors, err = d.dev.Attribute(cu.MultiprocessorCount); err != nil {
		return nil, d.failed(err, "ask for the number of multiprocessors")
	}
	const sharedOptIn = cu.DeviceAttribute(97) // newer than cu's list
	if d.sharedMax, err = d.dev.Attribute(sharedOptIn); err != nil {
		return nil, d.failed(err, "ask for the size of shared memory")
	}
	if d.ctx, err = d.dev.RetainPrimaryCtx(); err != nil {
		return nil, d.failed(err, "make a context (another program may hold the device alone, or all of its memory)")
	}
	if d.info.Free, d.info.Total, err = d.Memory(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func indices(n int) string {
	switch n {
	case 0:
		return "no device"
	case 1:
		return "device 0 only"
	}
	return fmt.Sprintf("devices 0 to %d", n-1)
}

// Close gives the primary context back. The device must not be used after it.
func (d *Device) Close() error {
	if err := d.dev.ReleasePrimaryCtx(); err != nil {
		return d.failed(err, "release the context")
	}
	return nil
}

// String names the device: "device 0 (NVIDIA H200)".
func (d *Device) String() string { return fmt.Sprintf("device %d (%s)", d.info.Index, d.info.Name) }

// Info describes the device as it was when it was opened.
func (d *Device) Info() Info { return d.info }

// Multiprocessors is their number.
func (d *Device) Multiprocessors() int { return d.multiprocessors }

// SharedMax is the number of bytes of shared memory that one block can have.
func (d *Device) SharedMax() int { return d.sharedMax }

// Memory returns the bytes of device memory that are free, and all there are.
func (d *Device) Memory() (free, total int64, err error) {
	if err := d.enter(); err != nil {
		return 0, 0, err
	}
	defer runtime.UnlockOSThread()
	if free, total, err = cu.MemInfo(); err != nil {
		return 0, 0, d.failed(err, "ask for its memory")
	}
	return free, total, nil
}

// Alloc returns bytes of device memory, aligned to 256. Its values are arbitrary.
func (d *Device) Alloc(bytes int64) (Ptr, error) {
	if bytes < 1 {
		return 0, fmt.Errorf("cuda: allocate %d bytes on %v: want at least 1", bytes, d)
	}
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer runtime.UnlockOSThread()
	p, err := cu.MemAlloc(bytes)
	if err == nil {
		d.taken.Add(bytes)
		return Ptr(p), nil
	}
	err = d.failed(err, "allocate %s", size(bytes))
	if free, total, memErr := cu.MemInfo(); memErr == nil && IsOutOfMemory(err) {
		err = fmt.Errorf("%w: %s of %s are free, %s are this program's, and other programs and the driver hold the rest",
			err, size(free), size(total), size(d.taken.Load()))
	}
	return 0, err
}

// Free gives back what Alloc returned; bytes is what it was asked for.
func (d *Device) Free(p Ptr, bytes int64) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemFree(cu.DevicePtr(p)); err != nil {
		return d.failed(err, "free %s", size(bytes))
	}
	d.taken.Add(-bytes)
	return nil
}

// Pinned returns host memory that copies of streams run beside the host with. It is
// not the garbage collector's: give it back with FreePinned.
func (d *Device) Pinned(bytes int) ([]byte, error) {
	if bytes < 1 {
		return nil, fmt.Errorf("cuda: pin %d bytes of host memory: want at least 1", bytes)
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	p, err := hostAlloc(bytes)
	if err != nil {
		return nil, d.failed(err, "pin %s of host memory", size(int64(bytes)))
	}
	return unsafe.Slice((*byte)(p), bytes), nil
}

// FreePinned gives back what Pinned returned.
func (d *Device) FreePinned(memory []byte) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemFreeHost(unsafe.Pointer(unsafe.SliceData(memory))); err != nil {
		return d.failed(err, "free %s of pinned host memory", size(int64(len(memory))))
	}
	return nil
}

// EnablePeer lets streams of d copy to and from other's memory directly. It returns
// false where the machine has no path between them; CopyPeer then goes through the host.
func (d *Device) EnablePeer(other *Device) (bool, error) {
	can, err := d.dev.CanAccessPeer(other.dev)
	if err != nil {
		return false, d.failed(err, "ask whether it reaches %v", other)
	}
	if can == 0 {
		return false, nil
	}
	if err := d.enter(); err != nil {
		return false, err
	}
	defer runtime.UnlockOSThread()
	if err := other.ctx.EnablePeerAccess(0); err != nil && !errors.Is(err, cu.PeerAccessAlreadyEnabled) {
		return false, d.failed(err, "reach %v", other)
	}
	return true, nil
}

// enter ties the goroutine to its thread and makes the device's context current there.
// The caller unties it with runtime.UnlockOSThread.
func (d *Device) enter() error {
	runtime.LockOSThread()
	if err := cu.SetCurrentContext(d.ctx); err != nil {
		runtime.UnlockOSThread()
		return d.failed(err, "make its context current")
	}
	return nil
}

// failed wraps the driver's answer with what was being done.
func (d *Device) failed(err error, format string, args ...any) error {
	return fmt.Errorf("cuda: %v: %s: %w", d, fmt.Sprintf(format, args...), result(err))
}

// result turns cu's error, or this package's, into an Error with the driver's own text.
// cu does not export the type of its errors, so reflection reads the number.
func result(err error) error {
	if v := reflect.ValueOf(err); v.CanInt() {
		return &Error{Code: int(v.Int()), Text: errorText(int(v.Int()))}
	}
	return err
}
