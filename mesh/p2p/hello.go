package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"loco/mesh"
)

// protocolVersion is the version of everything loco says after the hello.
const protocolVersion = 2

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
	maxIDBytes      = 128
	maxReasonBytes  = 512
)

// Codes of a verdict. Append only.
const (
	verdictAccepted    = 0
	verdictWorkerTaken = 1
	verdictRefused     = 2
)

// Hello opens a connection: which run a peer serves and who it is.
type Hello struct {
	Version   uint16
	Settled   bool // its own joining is over
	RunID     string
	Heartbeat Heartbeat
	Known     []Known // live members, from the listener only; at most 1,024
}

// Known is a member as another tells of it.
type Known struct {
	ID     mesh.ID
	Worker int
	Addrs  []string
}

// Verdict ends a hello.
type Verdict struct {
	Code   uint8
	Worker int     // the number taken; with code 0 the number of the sender
	By     mesh.ID // who has it
	Reason string
}

// AppendHello appends the encoding of h to dst; the package comment has the layout.
// Members that would exceed the limit of a hello are left out: heartbeats tell of
// them later.
func AppendHello(dst []byte, h Hello) []byte {
	start := len(dst)
	dst = append(dst, helloMagic...)
	dst = binary.LittleEndian.AppendUint16(dst, h.Version)
	dst = append(dst, 0)
	if h.Settled {
		dst[len(dst)-1] = 1
	}
	dst = appendText8(dst, h.RunID, maxRunIDDigits)
	beat := AppendHeartbeat(nil, h.Heartbeat)
	dst = append(binary.LittleEndian.AppendUint16(dst, uint16(len(beat))), beat...)
	at := len(dst)
	dst = append(dst, 0, 0)
	count := 0
	for _, k := range h.Known {
		before := len(dst)
		dst = appendText8(dst, string(k.ID), maxIDBytes)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(k.Worker))
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

// ParseHello decodes one hello that fills src.
func ParseHello(src []byte) (Hello, error) {
	r := reader{src: src}
	var h Hello
	if magic := string(r.take(len(helloMagic))); magic != helloMagic {
		r.fail(fmt.Errorf("magic %q, want %q", magic, helloMagic))
	}
	h.Version = r.uint16()
	settled := r.uint8()
	if settled > 1 {
		r.fail(fmt.Errorf("settled %d, want 0 or 1", settled))
	}
	h.Settled = settled == 1
	h.RunID = r.text(int(r.uint8()), maxRunIDDigits)
	inner := reader{src: r.take(int(r.uint16()))}
	h.Heartbeat = parseHeartbeat(&inner)
	if err := inner.end(); err != nil {
		r.fail(fmt.Errorf("heartbeat: %w", err))
	}
	n := int(r.uint16())
	if n > maxKnown {
		r.fail(fmt.Errorf("%d members: at most %d", n, maxKnown))
	}
	for i := 0; i < n && r.err == nil; i++ {
		h.Known = append(h.Known, Known{ID: mesh.ID(r.text(int(r.uint8()), maxIDBytes)), Worker: r.worker(), Addrs: r.addrs()})
	}
	if err := r.end(); err != nil {
		return Hello{}, fmt.Errorf("p2p: hello of %d bytes: %w", len(src), err)
	}
	return h, nil
}

// AppendVerdict appends the encoding of v to dst; the package comment has the layout.
func AppendVerdict(dst []byte, v Verdict) []byte {
	dst = append(dst, v.Code)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(v.Worker))
	dst = appendText8(dst, string(v.By), maxIDBytes)
	reason := cut(v.Reason, maxReasonBytes)
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(reason))), reason...)
}

// ParseVerdict decodes one verdict that fills src.
func ParseVerdict(src []byte) (Verdict, error) {
	r := reader{src: src}
	v := Verdict{Code: r.uint8(), Worker: r.worker()}
	if v.Code > verdictRefused {
		r.fail(fmt.Errorf("code %d: at most %d", v.Code, verdictRefused))
	}
	v.By = mesh.ID(r.text(int(r.uint8()), maxIDBytes))
	v.Reason = r.text(int(r.uint16()), maxReasonBytes)
	if err := r.end(); err != nil {
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
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return payload, nil
}

func appendText8(dst []byte, s string, limit int) []byte {
	s = cut(s, limit)
	return append(append(dst, uint8(len(s))), s...)
}

// cut shortens s to at most n bytes and whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
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
