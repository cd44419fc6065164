package p2p

import (
	"encoding/binary"
	"fmt"

	"loco/mesh/swim"
	"loco/mesh/wire"
)

// Limits of a heartbeat.
const (
	heartbeatVersion  = 3
	heartbeatFixed    = 53
	maxAddrs          = 10
	maxAddrBytes      = 256
	maxHeartbeatBytes = heartbeatFixed + maxAddrs*(2+maxAddrBytes)
)

// Flags of a heartbeat. Bit 3 had a meaning in version 2 and is never set.
const (
	flagReady  = 1 << 0
	flagDone   = 1 << 1
	flagLeft   = 1 << 2
	flagBegun  = 1 << 4
	flagsKnown = flagReady | flagDone | flagLeft | flagBegun
)

// Heartbeat is what a member says about itself, every Config.Heartbeat, with at most 10
// addresses of at most 256 bytes.
type Heartbeat = swim.Heartbeat

// AppendHeartbeat appends the encoding of h to dst; the package comment has the
// layout. Addresses over the limits are left out.
func AppendHeartbeat(dst []byte, h Heartbeat) []byte {
	dst = append(dst, heartbeatVersion)
	dst = wire.AppendFlags(dst, h.Status.Ready, h.Status.Done, h.Left, false, h.Status.Begun)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Status.Worker))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(h.Status.Lane))
	dst = binary.LittleEndian.AppendUint64(dst, h.Incarnation.Life)
	dst = binary.LittleEndian.AppendUint32(dst, h.Incarnation.Refuted)
	for _, v := range []uint64{h.Seq, h.Status.Round, h.Status.Step, h.Status.Tokens} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return appendAddrs(dst, h.Addrs)
}

// ParseHeartbeat decodes one heartbeat that fills src.
func ParseHeartbeat(src []byte) (Heartbeat, error) {
	r := wire.Read(src)
	h := readHeartbeat(r)
	if err := r.End(); err != nil {
		return Heartbeat{}, fmt.Errorf("p2p: heartbeat of %d bytes: %w", len(src), err)
	}
	return h, nil
}

func readHeartbeat(r *wire.Reader) Heartbeat {
	var h Heartbeat
	if v := r.Uint8("version"); v != heartbeatVersion {
		r.Fail("version", "%d, want %d", v, heartbeatVersion)
	}
	flags := r.Flags("flags", flagsKnown)
	h.Status.Ready = flags&flagReady != 0
	h.Status.Done = flags&flagDone != 0
	h.Left = flags&flagLeft != 0
	h.Status.Begun = flags&flagBegun != 0
	h.Status.Worker = r.Max32("worker", maxWorker)
	h.Status.Lane = int(r.Uint16("lane"))
	h.Incarnation = swim.Incarnation{Life: r.Uint64("life"), Refuted: r.Uint32("refuted")}
	h.Seq = r.Uint64("sequence")
	h.Status.Round = r.Uint64("round")
	h.Status.Step = r.Uint64("step")
	h.Status.Tokens = r.Uint64("tokens")
	h.Addrs = readAddrs(r)
	return h
}

func appendAddrs(dst []byte, addrs []string) []byte {
	at := len(dst)
	dst = append(dst, 0)
	for _, a := range addrs {
		if len(a) > maxAddrBytes || dst[at] == maxAddrs {
			continue
		}
		dst = wire.AppendText16(dst, a)
		dst[at]++
	}
	return dst
}

func readAddrs(r *wire.Reader) (addrs []string) {
	r.Each("address", r.Count8("addresses", maxAddrs, 2), func(int) {
		addrs = append(addrs, r.Text16("text", maxAddrBytes))
	})
	return addrs
}
