package bench

import (
	"loco/kernels"
)

// operands makes the buffers of one case and keeps the first error.
type operands struct {
	dev kernels.Device
	err error
}

// values returns n values in (−1, 1).
func (o *operands) values(n int) kernels.Buffer {
	if o.err != nil {
		return nil
	}
	b, err := o.dev.Alloc(n)
	if err != nil {
		o.err = err
		return nil
	}
	fill(o.dev, b, 1)
	return b
}

// fill sets b to values in (−size, size), a piece at a time, so that no second vector
// of its length is needed.
func fill(dev kernels.Device, b kernels.Buffer, size float32) {
	const piece, period = 1 << 16, 2003
	v := make([]float32, min(piece, b.Len()))
	for i := range v {
		v[i] = size * (float32(i*7919%period)/1001.5 - 1)
	}
	for at := 0; at < b.Len(); at += len(v) {
		n := min(len(v), b.Len()-at)
		dev.Upload(b.Slice(at, at+n), v[:n])
	}
}

// all returns n times x.
func (o *operands) all(n int, x float32) kernels.Buffer {
	b := o.values(n)
	if o.err == nil {
		v := make([]float32, n)
		for i := range v {
			v[i] = x
		}
		o.dev.Upload(b, v)
	}
	return b
}

// zeros returns n zeros.
func (o *operands) zeros(n int) kernels.Buffer {
	if o.err != nil {
		return nil
	}
	b, err := o.dev.Alloc(n)
	o.err = err
	return b
}

// tokens returns n ids below vocab, in no order.
func (o *operands) tokens(n, vocab int) kernels.Tokens {
	if o.err != nil {
		return nil
	}
	t, err := o.dev.AllocTokens(n)
	if err != nil {
		o.err = err
		return nil
	}
	o.dev.UploadTokens(t, ids(n, vocab))
	return t
}

// ids returns n token ids below vocab.
func ids(n, vocab int) []int32 {
	v := make([]int32, n)
	state := uint64(1)
	for i := range v {
		state = state*6364136223846793005 + 1442695040888963407 // Knuth's MMIX
		v[i] = int32((state >> 33) % uint64(vocab))
	}
	return v
}
