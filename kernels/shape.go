package kernels

// The checks that every device makes: they panic, as the package comment says, naming the
// operation and both sizes. ids are the tokens' on the host.

import (
	"fmt"
	"math"
)

// MaxAlloc is the number of float32 values, or tokens, above which an Alloc is
// taken for a mistake in a size rather than for a wish: 4 TiB of float32, or what a
// 32-bit machine can address.
const MaxAlloc = min(1<<40, math.MaxInt/16)

// CheckAlloc returns an error for a size that no device can have.
func CheckAlloc(what string, n int) error {
	if n < 0 || n > MaxAlloc {
		return fmt.Errorf("kernels: alloc of %d %s: the size must be 0 to %d; check the model's widths and batch", n, what, MaxAlloc)
	}
	return nil
}

// need panics unless an operand of an operation holds at least want values. A
// buffer may be larger than the shape: an operation works on its start.
func need(op, operand string, have, want int) {
	if have < want {
		panicShape(op, operand, have, want)
	}
}

// CheckSame panics unless two operands have one length.
func CheckSame(op, operand string, have, want int) {
	if have != want {
		panicShape(op, operand, have, want)
	}
}

// dim panics when a size of an operation is negative.
func dim(op, name string, n int) {
	if n < 0 {
		panic(fmt.Sprintf("kernels: %s: %s is %d, want 0 or more", op, name, n))
	}
}

func panicShape(op, operand string, have, want int) {
	panic(fmt.Sprintf("kernels: %s: %s has %d values, the shape needs %d", op, operand, have, want))
}

// PanicForeign panics because have, an operand of op, belongs to another device.
func PanicForeign(op string, have any) {
	panic(fmt.Sprintf("kernels: %s: operand of type %T belongs to another device", op, have))
}

// CheckMatMul is the check of MatMul.
func CheckMatMul(c, a, b Buffer, m, n, k int) {
	dim("matmul", "m", m)
	dim("matmul", "n", n)
	dim("matmul", "k", k)
	need("matmul", "c", c.Len(), m*n)
	need("matmul", "a", a.Len(), m*k)
	need("matmul", "b", b.Len(), k*n)
}

// CheckRMSNorm is the check of RMSNorm.
func CheckRMSNorm(out, rstd, x, weight Buffer, rows, width int) {
	dim("rmsnorm", "rows", rows)
	dim("rmsnorm", "width", width)
	need("rmsnorm", "out", out.Len(), rows*width)
	need("rmsnorm", "rstd", rstd.Len(), rows)
	need("rmsnorm", "x", x.Len(), rows*width)
	need("rmsnorm", "weight", weight.Len(), width)
}

// CheckRMSNormBackward is the check of RMSNormBackward.
func CheckRMSNormBackward(dx, dweight, dout, x, weight, rstd Buffer, rows, width int) {
	dim("rmsnorm backward", "rows", rows)
	dim("rmsnorm backward", "width", width)
	need("rmsnorm backward", "dx", dx.Len(), rows*width)
	need("rmsnorm backward", "dweight", dweight.Len(), width)
	need("rmsnorm backward", "dout", dout.Len(), rows*width)
	need("rmsnorm backward", "x", x.Len(), rows*width)
	need("rmsnorm backward", "weight", weight.Len(), width)
	need("rmsnorm backward", "rstd", rstd.Len(), rows)
}

// checkHeads panics on a shape that grouped-query attention cannot have.
func checkHeads(op string, s AttentionShape) {
	dim(op, "batch", s.Batch)
	dim(op, "seq", s.Seq)
	if s.KVHeads < 1 || s.Heads < 1 || s.Heads%s.KVHeads != 0 {
		panic(fmt.Sprintf("kernels: %s: %d heads are not a multiple of %d key-value heads", op, s.Heads, s.KVHeads))
	}
	if s.HeadDim < 1 {
		panic(fmt.Sprintf("kernels: %s: head dimension is %d, want 1 or more", op, s.HeadDim))
	}
}

// CheckRoPE is the check of RoPE.
func CheckRoPE(qkv, cos, sin Buffer, s AttentionShape) {
	checkHeads("rope", s)
	if s.HeadDim%2 != 0 {
		panic(fmt.Sprintf("kernels: rope: head dimension is %d, want an even number", s.HeadDim))
	}
	need("rope", "qkv", qkv.Len(), s.Rows()*s.QKVWidth())
	need("rope", "cos", cos.Len(), s.Seq*s.HeadDim/2)
	need("rope", "sin", sin.Len(), s.Seq*s.HeadDim/2)
}

// CheckAttention is the check of Attention.
func CheckAttention(out, lse, qkv Buffer, s AttentionShape) {
	checkHeads("attention", s)
	need("attention", "out", out.Len(), s.Rows()*s.OutWidth())
	need("attention", "lse", lse.Len(), s.Rows()*s.Heads)
	need("attention", "qkv", qkv.Len(), s.Rows()*s.QKVWidth())
}

