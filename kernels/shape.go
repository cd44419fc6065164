package kernels

import (
	"fmt"
	"math"
)

// maxAlloc is the number of float32 values, or tokens, above which an Alloc is
// taken for a mistake in a size rather than for a wish: 4 TiB of float32, or what a
// 32-bit machine can address.
const maxAlloc = min(1<<40, math.MaxInt/16)

// checkAlloc returns an error for a size that no device can have.
func checkAlloc(what string, n int) error {
	if n < 0 || n > maxAlloc {
		return fmt.Errorf("kernels: alloc of %d %s: the size must be 0 to %d; check the model's widths and batch", n, what, maxAlloc)
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

// same panics unless two operands have one length.
func same(op, operand string, have, want int) {
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

func panicForeign(op string, have any) {
	panic(fmt.Sprintf("kernels: %s: operand of type %T belongs to another device", op, have))
}

func checkMatMul(c, a, b Buffer, m, n, k int) {
	dim("matmul", "m", m)
	dim("matmul", "n", n)
	dim("matmul", "k", k)
	need("matmul", "c", c.Len(), m*n)
	need("matmul", "a", a.Len(), m*k)
	need("matmul", "b", b.Len(), k*n)
}

func checkRMSNorm(out, rstd, x, weight Buffer, rows, width int) {
	dim("rmsnorm", "rows", rows)
	dim("rmsnorm", "width", width)
	need("rmsnorm", "out", out.Len(), rows*width)
	need("rmsnorm", "rstd", rstd.Len(), rows)
	need("rmsnorm", "x", x.Len(), rows*width)
	need("rmsnorm", "weight", weight.Len(), width)
}

func checkRMSNormBackward(dx, dweight, dout, x, weight, rstd Buffer, rows, width int) {
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

func checkRoPE(qkv, cos, sin Buffer, s AttentionShape) {
	checkHeads("rope", s)
	if s.HeadDim%2 != 0 {
		panic(fmt.Sprintf("kernels: rope: head dimension is %d, want an even number", s.HeadDim))
	}
	need("rope", "qkv", qkv.Len(), s.Rows()*s.QKVWidth())
	need("rope", "cos", cos.Len(), s.Seq*s.HeadDim/2)
	need("rope", "sin", sin.Len(), s.Seq*s.HeadDim/2)
}

func checkAttention(out, lse, qkv Buffer, s AttentionShape) {
	checkHeads("attention", s)
	need("attention", "out", out.Len(), s.Rows()*s.OutWidth())
	need("attention", "lse", lse.Len(), s.Rows()*s.Heads)
	need("attention", "qkv", qkv.Len(), s.Rows()*s.QKVWidth())
}

func checkAttentionBackward(dqkv, delta, dout, out, lse, qkv Buffer, s AttentionShape) {
	const op = "attention backward"
	checkHeads(op, s)
	need(op, "dqkv", dqkv.Len(), s.Rows()*s.QKVWidth())
	need(op, "delta", delta.Len(), s.Rows()*s.Heads)
	need(op, "dout", dout.Len(), s.Rows()*s.OutWidth())
	need(op, "out", out.Len(), s.Rows()*s.OutWidth())
	need(op, "lse", lse.Len(), s.Rows()*s.Heads)
	need(op, "qkv", qkv.Len(), s.Rows()*s.QKVWidth())
}

func checkSwiGLU(out, gateUp Buffer, rows, width int) {
	dim("swiglu", "rows", rows)
	dim("swiglu", "width", width)
	need("swiglu", "out", out.Len(), rows*width)
	need("swiglu", "gateUp", gateUp.Len(), 2*rows*width)
}

func checkSwiGLUBackward(dgateUp, dout, gateUp Buffer, rows, width int) {
	dim("swiglu backward", "rows", rows)
	dim("swiglu backward", "width", width)
	need("swiglu backward", "dgateUp", dgateUp.Len(), 2*rows*width)
	need("swiglu backward", "dout", dout.Len(), rows*width)
	need("swiglu backward", "gateUp", gateUp.Len(), 2*rows*width)
}

// checkEmbedding also refuses an id outside the vocabulary, here on the caller's
// goroutine, where a panic names the caller.
func checkEmbedding(op string, rows, table Buffer, ids []int32, vocab, width int) {
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

func checkCrossEntropy(losses, logits Buffer, targets []int32, first, rows, vocab int) {
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

func checkAdamW(p, g, m, v Buffer) {
	same("adamw", "g", g.Len(), p.Len())
	same("adamw", "m", m.Len(), p.Len())
	same("adamw", "v", v.Len(), p.Len())
}

func checkAxpby(dst, x, y, z Buffer) {
	same("axpby", "x", x.Len(), dst.Len())
	same("axpby", "y", y.Len(), dst.Len())
	if z != nil {
		same("axpby", "z", z.Len(), dst.Len())
	}
}

func checkLinear(op string, y, x Buffer, w Weight, residual Buffer, rows int) {
	dim(op, "rows", rows)
	out, in := w.Shape()
	need(op, "y", y.Len(), rows*out)
	need(op, "x", x.Len(), rows*in)
	if residual != nil {
		need(op, "residual", residual.Len(), rows*out)
	}
}

func checkLinearSwiGLU(out, gateUp, x Buffer, w Weight, rows int) {
	const op = "linear swiglu"
	checkLinear(op, gateUp, x, w, nil, rows)
	n, _ := w.Shape()
	if n%2 != 0 {
		panic(fmt.Sprintf("kernels: %s: the weight has %d outputs, want an even number", op, n))
	}
	need(op, "out", out.Len(), rows*n/2)
}

func checkLinearBackward(dx, dy Buffer, w Weight, rows int) {
	const op = "linear backward"
	dim(op, "rows", rows)
	out, in := w.Shape()
	need(op, "dx", dx.Len(), rows*in)
	need(op, "dy", dy.Len(), rows*out)
}

func checkUpdateWeight(n int, g, m, v Buffer) {
	const op = "update weight"
	same(op, "g", g.Len(), n)
	same(op, "m", m.Len(), n)
	same(op, "v", v.Len(), n)
}

// checkWeight returns an error for sizes that no weight has, and panics when the
// parameters do not fit them.
func checkWeight(params Buffer, out, in int) error {
	if out < 1 || in < 1 {
		return fmt.Errorf("kernels: weight of %d outputs and %d inputs: want 1 or more of each", out, in)
	}
	need("weight", "params", params.Len(), out*in)
	return nil
}
