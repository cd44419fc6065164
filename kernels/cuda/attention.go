//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math"

	"loco/kernels"
)

// Sizes of src/attention.cu and src/attention_float.cu.
const (
	headDimMax     = 256 // of the float kernels; the tensor cores' have up to 128
	floatWarps     = 8
	floatLanes     = 32
	floatSharedMax = 4 * (2*floatLanes*(headDimMax|1) + floatWarps*2*((headDimMax|1)+floatLanes))
)

// An attentionKernel has blocks of four warps for rows of queries or of keys.
type attentionKernel struct {
	name         string
	rows, shared int // of a block, in rows and bytes
}

// headKernels are what attention of heads up to dim values runs.
type headKernels struct {
	dim                    int
	forward, queries, keys attentionKernel
}

// byHeads has the shapes of the end of src/attention.cu: rows of a warp in units of 16, rows of a tile.
var byHeads = []headKernels{
	headKernelsOf(32, [2]int{2, 64}, [2]int{2, 32}, [2]int{2, 32}),
	headKernelsOf(64, [2]int{2, 64}, [2]int{2, 32}, [2]int{2, 32}),
	headKernelsOf(96, [2]int{2, 32}, [2]int{1, 32}, [2]int{1, 32}),
	headKernelsOf(128, [2]int{2, 32}, [2]int{1, 32}, [2]int{1, 16}),
}

func headKernelsOf(dim int, forward, queries, keys [2]int) headKernels {
	// own and tiles are how many tiles of a block's rows, and of the others', lie in shared memory.
	kernel := func(name string, shape [2]int, own, tiles, more int) attentionKernel {
		rows := 64 * shape[0]
		return attentionKernel{fmt.Sprint(name, dim), rows, (own*rows+tiles*shape[1])*dim*2 + more}
	}
	return headKernels{dim, kernel("attention_", forward, 1, 2, 0), kernel("attention_queries_", queries, 2, 4, 0),
		kernel("attention_keys_", keys, 2, 4, 4*keys[1]*4)}
}

// sharedUnasked is the dynamic shared memory that every launch may have.
const sharedUnasked = 48 << 10

// sharedMax are the kernels that use more.
var sharedMax = func() map[string]int {
	most := map[string]int{"attention_float": floatSharedMax, "attention_queries_float": floatSharedMax, "attention_keys_float": floatSharedMax}
	for _, h := range byHeads {
		for _, k := range []attentionKernel{h.forward, h.queries, h.keys} {
			if k.shared > sharedUnasked {
				most[k.name] = k.shared
			}
		}
	}
	return most
}()

// headKernels returns the kernels for a shape, nil for the float ones.
func (d *Device) headKernels(op string, s kernels.AttentionShape) *headKernels {
	if s.HeadDim > headDimMax {
		panic(fmt.Sprintf("kernels: %s: head dimension is %d, this device has kernels up to %d: more heads make it smaller", op, s.HeadDim, headDimMax))
	}
	if d.activations == floats {
		return nil
	}
	for i := range byHeads {
		if s.HeadDim <= byHeads[i].dim {
			return &byHeads[i]
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
	h := d.headKernels(op, s)
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
	d.launch(h.forward.name, s.Batch*blocks(s.Seq, h.forward.rows), s.Heads, 1, 128, h.forward.shared,
		to, statistics, x, seq, heads, groups, dim, scaleOf(s), wideHeads(s, to, x))
}

// AttentionBackward implements kernels.Device.
func (d *Device) AttentionBackward(dqkv, delta, dout, out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	const op = "attention backward"
	kernels.CheckAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
	h := d.headKernels(op, s)
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
	queries := attentionKernel{"attention_queries_float", floatWarps, floatShared(s.HeadDim)}
	keys := attentionKernel{"attention_keys_float", floatWarps, floatShared(s.HeadDim)}
	block, wide := 32*floatWarps, uint64(0)
	if h != nil {
		queries, keys, block, wide = h.queries, h.keys, 128, wideHeads(s, to, do, x)
	}
	run := func(k attentionKernel, heads int) {
		d.launch(k.name, s.Batch*blocks(s.Seq, k.rows), heads, 1, block, k.shared,
			to, do, statistics, own, x, uint64(s.Seq), uint64(s.Heads), uint64(s.KVHeads), uint64(s.HeadDim), scaleOf(s), wide)
	}
	run(queries, s.Heads)
	run(keys, s.KVHeads)
}