// CheckAttentionBackward is the check of AttentionBackward.
func CheckAttentionBackward(dqkv, delta, dout, out, lse, qkv Buffer, s AttentionShape) {
	const op = "attention backward"
	checkHeads(op, s)
	need(op, "dqkv", dqkv.Len(), s.Rows()*s.QKVWidth())
	need(op, "delta", delta.Len(), s.Rows()*s.Heads)
	need(op, "dout", dout.Len(), s.Rows()*s.OutWidth())
	need(op, "out", out.Len(), s.Rows()*s.OutWidth())
	need(op, "lse", lse.Len(), s.Rows()*s.Heads)
	need(op, "qkv", qkv.Len(), s.Rows()*s.QKVWidth())
}

// CheckSwiGLU is the check of SwiGLU.
func CheckSwiGLU(out, gateUp Buffer, rows, width int) {
	dim("swiglu", "rows", rows)
	dim("swiglu", "width", width)
	need("swiglu", "out", out.Len(), rows*width)
	need("swiglu", "gateUp", gateUp.Len(), 2*rows*width)
}

// CheckSwiGLUBackward is the check of SwiGLUBackward.
func CheckSwiGLUBackward(dgateUp, dout, gateUp Buffer, rows, width int) {
	dim("swiglu backward", "rows", rows)
	dim("swiglu backward", "width", width)
	need("swiglu backward", "dgateUp", dgateUp.Len(), 2*rows*width)
	need("swiglu backward", "dout", dout.Len(), rows*width)
	need("swiglu backward", "gateUp", gateUp.Len(), 2*rows*width)
}

// CheckEmbedding also refuses an id outside the vocabulary, here on the caller's
// goroutine, where a panic names the caller.
func CheckEmbedding(op string, rows, table Buffer, ids []int32, vocab, width int) {
	dim(op, "vocab", vocab)
	dim(op, "width", width)
	need(op, "rows", rows.Len(), len(ids)*width)
	need(op, "table", table.Len(), vocab*width)
	for r, id := range ids {
		if id < 0 || int(id) >= vocab {
			panic(fmt.Sprintf("kernels: %s: token %d at position %d is outside the vocabulary of %d", op, id, r, vocab))
		}
	}
}

// CheckCrossEntropy is the check of CrossEntropy.
func CheckCrossEntropy(losses, logits Buffer, targets []int32, first, rows, vocab int) {
	const op = "cross-entropy"
	dim(op, "first", first)
	dim(op, "rows", rows)
	dim(op, "vocab", vocab)
	need(op, "losses", losses.Len(), first+rows)
	need(op, "targets", len(targets), first+rows)
	need(op, "logits", logits.Len(), rows*vocab)
	for r, id := range targets[first : first+rows] {
		if int(id) >= vocab {
			panic(fmt.Sprintf("kernels: %s: target %d at position %d is outside the vocabulary of %d", op, id, first+r, vocab))
		}
	}
}

// CheckAdamW is the check of AdamW.
func CheckAdamW(p, g, m, v Buffer) {
	CheckSame("adamw", "g", g.Len(), p.Len())
	CheckSame("adamw", "m", m.Len(), p.Len())
	CheckSame("adamw", "v", v.Len(), p.Len())
}

// CheckAxpby is the check of Axpby, and of AxpbSum where z is not nil.
func CheckAxpby(dst, x, y, z Buffer) {
	CheckSame("axpby", "x", x.Len(), dst.Len())
	CheckSame("axpby", "y", y.Len(), dst.Len())
	if z != nil {
		CheckSame("axpby", "z", z.Len(), dst.Len())
	}
}

// CheckLinear is the check of Linear.
func CheckLinear(op string, y, x Buffer, w Weight, residual Buffer, rows int) {
	dim(op, "rows", rows)
	out, in := w.Shape()
	need(op, "y", y.Len(), rows*out)
	need(op, "x", x.Len(), rows*in)
	if residual != nil {
		need(op, "residual", residual.Len(), rows*out)
	}
}

// CheckLinearSwiGLU is the check of LinearSwiGLU.
func CheckLinearSwiGLU(out, gateUp, x Buffer, w Weight, rows int) {
	const op = "linear swiglu"
	CheckLinear(op, gateUp, x, w, nil, rows)
	n, _ := w.Shape()
	if n%2 != 0 {
		panic(fmt.Sprintf("kernels: %s: the weight has %d outputs, want an even number", op, n))
	}
	need(op, "out", out.Len(), rows*n/2)
}

// CheckLinearBackward is the check of LinearBackward.
func CheckLinearBackward(dx, dy Buffer, w Weight, rows int) {
	const op = "linear backward"
	dim(op, "rows", rows)
	out, in := w.Shape()
	need(op, "dx", dx.Len(), rows*in)
	need(op, "dy", dy.Len(), rows*out)
}

// CheckUpdateWeight is the check of UpdateWeight on n parameters.
func CheckUpdateWeight(n int, g, m, v Buffer) {
	const op = "update weight"
	CheckSame(op, "g", g.Len(), n)
	CheckSame(op, "m", m.Len(), n)
	CheckSame(op, "v", v.Len(), n)
}

// CheckWeight returns an error for sizes that no weight has, and panics when the
// parameters do not fit them.
func CheckWeight(params Buffer, out, in int) error {
	if out < 1 || in < 1 {
		return fmt.Errorf("kernels: weight of %d outputs and %d inputs: want 1 or more of each", out, in)
	}
	need("weight", "params", params.Len(), out*in)
	return nil
}

// pieces is the number of pieces that n items make when each has size of them.
func pieces(n, size int) int { return (n + size - 1) / size }
