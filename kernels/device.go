// Package kernels is the contract of the devices that train: the operations of a Llama
// training step, and what a round between replicas does in a device's memory.
//
// [Device] is the seam between one CPU and one GPU: it owns memory, moves it to
// and from host slices, and runs whole operations on it. A model holds Buffers
// only, made once at start; no operation allocates during a step. [Exchanger] is
// what a round needs, [Peers] what the devices of one machine do together, and a
// [Format] is a layout of encoded values with the loops that define it.
//
// Package cpu computes on the machine's cores, package cuda on an NVIDIA GPU, and
// package reference in float64, which defines what each operation means. Package
// kerneltest compares a device with the reference.
//
// # Determinism
//
// The result of every operation is a function of its operands alone: it does not
// depend on the number of threads, nor on the width of the machine's vectors. Each
// output of a matmul, and of the products in attention, is one chain of fused
// multiply-adds over k in ascending order; every reduction has a fixed tree that its
// doc comment states; nothing else is fused.
//
// # Shapes and errors
//
// Tensors are dense, row-major float32. A shape that does not fit its buffers is a
// caller's bug and panics, naming the operation and both sizes. A buffer may be
// larger than an operation's shape, which then works on its start; the operations
// that take no shape (Copy, Add, AdamW, ...) need equal lengths.
package kernels

// A Buffer is a range of a device's float32 memory. It is meaningful only to the
// Device that made it.
type Buffer interface {
	// Len is the number of float32 values.
	Len() int
	// Slice returns the view [lo, hi) of the same memory. Make views at start: it
	// may allocate.
	Slice(lo, hi int) Buffer
}

// Tokens is device memory that holds token ids.
type Tokens interface{ Len() int }

// A Weight is the weight of a linear layer, (out, in) row-major in a buffer, together
// with the form in which a device multiplies with it: packed, or rounded to fewer
// bits. It follows its parameters: after anything that changes them through the
// device the next use makes that form anew.
type Weight interface {
	// Shape returns the sizes.
	Shape() (out, in int)
}

// AttentionShape describes grouped-query attention over packed projections:
// qkv is (Batch·Seq, (Heads + 2·KVHeads)·HeadDim), a row holding all query heads,
// then all key heads, then all value heads.
type AttentionShape struct {
	Batch, Seq, Heads, KVHeads, HeadDim int
}

// Rows is the number of positions, Batch·Seq.
func (s AttentionShape) Rows() int { return s.Batch * s.Seq }

// QKVWidth is the width of one row of qkv.
func (s AttentionShape) QKVWidth() int { return (s.Heads + 2*s.KVHeads) * s.HeadDim }

// OutWidth is the width of one row of attention's output.
func (s AttentionShape) OutWidth() int { return s.Heads * s.HeadDim }

// AdamWStep holds the scalars of one AdamW step (Loshchilov & Hutter, arXiv
// 1711.05101, Algorithm 2), already resolved for step number t.
type AdamWStep struct {
	LR, Beta1, Beta2, Eps float32
	WeightDecay           float32 // decoupled: p ← p − LR·WeightDecay·p
	Correction1           float32 // 1 − Beta1^t
	Correction2           float32 // 1 − Beta2^t
	GradScale             float32 // multiplies the gradient first (clipping)
}

