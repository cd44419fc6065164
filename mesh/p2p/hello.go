package p2p

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"loco/mesh"
	"loco/mesh/wire"
)

// protocolVersion is the version of everything loco says after the hello.
const protocolVersion = 3

// Frame types of a hello stream. Append only: a number is never reused.
const (
	frameHello   = 1
	frameConfig  = 2
	frameVerdict = 3
)

// Limits of the frames of a hello stream.
const (
	helloMagic      = "loco"
	frameHeader     = 5
	maxHelloBytes   = 128 << 10
	maxVerdictBytes = 1 << 10
	maxKnown        = 1024
	knownFixed      = 1 + 1
	maxIDBytes      = 128
	maxReasonBytes  = 512
)

// Codes of a verdict. Append only.
const (
	verdictAccepted    = 0
	verdictWorkerTaken = 1
	verdictRefused     = 2
)

// Hello opens a connection: the run that a peer serves, and what it says about itself.
type Hello struct {
	Version   uint16
	Settled   bool // its own joining is over
	RunID     string
	Heartbeat Heartbeat
	Known     []Known // live members, from the listener only; at most 1,024
}

// Known is a member as another tells of it.
type Known struct {
	ID    mesh.ID
	Addrs []string
}

// Verdict ends a hello.
type Verdict struct {
	Code   uint8
	Worker int     // the number that is taken
	By     mesh.ID // the member that has it
	Reason string
}

// AppendHello appends the encoding of h to dst; the package comment has the layout.
// Members that would exceed the limit of a hello are left out: heartbeats tell of
// them later.
func AppendHello(dst []byte, h Hello) []byte {
	start := len(dst)
	dst = append(dst, helloMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, h.Version)
	dst = wire.AppendFlags(dst, h.Settled)
	dst = wire.AppendText8(dst, wire.Cut(h.RunID, maxRunIDDigits))
	dst = wire.AppendText16(dst, string(AppendHeartbeat(nil, h.Heartbeat)))
	at := len(dst)
	dst = append(dst, 0, 0)
	count := 0
	for _, k := range h.Known {
		before := len(dst)
		dst = wire.AppendText8(dst, wire.Cut(string(k.ID), maxIDBytes))
		dst = appendAddrs(dst, k.Addrs)
		if len(dst)-start > maxHelloBytes || count == maxKnown {
			dst = dst[:before]
			break
		}
		count++
	}
	binary.LittleEndian.PutUint16(dst[at:], uint16(count))
	return dst
}

// ParseHello decodes one hello that fills src. Of another version's it reads the version
// alone, so that both sides can say which they speak.
func ParseHello(src []byte) (Hello, error) {
	r := wire.Read(src)
	var h Hello
	if magic := string(r.Bytes("magic", len(helloMagic))); magic != helloMagic {
		r.Fail("magic", "%q, want %q", magic, helloMagic)
	}
	if h.Version = r.Uint16("version"); h.Version != protocolVersion && r.Err() == nil {
		return h, nil
	}
	h.Settled = r.Bool("settled")
	h.RunID = r.Text8("run ID", maxRunIDDigits)
	r.Within("heartbeat", r.Bytes16("heartbeat", maxHeartbeatBytes), func(in *wire.Reader) { h.Heartbeat = readHeartbeat(in) })
	r.Each("member", r.Count16("members", maxKnown, knownFixed), func(int) {
		h.Known = append(h.Known, Known{ID: mesh.ID(r.Text8("ID", maxIDBytes)), Addrs: readAddrs(r)})
	})
	if err := r.End(); err != nil {
		return Hello{}, fmt.Errorf("p2p: hello of %d bytes: %w", len(src), err)
	}
	return h, nil
}

// AppendVerdict appends the encoding of v to dst; the package comment has the layout.
func AppendVerdict(dst []byte, v Verdict) []byte {
	dst = append(dst, v.Code)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(v.Worker))
	dst = wire.AppendText8(dst, wire.Cut(string(v.By), maxIDBytes))
	return wire.AppendText16(dst, wire.Cut(v.Reason, maxReasonBytes))
}

// ParseVerdict decodes one verdict that fills src.
func ParseVerdict(src []byte) (Verdict, error) {
	r := wire.Read(src)
	v := Verdict{Code: r.Uint8("code"), Worker: r.Max32("worker", maxWorker)}
	if v.Code > verdictRefused {
		r.Fail("code", "%d, at most %d is known", v.Code, verdictRefused)
	}
	v.By = mesh.ID(r.Text8("by", maxIDBytes))
	v.Reason = r.Text16("reason", maxReasonBytes)
	if err := r.End(); err != nil {
		return Verdict{}, fmt.Errorf("p2p: verdict of %d bytes: %w", len(src), err)
	}
	return v, nil
}

// writeFrame sends one frame in one write.
func writeFrame(w io.Writer, kind uint8, payload []byte) error {
	frame := binary.LittleEndian.AppendUint32(make([]byte, 0, frameHeader+len(payload)), uint32(len(payload)))
	frame = append(frame, kind)
	_, err := w.Write(append(frame, payload...))
	return err
}

// readFrame reads one frame of the wanted type. A length over the limit is an error
// before anything is allocated for it.
func readFrame(r io.Reader, kind uint8, limit int) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if head[4] != kind {
		return nil, fmt.Errorf("p2p: frame of type %d, want %d: not a hello", head[4], kind)
	}
	if n > uint32(limit) {
		return nil, fmt.Errorf("p2p: frame of %d bytes: at most %d", n, limit)
	}
	return wire.ReadN(r, nil, int(n))
}

func joinLines(lines []string) string { return strings.Join(lines, "\n") }

// splitLines undoes joinLines.
func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// diffLines compares two canonical configurations and lists the keys that differ,
// in order.
func diffLines(ours, theirs []string) []Diff {
	mine, other := keyed(ours), keyed(theirs)
	keys := make([]string, 0, len(mine))
	for k := range mine {
		keys = append(keys, k)
	}
	for k := range other {
		if _, ok := mine[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var diffs []Diff
	for _, k := range keys {
		if mine[k] != other[k] {
			diffs = append(diffs, Diff{Key: k, Ours: mine[k], Theirs: other[k]})
		}
	}
	return diffs
}

func keyed(lines []string) map[string]string {
	m := make(map[string]string, len(lines))
	for _, line := range lines {
		k, v, _ := strings.Cut(line, "=")
		m[k] = v
	}
	return m
}
