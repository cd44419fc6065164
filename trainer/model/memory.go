package model

import (
	"fmt"
	"math"

	"loco/kernels"
)

// Memory is what a model takes on its device, in bytes.
type Memory struct {
	Parameters  int64
	Packed      int64 // at most: the forms of weights that a CPU multiplies with
	Gradients   int64
	Moments     int64 // AdamW's two
	Activations int64 // kept from forward to backward, and the scratch of both
	Head        int64 // logits and the head's own scratch

	operands int64 // of the two: what only products and attention read
	both     int64 // what they read and others too
}

// Total is the sum of the parts.
func (m Memory) Total() int64 {
	return m.Parameters + m.Packed + m.Gradients + m.Moments + m.Activations + m.Head
}

// Halves is what a device takes that reads the operands of products and of attention as bf16: those
// take 2 bytes a value instead of 4, and what others read too, as the parameters, 2 besides. It has
// no packed weights.
func (m Memory) Halves() int64 {
	return m.Total() - m.Packed - m.operands/2 + m.both/2 + m.Parameters/2
}

// Memory returns what a trained model takes with microBatch sequences of Context
// tokens. It runs the allocation of New without a device, so it is exact but for
// Packed. Both the configuration and microBatch must be ones that New accepts.
func (c Config) Memory(microBatch int) Memory {
	return build(&allocator{}, c, microBatch, true).memory
}

// InferenceMemory is Memory for NewInference.
func (c Config) InferenceMemory(batch int) Memory {
	return build(&allocator{}, c, batch, false).memory
}

// rowsMax bounds the positions of one micro-batch.
const rowsMax = 1 << 24

func (c Config) validateBatch(batch int) error {
	if batch < 1 || batch > microBatchMax {
		return fmt.Errorf("model: micro-batch = %d, allowed are 1 to %d", batch, microBatchMax)
	}
	if rows := int64(batch) * int64(c.Context); rows > rowsMax {
		return fmt.Errorf("model: micro-batch = %d of context = %d is %d positions, at most %d are allowed: train several micro-batches a step instead", batch, c.Context, rows, rowsMax)
	}
	return nil
}

// allocator takes memory from a device, or only counts where there is none. After
// the first error it takes no more.
type allocator struct {
	dev            kernels.Device
	bytes          int64
	operands, both int64 // of bytes
	err            error
}

// floats returns n zeroed values. Every value takes four bytes.
func (a *allocator) floats(sizes ...int) kernels.Buffer {
	n := a.count(sizes)
	if a.dev == nil || a.err != nil {
		return nil
	}
	b, err := a.dev.Alloc(int(n))
	if err != nil {
		a.err = fmt.Errorf("model: %d bytes after %d: %w", 4*n, a.bytes-4*n, err)
	}
	return b
}

// operand is floats that only products and attention read, shared floats that others read too.
func (a *allocator) operand(sizes ...int) kernels.Buffer {
	mark := a.bytes
	b := a.floats(sizes...)
	a.operands += a.since(mark)
	return b
}

func (a *allocator) shared(sizes ...int) kernels.Buffer {
	mark := a.bytes
	b := a.floats(sizes...)
	a.both += a.since(mark)
	return b
}

// tokens returns room for n token ids of four bytes.
func (a *allocator) tokens(n int) kernels.Tokens {
	a.count([]int{n})
	if a.dev == nil || a.err != nil {
		return nil
	}
	t, err := a.dev.AllocTokens(n)
	if err != nil {
		a.err = fmt.Errorf("model: %d tokens: %w", n, err)
	}
	return t
}

// count adds the product of sizes. Config's limits keep it below 2^60.
func (a *allocator) count(sizes []int) int64 {
	n := int64(1)
	for _, s := range sizes {
		n *= int64(s)
	}
	a.bytes += 4 * n
	if n > math.MaxInt && a.err == nil {
		a.err = fmt.Errorf("model: a buffer of %d values is larger than this machine can address", n)
	}
	return n
}

// since returns the bytes taken after mark.
func (a *allocator) since(mark int64) int64 { return a.bytes - mark }
