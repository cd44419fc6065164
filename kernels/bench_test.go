package kernels_test

import (
	"fmt"
	"slices"
	"testing"

	"loco/kernels"
)

// benchBuffer returns n values in (−1, 1).
func benchBuffer(b *testing.B, d kernels.Device, n int) kernels.Buffer {
	b.Helper()
	buffer, err := d.Alloc(n)
	if err != nil {
		b.Fatal(err)
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i*7919%2003)/1001 - 1
	}
	d.Upload(buffer, v)
	return buffer
}

// eachThreads runs f on one thread and on two.
func eachThreads(b *testing.B, name string, f func(b *testing.B, d *kernels.CPU, threads int)) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("%s/threads=%d", name, threads), func(b *testing.B) {
			d := cpu(b, threads)
			defer d.Close()
			f(b, d, threads)
		})
	}
}

// rate runs f as the benchmark and reports its best time and rate, and the median of
// its rates as a share of the fused multiply-adds that the threads could do, which are
// measured before each call, because a processor's clock changes.
func rate(b *testing.B, d *kernels.CPU, threads int, flop float64, f func()) {
	f() // grows the scratch memory
	best := kernels.BestTime(3, f)
	var shares []float64
	for b.Loop() {
		peak := d.Peak() * float64(threads)
		took := kernels.BestTime(1, f)
		best = min(best, took)
		if peak > 0 {
			shares = append(shares, flop/took.Seconds()/1e9/peak)
		}
	}
	b.ReportMetric(flop/best.Seconds()/1e9, "best-GFLOP/s")
	b.ReportMetric(best.Seconds()*1e3, "best-ms")
	if len(shares) > 0 {
		slices.Sort(shares)
		b.ReportMetric(100*shares[len(shares)/2], "%peak")
	}
}

// BenchmarkMatMul runs the three forms of a training step on linear layers of rows
// positions, in inputs and out outputs: forward, the input's and the weight's gradient.
func BenchmarkMatMul(b *testing.B) {
	for _, s := range []struct{ rows, in, out int }{
		{512, 64, 256}, {1024, 128, 384}, {1024, 256, 256}, {2048, 256, 768},
		{1024, 1024, 1024}, {2048, 768, 768}, {2048, 768, 3072},
	} {
		name := fmt.Sprintf("%dx%dx%d", s.rows, s.in, s.out)
		run := func(form string, m, n, k int, transA, transB, accumulate bool) {
			eachThreads(b, name+"/"+form, func(b *testing.B, d *kernels.CPU, threads int) {
				c, x, y := benchBuffer(b, d, m*n), benchBuffer(b, d, m*k), benchBuffer(b, d, k*n)
				rate(b, d, threads, 2*float64(m)*float64(n)*float64(k), func() {
					d.MatMul(c, x, y, m, n, k, transA, transB, accumulate)
				})
			})
		}
		run("forward", s.rows, s.out, s.in, false, true, false)
		run("dX", s.rows, s.in, s.out, false, false, false)
		run("dW", s.out, s.in, s.rows, true, false, true)
	}
}

func BenchmarkAttention(b *testing.B) {
	for _, s := range []kernels.AttentionShape{
		{Batch: 8, Seq: 128, Heads: 4, KVHeads: 2, HeadDim: 32},
		{Batch: 8, Seq: 128, Heads: 8, KVHeads: 8, HeadDim: 16},
		{Batch: 2, Seq: 512, Heads: 4, KVHeads: 4, HeadDim: 64},
	} {
		name := fmt.Sprintf("B%dT%dH%dKV%dD%d", s.Batch, s.Seq, s.Heads, s.KVHeads, s.HeadDim)
		// Scores and values of the causal half; backward has five products for two.
		flop := 2 * float64(s.Rows()) * float64(s.Seq+1) * float64(s.Heads*s.HeadDim)
		eachThreads(b, name+"/forward", func(b *testing.B, d *kernels.CPU, threads int) {
			out, lse := benchBuffer(b, d, s.Rows()*s.OutWidth()), benchBuffer(b, d, s.Rows()*s.Heads)
			qkv := benchBuffer(b, d, s.Rows()*s.QKVWidth())
			rate(b, d, threads, flop, func() { d.Attention(out, lse, qkv, s) })
		})
		eachThreads(b, name+"/backward", func(b *testing.B, d *kernels.CPU, threads int) {
			out, lse := benchBuffer(b, d, s.Rows()*s.OutWidth()), benchBuffer(b, d, s.Rows()*s.Heads)
			qkv, dqkv := benchBuffer(b, d, s.Rows()*s.QKVWidth()), benchBuffer(b, d, s.Rows()*s.QKVWidth())
			delta, dout := benchBuffer(b, d, s.Rows()*s.Heads), benchBuffer(b, d, s.Rows()*s.OutWidth())
			d.Attention(out, lse, qkv, s)
			rate(b, d, threads, 2.5*flop, func() { d.AttentionBackward(dqkv, delta, dout, out, lse, qkv, s) })
		})
	}
}

