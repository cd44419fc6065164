package bench

import (
	"fmt"

	"loco/kernels"
)

// linearCases are the three products of a linear layer, forward y = x·Wᵀ, the input's
// gradient dX = dY·W, and the weight's, dW = dYᵀ·X as the first micro-batch of a step begins it; and
// the first two as training runs them, on a weight that is packed already.
func linearCases(l Linear) []Case {
	shape := fmt.Sprintf("%dx%dx%d", l.Rows, l.Out, l.In)
	return []Case{
		weightCase("linear forward", shape, l, func(d kernels.Device, x, y kernels.Buffer, w kernels.Weight) {
			d.Project(y, x, w, l.Rows)
		}),
		weightCase("linear dX", shape, l, func(d kernels.Device, x, y kernels.Buffer, w kernels.Weight) {
			d.LinearBackward(x, y, w, l.Rows)
		}),
		productCase("matmul forward", shape, l.Rows, l.Out, l.In, false, true, false),
		productCase("matmul dX", shape, l.Rows, l.In, l.Out, false, false, false),
		productCase("matmul dW", shape, l.Out, l.In, l.Rows, true, false, false),
	}
}

func weightCase(kernel, shape string, l Linear, run func(d kernels.Device, x, y kernels.Buffer, w kernels.Weight)) Case {
	return Case{
		Kernel: kernel, Shape: shape, Limit: multiplications(),
		Work:   2 * float64(l.Rows) * float64(l.Out) * float64(l.In),
		Memory: 4*int64(l.Rows*(l.In+l.Out)+l.Out*l.In) + kernels.WeightBytes(l.Out, l.In, true),
		Setup: func(dev kernels.Device) (func(), error) {
			o := operands{dev: dev}
			x, y, params := o.values(l.Rows*l.In), o.values(l.Rows*l.Out), o.values(l.Out*l.In)
			if o.err != nil {
				return nil, o.err
			}
			w, err := dev.NewWeight(params, l.Out, l.In, true)
			if err != nil {
				return nil, err
			}
			return func() { run(dev, x, y, w) }, nil
		},
	}
}

func productCase(kernel, shape string, m, n, k int, transA, transB, accumulate bool) Case {
	return Case{
		Kernel: kernel, Shape: shape, Limit: multiplications(),
		Work:   2 * float64(m) * float64(n) * float64(k),
		Memory: 4 * int64(m*n+m*k+k*n),
		Setup: func(dev kernels.Device) (func(), error) {
			o := operands{dev: dev}
			c, a, b := o.values(m*n), o.values(m*k), o.values(k*n)
			return func() { dev.MatMul(c, a, b, m, n, k, transA, transB, accumulate) }, o.err
		},
	}
}

// attentionCases are both passes of causal attention.
func attentionCases(s kernels.AttentionShape) []Case {
	shape := fmt.Sprintf("B%d T%d H%d/%d D%d", s.Batch, s.Seq, s.Heads, s.KVHeads, s.HeadDim)
	// Scores and values of the causal half; backward has five products for two.
	work := 2 * float64(s.Rows()) * float64(s.Seq+1) * float64(s.OutWidth())
	out, lse, qkv := s.Rows()*s.OutWidth(), s.Rows()*s.Heads, s.Rows()*s.QKVWidth()
	forward := Case{
		Kernel: "attention forward", Shape: shape, Limit: fma(), Work: work, Memory: 4 * int64(out+lse+qkv),
		Setup: func(dev kernels.Device) (func(), error) {
			o := operands{dev: dev}
			out, lse, qkv := o.values(out), o.values(lse), o.values(qkv)
			return func() { dev.Attention(out, lse, qkv, s) }, o.err
		},
	}
	backward := Case{
		Kernel: "attention backward", Shape: shape, Limit: fma(), Work: 2.5 * work, Memory: 4 * int64(2*out+2*lse+2*qkv),
		Setup: func(dev kernels.Device) (func(), error) {
			o := operands{dev: dev}
			dqkv, delta, dout := o.values(qkv), o.values(lse), o.values(out)
			out, lse, qkv := o.values(out), o.values(lse), o.values(qkv)
			if o.err != nil {
				return nil, o.err
			}
			dev.Attention(out, lse, qkv, s)
			return func() { dev.AttentionBackward(dqkv, delta, dout, out, lse, qkv, s) }, nil
		},
	}
	return []Case{forward, backward}
}