// Device runs the operations of one training step.
//
// Operations are queued in the order of the calls; those that return a Go value
// (Download, SquaredNorm, Sum) wait for everything before them.
type Device interface {
	// Name says what computes: "reference", "cpu (2 threads, AVX2)".
	Name() string
	// Close gives back memory and threads. The device must not be used after it.
	Close() error

	// Alloc returns n zeroed float32 values. It fails when the memory is not there.
	Alloc(n int) (Buffer, error)
	// AllocTokens returns room for n token ids, all zero.
	AllocTokens(n int) (Tokens, error)
	// Upload copies src to the start of dst; len(src) must equal dst.Len().
	Upload(dst Buffer, src []float32)
	// Download copies src to dst; len(dst) must equal src.Len().
	Download(dst []float32, src Buffer)
	// UploadTokens copies src to dst; the lengths must be equal.
	UploadTokens(dst Tokens, src []int32)

	// Zero sets x to 0.
	Zero(x Buffer)
	// Copy sets dst to src.
	Copy(dst, src Buffer)
	// Add sets dst to dst + x.
	Add(dst, x Buffer)
	// Scale sets x to s·x.
	Scale(x Buffer, s float32)
	// Sum returns Σ x, added in float64 in the fixed tree of SquaredNorm.
	Sum(x Buffer) float64
	// SquaredNorm returns Σ x², in float64. Within each chunk of 4096 values, value i
	// goes to lane i mod 32, each lane adds in ascending order from 0, and the lanes
	// join by halves: lane l takes lane l+16, then l+8, l+4, l+2 and l+1. The chunks
	// are then added in ascending order.
	SquaredNorm(x Buffer) float64

	// MatMul sets c to op(a)·op(b), or adds to it if accumulate is set: c is (m, n),
	// op(a) is (m, k), op(b) is (k, n). With transA a is stored (k, m); with transB b
	// is stored (n, k), as the weight of a linear layer is: y = x·Wᵀ. Each output is one
	// chain of fused multiply-adds, s = a·b + s rounded once, over k in ascending
	// order from 0; with accumulate the finished chain is then added to c.
	MatMul(c, a, b Buffer, m, n, k int, transA, transB, accumulate bool)

	// NewWeight returns the weight of a linear layer whose parameters, (out, in), params
	// holds at its start. Without trained, LinearBackward and UpdateWeight must not be
	// called with it, which saves memory. It fails when the memory is not there.
	NewWeight(params Buffer, out, in int, trained bool) (Weight, error)
	// Linear sets y (rows, out) to x·Wᵀ, x (rows, in), and adds residual (rows, out)
	// unless that is nil; residual may be y. It computes what MatMul does with transB,
	// accumulating where there is a residual.
	Linear(y, x Buffer, w Weight, residual Buffer, rows int)
	// Project is Linear without residual, of what only RoPE and Attention read: a device
	// that rounds their operands may round y.
	Project(y, x Buffer, w Weight, rows int)
	// LinearSwiGLU sets gateUp (rows, 2·width) to x·Wᵀ, where w holds the gate's width
	// outputs and then up's, and out (rows, width) to SwiGLU of it.
	LinearSwiGLU(out, gateUp, x Buffer, w Weight, rows int)
	// LinearBackward sets dx (rows, in) to dy·W, dy (rows, out). The weight's own
	// gradient is dyᵀ·x: MatMul with transA.
	LinearBackward(dx, dy Buffer, w Weight, rows int)
	// UpdateWeight is AdamW on a weight's parameters; g, m and v are (out, in).
	UpdateWeight(w Weight, g, m, v Buffer, step AdamWStep)

	// RMSNorm sets out = x·rstd·weight for each of rows rows of width values, with
	// rstd = 1/sqrt(mean(x²) + eps), which is kept in rstd (rows) for the backward
	// pass (Zhang & Sennrich, arXiv 1910.07467, eq. 4).
	RMSNorm(out, rstd, x, weight Buffer, rows, width int, eps float32)
	// RMSNormBackward adds to dx (rows, width) and to dweight (width) the gradients
	// that follow from dout (rows, width). dweight sums rows in ascending order
	// within fixed blocks of 64 rows, then the blocks in ascending order.
	RMSNormBackward(dx, dweight, dout, x, weight, rstd Buffer, rows, width int)

	// RoPE rotates the query and key heads of qkv in place (Su et al., arXiv
	// 2104.09864, eq. 34), pairing value i of a head with i + HeadDim/2 as Llama's
	// published weights do. cos and sin are (≥ Seq, HeadDim/2). With inverse it
	// rotates back, which is the backward pass.
	RoPE(qkv, cos, sin Buffer, s AttentionShape, inverse bool)
	// Attention sets out (B·T, Heads·HeadDim) to causal softmax(q·kᵀ/√HeadDim)·v,
	// where query head h reads key-value head h·KVHeads/Heads, and lse (B, Heads, T)
	// to each row's log-sum-exp of the scaled scores. Memory is linear in T: the
	// scores are never stored for a whole sequence.
	Attention(out, lse, qkv Buffer, s AttentionShape)
	// AttentionBackward sets dqkv (like qkv) from dout, recomputing the
	// probabilities from lse. delta (B, Heads, T) is scratch.
	AttentionBackward(dqkv, delta, dout, out, lse, qkv Buffer, s AttentionShape)

	// SwiGLU sets out (rows, width) = silu(gate)·up, a row of gateUp (rows, 2·width)
	// holding the gate's width values and then up's (Shazeer, arXiv 2002.05202).
	SwiGLU(out, gateUp Buffer, rows, width int)
	// SwiGLUBackward sets dgateUp from dout (rows, width). dgateUp may be gateUp.
	SwiGLUBackward(dgateUp, dout, gateUp Buffer, rows, width int)

	// Embedding sets row r of out (tokens, width) to row tokens[r] of table.
	Embedding(out, table Buffer, tokens Tokens, vocab, width int)
	// EmbeddingBackward adds row r of dout to row tokens[r] of dtable, r ascending.
	EmbeddingBackward(dtable, dout Buffer, tokens Tokens, vocab, width int)

	// CrossEntropy sets losses[first+r] to −log softmax(logits_r)[targets[first+r]]
	// for each of rows rows, and replaces logits (rows, vocab) by
	// scale·(softmax − onehot), the gradient of scale·Σ loss. A caller works through
	// a batch in chunks of rows so that the logits of a whole batch never exist. A
	// negative target is ignored: loss 0, gradient 0.
	CrossEntropy(losses, logits Buffer, targets Tokens, first, rows, vocab int, scale float32)

	// AdamW updates p, m and v from g, all of one length, in this order of float32
	// operations: g' = g·GradScale; m = Beta1·m + (1−Beta1)·g';
	// v = Beta2·v + (1−Beta2)·g'²; p = p − LR·WeightDecay·p;
	// p = p − LR·(m/Correction1)/(sqrt(v/Correction2) + Eps).
	AdamW(p, g, m, v Buffer, step AdamWStep)
}
