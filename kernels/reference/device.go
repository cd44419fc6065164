// Package reference runs the operations of package kernels as plain loops in float64,
// which define what each means.
package reference

import (
	"math"

	"loco/kernels"
)

// Device is a kernels.Device of plain loops over float64 memory: it defines what every
// operation means. The conformance suite compares the other devices with it, and
// because its memory is float64 a model's gradients can be checked on it by central
// differences. It is slow and runs on the caller's goroutine.
type Device struct{}

var _ kernels.Device = (*Device)(nil)

// New returns the reference device.
func New() *Device { return &Device{} }

type refBuffer struct{ v []float64 }

func (b *refBuffer) Len() int { return len(b.v) }

func (b *refBuffer) Slice(lo, hi int) kernels.Buffer { return &refBuffer{b.v[lo:hi:hi]} }

type refTokens struct{ v []int32 }

func (t *refTokens) Len() int { return len(t.v) }

// f64 returns the memory of a buffer of this device.
func f64(op string, b kernels.Buffer) []float64 {
	r, ok := b.(*refBuffer)
	if !ok {
		kernels.PanicForeign(op, b)
	}
	return r.v
}

func refIDs(op string, t kernels.Tokens) []int32 {
	r, ok := t.(*refTokens)
	if !ok {
		kernels.PanicForeign(op, t)
	}
	return r.v
}

// Name implements kernels.Device.
func (*Device) Name() string { return "reference" }

// Close implements kernels.Device. There is nothing to give back.
func (*Device) Close() error { return nil }

// Alloc implements kernels.Device. The memory is float64.
func (*Device) Alloc(n int) (kernels.Buffer, error) {
	if err := kernels.CheckAlloc("values", n); err != nil {
		return nil, err
	}
	return &refBuffer{make([]float64, n)}, nil
}

// AllocTokens implements kernels.Device.
func (*Device) AllocTokens(n int) (kernels.Tokens, error) {
	if err := kernels.CheckAlloc("tokens", n); err != nil {
		return nil, err
	}
	return &refTokens{make([]int32, n)}, nil
}

// Upload implements kernels.Device.
func (*Device) Upload(dst kernels.Buffer, src []float32) {
	d := f64("upload", dst)
	kernels.CheckSame("upload", "src", len(src), len(d))
	for i, x := range src {
		d[i] = float64(x)
	}
}

// Download implements kernels.Device. Each value is rounded to float32.
func (*Device) Download(dst []float32, src kernels.Buffer) {
	s := f64("download", src)
	kernels.CheckSame("download", "dst", len(dst), len(s))
	for i, x := range s {
		dst[i] = float32(x)
	}
}

// UploadFloat64 is Upload without rounding: for gradient checks, whose steps are
// smaller than float32 resolves.
func (*Device) UploadFloat64(dst kernels.Buffer, src []float64) {
	d := f64("upload", dst)
	kernels.CheckSame("upload", "src", len(src), len(d))
	copy(d, src)
}

// DownloadFloat64 is Download without rounding.
func (*Device) DownloadFloat64(dst []float64, src kernels.Buffer) {
	s := f64("download", src)
	kernels.CheckSame("download", "dst", len(dst), len(s))
	copy(dst, s)
}

// UploadTokens implements kernels.Device.
func (*Device) UploadTokens(dst kernels.Tokens, src []int32) {
	d := refIDs("upload tokens", dst)
	kernels.CheckSame("upload tokens", "src", len(src), len(d))
	copy(d, src)
}

// Zero implements kernels.Device.
func (*Device) Zero(x kernels.Buffer) { clear(f64("zero", x)) }

// Copy implements kernels.Device.
func (*Device) Copy(dst, src kernels.Buffer) {
	kernels.CheckSame("copy", "src", src.Len(), dst.Len())
	copy(f64("copy", dst), f64("copy", src))
}

// Add implements kernels.Device.
func (*Device) Add(dst, x kernels.Buffer) {
	kernels.CheckSame("add", "x", x.Len(), dst.Len())
	d, s := f64("add", dst), f64("add", x)
	for i := range d {
		d[i] += s[i]
	}
}

// Scale implements kernels.Device.
func (*Device) Scale(x kernels.Buffer, s float32) {
	v := f64("scale", x)
	for i := range v {
		v[i] *= float64(s)
	}
}

// Sum implements kernels.Device.
func (*Device) Sum(x kernels.Buffer) float64 {
	return refSum(f64("sum", x), func(v float64) float64 { return v })
}

// SquaredNorm implements kernels.Device.
func (*Device) SquaredNorm(x kernels.Buffer) float64 {
	return refSum(f64("squared norm", x), func(v float64) float64 { return v * v })
}

func refSum(v []float64, term func(float64) float64) float64 {
	total := 0.0
	for lo := 0; lo < len(v); lo += kernels.SumChunk {
		var s [kernels.SumLanes]float64
		for i, x := range v[lo:min(lo+kernels.SumChunk, len(v))] {
			s[i%kernels.SumLanes] += term(x)
		}
		total += kernels.JoinSums(&s)
	}
	return total
}

// AdamW implements kernels.Device.
func (*Device) AdamW(p, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	kernels.CheckAdamW(p, g, m, v)
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