// each runs f, which treats n values of size bytes, as the benchmark and reports the
// shortest of its times for one value, and the bytes in that time.
func each(b *testing.B, n, size int, f func()) {
	f()
	best := kernels.BestTime(3, f)
	for b.Loop() {
		best = min(best, kernels.BestTime(1, f))
	}
	b.ReportMetric(best.Seconds()*1e9/float64(n), "best-ns/value")
	b.ReportMetric(float64(n)*float64(size)/best.Seconds()/1e9, "best-GB/s")
}

func BenchmarkLayers(b *testing.B) {
	const rows, width = 1024, 256
	n := rows * width
	eachThreads(b, "RMSNorm", func(b *testing.B, d *kernels.CPU, threads int) {
		out, rstd, x, w := benchBuffer(b, d, n), benchBuffer(b, d, rows), benchBuffer(b, d, n), benchBuffer(b, d, width)
		each(b, n, 8, func() { d.RMSNorm(out, rstd, x, w, rows, width, 1e-5) })
	})
	eachThreads(b, "RMSNormBackward", func(b *testing.B, d *kernels.CPU, threads int) {
		dx, rstd, x, w := benchBuffer(b, d, n), benchBuffer(b, d, rows), benchBuffer(b, d, n), benchBuffer(b, d, width)
		dw := benchBuffer(b, d, width)
		each(b, n, 20, func() {
			d.Zero(dx)
			d.RMSNormBackward(dx, dw, x, x, w, rstd, rows, width)
		})
	})
	eachThreads(b, "RoPE", func(b *testing.B, d *kernels.CPU, threads int) {
		s := kernels.AttentionShape{Batch: 8, Seq: 128, Heads: 4, KVHeads: 2, HeadDim: 32}
		qkv, angles := benchBuffer(b, d, n), benchBuffer(b, d, 128*16)
		each(b, n, 8, func() { d.RoPE(qkv, angles, angles, s, false) })
	})
	eachThreads(b, "SwiGLU", func(b *testing.B, d *kernels.CPU, threads int) {
		out, gateUp := benchBuffer(b, d, n), benchBuffer(b, d, 2*n)
		each(b, n, 12, func() { d.SwiGLU(out, gateUp, rows, width) })
	})
	eachThreads(b, "SwiGLUBackward", func(b *testing.B, d *kernels.CPU, threads int) {
		dgateUp, dout, gateUp := benchBuffer(b, d, 2*n), benchBuffer(b, d, n), benchBuffer(b, d, 2*n)
		each(b, n, 20, func() { d.SwiGLUBackward(dgateUp, dout, gateUp, rows, width) })
	})
	eachThreads(b, "CrossEntropy", func(b *testing.B, d *kernels.CPU, threads int) {
		losses, logits := benchBuffer(b, d, rows), benchBuffer(b, d, n)
		targets, err := d.AllocTokens(rows)
		if err != nil {
			b.Fatal(err)
		}
		each(b, n, 8, func() { d.CrossEntropy(losses, logits, targets, 0, rows, width, 1) })
	})
}

func BenchmarkVectors(b *testing.B) {
	const n = 1 << 20
	eachThreads(b, "AdamW", func(b *testing.B, d *kernels.CPU, threads int) {
		p, g, m, v := benchBuffer(b, d, n), benchBuffer(b, d, n), benchBuffer(b, d, n), benchBuffer(b, d, n)
		step := kernels.AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 1, Correction2: 1, GradScale: 1}
		d.Zero(v)
		each(b, n, 28, func() { d.AdamW(p, g, m, v, step) })
	})
	eachThreads(b, "SquaredNorm", func(b *testing.B, d *kernels.CPU, threads int) {
		x := benchBuffer(b, d, n)
		each(b, n, 4, func() { d.SquaredNorm(x) })
	})
	eachThreads(b, "Add", func(b *testing.B, d *kernels.CPU, threads int) {
		x, y := benchBuffer(b, d, n), benchBuffer(b, d, n)
		each(b, n, 12, func() { d.Add(x, y) })
	})
}
