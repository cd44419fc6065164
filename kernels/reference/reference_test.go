package reference

import (
	"math"
	"testing"

	"loco/kernels"
)

// refBuf returns a buffer of the reference device that holds v.
func refBuf(t *testing.T, d *Device, v ...float64) kernels.Buffer {
	t.Helper()
	b, err := d.Alloc(len(v))
	if err != nil {
		t.Fatal(err)
	}
	d.UploadFloat64(b, v)
	return b
}

func refVals(d *Device, b kernels.Buffer) []float64 {
	v := make([]float64, b.Len())
	d.DownloadFloat64(v, b)
	return v
}

func near(t *testing.T, what string, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(got[i]-want[i]) <= tol) {
			t.Errorf("%s[%d] = %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestReferenceMatMulByHand(t *testing.T) {
	d := New()
	// (1 2; 3 4)·(5 6 7; 8 9 10) = (21 24 27; 47 54 61)
	want := []float64{21, 24, 27, 47, 54, 61}
	a, aT := refBuf(t, d, 1, 2, 3, 4), refBuf(t, d, 1, 3, 2, 4)
	b, bT := refBuf(t, d, 5, 6, 7, 8, 9, 10), refBuf(t, d, 5, 8, 6, 9, 7, 10)
	c := refBuf(t, d, make([]float64, 6)...)
	for _, form := range []struct {
		name           string
		a, b           kernels.Buffer
		transA, transB bool
	}{{"nn", a, b, false, false}, {"nt", a, bT, false, true}, {"tn", aT, b, true, false}, {"tt", aT, bT, true, true}} {
		d.MatMul(c, form.a, form.b, 2, 3, 2, form.transA, form.transB, false)
		near(t, form.name, refVals(d, c), want, 0)
	}
	d.MatMul(c, a, b, 2, 3, 2, false, false, true)
	near(t, "accumulated", refVals(d, c), []float64{42, 48, 54, 94, 108, 122}, 0)
}

func TestReferenceCrossEntropyByHand(t *testing.T) {
	d := New()
	losses := refBuf(t, d, 9, 9, 9)
	logits := refBuf(t, d, 0, math.Log(3), 5, 5)
	targets, err := d.AllocTokens(3)
	if err != nil {
		t.Fatal(err)
	}
	d.UploadTokens(targets, []int32{0, 1, -1})
	d.CrossEntropy(losses, logits, targets, 1, 2, 2, 0.5)
	near(t, "losses", refVals(d, losses), []float64{9, math.Log(4.0 / 3), 0}, 1e-15)
	near(t, "gradient", refVals(d, logits), []float64{0.125, -0.125, 0, 0}, 1e-15)
}

// The target of the first class is one, and only a negative one is none.
func TestReferenceCrossEntropyOfTheFirstClass(t *testing.T) {
	d := New()
	losses, logits := refBuf(t, d, 9), refBuf(t, d, 0, math.Log(3))
	targets, err := d.AllocTokens(1)
	if err != nil {
		t.Fatal(err)
	}
	d.CrossEntropy(losses, logits, targets, 0, 1, 2, 1) // new tokens are 0
	near(t, "losses", refVals(d, losses), []float64{math.Log(4)}, 1e-15)
	near(t, "gradient", refVals(d, logits), []float64{-0.75, 0.75}, 1e-15)
}

func TestReferenceEmbeddingByHand(t *testing.T) {
	d := New()
	tokens, err := d.AllocTokens(4)
	if err != nil {
		t.Fatal(err)
	}
	d.UploadTokens(tokens, []int32{2, 0, 2, 1})
	out, table := refBuf(t, d, make([]float64, 8)...), refBuf(t, d, 1, 2, 3, 4, 5, 6)
	d.Embedding(out, table, tokens, 3, 2)
	near(t, "rows", refVals(d, out), []float64{5, 6, 1, 2, 5, 6, 3, 4}, 0)
	d.EmbeddingBackward(table, out, tokens, 3, 2)
	near(t, "table", refVals(d, table), []float64{1 + 1, 2 + 2, 3 + 3, 4 + 4, 5 + 5 + 5, 6 + 6 + 6}, 0)
}

// Reference: Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2, in the order of device.go.
func TestReferenceAdamWByHand(t *testing.T) {
	d := New()
	p, g, m, v := refBuf(t, d, 2, -1), refBuf(t, d, 3, 0.5), refBuf(t, d, 0.25, 0), refBuf(t, d, 0.5, 4)
	step := kernels.AdamWStep{LR: 0.5, Beta1: 0.75, Beta2: 0.5, Eps: 0.125, WeightDecay: 0.25, Correction1: 0.5, Correction2: 0.75, GradScale: 2}
	d.AdamW(p, g, m, v, step)
	near(t, "m", refVals(d, m), []float64{0.75*0.25 + 0.25*6, 0.25}, 1e-15)
	near(t, "v", refVals(d, v), []float64{0.25 + 18, 2 + 0.5}, 1e-15)
	near(t, "p", refVals(d, p), []float64{
		2 - 0.25 - 0.5*(1.6875/0.5)/(math.Sqrt(18.25/0.75)+0.125),
		-1 + 0.125 - 0.5*(0.25/0.5)/(math.Sqrt(2.5/0.75)+0.125),
	}, 1e-15)
}

// Sums take whole chunks and what is left.
func TestReferenceSums(t *testing.T) {
	d := New()
	for _, n := range []int{0, 1, 31, 33, kernels.SumChunk, kernels.SumChunk + 5, 3 * kernels.SumChunk} {
		x, sum, squares := make([]float64, n), 0.0, 0.0
		for i := range x {
			x[i] = float64(i%7 - 2)
			sum, squares = sum+x[i], squares+x[i]*x[i]
		}
		b := refBuf(t, d, x...)
		near(t, "sums", []float64{d.Sum(b), d.SquaredNorm(b)}, []float64{sum, squares}, 0)
	}
}

// difference is the central difference of f at x[i].
func difference(x []float64, i int, f func() float64) float64 {
	const h = 1e-5
	at := x[i]
	x[i] = at + h
	up := f()
	x[i] = at - h
	down := f()
	x[i] = at
	return (up - down) / (2 * h)
}

// wave is a smooth fixed sequence in (−1, 1) without pattern.
func wave(n int, phase float64) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = math.Sin(phase + 1.7*float64(i) + 0.31*float64(i*i%17))
	}
	return v
}

