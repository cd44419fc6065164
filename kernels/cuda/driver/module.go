//go:build cuda && linux && amd64

package driver

import (
	"bytes"
	"fmt"
	"runtime"
	"unsafe"

	"gorgonia.org/cu"
)

// argsMax is the most arguments that a kernel can be launched with here.
const argsMax = 24

// A Module is PTX that the driver compiled for a device.
type Module struct {
	d *Device
	m cu.Module
}

// Module compiles PTX for the device. The error has what the compiler said.
func (d *Device) Module(ptx string) (*Module, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	log := make([]byte, 8<<10)
	m, err := cu.LoadDataEx(ptx, &cu.JITErrorLogBuffer{Buffer: log})
	if err != nil {
		err = d.failed(err, "compile %d bytes of PTX", len(ptx))
		if text, _, _ := bytes.Cut(log, []byte{0}); len(text) > 0 {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(text))
		}
		return nil, err
	}
	return &Module{d, m}, nil
}

// Close gives the module and its functions back.
func (m *Module) Close() error {
	if err := m.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := m.m.Unload(); err != nil {
		return m.d.failed(err, "unload a module")
	}
	return nil
}

// A Function is one kernel.
type Function struct {
	d    *Device
	f    cu.Function
	name string
}

// Function finds a kernel by the name of its entry.
func (m *Module) Function(name string) (*Function, error) {
	if err := m.d.enter(); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	f, err := m.m.Function(name)
	if err != nil {
		return nil, m.d.failed(err, "find the kernel %s", name)
	}
	return &Function{m.d, f, name}, nil
}

// SetDynamicShared lets the kernel be launched with as many bytes of dynamic shared
// memory. More than 48 KiB need it.
func (f *Function) SetDynamicShared(bytes int) error {
	if err := f.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := setDynamicShared(f.f, bytes); err != nil {
		return f.d.failed(err, "give %s %d bytes of shared memory, of %d", f.name, bytes, f.d.sharedMax)
	}
	return nil
}

// Launch runs a kernel on a grid of blocks. An argument is a word of 8 bytes, of which the
// kernel reads as many as its parameter has, from the lowest: an address, an integer,
// the bits of a float32. They are read before Launch returns. It allocates nothing.
func (s *Stream) Launch(f *Function, gridX, gridY, gridZ, block, shared int, args []uint64) error {
	if len(args) > argsMax {
		return fmt.Errorf("cuda: launch %s: %d arguments: want at most %d", f.name, len(args), argsMax)
	}
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	var params [argsMax]unsafe.Pointer
	for i := range args {
		params[i] = unsafe.Pointer(&args[i])
	}
	if err := f.f.Launch(gridX, gridY, gridZ, block, 1, 1, shared, s.s, params[:len(args)]); err != nil {
		return s.d.failed(err, "launch %s (grid %d×%d×%d, block %d, %d bytes of shared memory)", f.name, gridX, gridY, gridZ, block, shared)
	}
	return nil
}
