package kernels_test

import (
	"fmt"
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
func eachThreads(b *testing.B, name string, f func(b *testing.B, d kernels.Device)) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("%s/threads=%d", name, threads), func(b *testing.B) {
			d := cpu(b, threads)
			defer d.Close()
			f(b, d)
		})
	}
}

func gflops(b *testing.B, flop float64) {
	b.ReportMetric(flop*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

// BenchmarkMatMul runs the three forms of a training step on linear layers of rows
// positions, in inputs and out outputs: forward, the input's and the weight's gradient.
func BenchmarkMatMul(b *testing.B) {
	for _, s := range []struct{ rows, in, out int }{{512, 64, 256}, {1024, 128, 384}, {2048, 256, 768}} {
		name := fmt.Sprintf("%dx%dx%d", s.rows, s.in, s.out)
		run := func(form string, m, n, k int, transA, transB, accumulate bool) {
			eachThreads(b, name+"/"+form, func(b *testing.B, d kernels.Device) {
				c, x, y := benchBuffer(b, d, m*n), benchBuffer(b, d, m*k), benchBuffer(b, d, k*n)
				for b.Loop() {
					d.MatMul(c, x, y, m, n, k, transA, transB, accumulate)
				}
				gflops(b, 2*float64(m)*float64(n)*float64(k))
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
		eachThreads(b, name+"/forward", func(b *testing.B, d kernels.Device) {
			out, lse := benchBuffer(b, d, s.Rows()*s.OutWidth()), benchBuffer(b, d, s.Rows()*s.Heads)
			qkv := benchBuffer(b, d, s.Rows()*s.QKVWidth())
			for b.Loop() {
				d.Attention(out, lse, qkv, s)
			}
			gflops(b, flop)
		})
		eachThreads(b, name+"/backward", func(b *testing.B, d kernels.Device) {
			out, lse := benchBuffer(b, d, s.Rows()*s.OutWidth()), benchBuffer(b, d, s.Rows()*s.Heads)
			qkv, dqkv := benchBuffer(b, d, s.Rows()*s.QKVWidth()), benchBuffer(b, d, s.Rows()*s.QKVWidth())
			delta, dout := benchBuffer(b, d, s.Rows()*s.Heads), benchBuffer(b, d, s.Rows()*s.OutWidth())
			d.Attention(out, lse, qkv, s)
			for b.Loop() {
				d.AttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
			}
			gflops(b, 2.5*flop)
		})
	}
}

// perValue reports the time of one value.
func perValue(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/value")
}

func BenchmarkLayers(b *testing.B) {
	const rows, width = 1024, 256
	n := rows * width
	eachThreads(b, "RMSNorm", func(b *testing.B, d kernels.Device) {
		out, rstd, x, w := benchBuffer(b, d, n), benchBuffer(b, d, rows), benchBuffer(b, d, n), benchBuffer(b, d, width)
		for b.Loop() {
			d.RMSNorm(out, rstd, x, w, rows, width, 1e-5)
		}
		perValue(b, n)
	})
	eachThreads(b, "RMSNormBackward", func(b *testing.B, d kernels.Device) {
		dx, rstd, x, w := benchBuffer(b, d, n), benchBuffer(b, d, rows), benchBuffer(b, d, n), benchBuffer(b, d, width)
		dw := benchBuffer(b, d, width)
		for b.Loop() {
			d.Zero(dx)
			d.RMSNormBackward(dx, dw, x, x, w, rstd, rows, width)
		}
		perValue(b, n)
	})
	eachThreads(b, "RoPE", func(b *testing.B, d kernels.Device) {
		s := kernels.AttentionShape{Batch: 8, Seq: 128, Heads: 4, KVHeads: 2, HeadDim: 32}
		qkv, angles := benchBuffer(b, d, n), benchBuffer(b, d, 128*16)
		for b.Loop() {
			d.RoPE(qkv, angles, angles, s, false)
		}
		perValue(b, n)
	})
	eachThreads(b, "SwiGLU", func(b *testing.B, d kernels.Device) {
		out, gateUp := benchBuffer(b, d, n), benchBuffer(b, d, 2*n)
		for b.Loop() {
			d.SwiGLU(out, gateUp, rows, width)
		}
		perValue(b, n)
	})
	eachThreads(b, "SwiGLUBackward", func(b *testing.B, d kernels.Device) {
		dgateUp, dout, gateUp := benchBuffer(b, d, 2*n), benchBuffer(b, d, n), benchBuffer(b, d, 2*n)
		for b.Loop() {
			d.SwiGLUBackward(dgateUp, dout, gateUp, rows, width)
		}
		perValue(b, n)
	})
	eachThreads(b, "CrossEntropy", func(b *testing.B, d kernels.Device) {
		losses, logits := benchBuffer(b, d, rows), benchBuffer(b, d, n)
		targets, err := d.AllocTokens(rows)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			d.CrossEntropy(losses, logits, targets, 0, rows, width, 1)
		}
		perValue(b, n)
	})
}

func BenchmarkVectors(b *testing.B) {
	const n = 1 << 20
	eachThreads(b, "AdamW", func(b *testing.B, d kernels.Device) {
		p, g, m, v := benchBuffer(b, d, n), benchBuffer(b, d, n), benchBuffer(b, d, n), benchBuffer(b, d, n)
		step := kernels.AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 1, Correction2: 1, GradScale: 1}
		d.Zero(v)
		for b.Loop() {
			d.AdamW(p, g, m, v, step)
		}
		b.SetBytes(28 * n)
		perValue(b, n)
	})
	eachThreads(b, "SquaredNorm", func(b *testing.B, d kernels.Device) {
		x := benchBuffer(b, d, n)
		for b.Loop() {
			d.SquaredNorm(x)
		}
		b.SetBytes(4 * n)
		perValue(b, n)
	})
	eachThreads(b, "Add", func(b *testing.B, d kernels.Device) {
		x, y := benchBuffer(b, d, n), benchBuffer(b, d, n)
		for b.Loop() {
			d.Add(x, y)
		}
		b.SetBytes(12 * n)
		perValue(b, n)
	})
}
