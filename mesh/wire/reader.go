// Package wire reads and writes the fields of the messages that workers send each
// other: little-endian numbers, texts and lists with their length before them.
//
// A [Reader] holds what a message may contain to limits: no length that a peer
// announces is believed before the bytes are there, so nothing is allocated for bytes
// that never come. The first field that is missing or not allowed ends the message: its
// error names the field, and every later field reads as zero.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Reader takes fields off the front of a message.
type Reader struct {
	src []byte
	err error
}

// Read returns a reader of src, which it does not change.
func Read(src []byte) *Reader { return &Reader{src: src} }

// Err is the first error.
func (r *Reader) Err() error { return r.err }

// End is the first error; bytes that are left are one.
func (r *Reader) End() error {
	if r.err == nil && len(r.src) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.src))
	}
	return r.err
}

// Fail ends the message with an error of the field, unless an earlier one has.
func (r *Reader) Fail(field, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...))
	}
	r.src = nil
}

// Bytes reads n bytes, which alias the message; after an error it returns nil.
func (r *Reader) Bytes(field string, n int) []byte {
	if n > len(r.src) {
		r.Fail(field, "cut short: %d of %d bytes", len(r.src), n)
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

// Uint8 reads a byte.
func (r *Reader) Uint8(field string) uint8 {
	if b := r.Bytes(field, 1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads 2 bytes.
func (r *Reader) Uint16(field string) uint16 {
	if b := r.Bytes(field, 2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads 4 bytes.
func (r *Reader) Uint32(field string) uint32 {
	if b := r.Bytes(field, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads 8 bytes.
func (r *Reader) Uint64(field string) uint64 {
	if b := r.Bytes(field, 8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Float64 reads 8 bytes, which may be a NaN.
func (r *Reader) Float64(field string) float64 { return math.Float64frombits(r.Uint64(field)) }

// Sum reads a digest of 32 bytes.
func (r *Reader) Sum(field string) (sum [32]byte) {
	copy(sum[:], r.Bytes(field, len(sum)))
	return sum
}

// Bool reads a byte that is 0 or 1.
func (r *Reader) Bool(field string) bool {
	b := r.Uint8(field)
	if b > 1 {
		r.Fail(field, "%d, want 0 or 1", b)
	}
	return b == 1
}

// Flags reads a byte in which only known bits may be set.
func (r *Reader) Flags(field string, known uint8) uint8 {
	b := r.Uint8(field)
	if b&^known != 0 {
		r.Fail(field, "%08b, this program knows %08b", b, known)
		return 0
	}
	return b
}

// Max32 reads 4 bytes, a number of at most limit.
func (r *Reader) Max32(field string, limit int) int {
	v := r.Uint32(field)
	if uint64(v) > uint64(limit) {
		r.Fail(field, "%d, at most %d is allowed", v, limit)
		return 0
	}
	return int(v)
}

// Text8 reads a length of one byte and a UTF-8 text of at most limit bytes.
func (r *Reader) Text8(field string, limit int) string {
	return r.text(field, r.Bytes(field, r.atMost(field, int(r.Uint8(field)), limit)))
}

// Text16 is Text8 with a length of 2 bytes.
func (r *Reader) Text16(field string, limit int) string {
	return r.text(field, r.Bytes16(field, limit))
}

// Bytes16 reads a length of 2 bytes and that many bytes, at most limit, which alias the
// message.
func (r *Reader) Bytes16(field string, limit int) []byte {
	return r.Bytes(field, r.atMost(field, int(r.Uint16(field)), limit))
}

func (r *Reader) atMost(field string, n, limit int) int {
	if n > limit {
		r.Fail(field, "%d bytes, at most %d are allowed", n, limit)
		return 0
	}
	return n
}

var errNotUTF8 = errors.New("not UTF-8")

func (r *Reader) text(field string, b []byte) string {
	if !utf8.Valid(b) {
		r.Fail(field, "%w", errNotUTF8)
		return ""
	}
	return string(b)
}

// Count8 reads the length of a list, one byte: at most limit elements, of at least size
// bytes each, which are there.
func (r *Reader) Count8(field string, limit, size int) int {
	return r.count(field, int(r.Uint8(field)), limit, size)
}

// Count16 is Count8 with a length of 2 bytes.
func (r *Reader) Count16(field string, limit, size int) int {
	return r.count(field, int(r.Uint16(field)), limit, size)
}

func (r *Reader) count(field string, n, limit, size int) int {
	switch {
	case n > limit:
		r.Fail(field, "%d, at most %d are allowed", n, limit)
		return 0
	case n*size > len(r.src):
		r.Fail(field, "cut short: %d bytes for %d of at least %d each", len(r.src), n, size)
		return 0
	}
	return n
}

// Each calls read for each of n elements until one fails. The element's number is part
// of the error.
func (r *Reader) Each(field string, n int, read func(i int)) {
	for i := 0; i < n && r.err == nil; i++ {
		if read(i); r.err != nil {
			r.err = fmt.Errorf("%s %d: %w", field, i, r.err)
		}
	}
}

// Within reads a message in the message, which src holds: read must use all of it.
func (r *Reader) Within(field string, src []byte, read func(in *Reader)) {
	if r.err != nil {
		return
	}
	in := Read(src)
	read(in)
	if err := in.End(); err != nil {
		r.Fail(field, "%w", err)
	}
}
