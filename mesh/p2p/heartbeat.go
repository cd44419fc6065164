package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"loco/mesh/swim"
)

// Limits of a heartbeat.
const (
	heartbeatVersion  = 2
	heartbeatFixed    = 51
	maxAddrs          = 10
	maxAddrBytes      = 256
	maxHeartbeatBytes = heartbeatFixed + maxAddrs*(2+maxAddrBytes)
)

// Flags of a heartbeat.
const (
	flagReady = 1 << iota
	flagDone
	flagLeft
	flagMovable
	flagBegun
	flagsKnown = 1<<iota - 1
)

// Heartbeat is what a member says about itself, every Config.Heartbeat, with at most 10
// addresses of at most 256 bytes.
type Heartbeat = swim.Heartbeat

// AppendHeartbeat appends the encoding of h to dst; the package comment has the
// layout. Addresses over the limits are left out.
func AppendHeartbeat(dst []byte, h Heartbeat) []byte {
	var flags byte
	for _, f := range []struct {
		set  bool
		flag byte
	}{{h.Status.Ready, flagReady}, {h.Status.Done, flagDone}, {h.Left, flagLeft}, {h.Movable, flagMovable}, {h.Status.Begun, flagBegun}} {
		if f.set {
			flags |= f.flag
		}
	}
	dst = append(dst, heartbeatVersion, flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Status.Worker))
	dst = binary.LittleEndian.AppendUint64(dst, h.Incarnation.Life)
	dst = binary.LittleEndian.AppendUint32(dst, h.Incarnation.Refuted)
	for _, v := range []uint64{h.Seq, h.Status.Round, h.Status.Step, h.Status.Tokens} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return appendAddrs(dst, h.Addrs)
}

// ParseHeartbeat decodes one heartbeat that fills src.
func ParseHeartbeat(src []byte) (Heartbeat, error) {
	r := reader{src: src}
	h := parseHeartbeat(&r)
	if err := r.end(); err != nil {
		return Heartbeat{}, fmt.Errorf("p2p: heartbeat of %d bytes: %w", len(src), err)
	}
	return h, nil
}

func parseHeartbeat(r *reader) Heartbeat {
	var h Heartbeat
	if v := r.uint8(); v != heartbeatVersion {
		r.fail(fmt.Errorf("version %d, want %d", v, heartbeatVersion))
	}
	flags := r.uint8()
	if flags&^flagsKnown != 0 {
		r.fail(fmt.Errorf("flags %#x, want only %#x", flags, flagsKnown))
	}
	h.Status.Ready = flags&flagReady != 0
	h.Status.Done = flags&flagDone != 0
	h.Left = flags&flagLeft != 0
	h.Movable = flags&flagMovable != 0
	h.Status.Begun = flags&flagBegun != 0
	h.Status.Worker = r.worker()
	h.Incarnation = swim.Incarnation{Life: r.uint64(), Refuted: r.uint32()}
	h.Seq = r.uint64()
	h.Status.Round = r.uint64()
	h.Status.Step = r.uint64()
	h.Status.Tokens = r.uint64()
	h.Addrs = r.addrs()
	return h
}

func appendAddrs(dst []byte, addrs []string) []byte {
	at := len(dst)
	dst = append(dst, 0)
	for _, a := range addrs {
		if len(a) > maxAddrBytes || dst[at] == maxAddrs {
			continue
		}
		dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(a))), a...)
		dst[at]++
	}
	return dst
}

// errShort is the reader's complaint when the source ends inside a field.
var errShort = errors.New("cut short")

// reader takes fields off the front of src. The first failure sticks: every later
// field reads as zero, and end reports it.
type reader struct {
	src []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.src = err, nil
	}
}

func (r *reader) take(n int) []byte {
	if n > len(r.src) {
		r.fail(errShort)
		return nil
	}
	b := r.src[:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) uint8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) worker() int {
	w := r.uint32()
	if w > maxWorker {
		r.fail(fmt.Errorf("worker %d: at most %d", w, maxWorker))
		return 0
	}
	return int(w)
}

func (r *reader) text(n, limit int) string {
	if n > limit {
		r.fail(fmt.Errorf("text of %d bytes: at most %d", n, limit))
		return ""
	}
	b := r.take(n)
	if !utf8.Valid(b) {
		r.fail(errors.New("text is not UTF-8"))
		return ""
	}
	return string(b)
}

func (r *reader) addrs() []string {
	n := int(r.uint8())
	if n > maxAddrs {
		r.fail(fmt.Errorf("%d addresses: at most %d", n, maxAddrs))
	}
	var addrs []string
	for i := 0; i < n && r.err == nil; i++ {
		addrs = append(addrs, r.text(int(r.uint16()), maxAddrBytes))
	}
	return addrs
}

func (r *reader) end() error {
	if r.err == nil && len(r.src) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.src))
	}
	return r.err
}
