package wire

import (
	"encoding/binary"
	"math"
	"strings"
)

// AppendFloat64 appends the 8 bytes of x.
func AppendFloat64(dst []byte, x float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(x))
}

// AppendFlags appends a byte whose bit i is flag i; there are at most 8.
func AppendFlags(dst []byte, flags ...bool) []byte {
	b := byte(0)
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return append(dst, b)
}

// AppendText8 appends the length of s in one byte, and s, which has at most 255 bytes.
func AppendText8(dst []byte, s string) []byte {
	return append(append(dst, byte(len(s))), s...)
}

// AppendText16 appends the length of s in 2 bytes, and s, which has at most 65,535 bytes.
func AppendText16(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// Cut shortens s to at most n bytes and whole characters.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
