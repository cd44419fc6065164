package kernels

import "math"

// Reference is a Device of plain loops over float64 memory: it defines what every
// operation means. The conformance suite compares the other devices with it, and
// because its memory is float64 a model's gradients can be checked on it by central
// differences. It is slow and runs on the caller's goroutine.
type Reference struct{}

var _ Device = (*Reference)(nil)

// NewReference returns the reference device.
func NewReference() *Reference { return &Reference{} }

type refBuffer struct{ v []float64 }

func (b *refBuffer) Len() int { return len(b.v) }

func (b *refBuffer) Slice(lo, hi int) Buffer { return &refBuffer{b.v[lo:hi:hi]} }

type refTokens struct{ v []int32 }

func (t *refTokens) Len() int { return len(t.v) }

// f64 returns the memory of a buffer of this device.
func f64(op string, b Buffer) []float64 {
	r, ok := b.(*refBuffer)
	if !ok {
		PanicForeign(op, b)
	}
	return r.v
}

func refIDs(op string, t Tokens) []int32 {
	r, ok := t.(*refTokens)
	if !ok {
		PanicForeign(op, t)
	}
	return r.v
}

// Name implements Device.
func (*Reference) Name() string { return "reference" }

// Close implements Device. There is nothing to give back.
func (*Reference) Close() error { return nil }

// Alloc implements Device. The memory is float64.
func (*Reference) Alloc(n int) (Buffer, error) {
	if err := CheckAlloc("values", n); err != nil {
		return nil, err
	}
	return &refBuffer{make([]float64, n)}, nil
}

// AllocTokens implements Device.
func (*Reference) AllocTokens(n int) (Tokens, error) {
	if err := CheckAlloc("tokens", n); err != nil {
		return nil, err
	}
	return &refTokens{make([]int32, n)}, nil
}

// Upload implements Device.
func (*Reference) Upload(dst Buffer, src []float32) {
	d := f64("upload", dst)
	CheckSame("upload", "src", len(src), len(d))
	for i, x := range src {
		d[i] = float64(x)
	}
}

// Download implements Device. Each value is rounded to float32.
func (*Reference) Download(dst []float32, src Buffer) {
	s := f64("download", src)
	CheckSame("download", "dst", len(dst), len(s))
	for i, x := range s {
		dst[i] = float32(x)
	}
}

// UploadFloat64 is Upload without rounding: for gradient checks, whose steps are
// smaller than float32 resolves.
func (*Reference) UploadFloat64(dst Buffer, src []float64) {
	d := f64("upload", dst)
	CheckSame("upload", "src", len(src), len(d))
	copy(d, src)
}

// DownloadFloat64 is Download without rounding.
func (*Reference) DownloadFloat64(dst []float64, src Buffer) {
	s := f64("download", src)
	CheckSame("download", "dst", len(dst), len(s))
	copy(dst, s)
}

// UploadTokens implements Device.
func (*Reference) UploadTokens(dst Tokens, src []int32) {
	d := refIDs("upload tokens", dst)
	CheckSame("upload tokens", "src", len(src), len(d))
	copy(d, src)
}

// Zero implements Device.
func (*Reference) Zero(x Buffer) { clear(f64("zero", x)) }

// Copy implements Device.
func (*Reference) Copy(dst, src Buffer) {
	CheckSame("copy", "src", src.Len(), dst.Len())
	copy(f64("copy", dst), f64("copy", src))
}

// Add implements Device.
func (*Reference) Add(dst, x Buffer) {
	CheckSame("add", "x", x.Len(), dst.Len())
	d, s := f64("add", dst), f64("add", x)
	for i := range d {
		d[i] += s[i]
	}
}

// Scale implements Device.
func (*Reference) Scale(x Buffer, s float32) {
	v := f64("scale", x)
	for i := range v {
		v[i] *= float64(s)
	}
}

// Sum implements Device.
func (*Reference) Sum(x Buffer) float64 {
	return refSum(f64("sum", x), func(v float64) float64 { return v })
}

// SquaredNorm implements Device.
func (*Reference) SquaredNorm(x Buffer) float64 {
	return refSum(f64("squared norm", x), func(v float64) float64 { return v * v })
}

func refSum(v []float64, term func(float64) float64) float64 {
	total := 0.0
	for lo := 0; lo < len(v); lo += SumChunk {
		var s [SumLanes]float64
		for i, x := range v[lo:min(lo+SumChunk, len(v))] {
			s[i%SumLanes] += term(x)
		}
		total += JoinSums(&s)
	}
	return total
}

// AdamW implements Device.
func (*Reference) AdamW(p, g, m, v Buffer, step AdamWStep) {
	CheckAdamW(p, g, m, v)
	pp, gg, mm, vv := f64("adamw", p), f64("adamw", g), f64("adamw", m), f64("adamw", v)
	lr, beta1, beta2 := float64(step.LR), float64(step.Beta1), float64(step.Beta2)
	for i := range pp {
		grad := gg[i] * float64(step.GradScale)
		mm[i] = beta1*mm[i] + (1-beta1)*grad
		vv[i] = beta2*vv[i] + (1-beta2)*grad*grad
		pp[i] -= lr * float64(step.WeightDecay) * pp[i]
		pp[i] -= lr * (mm[i] / float64(step.Correction1)) /
			(math.Sqrt(vv[i]/float64(step.Correction2)) + float64(step.Eps))
	}
}