func weighted(out, w []float64) float64 { return refDot(w, out) }

func TestReferenceBackwardsAreDerivatives(t *testing.T) {
	d := New()
	t.Run("rmsnorm", func(t *testing.T) {
		const rows, width = 3, 5
		x, w, g := wave(rows*width, 0), wave(width, 1), wave(rows*width, 2)
		out, rstd := refBuf(t, d, make([]float64, rows*width)...), refBuf(t, d, make([]float64, rows)...)
		loss := func() float64 {
			d.RMSNorm(out, rstd, refBuf(t, d, x...), refBuf(t, d, w...), rows, width, 1e-5)
			return weighted(refVals(d, out), g)
		}
		loss()
		dx, dw := refBuf(t, d, make([]float64, rows*width)...), refBuf(t, d, make([]float64, width)...)
		d.RMSNormBackward(dx, dw, refBuf(t, d, g...), refBuf(t, d, x...), refBuf(t, d, w...), rstd, rows, width)
		checkGradient(t, "dx", refVals(d, dx), x, loss)
		checkGradient(t, "dweight", refVals(d, dw), w, loss)
	})
	t.Run("swiglu", func(t *testing.T) {
		const rows, width = 2, 4
		x, g := wave(2*rows*width, 3), wave(rows*width, 4)
		out := refBuf(t, d, make([]float64, rows*width)...)
		loss := func() float64 {
			d.SwiGLU(out, refBuf(t, d, x...), rows, width)
			return weighted(refVals(d, out), g)
		}
		dx := refBuf(t, d, x...)
		d.SwiGLUBackward(dx, refBuf(t, d, g...), dx, rows, width)
		checkGradient(t, "dgateUp", refVals(d, dx), x, loss)
	})
	t.Run("attention", func(t *testing.T) {
		s := kernels.AttentionShape{Batch: 2, Seq: 5, Heads: 4, KVHeads: 2, HeadDim: 2}
		x, g := wave(s.Rows()*s.QKVWidth(), 5), wave(s.Rows()*s.OutWidth(), 6)
		out, lse := refBuf(t, d, make([]float64, len(g))...), refBuf(t, d, make([]float64, s.Rows()*s.Heads)...)
		loss := func() float64 {
			d.Attention(out, lse, refBuf(t, d, x...), s)
			return weighted(refVals(d, out), g)
		}
		loss()
		dx, delta := refBuf(t, d, x...), refBuf(t, d, make([]float64, s.Rows()*s.Heads)...)
		d.AttentionBackward(dx, delta, refBuf(t, d, g...), out, lse, refBuf(t, d, x...), s)
		checkGradient(t, "dqkv", refVals(d, dx), x, loss)
	})
	t.Run("rope", func(t *testing.T) {
		s := kernels.AttentionShape{Batch: 1, Seq: 3, Heads: 2, KVHeads: 1, HeadDim: 4}
		x, g := wave(s.Rows()*s.QKVWidth(), 7), wave(s.Rows()*s.QKVWidth(), 8)
		var cos, sin []float64
		for i := range s.Seq * s.HeadDim / 2 {
			cos, sin = append(cos, math.Cos(float64(i))), append(sin, math.Sin(float64(i)))
		}
		c, sn := refBuf(t, d, cos...), refBuf(t, d, sin...)
		loss := func() float64 {
			out := refBuf(t, d, x...)
			d.RoPE(out, c, sn, s, false)
			return weighted(refVals(d, out), g)
		}
		dx := refBuf(t, d, g...)
		d.RoPE(dx, c, sn, s, true)
		checkGradient(t, "dqkv", refVals(d, dx), x, loss)
	})
}

func checkGradient(t *testing.T, what string, grad, x []float64, loss func() float64) {
	t.Helper()
	for i := range x {
		want := difference(x, i, loss)
		if !(math.Abs(grad[i]-want) <= 1e-8) {
			t.Errorf("%s[%d] = %v, central difference %v", what, i, grad[i], want)
		}
	}
}
