// Package driver runs an NVIDIA GPU: memory, copies, streams, events, kernels and
// graphs, through gorgonia.org/cu v0.9.6, which it binds at run time (package late),
// and through a small extension where cu has no function (extension.go).
//
// It is built with -tags cuda, for Linux on amd64; elsewhere, and without the tag, [Load]
// and [Devices] say so and nothing else is there.
//
// # Threads
//
// CUDA calls work on the context that is current on the thread of the system. Every
// method may be called from any goroutine: it ties the goroutine to its thread, makes
// the device's primary context current and calls. Measured against a driver that does
// nothing, that costs less than a launch itself, and a goroutine of its own per device,
// which cu offers, twenty times as much.
//
// # Errors
//
// Every error says what was being done, to what and on which device, and holds the
// driver's [Error]. [IsLost] tells a device that this process cannot use any more from
// a call that was refused, [IsOutOfMemory] memory that is not there.
package driver

import (
	"errors"
	"fmt"
)

// Info describes a device.
type Info struct {
	Index        int
	Name         string
	Free, Total  int64 // bytes; 0, 0 where it cannot be opened, for which Reason says why
	Major, Minor int   // compute capability
	Driver       int   // the newest CUDA that the driver has: 1000·major + 10·minor
	Reason       error // why this device cannot train, or nil
}

// String is one line, for a person.
func (i Info) String() string {
	line := fmt.Sprintf("cuda:%d  %s  %s free of %s  compute capability %d.%d  driver CUDA %s",
		i.Index, i.Name, size(i.Free), size(i.Total), i.Major, i.Minor, release(i.Driver))
	if i.Reason != nil {
		line += "  unusable: " + i.Reason.Error()
	}
	return line
}

// Error is the driver's answer to one call.
type Error struct {
	Code int    // a CUresult
	Text string // what the driver says that it means
}

func (e *Error) Error() string { return fmt.Sprintf("%s (CUDA error %d)", e.Text, e.Code) }

// ErrWithout says that this binary has no CUDA.
var ErrWithout = errors.New("cuda: this binary was built without CUDA: build it for linux/amd64 with -tags cuda (make cuda)")

// ErrStuck is in the error of a wait that a device did not end in time. IsLost knows it.
var ErrStuck = errors.New("the device does not answer")

// IsLost reports whether the device can be of no more use to this process: it fell off
// the bus, or a fault broke its context.
func IsLost(err error) bool {
	if errors.Is(err, ErrStuck) {
		return true
	}
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case 4, // deinitialized
		46,       // device unavailable
		101,      // invalid device, of one that was there
		201, 709, // invalid context, context destroyed
		214, 220, 226, 228, // memory or NVLink errors that cannot be corrected or contained
		700, 702, 710, 714, 715, 716, // illegal address, launch time-out, assertion, and faults of
		717, 718, 719, // the stack, an instruction, an address or the counter; launch failed
		720, 721, 911, 999: // external device, unknown
		return true
	}
	return false
}

// IsOutOfMemory reports whether device memory was missing.
func IsOutOfMemory(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == 2
}

func release(version int) string { return fmt.Sprintf("%d.%d", version/1000, version%1000/10) }

// size is a number of bytes, for a person.
func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(bytes)/(1<<30))
}
