package codec

import (
	"fmt"
	"slices"

	"loco/kernels"
	"loco/kernels/cpu"
)

// fixed is a codec of a fixed rate: a layout of package kernels, and words for a block that it
// finds unsound.
type fixed struct {
	name   string
	layout kernels.Format
	// unsound says what is wrong with block b of an encoding of n values.
	unsound func(b, n int, block []byte) error
}

// register makes a codec that a configuration may name.
func register(name string, layout kernels.Format, unsound func(b, n int, block []byte) error) Codec {
	c := &fixed{name, layout, unsound}
	registered = append(registered, c)
	return c
}

// Name implements [Codec].
func (f *fixed) Name() string { return f.name }

// Format implements [Codec].
func (f *fixed) Format() kernels.Format { return f.layout }

// Block implements [Codec].
func (f *fixed) Block() int { return Block }

// EncodedLen implements [Codec].
func (f *fixed) EncodedLen(n int) int { return f.layout.EncodedLen(n) }

// Fixed implements [Codec].
func (f *fixed) Fixed() bool { return true }

// Cut implements [Codec].
func (f *fixed) Cut(encoded []byte, lo, hi int) []byte {
	at := f.layout.EncodedLen(lo)
	return encoded[at : at+f.layout.EncodedLen(hi-lo)]
}

// Down implements [Codec].
func (f *fixed) Down() Codec { return f }

// NewSum implements [Codec].
func (f *fixed) NewSum() Sum { return NewMean(f, f) }

// AppendEncode implements [Codec].
func (f *fixed) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	at := len(dst)
	n := f.layout.EncodedLen(len(src))
	dst = slices.Grow(dst, n)[:at+n]
	if i := cpu.Encode(f.layout, dst[at:], src); i < len(src) {
		i += notFinite(src[i:])
		return dst[:at], fmt.Errorf("codec %s: value %d of %d is %v: only finite values are encoded", f.name, i, len(src), src[i])
	}
	return dst, nil
}

// Check implements [Codec].
func (f *fixed) Check(n int, src []byte) error {
	if want := f.layout.EncodedLen(n); len(src) != want {
		return fmt.Errorf("codec %s: %d bytes for %d values, want %d", f.name, len(src), n, want)
	}
	if b := cpu.Check(f.layout, n, src); b >= 0 {
		lo, hi := b*Block, min((b+1)*Block, n)
		return f.unsound(b, n, src[f.layout.EncodedLen(lo):f.layout.EncodedLen(hi)])
	}
	return nil
}

// Decode implements [Codec].
func (f *fixed) Decode(dst []float32, src []byte) error {
	if err := f.Check(len(dst), src); err != nil {
		return err
	}
	cpu.Decode(f.layout, dst, src)
	return nil
}

// DecodeAdd implements [Codec].
func (f *fixed) DecodeAdd(dst []float32, src []byte, weight float32) error {
	if err := f.Check(len(dst), src); err != nil {
		return err
	}
	cpu.DecodeAdd(f.layout, dst, src, weight)
	return nil
}
