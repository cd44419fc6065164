//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math"

	"loco/kernels"
)

// Sizes of src/attention.cu and src/attention_float.cu.
const (
	attentionRows  = 64
	headDimMax     = 256 // of the float kernels; the tensor cores' have up to 128
	floatWarps     = 8
	floatLanes     = 32
	floatSharedMax = 4 * (2*floatLanes*(headDimMax|1) + floatWarps*2*((headDimMax|1)+floatLanes))
)

// A headKernel is what attention of heads up to dim values runs.
type headKernel struct {
	dim, tile                            int
	forward, queries, keys               string
	sharedForward, sharedQueries, shared int
}

var headKernels = []headKernel{
	attentionOf(32, 64, "attention_32", "attention_queries_32", "attention_keys_32"),
	attentionOf(64, 64, "attention_64", "attention_queries_64", "attention_keys_64"),
	attentionOf(96, 32, "attention_96", "attention_queries_96", "attention_keys_96"),
	attentionOf(128, 32, "attention_128", "attention_queries_128", "attention_keys_128"),
}

func attentionOf(dim, tile int, forward, queries, keys string) headKernel {
	backward := (2*attentionRows + 4*tile) * dim * 2
	return headKernel{dim, tile, forward, queries, keys, 3 * attentionRows * dim * 2, backward, backward + 4*tile*4}
}

// sharedMax are the kernels that use more dynamic shared memory than a launch has unasked.
var sharedMax = map[string]int{
	"attention_keys_64": headKernels[1].shared, "attention_keys_96": headKernels[2].shared,
	"attention_queries_128": headKernels[3].sharedQueries, "attention_keys_128": headKernels[3].shared,
	"attention_float": floatSharedMax, "attention_queries_float": floatSharedMax, "attention_keys_float": floatSharedMax,
}

// headKernel returns the kernel for a shape, nil for the float ones.
func (d *Device) headKernel(op string, s kernels.AttentionShape) *headKernel {
	if s.HeadDim > headDimMax {
		panic(fmt.Sprintf("kernels: %s: head dimension is %d, this device has kernels up to %d: more heads make it smaller", op, s.HeadDim, headDimMax))
	}
	if d.activations == floats {
		return nil
	}
	for i := range headKernels {
		if s.HeadDim <= headKernels[i].dim {
			return &headKernels[i]
		}
	}
	return nil
}

func floatShared(dim int) int {
	pitch := dim | 1
	return 4 * (2*floatLanes*pitch + floatWarps*2*(pitch+floatLanes))
}

func scaleOf(s kernels.AttentionShape) uint64 {
	return bits(float32(1 / math.Sqrt(float64(s.HeadDim))))
}

// wideHeads says that heads begin at multiples of 16 bytes and have multiples of 8 values.
func wideHeads(s kernels.AttentionShape, addresses ...uint64) uint64 {
	return word(vector(s.HeadDim, addresses...) != 0)
}

// Attention implements kernels.Device.
func (d *Device) Attention(out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	const op = "attention"
	kernels.CheckAttention(out, lse, qkv, s)
	h := d.headKernel(op, s)
	n, m, rows := s.Rows()*s.QKVWidth(), s.Rows()*s.OutWidth(), s.Rows()*s.Heads
	seq, heads, groups, dim := uint64(s.Seq), uint64(s.Heads), uint64(s.KVHeads), uint64(s.HeadDim)
	if h == nil {
		x := d.read(op, qkv, n, floats)
		to, statistics := d.write(op, out, m, floats), d.write(op, lse, rows, floats)
		d.launch("attention_float", s.Batch*blocks(s.Seq, floatWarps), s.Heads, 1, 32*floatWarps, floatShared(s.HeadDim),
			to, statistics, x, seq, heads, groups, dim, scaleOf(s))
		return
	}
	x := d.read(op, qkv, n, halves)
	to, statistics := d.write(op, out, m, halves), d.write(op, lse, rows, floats)
	d.launch(h.forward, s.Batch*blocks(s.Seq, attentionRows), s.Heads, 1, 128, h.sharedForward,
		to, statistics, x, seq, heads, groups, dim, scaleOf(s), wideHeads(s, to, x))
}

// AttentionBackward implements kernels.Device.
func (d *Device) AttentionBackward(dqkv, delta, dout, out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	const op = "attention backward"
	kernels.CheckAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
	h := d.headKernel(op, s)
	n, m, rows := s.Rows()*s.QKVWidth(), s.Rows()*s.OutWidth(), s.Rows()*s.Heads
	f := floats
	if h != nil {
		f = halves
	}
	gradient, from := d.either(op, dout, m), d.either(op, out, m)
	own := d.write(op, delta, rows, floats)
	d.launch("attention_delta", blocks(rows, 8), 1, 1, 256, 0, own, gradient.at, from.at, uint64(s.Rows()), uint64(s.Seq), uint64(s.Heads), uint64(s.HeadDim),
		forms(floats, gradient.form, from.form))
	x, do, statistics := d.read(op, qkv, n, f), d.read(op, dout, m, f), d.read(op, lse, rows, floats)
	to := d.write(op, dqkv, n, f)
	queries, keys := "attention_queries_float", "attention_keys_float"
	sharedQueries, sharedKeys, block, size, wide := floatShared(s.HeadDim), floatShared(s.HeadDim), 32*floatWarps, floatWarps, uint64(0)
	if h != nil {
		queries, keys, sharedQueries, sharedKeys, block, size = h.queries, h.keys, h.sharedQueries, h.shared, 128, attentionRows
		wide = wideHeads(s, to, do, x)
	}
	seq, heads, groups, dim := uint64(s.Seq), uint64(s.Heads), uint64(s.KVHeads), uint64(s.HeadDim)
	tiles := s.Batch * blocks(s.Seq, size)
	d.launch(queries, tiles, s.Heads, 1, block, sharedQueries, to, do, statistics, own, x, seq, heads, groups, dim, scaleOf(s), wide)
	d.launch(keys, tiles, s.KVHeads, 1, block, sharedKeys, to, do, statistics, own, x, seq, heads, groups, dim, scaleOf(s), wide)
}
