//go:build cuda && linux && amd64

package driver

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"gorgonia.org/cu"
)

// waitMax is how long a wait for the device lasts before the device counts as lost. The
// longest that a stream is given at once is an inner step: minutes at the very most.
const waitMax = 15 * time.Minute

// A Stream runs what it is given in order, beside other streams and the host. What it
// returns is whether the device took the work, or that work before it had failed.
type Stream struct {
	d *Device
	s cu.Stream
}

// NewStream makes a stream that does not wait for the default one.
func (d *Device) NewStream() (*Stream, error) {
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	s, err := cu.MakeStream(cu.NonBlocking)
	if err != nil {
		return nil, d.failed(err, "make a stream")
	}
	return &Stream{d, s}, nil
}

// Close gives the stream back once its work is done.
func (s *Stream) Close() error {
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := s.s.Destroy(); err != nil {
		return s.d.failed(err, "close a stream")
	}
	return nil
}

// Synchronize waits until everything that the stream was given is done.
func (s *Stream) Synchronize() error {
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	return s.d.waited(waitStream(s.s, waitMax), "wait for a stream")
}

func (d *Device) waited(err error, what string) error {
	if errors.Is(err, notReady) {
		return fmt.Errorf("cuda: %v: %s: nothing for %v: %w", d, what, waitMax, ErrStuck)
	}
	if err != nil {
		return d.failed(err, "%s", what)
	}
	return nil
}

// CopyIn copies src to device memory. Memory that is not pinned is read before CopyIn
// returns; pinned memory must not change before the stream has copied it.
func (s *Stream) CopyIn(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemcpyHtoDAsync(cu.DevicePtr(dst), unsafe.Pointer(&src[0]), int64(len(src)), s.s); err != nil {
		return s.d.failed(err, "copy %s to the device", size(int64(len(src))))
	}
	return nil
}

// CopyOut copies device memory to dst. Where dst is not pinned it is complete when
// CopyOut returns; pinned memory when the stream has come so far.
func (s *Stream) CopyOut(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemcpyDtoHAsync(unsafe.Pointer(&dst[0]), cu.DevicePtr(src), int64(len(dst)), s.s); err != nil {
		return s.d.failed(err, "copy %s from the device", size(int64(len(dst))))
	}
	return nil
}

// Copy copies within the device's memory.
func (s *Stream) Copy(dst, src Ptr, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemcpyDtoDAsync(cu.DevicePtr(dst), cu.DevicePtr(src), bytes, s.s); err != nil {
		return s.d.failed(err, "copy %s", size(bytes))
	}
	return nil
}

// CopyPeer copies from the memory of another device to this stream's, directly where
// EnablePeer said so.
func (s *Stream) CopyPeer(dst, src Ptr, from *Device, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemcpyPeerAsync(cu.DevicePtr(dst), s.d.ctx, cu.DevicePtr(src), from.ctx, bytes, s.s); err != nil {
		return s.d.failed(err, "copy %s from %v", size(bytes), from)
	}
	return nil
}

// Fill sets every one of bytes to value.
func (s *Stream) Fill(dst Ptr, value byte, bytes int64) error {
	if bytes == 0 {
		return nil
	}
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.MemsetD8Async(cu.DevicePtr(dst), value, bytes, s.s); err != nil {
		return s.d.failed(err, "fill %s", size(bytes))
	}
	return nil
}

// An Event is a place in a stream's work.
type Event struct {
	d *Device
	e cu.Event
}

// NewEvent makes an event. One that is to be timed costs a little more to record.
func (d *Device) NewEvent(timed bool) (*Event, error) {
	flags := cu.EventFlags(cu.DisableTiming)
	if timed {
		flags = cu.DefaultEvent
	}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer runtime.UnlockOSThread()
	e, err := cu.MakeEvent(flags)
	if err != nil {
		return nil, d.failed(err, "make an event")
	}
	return &Event{d, e}, nil
}

// Close gives the event back.
func (e *Event) Close() error {
	if err := e.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := cu.DestroyEvent(&e.e); err != nil {
		return e.d.failed(err, "close an event")
	}
	return nil
}

// Record puts the event behind everything that the stream was given.
func (s *Stream) Record(e *Event) error {
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := e.e.Record(s.s); err != nil {
		return s.d.failed(err, "record an event")
	}
	return nil
}

// Wait lets the stream go on only when the event, which may be another device's, is
// reached. It does not wait itself.
func (s *Stream) Wait(e *Event) error {
	if err := s.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	if err := s.s.Wait(e.e, 0); err != nil {
		return s.d.failed(err, "make a stream wait for an event")
	}
	return nil
}

// Synchronize waits until the event is reached.
func (e *Event) Synchronize() error {
	if err := e.d.enter(); err != nil {
		return err
	}
	defer runtime.UnlockOSThread()
	return e.d.waited(waitEvent(e.e, waitMax), "wait for an event")
}

// Since is the time from another event to this one. Both must be timed and reached.
func (e *Event) Since(start *Event) (time.Duration, error) {
	if err := e.d.enter(); err != nil {
		return 0, err
	}
	defer runtime.UnlockOSThread()
	ms, err := start.e.Elapsed(e.e)
	if err != nil {
		return 0, e.d.failed(err, "time an event")
	}
	return time.Duration(ms * float64(time.Millisecond)), nil
}
